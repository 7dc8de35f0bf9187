// SPDX-License-Identifier: GPL-2.0

//! Reading the whole RMP.
//!
//! Reading is allowed at any time: the RMP check faults on writes to the table only.

use crate::{
    rmp_table::{
        segment,
        Layout,
        Msrs,
        Range,
        SEGMENTS, //
    },
    sys::{
        cpuid,
        memremap::Mapping,
        msr::Msr,
        sched::cond_resched, //
    },
    window::Rmp,
};
use kernel::{
    prelude::*,
    sizes::SZ_16M, //
};

/// Looks at every entry. Takes about a second per 8 GiB of table (2 TiB of memory); sleeps.
pub(crate) fn scan() -> Rmp {
    match is_zero() {
        Ok(true) => Rmp::Zero,
        Ok(false) => Rmp::NotZero,
        Err(_) => Rmp::Unreadable,
    }
}

fn is_zero() -> Result<bool> {
    let msrs = Msrs {
        base: Msr::AMD64_RMP_BASE.read()?,
        end: Msr::AMD64_RMP_END.read()?,
        cfg: match cpuid::has_segmented_rmp() {
            true => Msr::AMD64_RMP_CFG.read()?,
            false => 0,
        },
    };
    match Layout::decode(msrs).ok_or(ENODEV)? {
        Layout::Contiguous(entries) => is_range_zero(entries),
        Layout::Segmented { table, shift } => {
            let table = Mapping::new(table, SEGMENTS * size_of::<u64>())?;
            for entries in table.words().filter_map(|d| segment(d, shift)) {
                if !is_range_zero(entries)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

fn is_range_zero(range: Range) -> Result<bool> {
    let Range { mut start, len } = range;
    let mut left = usize::try_from(len)?;
    while left > 0 {
        // A piece at a time: mapping takes page tables, and others want the CPU.
        let piece = left.min(SZ_16M);
        if Mapping::new(start, piece)?.words().any(|word| word != 0) {
            return Ok(false);
        }
        start = start.checked_add(piece as u64).ok_or(EOVERFLOW)?;
        left = left.saturating_sub(piece);
        cond_resched();
    }
    Ok(true)
}
