// SPDX-License-Identifier: GPL-2.0
//! Where fields lie in QEMU's `CPUX86State`, which no header that a plugin may use tells.
//!
//! Most are found when the plugin is loaded, by [`super::probe`]: it runs QEMU's own functions. The
//! others are [`ASSUMED`], and each CPU is asked once by the plugin API whether they are right
//! ([`super::vcpu::Vcpu::disagreement`]), before anything relies on them.

use std::sync::OnceLock;

/// A place: an offset from the start of `CPUX86State`, but for the first five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum At {
    /// `CPUX86State` itself, from the start of `CPUState`.
    Env,
    /// `exception_index`, from the start of `CPUState`.
    ExceptionIndex,
    /// `tb_jmp_cache`, a pointer, from the start of `CPUState`.
    JumpCache,
    /// The TLB (`CPUTLB`), from the start of `CPUState`: its lock comes first.
    Tlb,
    /// The end of the TLB, from the start of `CPUState`.
    TlbEnd,
    Regs,
    Eip,
    Hflags,
    Hflags2,
    SsBase,
    Cr,
    Efer,
    Fpstt,
    Fpus,
    Fpuc,
    Fptags,
    Fpregs,
    Fpop,
    Fpip,
    Fpdp,
    Mxcsr,
    Xmm,
    VmHsave,
    Xcr0,
    Pat,
    Pkru,
    ErrorCode,
    ExceptionIsInt,
    Dr,
    IntCtl,
}

/// How many there are.
pub const PLACES: usize = At::IntCtl as usize + 1;

/// All places, by the number of [`At`].
pub type Layout = [usize; PLACES];

/// What no function that is safe to run shows: general purpose registers and RIP, the third segment
/// register's base (ES, CS, SS; each has 24 bytes), and the vector registers.
pub const ASSUMED: [(At, usize); 4] =
    [(At::Regs, 0), (At::Eip, 0x100), (At::SsBase, 0x138 + 2 * 24 + 8), (At::Xmm, 0x3c0)];

static LAYOUT: OnceLock<Layout> = OnceLock::new();

/// Sets it, once and before any CPU is there.
pub fn set(layout: Layout) -> Result<(), String> {
    LAYOUT.set(layout).map_err(|_| "the plugin is loaded twice".to_owned())
}

/// Where it is.
pub fn place(at: At) -> usize {
    // Set before the first callback; an offset of nothing leads nowhere.
    LAYOUT.get().map_or(usize::MAX / 2, |layout| layout[at as usize])
}
