// SPDX-License-Identifier: GPL-2.0
//! Which pages the IOMMU writes to. While SNP is up they are firmware's, so the PSP model must
//! know.
//!
//! Sources: the register offsets and fields in drivers/iommu/amd/amd_iommu_types.h; that the
//! exclusion range names the completion-wait semaphore if the IOMMU has SNP, in init.c
//! (iommu_set_cwwb_range); commands in iommu.c (build_completion_wait).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use link::Link;

use crate::acpi::Memory;
use crate::cpu::{Cpu, Reg};
use crate::insn::Kind;
use crate::model::Model;
use crate::msr::Msr;

const COMMAND_BUFFER: u64 = 0x08;
const EVENT_LOG: u64 = 0x10;
const EXCLUSION_BASE: u64 = 0x20;
const EXCLUSION_LIMIT: u64 = 0x28;
const PPR_LOG: u64 = 0x38;
/// The page of the registers in which the tails of the command buffer and the logs are.
const TAILS: u64 = 0x2000;

/// Bits 51:12 of all of these registers.
const PAGES: u64 = ((1 << 40) - 1) << 12;
/// A ring's bits 59:56: its length is 16 bytes times two to that power.
const LENGTH_SHIFT: u32 = 56;

/// A command's first 8 bytes: which it is in bits 63:60, and that of COMPLETION_WAIT, whose bit 0
/// has the end stored in memory.
const COMMAND_SHIFT: u32 = 60;
const COMPLETION_WAIT: u64 = 1;
const STORE: u64 = 1;
const COMMAND_BYTES: u64 = 16;

/// The memory that a register of a ring names, and its length in bytes.
fn ring(register: u64) -> (u64, u64) {
    (register & PAGES, COMMAND_BYTES << ((register >> LENGTH_SHIFT) & 0xf))
}

/// No COMPLETION_WAIT of this command buffer has its end stored.
fn withhold_ends(memory: &impl Memory, register: u64) {
    let (base, len) = ring(register);
    for at in (base..base + len).step_by(COMMAND_BYTES as usize) {
        let mut bytes = [0; 8];
        if !memory.read(at, &mut bytes) {
            return;
        }
        let word = u64::from_le_bytes(bytes);
        if word >> COMMAND_SHIFT == COMPLETION_WAIT && word & STORE != 0 {
            memory.write(at, &(word & !STORE).to_le_bytes());
        }
    }
}

/// Reads the IOMMU's registers at `registers` and puts what they name into the link page.
fn publish(memory: &impl Memory, registers: u64, link: &Link) {
    let read = |offset| {
        let mut bytes = [0; 8];
        memory.read(registers + offset, &mut bytes).then(|| u64::from_le_bytes(bytes)).unwrap_or(0)
    };
    let semaphore = read(EXCLUSION_BASE) & PAGES;
    let last = (read(EXCLUSION_LIMIT) & PAGES).max(semaphore);
    let found =
        [ring(read(EVENT_LOG)), ring(read(PPR_LOG)), (semaphore, last - semaphore + 0x1000)];
    for (buffer, (base, len)) in link.iommu.iter().zip(found) {
        buffer.len.store(len, Release);
        buffer.base.store(base, Release);
    }
}

