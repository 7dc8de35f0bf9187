// SPDX-License-Identifier: GPL-2.0

//! SFS (seamless firmware servicing): firmware of the PSP and of others is replaced while the
//! machine runs.
//!
//! A request lies in a buffer of 2 MiB, which the PSP overwrites with its answer.
//!
//! Source: drivers/crypto/ccp/sfs.c of Linux 7.3.

use kernel::prelude::*;
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

use crate::{
    hv_fixed,
    pages::{
        FwPages,
        HvPages, //
    },
    psp_mailbox::{
        Order,
        PspMailbox, //
    },
    regs::BarIo,
    sys::bindings::{
        psp_platform_access_msg_PSP_SFS_GET_FW_VERSIONS as GET_VERSIONS,
        psp_platform_access_msg_PSP_SFS_UPDATE as UPDATE, //
    },
};

/// The first page is the request's own; the answer, or a package, lies behind it.
const PAGE: usize = 0x1000;
/// A package's request is padded to a multiple of this.
const UNIT: usize = 0x1_0000;
/// The size of the buffer.
const LIMIT: usize = 2 << 20;
/// What a page for versions is filled with.
const UNTOUCHED: u8 = 0xc7;

/// How a request begins.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    /// Of the whole request.
    size: u32,
    number: u32,
    status: u32,
    extended_status: u32,
}

/// What the PSP has answered.
pub(crate) struct Answer {
    /// [`EIO`] if it refuses.
    pub(crate) result: Result,
    pub(crate) status: u32,
    pub(crate) extended_status: u32,
}

/// The buffer.
enum Buffer {
    Ours(HvPages),
    /// The PSP did not answer in time, and may still use it.
    Firmwares(FwPages),
}

/// SFS of one PSP.
pub(crate) struct Sfs {
    /// [`None`] only while the object is being taken apart.
    buffer: Option<Buffer>,
}

impl Sfs {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            buffer: Some(Buffer::Ours(hv_fixed::take()?)),
        })
    }

    /// Asks which versions run, and leaves the answer in `versions`, a page.
    ///
    /// # Errors
    ///
    /// What [`PspMailbox::send`] returns.
    pub(crate) fn versions<I: BarIo>(
        &mut self,
        mailbox: &mut PspMailbox<I>,
        versions: &mut [u8],
    ) -> Result<Answer> {
        let answer = self.request(mailbox, GET_VERSIONS, 2 * PAGE, |body| {
            body.iter_mut()
                .take(PAGE)
                .for_each(|byte| *byte = UNTOUCHED);
        })?;
        if let Some(Buffer::Ours(pages)) = &self.buffer {
            let page = pages.bytes().get(PAGE..).ok_or(EINVAL)?;
            for (to, from) in versions.iter_mut().zip(page) {
                *to = *from;
            }
        }
        Ok(answer)
    }

    /// The size of the request for a package of that many bytes, if it fits.
    ///
    /// # Errors
    ///
    /// [`E2BIG`].
    pub(crate) fn size_with(package: usize) -> Result<usize> {
        let size = package
            .checked_add(PAGE)
            .and_then(|size| size.checked_next_multiple_of(UNIT));
        size.filter(|size| *size <= LIMIT).ok_or(E2BIG)
    }

    /// Has the PSP load a package.
    ///
    /// # Errors
    ///
    /// [`E2BIG`]; what [`PspMailbox::send`] returns.
    pub(crate) fn update<I: BarIo>(
        &mut self,
        mailbox: &mut PspMailbox<I>,
        package: &[u8],
    ) -> Result<Answer> {
        let size = Self::size_with(package.len())?;
        self.request(mailbox, UPDATE, size, |body| {
            if let Some(contents) = body.get_mut(..package.len()) {
                contents.copy_from_slice(package);
            }
            if let Some(padding) = body.get_mut(package.len()..size.saturating_sub(PAGE)) {
                padding.fill(0);
            }
        })
    }

    /// Sends a request; `fill` writes what lies behind the first page.
    fn request<I: BarIo>(
        &mut self,
        mailbox: &mut PspMailbox<I>,
        number: u32,
        size: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Answer> {
        // From here on the PSP does not use the buffer.
        mailbox.need_ready()?;
        let mut pages = match self.buffer.take() {
            Some(Buffer::Ours(pages)) => pages,
            Some(Buffer::Firmwares(pages)) => {
                pages.take_back(&mut mailbox.borrower()).map_err(|_| EIO)?
            }
            None => return Err(ENODEV),
        };
        let request = Header {
            // CAST: 2 MiB at most.
            size: size as u32,
            number,
            ..Header::default()
        };
        pages.put(0, request.as_bytes())?;
        fill(pages.bytes_mut().get_mut(PAGE..).ok_or(EINVAL)?);
        let pages = pages.lend();
        let sent = mailbox.send(Order::Extended(pages.spa().encrypted()));
        if sent == Err(ETIMEDOUT) {
            self.buffer = Some(Buffer::Firmwares(pages));
            return Err(ETIMEDOUT);
        }
        let pages = pages.take_back(&mut mailbox.borrower()).map_err(|_| EIO)?;
        let header = Header::read_from_prefix(pages.bytes())
            .map_err(|_| EINVAL)?
            .0;
        self.buffer = Some(Buffer::Ours(pages));
        let refusal = sent?;
        Ok(Answer {
            result: if refusal == 0 { Ok(()) } else { Err(EIO) },
            status: if refusal == 0 { header.status } else { refusal },
            extended_status: header.extended_status,
        })
    }

    /// Gives the buffer up: it is lost if the PSP may still use it.
    pub(crate) fn leave<I: BarIo>(mut self, mailbox: &mut PspMailbox<I>) {
        self.buffer = match self.buffer.take() {
            Some(Buffer::Firmwares(pages)) => {
                let frames = pages.frames();
                match pages.take_back(&mut mailbox.borrower()) {
                    Ok(pages) => Some(Buffer::Ours(pages)),
                    Err(_) => {
                        hv_fixed::lost(frames);
                        None
                    }
                }
            }
            buffer => buffer,
        };
    }
}

impl Drop for Sfs {
    fn drop(&mut self) {
        match self.buffer.take() {
            Some(Buffer::Ours(pages)) => hv_fixed::give_back(pages),
            // Nobody can ask whether the PSP still uses the buffer.
            Some(Buffer::Firmwares(pages)) => hv_fixed::lost(pages.frames()),
            None => {}
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
