// SPDX-License-Identifier: GPL-2.0

//! Entries of guests' pages in the reverse map table.
//!
//! Like `sys/rmp.rs`, only through the kernel's own functions. Those repeat an RMPUPDATE that
//! overlaps with an entry of another size until it does not, so whoever calls them has to look
//! first.
//!
//! C header: `arch/x86/include/asm/sev.h`

use super::{
    bindings::{
        psmash,
        rmp_make_private,
        rmp_make_shared,
        snp_host_rmp_owner,
        snp_lookup_rmpentry, //
    },
    rmp::{
        Frames,
        Kernel, //
    },
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// What an entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// A page of 4 KiB.
    Size4K,
    /// A page of 2 MiB.
    Size2M,
}

impl Level {
    /// From `enum pg_level`; [`None`] for sizes that the RMP does not have.
    pub(crate) fn from_raw(level: c_int) -> Option<Self> {
        // CAST: Small constants.
        const SIZE_4K: c_int = bindings::pg_level_PG_LEVEL_4K as c_int;
        const SIZE_2M: c_int = bindings::pg_level_PG_LEVEL_2M as c_int;
        match level {
            SIZE_4K => Some(Level::Size4K),
            SIZE_2M => Some(Level::Size2M),
            _ => None,
        }
    }

    /// As `enum pg_level`.
    pub(crate) fn raw(self) -> bindings::pg_level {
        match self {
            Level::Size4K => bindings::pg_level_PG_LEVEL_4K,
            Level::Size2M => bindings::pg_level_PG_LEVEL_2M,
        }
    }

    /// Number of 4 KiB pages.
    pub(crate) fn pages(self) -> usize {
        match self {
            Level::Size4K => 1,
            Level::Size2M => 512,
        }
    }
}

/// Whose a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The guest's address space; 0 is firmware.
    pub(crate) asid: u32,
    /// Where in the guest, in bytes.
    pub(crate) gpa: u64,
}

/// What PSMASH answers while another CPU is at the same entry.
const PSMASH_INUSE: c_int = 3;

/// Why an entry was not split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSplit {
    /// Another CPU is at it.
    InUse,
    /// It cannot be.
    Refused,
}

/// The entries of guests' pages.
pub trait GuestRmp {
    /// The size of the entry that the first frame belongs to; [`None`] if the frame is not
    /// assigned. May be called in any context.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if this is no SNP host; [`EIO`] if there is no entry.
    fn assigned(&self, frame: Frames) -> Result<Option<Level>>;

    /// Whose the first frame is, which is assigned. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EIO`] if there is no entry; [`ENOMEM`].
    fn owner(&self, frame: Frames) -> Result<Owner>;

    /// Gives a run of frames, which is one page of this size, to a guest. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EFAULT`]; the log has why.
    fn assign(&self, page: Frames, level: Level, owner: Owner, immutable: bool) -> Result;

    /// Makes a run of frames, which is one page of this size, the host's, and drops what the caches
    /// hold of it. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EFAULT`]; the log has why.
    fn release(&self, page: Frames, level: Level) -> Result;

    /// Splits the entry of the 2 MiB page that the first frame belongs to.
    ///
    /// # Errors
    ///
    /// See [`NotSplit`].
    fn split(&self, frame: Frames) -> Result<(), NotSplit>;
}

/// The state of a single entry: not assigned, or of this level as the entry at the multiple of
/// 2 MiB has it.
fn look(pfn: u64) -> Result<Option<Level>> {
    let (mut assigned, mut level) = (false, 0);
    // SAFETY: Reads an entry of the RMP, if there is one, in any context.
    match unsafe { snp_lookup_rmpentry(pfn, &raw mut assigned, &raw mut level) } {
        0 => Ok(assigned.then(|| Level::from_raw(level)).flatten()),
        errno if errno == ENODEV.to_errno() => Err(ENODEV),
        // Errors of RMPREAD are positive.
        _ => Err(EIO),
    }
}

impl GuestRmp for Kernel {
    fn assigned(&self, frame: Frames) -> Result<Option<Level>> {
        match look(frame.pfn())? {
            // The size is taken from the entry at the multiple of 2 MiB even where that is not
            // assigned, and says nothing then.
            Some(Level::Size2M) => {
                let first = frame.pfn() & !(Level::Size2M.pages() as u64 - 1);
                Ok(Some(look(first)?.unwrap_or(Level::Size4K)))
            }
            other => Ok(other),
        }
    }

    fn owner(&self, frame: Frames) -> Result<Owner> {
        let first = match self.assigned(frame)? {
            Some(Level::Size2M) => frame.pfn() & !(Level::Size2M.pages() as u64 - 1),
            _ => frame.pfn(),
        };
        let (mut asid, mut gpa) = (0, 0);
        // SAFETY: May be called in any sleepable context; both pointers are valid.
        to_result(unsafe { snp_host_rmp_owner(first, &raw mut asid, &raw mut gpa) })?;
        let offset = (frame.pfn() - first) << bindings::PAGE_SHIFT;
        Ok(Owner {
            asid,
            gpa: gpa.wrapping_add(offset),
        })
    }

    fn assign(&self, page: Frames, level: Level, owner: Owner, immutable: bool) -> Result {
        // SAFETY: The makers of `Frames` promise that the memory may be given away.
        to_result(unsafe {
            rmp_make_private(page.pfn(), owner.gpa, level.raw(), owner.asid, immutable)
        })
    }

    fn release(&self, page: Frames, level: Level) -> Result {
        // SAFETY: A shared frame is accessible to everybody; where firmware or a guest's context
        // still holds it, the hardware refuses the change.
        to_result(unsafe { rmp_make_shared(page.pfn(), level.raw()) })?;
        page.clflush();
        Ok(())
    }

    fn split(&self, frame: Frames) -> Result<(), NotSplit> {
        let first = frame.pfn() & !(Level::Size2M.pages() as u64 - 1);
        // SAFETY: Changes the size of an entry, and neither its owner nor what it covers.
        match unsafe { psmash(first) } {
            0 => Ok(()),
            PSMASH_INUSE => Err(NotSplit::InUse),
            _ => Err(NotSplit::Refused),
        }
    }
}
