// SPDX-License-Identifier: GPL-2.0

//! The platform: one PSP, the master, with the state of its firmware.
//!
//! ```text
//!                 start_snp()                        start_sev()
//!   SNP: Down ────────────────► Up        SEV: Uninit ───────────► Init
//!          ▲    stop_snp()      │                ▲    stop_sev()    │
//!          ├────────────────────┘                ├──────────────────┘
//!          └────── Stale                         └────── Stale
//! ```
//!
//! Stale firmware is initialised but not usable: an earlier kernel or load of this driver left it
//! so, or a start ended half-way and could not be undone. [`Platform::init`] stops stale firmware
//! before anything else.
//!
//! A reset of the PSP leads to Down and Uninit from any state (`platform/reset.rs`).
//!
//! SNP comes before SEV: [`Platform::start_sev`] needs SNP up, or the proof that no CPU has SNP_EN
//! set (firmware refuses legacy INIT otherwise). Going down, SEV comes first.
//!
//! # Lock order
//!
//! The command lock in `platform/slot.rs`, then `cpu_hotplug_disable()`, then `cpus_read_lock()`.
//! The command lock is never held across access to user memory or files. The panic path does not
//! take it.

use kernel::{
    device::Device,
    prelude::*,
    rbtree::RBTree,
    sync::aref::ARef, //
};

use crate::{
    cmd::{
        Channel,
        CmdError,
        Snp, //
    },
    mailbox::{
        Environment,
        Mailbox,
        Transport,
        Wait, //
    },
    nv::Nv,
    pages::FwPages,
    regs::BAR_SIZE,
    state,
    sys::{
        iomem,
        params,
        pci_bar,
        snp_host,
        trace, //
    },
    wire::{
        command,
        snp::{
            FeatureInfo,
            SnpStatus, //
        },
        status::NO_FW_CALL,
        ApiVersion,
        CommandId, //
    },
};

mod firmware_pages;
mod hot_load;
mod identify;
mod init;
mod launch;
pub(crate) mod leave;
mod panic;
mod ranges;
pub(crate) mod requests;
mod reset;
mod sev;
pub(crate) mod slot;
mod snp;
#[cfg(CONFIG_KUNIT = "y")]
mod testing;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// The registers of the master. Their lifetime is not that of the device: `driver.rs` detaches the
/// device before its registers go away.
pub(crate) type MasterIo = pci_bar::Unbounded<BAR_SIZE>;

/// The way to the firmware of the master.
type MasterMailbox = Mailbox<MasterIo, PspEnvironment>;

/// Why a request failed, as an errno and firmware's status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// What the in-tree driver returns in this case.
    pub(crate) errno: Error,
    /// The firmware's status, if there is one: the `error` field of the ioctl.
    pub(crate) fw_error: Option<i32>,
}

impl From<CmdError> for Failure {
    fn from(err: CmdError) -> Self {
        Self {
            errno: err.errno(),
            fw_error: err.psp_ret(),
        }
    }
}

impl Failure {
    /// The failure of a start of legacy SEV: firmware's status, or "no firmware call".
    fn of_start(err: CmdError) -> Self {
        Self {
            errno: err.errno(),
            fw_error: Some(err.psp_ret().unwrap_or(NO_FW_CALL)),
        }
    }

    /// An error of the driver after firmware's success.
    pub(crate) fn after_success(errno: Error) -> Self {
        Self {
            errno,
            fw_error: Some(0),
        }
    }
}

impl From<Error> for Failure {
    fn from(errno: Error) -> Self {
        Self {
            errno,
            fw_error: None,
        }
    }
}

/// The environment of one PSP's mailbox: timeouts by the module parameters, and the record in
/// `snp_host`.
pub(crate) struct PspEnvironment {
    /// The PSP's PCI address.
    psp: u64,
}

/// A module parameter as a timeout. 0 or a negative number would declare a healthy PSP dead, a huge
/// number would never end.
fn bounded_ms(param_secs: i32) -> u32 {
    param_secs
        .clamp(1, 3600)
        .unsigned_abs()
        .saturating_mul(1000)
}

/// The timeout of SNP_INIT where other commands have `command_ms` and RAM ends at `end_of_ram`.
///
/// Firmware writes the RMP, 16 bytes for each 4 KiB page: in public logs that took up to 18.5 ms
/// for each GiB of RAM. The timeout is twice that, and twice the one of other commands on top: a
/// timeout that is too short costs a restart of the machine, one that is too long a minute and some
/// notices.
fn snp_init_ms(command_ms: u32, end_of_ram: u64) -> u32 {
    /// In 1/10 ms.
    const PER_GIB: u64 = 2 * 185;
    let gib = end_of_ram.div_ceil(1 << 30);
    let ms = gib.saturating_mul(PER_GIB).div_ceil(10);
    let ms = ms.saturating_add(u64::from(command_ms).saturating_mul(2));
    u32::try_from(ms).unwrap_or(u32::MAX)
}

