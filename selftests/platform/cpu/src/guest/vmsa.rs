// SPDX-License-Identifier: GPL-2.0
//! The VMSA: what VMRUN loads from it and #VMEXIT saves to it. TCG's VMRUN knows the VMCB's save
//! area only, which has the same layout as far as it goes; the rest are [`Registers`].

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{save, vmcb};
use crate::ram::Ram;

/// RAX's and RSP's numbers: those two TCG's VMRUN and #VMEXIT take care of.
const RAX: usize = 0;
const RSP: usize = 4;

/// Registers that TCG's VMRUN leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// RAX to R15 by number; RAX and RSP are ignored.
    pub gpr: [u64; 16],
    pub xcr0: u64,
    pub pkru: u32,
    pub pat: u64,
    /// DR0 to DR3.
    pub dr: [u64; 4],
    pub fpu: Fpu,
}

/// x87, SSE and AVX state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fpu {
    pub control: u16,
    /// With the top of the stack in bits 13:11.
    pub status: u16,
    /// Bit n: physical register n is not empty.
    pub used: u8,
    pub opcode: u16,
    pub instruction: u64,
    pub data: u64,
    /// ST(0) to ST(7).
    pub st: [[u8; 10]; 8],
    pub mxcsr: u32,
    pub xmm: [[u8; 16]; 16],
    /// The upper halves.
    pub ymm: [[u8; 16]; 16],
}

impl Fpu {
    /// After FNINIT, with empty registers.
    pub const INITIAL: Fpu = Fpu {
        control: 0x37f,
        status: 0,
        used: 0,
        opcode: 0,
        instruction: 0,
        data: 0,
        st: [[0; 10]; 8],
        mxcsr: 0x1f80,
        xmm: [[0; 16]; 16],
        ymm: [[0; 16]; 16],
    };
}

/// A copy of the VMSA.
pub struct Vmsa {
    bytes: [u8; save::END],
}

