// SPDX-License-Identifier: GPL-2.0

//! INIT and SHUTDOWN: legacy SEV up and down, and its trusted memory region (TMR).

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    snp::SnpOff,
    Failure,
    Platform,
    Sev, //
};
use crate::{
    cmd::{
        Channel,
        CmdError,
        InitProof, //
    },
    mailbox::Transport,
    nv::Contents,
    pages::{
        FwPages,
        HvPages, //
    },
    sys::{
        log,
        pages::Gfp,
        snp_host::NoSnpEn, //
    },
    wire::{
        command,
        sev,
        CommandInfo,
        Status, //
    },
};

/// Size of the TMR without SNP. Like every allocation it is aligned to its size, which firmware
/// demands.
const TMR_LEN: usize = 1 << 20;
/// Size of the TMR with SNP.
const TMR_LEN_SNP: usize = 2 << 20;

impl<T: Transport> Platform<T> {
    /// Starts legacy SEV, if it is not up yet.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged. SEV is not up then, unless firmware refuses to
    /// stop.
    pub(super) fn start_sev(&mut self) -> Result<(), CmdError> {
        if self.sev != Sev::Uninit {
            return Ok(());
        }
        self.channel.alive()?;
        let remedy = self.remedy_for_snp_en();
        let proof = init_proof(&self.channel, remedy)?;
        let tmr_len = match proof {
            InitProof::SnpIsUp(_) => TMR_LEN_SNP,
            InitProof::NoSnpEn(_) => TMR_LEN,
        };
        provide_tmr(&mut self.channel, &mut self.tmr, tmr_len);
        self.nv.give(&mut self.channel)?;
        self.sev_init(&proof)?;
        // Until the flush no ASID may be used.
        self.sev = Sev::Stale;
        self.channel.host().wbinvd_on_all();
        if let Err(err) = self.channel.require(command::DF_FLUSH, &mut ()) {
            let _ = self.stop_sev();
            self.flush_for_snp();
            return Err(err);
        }
        self.sev = Sev::Init;
        dev_info!(
            self.dev(),
            "SEV API:{}.{} build:{}\n",
            self.api.major,
            self.api.minor,
            self.api.build
        );
        Ok(())
    }

    /// Issues INIT or INIT_EX, and a second time if firmware's persistent state was damaged, which
    /// firmware has made anew by then.
    fn sev_init(&mut self, proof: &InitProof) -> Result<(), CmdError> {
        let (info, mut result) = self.sev_init_once(proof);
        if matches!(result, Err(err) if err.is(Status::SECURE_DATA_INVALID)) {
            log::warn!(
                self.dev(),
                "storage-damaged",
                "{}: {}; trying once more",
                info.name,
                Status::SECURE_DATA_INVALID.cause()
            );
            (_, result) = self.sev_init_once(proof);
        }
        result.inspect_err(|err| self.channel.report(info, *err))
    }

    fn sev_init_once(&mut self, proof: &InitProof) -> (&'static CommandInfo, Result<(), CmdError>) {
        let mut init = sev::Init::default();
        if let Some(tmr) = &self.tmr {
            init.flags = sev::INIT_FLAG_ES;
            // No encryption bit: that of the TMR and of SNP_PAGE_RECLAIM are the only such
            // addresses.
            init.tmr_address = tmr.spa().plain();
            // CAST: At most 2 MiB.
            init.tmr_len = tmr.len() as u32;
        }
        let Some(area) = self.nv.area() else {
            let result = self.channel.init_sev(command::INIT, &mut init, proof);
            return (command::INIT.info(), result);
        };
        let mut init_ex = sev::InitEx {
            // CAST: 36.
            len: size_of::<sev::InitEx>() as u32,
            flags: init.flags,
            tmr_address: init.tmr_address,
            tmr_len: init.tmr_len,
            reserved: 0,
            nv_address: area.spa().encrypted(),
            // CAST: 32 KiB.
            nv_len: area.len() as u32,
        };
        let result = self.channel.init_sev(command::INIT_EX, &mut init_ex, proof);
        (command::INIT_EX.info(), result)
    }

    /// DF_FLUSH after INIT failed. SNP guests, which do without legacy SEV, may use no ASID before
    /// a flush either.
    fn flush_for_snp(&mut self) {
        if self.channel.snp_init() && self.channel.alive().is_ok() {
            self.channel.host().wbinvd_on_all();
            // A failure has been logged, and firmware refuses to activate SNP guests.
            let _ = self.channel.require(command::SNP_DF_FLUSH, &mut ());
        }
    }

