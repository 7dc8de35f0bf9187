// SPDX-License-Identifier: GPL-2.0

//! What kvm-amd asks for when it is loaded, when it makes a VM, and when it is unloaded.

use kernel::prelude::*;

use super::{
    Failure,
    Left,
    Platform,
    Sev,
    Snp, //
};
use crate::{
    cmd::CmdError,
    mailbox::Transport,
    sys::params, //
};

impl<T: Transport> Platform<T> {
    /// Starts SNP, then legacy SEV (`sev_platform_init()`).
    ///
    /// `probe`: kvm-amd is being loaded, so there are no guests, and `max_snp_asid` splits the ASIDs for
    /// ciphertext hiding. Otherwise it is making a VM, and does not say again how they are split.
    ///
    /// When kvm-amd makes a VM it does not say either whether that will be an SNP guest, which does
    /// without legacy SEV. That is then started by the first command that needs it
    /// ([`Self::relay`](Platform::relay)), and so is it with `psp_init_on_probe=0` from the beginning.
    ///
    /// Where the host cannot do SNP (firmware too old, a CPU offline) legacy SEV is started all the
    /// same, as long as no CPU has SNP_EN set. (The in-tree driver gives up both.)
    ///
    /// # Errors
    ///
    /// See [`Failure`]; they have been logged.
    pub(crate) fn init(&mut self, probe: bool, max_snp_asid: u32) -> Result<(), Failure> {
        if let Some(why) = self.channel.dead() {
            // Before any CPU is prepared for firmware that cannot be started, and whatever state
            // firmware was in when it fell silent.
            let err = CmdError::Dead(why);
            dev_err!(self.dev(), "SNP and SEV cannot be started: {err}\n");
            return Err(err.into());
        }
        if self.sev == Sev::Init {
            return Ok(());
        }
        if probe || max_snp_asid != 0 {
            self.max_snp_asid = u16::try_from(max_snp_asid).map_err(|_| EINVAL)?;
        }
        self.end_stale(probe)?;
        self.start_snp()?;
        if !probe || !params::psp_init_on_probe() {
            self.sev_on_demand = true;
            return Ok(());
        }
        self.start_sev().map_err(Failure::of_start)
    }

    /// Stops firmware that is initialised but not usable.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if there may be guests that it serves; see [`CmdError`]. They have been logged.
    fn end_stale(&mut self, probe: bool) -> Result<(), CmdError> {
        let stale_snp = matches!(self.snp, Snp::Stale { .. });
        if self.sev != Sev::Stale && !stale_snp {
            return Ok(());
        }
        if !probe {
            dev_err!(
                self.dev(),
                "SNP and SEV cannot be started: firmware was left initialised, and guests may depend on it; end all guests and reload kvm_amd\n"
            );
            return Err(CmdError::Transport(EBUSY));
        }
        dev_notice!(
            self.dev(),
            "firmware was left initialised; stopping it, to start it anew\n"
        );
        // SEV goes first, and does not outlive SNP.
        self.stop_sev()?;
        if stale_snp {
            self.stop_snp(Left::Nobody)?;
        }
        Ok(())
    }
}
