// SPDX-License-Identifier: GPL-2.0
//! What is where in the shared page.

use std::mem::size_of;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

/// Size of the file.
pub const SIZE: usize = 64 << 10;
/// CPUs that have a slot.
pub const MAX_CPUS: usize = 64;
/// Lock bytes. Regions share them modulo this number, so any amount of RAM works.
pub const RMP_LOCKS: usize = 16 << 10;
/// SYSCFG bit 24, SecureNestedPagingEn.
pub const SNP_EN: u64 = 1 << 24;

/// "LINK" and the version of this layout.
const MAGIC: u64 = 0x4b4e_494c_0000_0002;

/// What the CPU model reports of a CPU: a mistake of software that a processor would answer with a
/// fault, or not at all. The numbers are those of [`Cpu::reports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Report {
    /// It runs without SNP_EN while SNP is active: its writes are not checked.
    NoSnpEn,
    /// It writes to the RMP itself while SNP is active, or with SNP_EN set.
    RmpWrite,
    /// It writes, with SNP_EN set, to a page that the RMP gives to firmware or a guest.
    ForeignWrite,
    /// It writes, with SNP_EN set, through a translation of 2 MiB or more to a region in which some
    /// page is given away.
    LargeWrite,
}

impl Report {
    /// Every kind, in the order of its number.
    pub const ALL: [Report; 4] =
        [Report::NoSnpEn, Report::RmpWrite, Report::ForeignWrite, Report::LargeWrite];

    /// For logs and tests.
    pub const fn name(self) -> &'static str {
        match self {
            Report::NoSnpEn => "no-snp-en",
            Report::RmpWrite => "rmp-write",
            Report::ForeignWrite => "foreign-write",
            Report::LargeWrite => "large-write",
        }
    }
}

/// How often something was reported of a CPU, and where it happened first.
#[repr(C)]
#[derive(Debug)]
pub struct Reported {
    /// How often it was seen. Writes are seen once per page and CPU until translations are flushed.
    pub count: AtomicU64,
    /// Address of the instruction, the first time.
    pub pc: AtomicU64,
    /// Physical address of the access, the first time.
    pub address: AtomicU64,
}

/// Registers of one CPU. The CPU model writes them; the PSP model only ever clears SNP_EN.
#[repr(C)]
#[derive(Debug)]
pub struct Cpu {
    /// 1 once the CPU exists and the fields below hold its values.
    pub present: AtomicU32,
    reserved: AtomicU32,
    /// MSR C0010010.
    pub syscfg: AtomicU64,
    /// MSR C0010117, VM_HSAVE_PA.
    pub hsave_pa: AtomicU64,
    /// MSR C0010015.
    pub hwcr: AtomicU64,
    /// How often this CPU executed WBINVD or WBNOINVD.
    pub wbinvd: AtomicU64,
    /// MSR C0010132, first byte of the RMP.
    pub rmp_base: AtomicU64,
    /// MSR C0010133, last byte of the RMP.
    pub rmp_end: AtomicU64,
    /// What the CPU did that it should not have done, by [`Report`].
    pub reports: [Reported; Report::ALL.len()],
    padding: [AtomicU64; 13],
}

/// Memory that one of the IOMMU's registers names.
#[repr(C)]
#[derive(Debug)]
pub struct IommuBuffer {
    /// Its first byte; 0 for none.
    pub base: AtomicU64,
    /// Its length in bytes.
    pub len: AtomicU64,
}

/// The shared page.
#[repr(C)]
pub struct Link {
    magic: AtomicU64,
    /// First byte of the RMP; 0 until the CPU model has started.
    pub rmp_base: AtomicU64,
    /// Last byte of the RMP.
    pub rmp_end: AtomicU64,
    /// Bytes of RAM below 4 GiB: up to here physical address and file offset are equal, what is
    /// mapped from 4 GiB up follows in the file.
    pub low: AtomicU64,
    /// 1 if the machine's IOMMU supports SNP and has it enabled.
    pub iommu_snp: AtomicU32,
    /// 1 from SNP_INIT until firmware clears SNP_EN, or a reset does. The PSP model writes it.
    pub snp_active: AtomicU32,
    reserved: [AtomicU64; 3],
    /// The IOMMU's event log, PPR log and completion-wait semaphore. The CPU model reads the IOMMU's
    /// registers when a CPU writes its caches back, which must be done before SNP_INIT.
    pub iommu: [IommuBuffer; 3],
    reserved2: [AtomicU64; 2],
    /// CPUs by QEMU's index.
    pub cpu: [Cpu; MAX_CPUS],
    /// One byte per 2 MiB region of memory (modulo [`RMP_LOCKS`]): 0 free, 1 held. The `rmp` crate
    /// takes and gives them.
    pub rmp_locks: [AtomicU8; RMP_LOCKS],
    padding: [AtomicU8; SIZE - 128 - MAX_CPUS * size_of::<Cpu>() - RMP_LOCKS],
}

const _: () = assert!(size_of::<Cpu>() == 256);
const _: () = assert!(size_of::<Link>() == SIZE);

impl Link {
    /// Marks a fresh (zeroed) page, or checks that it is one of this version. `Err` holds what was
    /// found instead.
    pub(crate) fn claim(&self) -> Result<(), u64> {
        match self.magic.compare_exchange(0, MAGIC, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(MAGIC) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Notes that something is to be reported of a CPU. True the first time, and then `at` is asked for the
    /// addresses of instruction and access.
    pub fn report(&self, cpu: usize, report: Report, at: impl FnOnce() -> (u64, u64)) -> bool {
        let reported = &self.cpu[cpu].reports[report as usize];
        let first = reported.count.fetch_add(1, Ordering::AcqRel) == 0;
        if first {
            let (pc, address) = at();
            reported.pc.store(pc, Ordering::Release);
            reported.address.store(address, Ordering::Release);
        }
        first
    }

    /// The CPUs that exist.
    pub fn present(&self) -> impl Iterator<Item = &Cpu> {
        self.cpu.iter().filter(|cpu| cpu.present.load(Ordering::Acquire) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit pattern is valid for the atomics that the page consists of.
    fn zeroed() -> Box<Link> {
        // SAFETY: Link consists of atomics only; all-zero bytes are a value of each.
        Box::new(unsafe { std::mem::zeroed() })
    }

    #[test]
    fn a_fresh_page_is_claimed_by_both_sides() {
        let link = zeroed();
        assert_eq!(link.claim(), Ok(()));
        assert_eq!(link.claim(), Ok(()));
        link.magic.store(MAGIC + 1, Ordering::Relaxed);
        assert_eq!(link.claim(), Err(MAGIC + 1));
    }

    #[test]
    fn a_report_is_counted_and_keeps_where_it_happened_first() {
        let link = zeroed();
        assert!(link.report(3, Report::RmpWrite, || (0x1000, 0x3800_0000)));
        assert!(!link.report(3, Report::RmpWrite, || (0x2000, 0x3800_1000)));
        let reported = &link.cpu[3].reports[1];
        let found = [&reported.count, &reported.pc, &reported.address];
        assert_eq!(found.map(|n| n.load(Ordering::Relaxed)), [2, 0x1000, 0x3800_0000]);
        for (n, report) in Report::ALL.into_iter().enumerate() {
            assert_eq!(report as usize, n);
        }
    }

    #[test]
    fn absent_cpus_are_not_listed() {
        let link = zeroed();
        assert_eq!(link.present().count(), 0);
        link.cpu[0].present.store(1, Ordering::Release);
        link.cpu[63].present.store(1, Ordering::Release);
        assert_eq!(link.present().count(), 2);
    }
}
