// SPDX-License-Identifier: GPL-2.0

//! Who owns a page: this driver or firmware; and what becomes of a page after a time-out.
//!
//! ```text
//!                 into_firmware()  (RMP: Firmware state)
//!              ┌───────────────────────────────────────► FwPages
//!   HvPages ───┤ lend()           (RMP untouched)            │
//!      ▲       └───────────────────────────────────────►     │ take_back()
//!      │                                                      │
//!      ├──────────────── firmware has released it ────────────┤
//!      │                                                      │
//!   (freed)               mailbox dead, reclaim refused ──────┴──► Leaked (kept for ever)
//! ```
//!
//! The driver reads, writes and frees [`HvPages`]; [`FwPages`] have an address, and contents to
//! read while firmware carries out no command. A physical address ([`Spa`]) for a command comes
//! only from [`FwPages`], so no buffer is freed while firmware may write to it: after a time-out
//! [`FwPages::take_back`] keeps the pages from the allocator for good (`pages/lost.rs`).
//!
//! [`FwPages`] know whether they were assigned or lent. Whether SNP is initialised when they come
//! back plays no role.

use kernel::{
    fmt,
    prelude::*, //
};
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

use crate::sys::{
    mem_encrypt::sme_mask,
    rmp::{
        Frames,
        Rmp, //
    },
    snp_host::NoSnpEn,
    trace,
    volatile::Volatile, //
};

mod lost;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// Pages of ours: readable, writable, freed when dropped.
pub(crate) use crate::sys::pages::Pages as HvPages;
pub(crate) use lost::{
    is_lost,
    leaked,
    Leaked,
    Record, //
};

/// A system physical address that firmware may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spa(u64);

impl Spa {
    /// With the encryption bit: with SME the host accesses the memory encrypted, and firmware has
    /// to do the same. Without SME equal to [`Self::plain`].
    pub(crate) fn encrypted(self) -> Address {
        Address(self.0 | sme_mask())
    }

    /// Without the encryption bit: for the TMR and for SNP_PAGE_RECLAIM.
    pub(crate) fn plain(self) -> Address {
        Address(self.0)
    }
}

/// An address in a command buffer or in the mailbox's registers. Only a [`Spa`] makes a new one. As
/// bytes it comes back from where it was stored: a command buffer, or the record for the panic
/// path.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub(crate) struct Address(u64);

impl Address {
    /// No address: the command has no command buffer, or the field no buffer.
    pub(crate) const NONE: Self = Self(0);

    /// The number.
    pub(crate) fn raw(self) -> u64 {
        self.0
    }
}

/// How many blocks are tried until one can be given to firmware.
const TRIES: usize = 3;

/// Why pages are kept that firmware was given: it may still write to them.
pub(crate) const UNANSWERED: &str = "firmware did not answer and may still be using them";

/// Why pages are kept that nobody has taken back.
pub(crate) const DROPPED: &str = "they were firmware's when their owner went away";

/// The way to firmware, for taking pages back.
pub(crate) trait Reclaimer {
    /// Why a page was not reclaimed.
    type Refusal: fmt::Display + Into<Error>;
    /// The machine, or tests' stand-in for it.
    type Rmp: Rmp + ?Sized;

    /// The RMP in which the pages change their state.
    fn rmp(&self) -> &Self::Rmp;

    /// Whether the mailbox is dead, so that firmware may still be using what it was given.
    fn is_dead(&self) -> bool;

    /// SNP_PAGE_RECLAIM of one 4 KiB page.
    fn page_reclaim(&mut self, page: Spa) -> Result<(), Self::Refusal>;
}

/// Puts frames into the Firmware state, all or none.
///
/// On failure the frames already changed are taken back.
fn assign<R: Reclaimer>(frames: Frames, reclaimer: &mut R) -> Result<(), NotAssigned<R::Refusal>> {
    for (n, frame) in frames.iter().enumerate() {
        if let Err(err) = reclaimer.rmp().make_firmware(frame) {
            return Err(match unassign(frames.first(n), reclaimer) {
                Ok(()) => NotAssigned::Refused(frame, err),
                Err(stuck) => NotAssigned::Stuck(stuck),
            });
        }
    }
    trace::pages(frames, "firmware", None);
    Ok(())
}

/// Why frames were not put into the Firmware state.
enum NotAssigned<E> {
    /// The RMP refused this frame.
    Refused(Frames, Error),
    /// A frame that was assigned before could not be taken back.
    Stuck(Stuck<E>),
}

