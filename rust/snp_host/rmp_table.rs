// SPDX-License-Identifier: GPL-2.0

//! The layout of the RMP, decoded from MSRs, CPUID and the segment table, and its checks.
//!
//! Pure: no `kernel::`, no I/O; the tests (`rmp_table/tests.rs`) run on the build machine.
//!
//! Sources: AMD64 Architecture Programmer's Manual volume 2, 15.36.3 and 15.36.16; the reading of
//! arch/x86/virt/svm/sev.c in Linux 7.3.

use core::fmt;

/// The first 16 KiB at RMP_BASE are the processors' own, not entries.
const BOOKKEEPING: u64 = 0x4000;

/// Bits 51:13 of RMP_BASE and RMP_END: zero if the BIOS reserved no table.
const ADDRESS_MASK: u64 = ((1 << 52) - 1) & !((1 << 13) - 1);

/// One entry of 16 bytes for a page of 4 KiB.
const ENTRY: u64 = 16;
const PAGE: u64 = 0x1000;

/// The entries of the segment table (RST): one page of them.
pub(crate) const SEGMENTS: usize = 512;

/// The registers that describe the RMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    /// RMP_BASE.
    pub(crate) base: u64,
    /// RMP_END.
    pub(crate) end: u64,
    /// RMP_CFG; 0 where the CPU has no segmented RMP.
    pub(crate) cfg: u64,
    /// EAX and EBX of CPUID leaf 0x80000025.
    pub(crate) cpuid: (u32, u32),
}

/// A range of physical memory. Prints as `[first-last]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// First address.
    pub(crate) start: u64,
    /// Length in bytes.
    pub(crate) len: u64,
}

impl Range {
    /// The address behind it.
    pub(crate) fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}-{:#x}]", self.start, self.end().saturating_sub(1))
    }
}

/// The layout of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All entries in one piece.
    Contiguous(Segment),
    /// Entries in segments, which a table of [`SEGMENTS`] descriptors points to.
    Segmented {
        /// Where the descriptors are.
        table: Range,
        /// log2 of the memory that one segment covers.
        shift: u32,
        /// How many descriptors the CPU looks at.
        count: usize,
    },
}

/// Entries that lie in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where the entries are.
    pub(crate) entries: Range,
    /// The memory that they are for.
    pub(crate) covers: Range,
}

/// Why a table cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableError {
    /// RMP_BASE or RMP_END is not set.
    Absent,
    /// RMP_BASE and RMP_END leave no room for entries.
    Bounds { base: u64, end: u64 },
    /// The CPU does not support segments of this size (log2).
    Shift { shift: u32, min: u32, max: u32 },
    /// Part of the table lies beyond the highest physical address.
    Beyond(Range),
    /// Two parts of the table lie in the same memory.
    Overlap(Range, Range),
    /// Part of the table lies in memory that the kernel uses as RAM.
    InRam { table: Range, ram: Range },
    /// The RMP has no entries for part of the RAM.
    Gap { ram: Range, from: u64 },
    /// A contiguous table that does not begin and end at multiples of 1 MiB.
    OffMib(Range),
    /// A contiguous table that has no entries for itself.
    NotItself { table: Range, covers: Range },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "the BIOS has reserved no memory for the RMP"),
            Self::Bounds { base, end } => write!(
                f,
                "RMP_BASE ({base:#x}) and RMP_END ({end:#x}) leave no room for entries"
            ),
            Self::Shift { shift, min, max } => write!(
                f,
                "the RMP has segments of 2^{shift} bytes, the CPU supports 2^{min} to 2^{max}"
            ),
            Self::Beyond(table) => write!(
                f,
                "part of the RMP is at {table}, beyond all physical addresses"
            ),
            Self::Overlap(one, other) => {
                write!(f, "two parts of the RMP overlap, {one} and {other}")
            }
            Self::InRam { table, ram } => write!(
                f,
                "part of the RMP, {table}, lies in memory that the kernel uses, {ram}"
            ),
            Self::Gap { ram, from } => {
                write!(
                    f,
                    "the RMP does not cover all of RAM {ram}: nothing from {from:#x} on"
                )
            }
            Self::OffMib(table) => write!(
                f,
                "the RMP {table} does not begin and end at multiples of 1 MiB"
            ),
            Self::NotItself { table, covers } => {
                write!(f, "the RMP {table} does not cover itself, only {covers}")
            }
        }
    }
}

impl Registers {
    /// The processors' own part of the table.
    pub(crate) fn bookkeeping(self) -> Range {
        Range {
            start: self.base & ADDRESS_MASK,
            len: BOOKKEEPING,
        }
    }

    /// The place of the entries, or of the table that has their places.
    pub(crate) fn layout(self) -> Result<Layout, TableError> {
        let bookkeeping = self.bookkeeping();
        if bookkeeping.start == 0 {
            return Err(TableError::Absent);
        }
        // Less than 2^52 and 2^14.
        let start = bookkeeping.end();
        if self.cfg & 1 != 0 {
            return self.segmented(start);
        }
        if self.end & ADDRESS_MASK == 0 {
            return Err(TableError::Absent);
        }
        // RMP_END is the address of the last byte; its bits 12:0 read as ones.
        let end = (self.end & ADDRESS_MASK) | 0x1fff;
        let len = match (end + 1).checked_sub(start) {
            None | Some(0) => {
                return Err(TableError::Bounds {
                    base: self.base,
                    end: self.end,
                })
            }
            Some(len) => len,
        };
        Ok(Layout::Contiguous(Segment {
            entries: Range { start, len },
            covers: Range {
                start: 0,
                len: len / ENTRY * PAGE,
            },
        }))
    }

