// SPDX-License-Identifier: GPL-2.0
//! Page walks by the model itself, for what TCG does not tell: which guest physical page an access
//! was for, and which one nested paging makes of it. Nothing is changed, accessed bits included.

use std::sync::atomic::Ordering::Relaxed;

use rmp::PageSize;

use super::layout::{vmcb, C_BIT};
use crate::cpuid::{PHYS_BITS, REDUCED_PHYS_BITS};
use crate::ram::Ram;

const PRESENT: u64 = 1 << 0;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Address bits that an entry must not have, because encryption takes them. KVM marks emulated
/// devices with them.
pub const RESERVED: u64 = ((1 << PHYS_BITS) - (1 << REDUCED_PHYS_BITS)) & !C_BIT;

const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
pub(super) const EFER_LMA: u64 = 1 << 10;

/// Where nested paging leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub pa: u64,
    pub size: PageSize,
}

/// Why nested paging leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// TCG's own walk ends in a fault as well.
    Fault,
    /// An entry has reserved bits, which TCG takes for an address.
    Reserved,
}

/// The host's page tables for a guest: four levels.
#[derive(Clone, Copy)]
pub struct Nested<'a> {
    pub ram: &'a Ram,
    pub cr3: u64,
}

impl<'a> Nested<'a> {
    /// Those of the guest with this VMCB.
    pub fn of(ram: &'a Ram, vmcb: u64) -> Option<Nested<'a>> {
        Some(Nested { ram, cr3: ram.word(vmcb + vmcb::NESTED_CR3)?.load(Relaxed) })
    }

    /// Where `gpa` (with or without the C-bit) is.
    pub fn walk(&self, gpa: u64) -> Option<Mapped> {
        self.find(gpa).ok()
    }

    /// The same, or why it is nowhere.
    pub fn find(&self, gpa: u64) -> Result<Mapped, Unmapped> {
        let gpa = gpa & !C_BIT;
        let mut table = self.cr3 & ADDRESS;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let at = (table & !C_BIT) + ((gpa >> shift) & 0x1ff) * 8;
            let entry = self.ram.word(at).ok_or(Unmapped::Fault)?.load(Relaxed);
            if entry & PRESENT != 0 && entry & RESERVED != 0 {
                return Err(Unmapped::Reserved);
            }
            if entry & (PRESENT | USER) != PRESENT | USER {
                return Err(Unmapped::Fault);
            }
            table = entry & ADDRESS;
            if level == 0 || (level < 3 && entry & LARGE != 0) {
                let within = (1 << shift) - 1;
                let pa = (table & !C_BIT & !within) | (gpa & within);
                let size = if level == 0 { PageSize::Size4K } else { PageSize::Size2M };
                return Ok(Mapped { pa, size });
            }
        }
        Err(Unmapped::Fault)
    }

    fn word(&self, gpa: u64) -> Option<u64> {
        Some(self.ram.word(self.walk(gpa)?.pa)?.load(Relaxed))
    }
}

/// The registers that say how a guest translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

/// Where a guest's own page tables lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Without the C-bit.
    pub gpa: u64,
    /// With the C-bit, or paging is off.
    pub private: bool,
}

/// Why there is no [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The guest's tables do not map the address.
    NotPresent,
    /// Nested paging does not map the table at this guest physical address.
    Table(u64),
    /// Two-level paging has no C-bit, and no guest here uses it.
    Legacy,
}

impl Paging {
    /// Paging is on.
    pub fn on(&self) -> bool {
        self.cr0 & CR0_PG != 0
    }

    /// Translates `va`.
    pub fn walk(&self, nested: Nested<'_>, va: u64) -> Result<Target, Lost> {
        self.walk_with(nested, va, |_| {})
    }

    /// The byte at `va`, if it is mapped.
    pub fn byte(&self, nested: Nested<'_>, va: u64) -> Option<u8> {
        let pa = nested.walk(self.walk(nested, va).ok()?.gpa)?.pa;
        Some(nested.ram.word(pa & !7)?.load(Relaxed).to_le_bytes()[(pa & 7) as usize])
    }

    /// Whether the page of `gpa` is one of the tables on the way to `va`. Those are always private,
    /// whatever the C-bit in the entry that leads to them.
    pub fn is_table(&self, nested: Nested<'_>, va: u64, gpa: u64) -> bool {
        let mut found = false;
        let _ = self.walk_with(nested, va, |table| found |= table & !0xfff == gpa & !0xfff);
        found
    }

