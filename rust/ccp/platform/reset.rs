// SPDX-License-Identifier: GPL-2.0

//! A reset under the driver's feet: of the PCI function, by whoever, or of firmware.
//!
//! The interrupt enable register has lost its value, or firmware is in the UNINIT state although
//! the driver has initialised it: however it is noticed, and whatever the cause was, firmware is
//! asked what it still has, and the driver believes that alone.

use kernel::prelude::*;

use super::{
    Platform,
    Sev, //
};
use crate::{
    cmd::{
        Answer,
        CmdError,
        Suspicion, //
    },
    mailbox::Transport,
    sys::bindings::snp_host_keep,
    wire::{
        command,
        sev,
        Status, //
    },
};

impl<T: Transport> Platform<T> {
    /// To be called after each use of the platform: if a command has shown that there may have been
    /// a reset, looks what is left.
    pub(super) fn look_for_reset(&mut self) {
        match self.channel.take_suspicion() {
            // What is not initialised cannot have been lost, and firmware may have other reasons.
            Some(Suspicion::Answer) if !self.is_in_use() => {}
            Some(suspicion) => self.look_what_is_left(suspicion),
            None => {}
        }
    }

    /// The PCI core has reset the function.
    pub(super) fn after_reset(&mut self) {
        self.look_what_is_left(Suspicion::Registers);
    }

    fn look_what_is_left(&mut self, suspicion: Suspicion) {
        if self.channel.dead().is_some() {
            return;
        }
        let (snp, sev) = (self.channel.snp_init(), self.sev != Sev::Uninit);
        let asked = self.ask_what_is_left();
        // That it is in no state for these questions has been dealt with.
        let _ = self.channel.take_suspicion();
        if asked.is_err() {
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
                if suspicion == Suspicion::Registers {
                    dev_notice!(
                        self.dev(),
                        "the PSP was reset, but its firmware has kept its state\n"
                    );
                }
                return;
            }
        };
        dev_err!(
            self.dev(),
            "firmware was reset while {lost} was initialised: guests that use it cannot go on; end all guests and reload kvm_amd\n"
        );
    }

    /// Asks firmware anew who it is, and for its states.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged. What could not be asked is taken to be as it was.
    fn ask_what_is_left(&mut self) -> Result<(), CmdError> {
        if self.has_kept_snp()? {
            let mut status = sev::PlatformStatus::default();
            self.channel
                .require(command::PLATFORM_STATUS, &mut status)?;
            if matches!(status.state(), Ok(sev::PlatformState::Uninit)) {
                self.sev = Sev::Uninit;
            }
            return Ok(());
        }
        if let Some(enabled) = self.channel.snp_is_over() {
            // The CPUs go on checking the RMP, in which there is no change: its pages are nobody's
            // now.
            enabled.keep(snp_host_keep::SNP_HOST_KEEP_FIRMWARE_RESET);
            drop(self.tmr.take());
        }
        let before = self.sev;
        self.identify()?;
        if self.sev == Sev::Stale {
            // It still has what the driver gave it.
            self.sev = before;
        }
        Ok(())
    }

    /// Whether SNP firmware is in the INIT state, to which this driver has brought it. In that
    /// state it refuses a page of the host's; and none is lost in the other one, where it takes
    /// none back.
    fn has_kept_snp(&mut self) -> Result<bool, CmdError> {
        if !self.channel.snp_init() {
            return Ok(false);
        }
        match self.channel.snp_status_in(Answer::LentPage) {
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
