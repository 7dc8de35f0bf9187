// SPDX-License-Identifier: GPL-2.0

//! Firmware's persistent state (NV: non-volatile data), which are the platform's keys and
//! certificates, in memory of the host: INIT_EX.
//!
//! While legacy SEV is initialised firmware owns the NV area, and changes it during commands alone.
//! `nv_file.rs` has the file from which the contents come and to which they go.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    cmd::{
        Channel,
        CmdError, //
    },
    mailbox::Transport,
    pages::{
        FwPages,
        HvPages, //
    },
    sys::{
        errno::ENODATA,
        log, //
    },
};

/// Size of the NV area, which INIT_EX demands (SEV ABI), and of the file.
pub(crate) const LEN: usize = 32 << 10;

/// What is in the NV area.
pub(crate) struct Contents(KVVec<u8>);

impl Contents {
    /// Those with which firmware makes new keys: the SEV ABI wants all bits set.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn blank() -> Result<Arc<Self>> {
        Self::new(KVVec::from_elem(0xff, LEN, GFP_KERNEL)?)
    }

    /// A copy of these bytes.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Arc<Self>> {
        let mut copy = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        Self::new(copy)
    }

    /// These [`LEN`] bytes.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn new(bytes: KVVec<u8>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(bytes), GFP_KERNEL)?)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where firmware's persistent state is.
pub(crate) enum Nv {
    /// In the PSP's own storage (INIT).
    Psp,
    /// In a file that has not been read, or that could not be read, and why.
    Unread(Error),
    /// In a file (INIT_EX).
    File {
        /// What the file has, or is going to have.
        contents: Arc<Contents>,
        /// The file does not have them yet.
        changed: bool,
        /// What firmware has.
        area: Option<FwPages>,
    },
}

impl Nv {
    /// In a file that has not been read, if `in_file`.
    pub(crate) fn new(in_file: bool) -> Self {
        match in_file {
            true => Nv::Unread(ENODATA),
            false => Nv::Psp,
        }
    }

    /// Whether the file is to be read.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, Nv::Unread(_))
    }

    /// What was in the file, or why it could not be read.
    pub(crate) fn set(&mut self, read: Result<Arc<Contents>>) {
        if !self.is_unread() {
            // Another task was faster, and firmware may have changed them since.
            return;
        }
        *self = match read {
            Ok(contents) => Nv::File {
                contents,
                changed: false,
                area: None,
            },
            Err(err) => Nv::Unread(err),
        };
    }

    /// The area, while firmware has it.
    pub(crate) fn area(&mut self) -> Option<&mut FwPages> {
        match self {
            Nv::File { area, .. } => area.as_mut(),
            Nv::Psp | Nv::Unread(_) => None,
        }
    }

    /// Gives firmware the NV area, if its state is in a file.
    ///
    /// # Errors
    ///
    /// Why the file could not be read, which has been logged; why there is no area.
    pub(crate) fn give<T: Transport>(&mut self, channel: &mut Channel<T>) -> Result<(), CmdError> {
        // One that firmware had before a reset.
        self.take_back(channel);
        let (contents, area) = match self {
            Nv::Psp => return Ok(()),
            Nv::Unread(err) => return Err((*err).into()),
            Nv::File { contents, area, .. } => (contents, area),
        };
        let pages = HvPages::with_data(contents.bytes())?;
        channel.record().set_nv(Some(pages.frames()));
        match channel.give(pages) {
            Ok(pages) => {
                *area = Some(pages);
                Ok(())
            }
            Err(err) => {
                channel.record().set_nv(None);
                Err(err)
            }
        }
    }

    /// Takes the NV area back. Legacy firmware must be in the UNINIT state.
    pub(crate) fn take_back<T: Transport>(&mut self, channel: &mut Channel<T>) {
        if channel.alive().is_ok() {
            self.look();
        }
        let Nv::File { area, .. } = self else { return };
        if let Some(area) = area.take() {
            // A failure has been logged.
            let _ = area.take_back(channel);
            channel.record().set_nv(None);
        }
    }

    /// Firmware was reset while SNP was initialised: the area stays firmware's for ever.
    pub(crate) fn lose_area(&mut self) {
        if let Nv::File { area, .. } = self {
            drop(area.take());
        }
    }

    /// FACTORY_RESET has deleted firmware's state. Firmware in the UNINIT state knows no NV area,
    /// so what is in the file is the host's to delete.
    pub(crate) fn delete(&mut self) {
        self.replace(Contents::blank());
    }

    /// Returns what the file is to have since the last call, if that is something new.
    pub(crate) fn take_changed<T: Transport>(
        &mut self,
        channel: &mut Channel<T>,
    ) -> Option<Arc<Contents>> {
        // After a command without an answer firmware may be writing.
        if channel.take_platform_command() && channel.alive().is_ok() {
            self.look();
        }
        match self {
            Nv::File {
                contents, changed, ..
            } => core::mem::take(changed).then(|| contents.clone()),
            Nv::Psp | Nv::Unread(_) => None,
        }
    }

    /// Notes what firmware has left in the area.
    fn look(&mut self) {
        if let Nv::File {
            contents,
            area: Some(area),
            ..
        } = self
        {
            if contents.bytes() != area.bytes() {
                let copy = Contents::copy_of(area.bytes());
                self.replace(copy);
            }
        }
    }

    fn replace(&mut self, new: Result<Arc<Contents>>) {
        let Nv::File {
            contents, changed, ..
        } = self
        else {
            return;
        };
        match new {
            Ok(new) => (*contents, *changed) = (new, true),
            Err(err) => log::err!(
                "nv-no-memory",
                "init_ex_path: SEV's keys have changed, and the file has the old ones ({err:?}): no memory for a copy; the next change of keys is written"
            ),
        }
    }
}
