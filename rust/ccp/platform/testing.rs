// SPDX-License-Identifier: GPL-2.0

//! Firmware for the tests of the platform: it follows a script, and may refuse each command.

#![allow(unsafe_code, reason = "the licence of a C caller")]

use crate::{
    mailbox::Wait,
    nv,
    pages::Address,
    sys::{
        bindings::snp_host_keep,
        caller_memory::CallerMemory,
        direct_map,
        mem_encrypt,
        pages::Gfp, //
    },
    testing::script::silence,
    wire::{
        sev::{
            Init,
            InitEx,
            PlatformStatus, //
        },
        snp::{
            Feature,
            FeatureInfo,
            SnpInitEx,
            SnpShutdownEx,
            SnpStatus,
            SHUTDOWN_X86_SNP, //
        },
        Relayed, //
    }, //
};
use core::{
    cell::{
        Cell,
        RefCell, //
    },
    ops::Range, //
};
use kernel::faux;

// What the tests need beside it.
pub(super) use super::{
    leave::Leaving,
    *, //
};
pub(super) use crate::{
    pages::leaked,
    sys::said,
    testing::{
        check,
        device,
        script::{
            Call,
            Event::{
                self,
                *, //
            },
            FakeHost,
            Scripted,
            CLOSE_SNP_OFF,
            CPUS, //
        }, //
    },
    wire::{
        CommandId,
        Status, //
    }, //
};
pub(super) use core::sync::atomic::Ordering::Relaxed;

pub(super) const SNP_INIT: Event = Command(CommandId::SNP_INIT_EX);
pub(super) const SNP_DF_FLUSH: Event = Command(CommandId::SNP_DF_FLUSH);
pub(super) const SNP_SHUTDOWN: Event = Command(CommandId::SNP_SHUTDOWN_EX);
pub(super) const INIT: Event = Command(CommandId::INIT);
pub(super) const DF_FLUSH: Event = Command(CommandId::DF_FLUSH);
pub(super) const INIT_EX: Event = Command(CommandId::INIT_EX);
pub(super) const SHUTDOWN: Event = Command(CommandId::SHUTDOWN);
pub(super) const PEK_GEN: Event = Command(CommandId::PEK_GEN);
pub(super) const SNP_STATUS: Event = Command(CommandId::SNP_PLATFORM_STATUS);
pub(super) const FEATURE_INFO: Event = Command(CommandId::SNP_FEATURE_INFO);
pub(super) const STATUS: Event = Command(CommandId::PLATFORM_STATUS);
pub(super) const GCTX_CREATE: Event = Command(CommandId::SNP_GCTX_CREATE);
pub(super) const DECOMMISSION: Event = Command(CommandId::SNP_DECOMMISSION);

pub(super) const KEEP_LEGACY: Event = Keep(snp_host_keep::SNP_HOST_KEEP_LEGACY_SHUTDOWN.0);
pub(super) const KEEP_REFUSED: Event = Keep(snp_host_keep::SNP_HOST_KEEP_SHUTDOWN_FAILED.0);
pub(super) const KEEP_TIMEOUT: Event = Keep(snp_host_keep::SNP_HOST_KEEP_TIMEOUT.0);
pub(super) const KEEP_DEAD: Event = Keep(snp_host_keep::SNP_HOST_KEEP_MAILBOX_DEAD.0);
pub(super) const KEEP_HWERROR: Event = Keep(snp_host_keep::SNP_HOST_KEEP_HARDWARE_ERROR.0);
pub(super) const KEEP_RMP_INIT: Event = Keep(snp_host_keep::SNP_HOST_KEEP_RMP_INIT_FAILED.0);
pub(super) const KEEP_RESET: Event = Keep(snp_host_keep::SNP_HOST_KEEP_FIRMWARE_RESET.0);
pub(super) const KEEP_UNDECIDED: Event = Keep(snp_host_keep::SNP_HOST_KEEP_UNDECIDED.0);

/// All that a start does when nobody refuses.
pub(super) const SNP_START: [Event; 4] = [Open, Prepare, SNP_INIT, SNP_DF_FLUSH];
pub(super) const START: [Event; 6] = [Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, DF_FLUSH];

/// The same when the last step fails: SEV is taken back, SNP stays.
pub(super) const START_WITHOUT_SEV: [Event; 8] = [
    Open,
    Prepare,
    SNP_INIT,
    SNP_DF_FLUSH,
    INIT,
    DF_FLUSH,
    SHUTDOWN,
    SNP_DF_FLUSH,
];

/// All that a stop does with firmware that keeps SNP_EN.
pub(super) const STOP: [Event; 3] = [SHUTDOWN, SNP_SHUTDOWN, KEEP_LEGACY];

