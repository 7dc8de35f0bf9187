// SPDX-License-Identifier: GPL-2.0

//! The PSPs that owe an answer to a command.
//!
//! A PSP that did not answer in time may still be working on the command, and must get no other
//! command before that. `ccp` can be unloaded, so the record is here. While a PSP is on record this
//! module cannot be unloaded.
//!
//! # Locking
//!
//! The lock of [`OWED`] comes last.

use crate::sys::module_pin::ModulePin;
use kernel::prelude::*;

/// There is one PSP for each socket, and no machine has as many sockets.
const PSPS: usize = 16;

#[allow(unsafe_code)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        /// The record.
        // SAFETY: `init_lock()` initialises it before anything that uses it is exported.
        pub(super) unsafe(uninit) static OWED: Mutex<super::Owed> = super::Owed {
            debts: [const { None }; super::PSPS],
            module: None,
        };
    }
}
use lock::OWED;

struct Owed {
    debts: [Option<Debt>; PSPS],
    /// This module.
    module: Option<&'static ThisModule>,
}

/// A PSP owes an answer.
struct Debt {
    psp: u64,
    command: u32,
    _pin: ModulePin,
}

/// Makes the lock usable.
///
/// # Safety
///
/// To be called once, before anything else in this file.
#[allow(unsafe_code)]
pub(crate) unsafe fn init_lock(module: &'static ThisModule) {
    // SAFETY: Called once, and first.
    unsafe { OWED.init() };
    OWED.lock().module = Some(module);
}

/// `snp_host_psp_owes()`. The first command without an answer stays on record: firmware works on
/// that one.
///
/// # Errors
///
/// [`ENOSPC`] if there is no room for another PSP.
pub(crate) fn record(psp: u64, command: u32) -> Result {
    let mut owed = OWED.lock();
    let module = owed.module.ok_or(ENODEV)?;
    if owed.debts.iter().flatten().any(|debt| debt.psp == psp) {
        return Ok(());
    }
    let free = owed.debts.iter_mut().find(|debt| debt.is_none());
    *free.ok_or(ENOSPC)? = Some(Debt {
        psp,
        command,
        _pin: ModulePin::new(module),
    });
    Ok(())
}

/// `snp_host_psp_owed()`.
pub(crate) fn command(psp: u64) -> Option<u32> {
    let owed = OWED.lock();
    let debt = owed.debts.iter().flatten().find(|debt| debt.psp == psp);
    debt.map(|debt| debt.command)
}

/// `snp_host_psp_answered()`.
pub(crate) fn forget(psp: u64) {
    for debt in OWED.lock().debts.iter_mut() {
        if matches!(debt, Some(Debt { psp: other, .. }) if *other == psp) {
            *debt = None;
        }
    }
}
