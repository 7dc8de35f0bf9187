// SPDX-License-Identifier: GPL-2.0

//! Memory that firmware other than SEV's uses for as long as the PSP is bound.
//!
//! It is in the list of SNP_INIT_EX, which makes it HV-Fixed: both sides can write to it, and no
//! guest gets it. A page stays HV-Fixed until the RMP is cleared, so until then such a block, or
//! one that a list has, is not freed, but kept for the next one who needs one.

use core::mem;

use kernel::prelude::*;

use crate::{
    pages::HvPages,
    sys::{
        contents::Contents,
        pages::Gfp,
        rmp::Frames,
        snp_host::NoSnpEn, //
    },
};

/// 2 MiB: the RMP then has no smaller page in the block's neighbourhood.
const ORDER: u32 = 9;

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::Record::init()` initialises it before the driver is registered.
        pub(super) unsafe(uninit) static BLOCKS: Mutex<KVec<super::Block>> = KVec::new();
    }
}
use lock::BLOCKS;

struct Block {
    frames: Frames,
    /// It is in the list that was made last.
    listed: bool,
    /// It may be HV-Fixed.
    fixed: bool,
    /// The pages, while nobody uses them.
    spare: Option<HvPages>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if let (Some(pages), true) = (self.spare.take(), self.fixed) {
            // No guest can have these pages until the RMP is cleared: they are lost.
            drop(pages.lend());
        }
    }
}

/// The blocks, as long as the module is loaded.
pub(crate) struct Record(#[expect(dead_code, reason = "dropped")] Contents<BLOCKS>);

impl Record {
    /// Makes this file usable.
    ///
    /// # Safety
    ///
    /// To be called once, before the driver is registered.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn init() -> Self {
        // SAFETY: By the caller's promise.
        Self(unsafe { Contents::init(&BLOCKS, KVec::new) })
    }
}

/// A zeroed block of 2 MiB, mapped without caches. It is HV-Fixed from the next SNP_INIT_EX on.
///
/// # Errors
///
/// [`ENOMEM`].
pub(crate) fn take() -> Result<HvPages> {
    let mut blocks = BLOCKS.lock();
    let spare = blocks.iter_mut().find_map(|block| block.spare.take());
    if let Some(mut pages) = spare {
        pages.bytes_mut().fill(0);
        return Ok(pages);
    }
    add(&mut blocks, HvPages::zeroed(Gfp::KERNEL, ORDER)?)
}

/// Maps a block without caches, and adds it to those that a list gets.
///
/// # Errors
///
/// [`ENOMEM`]; there is no such block then.
fn add(blocks: &mut KVec<Block>, mut pages: HvPages) -> Result<HvPages> {
    pages.set_uncached()?;
    let block = Block {
        frames: pages.frames(),
        listed: false,
        fixed: false,
        spare: None,
    };
    blocks.push(block, GFP_KERNEL)?;
    Ok(pages)
}

/// Takes a block back that nobody uses any more.
pub(crate) fn give_back(pages: HvPages) {
    let mut blocks = BLOCKS.lock();
    let pfn = pages.frames().pfn();
    let Some(at) = blocks.iter().position(|block| block.frames.pfn() == pfn) else {
        return;
    };
    match blocks.get_mut(at) {
        Some(block) if block.fixed || block.listed => block.spare = Some(pages),
        _ => drop(blocks.remove(at)),
    }
}

/// A block is lost: firmware may still use it.
pub(crate) fn lost(frames: Frames) {
    let mut blocks = BLOCKS.lock();
    blocks.retain(|block| block.frames.pfn() != frames.pfn());
}

/// Calls `add` with every block for the list of SNP_INIT_EX, until it has no room. A block that is
/// not in the list stays the hypervisor's: its user gets firmware's refusal.
pub(crate) fn list(mut add: impl FnMut(Frames) -> Result) {
    let mut room = true;
    for block in BLOCKS.lock().iter_mut() {
        room = room && add(block.frames).is_ok();
        block.listed = room;
    }
}

/// Firmware is given the list.
pub(crate) fn listed() {
    for block in BLOCKS.lock().iter_mut() {
        block.fixed |= mem::take(&mut block.listed);
    }
}

/// The RMP has been cleared and no CPU enforces it.
pub(crate) fn released(_proof: &NoSnpEn) {
    let mut blocks = BLOCKS.lock();
    for block in blocks.iter_mut() {
        block.fixed = false;
    }
    blocks.retain(|block| block.spare.is_none());
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
