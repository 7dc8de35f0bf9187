// SPDX-License-Identifier: GPL-2.0
//! The processors of one machine: their state, and what all of their rules need.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use link::{Link, Report, MAX_CPUS, SNP_EN};
use rmp::{MemoryTable, Rmp};

use crate::activity::Activity;
use crate::cpu::{Cpu, Fault, Outcome};
use crate::log::Log;
use crate::msr;
use crate::ram::Ram;
use crate::stats::Stats;
use crate::variant::{Checks, Pin, Segments};
use crate::writable::Writable;

/// The processors of one machine, apart from what TCG models.
pub struct Model<'a> {
    /// The page shared with the PSP model.
    pub link: &'a Link,
    /// Guest memory.
    pub ram: Ram,
    /// The RMP in it.
    pub rmp: Rmp<MemoryTable<'a>>,
    /// RMPREAD exists.
    pub rmpread: bool,
    /// CPUs (a bit each) power on with SNP_EN set.
    pub snp_en: u64,
    /// The RMP is segmented.
    pub segments: Option<Segments>,
    /// MSRs that are not as they should be.
    pub pins: Vec<Pin>,
    /// A kernel runs: the pins hold.
    pub pinned: AtomicBool,
    /// What becomes of accesses that the RMP forbids.
    pub checks: Checks,
    /// How often firmware had given pages away when TLBs were emptied for it.
    pub pages_taken: AtomicU64,
    /// How often software has changed an entry of the RMP, but for what guests do to theirs.
    pub rmp_changes: AtomicU64,
    /// By what pages can be written to.
    pub writable: Writable,
    /// What goes on on each CPU.
    pub activity: [Activity; MAX_CPUS],
    /// The IVRS has its SNP bit, or somebody is at it.
    pub acpi_patched: AtomicBool,
    /// Where the IOMMU's registers are; 0 until the IVRS has told.
    pub iommu: AtomicU64,
    /// Its exclusion base, which QEMU's does not keep.
    pub exclusion_base: AtomicU64,
    /// Where that register has been put into the machine; 0: not yet.
    pub exclusion_base_at: AtomicU64,
    /// Its command buffer's register, as last written.
    pub command_buffer: AtomicU64,
    /// What happened.
    pub stats: Stats,
    /// Where to say so.
    pub log: Log,
}

impl Model<'_> {
    /// The registers of `cpu` that the PSP can see.
    pub fn link_cpu(&self, cpu: &impl Cpu) -> &link::Cpu {
        &self.link.cpu[cpu.index()]
    }

    /// A CPU comes into being.
    pub fn add_cpu(&self, index: usize) {
        let snp_en = self.snp_en >> index & 1 != 0;
        msr::reset(&self.link.cpu[index], self.rmp.geometry(), self.low(), snp_en);
        self.has_empty_caches(&self.link.cpu[index]);
    }

    /// A CPU is at the reset vector: the machine has been powered on, or reset as a whole.
    pub fn reset(&self) {
        if self.stats.reset() {
            return;
        }
        self.link.snp_active.store(0, Release);
        for asid in 0..link::ASIDS as u32 {
            self.link.bind(asid, link::Bound::Free);
        }
        for cpu in self.link.present() {
            msr::reset(cpu, self.rmp.geometry(), self.low(), false);
            self.has_empty_caches(cpu);
        }
        self.pinned.store(false, Release);
        self.link.iommu_snp.store(0, Relaxed);
        self.exclusion_base.store(0, Relaxed);
        self.acpi_patched.store(false, Release);
        self.log.note(format_args!("reset: SNP_EN is clear on all CPUs"));
    }

    fn low(&self) -> u64 {
        self.link.low.load(Relaxed)
    }

    /// Raises #GP(0), and says why the first time.
    pub fn fault(&self, fault: Fault) -> Outcome {
        if self.stats.fault(fault) {
            self.log.note(format_args!("first #GP(0), reason: {}", fault.name()));
        }
        Outcome::GeneralProtection
    }

    /// SNP is active: from SNP_INIT until firmware clears SNP_EN, or a reset.
    pub fn snp_active(&self) -> bool {
        self.link.snp_active.load(Acquire) != 0
    }

    /// SNP_EN is set on a CPU.
    pub fn snp_en(&self, cpu: usize) -> bool {
        self.link.cpu[cpu].syscfg.load(Acquire) & SNP_EN != 0
    }

    /// The page is firmware's or a guest's.
    pub fn assigned(&self, pa: u64) -> bool {
        self.rmp.entry(pa).is_some_and(|entry| entry.assigned())
    }

    /// Notes a mistake; `at` is asked for the addresses of instruction and access the first time.
    pub fn report(&self, cpu: usize, report: Report, at: impl FnOnce() -> (u64, u64)) {
        let mut first = (0, 0);
        let new = self.link.report(cpu, report, || {
            first = at();
            first
        });
        if new {
            let (pc, address) = first;
            let name = report.name();
            self.log.note(format_args!("report {name} cpu {cpu} pc {pc:#x} address {address:#x}"));
        }
    }
}
