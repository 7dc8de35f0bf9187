// SPDX-License-Identifier: GPL-2.0
//! Which pages the host may write to by what is in TLBs, and by which address.
//!
//! When RMPUPDATE gives a page away, nobody must go on writing to it by a translation of before. To
//! empty all TLBs costs CPUs more than all else that a guest's page takes, because QEMU then makes
//! each translation, and looks for each block of code, anew. Nearly all pages were written to by
//! one CPU only, the one that executes RMPUPDATE, by one address, where the kernel has all of
//! memory: that one translation can be made read-only.
//!
//! A note stays until the page is given away, however long ago its translation has left the TLB.
//! Guests need none: their translations are in TLBs of CPUs that run one, or have been put aside
//! and are not used any more once the RMP has changed ([`crate::kept`]).

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crate::ram::{Ram, PAGE};

/// RMPUPDATE of 2 MiB, and mappings that are called large.
const LARGE: u64 = 2 << 20;

/// By what the kernel writes to a page: a virtual address in the upper half, and the MMU index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The CPU whose TLB has it.
    pub cpu: usize,
    /// The address, of a page.
    pub va: u64,
    /// The indices, a bit each.
    pub mmus: u8,
}

impl Alias {
    /// Bits of the address without those that all addresses have. No alias is 0, for the sake of
    /// the CPU's number.
    const VA_BITS: u32 = 45;
    const MMUS: u32 = Self::VA_BITS;
    const CPU: u32 = Self::MMUS + 8;

    fn pack(self) -> u64 {
        let va = self.va / PAGE & ((1 << Self::VA_BITS) - 1);
        va | u64::from(self.mmus) << Self::MMUS | (self.cpu as u64 + 1) << Self::CPU
    }

    fn unpack(word: u64) -> Alias {
        let unused = u64::BITS - Self::VA_BITS;
        Alias {
            cpu: (word >> Self::CPU) as usize - 1,
            // Sign-extended.
            va: (((word << unused) as i64 >> unused) << PAGE.trailing_zeros()) as u64,
            mmus: (word >> Self::MMUS) as u8,
        }
    }

    /// The one that stands for both, if there is one.
    fn with(self, other: Alias) -> Option<Alias> {
        let same = (self.cpu, self.va) == (other.cpu, other.va);
        same.then_some(Alias { mmus: self.mmus | other.mmus, ..self })
    }
}

/// Where a page may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Nowhere,
    By(Alias),
    /// By several CPUs or addresses, or nobody knows.
    Anyhow,
}

impl Held {
    const ANYHOW: u64 = u64::MAX;

    fn pack(self) -> u64 {
        match self {
            Held::Nowhere => 0,
            Held::By(alias) => alias.pack(),
            Held::Anyhow => Self::ANYHOW,
        }
    }

    fn unpack(word: u64) -> Held {
        match word {
            0 => Held::Nowhere,
            Self::ANYHOW => Held::Anyhow,
            word => Held::By(Alias::unpack(word)),
        }
    }

    fn and(self, other: Held) -> Held {
        match (self, other) {
            (held, Held::Nowhere) | (Held::Nowhere, held) => held,
            (Held::By(one), Held::By(other)) => one.with(other).map_or(Held::Anyhow, Held::By),
            _ => Held::Anyhow,
        }
    }
}

/// A note for each page of RAM, and one for each 2 MiB: there is a mapping of 2 MiB or more.
pub struct Writable {
    pages: Box<[AtomicU64]>,
    large: Box<[AtomicU64]>,
}

impl Writable {
    /// Nothing has been written to.
    pub fn new(ram: &Ram) -> Writable {
        Writable { pages: notes(ram.bytes() / PAGE), large: notes(ram.bytes().div_ceil(LARGE)) }
    }

    /// A CPU's TLB has a translation by which `page` can be written to. To be called before the RMP
    /// is asked: whoever gives the page away changes the RMP first, and then looks here.
    pub fn note(&self, ram: &Ram, page: u64, held: Held, large: bool) {
        let Some(offset) = ram.offset(page) else { return };
        if large {
            add(&self.large[(offset / LARGE) as usize], Held::Anyhow);
        }
        add(&self.pages[(offset / PAGE) as usize], held);
    }

