// SPDX-License-Identifier: GPL-2.0
//! Guest RAM, mapped from the file that QEMU maps as well.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;
use std::{ptr, slice};

const WORD: u64 = size_of::<AtomicU64>() as u64;
/// A page of it.
pub const PAGE: u64 = 4096;
/// Where RAM goes on above the hole for devices.
const HIGH: u64 = 4 << 30;

/// The guest's memory as words, each of which the guest and the PSP model may change at any time.
/// It stays mapped until the process ends.
pub struct Ram {
    words: &'static [AtomicU64],
    low: u64,
}

impl Ram {
    /// Maps the file, of which the first `low` bytes lie at physical address 0.
    pub fn map(file: &File, low: u64) -> io::Result<Ram> {
        let bytes = file.metadata()?.len();
        if bytes < low || bytes % 4096 != 0 {
            let text = format!("the file has {bytes:#x} bytes, low= says {low:#x} at least");
            return Err(io::Error::other(text));
        }
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: a new shared mapping of an open file; nothing is replaced.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping has this length, is page aligned and never unmapped. Every bit
        // pattern is an AtomicU64; others change the memory only by loads and stores that the
        // processor does, which is what atomics are for. The runner never truncates the file
        // while QEMU, which would fail as well, has it mapped.
        let words = unsafe { slice::from_raw_parts(address.cast(), length / size_of::<u64>()) };
        Ok(Ram { words, low })
    }

    /// Where RAM below 4 GiB ends.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// How much there is.
    pub fn bytes(&self) -> u64 {
        self.words.len() as u64 * WORD
    }

    /// The first address behind all of it.
    pub fn end(&self) -> u64 {
        match self.bytes() - self.low {
            0 => self.low,
            high => HIGH + high,
        }
    }

    /// The piece, below or above the hole, that an address lies in: where it starts, and its words.
    pub fn piece(&self, pa: u64) -> Option<(u64, &'static [AtomicU64])> {
        self.offset(pa)?;
        let piece = if pa < self.low { 0..self.low } else { HIGH..self.end() };
        Some((piece.start, self.slice(piece.start, piece.end - piece.start)?))
    }

    /// How far behind the start of RAM a physical address is; none outside RAM.
    pub fn offset(&self, pa: u64) -> Option<u64> {
        let offset = if pa < self.low { pa } else { self.above(pa)? };
        (offset < self.bytes()).then_some(offset)
    }

    /// The same for RAM above the hole.
    fn above(&self, pa: u64) -> Option<u64> {
        (pa.checked_sub(HIGH)?).checked_add(self.low)
    }

    /// The aligned word at a physical address; none outside RAM.
    pub fn word(&self, pa: u64) -> Option<&AtomicU64> {
        self.slice(pa, WORD)?.first()
    }

    /// The words of a range that lies in RAM as a whole.
    pub fn slice(&self, pa: u64, bytes: u64) -> Option<&'static [AtomicU64]> {
        let end = pa.checked_add(bytes)?;
        let offset = if end <= self.low { pa } else { self.above(pa)? };
        if offset % WORD != 0 || bytes % WORD != 0 {
            return None;
        }
        let first = usize::try_from(offset / WORD).ok()?;
        let count = usize::try_from(bytes / WORD).ok()?;
        self.words.get(first..first.checked_add(count)?)
    }

    /// Memory of the test process.
    #[cfg(test)]
    pub fn for_test(bytes: u64, low: u64) -> Ram {
        let words: Vec<AtomicU64> = (0..bytes / WORD).map(|_| AtomicU64::new(0)).collect();
        Ram { words: words.leak(), low }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn addresses_lead_to_offsets() {
        let ram = Ram::for_test(0x3000, 0x2000);
        for (n, word) in ram.words.iter().enumerate() {
            word.store(n as u64 * WORD, Relaxed);
        }
        let rows = [
            (0, Some(0)),
            (0x1ff8, Some(0x1ff8)),
            (0x1ffc, None),
            (0x2000, None),
            (HIGH - 8, None),
            (HIGH, Some(0x2000)),
            (HIGH + 0xff8, Some(0x2ff8)),
            (HIGH + 0x1000, None),
            (u64::MAX - 7, None),
            (u64::MAX, None),
        ];
        for (pa, offset) in rows {
            assert_eq!(ram.word(pa).map(|w| w.load(Relaxed)), offset, "{pa:#x}");
            if pa % WORD == 0 {
                assert_eq!(ram.offset(pa), offset, "{pa:#x}");
            }
        }
        assert!(ram.slice(0x1ff8, 16).is_none(), "across the hole");
    }

    #[test]
    fn pieces_are_those_on_both_sides_of_the_hole() {
        let ram = Ram::for_test(0x3000, 0x2000);
        let rows = [
            (0, Some((0, 0x2000))),
            (0x1fff, Some((0, 0x2000))),
            (0x2000, None),
            (HIGH - 1, None),
            (HIGH, Some((HIGH, 0x1000))),
            (HIGH + 0xfff, Some((HIGH, 0x1000))),
            (HIGH + 0x1000, None),
        ];
        for (pa, piece) in rows {
            let found = ram.piece(pa).map(|(start, words)| (start, words.len() as u64 * WORD));
            assert_eq!(found, piece, "{pa:#x}");
        }
        let (_, high) = ram.piece(HIGH).unwrap();
        high[1].store(7, Relaxed);
        assert_eq!(ram.word(HIGH + 8).unwrap().load(Relaxed), 7);
        assert_eq!(ram.end(), HIGH + 0x1000);
        assert_eq!(Ram::for_test(0x2000, 0x2000).end(), 0x2000);
    }
}
