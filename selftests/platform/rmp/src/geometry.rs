// SPDX-License-Identifier: GPL-2.0
//! Where the entry of a physical address lies.

use std::fmt;
use std::ops::Range;

use crate::PageSize;

/// The processor's own book-keeping at the start of the table.
pub const BOOKKEEPING_BYTES: u64 = 16 << 10;
/// Bytes per entry.
pub const ENTRY_BYTES: u64 = 16;
/// Entries that a 2 MiB page has.
pub const PAGES_PER_2M: u64 = 512;
/// Bytes of the segment table, which lies behind the book-keeping: 512 words.
pub const SEGMENT_TABLE_BYTES: u64 = 4 << 10;

/// RMP_CFG bit 0: the RMP is segmented.
pub const CFG_SEGMENTED: u64 = 1 << 0;
/// Where the logarithm of the segments' size starts in RMP_CFG. It has six bits.
pub const CFG_SHIFT: u32 = 8;

/// RMP_BASE and RMP_END require 8 KiB (AMD64 manual: bits 12:0 are fixed).
const ALIGNMENT: u64 = 8 << 10;
/// A word of the segment table, bits 51:20: address of the segment. 19:0: memory it covers, in GiB.
const SEGMENT_BASE: u64 = ((1 << 32) - 1) << 20;
const SEGMENT_GIB: u64 = (1 << 20) - 1;
/// For a contiguous table: one segment for all addresses (as Linux has it).
const NO_SEGMENTS: u32 = 52;

/// What RMP_BASE, RMP_END and RMP_CFG (and the segment table) describe.
///
/// Source: arch/x86/virt/svm/sev.c, setup_contiguous_rmptable() and setup_segmented_rmptable().
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    base: u64,
    end: u64,
    cfg: u64,
    /// Logarithm of the memory that a segment stands for.
    shift: u32,
    segments: Vec<Segment>,
}

/// A run of entries; segment n starts with the page at n << shift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment {
    /// Address of the first entry.
    table: u64,
    /// Number of entries; 0 if there is no such segment.
    pages: u64,
}

/// Why the registers describe no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Base or end + 1 is not a multiple of 8 KiB.
    Misaligned,
    /// No room for book-keeping and one entry.
    TooSmall,
    /// RMP_CFG gives segments a size that is not at least 1 GiB.
    SegmentSize(u32),
    /// The segment table does not lie in memory, or names no segment.
    NoSegments,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GeometryError::Misaligned => {
                f.write_str("RMP_BASE and RMP_END + 1 must be multiples of 8 KiB")
            }
            GeometryError::TooSmall => {
                f.write_str("RMP_END leaves no room for an entry after the book-keeping")
            }
            GeometryError::SegmentSize(shift) => {
                write!(f, "segments of 2^{shift} bytes; they have 2^30 at least")
            }
            GeometryError::NoSegments => f.write_str("the segment table names no segment"),
        }
    }
}

impl std::error::Error for GeometryError {}

impl Geometry {
    /// A contiguous table. `base` and `end` as in the MSRs: its first and last byte.
    pub fn new(base: u64, end: u64) -> Result<Geometry, GeometryError> {
        if base % ALIGNMENT != 0 || end.wrapping_add(1) % ALIGNMENT != 0 {
            return Err(GeometryError::Misaligned);
        }
        if end < base || end - base < BOOKKEEPING_BYTES {
            return Err(GeometryError::TooSmall);
        }
        let all = Segment {
            table: base + BOOKKEEPING_BYTES,
            pages: (end + 1 - base - BOOKKEEPING_BYTES) / ENTRY_BYTES,
        };
        Ok(Geometry { base, end, cfg: 0, shift: NO_SEGMENTS, segments: vec![all] })
    }