    fn segmented(self, start: u64) -> Result<Layout, TableError> {
        let (eax, ebx) = self.cpuid;
        // CAST: Six bits.
        let shift = ((self.cfg >> 8) & 0x3f) as u32;
        // A segment covers at least 1 GiB (the unit of the descriptors) and no more than there are
        // physical addresses, whatever the CPU says.
        let (min, max) = ((eax & 0x3f).max(30), ((eax >> 6) & 0x3f).min(52));
        if !(min..=max).contains(&shift) {
            return Err(TableError::Shift { shift, min, max });
        }
        // With bit 10 the CPU looks at no more than the number in bits 9:0, else at the whole page.
        // CAST: Ten bits.
        let count = match ebx & (1 << 10) {
            0 => SEGMENTS,
            _ => SEGMENTS.min((ebx & 0x3ff) as usize),
        };
        Ok(Layout::Segmented {
            table: Range { start, len: PAGE },
            shift,
            count,
        })
    }
}

/// Decodes the descriptor number `index` of the segment table; [`None`] for a segment that is not
/// there.
pub(crate) fn segment(index: usize, descriptor: u64, shift: u32) -> Option<Segment> {
    let covered_gib = descriptor & 0xf_ffff;
    // The field may be larger than a segment, and means the whole segment then.
    let covered_gib = covered_gib.min(1 << (shift - 30));
    if covered_gib == 0 {
        return None;
    }
    let len = covered_gib << 30;
    Some(Segment {
        entries: Range {
            start: descriptor & (((1 << 52) - 1) & !0xf_ffff),
            len: len / PAGE * ENTRY,
        },
        covers: Range {
            // CAST: At most `SEGMENTS`. Beyond 64 bits, and so beyond all RAM, if it is cut.
            start: (index as u64).checked_mul(1 << shift)?,
            len,
        },
    })
}

/// A contiguous table that does not begin and end at multiples of 1 MiB, which firmware wants. The
/// manual leaves that to firmware, whose documents are not public.
pub(crate) fn off_mib(bookkeeping: Range, layout: Layout) -> Option<TableError> {
    let Layout::Contiguous(Segment { entries, .. }) = layout else {
        return None;
    };
    let table = Range {
        start: bookkeeping.start,
        len: BOOKKEEPING + entries.len,
    };
    let off = (table.start | table.end()) & 0xf_ffff != 0;
    off.then_some(TableError::OffMib(table))
}

/// Where the parts of a table are.
fn parts<'a>(own: &'a [Range], segments: &'a [Segment]) -> impl Iterator<Item = Range> + 'a {
    let entries = segments.iter().map(|segment| segment.entries);
    own.iter().copied().chain(entries)
}

/// Checks the parts of a table, `segments` by the addresses that they cover, against each other.
pub(crate) fn check(own: &[Range], segments: &[Segment]) -> Result<(), TableError> {
    for (n, part) in parts(own, segments).enumerate() {
        if part.end() > 1 << 52 {
            return Err(TableError::Beyond(part));
        }
        let mut earlier = parts(own, segments).take(n);
        if let Some(other) = earlier.find(|other| part.overlaps(*other)) {
            return Err(TableError::Overlap(other, part));
        }
    }
    Ok(())
}

/// Checks the table against a range of the RAM that the kernel uses: the table must cover the
/// range, and must not lie in it.
pub(crate) fn check_ram(own: &[Range], segments: &[Segment], ram: Range) -> Result<(), TableError> {
    if let Some(table) = parts(own, segments).find(|part| part.overlaps(ram)) {
        return Err(TableError::InRam { table, ram });
    }
    let mut from = ram.start;
    // Segments ascend, so that one pass finds the first address without an entry.
    for covers in segments.iter().map(|s| s.covers) {
        if covers.start <= from && from < covers.end() {
            from = covers.end();
        }
    }
    if from < ram.end() {
        return Err(TableError::Gap { ram, from });
    }
    Ok(())
}

/// The kernel's rule for a contiguous table: it must cover itself.
pub(crate) fn check_covers_itself(contiguous: Segment) -> Result<(), TableError> {
    let Segment { entries, covers } = contiguous;
    if entries.end() > covers.end() {
        return Err(TableError::NotItself {
            table: entries,
            covers,
        });
    }
    Ok(())
}

/// Where in a segment the entry of the page with this number begins, in words of 8 bytes; [`None`]
/// if it is not in there.
pub(crate) fn low_word(segment: Segment, pfn: u64) -> Option<u64> {
    let address = pfn.checked_mul(PAGE)?;
    let offset = address.checked_sub(segment.covers.start)?;
    (offset < segment.covers.len).then_some(offset / PAGE * (ENTRY / 8))
}

/// The `n`-th piece of at most `size` bytes of entries, counted over all segments; [`None`] behind
/// the last.
pub(crate) fn piece(segments: &[Segment], size: u64, mut n: u64) -> Option<Segment> {
    for segment in segments {
        let Segment { entries, covers } = *segment;
        let pieces = entries.len.div_ceil(size);
        let Some(left) = n.checked_sub(pieces) else {
            // Less than the length of the segment.
            let offset = n * size;
            let len = size.min(entries.len - offset);
            return Some(Segment {
                entries: Range {
                    start: entries.start + offset,
                    len,
                },
                covers: Range {
                    start: covers.start + offset / ENTRY * PAGE,
                    len: len / ENTRY * PAGE,
                },
            });
        };
        n = left;
    }
    None
}

#[cfg(test)]
#[path = "rmp_table/tests.rs"]
mod tests;