    /// The advice in the log if SNP_EN is set and SNP is not up.
    fn remedy_for_snp_en(&self) -> &'static str {
        match self.snp_off() {
            Some(SnpOff::NoSnpHost) => "restart the machine, which clears SNP_EN",
            Some(SnpOff::Parameter) => {
                "restart the machine, which clears SNP_EN, or load ccp without snp=0"
            }
            Some(SnpOff::OldFirmware) => {
                "restart the machine, which clears SNP_EN: this firmware is too old for SNP"
            }
            None if self.snp_refused => {
                "it refused SNP_INIT, too: for legacy SEV alone restart the machine with ccp.snp=0"
            }
            None => "reload kvm_amd to initialise SNP, or restart the machine",
        }
    }

    /// Whether legacy SEV cannot be started before the file of INIT_EX was read.
    pub(super) fn wants_nv_file(&self) -> bool {
        self.sev == Sev::Uninit && self.nv.is_unread()
    }

    /// What was in that file, or why it could not be read.
    pub(super) fn set_nv(&mut self, read: Result<Arc<Contents>>) {
        self.nv.set(read);
    }

    /// What the file is to have, if firmware has changed its state since the last call.
    pub(super) fn changed_nv(&mut self) -> Option<Arc<Contents>> {
        self.nv.take_changed(&mut self.channel)
    }

    /// Stops legacy SEV, if it is up, and frees the TMR and the NV area.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged. SEV stays up then and both are kept: firmware may
    /// be using them.
    pub(super) fn stop_sev(&mut self) -> Result<(), CmdError> {
        if self.sev != Sev::Uninit {
            self.channel.alive()?;
            self.channel.require(command::SHUTDOWN, &mut ())?;
            self.sev = Sev::Uninit;
        }
        free_tmr(&mut self.channel, &mut self.tmr);
        self.nv.take_back(&mut self.channel);
        Ok(())
    }

    /// Runs `work` with legacy SEV up, and stops SEV afterwards if it was not up before. SNP is
    /// left alone.
    ///
    /// # Errors
    ///
    /// As [`Self::start_sev`]; what `work` returns.
    pub(super) fn with_sev<R>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<R, CmdError>,
    ) -> Result<R, Failure> {
        let borrowed = self.sev == Sev::Uninit;
        if borrowed {
            if let Err(err) = self.start_sev() {
                // SEV is not up, but there may be memory of firmware's to free.
                let _ = self.stop_sev();
                return Err(Failure::of_start(err));
            }
        }
        let result = work(self);
        if borrowed {
            let _ = self.stop_sev();
        }
        Ok(result?)
    }
}

/// The proof that INIT is allowed now.
///
/// # Errors
///
/// If SNP_EN is set and SNP is not up, the status that firmware would answer to INIT; the log has
/// that and `remedy`. What reading SNP_EN returns.
fn init_proof<T: Transport>(channel: &Channel<T>, remedy: &str) -> Result<InitProof, CmdError> {
    match channel.snp_is_up() {
        Some(up) => Ok(InitProof::SnpIsUp(up)),
        None => match NoSnpEn::measure(channel.host()) {
            Ok(proof) => Ok(InitProof::NoSnpEn(proof)),
            Err(err) if err == EBUSY => {
                log::err!(
                    channel.dev(),
                    "sev-beside-snp-en",
                    "SEV stays off: SNP_EN is set on CPUs but SNP firmware is not initialised, and firmware refuses INIT then; {remedy}"
                );
                Err(CmdError::Firmware(Status::INVALID_PLATFORM_STATE))
            }
            Err(err) => Err(err.into()),
        },
    }
}

/// Makes sure that there is a TMR of this size. Without a TMR SEV-ES guests cannot run, but SEV
/// guests can.
fn provide_tmr<T: Transport>(channel: &mut Channel<T>, tmr: &mut Option<FwPages>, len: usize) {
    if matches!(tmr, Some(tmr) if tmr.len() != len) {
        free_tmr(channel, tmr);
    }
    if tmr.is_some() {
        return;
    }
    let pages = HvPages::for_len(Gfp::KERNEL, len).map_err(CmdError::Transport);
    let given = pages.and_then(|pages| {
        // Firmware does not snoop the caches. Under SNP they hold no line of the pages: WBINVD
        // follows SNP_INIT, and the RMP forbids writes afterwards.
        if !channel.snp_init() {
            channel.host().clflush(&pages);
        }
        channel.record().set_tmr(Some(pages.frames()));
        channel.give(pages)
    });
    match given {
        Ok(pages) => *tmr = Some(pages),
        Err(err) => {
            channel.record().set_tmr(None);
            log::warn!(
                channel.dev(),
                "sev-es-no-memory",
                "no memory region for SEV-ES ({} KiB in one piece): {err}; SEV-ES guests cannot run until kvm_amd is loaded again",
                len / 1024
            );
        }
    }
}

/// Frees the TMR. Legacy firmware must be in the UNINIT state.
fn free_tmr<T: Transport>(channel: &mut Channel<T>, tmr: &mut Option<FwPages>) {
    let Some(tmr) = tmr.take() else { return };
    // Firmware wrote to the TMR with its own key. Those cache lines must not be written back over
    // the memory's next contents.
    channel.host().wbinvd_on_all();
    // A failure has been logged.
    let _ = tmr.take_back(channel);
    channel.record().set_tmr(None);
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
