// SPDX-License-Identifier: GPL-2.0

//! A reset of the PCI function, or of firmware, that the driver has not asked for.
//!
//! The signs are an interrupt enable register that has lost its value, an answer that firmware is
//! in no state for a command, and that the machine has slept. Whatever the sign and the cause, the
//! driver asks firmware for its state, and believes that alone.

use kernel::prelude::*;

use super::{
    Platform,
    Sev, //
};
use crate::{
    cmd::{
        CmdError,
        PageKind,
        ResetSign, //
    },
    mailbox::Transport,
    sys::{
        bindings::snp_host_keep,
        log, //
    },
    wire::{
        command,
        sev,
        Status, //
    },
};

impl<T: Transport> Platform<T> {
    /// Asks firmware for its state if there was a sign of a reset. To be called after each use of
    /// the platform.
    pub(super) fn check_for_reset(&mut self) {
        match self.channel.take_reset_sign() {
            // Nothing is initialised, so a reset changes nothing. Firmware has another reason.
            Some(ResetSign::Answer) if !self.is_in_use() => {}
            Some(sign) => self.resync(sign),
            None => {}
        }
    }

    /// The PCI core has reset the function.
    pub(super) fn after_reset(&mut self) {
        self.resync(ResetSign::Registers);
    }

    /// The machine has slept, and firmware may have begun anew meanwhile.
    pub(super) fn after_sleep(&mut self) {
        if self.is_in_use() {
            self.resync(ResetSign::Answer);
        }
    }

    /// Brings the driver's view in line with firmware's state, and reports what was lost.
    fn resync(&mut self, sign: ResetSign) {
        if self.channel.dead().is_some() {
            return;
        }
        if sign == ResetSign::Registers {
            // If firmware was reset, too, it is that of the BIOS, which works.
            self.channel.set_unusable(false);
        }
        let (snp, sev) = (self.channel.snp_init(), self.sev != Sev::Uninit);
        let queried = self.query_state();
        // The queries themselves may have been answered with INVALID_PLATFORM_STATE.
        let _ = self.channel.take_reset_sign();
        if queried.is_err() {
            return;
        }
        let lost = match (
            snp && !self.channel.snp_init(),
            sev && self.sev == Sev::Uninit,
        ) {
            (true, true) => "SNP and SEV",
            (true, false) => "SNP",
            (false, true) => "SEV",
            (false, false) => {
                if sign == ResetSign::Registers {
                    log::notice!(
                        self.dev(),
                        "psp-reset-harmless",
                        "the PSP was reset, but its firmware has kept its state"
                    );
                }
                return;
            }
        };
        log::err!(
            self.dev(),
            "psp-reset",
            "firmware was reset while {lost} was initialised: guests that use it cannot go on; end all guests and reload kvm_amd"
        );
    }

    /// Asks firmware for its states, and identifies it anew if SNP is not in the INIT state.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged. A state that could not be queried stays as it was.
    fn query_state(&mut self) -> Result<(), CmdError> {
        if self.has_kept_snp()? {
            let mut status = sev::PlatformStatus::default();
            self.channel
                .require(command::PLATFORM_STATUS, &mut status)?;
            if matches!(status.state(), Ok(sev::PlatformState::Uninit)) {
                self.sev = Sev::Uninit;
            }
            return Ok(());
        }
        if let Some(enabled) = self.channel.snp_left_init() {
            // The CPUs still enforce the RMP, and its entries have not changed: pages in the
            // Firmware state stay lost.
            enabled.keep(snp_host_keep::SNP_HOST_KEEP_FIRMWARE_RESET);
            drop(self.tmr.take());
            self.nv.lose_area();
            // KVM still has the guests, and keeps their contexts: it does not free what firmware
            // refuses to decommission. Firmware will never have them again.
            self.forget_contexts();
        }
        let before = self.sev;
        self.identify()?;
        if self.sev == Sev::Stale {
            // Firmware has kept its state, so the driver's view stays valid.
            self.sev = before;
        }
        Ok(())
    }

    /// Whether SNP firmware is still in the INIT state, to which this driver has brought it.
    ///
    /// The page for the answer is one of the host's: firmware in the INIT state refuses it, and
    /// after a reset, when nothing can be reclaimed, no page is lost.
    fn has_kept_snp(&mut self) -> Result<bool, CmdError> {
        if !self.channel.snp_init() {
            return Ok(false);
        }
        match self.channel.snp_status_in(PageKind::Lent) {
            Ok(_) => Ok(false),
            Err(err) if err.is(Status::INVALID_PAGE_STATE) => Ok(true),
            Err(err) => {
                self.channel
                    .report(command::SNP_PLATFORM_STATUS.info(), err);
                Err(err)
            }
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
