// SPDX-License-Identifier: GPL-2.0

//! Legacy SEV up and down.

use kernel::prelude::*;

use super::{
    Platform,
    Sev,
    Snp, //
};
use crate::{
    cmd::{
        sev::{
            DfFlush,
            Init,
            Shutdown, //
        },
        CmdError, //
        Command as _,
    },
    pages::HvPages,
    sys::{
        cpu,
        pages::Gfp,
        params,
        snp_host::{
            NoSnpEn,
            SnpEnabled, //
        },
    },
    wire::{
        sev,
        Status, //
    },
};

/// Size of the TMR without SNP. Like every allocation it is aligned to its size, which firmware
/// demands.
const TMR_LEN: usize = 1 << 20;
/// Size of the TMR with SNP.
const TMR_LEN_SNP: usize = 2 << 20;

/// Why legacy INIT is allowed now. Firmware refuses it on CPUs with SNP_EN as long as SNP firmware is
/// not initialised.
#[allow(dead_code, reason = "a proof is held, not read")]
enum Order<'a> {
    AfterSnp(&'a SnpEnabled),
    WithoutSnp(NoSnpEn),
}

impl Platform {
    fn order(&self) -> Result<Order<'_>, CmdError> {
        match &self.snp {
            Snp::Up(enabled) => Ok(Order::AfterSnp(enabled)),
            Snp::Down => match NoSnpEn::measure() {
                Ok(proof) => Ok(Order::WithoutSnp(proof)),
                Err(err) => {
                    if err == EBUSY {
                        dev_err!(
                            self.dev(),
                            "SEV stays off: SNP_EN is set on CPUs but SNP firmware is not initialised, and firmware refuses INIT then; reload kvm_amd to initialise SNP, or restart the machine\n"
                        );
                    }
                    Err(CmdError::Transport(err))
                }
            },
        }
    }

    /// Starts legacy SEV, if it is not up yet.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged. If INIT succeeded and DF_FLUSH did not, SEV is up.
    pub(super) fn start_sev(&mut self) -> Result<(), CmdError> {
        if self.sev != Sev::Uninit {
            return Ok(());
        }
        if params::has_init_ex_path() {
            dev_err!(
                self.dev(),
                "SEV stays off: init_ex_path is set, and INIT_EX is not supported yet; load ccp without it to keep SEV state in the PSP's own storage\n"
            );
            return Err(CmdError::Transport(EOPNOTSUPP));
        }
        let tmr_len = match self.order()? {
            Order::AfterSnp(_) => TMR_LEN_SNP,
            Order::WithoutSnp(_) => TMR_LEN,
        };
        self.provide_tmr(tmr_len);

        let mut result = self.sev_init();
        if matches!(result, Err(err) if err.is(Status::SECURE_DATA_INVALID)) {
            dev_warn!(
                self.dev(),
                "INIT: {}; trying once more\n",
                Status::SECURE_DATA_INVALID.cause()
            );
            result = self.sev_init();
        }
        result.inspect_err(|err| self.channel.report(Init::INFO, *err))?;
        self.sev = Sev::Init;

        cpu::wbinvd_on_all();
        self.channel.require::<DfFlush>(&mut ())?;
        dev_info!(
            self.dev(),
            "SEV API:{}.{} build:{}\n",
            self.api.major,
            self.api.minor,
            self.api.build
        );
        Ok(())
    }

    /// Makes sure that there is a TMR of this size. Without one SEV-ES guests cannot run, but SEV
    /// guests can.
    fn provide_tmr(&mut self, len: usize) {
        if matches!(&self.tmr, Some(tmr) if tmr.len() != len) {
            self.free_tmr();
        }
        if self.tmr.is_some() {
            return;
        }
        let tmr = HvPages::for_len(Gfp::KERNEL, len).map_err(CmdError::Transport);
        let tmr = tmr.and_then(|tmr| {
            // Firmware does not look into the caches; under SNP the WBINVD after SNP_INIT and the
            // RMP take care of it.
            if !self.channel.snp_init() {
                tmr.clflush();
            }
            self.channel.give(tmr)
        });
        match tmr {
            Ok(tmr) => self.tmr = Some(tmr),
            Err(err) => dev_warn!(
                self.dev(),
                "no memory region for SEV-ES ({} KiB in one piece): {err}; SEV-ES guests cannot run until kvm_amd is loaded again\n",
                len / 1024
            ),
        }
    }

    fn sev_init(&mut self) -> Result<(), CmdError> {
        let mut request = sev::Init::default();
        if let Some(tmr) = &self.tmr {
            request.flags = sev::INIT_FLAG_ES;
            // The one address that firmware wants without the encryption bit.
            request.tmr_address = tmr.spa().plain();
            // CAST: At most 2 MiB.
            request.tmr_len = tmr.len() as u32;
        }
        self.channel.issue::<Init>(&mut request)
    }

    /// Stops legacy SEV, if it is up, and frees the TMR. On failure SEV stays up and the TMR is kept:
    /// firmware may be using it.
    pub(super) fn stop_sev(&mut self) {
        if self.sev != Sev::Uninit {
            if self.channel.dead().is_some() || self.channel.require::<Shutdown>(&mut ()).is_err() {
                return;
            }
            self.sev = Sev::Uninit;
        }
        self.free_tmr();
    }

    /// Frees the TMR. Legacy firmware must be in the UNINIT state.
    fn free_tmr(&mut self) {
        let Some(tmr) = self.tmr.take() else { return };
        // Firmware wrote to it with its own key; those lines must not be written back over whatever
        // the memory is used for next.
        cpu::wbinvd_on_all();
        // What could not be taken back has been logged.
        let _ = tmr.take_back(&mut self.channel);
    }

    /// Runs `work` with legacy SEV up, and stops SEV afterwards if it was not up before. SNP is left
    /// alone.
    ///
    /// # Errors
    ///
    /// As [`Self::start_sev`]; what `work` returns.
    pub(super) fn with_sev<R>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<R, CmdError>,
    ) -> Result<R, CmdError> {
        let borrowed = self.sev == Sev::Uninit;
        if borrowed {
            if let Err(err) = self.start_sev() {
                // INIT may have succeeded and only the flush failed.
                self.stop_sev();
                return Err(err);
            }
        }
        let result = work(self);
        if borrowed {
            self.stop_sev();
        }
        result
    }
}
