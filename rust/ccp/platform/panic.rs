// SPDX-License-Identifier: GPL-2.0

//! The shutdown in a panic: a kdump kernel then finds an IOMMU that works, and can use all memory.
//!
//! The panic may have stopped a CPU that held the command lock. So this path takes no lock and
//! touches no data under a lock. It has a mailbox and command buffers of its own, and believes only
//! the hardware (is the mailbox idle? is a page assigned? is SNP_EN set?) and the record of
//! `cmd/record.rs`, which is right at every instruction. It allocates and frees nothing, and
//! reclaims the pages that the in-tree driver reclaims.

use kernel::{
    fmt,
    prelude::*, //
};

use super::{
    leave::Leaving,
    Platform, //
};
use crate::{
    cmd::{
        Channel,
        CmdError, //
    },
    mailbox::{
        NotIdle,
        Transport, //
    },
    pages::{
        self,
        leaked, //
    },
    stopped_cpus::{
        self,
        OtherCpus, //
    },
    sys::{
        log,
        notifier::{
            self,
            Callback, //
        },
        rmp::Frames, //
    },
    wire::{
        command,
        snp,
        CommandInfo, //
    },
};

/// How long firmware may go on with the command that it had before the panic. Commands take
/// milliseconds, apart from SNP_INIT of a big host. The dump has to wait for that long.
const BUSY_MS: u32 = 10_000;

impl<T: Transport> Platform<T> {
    /// The shutdown for a panic, through a `transport` of its own.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn last_shutdown<P: Transport>(&self, transport: P) -> Result<LastShutdown<P>> {
        Ok(LastShutdown {
            channel: self.channel.for_panic(transport)?,
            others: &stopped_cpus::MACHINE,
        })
    }
}

/// See the top of this file.
pub(crate) struct LastShutdown<T> {
    channel: Channel<T>,
    pub(super) others: &'static dyn OtherCpus,
}

impl<T: Transport + Send> Callback for LastShutdown<T> {
    type Chain = notifier::Panic;

    fn call(&mut self, _action: c_ulong) -> Result {
        self.run();
        Ok(())
    }
}

impl<T: Transport> LastShutdown<T> {
    pub(super) fn run(&mut self) {
        self.stop();
        self.others.let_go();
    }

    fn stop(&mut self) {
        if !self.channel.record().snp() {
            return;
        }
        let why = match self.channel.poll_idle(BUSY_MS) {
            Ok(()) => {
                if let Err((command, err)) = self.shutdown() {
                    self.report_failure(format_args!("{}: {err}", command.name));
                }
                return;
            }
            Err(NotIdle::Busy) => "still works on",
            Err(NotIdle::Gone) => "is gone since",
        };
        let command = self.channel.record().command();
        self.report_failure(format_args!("firmware {why} {command}"));
    }

    /// Stops SEV, then SNP, and reports what became of the memory.
    ///
    /// # Errors
    ///
    /// The command that failed, and how.
    fn shutdown(&mut self) -> Result<(), (&'static CommandInfo, CmdError)> {
        let guests = self.channel.record().guests();
        if guests != 0 {
            self.end_guests(guests)?;
        }
        // Firmware refuses SHUTDOWN if SEV is not up. If SEV stays up, SNP_SHUTDOWN_EX fails.
        let _ = self.channel.issue(command::SHUTDOWN, &mut ());
        // For the shutdown the other CPUs have executed WBINVD in the NMI that stopped them
        // (kdump_sev_callback()). The one after SNP_DECOMMISSION is another.
        self.channel.host().wbinvd_here();
        let clear_snp_en =
            Leaving::Panic.clears_snp_en(guests, self.channel.record().x86_snp_shutdown());
        // Without SNP_EN no CPU enforces the RMP. If it stays all the same, this is told.
        let sev_pages_left = match clear_snp_en {
            true => self.sev_pages(),
            false => self.reclaim_sev_areas(),
        };

        self.channel.shutdown_snp(clear_snp_en)?;
        let iommu = match self.channel.host().snp_en_here() {
            true => self.channel.host().take_iommu_pages_back(),
            false => Ok(()),
        };
        self.report(iommu, sev_pages_left);
        Ok(())
    }