    /// What the registers describe. `word` reads physical memory, for the segment table.
    pub fn from_registers(
        base: u64,
        end: u64,
        cfg: u64,
        word: impl Fn(u64) -> Option<u64>,
    ) -> Result<Geometry, GeometryError> {
        if cfg & CFG_SEGMENTED == 0 {
            return Geometry::new(base, end);
        }
        let shift = (cfg >> CFG_SHIFT) as u32 & 0x3f;
        if !(30..NO_SEGMENTS).contains(&shift) {
            return Err(GeometryError::SegmentSize(shift));
        }
        if base % ALIGNMENT != 0 {
            return Err(GeometryError::Misaligned);
        }
        let table = base + BOOKKEEPING_BYTES;
        let segment = |at| {
            let word = word(at)?;
            let mapped = ((word & SEGMENT_GIB) << 30).min(1 << shift);
            Some(Segment { table: word & SEGMENT_BASE, pages: mapped >> 12 })
        };
        let segments: Option<Vec<_>> =
            (table..table + SEGMENT_TABLE_BYTES).step_by(8).map(segment).collect();
        let mut segments = segments.ok_or(GeometryError::NoSegments)?;
        let count = segments.iter().rposition(|segment| segment.pages != 0);
        segments.truncate(count.ok_or(GeometryError::NoSegments)? + 1);
        Ok(Geometry { base, end, cfg, shift, segments })
    }

    /// The words of a segment table for segments of 2^`shift` bytes that cover memory up to
    /// `covered`, with their entries one behind the other from `entries` (a multiple of 1 MiB) on.
    pub fn segment_table(shift: u32, covered: u64, entries: u64) -> Vec<u64> {
        let mapped = |first: u64| (covered - first).div_ceil(1 << 30).min(1 << (shift - 30));
        (0..covered)
            .step_by(1 << shift)
            .scan(entries, |table, first| {
                let word = *table | mapped(first);
                *table += (mapped(first) << 30 >> 12) * ENTRY_BYTES;
                Some(word)
            })
            .collect()
    }

    /// RMP_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// RMP_END: with segments, whatever is in it.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// RMP_CFG.
    pub fn cfg(&self) -> u64 {
        self.cfg
    }

