// SPDX-License-Identifier: GPL-2.0

//! Memory of SNP guests: what the hooks of guest_memfd and the launch of a guest do in the RMP and
//! with firmware.
//!
//! ```text
//!            make_private()                              PVALIDATE (the guest)
//!   shared ─────────────────► assigned, not validated ─────────────────────────► valid
//!     ▲  │                                                                        │ ▲
//!     │  └── launch(): assigned, immutable ── SNP_LAUNCH_UPDATE: valid ───────────┼─┘
//!     │                     │ refused: SNP_PAGE_RECLAIM                           │
//!     ├─────────────────────┘                                                     │
//!     └────────────────────────────── make_shared() ──────────────────────────────┘
//! ```
//!
//! The RMP alone says whose a page is, here as on the CPU: nothing is recorded. A page that does
//! not come back is [`Leaked`], whoever frees it.
//!
//! The kernel repeats an RMPUPDATE that overlaps with an entry of another size until it does not.
//! So this file looks before each: a page of 2 MiB is assigned only where nothing of it is, and
//! what is in the middle of one is split from it first.

use kernel::{
    fmt,
    page::PAGE_SIZE,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

use crate::{
    pages::{
        is_lost,
        Leaked, //
    },
    sys::{
        bindings::{
            SNP_PAGE_TYPE_CPUID,
            SNP_PAGE_TYPE_VMSA, //
        },
        caller_memory::CallerMemory,
        guest_rmp::{
            GuestRmp,
            Level,
            NotSplit,
            Owner, //
        },
        mem_encrypt::sme_mask,
        rmp::Frames,
        sched::cond_resched,
        trace, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
mod vmsa;

pub(crate) use vmsa::Vmsa;

/// How many times PSMASH is repeated while another CPU works on the same entry, and the pause in
/// between. The other CPU needs the time of one instruction.
const SPLITS: usize = 100;
const SPLIT_WAIT: Delta = Delta::from_micros(10);

/// Why a guest's page does not come back.
enum Why {
    /// The kernel could not make its entry in the RMP that of a shared page.
    Refused(Error),
    /// Nor could it split the 2 MiB entry that the page is in.
    NotSplit,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Refused(err) => write!(
                f,
                "pages of a guest, whose entries in the RMP cannot be changed ({err:?})"
            ),
            Why::NotSplit => write!(
                f,
                "a page of a guest, whose 2 MiB entry in the RMP cannot be split"
            ),
        }
    }
}

/// Frames that become a guest's, from this address of the guest on.
pub(crate) struct Private {
    frames: Frames,
    level: Level,
    owner: Owner,
}

impl Private {
    /// # Errors
    ///
    /// [`EINVAL`] if a number is out of range, or does not fit the level.
    pub(crate) fn new(frames: Frames, gfn: u64, level: Level, asid: u32) -> Result<Self> {
        let pages = level.pages();
        let aligned = gfn & (pages as u64).wrapping_sub(1) == 0
            && frames.is_aligned(pages)
            && frames.count() & pages.wrapping_sub(1) == 0;
        if !aligned || frames.count() == 0 || asid == 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            frames,
            level,
            owner: Owner {
                asid,
                gpa: address(gfn)?,
            },
        })
    }

    /// How many pages of this size they are.
    fn count(&self) -> usize {
        self.frames
            .count()
            .checked_div(self.level.pages())
            .unwrap_or(0)
    }

    /// The page number `n` of this size, and its owner.
    fn page(&self, n: usize) -> Option<(Frames, Owner)> {
        let first = n.checked_mul(self.level.pages())?;
        if first >= self.frames.count() {
            return None;
        }
        let page = self.frames.skip(first).first(self.level.pages());
        let gpa = (first as u64)
            .checked_mul(PAGE_SIZE as u64)
            .and_then(|offset| offset.checked_add(self.owner.gpa))?;
        Some((page, Owner { gpa, ..self.owner }))
    }
}

