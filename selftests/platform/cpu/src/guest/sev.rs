// SPDX-License-Identifier: GPL-2.0
//! Guests with encrypted memory whose registers the hypervisor sees (SEV without ES). TCG runs them
//! as it runs any guest; what it does not know is what an exit must tell a hypervisor that cannot
//! read the guest's memory. KVM needs the bytes of an instruction that touched a device, the
//! address behind one that it has emulated, and the operands of accesses to control and debug
//! registers.
//!
//! Sources: `svm_check_emulate_instruction`, `svm_skip_emulated_instruction`, `cr_interception` and
//! `dr_interception` in arch/x86/kvm/svm/svm.c; `struct vmcb_control_area` in asm/svm.h; exit codes
//! in uapi/asm/svm.h.

use std::sync::atomic::Ordering::{Relaxed, Release};

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use super::layout::{exit, fault, misc, save, vmcb, C_BIT};
use super::walk::{Nested, Paging, EFER_LMA};
use crate::ram::Ram;

/// What a processor fetches at most.
const LONGEST: u64 = 15;
/// EXIT_INFO_1 of an exit for a control register: it was a MOV, and the other register's number is
/// in the low bits.
const MOV: u64 = 1 << 63;
/// The first word of a segment in the save area: selector, attributes, limit. CS.L and CS.D.
const CODE_64: u64 = 1 << (16 + 9);
const CODE_32: u64 = 1 << (16 + 10);

/// Whether this VMCB is for a guest with encrypted memory. (Those with encrypted registers are
/// recognised before.)
pub(super) fn is_vmcb(ram: &Ram, vmcb: u64) -> bool {
    vmcb % 4096 == 0 && load(ram, vmcb + vmcb::MISC_CTL) & misc::SEV != 0
}

/// Completes what TCG's #VMEXIT has written.
pub(super) fn leave(ram: &Ram, vmcb: u64) {
    let field = |offset| load(ram, vmcb + offset);
    let code = field(vmcb::EXIT_CODE);
    let (mut shown, mut behind) = (Vec::new(), 0);
    if code == exit::NPF {
        // Where the hypervisor's nested tables have the page there is no C-bit.
        store(ram, vmcb + vmcb::EXIT_INFO_2, field(vmcb::EXIT_INFO_2) & !C_BIT);
        if field(vmcb::EXIT_INFO_1) & fault::FETCH == 0 {
            shown = Code::of(ram, vmcb).bytes;
        }
    } else if is_instruction(code) {
        if let Some(instruction) = Code::of(ram, vmcb).decode() {
            behind = instruction.next_ip();
            if let Some(operand) = moved(code, &instruction) {
                store(ram, vmcb + vmcb::EXIT_INFO_1, operand);
            }
            if code == exit::CR0_READ {
                store(ram, vmcb + vmcb::EXIT_CODE, code + control_register(&instruction));
            }
        }
    }
    store(ram, vmcb + vmcb::NEXT_RIP, behind);
    // How many bytes, and the bytes.
    let mut fetched = [0; 16];
    fetched[0] = shown.len() as u8;
    fetched[1..=shown.len()].copy_from_slice(&shown);
    for (at, word) in (vmcb::FETCHED..).step_by(8).zip(fetched.chunks_exact(8)) {
        store(ram, vmcb + at, u64::from_le_bytes(std::array::from_fn(|n| word[n])));
    }
}

/// What lies at a guest's RIP.
struct Code {
    bytes: Vec<u8>,
    rip: u64,
    /// Of the code segment: 16, 32 or 64.
    bits: u32,
}

impl Code {
    /// After #VMEXIT, from the VMCB's save area.
    fn of(ram: &Ram, vmcb: u64) -> Code {
        let save = |offset: usize| load(ram, vmcb + vmcb::SAVE + offset as u64);
        let (cr0, cr3) = (save(save::CR0), save(save::CR3));
        let paging = Paging { cr0, cr3, cr4: save(save::CR4), efer: save(save::EFER) };
        let (cs, rip) = (save(save::CS), save(save::RIP));
        let bits = match (paging.efer & EFER_LMA != 0 && cs & CODE_64 != 0, cs & CODE_32 != 0) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        };
        let start = match bits {
            64 => rip,
            _ => save(save::CS + 8).wrapping_add(rip) & 0xffff_ffff,
        };
        let nested = Nested { ram, cr3: load(ram, vmcb + vmcb::NESTED_CR3) };
        let byte = |n| paging.byte(nested, start.wrapping_add(n));
        Code { bytes: (0..LONGEST).map_while(byte).collect(), rip, bits }
    }

    fn decode(&self) -> Option<Instruction> {
        let mut decoder = Decoder::with_ip(self.bits, &self.bytes, self.rip, DecoderOptions::NONE);
        Some(decoder.decode()).filter(|instruction| !instruction.is_invalid())
    }
}

