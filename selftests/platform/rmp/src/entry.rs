// SPDX-License-Identifier: GPL-2.0
//! One raw RMP entry.

/// The size that an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
}

impl PageSize {
    /// Bytes of such a page.
    pub const fn bytes(self) -> u64 {
        match self {
            PageSize::Size4K => 4 << 10,
            PageSize::Size2M => 2 << 20,
        }
    }
}

/// The largest ASID that the ten bits of a raw entry hold.
pub const MAX_ASID: u32 = 0x3ff;
/// The largest guest physical address (plus one page) that the 39 bits of a raw entry hold.
pub const MAX_GPA: u64 = 1 << 51;
/// Permissions of VMPL0 in `hi` after RMPUPDATE: read, write, execute user, execute supervisor.
pub const VMPL0_ALL: u64 = 0x0f;

const ASSIGNED: u64 = 1 << 0;
const SIZE_2M: u64 = 1 << 1;
const IMMUTABLE: u64 = 1 << 2;
const SUBPAGES_SHIFT: u32 = 3;
const SUBPAGES: u64 = 0x1ff << SUBPAGES_SHIFT;
const GPA: u64 = ((1 << 39) - 1) << 12;
const ASID_SHIFT: u32 = 51;
const ASID: u64 = (MAX_ASID as u64) << ASID_SHIFT;
const VMSA: u64 = 1 << 61;
const VALIDATED: u64 = 1 << 62;
const LOCK: u64 = 1 << 63;

/// A raw entry in the layout of Zen 3 and Zen 4 (PPR family 19h; not architectural, newer parts
/// differ and must be asked with RMPREAD).
///
/// `lo`: 0 assigned, 1 page size, 2 immutable, 11:3 sub-page count, 50:12 GPA, 60:51 ASID, 61 VMSA,
/// 62 validated, 63 lock. `hi`: byte n holds the permissions of VMPL n. The sub-page count is the
/// head's, the entry of the first page of 2 MiB: how many of the other 511 are assigned (AMDSEV
/// issue 245: 0xff where 256 in a row are, the head among them). [`crate::Rmp`] keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The first quadword.
    pub lo: u64,
    /// The second quadword.
    pub hi: u64,
}

impl Entry {
    /// What RMPUPDATE leaves for memory of the hypervisor, and what a cleared table holds.
    pub const ZERO: Entry = Entry { lo: 0, hi: 0 };

    const fn bit(self, mask: u64) -> bool {
        self.lo & mask != 0
    }

    const fn with(self, mask: u64, on: bool) -> Entry {
        let lo = if on { self.lo | mask } else { self.lo & !mask };
        Entry { lo, hi: self.hi }
    }

    /// Owned by a guest (ASID not 0) or by firmware (ASID 0), not by the hypervisor.
    pub const fn assigned(self) -> bool {
        self.bit(ASSIGNED)
    }

    /// RMPUPDATE may not touch it.
    pub const fn immutable(self) -> bool {
        self.bit(IMMUTABLE)
    }

    /// The guest has validated the page (PVALIDATE), or firmware did at launch.
    pub const fn validated(self) -> bool {
        self.bit(VALIDATED)
    }

    /// The page is a VMSA, or with ASID 0 a guest context.
    pub const fn vmsa(self) -> bool {
        self.bit(VMSA)
    }

    /// Locked by hardware: the table's own pages after SNP_INIT.
    pub const fn locked(self) -> bool {
        self.bit(LOCK)
    }

    /// Whether the entry stands for 4 KiB or is part of a 2 MiB page.
    pub const fn page_size(self) -> PageSize {
        if self.bit(SIZE_2M) {
            PageSize::Size2M
        } else {
            PageSize::Size4K
        }
    }

    /// Guest physical address in bytes, page aligned.
    pub const fn gpa(self) -> u64 {
        self.lo & GPA
    }

    /// Address space identifier of the owning guest, 0 for firmware.
    pub const fn asid(self) -> u32 {
        ((self.lo & ASID) >> ASID_SHIFT) as u32
    }

    /// In the head of a 2 MiB region: how many of its other pages are assigned.
    pub const fn subpages(self) -> u64 {
        (self.lo & SUBPAGES) >> SUBPAGES_SHIFT
    }

