// SPDX-License-Identifier: GPL-2.0

//! Where the RMP's entries are, decoded from the MSRs and the segment table.
//!
//! Pure: no `kernel::`, no I/O; the tests at the end run on the build machine
//! (`rustc --test rust/snp_host/rmp_table.rs`).
//!
//! Sources: AMD64 Architecture Programmer's Manual volume 2, 15.36.3 and 15.36.16; the reading of
//! arch/x86/virt/svm/sev.c in Linux 7.3.

/// The first 16 KiB at RMP_BASE are the processors' own, not entries.
const BOOKKEEPING: u64 = 0x4000;

/// Bits 51:13 of RMP_BASE and RMP_END: zero if the BIOS reserved no table.
const ADDRESS_MASK: u64 = ((1 << 52) - 1) & !((1 << 13) - 1);

/// Bytes of table per byte of memory: one entry of 16 bytes for a page of 4 KiB.
const TABLE_BYTES_PER_GIB: u64 = 16 << (30 - 12);

/// The entries of the segment table (RST): one page of them.
pub(crate) const SEGMENTS: usize = 512;

/// What the MSRs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Msrs {
    /// RMP_BASE.
    pub(crate) base: u64,
    /// RMP_END.
    pub(crate) end: u64,
    /// RMP_CFG; 0 where the CPU has no segmented RMP.
    pub(crate) cfg: u64,
}

/// A range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// First address.
    pub(crate) start: u64,
    /// Length in bytes.
    pub(crate) len: u64,
}

/// The shape of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All entries in one piece.
    Contiguous(Range),
    /// Entries in segments, which a table of [`SEGMENTS`] descriptors points to.
    Segmented {
        /// Where the descriptors are.
        table: u64,
        /// log2 of the memory that one segment covers.
        shift: u32,
    },
}

impl Layout {
    /// Decodes the MSRs; [`None`] if they describe no table.
    pub(crate) fn decode(msrs: Msrs) -> Option<Self> {
        let base = msrs.base & ADDRESS_MASK;
        if base == 0 {
            return None;
        }
        let entries = base.checked_add(BOOKKEEPING)?;
        if msrs.cfg & 1 != 0 {
            let shift = (msrs.cfg >> 8) & 0x3f;
            // A segment covers at least 1 GiB (the unit of the descriptors) and no more than the
            // physical address space.
            return (30..=52).contains(&shift).then_some(Self::Segmented {
                table: entries,
                shift: shift as u32,
            });
        }
        if msrs.end & ADDRESS_MASK == 0 {
            return None;
        }
        // RMP_END is the address of the last byte; its bits 12:0 read as ones.
        let len = (msrs.end | 0x1fff).checked_add(1)?.checked_sub(entries)?;
        (len != 0).then_some(Self::Contiguous(Range {
            start: entries,
            len,
        }))
    }
}

/// Decodes a descriptor of the segment table; [`None`] for a segment that is not there.
pub(crate) fn segment(descriptor: u64, shift: u32) -> Option<Range> {
    let covered_gib = descriptor & 0xf_ffff;
    let covered_gib = covered_gib.min(1 << (shift - 30));
    (covered_gib != 0).then_some(Range {
        start: descriptor & (((1 << 52) - 1) & !0xf_ffff),
        len: covered_gib * TABLE_BYTES_PER_GIB,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msrs() {
        // base, end, cfg -> what.
        let table = [
            (0, 0, 0, None),
            (0x3800_0000, 0, 0, None),
            (0x1fff, 0x38ff_ffff, 0, None),
            // 16 MiB at 0x38000000: all but the first 16 KiB are entries.
            (
                0x3800_0000,
                0x38ff_ffff,
                0,
                Some(Layout::Contiguous(Range {
                    start: 0x3800_4000,
                    len: 0xff_c000,
                })),
            ),
            // The low bits of RMP_END do not matter.
            (
                0x3800_0000,
                0x38ff_e000,
                0,
                Some(Layout::Contiguous(Range {
                    start: 0x3800_4000,
                    len: 0xff_c000,
                })),
            ),
            // No room for entries, end before base, end of the world.
            (0x3800_0000, 0x3800_3fff, 0, None),
            (0x3800_0000, 0x37ff_ffff, 0, None),
            (0x3800_0000, u64::MAX, 0, None),
            // Segmented: RMP_END is not looked at.
            (
                0x3800_0000,
                0,
                1 | (36 << 8),
                Some(Layout::Segmented {
                    table: 0x3800_4000,
                    shift: 36,
                }),
            ),
            (0x3800_0000, 0, 1 | (29 << 8), None),
            (0x3800_0000, 0, 1 | (53 << 8), None),
            (0, 0, 1 | (36 << 8), None),
        ];
        for (row, (base, end, cfg, expected)) in table.into_iter().enumerate() {
            assert_eq!(
                Layout::decode(Msrs { base, end, cfg }),
                expected,
                "row {row}"
            );
        }
    }

    #[test]
    fn segments() {
        let table = [
            (0, 36, None),
            (0x1234_5670_0000, 36, None),
            // 64 GiB covered: 256 MiB of entries.
            (
                0x1234_5670_0040,
                36,
                Some(Range {
                    start: 0x1234_5670_0000,
                    len: 0x1000_0000,
                }),
            ),
            // More than the segment covers is cut to it.
            (
                0x1234_567f_ffff,
                36,
                Some(Range {
                    start: 0x1234_5670_0000,
                    len: 0x1000_0000,
                }),
            ),
            (
                0xfff0_0000_0010_0001,
                30,
                Some(Range {
                    start: 0x10_0000,
                    len: 0x40_0000,
                }),
            ),
        ];
        for (row, (descriptor, shift, expected)) in table.into_iter().enumerate() {
            assert_eq!(segment(descriptor, shift), expected, "row {row}");
        }
    }

    #[test]
    fn no_input_overflows() {
        for bits in 0..64 {
            for shift in 30..=52 {
                let _ = segment(1 << bits, shift);
                let _ = segment(u64::MAX >> bits, shift);
            }
            for other in 0..64 {
                for cfg in [0, 1, u64::MAX] {
                    let _ = Layout::decode(Msrs {
                        base: u64::MAX << bits,
                        end: u64::MAX >> other,
                        cfg,
                    });
                }
            }
        }
    }
}