    fn walk_with(
        &self,
        nested: Nested<'_>,
        va: u64,
        mut visit: impl FnMut(u64),
    ) -> Result<Target, Lost> {
        if !self.on() {
            return Ok(Target { gpa: va, private: true });
        }
        if self.cr4 & CR4_PAE == 0 {
            return Err(Lost::Legacy);
        }
        let levels = match (self.efer & EFER_LMA != 0, self.cr4 & CR4_LA57 != 0) {
            (false, _) => 3,
            (true, false) => 4,
            (true, true) => 5,
        };
        // PAE's root has four entries and needs 32 byte alignment only.
        let mut table = if levels == 3 { self.cr3 & 0xffff_ffe0 } else { self.cr3 & ADDRESS };
        for level in (0..levels).rev() {
            let shift = 12 + 9 * level;
            let index = (va >> shift) & if levels == 3 && level == 2 { 3 } else { 0x1ff };
            let at = (table & !C_BIT) + index * 8;
            visit(at);
            let entry = nested.word(at).ok_or(Lost::Table(at))?;
            if entry & PRESENT == 0 {
                return Err(Lost::NotPresent);
            }
            table = entry & ADDRESS;
            let large =
                (1..3).contains(&level) && entry & LARGE != 0 && !(levels == 3 && level == 2);
            if level == 0 || large {
                let within = (1 << shift) - 1;
                let gpa = (table & !C_BIT & !within) | (va & within);
                return Ok(Target { gpa, private: table & C_BIT != 0 });
            }
        }
        Err(Lost::NotPresent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u64 = PRESENT | USER;

    /// Nested tables at 1000h to 4000h: guest pages 0 to 7 at 8000h and up, device at page 8, 2 MiB
    /// of RAM at 20_0000h for the second 2 MiB.
    fn machine() -> Ram {
        let ram = Ram::for_test(0x40_0000, 0x40_0000);
        let put = |pa: u64, value: u64| ram.word(pa).unwrap().store(value, Relaxed);
        put(0x1000, 0x2000 | FULL);
        put(0x2000, 0x3000 | FULL);
        put(0x3000, 0x4000 | FULL);
        put(0x3008, 0x20_0000 | FULL | LARGE);
        for page in 0..8 {
            put(0x4000 + page * 8, (0x8000 + page * 0x1000) | FULL);
        }
        // As KVM marks them (svm_adjust_mmio_mask).
        put(0x4000 + 8 * 8, 0xf_8000_0000_8000 | FULL);
        put(0x4000 + 9 * 8, RESERVED);
        // The guest's tables on its pages 0 to 3: 4 levels, 4 KiB at 40_0000h, 2 MiB at 60_0000h.
        put(0x8000, 0x1000 | PRESENT | C_BIT);
        put(0x9000, 0x2000 | PRESENT);
        put(0xa010, 0x3000 | PRESENT | C_BIT);
        put(0xa018, 0x20_0000 | PRESENT | LARGE | C_BIT);
        put(0xb000, 0x5000 | PRESENT | C_BIT);
        put(0xb008, 0x6000 | PRESENT);
        put(0xa020, 0x9000 | PRESENT);
        ram
    }

    fn nested(ram: &Ram) -> Nested<'_> {
        Nested { ram, cr3: 0x1000 }
    }

    const LONG: Paging = Paging { cr0: 0x8000_0001, cr3: 0, cr4: CR4_PAE, efer: EFER_LMA };

    #[test]
    fn nested_paging() {
        let ram = machine();
        let small = |pa| Ok(Mapped { pa, size: PageSize::Size4K });
        let large = Mapped { pa: 0x21_2345, size: PageSize::Size2M };
        let rows = [
            (0x1008, small(0x9008)),
            (0x1008 | C_BIT, small(0x9008)),
            (0x7000, small(0xf000)),
            (0x8000, Err(Unmapped::Reserved)),
            (0x9000, Err(Unmapped::Fault)),
            (0x21_2345, Ok(large)),
            (0x4000_0000, Err(Unmapped::Fault)),
            (1 << 40, Err(Unmapped::Fault)),
        ];
        for (gpa, mapped) in rows {
            assert_eq!(nested(&ram).find(gpa), mapped, "{gpa:#x}");
        }
        // The C-bit of a host that encrypts, and bits behind the address, are not reserved.
        for bit in 0..64 {
            let entry = 0xe000 | FULL | 1 << bit;
            ram.word(0x4000).unwrap().store(entry, Relaxed);
            let reserved = nested(&ram).find(0) == Err(Unmapped::Reserved);
            assert_eq!(reserved, (47..51).contains(&bit), "bit {bit}");
        }
    }

    #[test]
    fn guest_paging() {
        let ram = machine();
        let target = |gpa, private| Ok(Target { gpa, private });
        let rows = [
            (LONG, 0x40_0123, target(0x5123, true)),
            (LONG, 0x40_1123, target(0x6123, false)),
            (LONG, 0x61_0000, target(0x21_0000, true)),
            (LONG, 0x40_2000, Err(Lost::NotPresent)),
            (LONG, 0x80_0000, Err(Lost::Table(0x9000))),
            (Paging { cr0: 1, ..LONG }, 0x7_1234, target(0x7_1234, true)),
            (Paging { cr4: 0, ..LONG }, 0x40_0000, Err(Lost::Legacy)),
            (Paging { efer: 0, cr3: 0x1000, ..LONG }, 0x40_0123, target(0x5123, true)),
        ];
        for (paging, va, expected) in rows {
            assert_eq!(paging.walk(nested(&ram), va), expected, "{paging:x?} {va:#x}");
        }
    }

    #[test]
    fn bytes_where_something_is_mapped() {
        let ram = machine();
        ram.word(0xd120).unwrap().store(0x8877_6655_4433_2211, Relaxed);
        let byte = |va| LONG.byte(nested(&ram), va);
        assert_eq!([byte(0x40_0120), byte(0x40_0123)], [Some(0x11), Some(0x44)]);
        assert_eq!([byte(0x40_2000), byte(0x80_0000)], [None; 2]);
    }

    #[test]
    fn tables_on_the_way() {
        let ram = machine();
        for (gpa, table) in [(0, true), (0x1ff8, true), (0x3000, true), (0x5000, false)] {
            assert_eq!(LONG.is_table(nested(&ram), 0x40_0123, gpa), table, "{gpa:#x}");
        }
        assert!(!LONG.is_table(nested(&ram), 0x61_0000, 0x3000));
    }
}
