// SPDX-License-Identifier: GPL-2.0

//! SNP_INIT and SNP_SHUTDOWN: SNP firmware up and down.

use kernel::prelude::*;

use super::{
    leave::Leaving,
    ranges,
    Platform,
    Sev, //
};
use crate::{
    cmd::CmdError,
    hv_fixed,
    mailbox::Transport,
    pages::HvPages,
    sys::{
        bindings::snp_host_keep,
        errno::EOPNOTSUPP,
        log, params,
        snp_host::{
            HotplugWindow,
            SnpEnabled, //
        },
    },
    wire::{
        command,
        snp::{
            self,
            Feature, //
        },
        CommandInfo,
        Status, //
    },
};

/// The first firmware with SNP that may be used in production.
const SNP_SINCE: (u8, u8) = (1, 51);
/// Since then SNP_INIT_EX takes a list of HV-Fixed ranges.
const INIT_EX_SINCE: (u8, u8) = (1, 52);

/// Why SNP is never started on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SnpOff {
    /// This kernel is no SNP host; snp_host has logged why.
    NoSnpHost,
    /// The administrator has set `snp=0`.
    Parameter,
    /// Firmware is too old.
    OldFirmware,
}

impl<T: Transport> Platform<T> {
    /// Starts SNP firmware, if the host can do SNP and it is not up yet.
    ///
    /// A host that cannot do SNP (the firmware is too old, a CPU is offline, the RMP has a gap) is
    /// no error: the log has the reason, nothing has been changed, and legacy SEV may still work.
    ///
    /// `max_snp_asid`: the ASIDs up to this one are for SNP guests alone (ciphertext hiding); 0 if
    /// they are not split.
    ///
    /// # Errors
    ///
    /// If the host can do SNP, but something failed. The log has the reason. CPUs may have SNP_EN
    /// set then; the hotplug window is closed if that is safe and kept otherwise.
    pub(super) fn start_snp(&mut self, max_snp_asid: u16) -> Result<(), CmdError> {
        if self.channel.snp_init() {
            return Ok(());
        }
        match self.snp_off() {
            None => {}
            Some(SnpOff::NoSnpHost) => return Ok(()),
            Some(SnpOff::Parameter) => {
                log::notice!(
                    self.dev(),
                    "snp-off-by-parameter",
                    "SNP stays off: ccp was loaded with snp=0"
                );
                return Ok(());
            }
            Some(SnpOff::OldFirmware) => {
                log::warn!(
                    self.dev(),
                    "firmware-too-old",
                    "SNP stays off: firmware has API {}, SNP needs {}.{}; install newer firmware (package amd64-microcode or linux-firmware) or a newer BIOS",
                    self.api,
                    SNP_SINCE.0,
                    SNP_SINCE.1
                );
                return Ok(());
            }
        }
        let prepared = self.ranges().and_then(|ranges| {
            let window = HotplugWindow::open(self.channel.host())?;
            Ok((ranges, window.prepare()?))
        });
        let (ranges, enabled) = match prepared {
            Ok(prepared) => prepared,
            // A CPU is offline, or firmware would refuse these CPUs, the RMP or the ranges: the log
            // has which. No register has been written.
            Err(err) if err == EOPNOTSUPP => return Ok(()),
            Err(err) => return Err(err.into()),
        };

        if let Err((enabled, err)) = self.snp_init(enabled, ranges, max_snp_asid) {
            self.report_snp_init(err);
            Self::close_window(enabled, err);
            return Err(err);
        }

        self.channel.host().wbinvd_on_all();
        if let Err(err) = self.channel.flush_snp() {
            // KVM may still have guests of an earlier SNP_INIT, hence not KvmGone.
            let _ = self.stop_snp(Leaving::DeviceGone);
            return Err(err);
        }
        self.snp_refused = false;
        dev_info!(
            self.dev(),
            "SEV-SNP API:{}.{} build:{}\n",
            self.api.major,
            self.api.minor,
            self.api.build
        );
        self.tell_tcb();
        Ok(())
    }

    /// Says which TCB a verifier has to ask for, if it is not the obvious one.
    fn tell_tcb(&self) {
        let snp::SnpStatus {
            current_tcb,
            reported_tcb,
            ..
        } = self.snp_status;
        if current_tcb != reported_tcb {
            log::notice!(
                self.dev(),
                "tcb-older",
                "attestation reports have TCB {reported_tcb:#018x}, firmware has {current_tcb:#018x}: verifiers need the VCEK of the first; snphost commit and snphost config set raise it"
            );
        }
    }

    /// Why SNP is never started on this host, if so.
    pub(super) fn snp_off(&self) -> Option<SnpOff> {
        if !self.channel.host().is_snp_host() {
            Some(SnpOff::NoSnpHost)
        } else if !params::snp() {
            Some(SnpOff::Parameter)
        } else if !self.api.at_least(SNP_SINCE) {
            Some(SnpOff::OldFirmware)
        } else {
            None
        }
    }

