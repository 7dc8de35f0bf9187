// SPDX-License-Identifier: GPL-2.0
//! CPUID tables, which a guest trusts because firmware has checked them.

use super::launch_abi::CpuidTable;
use crate::call::must_be_zero;
use crate::Status;

/// Checks the shape of a table. Which values firmware accepts is not public and depends on the CPU,
/// so contents are taken as they are; a table that is malformed is INVALID_PARAM.
pub(super) fn checked(table: &CpuidTable) -> Result<&CpuidTable, Status> {
    let functions = table.functions.get(..table.count.get() as usize);
    must_be_zero(&table.reserved)?;
    for function in functions.ok_or(Status::InvalidParam)? {
        must_be_zero(&function.reserved)?;
    }
    Ok(table)
}
