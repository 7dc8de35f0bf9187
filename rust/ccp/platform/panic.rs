// SPDX-License-Identifier: GPL-2.0

//! The last shutdown: so that a kdump kernel can use all memory.

use kernel::prelude::*;

use super::{
    slot,
    Platform,
    Sev, //
};
use crate::{
    cmd::CmdError,
    sys::{
        cc, cpu,
        notifier::{
            self,
            Chain,
            Notify, //
        },
    },
    wire::{
        command,
        Status, //
    },
};

struct LastShutdown;

impl Notify for LastShutdown {
    const CHAIN: Chain = Chain::Panic;

    fn notify(_action: c_ulong) -> Result {
        if !slot::seize(Platform::panic_shutdown) && cc::is_snp_host() {
            pr_err!("SNP is not shut down for the panic: a command is in flight, firmware takes no second; a kdump kernel may fault on pages of guests and firmware\n");
        }
        Ok(())
    }
}

/// The panic notifier, as long as there is a master.
pub(super) struct Notifier(
    #[allow(dead_code, reason = "held for its Drop")] Pin<KBox<notifier::Notifier<LastShutdown>>>,
);

impl Notifier {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn register() -> Result<Self> {
        let notifier = KBox::pin_init(notifier::Notifier::register(), GFP_KERNEL)?;
        Ok(Self(notifier))
    }
}

impl Platform {
    /// Stops firmware with interrupts off and all other CPUs stopped, or says why not. Nothing is
    /// allocated, freed or waited for, and no state is kept up to date: nobody will look at it any more.
    fn panic_shutdown(&mut self) {
        if self.snp.proof().is_none() {
            return;
        }
        if self.sev != Sev::Uninit {
            // SNP_SHUTDOWN_EX says it all.
            let _ = self.channel.issue_polling(command::SHUTDOWN, &mut ());
        }
        // The other CPUs have done theirs in the NMI that stopped them (kdump_sev_callback()).
        cpu::wbinvd_local();
        let mut result = self.panic_snp_shutdown();
        if matches!(result, Err(err) if err.is(Status::DFFLUSH_REQUIRED)) {
            result = self
                .channel
                .issue_polling(command::SNP_DF_FLUSH, &mut ())
                .and_then(|()| self.panic_snp_shutdown());
        }
        match result {
            Ok(()) => dev_info!(self.dev(), "SNP is shut down for the panic\n"),
            Err(err) => dev_err!(
                self.dev(),
                "SNP is not shut down for the panic: SNP_SHUTDOWN_EX: {err}; a kdump kernel may fault on pages of guests and firmware\n"
            ),
        }
    }

    fn panic_snp_shutdown(&mut self) -> Result<(), CmdError> {
        let mut request = Self::snp_shutdown_request(self.can_end_snp());
        self.channel
            .issue_polling(command::SNP_SHUTDOWN_EX, &mut request)
    }
}