    /// These pages have been given away: where translations are that must go, as the caller sees
    /// to. An alias is one of a single page.
    pub fn take(&self, ram: &Ram, pa: u64, bytes: u64) -> Held {
        let one = bytes == PAGE;
        (pa..pa.saturating_add(bytes)).step_by(PAGE as usize).fold(Held::Nowhere, |held, page| {
            let Some(offset) = ram.offset(page) else { return Held::Anyhow };
            let large = self.large[(offset / LARGE) as usize].swap(0, SeqCst);
            match self.pages[(offset / PAGE) as usize].swap(0, SeqCst) {
                0 if large == 0 => held,
                small if one && large == 0 => Held::unpack(small),
                _ => Held::Anyhow,
            }
        })
    }
}

/// Of memory that the system gives when it is used.
fn notes(count: u64) -> Box<[AtomicU64]> {
    let zeroes = vec![0u64; count as usize].into_boxed_slice();
    // SAFETY: AtomicU64 has the size, alignment and values of u64.
    unsafe { Box::from_raw(Box::into_raw(zeroes) as *mut [AtomicU64]) }
}

fn add(note: &AtomicU64, held: Held) {
    let more = |word| Some(Held::unpack(word).and(held).pack()).filter(|new| *new != word);
    // An error: it says so already.
    let _ = note.fetch_update(SeqCst, SeqCst, more);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: u64 = 0x40_0000;
    const VA: u64 = 0xffff_8880_0000_4000;
    const ONE: Alias = Alias { cpu: 1, va: VA, mmus: 1 };

    #[test]
    fn an_alias_comes_back() {
        for alias in [ONE, Alias { cpu: 63, va: 0xff11_0000_0000_0000, mmus: 0x11 }] {
            assert_eq!(Held::unpack(Held::By(alias).pack()), Held::By(alias));
        }
    }

    #[test]
    fn what_is_known_of_a_page() {
        let by = Held::By;
        let other = |change: fn(&mut Alias)| {
            let mut alias = ONE;
            change(&mut alias);
            by(alias)
        };
        let rows = [
            ("nothing", vec![], Held::Nowhere),
            ("one", vec![by(ONE)], by(ONE)),
            ("the same twice", vec![by(ONE), by(ONE)], by(ONE)),
            ("two indices", vec![by(ONE), other(|a| a.mmus = 16)], other(|a| a.mmus = 17)),
            ("two CPUs", vec![by(ONE), other(|a| a.cpu = 0)], Held::Anyhow),
            ("two addresses", vec![by(ONE), other(|a| a.va += PAGE)], Held::Anyhow),
            ("somehow", vec![Held::Anyhow, by(ONE)], Held::Anyhow),
        ];
        for (name, notes, expected) in rows {
            let ram = Ram::for_test(RAM, RAM);
            let writable = Writable::new(&ram);
            notes.into_iter().for_each(|held| writable.note(&ram, 0x4000, held, false));
            assert_eq!(writable.take(&ram, 0x5000, PAGE), Held::Nowhere, "{name}: the next page");
            assert_eq!(writable.take(&ram, 0x4000, PAGE), expected, "{name}");
            assert_eq!(writable.take(&ram, 0x4000, PAGE), Held::Nowhere, "{name}: it was taken");
        }
    }

    /// By a mapping of 2 MiB its neighbours can be written to as well, which that forbids.
    #[test]
    fn large_mappings_are_about_all_that_they_cover() {
        let ram = Ram::for_test(RAM, RAM);
        let writable = Writable::new(&ram);
        writable.note(&ram, 0x4000, Held::By(ONE), true);
        assert_eq!(writable.take(&ram, 0x20_0000, PAGE), Held::Nowhere, "the next 2 MiB");
        assert_eq!(writable.take(&ram, 0x7000, PAGE), Held::Anyhow);
        assert_eq!(writable.take(&ram, 0x8000, PAGE), Held::Nowhere, "all TLBs are empty");
        assert_eq!(writable.take(&ram, 0, LARGE), Held::Anyhow, "0x4000 by an address");
        assert_eq!(writable.take(&ram, 0, LARGE), Held::Nowhere);
    }

    #[test]
    fn outside_of_ram_nothing_is_known() {
        let ram = Ram::for_test(RAM, RAM);
        let writable = Writable::new(&ram);
        writable.note(&ram, RAM, Held::By(ONE), true);
        assert_eq!(writable.take(&ram, RAM, PAGE), Held::Anyhow);
    }
}
