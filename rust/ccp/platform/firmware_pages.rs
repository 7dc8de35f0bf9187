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

use super::{
    FirmwarePage,
    Platform, //
};
use crate::{
    cmd::{
        CmdError,
        Snp, //
    },
    mailbox::Transport,
    pages::{
        reclaim_foreign,
        Address,
        HvPages, //
    },
    stopped_cpus,
    sys::{
        pages::Gfp,
        rmp::Frames,
        snp_host::NoSnpEn, //
    },
};

impl FirmwarePage {
    /// Its address, as it stands in command buffers.
    fn address(&self) -> Address {
        self.page.spa().encrypted()
    }
}

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
        let page = FirmwarePage {
            page,
            context: false,
        };
        self.firmware_pages
            .insert(node.into_node(address as usize, page));
        self.record_pages();
        Ok(address)
    }

    /// Frees such a page, or keeps it from the allocator if firmware does not release it.
    pub(crate) fn free_firmware_page(&mut self, address: usize) {
        match self.firmware_pages.remove(&address) {
            // A loss has been logged.
            Some(page) => drop(page.page.take_back(&mut self.channel)),
            None => dev_err!(
                self.dev(),
                "snp_free_firmware_page: the page at {address:#x} is not one that this driver gave out; it is left as it is\n"
            ),
        }
        self.record_pages();
    }

    /// The number of guest contexts among the pages.
    pub(super) fn contexts(&self) -> u32 {
        let contexts = self.firmware_pages.values().filter(|page| page.context);
        // CAST: There are fewer pages than that.
        contexts.count() as u32
    }

    /// SNP guests that firmware has: those whose contexts this driver has handed out, and those
    /// that were there when it came.
    pub(super) fn guests(&self) -> u32 {
        let found = match self.channel.snp() {
            Snp::Stale { guests, .. } => *guests,
            Snp::Down | Snp::Up(_) => 0,
        };
        found.saturating_add(self.contexts())
    }

    /// The address of a context.
    pub(super) fn any_context(&self) -> Option<Address> {
        let mut contexts = self.firmware_pages.values().filter(|page| page.context);
        contexts.next().map(FirmwarePage::address)
    }

    /// Firmware has made a context of the page at `address` (SNP_GCTX_CREATE), or has deleted the
    /// guest with that context (SNP_DECOMMISSION).
    pub(super) fn set_context(&mut self, address: u64, context: bool) {
        for page in self.firmware_pages.values_mut() {
            if page.address().raw() == address {
                page.context = context;
                self.channel.record().set_context(address, context);
            }
        }
        self.record_pages();
    }

    /// The RMP has been cleared and no CPU enforces it: no page has to be reclaimed.
    pub(super) fn forget_assignments(&mut self, proof: &NoSnpEn) {
        for page in self.firmware_pages.values_mut() {
            page.page.forget_assignment(proof);
        }
        if let Some(tmr) = self.tmr.as_mut() {
            tmr.forget_assignment(proof);
        }
        if let Some(area) = self.nv.area() {
            area.forget_assignment(proof);
        }
    }

    /// SNP firmware is in the UNINIT state, by a shutdown or a reset, and has no guest any more.
    pub(super) fn forget_contexts(&mut self) {
        for page in self.firmware_pages.values_mut() {
            page.context = false;
            let address = page.address().raw();
            self.channel.record().set_context(address, false);
        }
        self.record_pages();
    }

    /// Updates what the panic path knows of the pages.
    fn record_pages(&self) {
        // CAST: There are fewer pages than that.
        let pages = self.firmware_pages.values().count() as u32;
        self.channel.record().set_pages(pages);
        stopped_cpus::set_guests(self.contexts());
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