impl Vmsa {
    /// Reads it; none if it is not a page of RAM.
    pub fn read(ram: &Ram, pa: u64) -> Option<Vmsa> {
        let words = ram.slice(pa, save::END as u64)?;
        let mut bytes = [0; save::END];
        for (to, from) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&from.load(Acquire).to_le_bytes());
        }
        Some(Vmsa { bytes })
    }

    /// Writes it back.
    pub fn write(&self, ram: &Ram, pa: u64) {
        let Some(words) = ram.slice(pa, save::END as u64) else { return };
        for (from, to) in self.bytes.chunks_exact(8).zip(words) {
            to.store(u64_at(from, 0), Release);
        }
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A field of eight bytes.
    pub fn quad(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    /// Changes a field of eight bytes.
    pub fn set_quad(&mut self, at: usize, value: u64) {
        self.set(at, &value.to_le_bytes());
    }

    /// The VMPL that it belongs to.
    pub fn vmpl(&self) -> u8 {
        self.bytes[save::VMPL]
    }

    /// What the VMCB's save area has as well goes there.
    pub fn to_vmcb(&self, ram: &Ram, vmcb: u64) {
        let area = ram.slice(vmcb + vmcb::SAVE, save::COMMON_END as u64).unwrap_or_default();
        for (to, from) in area.iter().zip(self.bytes.chunks_exact(8)) {
            to.store(u64_at(from, 0), Relaxed);
        }
    }

    /// And comes back from there.
    pub fn take_from_vmcb(&mut self, ram: &Ram, vmcb: u64) {
        let area = ram.slice(vmcb + vmcb::SAVE, save::COMMON_END as u64).unwrap_or_default();
        for (from, to) in area.iter().zip(self.bytes.chunks_exact_mut(8)) {
            to.copy_from_slice(&from.load(Relaxed).to_le_bytes());
        }
    }

    /// The registers in it.
    pub fn registers(&self) -> Registers {
        let short = |at| u16::from_le_bytes(self.array(at));
        let st = |n| {
            let mut st = [0; 10];
            st[..8].copy_from_slice(&self.array::<8>(save::X87 + 8 * n));
            st[8..].copy_from_slice(&self.array::<2>(save::X87 + 64 + 2 * n));
            st
        };
        Registers {
            gpr: std::array::from_fn(|n| self.quad(save::GPRS + 8 * n)),
            xcr0: self.quad(save::XCR0),
            pkru: u32::from_le_bytes(self.array(save::PKRU)),
            pat: self.quad(save::PAT),
            dr: std::array::from_fn(|n| self.quad(save::DR0 + 8 * n)),
            fpu: Fpu {
                control: short(save::X87_FCW),
                status: short(save::X87_FSW),
                used: self.bytes[save::X87_FTW],
                opcode: short(save::X87_FOP),
                instruction: self.quad(save::X87_RIP),
                data: self.quad(save::X87_DP),
                st: std::array::from_fn(st),
                mxcsr: u32::from_le_bytes(self.array(save::MXCSR)),
                xmm: std::array::from_fn(|n| self.array(save::XMM + 16 * n)),
                ymm: std::array::from_fn(|n| self.array(save::YMM + 16 * n)),
            },
        }
    }

    /// Puts them into it.
    pub fn set_registers(&mut self, registers: &Registers) {
        for (n, value) in registers.gpr.iter().enumerate().filter(|(n, _)| ![RAX, RSP].contains(n))
        {
            self.set_quad(save::GPRS + 8 * n, *value);
        }
        self.set_quad(save::XCR0, registers.xcr0);
        self.set(save::PKRU, &registers.pkru.to_le_bytes());
        self.set_quad(save::PAT, registers.pat);
        for (n, value) in registers.dr.iter().enumerate() {
            self.set_quad(save::DR0 + 8 * n, *value);
        }
        let fpu = &registers.fpu;
        self.set(save::X87_FCW, &fpu.control.to_le_bytes());
        self.set(save::X87_FSW, &fpu.status.to_le_bytes());
        self.set(save::X87_FTW, &[fpu.used, 0]);
        self.set(save::X87_FOP, &fpu.opcode.to_le_bytes());
        self.set_quad(save::X87_RIP, fpu.instruction);
        self.set_quad(save::X87_DP, fpu.data);
        self.set(save::MXCSR, &fpu.mxcsr.to_le_bytes());
        for (n, st) in fpu.st.iter().enumerate() {
            self.set(save::X87 + 8 * n, &st[..8]);
            self.set(save::X87 + 64 + 2 * n, &st[8..]);
        }
        for (n, (xmm, ymm)) in fpu.xmm.iter().zip(&fpu.ymm).enumerate() {
            self.set(save::XMM + 16 * n, xmm);
            self.set(save::YMM + 16 * n, ymm);
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut quad = [0; 8];
    quad.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(quad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 0x3000;
    const VMCB: u64 = 0x5000;

    /// A VMSA whose bytes all differ from their neighbours.
    fn filled() -> (Ram, Vmsa) {
        let ram = Ram::for_test(0x10_0000, 0x10_0000);
        let bytes = std::array::from_fn(|n| (n * 7 + n / 256) as u8);
        let vmsa = Vmsa { bytes };
        vmsa.write(&ram, PAGE);
        (ram, vmsa)
    }

    #[test]
    fn what_is_loaded_is_what_is_saved() {
        let (ram, mut vmsa) = filled();
        // The upper half of the abridged tag word is reserved.
        vmsa.bytes[save::X87_FTW + 1] = 0;
        let before = vmsa.bytes;
        let registers = vmsa.registers();
        vmsa.set_registers(&registers);
        assert!(vmsa.bytes == before);
        vmsa.write(&ram, PAGE);
        assert!(Vmsa::read(&ram, PAGE).unwrap().bytes == before);
    }

    #[test]
    fn registers_are_where_the_kernel_has_them() {
        let (_, mut vmsa) = filled();
        let mut registers = vmsa.registers();
        registers.gpr = std::array::from_fn(|n| n as u64);
        registers.fpu.st[1] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let (rax, hole) = (vmsa.quad(0x1f8), vmsa.quad(0x320));
        vmsa.set_registers(&registers);
        assert_eq!((vmsa.quad(0x308), vmsa.quad(0x378)), (1, 15), "RCX and R15");
        assert_eq!((vmsa.quad(0x1f8), vmsa.quad(0x320)), (rax, hole), "not ours");
        assert_eq!(vmsa.bytes[0x428..0x430], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(vmsa.bytes[0x462..0x464], [9, 10]);
    }

    #[test]
    fn the_common_part_goes_to_the_vmcb_and_back() {
        let (ram, mut vmsa) = filled();
        vmsa.to_vmcb(&ram, VMCB);
        let rip = ram.word(VMCB + 0x578).unwrap();
        assert_eq!(rip.load(Relaxed), vmsa.quad(save::RIP));
        rip.store(0x1234, Relaxed);
        let before = vmsa.bytes;
        vmsa.take_from_vmcb(&ram, VMCB);
        assert_eq!(vmsa.quad(save::RIP), 0x1234);
        vmsa.set_quad(save::RIP, u64_at(&before, save::RIP));
        assert!(vmsa.bytes == before, "nothing else changes");
        assert_eq!(ram.word(VMCB + 0x400 + save::COMMON_END as u64).unwrap().load(Relaxed), 0);
    }

    #[test]
    fn a_vmsa_must_lie_in_ram() {
        let (ram, _) = filled();
        assert!(Vmsa::read(&ram, u64::MAX & !0xfff).is_none());
        assert!(Vmsa::read(&ram, 0x10_0000).is_none());
    }
}
