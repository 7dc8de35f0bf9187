// SPDX-License-Identifier: GPL-2.0

//! State of single page frames in the reverse map table.
//!
//! Only through the kernel's own functions: they split the direct map where a 4 KiB entry differs
//! from its neighbours, which a module cannot do and which must happen before the entry changes.
//!
//! C header: `arch/x86/include/asm/sev.h`

use super::{bindings as c, direct_map, pages::Pages};
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

const PAGE_SHIFT: u32 = bindings::PAGE_SHIFT;

/// A run of 4 KiB page frames whose state in the RMP may change.
///
/// Once a frame is in the Firmware state, every CPU write to it faults. So a run is made only by
/// the owner of the memory, or with the owner's promise.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    first: u64,
    count: usize,
}

impl Frames {
    /// The frames of an allocation.
    pub(crate) fn of(pages: &Pages) -> Self {
        Self {
            first: pages.phys() >> PAGE_SHIFT,
            count: pages.count(),
        }
    }

    /// The frames that hold `len` bytes from physical address `phys` (without encryption bit).
    ///
    /// Returns `None` if the range wraps around.
    ///
    /// # Safety
    ///
    /// The range is RAM that the caller may give away: nobody writes to it before it is back in the
    /// shared state.
    pub(crate) unsafe fn foreign(phys: u64, len: u64) -> Option<Self> {
        let end = phys.checked_add(len)?;
        let first = phys >> PAGE_SHIFT;
        let last = end.checked_add((1 << PAGE_SHIFT) - 1)? >> PAGE_SHIFT;
        Some(Self {
            first,
            count: usize::try_from(last.checked_sub(first)?).ok()?,
        })
    }

    /// Number of frames.
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// The `n`-th frame as a run of one; physical address through [`Self::phys`].
    pub(crate) fn get(self, n: usize) -> Option<Self> {
        (n < self.count).then_some(Self {
            first: self.first.wrapping_add(n as u64),
            count: 1,
        })
    }

    /// The first `n` frames.
    pub(crate) fn first(self, n: usize) -> Self {
        Self {
            first: self.first,
            count: n.min(self.count),
        }
    }

    /// All frames from the `n`-th on.
    pub(crate) fn skip(self, n: usize) -> Self {
        let n = n.min(self.count);
        Self {
            first: self.first.wrapping_add(n as u64),
            count: self.count.saturating_sub(n),
        }
    }

    /// The frames, each as a run of one.
    pub(crate) fn iter(self) -> impl Iterator<Item = Self> {
        (0..self.count).filter_map(move |n| self.get(n))
    }

    /// Number of the first frame.
    pub(crate) fn pfn(self) -> u64 {
        self.first
    }

    /// Physical address of the first byte, without encryption bit.
    pub(crate) fn phys(self) -> u64 {
        self.first << PAGE_SHIFT
    }

    /// Whether the first frame is at a multiple of `n`, a power of two.
    pub(crate) fn is_aligned(self, n: usize) -> bool {
        self.first & (n as u64).wrapping_sub(1) == 0
    }

    /// Writes the cache lines of the frames back to memory and drops them from the caches.
    pub(crate) fn clflush(self) {
        for frame in self.iter() {
            if let Some(va) = direct_map::virt(frame.phys(), PAGE_SIZE) {
                // SAFETY: The page is in the direct map.
                unsafe { bindings::clflush_cache_range(va.cast(), PAGE_SIZE as c_uint) };
            }
        }
    }

    /// Keeps the frames from the allocator for good: takes a reference to each that is never
    /// dropped. A frame that is free, or no RAM, is left alone.
    pub(crate) fn hold(self) {
        for frame in self.iter() {
            // SAFETY: Takes any frame number.
            unsafe { c::ccp_hold_page(frame.first) };
        }
    }
}

/// A run of frames, or none, that one task stores and others may load at any moment.
///
/// One word: the first frame's address, and the count in the bits that are zero in an address.
pub(crate) struct AtomicFrames(Atomic<u64>);

impl AtomicFrames {
    const COUNT: u64 = (1 << PAGE_SHIFT) - 1;

    /// None.
    pub(crate) const fn none() -> Self {
        Self(Atomic::new(0))
    }

    /// Stores a run. One of more than 4095 frames is stored as none.
    pub(crate) fn store(&self, frames: Option<Frames>) {
        let word = frames.map_or(0, |frames| match frames.count as u64 {
            count @ 0..=Self::COUNT => frames.phys() | count,
            _ => 0,
        });
        self.0.store(word, Relaxed);
    }

    /// What was stored last.
    pub(crate) fn load(&self) -> Option<Frames> {
        let word = self.0.load(Relaxed);
        // CAST: At most 4095.
        let count = (word & Self::COUNT) as usize;
        (count != 0).then_some(Frames {
            first: word >> PAGE_SHIFT,
            count,
        })
    }
}

/// The reverse map table.
pub trait Rmp {
    /// Whether the first frame is assigned: not the host's. A frame that cannot be looked up is
    /// not.
    fn is_assigned(&self, frame: Frames) -> bool;

    /// Puts the first frame into the Firmware state: assigned, ASID 0, immutable, 4 KiB.
    ///
    /// # Errors
    ///
    /// As `rmp_make_private()`, which has then told the log.
    fn make_firmware(&self, frame: Frames) -> Result;

    /// Puts the first frame into the shared state: ordinary memory of the host.
    ///
    /// # Errors
    ///
    /// As `rmp_make_shared()`, which has then told the log.
    fn make_shared(&self, frame: Frames) -> Result;
}

/// This machine.
pub struct Kernel(pub(super) ());

impl Rmp for Kernel {
    fn is_assigned(&self, frame: Frames) -> bool {
        let (mut assigned, mut level) = (false, 0);
        // SAFETY: Reads an entry of the RMP, if there is one, in any context.
        let found =
            unsafe { c::snp_lookup_rmpentry(frame.first, &raw mut assigned, &raw mut level) };
        found == 0 && assigned
    }

    fn make_firmware(&self, frame: Frames) -> Result {
        // SAFETY: The makers of `Frames` promise that the memory may be given away.
        to_result(unsafe {
            c::rmp_make_private(frame.first, 0, bindings::pg_level_PG_LEVEL_4K, 0, true)
        })
    }

    fn make_shared(&self, frame: Frames) -> Result {
        // SAFETY: A shared frame is accessible to everybody; firmware has released it (else the
        // hardware refuses the change).
        to_result(unsafe { c::rmp_make_shared(frame.first, bindings::pg_level_PG_LEVEL_4K) })
    }
}