/// The guest physical address of a page.
///
/// # Errors
///
/// [`EINVAL`] if there is no such address: the RMP has 39 bits for the page.
fn address(gfn: u64) -> Result<u64> {
    match gfn {
        gfn if gfn >> 39 == 0 => Ok(gfn.wrapping_mul(PAGE_SIZE as u64)),
        _ => Err(EINVAL),
    }
}

/// Gives pages to a guest, all or none. Those that the guest has already are left as they are.
///
/// # Errors
///
/// See `snp_gmem_make_private()`.
pub(crate) fn make_private(rmp: &dyn GuestRmp, pages: &Private) -> Result {
    // The last one is never given back. For the others there is room before the first one changes
    // hands.
    let rest = pages.count().saturating_sub(1);
    let mut assigned = KVVec::with_capacity(rest, GFP_KERNEL)?;
    let mut n = 0;
    while let Some((page, owner)) = pages.page(n) {
        let done = is_free(rmp, page, pages.level, owner).and_then(|free| {
            if free {
                rmp.assign(page, pages.level, owner, false)?;
                trace::pages(page, "guest", Some((owner.asid, owner.gpa)));
                if n < rest {
                    assigned.push(page, GFP_KERNEL)?;
                }
            }
            Ok(())
        });
        if let Err(err) = done {
            for page in assigned {
                release(rmp, page, pages.level);
            }
            return Err(err);
        }
        n = n.wrapping_add(1);
        cond_resched();
    }
    Ok(())
}

/// Whether nobody has this page; false if `owner` has it already.
///
/// # Errors
///
/// [`EEXIST`] if it is somebody else's; [`EIO`], [`ENODEV`] as the RMP.
fn is_free(rmp: &dyn GuestRmp, page: Frames, level: Level, owner: Owner) -> Result<bool> {
    if level == Level::Size2M && rmp.assigned(page)? != Some(Level::Size2M) {
        for frame in page.iter() {
            if rmp.assigned(frame)?.is_some() {
                return Err(EEXIST);
            }
        }
        return Ok(true);
    }
    if rmp.assigned(page)?.is_none() {
        return Ok(true);
    }
    match rmp.owner(page)? {
        found if found == owner => Ok(false),
        _ => Err(EEXIST),
    }
}

/// Makes frames the host's again; returns how many are lost.
pub(crate) fn make_shared(rmp: &dyn GuestRmp, frames: Frames) -> usize {
    let (mut n, mut lost) = (0usize, 0usize);
    while let Some(frame) = frames.get(n) {
        let rest = frames.skip(n);
        let (page, left) = match rmp.assigned(frame) {
            Ok(None) => (frame, 0),
            // There is no RMP, and nobody who could have the page.
            Err(err) if err == ENODEV => return 0,
            // Counted when it was lost, and nothing has changed since.
            _ if is_lost(frame) => (frame, 1),
            Err(err) => (frame, lose(frame, Why::Refused(err))),
            Ok(Some(Level::Size2M)) if is_whole(rest) => {
                let page = rest.first(Level::Size2M.pages());
                (page, release(rmp, page, Level::Size2M))
            }
            Ok(Some(Level::Size2M)) => match split(rmp, frame) {
                Ok(()) => (frame, release(rmp, frame, Level::Size4K)),
                Err(_) => (frame, lose(frame, Why::NotSplit)),
            },
            Ok(Some(Level::Size4K)) => (frame, release(rmp, frame, Level::Size4K)),
        };
        n = n.saturating_add(page.count());
        lost = lost.saturating_add(left);
        cond_resched();
    }
    lost
}

/// Whether these frames begin with all of a page of 2 MiB.
fn is_whole(frames: Frames) -> bool {
    let pages = Level::Size2M.pages();
    frames.is_aligned(pages) && frames.count() >= pages
}

/// Splits the entry that a frame is in. Another CPU that is at it is given some time, but not for
/// ever.
fn split(rmp: &dyn GuestRmp, frame: Frames) -> Result<(), NotSplit> {
    for _ in 0..SPLITS {
        match rmp.split(frame) {
            Err(NotSplit::InUse) => fsleep(SPLIT_WAIT),
            result => return result,
        }
    }
    Err(NotSplit::InUse)
}

