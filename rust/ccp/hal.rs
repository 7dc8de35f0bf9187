// SPDX-License-Identifier: GPL-2.0

//! The generations of the PSP that carry SEV.
//!
//! They differ in where their registers are and in what else is behind the function; the mailbox
//! protocol and the interrupt are the same. One file per generation holds its facts. The device
//! table in `driver.rs` selects one at probe.
//!
//! PCI functions without SEV are not in the table and are never bound: crypto engines alone (0x1537,
//! 0x1468) and client parts (0x15df, 0x15c7, 0x1649, 0x1134, 0x17e0, 0x115a).

use crate::regs::RegisterMap;

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
mod v1;
mod v2;
mod v4;
mod v6;

pub(crate) use self::{
    v1::V1,
    v2::V2,
    v4::V4,
    v6::V6, //
};

/// What is known about one generation of the PSP.
pub(crate) struct Generation {
    /// The name that the kernel's C driver uses for it.
    pub(crate) name: &'static str,
    /// Where its registers are.
    pub(crate) registers: RegisterMap,
}