impl Model<'_> {
    /// Whether the IOMMU's registers of which it reads are in this page.
    pub fn is_iommu(&self, page: u64) -> bool {
        page != 0 && page == self.iommu.load(Acquire)
    }

    /// Whether to look at its registers behind this instruction. Stores to them are noticed by the
    /// translation that they need, and one may have been there for a load; so they are looked at
    /// once more where software prepares for SNP_INIT, and once at the beginning.
    pub fn looks_at_iommu(&self, kind: Kind, cpu: &impl Cpu) -> bool {
        let at = self.iommu.load(Acquire);
        at != 0
            && match kind {
                Kind::Wbinvd => true,
                Kind::Wrmsr => Msr::from_number(cpu.get(Reg::Rcx) as u32) == Some(Msr::Syscfg),
                Kind::Cpuid => self.exclusion_base_at.load(Acquire) != at + EXCLUSION_BASE,
                _ => false,
            }
    }

    /// Where a register is to be put that keeps the exclusion base, if there is none there yet.
    pub fn lacks_exclusion_base(&self) -> Option<u64> {
        let at = self.iommu.load(Acquire) + EXCLUSION_BASE;
        (self.exclusion_base_at.swap(at, AcqRel) != at).then_some(at)
    }

    /// A CPU has written to them.
    pub fn iommu_written(&self, memory: &impl Memory) {
        let registers = self.iommu.load(Acquire);
        publish(memory, registers, self.link);
        let mut command_buffer = [0; 8];
        if memory.read(registers + COMMAND_BUFFER, &mut command_buffer) {
            self.command_buffer.store(u64::from_le_bytes(command_buffer), Release);
        }
    }

    /// Whether a CPU that writes to this page may have the IOMMU execute commands.
    pub fn is_iommu_tails(&self, page: u64) -> bool {
        let registers = self.iommu.load(Acquire);
        registers != 0 && page == registers + TAILS
    }

    /// A CPU is about to do so. On silicon the end of a COMPLETION_WAIT does not arrive if the RMP
    /// forbids the IOMMU to write to the semaphore; tests order it.
    pub fn iommu_executes(&self, memory: &impl Memory) {
        if self.link.no_completion_wait.load(Acquire) != 0 {
            withhold_ends(memory, self.command_buffer.load(Acquire));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::testing::{machine, Fake};

    #[test]
    fn they_are_looked_at_where_software_prepares() {
        let model = machine(false);
        let cpu = |msr: u64| Fake::new(&[(Reg::Rcx, msr)]);
        assert!(!model.looks_at_iommu(Kind::Wbinvd, &cpu(0)), "there is none");
        model.iommu.store(0xfed8_0000, Relaxed);
        assert!(model.looks_at_iommu(Kind::Cpuid, &cpu(0)));
        assert_eq!(model.lacks_exclusion_base(), Some(0xfed8_0020));
        for (kind, msr, looks) in [
            (Kind::Cpuid, 0, false),
            (Kind::Wbinvd, 0, true),
            (Kind::Wbnoinvd, 0, false),
            (Kind::Wrmsr, 0xc001_0010, true),
            (Kind::Wrmsr, 0xc001_0015, false),
            (Kind::Rdmsr, 0xc001_0010, false),
        ] {
            assert_eq!(model.looks_at_iommu(kind, &cpu(msr)), looks, "{kind:?} {msr:#x}");
        }
    }

    struct Registers(Vec<(u64, u64)>);

    impl Memory for Registers {
        fn read(&self, pa: u64, bytes: &mut [u8]) -> bool {
            let found = self.0.iter().find(|row| row.0 + 0xfed8_0000 == pa).map(|row| row.1);
            bytes.copy_from_slice(&found.unwrap_or(0).to_le_bytes());
            found.is_some()
        }

        fn write(&self, _: u64, _: &[u8]) -> bool {
            unreachable!("nothing is to be written")
        }
    }

    /// Four commands at 0x1000.
    struct Commands(RefCell<[u8; 64]>);

    impl Memory for Commands {
        fn read(&self, pa: u64, bytes: &mut [u8]) -> bool {
            let at = (pa - 0x1000) as usize;
            bytes.copy_from_slice(&self.0.borrow()[at..at + bytes.len()]);
            true
        }

        fn write(&self, pa: u64, bytes: &[u8]) -> bool {
            let at = (pa - 0x1000) as usize;
            self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
            true
        }
    }

    #[test]
    fn ends_are_withheld_of_completion_waits_alone() {
        let wait = 0x1000_0000_0213_1001u64;
        let before = [wait, 5, 0x2000_0000_0000_0001, 1, wait & !STORE, 6, wait, 7];
        let bytes = before.map(u64::to_le_bytes).concat();
        let commands = Commands(RefCell::new(bytes.try_into().unwrap()));
        // Four entries.
        withhold_ends(&commands, 0x0200_0000_0000_1000);
        let found = commands.0.into_inner();
        let found = found.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let mut after = before;
        (after[0], after[6]) = (wait & !STORE, wait & !STORE);
        assert_eq!(found.collect::<Vec<_>>(), after);
    }

    #[test]
    fn what_linux_programs_is_found() {
        // SAFETY: a Link consists of atomics; all-zero bytes are a value of each.
        let link: Box<Link> = Box::new(unsafe { std::mem::zeroed() });
        let linux = [
            (EVENT_LOG, 0x0f00_0000_0208_0000),
            (PPR_LOG, 0x0900_0000_0210_0000),
            (EXCLUSION_BASE, 0x0000_0000_0213_1000),
            (EXCLUSION_LIMIT, 0x0000_0000_0213_1000),
        ];
        publish(&Registers(linux.to_vec()), 0xfed8_0000, &link);
        let found = link.iommu.each_ref().map(|b| (b.base.load(Relaxed), b.len.load(Relaxed)));
        assert_eq!(found, [(0x208_0000, 512 << 10), (0x210_0000, 8 << 10), (0x213_1000, 0x1000)]);
    }
}
