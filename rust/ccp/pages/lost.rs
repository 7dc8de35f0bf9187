// SPDX-License-Identifier: GPL-2.0

//! Pages that are lost to firmware.
//!
//! Firmware may still write to such a page, or the RMP does not give the page to the host: the next
//! owner of the page would see it change, or fault. So the page stays out of the allocator until
//! the machine restarts, also after this module is gone: a page of the driver's own is never freed,
//! and a page of others gets a reference that nobody drops.
//!
//! The kernel has a list for such pages (`snp_leak_pages()`), which nobody reads. The list links
//! pages through the field of `struct page` that LRU lists use, and a page of a guest may be on an
//! LRU list. So the driver keeps a record of its own.
//!
//! # Locking
//!
//! The lock of the record comes after all others and sleeps; the panic path records nothing, and
//! reads the count alone.

use core::ops::Range;

use kernel::{
    fmt,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::sys::{
    contents::Contents,
    log,
    pages::Pages,
    rmp::Frames,
    trace, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::Record::init()` initialises it before anything can be lost.
        pub(super) unsafe(uninit) static LOST: Mutex<super::Lost> = super::Lost::NONE;
    }
}
use lock::LOST;

/// What has been lost since the module was loaded.
struct Lost {
    /// Frame numbers.
    frames: KVec<Range<u64>>,
}

/// How many; changed under the lock, read by the panic path without.
static COUNT: Atomic<usize> = Atomic::new(0);

impl Lost {
    const NONE: Self = Self {
        frames: KVec::new(),
    };

    /// Notes a frame; false if it was lost before.
    ///
    /// Without memory for the note the frame is counted all the same, and counted again should it
    /// be lost once more.
    fn add(&mut self, pfn: u64) -> bool {
        if self.frames.iter().any(|range| range.contains(&pfn)) {
            return false;
        }
        match self.frames.iter_mut().find(|range| range.end == pfn) {
            Some(range) => range.end = pfn.wrapping_add(1),
            None => {
                let _ = self.frames.push(pfn..pfn.wrapping_add(1), GFP_KERNEL);
            }
        }
        COUNT.fetch_add(1, Relaxed);
        true
    }
}

/// The record of lost pages, as long as the module is loaded.
pub(crate) struct Record(#[expect(dead_code, reason = "dropped")] Contents<LOST>);

impl Record {
    /// Makes the record usable.
    ///
    /// # Safety
    ///
    /// To be called once, before the driver is registered.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn init() -> Self {
        // SAFETY: Called once, and before anything else in this file.
        Self(unsafe { Contents::init(&LOST, || Lost::NONE) })
    }
}

/// How many pages have been lost to firmware since the module was loaded.
pub(crate) fn leaked() -> usize {
    COUNT.load(Relaxed)
}

/// Whether the first frame has been lost. Sleeps.
pub(crate) fn is_lost(frame: Frames) -> bool {
    let lost = LOST.lock();
    lost.frames.iter().any(|range| range.contains(&frame.pfn()))
}

/// Proof that pages are lost: they do not return to the allocator, and [`leaked`] counts them.
#[derive(Debug)]
pub(crate) struct Leaked(());

impl Leaked {
    /// For pages that were recorded before.
    pub(super) const BEFORE: Self = Self(());

    /// Keeps pages of the driver's own.
    pub(super) fn own(pages: Pages, why: &dyn fmt::Display) -> Self {
        let frames = Frames::of(&pages);
        core::mem::forget(pages);
        Self::record(frames, |_| {}, why)
    }

    /// Keeps pages that others own, and will free sooner or later.
    ///
    /// A frame without a reference cannot be kept: such a frame is no RAM, or a tail page of an
    /// allocation that is not compound.
    pub(crate) fn foreign(frames: Frames, why: &dyn fmt::Display) -> Self {
        Self::record(frames, Frames::hold, why)
    }

    fn record(frames: Frames, keep: impl Fn(Frames), why: &dyn fmt::Display) -> Self {
        let mut lost = LOST.lock();
        let before = leaked();
        let mut first = None;
        for frame in frames.iter() {
            if lost.add(frame.pfn()) {
                keep(frame);
                trace::pages(frame, "lost", None);
                first.get_or_insert(frame);
            }
        }
        // Pages that were lost before have been reported before.
        if let Some(first) = first {
            log::err!(
                "pages-lost",
                "{} page(s) from {:#x} on are lost until the machine restarts: {}; {} lost so far",
                leaked().saturating_sub(before),
                first.phys(),
                why,
                leaked()
            );
        }
        Self(())
    }
}
