// SPDX-License-Identifier: GPL-2.0

//! Memory that firmware is lent by another mailbox than SEV's: the RMP never gives it to firmware,
//! so it comes back without a command.

use kernel::prelude::*;

use crate::{
    error::CmdError,
    pages::{
        Reclaimer,
        Spa, //
    },
    sys::snp_host::{
        Host,
        KERNEL, //
    },
};

/// Who was lent it.
pub(crate) struct Borrower {
    /// It owes an answer, and may still write to what it was lent.
    pub(crate) uses_it: bool,
}

impl Reclaimer for Borrower {
    type Refusal = CmdError;
    type Rmp = dyn Host;

    fn rmp(&self) -> &(dyn Host + 'static) {
        &KERNEL
    }

    fn is_dead(&self) -> bool {
        self.uses_it
    }

    fn page_reclaim(&mut self, _page: Spa) -> Result<(), CmdError> {
        Err(EIO.into())
    }
}