/// What firmware does instead of succeeding.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    Refuses(Status),
    Silent,
}

pub(super) use Fault::*;

/// What takes a WBINVD on all CPUs before it, and what makes a new one necessary.
pub(super) const NEED_WBINVD: [CommandId; 5] = [
    CommandId::SNP_INIT,
    CommandId::SNP_INIT_EX,
    CommandId::SNP_DF_FLUSH,
    CommandId::DF_FLUSH,
    CommandId::SNP_SHUTDOWN_EX,
];

pub(super) const OWE_WBINVD: [CommandId; 6] = [
    CommandId::SNP_INIT,
    CommandId::SNP_INIT_EX,
    CommandId::INIT,
    CommandId::INIT_EX,
    CommandId::SHUTDOWN,
    CommandId::SNP_DECOMMISSION,
];

/// The commands that firmware does not carry out, each the number of times that stands with it.
pub(super) struct Plan {
    pub(super) faults: [Cell<Option<(CommandId, Fault, usize)>>; 2],
    /// SNP_SHUTDOWN_EX with X86_SNP clears SNP_EN.
    pub(super) clears_snp_en: Cell<bool>,
    pub(super) reclaims: Cell<usize>,
    /// The state of SNP firmware, and of legacy SEV, as it says it itself.
    pub(super) snp_init: Cell<bool>,
    pub(super) sev: Cell<u8>,
    /// The last command was SHUTDOWN.
    pub(super) stopped_sev: Cell<bool>,
    /// The TMR, or 0.
    pub(super) tmr: Cell<u64>,
    /// The current TCB, as it says itself.
    pub(super) tcb: Cell<u64>,
    /// Those that it says it has.
    pub(super) guests: Cell<u32>,
    /// Those that have an ASID, and whether the ASID of one has to be flushed.
    pub(super) active: Cell<u32>,
    pub(super) dirty: Cell<bool>,
    /// Of the last SNP_INIT_EX: flags, and how the ASIDs are split.
    pub(super) asked_for: Cell<(u32, u16)>,
    /// The NV area, and what firmware found in it.
    pub(super) nv: Cell<u64>,
    pub(super) nv_found: Cell<Option<u8>>,
    /// Counts the pages that the panic path would reclaim; the fewest while one was reclaimed.
    pub(super) on_record: RefCell<Option<KBox<dyn Fn() -> usize>>>,
    pub(super) least_on_record: Cell<usize>,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self {
            faults: [const { Cell::new(None) }; 2],
            clears_snp_en: Cell::new(true),
            reclaims: Cell::new(0),
            snp_init: Cell::new(false),
            sev: Cell::new(0),
            stopped_sev: Cell::new(false),
            tmr: Cell::new(0),
            tcb: Cell::new(0),
            guests: Cell::new(0),
            active: Cell::new(0),
            dirty: Cell::new(false),
            asked_for: Cell::new((0, 0)),
            nv: Cell::new(0),
            nv_found: Cell::new(None),
            on_record: RefCell::new(None),
            least_on_record: Cell::new(usize::MAX),
        }
    }

    pub(super) fn tmr_pages(&self) -> Range<u64> {
        self.tmr.get()..self.tmr.get() + (2 << 20)
    }

    /// Whether legacy SEV is using this page.
    pub(super) fn is_in_use(&self, page: u64) -> bool {
        let nv = self.nv.get()..self.nv.get() + nv::LEN as u64;
        self.sev.get() != 0 && (self.tmr_pages().contains(&page) || nv.contains(&page))
    }

    pub(super) fn set(&self, faults: &[(CommandId, Fault, usize)]) {
        for (n, slot) in self.faults.iter().enumerate() {
            slot.set(faults.get(n).copied());
        }
    }

    pub(super) fn once(&self, id: CommandId, fault: Fault) {
        self.set(&[(id, fault, 1)]);
    }

    pub(super) fn execute(&self, host: &FakeHost, call: &Call) -> Result<Status, CmdError> {
        if call.is(CommandId::SNP_PAGE_RECLAIM) {
            self.reclaims.set(self.reclaims.get() + 1);
            if let Some(on_record) = &*self.on_record.borrow() {
                let least = self.least_on_record.get().min(on_record());
                self.least_on_record.set(least);
            }
            let page = call.field(0).map_err(CmdError::Transport)?;
            // A panic does not ask whether SEV has stopped.
            if call.wait == Wait::Interrupt && self.is_in_use(page) {
                return Ok(Status::INVALID_PAGE_STATE);
            }
            // The TMR has lines in the caches until WBINVD.
            let cached = self.stopped_sev.get() && host.cached.load(Relaxed);
            let too_early = cached && self.tmr_pages().contains(&page);
            return Ok(match too_early {
                true => Status::INVALID_PAGE_STATE,
                false => Status::SUCCESS,
            });
        }
        host.note(Command(call.command.id));
        for slot in &self.faults {
            let Some((id, fault, times)) = slot.get() else {
                continue;
            };
            if !call.is(id) || times == 0 {
                continue;
            }
            slot.set(Some((id, fault, times - 1)));
            return match fault {
                Refuses(status) => Ok(status),
                Silent => {
                    // Nobody knows what it writes by then, and when.
                    if self.nv.get() != 0 {
                        call.memory()
                            .with(self.nv.get(), 1, |bytes| bytes[0] ^= 0x55);
                    }
                    silence(call.command)
                }
            };
        }
        if NEED_WBINVD.contains(&call.command.id) && host.cached.load(Relaxed) {
            return Ok(Status::WBINVD_REQUIRED);
        }
        let answer = self.carry_out(host, call).map_err(CmdError::Transport);
        if OWE_WBINVD.contains(&call.command.id) {
            host.cached.store(true, Relaxed);
        }
        self.stopped_sev.set(call.is(CommandId::SHUTDOWN));
        answer
    }

    /// INIT. Firmware writes to the TMR past the caches; under SNP they hold no line of it.
    fn sev_starts(&self, host: &FakeHost, tmr: Address) -> Result {
        let flushed = host.flushed.load(Relaxed);
        let (wanted, snp) = (tmr.raw(), self.snp_init.get());
        check!(
            snp || wanted == 0 || flushed == wanted,
            "{wanted:#x} {flushed:#x}"
        );
        self.sev.set(1);
        self.tmr.set(wanted);
        Ok(())
    }

    fn carry_out(&self, host: &FakeHost, call: &Call) -> Result<Status> {
        match call.command.id {
            CommandId::SNP_INIT | CommandId::SNP_INIT_EX => {
                self.snp_init.set(true);
                if call.is(CommandId::SNP_INIT_EX) {
                    let request: SnpInitEx = call.field(0)?;
                    self.asked_for.set((request.flags, request.max_snp_asid));
                }
            }
            // Other tests issue them without a context.
            CommandId::SNP_GCTX_CREATE if call.field::<u64>(0)? != 0 => {
                self.active.set(self.active.get() + 1);
            }
            CommandId::SNP_DECOMMISSION if call.field::<u64>(0)? != 0 => {
                self.active.set(self.active.get().saturating_sub(1));
                self.dirty.set(true);
            }
            CommandId::SNP_DF_FLUSH => self.dirty.set(false),
            CommandId::SNP_SHUTDOWN_EX => {
                if self.active.get() != 0 || self.dirty.get() {
                    return Ok(Status::DFFLUSH_REQUIRED);
                }
                self.snp_init.set(false);
                let request: SnpShutdownEx = call.field(0)?;
                if self.clears_snp_en.get() && request.flags & SHUTDOWN_X86_SNP != 0 {
                    host.snp_en.store(0, Relaxed);
                }
            }
            CommandId::INIT => {
                let request: Init = call.field(0)?;
                self.sev_starts(host, request.tmr_address)?;
            }
            CommandId::INIT_EX => {
                let request: InitEx = call.field(0)?;
                let nv = request.nv_address.raw();
                if request.nv_len as usize != nv::LEN {
                    return Ok(Status::INVALID_PARAM);
                }
                self.sev_starts(host, request.tmr_address)?;
                self.nv.set(nv);
                call.memory().with(nv, nv::LEN, |bytes| {
                    let same = bytes.iter().all(|byte| *byte == bytes[0]);
                    self.nv_found.set(same.then_some(bytes[0]));
                    if bytes[0] == 0xff {
                        bytes.fill(1);
                    }
                });
            }
            CommandId::PEK_GEN if self.nv.get() != 0 => {
                call.memory().with(self.nv.get(), nv::LEN, |bytes| {
                    bytes.iter_mut().for_each(|byte| *byte += 1);
                });
            }
            CommandId::SHUTDOWN => {
                self.sev.set(0);
                self.nv.set(0);
            }
            CommandId::PDH_CERT_EXPORT => {
                // One byte less than there is room for.
                for (address, len, byte) in [(0, 8, 0x11), (16, 24, 0x22)] {
                    let wrote = call.field::<u32>(len)?.saturating_sub(1);
                    call.memory()
                        .with(call.field(address)?, wrote as usize, |to| to.fill(byte));
                    call.set_field(len, wrote);
                }
            }
            CommandId::PLATFORM_STATUS => call.set_field(
                0,
                PlatformStatus {
                    api_major: 1,
                    api_minor: 55,
                    state: self.sev.get(),
                    ..PlatformStatus::default()
                },
            ),
            CommandId::SNP_PLATFORM_STATUS => {
                let page: u64 = call.field(0)?;
                if self.snp_init.get() && !host.is_assigned(page) {
                    return Ok(Status::INVALID_PAGE_STATE);
                }
                let status = SnpStatus {
                    state: self.snp_init.get().into(),
                    flags: SnpStatus::FLAG_FEATURE_INFO,
                    guest_count: self.guests.get(),
                    current_tcb: self.tcb.get(),
                    ..SnpStatus::default()
                };
                call.memory().with(page, size_of::<SnpStatus>(), |bytes| {
                    bytes.copy_from_slice(status.as_bytes());
                });
            }
            CommandId::SNP_FEATURE_INFO => {
                let features = FeatureInfo {
                    ecx: Feature::X86Shutdown as u32,
                    ..FeatureInfo::default()
                };
                let page = call.field(8)?;
                call.memory().with(page, size_of::<FeatureInfo>(), |bytes| {
                    bytes.copy_from_slice(features.as_bytes());
                });
            }
            _ => {}
        }
        Ok(Status::SUCCESS)
    }
}