    /// Takes the guests from firmware, if the other CPUs can still do what that obliges them to.
    ///
    /// # Errors
    ///
    /// The command that failed, and how.
    fn end_guests(&mut self, guests: u32) -> Result<(), (&'static CommandInfo, CmdError)> {
        if !self.others.are_held() {
            log::err!(
                self.channel.dev(),
                "panic-guests-stay",
                "{guests} SNP guest(s) cannot be ended for the panic: the other CPUs would have to write their caches back, and this kvm_amd does not have them wait; one with hooks does"
            );
            return Ok(());
        }
        // Its own, because a command uses the channel.
        let record = self.channel.record().clone();
        for address in record.contexts() {
            self.channel
                .issue(command::SNP_DECOMMISSION, &mut snp::Addr { address })
                .map_err(|err| (command::SNP_DECOMMISSION.info(), err))?;
        }
        let ended = record.contexts().count();
        let flushed = self.others.write_back();
        log::notice!(
            self.channel.dev(),
            "panic-guests-ended",
            "{ended} SNP guest(s) ended for the panic{}",
            if flushed {
                ""
            } else {
                ", but not all CPUs have written their caches back"
            }
        );
        Ok(())
    }

    /// Reclaims the pages of the TMR and the NV area, and returns how many stay firmware's.
    fn reclaim_sev_areas(&mut self) -> usize {
        // Its own, because a command uses the channel.
        let record = self.channel.record().clone();
        let host = self.channel.host();
        let left = record.sev_areas().map(|area| {
            pages::unassign_each(area, host, |paddr| {
                let mut request = snp::PageReclaim { paddr };
                let reclaimed = self.channel.issue(command::SNP_PAGE_RECLAIM, &mut request);
                reclaimed.is_ok()
            })
        });
        left.sum()
    }

    /// SNP is shut down. `iommu`: whether the IOMMU's pages are the host's again; `sev_pages_left`
    /// stay firmware's.
    fn report(&self, iommu: Result, sev_pages_left: usize) {
        let dev = self.channel.dev();
        if let Err(err) = iommu {
            log::err!(
                dev,
                "panic-iommu-pages",
                "SNP is shut down for the panic, but pages of the IOMMU could not be taken back ({err:?}): a kdump kernel may fault on them"
            );
        } else if self.channel.host().snp_en_here() {
            log::notice!(
                dev,
                "panic-snp-en-stays",
                "SNP is shut down for the panic, but SNP_EN stays set, and {}: a kdump kernel may read that memory, and not write to it",
                self.assigned(sev_pages_left)
            );
        } else {
            dev_info!(
                dev,
                "SNP is shut down for the panic, SNP_EN is clear: a kdump kernel can use all memory\n"
            );
        }
    }

    fn report_failure(&self, why: fmt::Arguments<'_>) {
        let snp_en = match self.channel.host().snp_en_here() {
            true => "set",
            false => "clear",
        };
        log::err!(
            self.channel.dev(),
            "panic-snp-stays",
            "SNP is not shut down for the panic: {why}; SNP_EN is {snp_en}, {}, the IOMMU's pages, too: a kdump kernel may wait for the IOMMU for ever",
            self.assigned(self.sev_pages())
        );
    }

    /// The pages of the TMR and the NV area.
    fn sev_pages(&self) -> usize {
        let areas = self.channel.record().sev_areas();
        areas.map(Frames::count).sum()
    }

    /// What is assigned in the RMP, with so many pages of the TMR and the NV area.
    fn assigned(&self, sev_pages: usize) -> Assigned {
        let record = self.channel.record();
        Assigned {
            guests: record.guests(),
            pages: (record.pages() as usize)
                .saturating_add(sev_pages)
                .saturating_add(leaked()),
        }
    }
}

/// What is assigned in the RMP.
struct Assigned {
    guests: u32,
    pages: usize,
}

impl fmt::Display for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guests, pages } = self;
        write!(
            f,
            "the RMP has the memory of {guests} guest(s) and {pages} page(s) of firmware"
        )
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
