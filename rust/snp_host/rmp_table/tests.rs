// SPDX-License-Identifier: GPL-2.0

//! Tables that are right, tables that are wrong in one way each, and the words for those.

use super::*;

const GIB: u64 = 1 << 30;
/// Segments of 2^30 to 2^36 bytes, no limit to their number.
const CPUID: (u32, u32) = (30 | (36 << 6), 0);

fn registers(base: u64, end: u64, cfg: u64) -> Registers {
    Registers {
        base,
        end,
        cfg,
        cpuid: CPUID,
    }
}

fn range(start: u64, len: u64) -> Range {
    Range { start, len }
}

fn contiguous(start: u64, len: u64) -> Layout {
    Layout::Contiguous(Segment {
        entries: range(start, len),
        covers: range(0, len / 16 * 4096),
    })
}

#[test]
fn firmware_wants_whole_mib() {
    let table = [
        ((0x3800_0000, 0x38ff_ffff), None),
        // RMP_END's low bits do not matter.
        ((0x3800_0000, 0x38ff_e000), None),
        (
            (0x3808_0000, 0x38ff_ffff),
            Some(TableError::OffMib(range(0x3808_0000, 0xf8_0000))),
        ),
        (
            (0x3800_0000, 0x38ff_dfff),
            Some(TableError::OffMib(range(0x3800_0000, 0xff_e000))),
        ),
    ];
    for ((base, end), expected) in table {
        let registers = registers(base, end, 0);
        let found = off_mib(registers.bookkeeping(), registers.layout().unwrap());
        assert_eq!(found, expected, "{base:#x} {end:#x}");
    }
    // Segments begin at whole MiB, whatever their descriptors say.
    let segmented = registers(0x3808_0000, 0, 1 | (30 << 8));
    let layout = segmented.layout().unwrap();
    assert_eq!(off_mib(segmented.bookkeeping(), layout), None);
}

#[test]
fn layout_of_a_contiguous_table() {
    let table = [
        // Base, end: what.
        ((0, 0), Err(TableError::Absent)),
        ((0x3800_0000, 0), Err(TableError::Absent)),
        // The value that a BIOS leaves which reserved nothing.
        ((0, 0x1fff), Err(TableError::Absent)),
        ((0x1fff, 0x38ff_ffff), Err(TableError::Absent)),
        // 16 MiB at 0x38000000: all but the first 16 KiB are entries.
        (
            (0x3800_0000, 0x38ff_ffff),
            Ok(contiguous(0x3800_4000, 0xff_c000)),
        ),
        // The low bits of RMP_END do not matter.
        (
            (0x3800_0000, 0x38ff_e000),
            Ok(contiguous(0x3800_4000, 0xff_c000)),
        ),
    ];
    for (row, ((base, end), expected)) in table.into_iter().enumerate() {
        assert_eq!(registers(base, end, 0).layout(), expected, "row {row}");
    }
    // No room for entries, end before base.
    for end in [0x3800_3fff, 0x37ff_ffff, 0x2000] {
        let base = 0x3800_0000;
        assert_eq!(
            registers(base, end, 0).layout(),
            Err(TableError::Bounds { base, end })
        );
    }
    assert_eq!(
        registers(0x3800_0000, 0x38ff_ffff, 0).bookkeeping(),
        range(0x3800_0000, 0x4000)
    );
}

#[test]
fn layout_of_a_segmented_table() {
    let layout = |cfg, cpuid| {
        Registers {
            // RMP_END is not looked at.
            cpuid,
            ..registers(0x3800_0000, 0, cfg)
        }
        .layout()
    };
    let segmented = |shift, count| {
        Ok(Layout::Segmented {
            table: range(0x3800_4000, 0x1000),
            shift,
            count,
        })
    };
    let wrong = |shift, min, max| Err(TableError::Shift { shift, min, max });
    for shift in [30, 33, 36] {
        let cfg = 1 | (u64::from(shift) << 8);
        assert_eq!(layout(cfg, CPUID), segmented(shift, 512), "{shift}");
    }
    for shift in [29, 37, 63] {
        let cfg = 1 | (u64::from(shift) << 8);
        assert_eq!(layout(cfg, CPUID), wrong(shift, 30, 36), "{shift}");
    }
    // The CPU may say what makes no sense, or nothing.
    let (shift, cfg) = (20, 1 | (20 << 8));
    assert_eq!(layout(cfg, (63 << 6, 0)), wrong(shift, 30, 52));
    assert_eq!(layout(cfg, (0, 0)), wrong(shift, 30, 0));
    // How many descriptors count: a limit, a number that is none without bit 10, one that is too
    // high.
    let cfg = 1 | (36 << 8);
    for (ebx, count) in [((1 << 10) | 8, 8), (8, 512), (0x7ff, 512), (1 << 10, 0)] {
        assert_eq!(
            layout(cfg, (CPUID.0, ebx)),
            segmented(36, count),
            "{ebx:#x}"
        );
    }
    assert_eq!(registers(0, 0, cfg).layout(), Err(TableError::Absent));
}