/// Whether the exit stands for an instruction that the hypervisor is to carry out.
fn is_instruction(code: u64) -> bool {
    matches!(code, exit::CR0_READ..=exit::DR15_WRITE | exit::CR0_SEL_WRITE..=exit::MSR | exit::VMRUN..=exit::RDPRU)
}

/// EXIT_INFO_1 for a MOV from or to a control or debug register.
fn moved(code: u64, instruction: &Instruction) -> Option<u64> {
    let mov = match code {
        exit::CR0_READ..=exit::CR15_WRITE | exit::CR0_SEL_WRITE => MOV,
        exit::DR0_READ..=exit::DR15_WRITE => 0,
        _ => return None,
    };
    let mut operands = (0..instruction.op_count()).map(|n| instruction.op_register(n));
    let register = operands.find(|register| register.is_gpr())?;
    (instruction.mnemonic() == Mnemonic::Mov).then(|| mov | register.number() as u64)
}

/// Which control register is read: QEMU 11.1 says CR0, whichever it is.
fn control_register(instruction: &Instruction) -> u64 {
    let source = instruction.op1_register();
    if source.is_cr() {
        source.number() as u64
    } else {
        0 // SMSW
    }
}

fn load(ram: &Ram, pa: u64) -> u64 {
    ram.word(pa).map_or(0, |word| word.load(Relaxed))
}

