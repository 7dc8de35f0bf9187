// SPDX-License-Identifier: GPL-2.0

//! `sev_platform_init()` and `sev_platform_shutdown()`: kvm-amd calls them when it is loaded, when
//! it makes a VM, and when it is unloaded.

use kernel::prelude::*;

use super::{
    leave::Leaving,
    Failure,
    Platform,
    Sev, //
};
use crate::{
    cmd::{
        CmdError,
        Snp, //
    },
    mailbox::Transport,
    sys::{
        log,
        params, //
    },
};

impl<T: Transport> Platform<T> {
    /// Gets firmware ready for kvm-amd (`sev_platform_init()`).
    ///
    /// `probe`: kvm-amd is being loaded, so there are no guests, and `max_snp_asid` splits the
    /// ASIDs for ciphertext hiding. Otherwise it is making a VM.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; they have been logged.
    pub(crate) fn init(&mut self, probe: bool, max_snp_asid: u32) -> Result<(), Failure> {
        if let Some(why) = self.channel.dead() {
            // Firmware cannot be started, so no CPU is prepared for it. Firmware may have been
            // initialised when the mailbox died: that changes nothing.
            let err = CmdError::Dead(why);
            log::err!(
                self.dev(),
                "start-refused",
                "SNP and SEV cannot be started: {err}"
            );
            return Err(err.into());
        }
        if self.sev == Sev::Init {
            return Ok(());
        }
        if probe {
            self.init_for_kvm(max_snp_asid, params::psp_init_on_probe())
        } else {
            self.init_for_vm()
        }
    }

    /// kvm-amd is being loaded: starts SNP, then legacy SEV.
    ///
    /// On a host without SNP (firmware is too old, a CPU is offline) legacy SEV is started as long
    /// as no CPU has SNP_EN set. SNP does not depend on legacy SEV: if SNP is up and legacy SEV
    /// fails, the first command that needs legacy SEV starts it again, and returns the error
    /// ([`Self::relay`](Platform::relay)). (The in-tree driver gives up both.)
    ///
    /// After an error kvm-amd gives up SEV as a whole and never calls `sev_platform_shutdown()`, so
    /// the error path shuts firmware down itself.
    fn init_for_kvm(&mut self, max_snp_asid: u32, sev_too: bool) -> Result<(), Failure> {
        let max_snp_asid = u16::try_from(max_snp_asid).map_err(|_| EINVAL)?;
        self.stop_stale()?;
        self.start_snp(max_snp_asid)?;
        if !sev_too {
            self.sev_on_demand = true;
            return Ok(());
        }
        match self.start_sev() {
            Ok(()) => Ok(()),
            Err(_) if self.is_snp_up() && self.channel.alive().is_ok() => {
                log::notice!(
                    self.dev(),
                    "sev-later",
                    "SNP goes on without legacy SEV, which the first SEV or SEV-ES guest starts once more"
                );
                self.sev_on_demand = true;
                Ok(())
            }
            Err(err) => {
                self.shutdown(Leaving::KvmGone);
                Err(Failure::of_start(err))
            }
        }
    }

    /// kvm-amd is making a VM, and does not say of which kind.
    ///
    /// SNP cannot be started now: VM_HSAVE_PA would have to be cleared on all CPUs, and KVM uses
    /// it. SNP guests do without legacy SEV, so the first command that needs legacy SEV starts it
    /// ([`Self::relay`](Platform::relay)).
    fn init_for_vm(&mut self) -> Result<(), Failure> {
        if self.is_stale() {
            log::err!(
                self.dev(),
                "start-with-guests",
                "SNP and SEV cannot be started: firmware was left initialised, and guests may depend on it; end all guests and reload kvm_amd"
            );
            return Err(EBUSY.into());
        }
        self.sev_on_demand = true;
        Ok(())
    }

    /// Stops SEV, then SNP, in the order of the in-tree driver; to be called before the device goes
    /// away, and when kvm-amd is unloaded. Failures have been logged; that part stays up.
    pub(crate) fn shutdown(&mut self, leaving: Leaving) {
        self.sev_on_demand = false;
        let _ = self.stop_sev();
        let _ = self.stop_snp(leaving);
    }

    fn is_stale(&self) -> bool {
        self.sev == Sev::Stale || matches!(self.channel.snp(), Snp::Stale { .. })
    }

    /// Stops firmware that is initialised but not usable.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged.
    fn stop_stale(&mut self) -> Result<(), CmdError> {
        if !self.is_stale() {
            return Ok(());
        }
        log::notice!(
            self.dev(),
            "left-initialised",
            "firmware was left initialised; stopping it, to start it anew"
        );
        // SEV goes first: firmware stops SNP only after SEV.
        self.stop_sev()?;
        if matches!(self.channel.snp(), Snp::Stale { .. }) {
            self.stop_snp(Leaving::KvmGone)?;
        }
        Ok(())
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