#[test]
fn segments() {
    let some = |start, len, covers, covered| {
        Some(Segment {
            entries: range(start, len),
            covers: range(covers, covered),
        })
    };
    let table = [
        ((0, 0, 36), None),
        ((0, 0x1234_5670_0000, 36), None),
        // 64 GiB covered: 256 MiB of entries.
        (
            (0, 0x1234_5670_0040, 36),
            some(0x1234_5670_0000, 0x1000_0000, 0, 64 * GIB),
        ),
        // More than the segment covers is cut to it.
        (
            (3, 0x1234_567f_ffff, 36),
            some(0x1234_5670_0000, 0x1000_0000, 192 * GIB, 64 * GIB),
        ),
        // Bits that are none of an address.
        (
            (1, 0xfff0_0000_0010_0001, 30),
            some(0x10_0000, 0x40_0000, GIB, GIB),
        ),
    ];
    for (row, ((index, descriptor, shift), expected)) in table.into_iter().enumerate() {
        assert_eq!(segment(index, descriptor, shift), expected, "row {row}");
    }
}

/// Two segments of 1 GiB each, for the first 2 GiB; they and what belongs to them lie above 16 GiB.
fn two_segments() -> ([Range; 2], [Segment; 2]) {
    let own = [range(0x4_8000_0000, 0x4000), range(0x4_8000_4000, 0x1000)];
    let one = segment(0, 0x4_9000_0001, 30).unwrap();
    let other = segment(1, 0x4_9040_0001, 30).unwrap();
    (own, [one, other])
}

#[test]
fn parts_that_overlap_or_lie_beyond() {
    let (own, segments) = two_segments();
    assert_eq!(check(&own, &segments), Ok(()));

    let moved = |start| {
        let [one, mut other] = segments;
        other.entries.start = start;
        check(&own, &[one, other])
    };
    let entries = segments[0].entries;
    // On the last byte of the first, in its middle, the same, around the bookkeeping and the
    // descriptors.
    for start in [0x4_903f_f000, 0x4_9020_0000, 0x4_9000_0000, 0x4_8fd0_0000] {
        let other = range(start, entries.len);
        assert_eq!(
            moved(start),
            Err(TableError::Overlap(entries, other)),
            "{start:#x}"
        );
    }
    assert_eq!(
        moved(0x4_7fd0_0000),
        Err(TableError::Overlap(
            own[0],
            range(0x4_7fd0_0000, entries.len)
        ))
    );
    assert_eq!(
        moved(0x4_8000_4000),
        Err(TableError::Overlap(
            own[1],
            range(0x4_8000_4000, entries.len)
        ))
    );
    let last = (1 << 52) - 0x40_0000;
    assert_eq!(moved(last), Ok(()));
    assert_eq!(
        moved(last + 0x10_0000),
        Err(TableError::Beyond(range(last + 0x10_0000, entries.len)))
    );
}

#[test]
fn ram_that_is_not_covered() {
    let (own, segments) = two_segments();
    let gap = |start, end, from| {
        let ram = range(start, end - start);
        (ram, Err(TableError::Gap { ram, from }))
    };
    for (ram, expected) in [
        (range(0x1000, 0x9f000), Ok(())),
        (range(0, 2 * GIB), Ok(())),
        (range(GIB - 0x1000, 0x2000), Ok(())),
        gap(0, 2 * GIB + 1, 2 * GIB),
        gap(4 * GIB, 5 * GIB, 4 * GIB),
    ] {
        assert_eq!(check_ram(&own, &segments, ram), expected, "{ram}");
    }
    // Without the first segment, and without the second.
    let (ram, expected) = gap(0x10_0000, 2 * GIB, 0x10_0000);
    assert_eq!(check_ram(&own, &segments[1..], ram), expected);
    let (ram, expected) = gap(0x10_0000, 2 * GIB, GIB);
    assert_eq!(check_ram(&own, &segments[..1], ram), expected);
    // A hole between two.
    let third = segment(2, 0x4_9080_0001, 30).unwrap();
    let (ram, expected) = gap(0, 3 * GIB, GIB);
    assert_eq!(check_ram(&own, &[segments[0], third], ram), expected);
}

#[test]
fn table_in_ram() {
    let (own, segments) = two_segments();
    for table in [own[0], own[1], segments[0].entries, segments[1].entries] {
        for ram in [range(table.start, 1), range(table.end() - 1, 1)] {
            assert_eq!(
                check_ram(&own, &segments, ram),
                Err(TableError::InRam { table, ram }),
                "{table} {ram}"
            );
        }
    }
    // Next to it is nothing wrong but the cover.
    assert!(matches!(
        check_ram(&own, &segments, range(own[0].start - 0x1000, 0x1000)),
        Err(TableError::Gap { .. })
    ));
}

