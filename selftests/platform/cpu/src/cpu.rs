// SPDX-License-Identifier: GPL-2.0
//! A CPU that is about to execute an instruction, and what may become of that.

use crate::acpi;
use crate::writable::Alias;

/// A register that the model reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reg {
    /// RAX.
    Rax,
    /// RBX.
    Rbx,
    /// RCX.
    Rcx,
    /// RDX.
    Rdx,
    /// CS, the selector.
    Cs,
    /// CR0.
    Cr0,
    /// EFER.
    Efer,
}

impl Reg {
    /// Every register with QEMU's name for it, in the order of the enum.
    pub const ALL: [(Reg, &'static str); 7] = [
        (Reg::Rax, "rax"),
        (Reg::Rbx, "rbx"),
        (Reg::Rcx, "rcx"),
        (Reg::Rdx, "rdx"),
        (Reg::Cs, "cs"),
        (Reg::Cr0, "cr0"),
        (Reg::Efer, "efer"),
    ];
}

/// The CPU that is about to execute an instruction. It is not inside a guest of its own: those
/// instructions are for TCG's intercepts.
pub trait Cpu: acpi::Memory {
    /// QEMU's number of the CPU, below [`link::MAX_CPUS`].
    fn index(&self) -> usize;
    /// A register.
    fn get(&self, reg: Reg) -> u64;
    /// Reads 16 bytes at a virtual address; false if it is not mapped.
    fn read_virtual(&self, address: u64, bytes: &mut [u8; 16]) -> bool;
    /// Writes 16 bytes at a virtual address; false if it is not mapped.
    fn write_virtual(&self, address: u64, bytes: &[u8; 16]) -> bool;
    /// Where the instruction is.
    fn pc(&self) -> u64;
    /// Empties this CPU's TLB.
    fn flush_translations(&self);
    /// Empties all CPUs' TLBs, before the next instruction of this one.
    fn flush_all_translations(&self);
    /// Empties another CPU's TLB, likewise.
    fn flush_translations_of(&self, cpu: usize);
    /// Makes translations in this CPU's TLB read-only, if they lead to this page.
    fn protect(&self, alias: Alias, page: u64);

    /// Current privilege level. In real mode CS holds no level, and the level is 0.
    fn cpl(&self) -> u64 {
        const PE: u64 = 1;
        if self.get(Reg::Cr0) & PE == 0 {
            0
        } else {
            self.get(Reg::Cs) & 3
        }
    }
}

/// Why an instruction raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Fault {
    /// CPL is not 0.
    Privilege,
    /// Its operand in memory is not mapped. A processor raises #PF; no host does this on purpose.
    Operand,
    /// An MSR does not take the value, or not now.
    Msr,
    /// VMRUN of a VMCB that the RMP gives to firmware or a guest.
    Vmcb,
}

impl Fault {
    /// Every reason, in the order of its number.
    pub const ALL: [Fault; 4] = [Fault::Privilege, Fault::Operand, Fault::Msr, Fault::Vmcb];

    /// For the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Privilege => "privilege",
            Fault::Operand => "operand",
            Fault::Msr => "msr",
            Fault::Vmcb => "vmcb",
        }
    }
}

/// What becomes of the instruction. Plain data: what carries it out leaves by `longjmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// TCG executes it.
    Native,
    /// Executed: write these registers and go on after it.
    Retire([Option<(Reg, u64)>; 4]),
    /// #GP(0).
    GeneralProtection,
}

impl Outcome {
    /// Executed, with these registers changed.
    pub fn retire<const N: usize>(registers: [(Reg, u64); N]) -> Outcome {
        const { assert!(N <= 4) };
        let mut all = [None; 4];
        for (slot, register) in all.iter_mut().zip(registers) {
            *slot = Some(register);
        }
        Outcome::Retire(all)
    }
}