/// A platform that has been identified: API 1.55; `x86`: firmware can clear SNP_EN.
pub(super) fn platform<'a>(
    host: &'static FakeHost,
    plan: &'a Plan,
    x86: bool,
) -> Result<(faux::Registration, Platform<impl Transport + 'a>)> {
    let (faux, dev) = device()?;
    let transport = Scripted::new(move |call: &Call| plan.execute(host, call));
    let mut platform = Platform::unidentified(Channel::new(dev, transport, host)?);
    platform.api = ApiVersion {
        major: 1,
        minor: 55,
        build: 1,
    };
    platform.features.ecx = if x86 { Feature::X86Shutdown as u32 } else { 0 };
    platform.channel.record().set_x86_snp_shutdown(x86);
    Ok((faux, platform))
}

pub(super) fn errno(result: Result<(), Failure>) -> Option<Error> {
    result.err().map(|failure| failure.errno)
}

/// A platform whose firmware this driver has not asked anything yet.
pub(super) fn unidentified<'a>(
    host: &'static FakeHost,
    plan: &'a Plan,
) -> Result<(faux::Registration, Platform<impl Transport + 'a>)> {
    let (faux, dev) = device()?;
    let transport = Scripted::new(move |call: &Call| plan.execute(host, call));
    let platform = Platform::unidentified(Channel::new(dev, transport, host)?);
    Ok((faux, platform))
}

