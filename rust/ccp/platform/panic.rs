// SPDX-License-Identifier: GPL-2.0

//! The last shutdown: so that a kdump kernel can use all memory.

use kernel::prelude::*;

use super::{
    slot,
    Platform,
    Sev,
    Snp, //
};
use crate::{
    cmd::{
        sev::Shutdown,
        snp::{
            SnpDfFlush,
            SnpShutdownEx, //
        },
    },
    mailbox::Wait,
    sys::{
        cpu,
        crash::{
            OnPanic,
            PanicNotifier, //
        },
    },
    wire::Status,
};

struct LastShutdown;

impl OnPanic for LastShutdown {
    fn on_panic() {
        slot::seize(Platform::panic_shutdown);
    }
}

/// The panic notifier, as long as there is a master.
pub(super) struct Notifier(
    #[allow(dead_code, reason = "held for its Drop")] Pin<KBox<PanicNotifier>>,
);

impl Notifier {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn register() -> Result<Self> {
        let notifier = KBox::pin_init(PanicNotifier::register::<LastShutdown>(), GFP_KERNEL)?;
        Ok(Self(notifier))
    }
}

impl Platform {
    /// Stops firmware with interrupts off and all other CPUs stopped. Nothing is allocated, freed or
    /// waited for, and no state is kept up to date: nobody will look at it any more.
    fn panic_shutdown(&mut self) {
        let Snp::Up(_) = self.snp else { return };
        if self.sev != Sev::Uninit {
            let _ = self.channel.issue_waiting::<Shutdown>(&mut (), Wait::Poll);
        }
        // The other CPUs have done theirs in the NMI that stopped them (kdump_sev_callback()).
        cpu::wbinvd_local();
        let result = self.panic_snp_shutdown();
        if matches!(result, Err(err) if err.is(Status::DFFLUSH_REQUIRED)) {
            let _ = self
                .channel
                .issue_waiting::<SnpDfFlush>(&mut (), Wait::Poll);
            let _ = self.panic_snp_shutdown();
        }
    }

    fn panic_snp_shutdown(&mut self) -> Result<(), crate::cmd::CmdError> {
        let mut request = Self::snp_shutdown_request(self.can_end_snp());
        self.channel
            .issue_waiting::<SnpShutdownEx>(&mut request, Wait::Poll)
    }
}
