// SPDX-License-Identifier: GPL-2.0
//! Memory that firmware has to itself, and what becomes of it.
//!
//! Silicon keeps secrets of guests in TMR and contexts, and the identity in the NV area. The model
//! has all of that elsewhere, but uses the memory as silicon does: at commands that follow from the
//! seed it writes there, and at every command it looks at some of it whether somebody else has. So
//! whoever frees such memory too early meets its new owner's data in ruins, or is reported, or
//! both. The NV area is written with what it holds: the host may read it at any time.
//!
//! Firmware has other pages, but no use for them between commands: those that hold a command, its
//! answer or a bounced buffer belong to the host's driver in between, and guests' pages to guests.
//! The IOMMU's pages are the IOMMU's to write.

use std::collections::{BTreeMap, BTreeSet};

use rmp::{Rmp, State};
use sha2::{Digest, Sha256};

use crate::Platform;

const PAGE: u64 = 0x1000;
/// One command in so many is followed by a write.
const SELDOM: u64 = 4;

/// So many pages are looked at before a command.
const LOOKS: usize = 16;

/// What firmware knows of pages.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    /// Commands so far.
    commands: u64,
    /// Pages that firmware has written to, with what it left there.
    written: BTreeMap<u64, Vec<u8>>,
    /// What the host may read in pages where firmware keeps something.
    kept: BTreeMap<u64, Vec<u8>>,
    /// Where looking at them goes on.
    next: u64,
    /// Pages that PAGE_RECLAIM has given back and that no command has taken since.
    reclaimed: BTreeSet<u64>,
}

impl Owned {
    /// SNP is down: the RMP will be another one.
    pub(crate) fn forget(&mut self) {
        self.reclaimed.clear();
    }

    /// PAGE_RECLAIM has given the page back.
    pub(crate) fn came_back(&mut self, page: u64) {
        self.reclaimed.insert(page);
    }

    /// A command was about the page, and it succeeded or found that the RMP assigns it. So whatever
    /// came back has been given again.
    pub(crate) fn given_again(&mut self, page: u64) {
        self.reclaimed.remove(&page);
    }

    /// Whether the page is one that came back and was not given again.
    pub(crate) fn is_back(&self, page: u64) -> bool {
        self.reclaimed.contains(&page)
    }

    /// Commands have left this in pages where firmware keeps something.
    pub(crate) fn keeps(&mut self, platform: &dyn Platform, pages: Vec<(u64, Vec<u8>)>) {
        let pages: BTreeMap<u64, Vec<u8>> = pages.into_iter().collect();
        for page in pages.iter().filter(|(page, new)| self.kept.get(page) != Some(new)) {
            // What arrived, which a test may have made something else.
            self.written.insert(*page.0, read(platform, *page.0));
        }
        self.kept = pages;
    }

    /// Looks at some of the pages, each in its turn: those that are not as firmware left them.
    pub(crate) fn overwritten(
        &mut self,
        platform: &dyn Platform,
        uses: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        self.written.retain(|page, _| uses(*page));
        let turn = self.written.range(self.next..).chain(self.written.range(..self.next));
        let looked: Vec<u64> = turn.take(LOOKS).map(|(page, _)| *page).collect();
        self.next = looked.last().map_or(0, |page| page + PAGE);
        let changed = |page: &u64| self.written.get(page) != Some(&read(platform, *page));
        let changed: Vec<u64> = looked.into_iter().filter(changed).collect();
        for page in &changed {
            self.written.remove(page);
        }
        changed
    }

    /// After a command: now and then something is written to a page of one of `areas`, which are
    /// firmware's. While SNP is up the RMP must say so, too.
    pub(crate) fn scribble(
        &mut self,
        platform: &dyn Platform,
        rmp: Option<&Rmp<&dyn Platform>>,
        seed: u64,
        areas: &[Vec<u64>],
    ) {
        self.commands += 1;
        let random: [u8; 32] = Sha256::new_with_prefix(b"ccp-rs PSP model scribble")
            .chain_update(seed.to_le_bytes())
            .chain_update(self.commands.to_le_bytes())
            .finalize()
            .into();
        let number = |at: usize| u64::from(u16::from_le_bytes([random[at], random[at + 1]]));
        if number(0) % SELDOM != 0 {
            return;
        }
        let Some(pages) = one_of(areas, number(4)) else { return };
        let Some(page) = one_of(pages, number(2)).copied() else { return };
        let owned =
            |rmp: &Rmp<_>| matches!(rmp.state(page), None | Some(State::Firmware | State::Context));
        if !platform.is_ram(page, PAGE) || !rmp.is_none_or(owned) {
            return;
        }
        match self.kept.get(&page) {
            Some(kept) => platform.write(page, kept),
            None => platform.write(page, &random.repeat(PAGE as usize / random.len())),
        }
        // As in keeps().
        self.written.insert(page, read(platform, page));
    }
}

/// One of them; none if there is none.
fn one_of<T>(all: &[T], number: u64) -> Option<&T> {
    all.get(number.checked_rem(all.len() as u64)? as usize)
}

fn read(platform: &dyn Platform, page: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE as usize];
    platform.read(page, &mut bytes);
    bytes
}