impl Environment for PspEnvironment {
    fn first_timeout_ms(&self) -> u32 {
        bounded_ms(params::psp_probe_timeout())
    }

    fn snp_init_timeout_ms(&self) -> u32 {
        // There is RAM, so this cannot fail.
        snp_init_ms(self.command_timeout_ms(), iomem::end_of_ram().unwrap_or(0))
    }

    fn command_timeout_ms(&self) -> u32 {
        bounded_ms(params::psp_cmd_timeout())
    }

    fn unanswered(&self) -> Option<u32> {
        snp_host::psp_owed(self.psp)
    }

    fn record_unanswered(&self, command: CommandId) {
        snp_host::psp_owes(self.psp, command.raw().into());
    }

    fn record_answered(&self) {
        snp_host::psp_answered(self.psp);
    }
}

/// State of legacy SEV firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sev {
    /// UNINIT.
    Uninit,
    /// INIT or WORKING, by a start of ours.
    Init,
    /// INIT or WORKING, but not usable.
    Stale,
}

/// The states of SNP and legacy SEV, in the words of the diagram at the top of this file.
#[derive(PartialEq, Eq)]
struct State {
    snp: &'static str,
    sev: &'static str,
}

impl State {
    /// `ccp_state` in the trace, if there was another one before.
    fn trace_change(&self, before: &Self) {
        if self != before {
            trace::state(self.snp, self.sev);
        }
    }
}

/// One PSP and the state of its firmware.
pub(crate) struct Platform<T = MasterMailbox> {
    channel: Channel<T>,
    api: ApiVersion,
    /// As of the last time that firmware was identified.
    snp_status: SnpStatus,
    /// The same; all zero if firmware has no SNP_FEATURE_INFO.
    features: FeatureInfo,
    sev: Sev,
    /// kvm-amd has asked for legacy SEV, which is started with the first command that needs it.
    sev_on_demand: bool,
    /// The trusted memory region, from the first INIT until the next shutdown.
    tmr: Option<FwPages>,
    /// Firmware's persistent state.
    nv: Nv,
    /// Firmware has refused SNP_INIT, so SNP_EN is set for nothing.
    snp_refused: bool,
    /// Firmware was replaced, and guests may be left that it has not been asked about since.
    replaced_under_guests: bool,
    /// Pages that `snp_alloc_firmware_page()` gave to callers, by virtual address.
    firmware_pages: RBTree<usize, FwPages>,
}

impl Platform {
    /// Takes over a PSP: identifies its firmware, and updates it if there is a newer image.
    ///
    /// # Errors
    ///
    /// If firmware does not answer or cannot be identified. The log has the reason.
    fn new(dev: ARef<Device>, mut mailbox: MasterMailbox) -> Result<Self> {
        // First of all: pages that are lent to a dead mailbox do not come back.
        let idle = mailbox.wait_idle(command::PLATFORM_STATUS.info(), Wait::Interrupt);
        idle.map_err(CmdError::Died)?;
        let mut platform = Self::unidentified(Channel::new(dev, mailbox, &snp_host::KERNEL)?);
        platform.identify()?;
        platform.update_firmware();
        Ok(platform)
    }
}

impl<T: Transport> Platform<T> {
    /// A platform whose firmware has not been identified yet.
    fn unidentified(channel: Channel<T>) -> Self {
        Self {
            channel,
            api: ApiVersion::default(),
            snp_status: SnpStatus::default(),
            features: FeatureInfo::default(),
            sev: Sev::Uninit,
            sev_on_demand: false,
            tmr: None,
            nv: Nv::new(params::init_ex_path().is_some()),
            snp_refused: false,
            replaced_under_guests: false,
            firmware_pages: RBTree::new(),
        }
    }

    /// The states of firmware.
    fn state(&self) -> State {
        State {
            snp: match self.channel.snp() {
                Snp::Down => "down",
                Snp::Stale { .. } => "stale",
                Snp::Up(_) => "up",
            },
            sev: match self.sev {
                Sev::Uninit => "down",
                Sev::Stale => "stale",
                Sev::Init => "up",
            },
        }
    }

    /// Shows the state of firmware in debugfs.
    fn show(&self) {
        let State { snp, sev } = self.state();
        let firmware = state::Firmware {
            snp,
            sev,
            api: self.api,
            features: self.features,
            guests: self.guests(),
            dead: self.channel.dead(),
        };
        // It forgets its guests with its state.
        let keeps = |guest| match guest {
            state::Guest::Snp(_) => self.channel.snp_init(),
            state::Guest::Sev(_) => self.sev != Sev::Uninit,
        };
        state::firmware(self.dev(), firmware, keeps);
    }

    fn dev(&self) -> &Device {
        self.channel.dev()
    }

    /// Whether SNP or SEV is up, or was when the mailbox died.
    fn is_in_use(&self) -> bool {
        self.channel.snp_init() || self.sev != Sev::Uninit
    }
}
