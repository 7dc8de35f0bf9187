// SPDX-License-Identifier: GPL-2.0

//! Single entries of the RMP: whose a page is. The kernel's own function says only whether it is
//! assigned.
//!
//! Sources: the raw format of Zen 3 and Zen 4 in the Processor Programming Reference for family 19h
//! model 01h; what RMPREAD stores as in `struct rmpentry` of arch/x86/virt/svm/sev.c.

use crate::{
    rmp::{
        Mapped,
        Table, //
    },
    sys::{
        cpu,
        guest_rmp::Owner,
        rmpread::rmpread, //
    },
    syscfg::{
        SNP_EN,
        SYSCFG, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

impl Owner {
    /// From the lower half of a raw entry: bits 50:12 are those of the address, 60:51 the ASID.
    pub(crate) fn from_raw(low: u64) -> Self {
        Self {
            // CAST: Ten bits.
            asid: (low >> 51 & 0x3ff) as u32,
            gpa: low & ((1 << 51) - 1) & !0xfff,
        }
    }

    /// From what RMPREAD stores: the address, then flags and the ASID in the upper half.
    pub(crate) fn from_rmpread([gpa, flags]: [u64; 2]) -> Self {
        Self {
            // CAST: The upper half.
            asid: (flags >> 32) as u32,
            gpa,
        }
    }
}

/// How entries are read here.
pub(crate) enum Entries {
    /// By the instruction.
    Rmpread,
    /// In memory.
    Raw(Mapped),
}

impl Entries {
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if there is no RMP; [`ENOMEM`].
    pub(crate) fn find() -> Result<Self> {
        if cpu::has_rmpread() {
            return Ok(Self::Rmpread);
        }
        Ok(Self::Raw(Table::find()?.map()?))
    }

    /// Whose the page with this number is.
    ///
    /// # Errors
    ///
    /// [`EIO`] if there is no entry, or SNP is not enabled on this CPU.
    #[allow(unsafe_code)]
    pub(crate) fn owner(&self, pfn: u64) -> Result<Owner> {
        if SYSCFG.read()? & SNP_EN == 0 {
            return Err(EIO);
        }
        match self {
            Self::Rmpread => {
                let page = pfn.checked_mul(PAGE_SIZE as u64).ok_or(EIO)?;
                // SAFETY: The instruction exists. SNP_EN is written on all CPUs or none (prepare
                // reads it back), under the lock of `crate::host`, which the caller holds.
                let entry = unsafe { rmpread(page) }.map_err(|_| EIO)?;
                Ok(Owner::from_rmpread(entry))
            }
            Self::Raw(mapped) => mapped.low(pfn).map(Owner::from_raw).ok_or(EIO),
        }
    }
}
