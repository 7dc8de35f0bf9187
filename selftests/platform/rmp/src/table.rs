// SPDX-License-Identifier: GPL-2.0
//! Access to the table: storage is somebody else's, lookup and locking are here.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

use crate::{Entry, Geometry, PageSize, State, PAGES_PER_2M};

/// The storage of entries, shared between processors and firmware.
pub trait Table {
    /// The entry at physical address `at`. `lo` is read first: a reader that sees the new `lo` sees
    /// the new `hi`.
    fn load(&self, at: u64) -> Entry;
    /// Writes the entry at `at`, `hi` before `lo`, each as one 64-bit store: `lo` holds `assigned`,
    /// so nobody sees a page as assigned before its permissions are there.
    fn store(&self, at: u64, entry: Entry);
    /// Takes the lock of 2 MiB region `region` if it is free.
    fn try_lock(&self, region: u64) -> bool;
    /// Gives it back. Only the holder calls this.
    fn unlock(&self, region: u64);
}

impl<T: Table + ?Sized> Table for &T {
    fn load(&self, at: u64) -> Entry {
        (**self).load(at)
    }

    fn store(&self, at: u64, entry: Entry) {
        (**self).store(at, entry);
    }

    fn try_lock(&self, region: u64) -> bool {
        (**self).try_lock(region)
    }

    fn unlock(&self, region: u64) {
        (**self).unlock(region);
    }
}

/// A table with its geometry: what instructions and firmware work on.
#[derive(Debug)]
pub struct Rmp<T> {
    geometry: Geometry,
    table: T,
}

/// Holds the lock of one 2 MiB region.
pub(crate) struct Locked<'a, T: Table> {
    table: &'a T,
    region: u64,
}

impl<T: Table> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        self.table.unlock(self.region);
    }
}

impl<T: Table> Rmp<T> {
    /// `table` must hold the entries at the addresses that `geometry` gives.
    pub fn new(geometry: Geometry, table: T) -> Rmp<T> {
        Rmp { geometry, table }
    }

    /// Where the table lies and what it covers.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The storage.
    pub fn table(&self) -> &T {
        &self.table
    }

    /// The entry of the page that holds `pa`; none for a page that the table does not cover.
    pub fn entry(&self, pa: u64) -> Option<Entry> {
        Some(self.load(self.geometry.index(pa)?))
    }

    /// Entry number `index`, one of [`Geometry::indices`].
    pub fn load(&self, index: u64) -> Entry {
        self.table.load(self.geometry.entry_address(index))
    }

    /// Stores an entry. The caller holds the region's lock. The sub-page count is not part of what
    /// `entry` says: the head keeps its own, and another page's change of hands is counted there.
    pub(crate) fn store(&self, index: u64, entry: Entry) {
        let (head, old) = (index - index % PAGES_PER_2M, self.load(index));
        if index == head {
            return self.store_raw(index, entry.with_subpages(old.subpages()));
        }
        self.store_raw(index, entry.with_subpages(0));
        if entry.assigned() != old.assigned() {
            let entry = self.load(head);
            let others = entry.subpages();
            let count = if old.assigned() { others.saturating_sub(1) } else { others + 1 };
            self.store_raw(head, entry.with_subpages(count));
        }
    }

    /// Stores an entry as it is, sub-page count and all.
    pub(crate) fn store_raw(&self, index: u64, entry: Entry) {
        self.table.store(self.geometry.entry_address(index), entry);
    }

    /// Whether some page of the 2 MiB around `pa` is assigned.
    pub fn region_in_use(&self, pa: u64) -> bool {
        // The table ends where memory does, so a region that has entries has its first.
        let head = self.entry(pa - pa % PageSize::Size2M.bytes());
        head.is_some_and(|head| head.assigned() || head.subpages() != 0)
    }

    /// The state of the page that holds `pa`; none (the ABI's "Default") if it is not covered.
    pub fn state(&self, pa: u64) -> Option<State> {
        self.entry(pa).map(State::of)
    }

    pub(crate) fn try_lock(&self, index: u64) -> Option<Locked<'_, T>> {
        let region = index / PAGES_PER_2M;
        // Not then_some(): its argument is made, and dropped, even if the lock is not ours.
        self.table.try_lock(region).then(|| Locked { table: &self.table, region })
    }

    /// Waits for the lock. Holders keep it for a few hundred stores at most.
    pub(crate) fn lock(&self, index: u64) -> Locked<'_, T> {
        loop {
            if let Some(locked) = self.try_lock(index) {
                return locked;
            }
            std::thread::yield_now();
        }
    }

    /// Stores `entry` for a whole page. All 512 entries of a 2 MiB page are written, with
    /// consecutive GPAs: Linux reads `assigned` from the entry of the 4 KiB page and only the
    /// size from the head (`__snp_lookup_rmpentry`). That all of them carry the size bit is a
    /// model choice.
    pub(crate) fn store_page(&self, index: u64, size: PageSize, entry: Entry) {
        match size {
            PageSize::Size4K => self.store(index, entry),
            PageSize::Size2M => {
                for n in 0..PAGES_PER_2M {
                    let part = if entry.asid() != 0 {
                        entry.with_gpa(entry.gpa() + (n << 12))
                    } else {
                        entry
                    };
                    self.store(index + n, part);
                }
            }
        }
    }
}

