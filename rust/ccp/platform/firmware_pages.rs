// SPDX-License-Identifier: GPL-2.0

//! Pages that kvm-amd gets for firmware to write to: guest contexts, answers to guest requests.
//!
//! The driver keeps the owner of each page; the caller has only its address. So a page that was
//! handed out before SNP came up, or outlives it, is taken back in the way it was given.

use kernel::{
    prelude::*,
    rbtree::RBTreeNodeReservation, //
};

use super::Platform;
use crate::{
    cmd::CmdError,
    mailbox::Transport,
    pages::{
        reclaim_foreign,
        HvPages, //
    },
    sys::{
        pages::Gfp,
        rmp::Frames, //
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
        Ok(address)
    }

    /// Frees such a page, or keeps it if firmware does.
    pub(crate) fn free_firmware_page(&mut self, address: usize) {
        match self.firmware_pages.remove(&address) {
            // A page that is lost has been logged.
            Some(page) => drop(page.take_back(&mut self.channel)),
            None => dev_err!(
                self.dev(),
                "snp_free_firmware_page: the page at {address:#x} is not one that this driver gave out; it is left as it is\n"
            ),
        }
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
