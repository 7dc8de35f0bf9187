// SPDX-License-Identifier: GPL-2.0

//! The PSPs that owe an answer to a command.
//!
//! A PSP that did not answer in time may still be working on the command, and must get no other
//! command before that. `ccp` can be unloaded, so the record is here. While a PSP is on record this
//! module cannot be unloaded.

use crate::sys::module_pin::ModulePin;
use kernel::prelude::*;

/// There is one PSP for each socket, and no machine has as many sockets.
pub(crate) const PSPS: usize = 16;

/// The record.
#[derive(Default)]
pub(crate) struct Owed([Option<Debt>; PSPS]);

/// A PSP owes an answer.
struct Debt {
    psp: u64,
    command: u32,
    _pin: ModulePin,
}

impl Owed {
    /// `snp_host_psp_owes()`. The first command without an answer stays on record: firmware works
    /// on that one.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`] if there is no room for another PSP.
    pub(crate) fn record(&mut self, psp: u64, command: u32, module: &'static ThisModule) -> Result {
        if self.command(psp) != 0 {
            return Ok(());
        }
        let free = self.0.iter_mut().find(|debt| debt.is_none());
        *free.ok_or(ENOSPC)? = Some(Debt {
            psp,
            command,
            _pin: ModulePin::new(module),
        });
        Ok(())
    }

    /// `snp_host_psp_owed()`.
    pub(crate) fn command(&self, psp: u64) -> u32 {
        let mut debts = self.0.iter().flatten();
        let debt = debts.find(|debt| debt.psp == psp);
        debt.map_or(0, |debt| debt.command)
    }

    /// `snp_host_psp_answered()`.
    pub(crate) fn forget(&mut self, psp: u64) {
        for debt in &mut self.0 {
            if debt.as_ref().is_some_and(|debt| debt.psp == psp) {
                *debt = None;
            }
        }
    }
}