/// A table in a slice of words, with lock bytes that are shared out over the regions.
///
/// This is the one implementation for memory that is mapped as a whole (and for tests).
#[derive(Clone, Copy, Debug)]
pub struct MemoryTable<'a> {
    /// Memory in which all entries lie, two words each: `lo`, `hi`.
    pub words: &'a [AtomicU64],
    /// Physical address of the first word.
    pub start: u64,
    /// At least one byte; 0 is free.
    pub locks: &'a [AtomicU8],
}

impl MemoryTable<'_> {
    fn place(&self, at: u64) -> usize {
        ((at - self.start) / 8) as usize
    }
}

impl Table for MemoryTable<'_> {
    fn load(&self, at: u64) -> Entry {
        let at = self.place(at);
        let lo = self.words[at].load(Ordering::Acquire);
        Entry { lo, hi: self.words[at + 1].load(Ordering::Relaxed) }
    }

    fn store(&self, at: u64, entry: Entry) {
        let at = self.place(at);
        self.words[at + 1].store(entry.hi, Ordering::Relaxed);
        self.words[at].store(entry.lo, Ordering::Release);
    }

    fn try_lock(&self, region: u64) -> bool {
        let byte = &self.locks[region as usize % self.locks.len()];
        byte.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn unlock(&self, region: u64) {
        self.locks[region as usize % self.locks.len()].store(0, Ordering::Release);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A table of four 2 MiB regions whose own pages lie at the start of the fourth.
    pub(crate) struct Fixture {
        words: Vec<AtomicU64>,
        locks: Vec<AtomicU8>,
        geometry: Geometry,
    }

    impl Fixture {
        pub(crate) fn new() -> Fixture {
            let bytes = crate::BOOKKEEPING_BYTES + 4 * PAGES_PER_2M * crate::ENTRY_BYTES;
            let geometry = Geometry::new(0x60_0000, 0x60_0000 + bytes - 1).unwrap();
            let words = (0..geometry.entries() * 2).map(|_| AtomicU64::new(0)).collect();
            Fixture { words, locks: (0..4).map(|_| AtomicU8::new(0)).collect(), geometry }
        }

        pub(crate) fn rmp(&self) -> Rmp<MemoryTable<'_>> {
            let start = self.geometry.entry_address(0);
            let table = MemoryTable { words: &self.words, start, locks: &self.locks };
            Rmp::new(self.geometry.clone(), table)
        }

        pub(crate) fn assert_unlocked(&self) {
            assert!(self.locks.iter().all(|l| l.load(Ordering::Relaxed) == 0), "a lock is held");
        }
    }

    #[test]
    fn a_region_is_locked_once() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        let first = rmp.try_lock(5).unwrap();
        assert!(rmp.try_lock(511).is_none());
        assert!(rmp.try_lock(512).is_some());
        drop(first);
        assert!(rmp.try_lock(511).is_some());
        fixture.assert_unlocked();
    }

    /// The head of a region counts the others, whatever becomes of itself.
    #[test]
    fn heads_count_their_subpages() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        let count = || (rmp.load(512).subpages(), rmp.region_in_use(0x3f_ffff));
        let steps = [
            ("one of the others", 515, Entry::FIRMWARE, (1, true)),
            ("the same once more", 515, Entry::RECLAIM, (1, true)),
            ("the head", 512, Entry::FIRMWARE, (1, true)),
            ("the last one", 1023, Entry::pre_guest(3, 0x5000), (2, true)),
            ("another region", 1024, Entry::FIRMWARE, (2, true)),
            ("the first is given back", 515, Entry::ZERO, (1, true)),
            ("fixed is not assigned", 1023, Entry::HV_FIXED, (0, true)),
            ("and the head", 512, Entry::ZERO, (0, false)),
        ];
        for (what, index, entry, expected) in steps {
            rmp.store(index, entry);
            assert_eq!(count(), expected, "{what}");
        }
        rmp.store_page(512, PageSize::Size2M, Entry::FIRMWARE.with_page_size(PageSize::Size2M));
        assert_eq!(count(), (511, true), "2 MiB");
        assert!(!rmp.region_in_use(0x80_0000), "not covered");
    }

    #[test]
    fn uncovered_pages_have_no_state() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        assert_eq!(rmp.state(0x7f_ffff), Some(State::Hypervisor));
        assert_eq!(rmp.state(0x80_0000), None);
        assert_eq!(rmp.state(u64::MAX), None);
    }
}
