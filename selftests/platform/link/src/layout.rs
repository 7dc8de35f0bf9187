// SPDX-License-Identifier: GPL-2.0
//! What is where in the shared page.

use std::mem::size_of;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};

/// Size of the file.
pub const SIZE: usize = 64 << 10;
/// CPUs that have a slot.
pub const MAX_CPUS: usize = 64;
/// Lock bytes. Regions share them modulo this number, so any amount of RAM works.
pub const RMP_LOCKS: usize = 32 << 10;
/// SYSCFG bit 24, SecureNestedPagingEn.
pub const SNP_EN: u64 = 1 << 24;

/// "LINK" and the version of this layout.
const MAGIC: u64 = 0x4b4e_494c_0000_0001;

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
    reserved2: AtomicU64,
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
    reserved: [AtomicU32; 7],
    /// CPUs by QEMU's index.
    pub cpu: [Cpu; MAX_CPUS],
    /// One byte per 2 MiB region of memory (modulo [`RMP_LOCKS`]): 0 free, 1 held. The `rmp` crate
    /// takes and gives them.
    pub rmp_locks: [AtomicU8; RMP_LOCKS],
    padding: [AtomicU8; SIZE - 64 - MAX_CPUS * size_of::<Cpu>() - RMP_LOCKS],
}

const _: () = assert!(size_of::<Cpu>() == 64);
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
    fn absent_cpus_are_not_listed() {
        let link = zeroed();
        assert_eq!(link.present().count(), 0);
        link.cpu[0].present.store(1, Ordering::Release);
        link.cpu[63].present.store(1, Ordering::Release);
        assert_eq!(link.present().count(), 2);
    }
}
