// SPDX-License-Identifier: GPL-2.0

//! What kvm-amd asks for when it is loaded, when it makes a VM, and when it is unloaded.

use kernel::prelude::*;

use super::{
    Failure,
    Platform,
    Sev, //
};
use crate::{
    cmd::CmdError,
    mailbox::Transport,
    sys::{
        crash::is_kdump_kernel,
        params, //
    },
    wire::status::NO_FW_CALL,
};

impl<T: Transport> Platform<T> {
    /// Starts SNP, then legacy SEV (`sev_platform_init()`).
    ///
    /// `probe`: kvm-amd is being loaded; legacy SEV may wait until the first guest. `max_snp_asid`
    /// splits the ASIDs for ciphertext hiding; 0 to keep what was asked for before.
    ///
    /// Where the host cannot do SNP (firmware too old, a CPU offline) legacy SEV is started all the
    /// same, as long as no CPU has SNP_EN set. (The in-tree driver gives up both.)
    ///
    /// # Errors
    ///
    /// See [`Failure`]; they have been logged.
    pub(crate) fn init(&mut self, probe: bool, max_snp_asid: u32) -> Result<(), Failure> {
        if is_kdump_kernel() {
            return Ok(());
        }
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
        if max_snp_asid != 0 {
            self.max_snp_asid = u16::try_from(max_snp_asid).map_err(|_| EINVAL)?;
        }
        if self.sev == Sev::Inherited {
            dev_notice!(
                self.dev(),
                "firmware was left initialised by an earlier kernel; starting it anew\n"
            );
            self.stop_sev();
        }
        self.start_snp()?;
        if probe && !params::psp_init_on_probe() {
            return Ok(());
        }
        self.start_sev().map_err(|err| Failure {
            errno: err.errno(),
            fw_error: Some(err.psp_ret().unwrap_or(NO_FW_CALL)),
        })
    }
}