fn store(ram: &Ram, pa: u64, value: u64) {
    if let Some(word) = ram.word(pa) {
        word.store(value, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VMCB: u64 = 0x1000;
    const NESTED: u64 = 0x2000;
    /// The guest's pages 0 and 1.
    const PAGE: u64 = 0x8000;
    const RIP: u64 = 0x100;

    fn put(ram: &Ram, pa: u64, value: u64) {
        store(ram, pa, value);
    }

    /// A guest without paging that left at `code`, with what EXIT_CODE and EXIT_INFO_1 say.
    fn left(code: &[u8], rip: u64, cs: u64, exit_code: u64, info_1: u64) -> Ram {
        let ram = Ram::for_test(0x10_0000, 0x10_0000);
        for level in 0..3 {
            put(&ram, NESTED + level * 0x1000, (NESTED + (level + 1) * 0x1000) | 7);
        }
        put(&ram, NESTED + 0x3000, PAGE | 7);
        for (n, byte) in code.iter().enumerate() {
            let pa = PAGE + rip + n as u64;
            let word = load(&ram, pa & !7) | u64::from(*byte) << ((pa & 7) * 8);
            put(&ram, pa & !7, word);
        }
        for (offset, value) in [
            (vmcb::MISC_CTL, misc::NESTED_PAGING | misc::SEV),
            (vmcb::NESTED_CR3, NESTED),
            (vmcb::EXIT_CODE, exit_code),
            (vmcb::EXIT_INFO_1, info_1),
            (vmcb::EXIT_INFO_2, 0x7000 | C_BIT),
            (vmcb::NEXT_RIP, 0x5555),
            (vmcb::FETCHED, 0x5555),
            (vmcb::SAVE + save::CR0 as u64, 1),
            (vmcb::SAVE + save::EFER as u64, EFER_LMA),
            (vmcb::SAVE + save::CS as u64, cs),
            (vmcb::SAVE + save::RIP as u64, rip),
        ] {
            put(&ram, VMCB + offset, value);
        }
        assert!(is_vmcb(&ram, VMCB));
        leave(&ram, VMCB);
        ram
    }

    #[test]
    fn instructions_are_skipped_with_next_rip() {
        /// Name, exit code, code, its segment, its length, EXIT_INFO_1 (2 before).
        type Row = (&'static str, u64, &'static [u8], u64, u64, u64);
        let rows: [Row; 13] = [
            ("CPUID", 0x72, &[0x0f, 0xa2], CODE_64, 2, 2),
            ("RDMSR", 0x7c, &[0x0f, 0x32], CODE_64, 2, 2),
            ("HLT", 0x78, &[0xf4], CODE_64, 1, 2),
            ("PAUSE", 0x77, &[0xf3, 0x90], CODE_64, 2, 2),
            ("INVLPG [RAX+8]", 0x79, &[0x0f, 0x01, 0x78, 0x08], CODE_64, 4, 2),
            ("MOV CR4, R9", 0x14, &[0x41, 0x0f, 0x22, 0xe1], CODE_64, 4, MOV | 9),
            ("MOV RBX, CR0", 0x00, &[0x0f, 0x20, 0xc3], CODE_64, 3, MOV | 3),
            ("MOV CR0, RAX", 0x65, &[0x0f, 0x22, 0xc0], CODE_64, 3, MOV),
            ("CLTS", 0x65, &[0x0f, 0x06], CODE_64, 2, 2),
            ("MOV DR7, RCX", 0x37, &[0x0f, 0x23, 0xf9], CODE_64, 3, 1),
            ("INC EAX and CPUID, 64 bits", 0x72, &[0x40, 0x0f, 0xa2], CODE_64, 3, 2),
            ("INC EAX, 32 bits", 0x72, &[0x40, 0x0f, 0xa2], CODE_32, 1, 2),
            ("PUSH ES, which 64 bits do not have", 0x72, &[0x06], CODE_64, 0, 2),
        ];
        for (name, code, bytes, cs, length, info_1) in rows {
            let ram = left(bytes, RIP, cs, code, 2);
            let next = if length == 0 { 0 } else { RIP + length };
            assert_eq!(load(&ram, VMCB + vmcb::NEXT_RIP), next, "{name}");
            assert_eq!(load(&ram, VMCB + vmcb::EXIT_INFO_1), info_1, "{name}");
            assert_eq!(load(&ram, VMCB + vmcb::FETCHED), 0, "{name}");
        }
    }

    #[test]
    fn reads_of_control_registers_are_told_apart() {
        /// Name, code, exit code for CR0_READ.
        type Row = (&'static str, &'static [u8], u64);
        let rows: [Row; 4] = [
            ("MOV RAX, CR0", &[0x0f, 0x20, 0xc0], exit::CR0_READ),
            ("MOV RAX, CR4", &[0x0f, 0x20, 0xe0], exit::CR0_READ + 4),
            ("MOV RCX, CR8", &[0x44, 0x0f, 0x20, 0xc1], exit::CR0_READ + 8),
            ("SMSW AX", &[0x66, 0x0f, 0x01, 0xe0], exit::CR0_READ),
        ];
        for (name, bytes, code) in rows {
            let ram = left(bytes, RIP, CODE_64, exit::CR0_READ, 2);
            assert_eq!(load(&ram, VMCB + vmcb::EXIT_CODE), code, "{name}");
        }
    }

    #[test]
    fn other_exits_have_no_next_rip() {
        for code in [0x4e, exit::INTR, exit::VINTR, 0x7d, 0x7e, exit::SHUTDOWN, exit::INVALID] {
            let ram = left(&[0x0f, 0xa2], RIP, CODE_64, code, 0);
            assert_eq!(load(&ram, VMCB + vmcb::NEXT_RIP), 0, "{code:#x}");
            assert_eq!(load(&ram, VMCB + vmcb::EXIT_INFO_2), 0x7000 | C_BIT, "{code:#x}");
        }
    }

    #[test]
    fn nested_faults_show_the_instruction_and_no_c_bit() {
        let code: Vec<u8> = (1..=20).collect();
        let ram = left(&code, RIP, CODE_64, exit::NPF, fault::FINAL);
        let words = [load(&ram, VMCB + vmcb::FETCHED), load(&ram, VMCB + vmcb::FETCHED + 8)];
        assert_eq!(words, [0x0706_0504_0302_010f, 0x0f0e_0d0c_0b0a_0908]);
        assert_eq!(load(&ram, VMCB + vmcb::EXIT_INFO_2), 0x7000);
        assert_eq!(load(&ram, VMCB + vmcb::NEXT_RIP), 0);
        // Of code that ends where nothing is mapped there is less to see, and of code that is not
        // there nothing.
        let ram = left(&code[..3], 0xffd, CODE_64, exit::NPF, fault::FINAL);
        assert_eq!(load(&ram, VMCB + vmcb::FETCHED), 0x0302_0103);
        let ram = left(&code, RIP, CODE_64, exit::NPF, fault::FINAL | fault::FETCH);
        assert_eq!(load(&ram, VMCB + vmcb::FETCHED), 0);
    }

    #[test]
    fn other_vmcbs_are_not_meant() {
        let ram = Ram::for_test(0x10_0000, 0x10_0000);
        put(&ram, VMCB + vmcb::MISC_CTL, misc::NESTED_PAGING);
        assert!(!is_vmcb(&ram, VMCB));
        put(&ram, VMCB + vmcb::MISC_CTL, misc::SEV);
        assert!(
            is_vmcb(&ram, VMCB) && !is_vmcb(&ram, VMCB + 8) && !is_vmcb(&ram, u64::MAX & !0xfff)
        );
    }
}
