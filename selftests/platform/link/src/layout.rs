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

/// ASIDs that firmware can bind, and 0.
pub const ASIDS: usize = 128;

/// "LINK" and the version of this layout.
const MAGIC: u64 = 0x4b4e_494c_0000_0005;

/// MSRs without rules of their own that firmware compares between CPUs, with their names: memory
/// types and where memory ends. [`Cpu::config`] has their values in this order.
pub const CONFIG_MSRS: [(u32, &str); 34] = [
    (0x2ff, "MTRR_DEF_TYPE"),
    (0x250, "MTRR_FIX64K_00000"),
    (0x258, "MTRR_FIX16K_80000"),
    (0x259, "MTRR_FIX16K_A0000"),
    (0x268, "MTRR_FIX4K_C0000"),
    (0x269, "MTRR_FIX4K_C8000"),
    (0x26a, "MTRR_FIX4K_D0000"),
    (0x26b, "MTRR_FIX4K_D8000"),
    (0x26c, "MTRR_FIX4K_E0000"),
    (0x26d, "MTRR_FIX4K_E8000"),
    (0x26e, "MTRR_FIX4K_F0000"),
    (0x26f, "MTRR_FIX4K_F8000"),
    (0x200, "MTRR_PHYS_BASE0"),
    (0x201, "MTRR_PHYS_MASK0"),
    (0x202, "MTRR_PHYS_BASE1"),
    (0x203, "MTRR_PHYS_MASK1"),
    (0x204, "MTRR_PHYS_BASE2"),
    (0x205, "MTRR_PHYS_MASK2"),
    (0x206, "MTRR_PHYS_BASE3"),
    (0x207, "MTRR_PHYS_MASK3"),
    (0x208, "MTRR_PHYS_BASE4"),
    (0x209, "MTRR_PHYS_MASK4"),
    (0x20a, "MTRR_PHYS_BASE5"),
    (0x20b, "MTRR_PHYS_MASK5"),
    (0x20c, "MTRR_PHYS_BASE6"),
    (0x20d, "MTRR_PHYS_MASK6"),
    (0x20e, "MTRR_PHYS_BASE7"),
    (0x20f, "MTRR_PHYS_MASK7"),
    (0xc001_0016, "IORR_BASE0"),
    (0xc001_0017, "IORR_MASK0"),
    (0xc001_0018, "IORR_BASE1"),
    (0xc001_0019, "IORR_MASK1"),
    (0xc001_001a, "TOP_MEM"),
    (0xc001_001d, "TOP_MEM2"),
];

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
    /// It translates, with SNP_EN set, by a page table in a page that the RMP gives to firmware or
    /// a guest.
    TableWalk,
    /// A guest without SNP, on a CPU with SNP_EN set, writes to a page that the RMP gives to
    /// somebody else, or has page tables there.
    GuestWrite,
    /// VMRUN without a page for the host's state: VM_HSAVE_PA is 0, or names one that is given
    /// away.
    HostArea,
    /// VMRUN with a VMCB that is given away.
    ForeignVmcb,
    /// VMRUN, with SNP_EN set, with a VMCB or VMSA that starts 2 MiB.
    AlignedInUse,
    /// It has not executed WBINVD between the last write of software to the RMP and SNP_INIT: its
    /// caches may hold other entries than firmware's.
    StaleCache,
}

impl Report {
    /// Every kind, in the order of its number.
    pub const ALL: [Report; 10] = [
        Report::NoSnpEn,
        Report::RmpWrite,
        Report::ForeignWrite,
        Report::LargeWrite,
        Report::TableWalk,
        Report::GuestWrite,
        Report::HostArea,
        Report::ForeignVmcb,
        Report::AlignedInUse,
        Report::StaleCache,
    ];

