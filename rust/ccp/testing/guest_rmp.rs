// SPDX-License-Identifier: GPL-2.0

//! An RMP for guests' pages, in which changes fail as a test says.

use core::cell::Cell;

use kernel::prelude::*;

use super::script::FailAt;
use crate::sys::{
    guest_rmp::{
        GuestRmp,
        Level,
        NotSplit,
        Owner, //
    },
    rmp::Frames,
};

/// The entries of a block.
pub(crate) struct FakeRmp {
    frames: Frames,
    entries: KVec<Cell<Option<(Level, Owner)>>>,
    /// Which change to a guest's page, and to a shared one, fails.
    pub(crate) assign_fails: FailAt,
    pub(crate) release_fails: FailAt,
    /// How often an entry that is to be split is in use.
    pub(crate) busy: Cell<usize>,
    /// And whether it cannot be split at all.
    pub(crate) unsplittable: Cell<bool>,
    /// Why entries cannot be looked at.
    pub(crate) blind: Cell<Option<Error>>,
    assigns: Cell<usize>,
    immutable: Cell<usize>,
    releases: Cell<usize>,
    splits: Cell<usize>,
    /// A change was tried that the kernel would repeat for ever, or that nobody may make.
    illegal: Cell<bool>,
}

impl FakeRmp {
    /// Nobody has anything of these frames, which begin at a multiple of 2 MiB.
    pub(crate) fn new(frames: Frames) -> Result<Self> {
        let mut entries = KVec::new();
        for _ in frames.iter() {
            entries.push(Cell::new(None), GFP_KERNEL)?;
        }
        Ok(Self {
            frames,
            entries,
            assign_fails: FailAt::never(),
            release_fails: FailAt::never(),
            busy: Cell::new(0),
            unsplittable: Cell::new(false),
            blind: Cell::new(None),
            assigns: Cell::new(0),
            immutable: Cell::new(0),
            releases: Cell::new(0),
            splits: Cell::new(0),
            illegal: Cell::new(false),
        })
    }

    fn entry(&self, frame: Frames) -> Option<&Cell<Option<(Level, Owner)>>> {
        let n = frame.pfn().checked_sub(self.frames.pfn())?;
        self.entries.get(n as usize)
    }

    fn get(&self, frame: Frames) -> Option<(Level, Owner)> {
        self.entry(frame).and_then(Cell::get)
    }

    /// Changes entries, if that is legal for each.
    fn change(
        &self,
        page: Frames,
        to: Option<(Level, Owner)>,
        legal: impl Fn(Option<Level>) -> bool,
    ) {
        for (n, frame) in page.iter().enumerate() {
            if !legal(self.get(frame).map(|(level, _)| level)) {
                self.illegal.set(true);
            }
            let to = to.map(|(level, owner)| {
                let gpa = owner.gpa.wrapping_add((n as u64) << 12);
                (level, Owner { gpa, ..owner })
            });
            match self.entry(frame) {
                Some(entry) => entry.set(to),
                None => self.illegal.set(true),
            }
        }
    }

    /// Whether all frames have this level, ASID and (the first) guest page number, or are nobody's.
    pub(crate) fn all(&self, frames: Frames, whose: Option<(Level, u32, u64)>) -> bool {
        frames.iter().enumerate().all(|(n, frame)| {
            let expected = whose.map(|(level, asid, gfn)| {
                let gpa = gfn.wrapping_add(n as u64) << 12;
                (level, Owner { asid, gpa })
            });
            self.get(frame) == expected
        })
    }

    /// How many changes to a guest's page there were.
    pub(crate) fn assigns(&self) -> usize {
        self.assigns.get()
    }

    /// How many of them made an entry immutable.
    pub(crate) fn immutable(&self) -> usize {
        self.immutable.get()
    }

    /// How many changes to a shared page were tried.
    pub(crate) fn releases(&self) -> usize {
        self.releases.get()
    }

    /// How many times an entry was to be split.
    pub(crate) fn splits(&self) -> usize {
        self.splits.get()
    }

    /// Whether nothing was tried that nobody may.
    pub(crate) fn is_legal(&self) -> bool {
        !self.illegal.get()
    }
}

fn count(counter: &Cell<usize>) {
    counter.set(counter.get().wrapping_add(1));
}

impl GuestRmp for FakeRmp {
    fn assigned(&self, frame: Frames) -> Result<Option<Level>> {
        match self.blind.get() {
            Some(err) => Err(err),
            None => Ok(self.get(frame).map(|(level, _)| level)),
        }
    }

    fn owner(&self, frame: Frames) -> Result<Owner> {
        self.get(frame).map(|(_, owner)| owner).ok_or(EIO)
    }

    fn assign(&self, page: Frames, level: Level, owner: Owner, immutable: bool) -> Result {
        self.assign_fails.call()?;
        count(&self.assigns);
        if immutable {
            count(&self.immutable);
        }
        if page.count() != level.pages() || !page.is_aligned(level.pages()) {
            self.illegal.set(true);
        }
        self.change(page, Some((level, owner)), |before| before.is_none());
        Ok(())
    }

    fn release(&self, page: Frames, level: Level) -> Result {
        count(&self.releases);
        self.release_fails.call()?;
        if page.count() != level.pages() || !page.is_aligned(level.pages()) {
            self.illegal.set(true);
        }
        self.change(page, None, |before| before == Some(level));
        Ok(())
    }

    fn split(&self, frame: Frames) -> Result<(), NotSplit> {
        count(&self.splits);
        match self.busy.get() {
            0 => {}
            usize::MAX => return Err(NotSplit::InUse),
            busy => {
                self.busy.set(busy.wrapping_sub(1));
                return Err(NotSplit::InUse);
            }
        }
        if self.unsplittable.get() {
            return Err(NotSplit::Refused);
        }
        let n = frame.pfn().wrapping_sub(self.frames.pfn()) as usize;
        let large = Level::Size2M.pages();
        let page = self.frames.skip(n & !large.wrapping_sub(1)).first(large);
        match self.get(page) {
            Some((Level::Size2M, owner)) => {
                self.change(page, Some((Level::Size4K, owner)), |before| {
                    before == Some(Level::Size2M)
                });
                Ok(())
            }
            _ => Err(NotSplit::Refused),
        }
    }
}
