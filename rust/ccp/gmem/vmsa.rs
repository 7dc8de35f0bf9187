// SPDX-License-Identifier: GPL-2.0

//! A VMSA that user space has made: what of it KVM's and the processor's safety depends on.
//!
//! Source of the offsets: `struct sev_es_save_area` of `arch/x86/include/asm/svm.h`; AMD64
//! Architecture Programmer's Manual volume 2, table B-4.

use core::ops::Range;

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// A page with a VMSA that passed the checks. Nobody else can change it.
pub(crate) struct Vmsa(KBox<[u8; PAGE_SIZE]>);

const VMPL: usize = 0xca;
const EFER: Range<usize> = 0xd0..0xd8;
const SEV_FEATURES: Range<usize> = 0x3b0..0x3b8;

const EFER_SVME: u64 = 1 << 12;

/// Fields that must be zero. Not among them are some that the kernel's structure has no name for
/// and the processor may: SPEC_CTRL (0x2e0) and the valid bits of XSAVE state (0x3f0).
const RESERVED: [Range<usize>; 10] = [
    0xc8..0xca,
    0xcc..0xd0,
    0xd8..0x140,
    0x1c0..0x1d8,
    0x248..0x268,
    0x298..0x2e0,
    0x300..0x308,
    0x320..0x328,
    0x380..0x390,
    0x670..PAGE_SIZE,
];

impl Vmsa {
    /// Takes a page that `fill` fills.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the VMSA is not one of a guest at VMPL 0 with exactly these features; what
    /// `fill` says; [`ENOMEM`].
    pub(crate) fn check(sev_features: u64, fill: impl FnOnce(&mut [u8]) -> Result) -> Result<Self> {
        let mut page = KBox::new([0; PAGE_SIZE], GFP_KERNEL)?;
        fill(page.as_mut_slice())?;
        let reserved = RESERVED
            .iter()
            .filter_map(|range| page.get(range.clone()))
            .all(|bytes| bytes.iter().all(|byte| *byte == 0));
        let right = reserved
            && page.get(VMPL) == Some(&0)
            && word(page.as_slice(), EFER)? & EFER_SVME != 0
            && word(page.as_slice(), SEV_FEATURES)? == sev_features;
        if right {
            Ok(Self(page))
        } else {
            Err(EINVAL)
        }
    }

    /// The page.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn word(page: &[u8], range: Range<usize>) -> Result<u64> {
    let bytes = page.get(range).and_then(|bytes| bytes.first_chunk());
    bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(EINVAL)
}