/// A command of kvm-amd's.
pub(super) fn relay(p: &mut Platform<impl Transport>, id: CommandId) -> Result<(), Failure> {
    let command = Relayed::new(id.row()).ok_or(EPERM)?;
    let mut data = [0; 68];
    let data = data.get_mut(..command.info().len.into()).ok_or(EINVAL)?;
    if matches!(id, CommandId::DF_FLUSH | CommandId::SNP_DF_FLUSH) {
        // As KVM does.
        p.channel.host().wbinvd_on_all();
    }
    // SAFETY: There are no addresses in the buffer.
    p.relay(command, data, &unsafe { CallerMemory::trust() })
}

/// A page for the context of a guest, which firmware makes of it.
pub(super) fn guest(p: &mut Platform<impl Transport>) -> Result<(usize, u64)> {
    let page = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
    let context = page_address(page as *mut c_void);
    relay_context(p, CommandId::SNP_GCTX_CREATE, context)?;
    Ok((page, context))
}

/// The address of a page as it stands in command buffers.
pub(super) fn page_address(page: *mut c_void) -> u64 {
    direct_map::phys(page.cast()) | mem_encrypt::sme_mask()
}

pub(super) fn relay_context(
    p: &mut Platform<impl Transport>,
    id: CommandId,
    context: u64,
) -> Result {
    let command = Relayed::new(id.row()).ok_or(EPERM)?;
    let mut data = context.to_le_bytes();
    // SAFETY: Firmware is a script, which looks at no context.
    let memory = unsafe { CallerMemory::trust() };
    p.relay(command, &mut data, &memory)
        .map_err(|failure| failure.errno)
}

/// Firmware forgets everything.
pub(super) fn reset(plan: &Plan) {
    plan.snp_init.set(false);
    plan.sev.set(0);
    plan.active.set(0);
    plan.dirty.set(false);
}
