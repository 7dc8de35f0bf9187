// SPDX-License-Identifier: GPL-2.0

//! Which PSPs owe an answer.
//!
//! A PSP that did not answer in time may still be working on the command. `ccp` gives it no other
//! one, but `ccp` can be unloaded, and its next load would not know. A record that can be unloaded
//! is no record: each keeps this module.
//!
//! # Locking
//!
//! The lock of [`OWED`] comes last.

use crate::sys::module_pin::ModulePin;
use kernel::prelude::*;

/// One PSP for each socket, and more sockets than any machine has.
const PSPS: usize = 16;

#[allow(unsafe_code)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        /// Who owes answers.
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
    /// This one.
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

/// `snp_host_psp_owes()`. The first command that was not answered stays on record: it is what
/// firmware works on.
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