    /// The entry with another sub-page count, at most 511.
    pub const fn with_subpages(self, count: u64) -> Entry {
        assert!(count <= SUBPAGES >> SUBPAGES_SHIFT);
        Entry { lo: (self.lo & !SUBPAGES) | (count << SUBPAGES_SHIFT), hi: self.hi }
    }

    /// The entry with `assigned` set or cleared.
    pub const fn with_assigned(self, on: bool) -> Entry {
        self.with(ASSIGNED, on)
    }

    /// The entry with `immutable` set or cleared.
    pub const fn with_immutable(self, on: bool) -> Entry {
        self.with(IMMUTABLE, on)
    }

    /// The entry with `validated` set or cleared.
    pub const fn with_validated(self, on: bool) -> Entry {
        self.with(VALIDATED, on)
    }

    /// The entry with `VMSA` set or cleared.
    pub const fn with_vmsa(self, on: bool) -> Entry {
        self.with(VMSA, on)
    }

    /// The entry with `lock` set or cleared.
    pub const fn with_locked(self, on: bool) -> Entry {
        self.with(LOCK, on)
    }

    /// The entry with another page size.
    pub const fn with_page_size(self, size: PageSize) -> Entry {
        self.with(SIZE_2M, matches!(size, PageSize::Size2M))
    }

    /// The entry with another GPA. Bits that the field cannot hold are dropped; RMPUPDATE refuses
    /// them before it comes here.
    pub const fn with_gpa(self, gpa: u64) -> Entry {
        Entry { lo: (self.lo & !GPA) | (gpa & GPA), hi: self.hi }
    }

    /// The entry with another ASID, at most [`MAX_ASID`].
    pub const fn with_asid(self, asid: u32) -> Entry {
        assert!(asid <= MAX_ASID);
        Entry { lo: (self.lo & !ASID) | ((asid as u64) << ASID_SHIFT), hi: self.hi }
    }

    /// The entry with other VMPL permissions (byte n: VMPL n).
    pub const fn with_permissions(self, hi: u64) -> Entry {
        Entry { lo: self.lo, hi }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_hardware_has_them() {
        let rows: &[(&str, Entry, u64)] = &[
            ("assigned", Entry::ZERO.with_assigned(true), 1),
            ("page size", Entry::ZERO.with_page_size(PageSize::Size2M), 2),
            ("immutable", Entry::ZERO.with_immutable(true), 4),
            ("sub-pages", Entry::ZERO.with_subpages(511), 0xff8),
            ("gpa", Entry::ZERO.with_gpa(0xffff_ffff_f000), 0xffff_ffff_f000),
            ("asid 1", Entry::ZERO.with_asid(1), 1 << 51),
            ("asid max", Entry::ZERO.with_asid(MAX_ASID), 0x3ff << 51),
            ("vmsa", Entry::ZERO.with_vmsa(true), 1 << 61),
            ("validated", Entry::ZERO.with_validated(true), 1 << 62),
            ("lock", Entry::ZERO.with_locked(true), 1 << 63),
        ];
        for (name, entry, lo) in rows {
            assert_eq!(entry.lo, *lo, "{name}");
        }
    }

    #[test]
    fn setting_one_field_leaves_the_others() {
        let full = Entry { lo: u64::MAX, hi: u64::MAX };
        assert_eq!(full.with_gpa(0).lo, !(((1u64 << 39) - 1) << 12));
        assert_eq!(full.with_asid(0).lo, !(0x3ffu64 << 51));
        assert_eq!(full.with_assigned(false).lo, u64::MAX - 1);
        assert_eq!(full.with_asid(5).asid(), 5);
        assert_eq!(full.with_gpa(0x1234_5000).gpa(), 0x1234_5000);
    }

    #[test]
    fn the_dump_of_a_real_rmp_page_decodes() {
        // AMDSEV issue 245: an entry of the RMP's own pages on a Milan.
        let entry = Entry { lo: 0x8000_0000_0000_0005, hi: 0 };
        assert!(entry.assigned() && entry.immutable() && entry.locked());
        assert_eq!((entry.asid(), entry.gpa(), entry.vmsa()), (0, 0, false));
        // And the one at the head of its 2 MiB, of which the table takes the first half.
        let head = Entry { lo: 0x8000_0000_0000_07fd, hi: 0 };
        assert_eq!(head, entry.with_subpages(255));
    }
}