#[test]
fn contiguous_table_that_does_not_cover_itself() {
    let at = |base: u64, len: u64| match registers(base, base + len - 1, 0).layout() {
        Ok(Layout::Contiguous(segment)) => check_covers_itself(segment),
        other => panic!("{other:?}"),
    };
    // 16 MiB and the bookkeeping cover 4 GiB.
    assert_eq!(at(4 * GIB - 0x100_4000, 0x100_4000), Ok(()));
    assert_eq!(
        at(4 * GIB, 0x100_4000),
        Err(TableError::NotItself {
            table: range(4 * GIB + 0x4000, 0x100_0000),
            covers: range(0, 4 * GIB)
        })
    );
}

#[test]
fn pieces_are_every_entry_once() {
    let (_, mut segments) = two_segments();
    segments[1].entries.len = 0x5_0000;
    segments[1].covers.len = 0x5_0000 * 256;
    let size = 0x3_0000;
    let mut n = 0;
    for segment in segments {
        let mut entries = segment.entries.start;
        let mut covers = segment.covers.start;
        while entries < segment.entries.end() {
            let piece = piece(&segments, size, n).expect("a piece");
            assert_eq!((piece.entries.start, piece.covers.start), (entries, covers));
            assert!(piece.entries.len <= size && piece.entries.len > 0);
            assert_eq!(piece.covers.len, piece.entries.len * 256);
            entries = piece.entries.end();
            covers = piece.covers.end();
            n += 1;
        }
        assert_eq!(
            (entries, covers),
            (segment.entries.end(), segment.covers.end())
        );
    }
    assert_eq!(piece(&segments, size, n), None);
    assert_eq!(piece(&segments, size, u64::MAX), None);
    assert_eq!(piece(&[], size, 0), None);
}

#[test]
fn messages_have_the_numbers() {
    let ram = range(0x1_0000_0000, 0x1_0000_0000);
    let table = range(0x3800_4000, 0x1000);
    for (err, text) in [
        (
            TableError::Absent,
            "the BIOS has reserved no memory for the RMP",
        ),
        (
            TableError::Bounds {
                base: 0x4000,
                end: 0x3fff,
            },
            "RMP_BASE (0x4000) and RMP_END (0x3fff) leave no room for entries",
        ),
        (
            TableError::Shift {
                shift: 29,
                min: 30,
                max: 36,
            },
            "the RMP has segments of 2^29 bytes, the CPU supports 2^30 to 2^36",
        ),
        (
            TableError::Beyond(table),
            "part of the RMP is at [0x38004000-0x38004fff], beyond all physical addresses",
        ),
        (
            TableError::Overlap(table, range(0x3800_0000, 0x8000)),
            "two parts of the RMP overlap, [0x38004000-0x38004fff] and [0x38000000-0x38007fff]",
        ),
        (
            TableError::InRam { table, ram },
            "part of the RMP, [0x38004000-0x38004fff], lies in memory that the kernel uses, \
             [0x100000000-0x1ffffffff]",
        ),
        (
            TableError::Gap {
                ram,
                from: 0x1_8000_0000,
            },
            "the RMP does not cover all of RAM [0x100000000-0x1ffffffff]: \
             nothing from 0x180000000 on",
        ),
        (
            TableError::NotItself {
                table,
                covers: range(0, 0x2000_0000),
            },
            "the RMP [0x38004000-0x38004fff] does not cover itself, only [0x0-0x1fffffff]",
        ),
        (
            TableError::OffMib(table),
            "the RMP [0x38004000-0x38004fff] does not begin and end at multiples of 1 MiB",
        ),
    ] {
        assert_eq!(err.to_string(), text);
    }
}

#[test]
fn no_input_overflows() {
    for bits in 0..64 {
        for shift in 30..=52 {
            for index in [0, 1, 511] {
                let low = segment(index, 1 << bits, shift);
                let high = segment(index, u64::MAX >> bits, shift);
                for segment in [low, high].into_iter().flatten() {
                    let _ = check(&[], &[segment]);
                    let _ = check_ram(&[], &[segment], range(u64::MAX - 1, u64::MAX));
                    let _ = piece(&[segment], 0x40_0000, u64::MAX);
                }
            }
        }
        for other in 0..64 {
            for cfg in [0, 1, u64::MAX] {
                for cpuid in [CPUID, (u32::MAX, u32::MAX)] {
                    let registers = Registers {
                        base: u64::MAX << bits,
                        end: u64::MAX >> other,
                        cfg,
                        cpuid,
                    };
                    let _ = registers.bookkeeping();
                    if let Ok(Layout::Contiguous(segment)) = registers.layout() {
                        let _ = check_covers_itself(segment);
                    }
                }
            }
        }
    }
}

#[test]
fn entry_of_a_page() {
    // The second GiB, whose entries are elsewhere.
    let segment = Segment {
        entries: Range {
            start: 0x7000_0000,
            len: 0x40_0000,
        },
        covers: Range {
            start: 1 << 30,
            len: 1 << 30,
        },
    };
    let rows = [
        (0x3_ffff, None),
        (0x4_0000, Some(0)),
        (0x4_0001, Some(2)),
        (0x7_ffff, Some(2 * 0x3_ffff)),
        (0x8_0000, None),
        (u64::MAX, None),
    ];
    for (pfn, word) in rows {
        assert_eq!(low_word(segment, pfn), word, "{pfn:#x}");
    }
}
