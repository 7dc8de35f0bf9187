// SPDX-License-Identifier: GPL-2.0
//! Where the entry of a physical address lies.

use std::fmt;

/// The processor's own book-keeping at the start of the table.
pub const BOOKKEEPING_BYTES: u64 = 16 << 10;
/// Bytes per entry.
pub const ENTRY_BYTES: u64 = 16;
/// Entries that a 2 MiB page has.
pub const PAGES_PER_2M: u64 = 512;

/// RMP_BASE and RMP_END require 8 KiB (AMD64 manual: bits 12:0 are fixed).
const ALIGNMENT: u64 = 8 << 10;

/// The contiguous table that RMP_BASE and RMP_END describe. (Segmented tables are not modelled.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    base: u64,
    end: u64,
}

/// Why RMP_BASE and RMP_END describe no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Base or end + 1 is not a multiple of 8 KiB.
    Misaligned,
    /// No room for book-keeping and one entry.
    TooSmall,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GeometryError::Misaligned => "RMP_BASE and RMP_END + 1 must be multiples of 8 KiB",
            GeometryError::TooSmall => "RMP_END leaves no room for an entry after the book-keeping",
        })
    }
}

impl std::error::Error for GeometryError {}

impl Geometry {
    /// `base` and `end` as in the MSRs: first and last byte of the table.
    pub const fn new(base: u64, end: u64) -> Result<Geometry, GeometryError> {
        if base % ALIGNMENT != 0 || end.wrapping_add(1) % ALIGNMENT != 0 {
            return Err(GeometryError::Misaligned);
        }
        if end < base || end - base < BOOKKEEPING_BYTES {
            return Err(GeometryError::TooSmall);
        }
        Ok(Geometry { base, end })
    }

    /// First byte of the table.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Last byte of the table.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Number of entries, one per covered 4 KiB page from physical address 0 on.
    pub const fn entries(&self) -> u64 {
        (self.end + 1 - self.base - BOOKKEEPING_BYTES) / ENTRY_BYTES
    }

    /// The first physical address that has no entry.
    pub const fn covered_bytes(&self) -> u64 {
        self.entries() << 12
    }

    /// The entry's index for the page that holds `pa`; none if the table does not cover it.
    pub const fn index(&self, pa: u64) -> Option<u64> {
        let index = pa >> 12;
        if index < self.entries() {
            Some(index)
        } else {
            None
        }
    }

    /// The physical address of entry `index` (which must be below [`Geometry::entries`]).
    pub const fn entry_address(&self, index: u64) -> u64 {
        self.base + BOOKKEEPING_BYTES + index * ENTRY_BYTES
    }

    /// Whether `pa` lies in the table or in its book-keeping.
    pub const fn holds(&self, pa: u64) -> bool {
        self.base <= pa && pa <= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_machine() {
        let g = Geometry::new(0x3800_0000, 0x38ff_ffff).unwrap();
        assert_eq!(g.entries(), (0x100_0000 - 0x4000) / 16);
        assert_eq!(g.index(0), Some(0));
        assert_eq!(g.index(0x3800_0fff), Some(0x38000));
        assert_eq!(g.entry_address(1), 0x3800_4010);
        assert_eq!(g.index(g.covered_bytes() - 1), Some(g.entries() - 1));
        assert_eq!(g.index(g.covered_bytes()), None);
        assert!(g.holds(0x3800_0000) && g.holds(0x38ff_ffff));
        assert!(!g.holds(0x37ff_ffff) && !g.holds(0x3900_0000));
    }

    #[test]
    fn nonsense_is_refused() {
        let rows: &[(u64, u64, GeometryError)] = &[
            (0x1000, 0x1f_ffff, GeometryError::Misaligned),
            (0x2000, 0x1f_fffe, GeometryError::Misaligned),
            (0, 0x1fff, GeometryError::TooSmall), // what a BIOS leaves that reserved nothing
            (0x20_0000, 0x1f_ffff, GeometryError::TooSmall),
            (0, 0x3fff, GeometryError::TooSmall),
        ];
        for (base, end, error) in rows {
            assert_eq!(Geometry::new(*base, *end), Err(*error), "{base:x}..{end:x}");
        }
    }
}
