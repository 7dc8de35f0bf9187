// SPDX-License-Identifier: GPL-2.0

//! `snp_alloc_firmware_page()` and its like: kvm-amd's pages for firmware to write to (guest
//! contexts, answers to guest requests).
//!
//! The driver owns each page as [`FwPages`](crate::pages::FwPages); the caller has only its
//! address. So a page that was handed out before SNP came up, or outlives SNP, is taken back in the
//! way it was given.

use kernel::{
    prelude::*,
    rbtree::RBTreeNodeReservation, //
};

use super::Platform;
use crate::{
    cmd::{
        CmdError,
        Snp, //
    },
    hv_fixed,
    mailbox::Transport,
    pages::{
        reclaim_foreign,
        Address,
        HvPages, //
    },
    stopped_cpus,
    sys::{
        log,
        pages::Gfp,
        rmp::Frames,
        snp_host::NoSnpEn, //
    },
};

impl<T: Transport> Platform<T> {
    /// A zeroed page for firmware to write to, in the state that firmware demands now.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; what the RMP says.
    pub(crate) fn alloc_firmware_page(&mut self, gfp: Gfp) -> Result<*mut c_void> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let page = HvPages::zeroed(gfp, 0)?;
        let page = self.channel.give(page).map_err(CmdError::errno)?;
        let address = page.virt();
        self.firmware_pages
            .insert(node.into_node(address as usize, page));
        self.record_pages();
        Ok(address)
    }

    /// Frees such a page, or keeps it from the allocator if firmware does not release it.
    pub(crate) fn free_firmware_page(&mut self, address: usize) {
        match self.firmware_pages.remove(&address) {
            Some(page) => {
                let context = page.spa().encrypted();
                // Firmware does not release a context. A loss has been logged.
                if page.take_back(&mut self.channel).is_ok() {
                    self.channel.record().set_context(context, false);
                }
            }
            None => log::err!(
                self.dev(),
                "page-of-others",
                "snp_free_firmware_page: the page at {address:#x} is not one that this driver gave out; it is left as it is"
            ),
        }
        self.record_pages();
    }

    /// SNP guests that firmware has: those whose contexts this driver has handed out, and those
    /// that were there when it came.
    pub(super) fn guests(&self) -> u32 {
        let found = match self.channel.snp() {
            Snp::Stale { guests, .. } => *guests,
            Snp::Down | Snp::Up(_) => 0,
        };
        found.saturating_add(self.channel.record().guests())
    }

    /// Firmware has made a context of the page at `address` (SNP_GCTX_CREATE), or has deleted the
    /// guest with that context (SNP_DECOMMISSION).
    pub(super) fn set_context(&self, address: Address, context: bool) {
        let mut pages = self.firmware_pages.values();
        if !context || pages.any(|page| page.spa().encrypted() == address) {
            self.channel.record().set_context(address, context);
        }
        self.record_pages();
    }

    /// The RMP has been cleared and no CPU enforces it: no page has to be reclaimed.
    pub(super) fn forget_assignments(&mut self, proof: &NoSnpEn) {
        for page in self.firmware_pages.values_mut() {
            page.forget_assignment(proof);
        }
        if let Some(tmr) = self.tmr.as_mut() {
            tmr.forget_assignment(proof);
        }
        if let Some(area) = self.nv.area() {
            area.forget_assignment(proof);
        }
        hv_fixed::released(proof);
    }

    /// SNP firmware is in the UNINIT state, by a shutdown or a reset, and has no guest any more.
    pub(super) fn forget_contexts(&self) {
        self.channel.record().forget_contexts();
        self.record_pages();
    }

    /// Updates what the panic path knows of the pages.
    fn record_pages(&self) {
        // CAST: There are fewer pages than that.
        let pages = self.firmware_pages.values().count() as u32;
        self.channel.record().set_pages(pages);
        stopped_cpus::set_guests(self.channel.record().guests());
    }

    /// Takes back pages that are firmware's, by address.
    ///
    /// # Errors
    ///
    /// Why a page cannot be reclaimed; it and all that follow are lost.
    pub(crate) fn reclaim(&mut self, frames: Frames) -> Result {
        reclaim_foreign(frames, &mut self.channel)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