    /// For logs and tests.
    pub const fn name(self) -> &'static str {
        match self {
            Report::NoSnpEn => "no-snp-en",
            Report::RmpWrite => "rmp-write",
            Report::ForeignWrite => "foreign-write",
            Report::LargeWrite => "large-write",
            Report::TableWalk => "table-walk",
            Report::GuestWrite => "guest-write",
            Report::HostArea => "host-area",
            Report::ForeignVmcb => "foreign-vmcb",
            Report::AlignedInUse => "aligned-in-use",
            Report::StaleCache => "stale-cache",
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
    /// How often this CPU executed WBINVD. WBNOINVD, which leaves lines where they are, is none.
    pub wbinvd: AtomicU64,
    /// MSR C0010132, first byte of the RMP.
    pub rmp_base: AtomicU64,
    /// MSR C0010133, last byte of the RMP.
    pub rmp_end: AtomicU64,
    /// What the CPU did that it should not have done, by [`Report`].
    pub reports: [Reported; Report::ALL.len()],
    /// MSR C0010136, which says whether the RMP is segmented.
    pub rmp_cfg: AtomicU64,
    /// The MSRs of [`CONFIG_MSRS`].
    pub config: [AtomicU64; CONFIG_MSRS.len()],
    /// How often this CPU executed RMPUPDATE, whatever came of it.
    pub rmpupdate: AtomicU64,
    /// The same of PSMASH.
    pub psmash: AtomicU64,
    /// What [`Link::rmp_written`] was when this CPU executed WBINVD last, or came into being.
    pub rmp_flushed: AtomicU64,
    padding: [AtomicU64; 5],
}

/// Whom an ASID is bound to, a byte of [`Link::asids`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bound {
    /// Nobody.
    Free = 0,
    /// A guest without SNP.
    Sev = 1,
    /// An SNP guest.
    Snp = 2,
}

/// A range of physical addresses.
#[repr(C)]
#[derive(Debug)]
pub struct Range {
    start: AtomicU64,
    /// The first byte behind it.
    end: AtomicU64,
}

impl Range {
    /// Another range; empty if `length` is 0.
    pub fn set(&self, start: u64, length: u64) {
        self.end.store(0, Ordering::Release);
        self.start.store(start, Ordering::Release);
        self.end.store(start.saturating_add(length), Ordering::Release);
    }

    /// Whether an address is in it.
    pub fn holds(&self, address: u64) -> bool {
        let (start, end) = (&self.start, &self.end);
        (start.load(Ordering::Acquire)..end.load(Ordering::Acquire)).contains(&address)
    }
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
    /// Bytes of RAM below 4 GiB: up to here physical address and file offset are equal, what is
    /// mapped from 4 GiB up follows in the file.
    pub low: AtomicU64,
    /// 1 if the machine's IOMMU supports SNP and has it enabled.
    pub iommu_snp: AtomicU32,
    /// 1 from SNP_INIT until firmware clears SNP_EN, or a reset does. The PSP model writes it.
    pub snp_active: AtomicU32,
    /// How many of the next RMPUPDATEs that give a page away find it HV-Fixed. Tests order it from
    /// the PSP model.
    pub refuse_rmpupdate: AtomicU64,
    /// How often firmware has given pages away that were the host's (SNP_INIT). A CPU model that
    /// sees it change empties TLBs. The PSP model counts it up, behind its changes of the RMP.
    pub pages_taken: AtomicU64,
    /// How often software has been seen to write to the RMP, before SNP is active. The CPU model
    /// counts it up: once for each page, between two WBINVDs of the CPU that writes.
    pub rmp_written: AtomicU64,
    /// Where RMPUPDATE is refused, whatever it is to do. Tests order it from the PSP model.
    pub no_rmpupdate: Range,
    /// The IOMMU's event log, PPR log and completion-wait semaphore. The CPU model reads the
    /// IOMMU's registers whenever a CPU has written to them.
    pub iommu: [IommuBuffer; 3],
    /// Where PSMASH is refused. Tests order it, too.
    pub no_psmash: Range,
    /// CPUs by QEMU's index.
    pub cpu: [Cpu; MAX_CPUS],
    /// One byte per 2 MiB region of memory (modulo [`RMP_LOCKS`]): 0 free, 1 held. The `rmp` crate
    /// takes and gives them.
    pub rmp_locks: [AtomicU8; RMP_LOCKS],
    /// Whom firmware has bound an ASID to ([`Bound`]). The PSP model writes it.
    pub asids: [AtomicU8; ASIDS],
    /// 1: the IOMMU does not say that it has got as far as a COMPLETION_WAIT. Tests order it, too.
    pub no_completion_wait: AtomicU8,
    padding: [AtomicU8; SIZE - 129 - MAX_CPUS * size_of::<Cpu>() - RMP_LOCKS - ASIDS],
}

