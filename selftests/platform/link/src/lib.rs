// SPDX-License-Identifier: GPL-2.0
//! The page that the CPU model (in QEMU) and the PSP model (its own process) share.
//!
//! On silicon firmware reads the CPUs' registers and can clear SYSCFG.SNP_EN. Here both sides map
//! one file of [`SIZE`] bytes: the CPU model keeps those registers in it, the PSP model reads them
//! and clears SNP_EN there. RMP locks are in it as well, because both sides change the RMP.
//!
//! Everything is an atomic; the only order that matters is that a CPU's registers are written
//! before its `present` flag (release, acquire). The runner creates the file zeroed.

mod layout;
mod map;

pub use layout::{
    Bound, Cpu, Executed, IommuBuffer, Link, Range, Report, Reported, ASIDS, CONFIG_MSRS, MAX_CPUS,
    RMP_LOCKS, SIZE, SNP_EN,
};
pub use map::{Mapping, OpenError};