/// A frame that could not be taken back.
struct Stuck<E> {
    /// The frame, and those after it, which were not tried. The frames before it are their owner's
    /// again.
    rest: Frames,
    why: NotUnassigned<E>,
}

impl<E: fmt::Display> Stuck<E> {
    /// Keeps frames of others from the allocator.
    fn leak(&self) -> Leaked {
        Leaked::foreign(self.rest, &self.why)
    }
}

/// Why a frame could not be taken back.
enum NotUnassigned<E> {
    /// Firmware, or the mailbox, refused SNP_PAGE_RECLAIM.
    Reclaim(E),
    /// The kernel could not change the entry in the RMP.
    Rmp(Error),
}

impl<E: fmt::Display> fmt::Display for NotUnassigned<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reclaim(err) => f.write_fmt(fmt!("SNP_PAGE_RECLAIM: {err}")),
            Self::Rmp(err) => write!(
                f,
                "firmware released the page, but its RMP entry cannot be changed ({err:?})"
            ),
        }
    }
}

/// Takes frames in the Firmware (or Reclaim) state back.
fn unassign<R: Reclaimer>(frames: Frames, reclaimer: &mut R) -> Result<(), Stuck<R::Refusal>> {
    for (n, frame) in frames.iter().enumerate() {
        let reclaimed = reclaimer.page_reclaim(Spa(frame.phys()));
        let unassigned = reclaimed.map_err(NotUnassigned::Reclaim).and_then(|()| {
            let shared = reclaimer.rmp().make_shared(frame);
            shared.map_err(NotUnassigned::Rmp)
        });
        unassigned.map_err(|why| Stuck {
            rest: frames.skip(n),
            why,
        })?;
    }
    trace::pages(frames, "host", None);
    Ok(())
}

/// Takes back the assigned ones among the frames, each for itself, and returns how many stay
/// firmware's. `reclaim` issues SNP_PAGE_RECLAIM and returns whether firmware released the page.
///
/// For the panic path: nothing is logged or recorded.
pub(crate) fn unassign_each(
    frames: Frames,
    rmp: &(impl Rmp + ?Sized),
    mut reclaim: impl FnMut(Address) -> bool,
) -> usize {
    frames
        .iter()
        .filter(|frame| rmp.is_assigned(*frame))
        .filter(|frame| {
            let reclaimed = reclaim(Spa(frame.phys()).plain());
            !reclaimed || rmp.make_shared(*frame).is_err()
        })
        .count()
}

impl HvPages {
    /// The page frames.
    pub(crate) fn frames(&self) -> Frames {
        Frames::of(self)
    }

    /// Gives the pages to firmware for reading, or for writing while SNP is not initialised,
    /// without a change in the RMP.
    pub(crate) fn lend(self) -> FwPages {
        FwPages::new(self, false)
    }

    /// Puts the pages into the Firmware state, for writing while SNP is initialised.
    ///
    /// If the RMP refuses a page (its entry is immutable, or missing) another block with the same
    /// contents takes its place. The refused block is kept from the allocator, which would hand it
    /// out again and again.
    ///
    /// # Errors
    ///
    /// [`EIO`] if the RMP refused several blocks; [`ENOMEM`]; [`EFAULT`] if a page that was
    /// assigned already could not be taken back. None of the blocks is freed.
    pub(crate) fn into_firmware<R: Reclaimer>(self, reclaimer: &mut R) -> Result<FwPages> {
        let mut pages = self;
        let mut tries = 1;
        loop {
            let (frame, err) = match assign(Frames::of(&pages), reclaimer) {
                Ok(()) => return Ok(FwPages::new(pages, true)),
                Err(NotAssigned::Refused(frame, err)) => (frame, err),
                Err(NotAssigned::Stuck(stuck)) => {
                    // One allocation is kept as a whole.
                    Leaked::own(pages, &stuck.why);
                    return Err(EFAULT);
                }
            };
            let next = if tries < TRIES {
                pages.copy()
            } else {
                Err(EIO)
            };
            Leaked::own(
                pages,
                &fmt!(
                    "page {:#x} cannot be given to firmware ({err:?}): its RMP entry is immutable, or the RMP has none",
                    frame.pfn()
                ),
            );
            pages = next?;
            tries += 1;
        }
    }
}

/// Pages that firmware may read and write. Dropping them without [`Self::take_back`] leaks them.
#[must_use = "dropping it leaks the pages"]
pub(crate) struct FwPages {
    /// Only absent while the object is being taken apart.
    pages: Option<HvPages>,
    frames: Frames,
    /// In the Firmware state of the RMP: SNP_PAGE_RECLAIM has to release the pages.
    assigned: bool,
}

