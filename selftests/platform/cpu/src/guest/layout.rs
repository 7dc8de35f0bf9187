// SPDX-License-Identifier: GPL-2.0
//! Where fields lie: the VMCB's control area, the save area that follows it, and the VMSA, which
//! has the save area's layout and goes on behind it.
//!
//! Source: `struct vmcb_control_area` and `struct sev_es_save_area` in arch/x86/include/asm/svm.h.

use crate::cpuid;

/// Offsets in the VMCB.
pub mod vmcb {
    pub const INTERCEPTS_10: u64 = 0x10;
    /// ASID, and in the upper half TLB_CONTROL.
    pub const ASID: u64 = 0x58;
    pub const INT_CTL: u64 = 0x60;
    pub const INT_STATE: u64 = 0x68;
    pub const EXIT_CODE: u64 = 0x70;
    pub const EXIT_INFO_1: u64 = 0x78;
    pub const EXIT_INFO_2: u64 = 0x80;
    pub const MISC_CTL: u64 = 0x90;
    pub const GHCB: u64 = 0xa0;
    pub const EVENT_INJ: u64 = 0xa8;
    pub const NESTED_CR3: u64 = 0xb0;
    pub const MISC_CTL_2: u64 = 0xb8;
    pub const NEXT_RIP: u64 = 0xc8;
    /// How many bytes of an instruction, one byte, and up to 15 of them.
    pub const FETCHED: u64 = 0xd0;
    pub const VMSA: u64 = 0x108;
    pub const SAVE: u64 = 0x400;
}

/// Bits of MISC_CTL.
pub mod misc {
    pub const NESTED_PAGING: u64 = 1 << 0;
    /// The guest's memory is encrypted.
    pub const SEV: u64 = 1 << 1;
}

/// Bits of MISC_CTL_2.
pub mod misc_2 {
    /// Branch records are virtual.
    pub const LBR: u64 = 1 << 0;
}

/// Bits of INT_CTL.
pub mod int_ctl {
    /// RFLAGS.IF in the guest is for virtual interrupts only.
    pub const V_INTR_MASKING: u64 = 1 << 24;
}

/// Bits of INT_STATE.
pub mod int_state {
    /// RFLAGS.IF of a guest whose RFLAGS the hypervisor cannot see.
    pub const INTERRUPT_MASK: u64 = 1 << 1;
}

/// Bits of the VMSA's SEV_FEATURES.
pub mod feature {
    pub const SNP: u64 = 1 << 0;
    pub const DEBUG_SWAP: u64 = 1 << 5;
}

/// Offsets in the save area and the VMSA.
pub mod save {
    pub const CS: usize = 0x10;
    pub const VMPL: usize = 0xca;
    pub const EFER: usize = 0xd0;
    pub const CR4: usize = 0x148;
    pub const CR3: usize = 0x150;
    pub const CR0: usize = 0x158;
    pub const RFLAGS: usize = 0x170;
    pub const RIP: usize = 0x178;
    pub const DR0: usize = 0x180;
    pub const PAT: usize = 0x268;
    pub const PKRU: usize = 0x2e8;
    /// RCX, RDX, RBX, a hole for RSP, RBP, RSI, RDI, R8 to R15: register n at 300h + 8 n.
    pub const GPRS: usize = 0x300;
    pub const SEV_FEATURES: usize = 0x3b0;
    pub const XCR0: usize = 0x3e8;
    pub const X87_DP: usize = 0x400;
    pub const MXCSR: usize = 0x408;
    pub const X87_FTW: usize = 0x40c;
    pub const X87_FSW: usize = 0x40e;
    pub const X87_FCW: usize = 0x410;
    pub const X87_FOP: usize = 0x412;
    pub const X87_RIP: usize = 0x418;
    /// Eight times bytes 0 to 7, then eight times bytes 8 and 9 (`sev_es_sync_vmsa`).
    pub const X87: usize = 0x420;
    pub const XMM: usize = 0x470;
    pub const YMM: usize = 0x570;
    pub const END: usize = 0x670;
    /// What the VMCB's save area and the VMSA have in common, and TCG reads and writes.
    pub const COMMON_END: usize = 0x248;
}

/// Exit codes (arch/x86/include/uapi/asm/svm.h).
pub mod exit {
    pub const CR0_READ: u64 = 0;
    pub const CR15_WRITE: u64 = 0x1f;
    pub const DR0_READ: u64 = 0x20;
    pub const DR15_WRITE: u64 = 0x3f;
    pub const EXCEPTION_MC: u64 = 0x52;
    pub const INTR: u64 = 0x60;
    pub const VINTR: u64 = 0x64;
    pub const CR0_SEL_WRITE: u64 = 0x65;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const MSR: u64 = 0x7c;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const RDPRU: u64 = 0x8e;
    pub const EFER_WRITE_TRAP: u64 = 0x8f;
    pub const CR0_WRITE_TRAP: u64 = 0x90;
    pub const CR15_WRITE_TRAP: u64 = 0x9f;
    pub const BUS_LOCK: u64 = 0xa5;
    pub const NPF: u64 = 0x400;
    pub const VMGEXIT: u64 = 0x403;
    /// Only as #VC's error code: the page is assigned and not validated.
    pub const PAGE_NOT_VALIDATED: u64 = 0x404;
    pub const INVALID: u64 = u64::MAX;
    pub const BUSY: u64 = u64::MAX - 1;
}

/// Bits of a nested page fault's EXIT_INFO_1 (`PFERR_*` in arch/x86/include/asm/kvm_host.h).
pub mod fault {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const RESERVED: u64 = 1 << 3;
    pub const FETCH: u64 = 1 << 4;
    pub const FINAL: u64 = 1 << 32;
    pub const TABLE: u64 = 1 << 33;
    pub const ENCRYPTED: u64 = 1 << 34;
}

/// The C-bit in guest physical addresses, as CPUID 8000001F says.
pub const C_BIT: u64 = 1 << cpuid::C_BIT;