    /// The numbers of all entries: those of the pages that have one.
    pub fn indices(&self) -> impl Iterator<Item = u64> + '_ {
        let per_segment = 1 << (self.shift - 12);
        self.segments
            .iter()
            .zip((0..).step_by(per_segment))
            .flat_map(|(segment, first)| first..first + segment.pages)
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.segments.iter().map(|segment| segment.pages).sum()
    }

    /// The first physical address behind all that have entries.
    pub fn covered_bytes(&self) -> u64 {
        let last = self.segments.len() as u64 - 1;
        (last << self.shift) + self.segments.last().map_or(0, |segment| segment.pages << 12)
    }

    /// The entry's number for the page that holds `pa`; none if it has no entry.
    pub fn index(&self, pa: u64) -> Option<u64> {
        let segment = self.segments.get(usize::try_from(pa >> self.shift).ok()?)?;
        let page = (pa & ((1 << self.shift) - 1)) >> 12;
        (page < segment.pages).then_some(pa >> 12)
    }

    /// Address of entry `index`, which must be one of [`Geometry::indices`].
    pub fn entry_address(&self, index: u64) -> u64 {
        let per_segment = 1 << (self.shift - 12);
        let segment = &self.segments[(index / per_segment) as usize];
        segment.table + index % per_segment * ENTRY_BYTES
    }

    /// Whether `pa` lies in the table, in its book-keeping or in the segment table.
    pub fn holds(&self, pa: u64) -> bool {
        self.ranges().any(|range| range.contains(&pa))
    }

    /// Whether some of the table is in the 2 MiB around `pa`.
    pub fn touches(&self, pa: u64) -> bool {
        let size = PageSize::Size2M.bytes();
        let region = pa - pa % size;
        self.ranges().any(|range| range.end > region && range.start < region.saturating_add(size))
    }

    /// The memory that the table takes.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let head = match self.cfg & CFG_SEGMENTED {
            0 => self.base..self.end + 1,
            _ => self.base..self.base + BOOKKEEPING_BYTES + SEGMENT_TABLE_BYTES,
        };
        let entries =
            |segment: &Segment| segment.table..segment.table + segment.pages * ENTRY_BYTES;
        std::iter::once(head).chain(self.segments.iter().map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_machine() {
        let g = Geometry::new(0x3800_0000, 0x38ff_ffff).unwrap();
        assert_eq!(g.entries(), (0x100_0000 - 0x4000) / 16);
        assert_eq!(g.indices().count() as u64, g.entries());
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
        let rst = |word| move |pa| (pa == 0x4000).then_some(word).or(Some(0));
        let rows = [
            (0, 0x1d01, 1, GeometryError::SegmentSize(29)),
            (0, 0x3f01, 1, GeometryError::SegmentSize(63)),
            (0x1000, 0x1e01, 1, GeometryError::Misaligned),
            (0, 0x1e01, 0, GeometryError::NoSegments),
        ];
        for (base, cfg, word, error) in rows {
            let found = Geometry::from_registers(base, 0, cfg, rst(word));
            assert_eq!(found, Err(error), "{base:x} {cfg:x}");
        }
        let outside = Geometry::from_registers(0, 0, 0x1e01, |_| None);
        assert_eq!(outside, Err(GeometryError::NoSegments));
    }

    #[test]
    fn registers_without_segments_describe_a_contiguous_table() {
        let found = Geometry::from_registers(0x3800_0000, 0x38ff_ffff, 0x1e00, |_| None);
        assert_eq!(found, Geometry::new(0x3800_0000, 0x38ff_ffff));
    }

    /// Segments of 1 GiB: the second is missing, the third is larger than a segment can be.
    #[test]
    fn segments_are_found_by_address() {
        let base = 0x3800_0000;
        let words = [0x3810_0001, 0, 0x3850_0000 | 5];
        let word = |pa: u64| Some(*words.get((pa - base - 0x4000) as usize / 8).unwrap_or(&0));
        let g = Geometry::from_registers(base, 0, 0x1e01, word).unwrap();
        let pages = 1 << 18;
        assert_eq!((g.entries(), g.indices().count()), (2 * pages, 2 * pages as usize));
        assert_eq!(g.covered_bytes(), 3 << 30);
        let rows = [
            (0, Some(0x3810_0000)),
            ((1 << 30) - 1, Some(0x3850_0000 - 16)),
            (1 << 30, None),
            (2 << 30, Some(0x3850_0000)),
            ((3 << 30) - 1, Some(0x3890_0000 - 16)),
            (3 << 30, None),
        ];
        for (pa, address) in rows {
            let found = g.index(pa).map(|index| g.entry_address(index));
            assert_eq!(found, address, "{pa:#x}");
        }
        for (pa, own, touched) in [
            (base - 1, false, false),
            (base, true, true),
            (base + 0x4fff, true, true),
            (base + 0x5000, false, true),
            (0x380f_ffff, false, true),
            (0x3810_0000, true, true),
            (0x388f_ffff, true, true),
            (0x3890_0000, false, true),
            (0x389f_ffff, false, true),
            (0x38a0_0000, false, false),
        ] {
            assert_eq!((g.holds(pa), g.touches(pa)), (own, touched), "{pa:#x}");
        }
    }

    #[test]
    fn a_segment_table_covers_all_memory() {
        let rows: &[(u32, u64, &[u64])] = &[
            (30, 2 << 30, &[0x3810_0001, 0x3850_0001]),
            (30, (1 << 30) + 4096, &[0x3810_0001, 0x3850_0001]),
            (31, 3 << 30, &[0x3810_0002, 0x3890_0001]),
            (35, 2 << 30, &[0x3810_0002]),
        ];
        for (shift, covered, words) in rows {
            let table = Geometry::segment_table(*shift, *covered, 0x3810_0000);
            assert_eq!(table, *words, "shift {shift}, {covered:#x}");
        }
    }
}