const _: () = assert!(size_of::<Cpu>() == 640);
const _: () = assert!(size_of::<Link>() == SIZE);

/// How often all CPUs have executed an instruction since power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// RMPUPDATE, whatever came of it.
    pub rmpupdate: u64,
    /// PSMASH, the same.
    pub psmash: u64,
    /// WBINVD.
    pub wbinvd: u64,
}

impl Link {
    /// Marks a fresh (zeroed) page, or checks that it is one of this version. `Err` holds what was
    /// found instead.
    pub(crate) fn claim(&self) -> Result<(), u64> {
        match self.magic.compare_exchange(0, MAGIC, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(MAGIC) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// What all CPUs have executed.
    pub fn executed(&self) -> Executed {
        let sum = |count: fn(&Cpu) -> &AtomicU64| {
            self.present().map(|cpu| count(cpu).load(Ordering::Acquire)).sum()
        };
        Executed {
            rmpupdate: sum(|cpu| &cpu.rmpupdate),
            psmash: sum(|cpu| &cpu.psmash),
            wbinvd: sum(|cpu| &cpu.wbinvd),
        }
    }

    /// Notes that something is to be reported of a CPU. True the first time, and then `at` is asked
    /// for the addresses of instruction and access.
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

    /// Whether this RMPUPDATE is one of those that are to be refused, which it then no longer is.
    pub fn take_refusal(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.refuse_rmpupdate.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }

    /// Whom `asid` is bound to.
    pub fn bound(&self, asid: u32) -> Bound {
        let byte = self.asids.get(asid as usize).map(|byte| byte.load(Ordering::Acquire));
        [Bound::Sev, Bound::Snp]
            .into_iter()
            .find(|bound| Some(*bound as u8) == byte)
            .unwrap_or(Bound::Free)
    }

    /// Notes whom `asid` is bound to.
    pub fn bind(&self, asid: u32, bound: Bound) {
        if let Some(byte) = self.asids.get(asid as usize) {
            byte.store(bound as u8, Ordering::Release);
        }
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
    fn asids_are_bound_one_by_one() {
        let link = zeroed();
        link.bind(5, Bound::Snp);
        link.bind(60, Bound::Sev);
        link.bind(ASIDS as u32, Bound::Sev);
        assert_eq!(
            [4, 5, 60, 128].map(|asid| link.bound(asid)),
            [Bound::Free, Bound::Snp, Bound::Sev, Bound::Free]
        );
        link.bind(5, Bound::Free);
        assert_eq!(link.bound(5), Bound::Free);
    }

    #[test]
    fn ranges_hold_their_first_byte_and_not_the_one_behind() {
        let link = zeroed();
        assert!(!link.no_psmash.holds(0));
        link.no_psmash.set(0x20_0000, 0x1000);
        assert_eq!(
            [0x1f_ffff, 0x20_0000, 0x20_0fff, 0x20_1000].map(|at| link.no_psmash.holds(at)),
            [false, true, true, false]
        );
        assert!(!link.no_rmpupdate.holds(0x20_0000));
        link.no_psmash.set(0, 0);
        assert!(!link.no_psmash.holds(0x20_0000));
    }

    #[test]
    fn config_msrs_are_listed_once() {
        for (n, (number, name)) in CONFIG_MSRS.iter().enumerate() {
            let same = |row: &(u32, &str)| row.0 == *number || row.1 == *name;
            assert_eq!(CONFIG_MSRS.iter().position(same), Some(n), "{name}");
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