/// Returns how many frames are lost.
fn release(rmp: &dyn GuestRmp, page: Frames, level: Level) -> usize {
    match rmp.release(page, level) {
        Ok(()) => {
            trace::pages(page, "host", None);
            0
        }
        Err(err) => lose(page, Why::Refused(err)),
    }
}

fn lose(frames: Frames, why: Why) -> usize {
    let _ = Leaked::foreign(frames, &why);
    frames.count()
}

/// The largest level at which a page may be mapped.
pub(crate) fn max_level(rmp: &dyn GuestRmp, frame: Frames) -> Level {
    match rmp.assigned(frame) {
        Ok(Some(level)) => level,
        _ => Level::Size4K,
    }
}

/// What is to be in a page that is launched.
pub(crate) enum Contents {
    /// A copy of this frame.
    CopyOf(Frames),
    /// What is there.
    InPlace,
    /// A VMSA that has been checked.
    Vmsa(Vmsa),
}

/// A page of a guest that is being launched.
pub(crate) struct LaunchPage {
    gctx: u64,
    frame: Frames,
    owner: Owner,
    page_type: u32,
    contents: Contents,
}

impl LaunchPage {
    /// # Errors
    ///
    /// [`EINVAL`] if a number is out of range, and for a VMSA at a multiple of 2 MiB of the guest;
    /// [`EAGAIN`] for a VMSA at a multiple of 2 MiB of the host's memory, whose entry in the RMP
    /// some CPUs take for that of the whole 2 MiB.
    pub(crate) fn new(
        gctx: u64,
        frame: Frames,
        gfn: u64,
        asid: u32,
        page_type: u32,
        contents: Contents,
    ) -> Result<Self> {
        let pages = Level::Size2M.pages();
        let vmsa = page_type == SNP_PAGE_TYPE_VMSA;
        let wrong_type = matches!(contents, Contents::Vmsa(_)) && !vmsa;
        let wrong_place = vmsa && gfn & (pages as u64).wrapping_sub(1) == 0;
        if wrong_place || wrong_type || asid == 0 || !(1..8).contains(&page_type) {
            return Err(EINVAL);
        }
        if vmsa && frame.is_aligned(pages) {
            return Err(EAGAIN);
        }
        Ok(Self {
            gctx,
            frame,
            owner: Owner {
                asid,
                gpa: address(gfn)?,
            },
            page_type,
            contents,
        })
    }

    /// Where the page is.
    pub(crate) fn frame(&self) -> Frames {
        self.frame
    }

    /// Whose it becomes.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The page that firmware's corrections go to, if it makes any.
    pub(crate) fn corrections_to(&self) -> Option<Frames> {
        match self.contents {
            Contents::CopyOf(source) if self.page_type == SNP_PAGE_TYPE_CPUID => Some(source),
            _ => None,
        }
    }

    /// The command buffer of SNP_LAUNCH_UPDATE: context, flags with the size (4 KiB) in bit 0 and
    /// the type in bits 3:1, the page, no rights for VMPL 1 to 3.
    pub(crate) fn command_buffer(&self) -> [u8; 32] {
        let mut buffer = [0; 32];
        let (gctx, rest) = buffer.split_at_mut(8);
        let (flags, rest) = rest.split_at_mut(8);
        let (page, _) = rest.split_at_mut(8);
        gctx.copy_from_slice(&self.gctx.to_le_bytes());
        flags.copy_from_slice(&u64::from(self.page_type << 1).to_le_bytes());
        page.copy_from_slice(&(self.frame.phys() | sme_mask()).to_le_bytes());
        buffer
    }

    /// Puts the contents into the page.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if a page is not in the direct map.
    pub(crate) fn fill(&self, memory: &CallerMemory) -> Result {
        match &self.contents {
            Contents::CopyOf(source) => memory.copy_page(self.frame, *source),
            Contents::InPlace => Ok(()),
            Contents::Vmsa(vmsa) => memory.write(self.frame.phys(), vmsa.bytes()),
        }
    }
}