    /// The list of HV-Fixed ranges for SNP_INIT_EX; to be made before any CPU is prepared. [`None`]
    /// if firmware has SNP_INIT only, which takes no list.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if SNP has to stay off, [`ENOMEM`]; the log has the reason.
    fn ranges(&self) -> Result<Option<HvPages>> {
        if !self.api.at_least(INIT_EX_SINCE) {
            return Ok(None);
        }
        ranges::reserved_by_bios().map(Some).map_err(|err| {
            if err == ENOMEM {
                log::err!(
                    self.dev(),
                    "init-list-no-memory",
                    "SNP and SEV cannot be started: no memory for the list that SNP_INIT_EX takes"
                );
                return err;
            }
            log::err!(
                self.dev(),
                "init-list-too-long",
                "SNP stays off: SNP_INIT_EX takes no list as long as that of the memory that the BIOS has reserved ({err:?}); look for a BIOS update"
            );
            EOPNOTSUPP
        })
    }

    /// Issues SNP_INIT_EX, or SNP_INIT where firmware has no list of ranges.
    fn snp_init(
        &mut self,
        enabled: SnpEnabled,
        ranges: Option<HvPages>,
        max_snp_asid: u16,
    ) -> Result<(), (SnpEnabled, CmdError)> {
        let Some(ranges) = ranges.map(HvPages::lend) else {
            self.channel.host().wbinvd_on_all();
            return self.channel.init_snp(enabled, None);
        };
        let mut flags = snp::INIT_RMP | snp::INIT_LIST_PADDR_EN;
        if max_snp_asid != 0 {
            flags |= snp::INIT_CIPHERTEXT_HIDING_EN;
        }
        let mut request = snp::SnpInitEx {
            flags,
            rsvd: 0,
            list_paddr: ranges.spa().encrypted(),
            max_snp_asid,
            rsvd2: [0; 46],
        };
        // Before and after SNP_INIT no CPU may hold dirty lines, not least of the RMP itself.
        self.channel.host().wbinvd_on_all();
        hv_fixed::listed();
        let result = self.channel.init_snp(enabled, Some(&mut request));
        // If the mailbox died the pages are lost, which has been logged.
        let _ = ranges.take_back(&mut self.channel);
        result
    }

    /// Logs that SNP_INIT failed, and what follows for CPUs that have SNP_EN.
    fn report_snp_init(&mut self, err: CmdError) {
        // The mailbox has said so.
        if let CmdError::Died(_) = err {
            return;
        }
        self.snp_refused = true;
        let command = match self.api.at_least(INIT_EX_SINCE) {
            true => command::SNP_INIT_EX.info(),
            false => command::SNP_INIT.info(),
        };
        log::err!(
            self.dev(),
            "snp-init-failed",
            "{} failed: {err}; legacy SEV stays off, too, for firmware refuses it while CPUs have SNP_EN: for legacy SEV alone restart the machine with ccp.snp=0",
            command.name
        );
    }

    /// SNP_INIT failed after the CPUs were prepared: closes the hotplug window if that is safe.
    fn close_window(enabled: SnpEnabled, err: CmdError) {
        let keep = match err {
            CmdError::Died(_) => snp_host_keep::SNP_HOST_KEEP_TIMEOUT,
            CmdError::Dead(_) => snp_host_keep::SNP_HOST_KEEP_MAILBOX_DEAD,
            CmdError::Firmware(status) | CmdError::Lost(status) if status.is_hardware_error() => {
                snp_host_keep::SNP_HOST_KEEP_HARDWARE_ERROR
            }
            CmdError::Firmware(Status::RMP_INITIALIZATION_FAILED) => {
                snp_host_keep::SNP_HOST_KEEP_RMP_INIT_FAILED
            }
            CmdError::Firmware(_) | CmdError::Lost(_) | CmdError::Transport(_) => {
                // If the RMP is not all zero the window stays open; snp_host logs it.
                let _ = enabled.refused();
                return;
            }
        };
        enabled.keep(keep);
    }

    /// Whether SNP_SHUTDOWN_EX can clear SNP_EN on all CPUs (X86_SNP_SHUTDOWN).
    pub(super) fn has_x86_snp_shutdown(&self) -> bool {
        self.features.has(Feature::X86Shutdown)
    }

