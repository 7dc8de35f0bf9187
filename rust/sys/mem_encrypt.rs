// SPDX-License-Identifier: GPL-2.0

//! Memory-encryption facts of this host.
//!
//! C header: `include/linux/mem_encrypt.h`

use kernel::bindings;

/// The bit of a physical address that selects encryption with the host key (SME), or 0.
pub(crate) fn sme_mask() -> u64 {
    // SAFETY: The variable is constant after early boot.
    let mask = unsafe { bindings::sme_me_mask };
    #[cfg(CONFIG_KUNIT = "y")]
    let mask = mask | pretence::mask();
    mask
}

/// For the suites, which run on hosts without SME.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod pretence {
    use core::sync::atomic::{
        AtomicU64,
        Ordering::Relaxed, //
    };

    static MASK: AtomicU64 = AtomicU64::new(0);

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
}
