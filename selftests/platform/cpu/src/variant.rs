// SPDX-License-Identifier: GPL-2.0
//! In what machines differ from each other.

/// A processor that can have a segmented RMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Logarithm of the memory that a segment stands for; none if the BIOS has made no segments.
    pub shift: Option<u32>,
    /// The processor has room for no more segments than this.
    pub limit: Option<u32>,
}

/// An MSR of one CPU that holds a value which cannot be changed, or does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// QEMU's number of the CPU; none for all.
    pub cpu: Option<usize>,
    /// Number of the MSR.
    pub msr: u32,
    /// None: accesses raise #GP(0).
    pub value: Option<u64>,
}

/// `rmp=`: what becomes of an access that the RMP forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// It is reported and refused.
    #[default]
    Enforce,
    /// It is reported and carried out.
    Report,
    /// It is carried out. Only writes to the RMP itself are reported.
    Off,
}