    /// Stops SNP firmware, if it is up, after its guests have been decommissioned.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged. If firmware refused, SNP stays up.
    pub(super) fn stop_snp(&mut self, leaving: Leaving) -> Result<(), CmdError> {
        if !self.channel.snp_init() {
            return Ok(());
        }
        let guests = self.guests();
        let clear_snp_en = leaving.clears_snp_en(guests, self.has_x86_snp_shutdown());
        if guests != 0 {
            if leaving == Leaving::DeviceGone {
                log::warn!(
                    self.dev(),
                    "guests-own-memory",
                    "{guests} SNP guest(s) own memory and are ended now, but SNP_EN and their pages in the RMP stay: end them before a kexec, or its kernel faults where it writes to those pages"
                );
            }
            // A guest that stays makes SNP_SHUTDOWN_EX fail, which is reported below.
            let _ = self.decommission_guests();
        }
        if self.channel.alive().is_ok() {
            self.channel.host().wbinvd_on_all();
        }
        if let Err((command, err)) = self.channel.shutdown_snp(clear_snp_en) {
            self.report_shutdown(command, err);
            let keep = match err {
                CmdError::Died(_) => snp_host_keep::SNP_HOST_KEEP_TIMEOUT,
                CmdError::Dead(_) => snp_host_keep::SNP_HOST_KEEP_MAILBOX_DEAD,
                // Firmware is still in the INIT state.
                _ => return Err(err),
            };
            if let Some(enabled) = self.channel.abandon_snp() {
                enabled.keep(keep);
            }
            return Err(err);
        }
        self.forget_contexts();
        if let Some(enabled) = self.channel.snp_left_init() {
            self.after_snp_shutdown(enabled, clear_snp_en);
        }
        Ok(())
    }

    /// Decommissions the guests that this driver knows. They cannot run any more.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]; they have been logged.
    pub(super) fn decommission_guests(&mut self) -> Result<(), CmdError> {
        let record = self.channel.record().clone();
        for address in record.contexts() {
            self.channel
                .require(command::SNP_DECOMMISSION, &mut snp::Addr { address })?;
            self.set_context(address, false);
        }
        Ok(())
    }

    fn report_shutdown(&self, command: &CommandInfo, err: CmdError) {
        match err {
            // The mailbox has logged why, and snp_host logs what follows.
            CmdError::Dead(_) => {}
            err if self.sev != Sev::Uninit && err.is(Status::INVALID_PLATFORM_STATE) => log::err!(
                self.dev(),
                "snp-shutdown-before-sev",
                "{} failed: {}: firmware stops SNP only after SEV, and that could not be stopped; SNP stays initialised, restart the machine",
                command.name,
                Status::INVALID_PLATFORM_STATE
            ),
            // This is the answer after a flush, so the flush is not what firmware misses.
            err if err.is(Status::DFFLUSH_REQUIRED) => log::err!(
                self.dev(),
                "snp-shutdown-guests",
                "{} failed: {}, although it was done: SNP guests still have ASIDs, {} of which this driver knows; end them, then reload and unload kvm_amd to stop SNP",
                command.name,
                Status::DFFLUSH_REQUIRED,
                self.guests()
            ),
            err => self.channel.report(command, err),
        }
    }

    /// Firmware is in the UNINIT state again: ends SNP on the CPUs or, if firmware has left SNP_EN
    /// set, in the IOMMU alone.
    fn after_snp_shutdown(&mut self, enabled: SnpEnabled, snp_en_cleared: bool) {
        if snp_en_cleared {
            match enabled.end() {
                Ok(proof) => self.forget_assignments(&proof),
                Err(err) if err == EBUSY => log::err!(
                    self.dev(),
                    "snp-en-stays",
                    "SNP firmware is shut down, but SNP_EN is still set on a CPU; CPU hotplug stays disabled until the machine restarts"
                ),
                Err(err) => log::err!(
                    self.dev(),
                    "snp-en-unseen",
                    "SNP firmware is shut down, but it could not be seen whether SNP_EN is still set on a CPU ({err:?}); CPU hotplug stays disabled, reload kvm_amd"
                ),
            }
            return;
        }
        if let Err(err) = self.channel.host().take_iommu_pages_back() {
            log::err!(
                self.dev(),
                "iommu-pages-stay",
                "SNP firmware is shut down, but pages of the IOMMU could not be taken back ({err:?}); do not kexec from this kernel, restart the machine"
            );
        }
        enabled.keep(snp_host_keep::SNP_HOST_KEEP_LEGACY_SHUTDOWN);
    }

    /// The device goes away. If firmware refused SNP_SHUTDOWN_EX, the hotplug window stays open for
    /// that reason.
    pub(super) fn abandon_snp(&mut self) {
        if let Some(enabled) = self.channel.abandon_snp() {
            log::err!(
                self.dev(),
                "snp-stays",
                "SNP firmware stays initialised, and the RMP keeps the memory of guests, of firmware and of the IOMMU: a kernel that is started by kexec may wait for the IOMMU for ever; restart the machine instead"
            );
            enabled.keep(snp_host_keep::SNP_HOST_KEEP_SHUTDOWN_FAILED);
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
