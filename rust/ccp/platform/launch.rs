// SPDX-License-Identifier: GPL-2.0

//! Pages of SNP guests, launched one by one.

use kernel::prelude::*;

use super::{
    Failure,
    Platform, //
};
use crate::{
    gmem::LaunchPage,
    mailbox::Transport,
    sys::{
        caller_memory::CallerMemory,
        guest_rmp::{
            GuestRmp,
            Level, //
        },
    },
    wire::{
        CommandId,
        Relayed,
        Status, //
    },
};

impl<T: Transport> Platform<T> {
    /// Launches a page that nobody has. If that fails it is nobody's again, or lost.
    ///
    /// # Errors
    ///
    /// See `snp_gmem_launch()`.
    pub(crate) fn launch_page(
        &mut self,
        rmp: &dyn GuestRmp,
        page: &LaunchPage,
        memory: &CallerMemory,
    ) -> Result<(), Failure> {
        let update = Relayed::new(CommandId::SNP_LAUNCH_UPDATE.row()).ok_or(EINVAL)?;
        // A page that is assigned for a command that cannot be issued would be lost.
        self.channel.alive()?;
        if rmp.assigned(page.frame())?.is_some() {
            return Err(EEXIST.into());
        }
        // EFAULT says that the page is lost; so far it is not.
        page.fill(memory).map_err(|_| EINVAL)?;
        // Immutable, so that nobody changes the entry under firmware's hands.
        rmp.assign(page.frame(), Level::Size4K, page.owner(), true)
            .map_err(|_| EIO)?;
        let Err(failure) = self.relay(update, &mut page.command_buffer(), memory) else {
            return Ok(());
        };
        if self.reclaim(page.frame()).is_err() {
            return Err(Failure {
                errno: EFAULT,
                ..failure
            });
        }
        // Firmware has put what it expects into the page, in plain text.
        if failure.fw_error == Some(Status::INVALID_PARAM.raw().into()) {
            if let Some(source) = page.corrections_to() {
                memory.copy_page(source, page.frame())?;
            }
        }
        Err(failure)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
