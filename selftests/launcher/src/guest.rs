// SPDX-License-Identifier: GPL-2.0
//! A guest of 64-bit code that reports in which vCPUs it runs.
//!
//! The boot vCPU waits until the VMM has said how many there are. Then it starts the others one
//! after the other by AP_CREATE, each with a VMSA that it makes from a template (at 0x40000 and
//! following), and waits for each to say that it runs. In the end it asks to be terminated: code 1
//! if all is well, 2 if not, 0x80 and more for an exception that it did not expect. Without a VMSA
//! in the image the VMM sets the registers of all vCPUs, and the others only say that they run.

use core::arch::global_asm;

/// Guest physical addresses, which are virtual ones as well.
pub mod at {
    pub const PML4: u64 = 0x1000;
    pub const PDPT: u64 = 0x2000;
    pub const PD: u64 = 0x3000;
    pub const PT: u64 = 0x4000;
    /// GDT and IDT.
    pub const TABLES: u64 = 0x5000;
    pub const CODE: u64 = 0x6000;
    pub const STACK: u64 = 0x7000;
    /// The boot vCPU's VMSA.
    pub const VMSA: u64 = 0x8000;
    /// From here on VMSAs of others, if the image has any.
    pub const MORE_VMSAS: u64 = 0xa000;
    /// What the VMSAs of the others are made from.
    pub const TEMPLATE: u64 = 0x9000;
    pub const GHCB: u64 = 0x20000;
    /// Shared: at 0 how many vCPUs there are, for which the boot vCPU waits, at 8 the first of them
    /// to be started (both from the VMM), from MARKS on a byte for each that runs.
    pub const REPORT: u64 = 0x21000;
    pub const MARKS: usize = 0x100;
    /// Virtual addresses from here on are the same memory, shared.
    pub const ALIAS: u64 = 0x100000;
}

/// All of the guest's memory.
pub const MEMORY: u64 = 2 << 20;
/// There is room for so many vCPUs.
pub const MAX_VCPUS: u64 = 128;

global_asm!(
    r#"
    .macro ask
        mov $0xc0010130, %ecx
        wrmsr
        .byte 0xf3, 0x0f, 0x01, 0xd9    /* VMGEXIT */
        rdmsr
    .endm
    .macro ghcb offset, value
        mov $\value, %rax
        mov %rax, (0x120000 + \offset)
    .endm
    .macro expect condition
        mov $2, %ebx
        j\condition 99f
        jmp report_end
    99:
    .endm

    .pushsection .rodata.report_guest, "a"
    .globl report_guest, report_guest_ap, report_guest_exception, report_guest_size
    report_guest:
        mov $0x20012, %eax              /* register the GHCB */
        xor %edx, %edx
        ask
        movb $1, 0x121100
    4:
        pause
        mov 0x121000, %r12
        test %r12, %r12
        jz 4b
        mov 0x121008, %r13
    1:
        cmp %r12, %r13
        jae 9f
        mov %r13, %r14
        shl $12, %r14
        add $0x40000, %r14
        mov %r14, %rax
        xor %ecx, %ecx
        mov $1, %edx
        .byte 0xf2, 0x0f, 0x01, 0xff    /* PVALIDATE */
        expect nc
        test %eax, %eax
        expect z
        mov $0x9000, %esi
        mov %r14, %rdi
        mov $512, %ecx
        rep movsq
        mov %r13, 0x338(%r14)           /* RDI */
        mov %r14, %rax
        xor %ecx, %ecx
        mov $0x10001, %edx              /* a VMSA of VMPL 1's rights, as RMPADJUST wants it */
        .byte 0xf3, 0x0f, 0x01, 0xfe    /* RMPADJUST */
        test %eax, %eax
        expect z
        ghcb 0x1f8, 1                   /* SEV_FEATURES */
        ghcb 0x390, 0x80000013          /* AP creation: CREATE */
        mov %r13, %rax
        shl $32, %rax
        or $1, %rax
        mov %rax, 0x120398
        mov %r14, 0x1203a0
        ghcb 0x3f0, 0x8000000000000000
        ghcb 0x3f8, 0x001c000000000000
        mov $0x20000, %eax
        xor %edx, %edx
        ask
        cmpl $0, 0x120398
        expect e
    2:
        pause
        cmpb $1, 0x121100(%r13)
        jne 2b
        inc %r13
        jmp 1b
    9:
        mov $1, %ebx
    report_end:                         /* EBX: the code */
        movzbl %bl, %eax
        shl $16, %eax
        or $0x100, %eax
        xor %edx, %edx
        ask
        ud2
    report_guest_exception:
        pop %rbx
        or $0x80, %ebx
        jmp report_end
    report_guest_ap:                    /* RDI: which vCPU it is */
        movb $1, 0x121100(%rdi)
    3:
        hlt
        jmp 3b
    report_guest_end:
        .balign 8
    report_guest_size:
        .quad report_guest_end - report_guest
        .quad report_guest_ap - report_guest
        .quad report_guest_exception - report_guest
    .popsection
    "#,
    options(att_syntax)
);

extern "C" {
    static report_guest: u8;
    static report_guest_size: [u64; 3];
}

/// Size of the code, and where in it other vCPUs and exceptions begin.
fn sizes() -> [u64; 3] {
    // SAFETY: Three words of the section above, which nobody writes.
    unsafe { report_guest_size }
}

/// The code.
pub fn code() -> &'static [u8] {
    // SAFETY: So many bytes of the section above, which nobody writes.
    unsafe { std::slice::from_raw_parts(&raw const report_guest, sizes()[0] as usize) }
}

/// Where other vCPUs begin.
pub fn ap_entry() -> u64 {
    at::CODE + sizes()[1]
}

/// What handles exceptions.
pub fn exception_entry() -> u64 {
    at::CODE + sizes()[2]
}