impl FwPages {
    fn new(pages: HvPages, assigned: bool) -> Self {
        Self {
            frames: Frames::of(&pages),
            pages: Some(pages),
            assigned,
        }
    }

    /// The address for a command.
    pub(crate) fn spa(&self) -> Spa {
        Spa(self.frames.phys())
    }

    /// The page frames.
    pub(crate) fn frames(&self) -> Frames {
        self.frames
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.pages.as_ref().map_or(0, HvPages::len)
    }

    /// The contents, while firmware carries out no command: the RMP lets CPUs read.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.pages.as_ref().map_or(&[], HvPages::bytes)
    }

    /// The contents, for memory that firmware uses at the same time.
    pub(crate) fn volatile(&self) -> Option<Volatile<'_>> {
        self.pages.as_ref().map(HvPages::volatile)
    }

    /// Kernel virtual address, for a C caller that owns the contents.
    pub(crate) fn virt(&self) -> *mut c_void {
        self.pages
            .as_ref()
            .map_or(core::ptr::null_mut(), HvPages::virt)
    }

    /// The RMP has been cleared and no CPU enforces it any more: there is nothing to reclaim.
    pub(crate) fn forget_assignment(&mut self, _proof: &NoSnpEn) {
        self.assigned = false;
    }

    /// Takes the pages back after firmware has finished with them.
    ///
    /// # Errors
    ///
    /// If the mailbox is dead or a page cannot be reclaimed: then the pages stay firmware's.
    pub(crate) fn take_back<R: Reclaimer>(mut self, reclaimer: &mut R) -> Result<HvPages, Leaked> {
        if self.assigned && !reclaimer.is_dead() {
            if let Err(stuck) = unassign(self.frames, reclaimer) {
                return Err(self.keep(&stuck.why));
            }
        }
        if reclaimer.is_dead() {
            return Err(self.keep(&UNANSWERED));
        }
        self.pages.take().ok_or(Leaked::BEFORE)
    }

    /// Withholds the pages from the allocator for good.
    fn keep(&mut self, why: &dyn fmt::Display) -> Leaked {
        // One allocation is freed as a whole or not at all.
        match self.pages.take() {
            Some(pages) => Leaked::own(pages, why),
            None => Leaked::BEFORE,
        }
    }
}

impl Drop for FwPages {
    fn drop(&mut self) {
        self.keep(&DROPPED);
    }
}

/// Pages of a guest, given to firmware in place for one command.
///
/// The pages belong to the caller of `sev_do_cmd()`, which unpins and frees them later. Pages that
/// cannot be taken back get a reference before that, which keeps them from the allocator.
#[must_use = "the pages stay firmware's"]
pub(crate) struct GuestPages(Frames);

impl GuestPages {
    /// Puts the frames into the Firmware state.
    ///
    /// # Errors
    ///
    /// If the RMP refuses.
    pub(crate) fn into_firmware<R: Reclaimer>(frames: Frames, reclaimer: &mut R) -> Result<Self> {
        match assign(frames, reclaimer) {
            Ok(()) => Ok(Self(frames)),
            Err(NotAssigned::Refused(_, err)) => Err(err),
            Err(NotAssigned::Stuck(stuck)) => {
                stuck.leak();
                Err(EFAULT)
            }
        }
    }

    /// Takes the frames back.
    ///
    /// # Errors
    ///
    /// If the mailbox is dead or a page cannot be reclaimed.
    pub(crate) fn take_back<R: Reclaimer>(self, reclaimer: &mut R) -> Result<(), Leaked> {
        if reclaimer.is_dead() {
            return Err(Leaked::foreign(self.0, &UNANSWERED));
        }
        unassign(self.0, reclaimer).map_err(|stuck| stuck.leak())
    }
}

/// Takes back pages that a caller names by address (`snp_reclaim_pages()`).
///
/// # Errors
///
/// Why a page cannot be reclaimed; it and all that follow are then kept from the allocator.
pub(crate) fn reclaim_foreign<R: Reclaimer>(frames: Frames, reclaimer: &mut R) -> Result {
    unassign(frames, reclaimer).map_err(|stuck| {
        stuck.leak();
        match stuck.why {
            NotUnassigned::Reclaim(err) => err.into(),
            NotUnassigned::Rmp(err) => err,
        }
    })
}
