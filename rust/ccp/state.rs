// SPDX-License-Identifier: GPL-2.0

//! `state` in debugfs: what this driver knows of firmware, in words.
//!
//! Reading it issues no command, and waits for none: the file shows what was told here before. What
//! `snp_host` adds waits while CPUs and RMP are being prepared, not while firmware works.
//!
//! # Locking
//!
//! The lock here is held for moments, and comes after all others. The panic path tells nothing.

use kernel::{
    device::Device,
    fmt,
    prelude::*,
    sync::aref::ARef,
    time::{
        Instant,
        Monotonic, //
    },
};

use crate::{
    error::{
        CmdError,
        Dead, //
    },
    pages,
    sys::{
        contents::Contents,
        cpu,
        debugfs::Shown,
        snp_host, //
    },
    wire::{
        snp::{
            FeatureInfo,
            SnpStatus, //
        },
        ApiVersion,
        CommandInfo,
        Status, //
    },
};

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::Record::init()` initialises it before anything is told.
        pub(super) unsafe(uninit) static KNOWN: Mutex<super::Known> = super::Known::NOTHING;
    }
}
use lock::KNOWN;

/// What the holder of the command lock knows when it gives the lock back.
#[derive(Clone, Copy)]
pub(crate) struct Firmware {
    /// `down`, `up` or `stale`.
    pub(crate) snp: &'static str,
    /// The same.
    pub(crate) sev: &'static str,
    pub(crate) api: ApiVersion,
    pub(crate) features: FeatureInfo,
    /// SNP guests whose contexts firmware has.
    pub(crate) guests: u32,
    pub(crate) dead: Option<Dead>,
}

/// Who has an ASID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guest {
    /// The guest of legacy SEV with this handle.
    Sev(u32),
    /// The SNP guest with its context at this address.
    Snp(u64),
}

/// The ASIDs that the CPU has. KVM refuses a guest for which it has none, and says nothing.
struct Asids {
    last: u32,
    /// For guests of SEV without SEV-ES.
    first_sev: u32,
}

impl fmt::Display for Asids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self { last, first_sev } = self;
        match (last, first_sev) {
            (0, _) => f.write_str("none"),
            (_, 0 | 1) => f.write_fmt(fmt!("1 to {last} for SEV guests")),
            _ if first_sev > last => f.write_fmt(fmt!("1 to {last} for SNP and SEV-ES guests")),
            _ => f.write_fmt(fmt!(
                "1 to {} for SNP and SEV-ES guests, {first_sev} to {last} for SEV guests",
                first_sev.saturating_sub(1)
            )),
        }
    }
}

/// How many commands there were since the module was loaded.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Counts {
    issued: u64,
    refused: u64,
    unanswered: u64,
}

struct Known {
    psp: Option<(ARef<Device>, Firmware)>,
    /// Firmware's last answer to SNP_PLATFORM_STATUS, and when it came.
    status: Option<(SnpStatus, Instant<Monotonic>)>,
    in_flight: Option<(&'static CommandInfo, Instant<Monotonic>)>,
    last_error: Option<(&'static CommandInfo, CmdError, Instant<Monotonic>)>,
    counts: Counts,
    asids: KVec<(u32, Guest)>,
}

impl Known {
    const NOTHING: Self = Self {
        psp: None,
        status: None,
        in_flight: None,
        last_error: None,
        counts: Counts {
            issued: 0,
            refused: 0,
            unanswered: 0,
        },
        asids: KVec::new(),
    };
}

/// What is known, as long as the module is loaded.
pub(crate) struct Record(#[expect(dead_code, reason = "dropped")] Contents<KNOWN>);

impl Record {
    /// Makes this file usable.
    ///
    /// # Safety
    ///
    /// To be called once, before anything else here.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn init() -> Self {
        // SAFETY: By the caller's promise.
        Self(unsafe { Contents::init(&KNOWN, || Known::NOTHING) })
    }
}

/// Firmware of this PSP has that state now, and of the guests with ASIDs those that it `keeps`.
pub(crate) fn firmware(dev: &Device, firmware: Firmware, keeps: impl Fn(Guest) -> bool) {
    let mut known = KNOWN.lock();
    match &mut known.psp {
        Some((_, told)) => *told = firmware,
        None => known.psp = Some((dev.into(), firmware)),
    }
    known.asids.retain(|(_, guest)| keeps(*guest));
}

/// There is no PSP any more.
pub(crate) fn detached() {
    let mut known = KNOWN.lock();
    known.psp = None;
    known.status = None;
    known.asids.clear();
}

/// Firmware has answered SNP_PLATFORM_STATUS.
pub(crate) fn status(status: SnpStatus) {
    KNOWN.lock().status = Some((status, Instant::now()));
}

/// A command is being issued.
pub(crate) fn issued(command: &'static CommandInfo) {
    let mut known = KNOWN.lock();
    known.in_flight = Some((command, Instant::now()));
    known.counts.issued = known.counts.issued.wrapping_add(1);
}

/// The command that was issued last has ended so.
pub(crate) fn ended(command: &'static CommandInfo, answer: Result<Status, CmdError>) {
    let err = match answer {
        Ok(status) if status.is_success() => None,
        Ok(status) => Some(CmdError::Firmware(status)),
        Err(err) => Some(err),
    };
    let mut known = KNOWN.lock();
    known.in_flight = None;
    let Some(err) = err else { return };
    known.last_error = Some((command, err, Instant::now()));
    let count = match err {
        CmdError::Firmware(_) => &mut known.counts.refused,
        _ => &mut known.counts.unanswered,
    };
    *count = count.wrapping_add(1);
}

/// A guest has this ASID now. Without memory for the note it is left out.
pub(crate) fn bound(asid: u32, guest: Guest) {
    let mut known = KNOWN.lock();
    known.asids.retain(|(_, other)| *other != guest);
    let _ = known.asids.push((asid, guest), GFP_KERNEL);
}

/// This guest has no ASID any more.
pub(crate) fn unbound(gone: Guest) {
    KNOWN.lock().asids.retain(|(_, guest)| *guest != gone);
}

/// The ASID of this guest.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn asid_of(guest: Guest) -> Option<u32> {
    let known = KNOWN.lock();
    let found = known.asids.iter().find(|(_, other)| *other == guest);
    found.map(|(asid, _)| *asid)
}

/// `state` in debugfs.
pub(crate) struct File;

impl Shown for File {
    fn show(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KNOWN.lock().show(f)?;
        line(f, fmt!("lost pages: {}", pages::leaked()))?;
        snp_host::describe(|text| match text {
            Ok(text) => line(f, fmt!("{text}")),
            Err(err) => line(f, fmt!("CPU hotplug, RMP: not known ({err:?})")),
        })
    }
}

/// Writes a line.
fn line(f: &mut fmt::Formatter<'_>, words: fmt::Arguments<'_>) -> fmt::Result {
    f.write_fmt(words)?;
    f.write_str("\n")
}

/// Seconds since then.
fn ago(then: Instant<Monotonic>) -> i64 {
    then.elapsed().as_millis() / 1000
}

impl Known {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.psp {
            Some((dev, firmware)) => {
                line(f, fmt!("PSP: {}", dev.name()))?;
                self.show_firmware(firmware, f)?;
            }
            None => line(f, fmt!("PSP: none"))?,
        }
        self.show_mailbox(f)?;
        let Counts {
            issued,
            refused,
            unanswered,
        } = self.counts;
        line(
            f,
            fmt!("commands: {issued} issued, {refused} refused, {unanswered} not answered"),
        )?;
        match self.last_error {
            Some((command, err, when)) => line(
                f,
                fmt!(
                    "last error: {}: {}, {} s ago",
                    command.name,
                    err.of(command.id),
                    ago(when)
                ),
            ),
            None => line(f, fmt!("last error: none")),
        }
    }

    fn show_mailbox(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dead = self.psp.as_ref().and_then(|(_, firmware)| firmware.dead);
        match (self.in_flight, dead) {
            (Some((command, since)), _) => {
                line(f, fmt!("mailbox: {}, for {} s", command.name, ago(since)))
            }
            (None, Some(why)) => line(f, fmt!("mailbox: dead, {why}")),
            (None, None) => line(f, fmt!("mailbox: idle")),
        }
    }

    fn show_firmware(&self, firmware: &Firmware, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, fmt!("SNP: {}", firmware.snp))?;
        line(f, fmt!("SEV: {}", firmware.sev))?;
        line(f, fmt!("firmware: {}", firmware.api))?;
        match &self.status {
            Some((status, when)) => line(f, fmt!(
                "TCB: current {:#018x}, reported {:#018x}, {} s ago; firmware tells the committed one to guests alone",
                { status.current_tcb },
                { status.reported_tcb },
                ago(*when)
            ))?,
            None => line(f, fmt!("TCB: not asked for"))?,
        }
        let FeatureInfo { ebx, ecx, .. } = firmware.features;
        line(f, fmt!("features: EBX {ebx:#x}, ECX {ecx:#x}"))?;
        line(f, fmt!("SNP guests: {}", firmware.guests))?;
        self.show_asids("SNP", |guest| matches!(guest, Guest::Snp(_)), f)?;
        self.show_asids("SEV", |guest| matches!(guest, Guest::Sev(_)), f)?;
        let (last, first_sev) = cpu::sev_asids();
        line(f, fmt!("ASIDs there are: {}", Asids { last, first_sev }))
    }

    fn show_asids(
        &self,
        kind: &str,
        of_kind: fn(Guest) -> bool,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.write_fmt(fmt!("ASIDs of {kind} guests:"))?;
        for (asid, _) in self.asids.iter().filter(|(_, guest)| of_kind(*guest)) {
            f.write_fmt(fmt!(" {asid}"))?;
        }
        f.write_str("\n")
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
