// SPDX-License-Identifier: GPL-2.0

//! Tables that are pages of the kernel's: what of them is cleared and read.

use kernel::macros::kunit_tests;

#[kunit_tests(snp_host_rmp)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::sys::{
        check::check,
        pages::{
            Gfp,
            Pages, //
        },
    };
    use kernel::str::CString;

    /// Bookkeeping, and two segments of entries with a hole between what they cover.
    struct Memory {
        own: Pages,
        entries: [Pages; 2],
    }

    /// What the second segment covers begins there.
    const SECOND: u64 = 64 << 30;

    impl Memory {
        /// Every byte of it is 0xff.
        fn new() -> Result<Self> {
            let mut memory = Self {
                own: Pages::zeroed(Gfp::KERNEL, 3)?,
                entries: [
                    Pages::zeroed(Gfp::KERNEL, 2)?,
                    Pages::zeroed(Gfp::KERNEL, 1)?,
                ],
            };
            memory.fill(0xff);
            Ok(memory)
        }

        fn fill(&mut self, value: u8) {
            self.own.bytes_mut().fill(value);
            for pages in &mut self.entries {
                pages.bytes_mut().fill(value);
            }
        }

        /// The table: half of the pages of the bookkeeping, and all entries.
        fn table(&self) -> Result<Table> {
            let bookkeeping = Range {
                start: self.own.phys(),
                len: self.own.len() as u64 / 2,
            };
            let mut table = Table {
                bookkeeping,
                own: KVec::new(),
                segments: KVec::new(),
                off_mib: None,
            };
            table.own.push(bookkeeping, GFP_KERNEL)?;
            for (pages, start) in self.entries.iter().zip([0, SECOND]) {
                let len = pages.len() as u64;
                let entries = Range {
                    start: pages.phys(),
                    len,
                };
                let covers = Range {
                    start,
                    len: len / 16 * 4096,
                };
                table
                    .segments
                    .push(Segment { entries, covers }, GFP_KERNEL)?;
            }
            Ok(table)
        }
    }

    #[test]
    fn all_of_a_table_is_cleared_and_nothing_else() -> Result {
        let memory = Memory::new()?;
        let proof = NotEnforced::check(SnpEn::Nowhere).ok_or(EINVAL)?;
        memory.table()?.clear(&proof)?;
        let (bookkeeping, rest) = memory.own.bytes().split_at(memory.own.len() / 2);
        check!(bookkeeping.iter().all(|byte| *byte == 0));
        check!(rest.iter().all(|byte| *byte == 0xff));
        for pages in &memory.entries {
            check!(pages.bytes().iter().all(|byte| *byte == 0));
        }
        Ok(())
    }

    #[test]
    fn there_is_no_proof_while_a_cpu_has_snp_en() -> Result {
        check!(NotEnforced::check(SnpEn::Nowhere).is_some());
        check!(NotEnforced::check(SnpEn::Somewhere).is_none());
        check!(NotEnforced::check(SnpEn::Everywhere).is_none());
        Ok(())
    }

    /// Any byte of any entry, and of nothing else.
    #[test]
    fn an_entry_that_is_not_zero_is_found() -> Result {
        let mut memory = Memory::new()?;
        memory.fill(0);
        memory.own.bytes_mut().fill(1);
        let table = memory.table()?;
        check!(table.scan(SnpEn::Nowhere) == Rmp::Zero);
        for n in 0..memory.entries.len() {
            for at in [0, 15, 0x1008, memory.entries[n].len() - 1] {
                memory.entries[n].bytes_mut()[at] = 0x80;
                check!(table.scan(SnpEn::Nowhere) == Rmp::NotZero, "{} {}", n, at);
                check!(table.scan(SnpEn::Somewhere) == Rmp::NotZero, "{} {}", n, at);
                memory.entries[n].bytes_mut()[at] = 0;
            }
        }
        check!(table.scan(SnpEn::Somewhere) == Rmp::Zero);
        check!(cpu::has_rmpread() || table.scan(SnpEn::Everywhere) == Rmp::Zero);
        Ok(())
    }

    #[test]
    fn a_table_that_cannot_be_mapped_is_not_zero() -> Result {
        let mut memory = Memory::new()?;
        memory.fill(0);
        let mut table = memory.table()?;
        if let Some(segment) = table.segments.last_mut() {
            // No multiple of 8.
            segment.entries.start += 4;
        }
        check!(table.scan(SnpEn::Nowhere) == Rmp::Unreadable);
        check!(matches!(table.map(), Err(err) if err == EINVAL));
        let proof = NotEnforced::check(SnpEn::Nowhere).ok_or(EINVAL)?;
        check!(table.clear(&proof) == Err(EINVAL));
        let mut table = memory.table()?;
        check!(table.clear(&proof) == Ok(()) && table.entries_len() == 6 * 4096);
        table.bookkeeping.start += 4;
        check!(table.clear(&proof) == Err(EINVAL));
        Ok(())
    }

    #[test]
    fn a_machine_without_snp_has_no_rmp() -> Result {
        check!(cpu::has_snp() || !is_reserved());
        Ok(())
    }

    #[test]
    fn the_lower_half_of_an_entry_is_found_by_its_page() -> Result {
        let mut memory = Memory::new()?;
        let mut count = 0;
        for pages in &mut memory.entries {
            for entry in pages.bytes_mut().chunks_exact_mut(16) {
                entry[..8].copy_from_slice(&u64::to_le_bytes(count));
                count += 1;
            }
        }
        let mapped = memory.table()?.map()?;
        let (first, second) = (memory.entries[0].len() as u64 / 16, SECOND >> 12);
        for (pfn, low) in [
            (0, Some(0)),
            (1, Some(1)),
            (first - 1, Some(first - 1)),
            (first, None),
            (second - 1, None),
            (second, Some(first)),
            (second + 1, Some(first + 1)),
            (second + count - first - 1, Some(count - 1)),
            (second + count - first, None),
            (u64::MAX, None),
        ] {
            check!(mapped.low(pfn) == low, "{:#x}", pfn);
        }
        Ok(())
    }

    #[test]
    fn every_piece_is_worked_on_until_one_fails() -> Result {
        let memory = Memory::new()?;
        let table = memory.table()?;
        let (calls, bytes) = (Atomic::<u32>::new(0), Atomic::<u64>::new(0));
        table.on_pieces(|piece| {
            calls.fetch_add(1, Relaxed);
            bytes.fetch_add(piece.entries.len, Relaxed);
            Ok(())
        })?;
        check!(calls.load(Relaxed) == 2 && bytes.load(Relaxed) == 6 * 4096);
        check!(table.on_pieces(|_| Err(ENOENT)) == Err(ENOENT));
        Ok(())
    }

    #[test]
    fn a_table_is_described_by_place_length_and_end() -> Result {
        let table = memory_of_a_description();
        let text = CString::try_from_fmt(fmt!("{table}"))?;
        let expected =
            c"at 0x40000000, 96 KiB of entries in 2 piece(s), for the memory below 0x1000800000";
        check!(*text == *expected);
        let none = Table {
            segments: KVec::new(),
            ..table
        };
        let text = CString::try_from_fmt(fmt!("{none}"))?;
        check!(
            &*text == c"at 0x40000000, 0 KiB of entries in 0 piece(s), for the memory below 0x0"
        );
        Ok(())
    }

    /// The last one covers less than the first.
    fn memory_of_a_description() -> Table {
        let mut segments = KVec::new();
        for (start, entries, covers) in [(SECOND, 32, 8), (0, 64, 16)] {
            let segment = Segment {
                entries: Range {
                    start: 0,
                    len: entries << 10,
                },
                covers: Range {
                    start,
                    len: covers << 20,
                },
            };
            // What is missing fails the test.
            let _ = segments.push(segment, GFP_KERNEL);
        }
        Table {
            bookkeeping: Range {
                start: 1 << 30,
                len: 0x4000,
            },
            own: KVec::new(),
            segments,
            off_mib: None,
        }
    }

    /// Why a table cannot be used decides which errno goes to C.
    #[test]
    fn errors_have_words_and_an_errno() -> Result {
        let table = RmpError::from(TableError::Absent);
        let words = CString::try_from_fmt(fmt!("{table}"))?;
        check!(&*words == c"the BIOS has reserved no memory for the RMP");
        check!(Error::from(table) == EOPNOTSUPP);
        let kernel = RmpError::from(EIO);
        let words = CString::try_from_fmt(fmt!("{kernel}"))?;
        let expected = CString::try_from_fmt(fmt!("the RMP cannot be read ({EIO:?})"))?;
        check!(*words == *expected);
        check!(Error::from(kernel) == EIO && Error::from(RmpError::from(AllocError)) == ENOMEM);
        Ok(())
    }
}
