// SPDX-License-Identifier: GPL-2.0

//! SME, for tests: they run on hosts without it.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

static MASK: Atomic<u64> = Atomic::new(0);

/// What [`super::mem_encrypt::sme_mask`] has besides the mask of this host.
pub(super) fn mask() -> u64 {
    MASK.load(Relaxed)
}

/// This host is said to have SME, as long as the value exists.
pub(crate) struct Sme(());

impl Sme {
    /// The bit, which is above all memory.
    pub(crate) const MASK: u64 = 1 << 51;

    pub(crate) fn pretend() -> Self {
        MASK.store(Self::MASK, Relaxed);
        Self(())
    }
}

impl Drop for Sme {
    fn drop(&mut self) {
        MASK.store(0, Relaxed);
    }
}
