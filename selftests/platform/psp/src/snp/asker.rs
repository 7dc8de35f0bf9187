// SPDX-License-Identifier: GPL-2.0
//! Who sends a message.

use super::guest::Guest;

/// A guest, as its message shows it.
pub(super) struct Asker<'a> {
    pub(super) guest: &'a Guest,
    /// Number of the key that sealed the request, which is that of the highest VMPL it speaks for.
    pub(super) vmpck: u8,
    /// Version of the message.
    pub(super) version: u8,
}

impl Asker<'_> {
    /// Who has the key of a VMPL may speak for it and for those with fewer rights.
    pub(super) fn speaks_for(&self, vmpl: u32) -> bool {
        (u32::from(self.vmpck)..4).contains(&vmpl)
    }
}
