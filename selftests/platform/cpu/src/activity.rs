// SPDX-License-Identifier: GPL-2.0
//! What goes on on a CPU, as far as the RMP is concerned.

use std::ops::Range;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// What goes on on a CPU. Its own thread alone writes it.
pub struct Activity {
    /// The page, not the host's, in which the walk that is going on has met a table; 0 for none.
    foreign_table: AtomicU64,
    /// The translation of nested paging before was refused for the RMP's sake.
    nested_refused: AtomicBool,
    /// VMCB and VMSA of the guest that runs; 0 for none.
    in_use: [AtomicU64; 2],
    /// Its TLB may have a translation by which it can write to the RMP, before SNP is active.
    rmp_writable: AtomicBool,
}

impl Activity {
    /// Nothing.
    pub const fn new() -> Activity {
        Activity {
            foreign_table: AtomicU64::new(0),
            nested_refused: AtomicBool::new(false),
            in_use: [const { AtomicU64::new(0) }; 2],
            rmp_writable: AtomicBool::new(false),
        }
    }

    /// A translation enters the TLB by which it can write to the RMP.
    pub fn set_rmp_writable(&self) {
        self.rmp_writable.store(true, Relaxed);
    }

    /// Whether there may be one, which no longer holds.
    pub fn take_rmp_writable(&self) -> bool {
        self.rmp_writable.swap(false, Relaxed)
    }

    /// A walk of page tables begins.
    pub fn walk_begins(&self) {
        self.foreign_table.store(0, Relaxed);
    }

    /// It has met a table in a page that is not the host's.
    pub fn meet_table(&self, page: u64) {
        self.foreign_table.store(page, Relaxed);
    }

    /// Where it has.
    pub fn foreign_table(&self) -> Option<u64> {
        Some(self.foreign_table.load(Relaxed)).filter(|page| *page != 0)
    }

    /// The nested page fault that comes next is the RMP's, or is not.
    pub fn set_nested_refused(&self, refused: bool) {
        self.nested_refused.store(refused, Relaxed);
    }

    /// Whether it is.
    pub fn take_nested_refused(&self) -> bool {
        self.nested_refused.swap(false, Relaxed)
    }

    /// VMRUN takes pages into use: the VMCB, and the VMSA if there is one. 0: #VMEXIT gives them
    /// free.
    pub fn run(&self, vmcb: u64, vmsa: u64) {
        for (place, page) in self.in_use.iter().zip([vmcb, vmsa]) {
            place.store(page, SeqCst);
        }
    }

    /// The VMCB of the guest that runs, 0 if none does.
    pub fn vmcb(&self) -> u64 {
        self.in_use[0].load(Relaxed)
    }

    /// Whether a guest runs, or is about to.
    pub fn runs_guest(&self) -> bool {
        self.in_use[0].load(SeqCst) != 0
    }

    /// Whether a page in this range is in use.
    pub fn uses(&self, pages: &Range<u64>) -> bool {
        let mut in_use = self.in_use.iter().map(|place| place.load(SeqCst));
        in_use.any(|page| page != 0 && pages.contains(&page))
    }
}
