// SPDX-License-Identifier: GPL-2.0
//! CPUID tables, which a guest trusts because firmware has checked them.

use super::launch_abi::CpuidTable;
use crate::call::must_be_zero;
use crate::{Config, Status};

/// Checks a table. One that is malformed is INVALID_PARAM; for one with values that firmware does
/// not accept the result is what it would accept.
///
/// Which values those are is not public and depends on the CPU, so it is a switch: of the function
/// that [`Config::cpuid_refused`] names every bit of an output is one too many (model choice).
pub(super) fn check(config: &Config, table: &CpuidTable) -> Result<Option<CpuidTable>, Status> {
    must_be_zero(&table.reserved)?;
    let count = table.count.get() as usize;
    let mut better = table.clone();
    for function in better.functions.get_mut(..count).ok_or(Status::InvalidParam)? {
        must_be_zero(&function.reserved)?;
        if config.cpuid_refused == Some(function.eax_in.get()) {
            let outputs =
                [&mut function.eax, &mut function.ebx, &mut function.ecx, &mut function.edx];
            for output in outputs {
                *output = 0.into();
            }
        }
    }
    Ok((better != *table).then_some(better))
}
