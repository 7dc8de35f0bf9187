// SPDX-License-Identifier: GPL-2.0
//! Guest memory, as QEMU shares it: pieces of files, mapped where DMA_MAP says.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// One piece of a file, mapped shared.
pub struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that any thread may reach; all access goes through methods
// that tolerate concurrent change.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset` on for reading and writing.
    pub fn new(file: &File, offset: u64, len: u64) -> io::Result<Mapping> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new shared mapping of an open file; nothing is replaced.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(address.cast::<u8>()) {
            Some(address) if address.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Mapping { address, len })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "read beyond a mapping");
        // SAFETY: the source lies in the mapping (checked above), the destination is ours. The
        // guest may write at the same time, as memory under DMA may change: the bytes are then
        // old, new or mixed, and all values are valid for u8.
        unsafe {
            ptr::copy_nonoverlapping(
                self.address.as_ptr().add(at),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "write beyond a mapping");
        // SAFETY: the destination lies in the mapping (checked above); concurrent access by the
        // guest is as with any DMA.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.as_ptr().add(at), bytes.len());
        }
    }

    /// The aligned 64-bit word at `at`.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at < self.len && self.len - at >= 8, "word outside a mapping");
        // SAFETY: in the mapping and aligned (checked above; mappings are page aligned), alive as
        // long as self; the atomic is made for memory that others change.
        unsafe { &*self.address.as_ptr().add(at).cast::<AtomicU64>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in new() with this length; no reference outlives self.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

struct Piece {
    start: u64,
    mapping: Mapping,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.mapping.len as u64
    }
}

/// All pieces, by address. QEMU splits and replaces them while firmware of the guest shadows ROMs.
#[derive(Default)]
pub struct Memory(RwLock<Vec<Piece>>);

impl Memory {
    pub fn map(&self, start: u64, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let end = start.checked_add(len);
        if len == 0 || end.is_none() {
            return Err(io::Error::other("a DMA range is empty or wraps around"));
        }
        let mapping = Mapping::new(file, offset, len)?;
        let mut pieces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let at = pieces.partition_point(|piece| piece.start < start);
        pieces.insert(at, Piece { start, mapping });
        Ok(())
    }

    /// Drops all pieces that begin in the range. QEMU unmaps ranges as it mapped them, and
    /// everything at once with sizes up to 2^63.
    pub fn unmap(&self, start: u64, len: u64) {
        let last = start.saturating_add(len.saturating_sub(1));
        let mut pieces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        pieces.retain(|piece| !(start..=last).contains(&piece.start));
    }

    pub fn unmap_all(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn is_ram(&self, pa: u64, len: u64) -> bool {
        let mut at = pa;
        let Some(end) = pa.checked_add(len) else {
            return false;
        };
        let pieces = self.pieces();
        while at < end {
            match find(&pieces, at) {
                Some(piece) => at = piece.end(),
                None => return false,
            }
        }
        true
    }

    /// Reads what is RAM; QEMU may have unmapped a piece since [`Memory::is_ram`], which then reads
    /// as all ones, as a bus without anybody on it.
    pub fn read(&self, pa: u64, bytes: &mut [u8]) {
        let pieces = self.pieces();
        self.each_part(&pieces, pa, bytes.len(), |piece, at, range| match piece {
            Some(piece) => piece.mapping.read(at, &mut bytes[range]),
            None => bytes[range].fill(0xff),
        });
    }

    /// Writes what is RAM; the rest is lost.
    pub fn write(&self, pa: u64, bytes: &[u8]) {
        let pieces = self.pieces();
        self.each_part(&pieces, pa, bytes.len(), |piece, at, range| {
            if let Some(piece) = piece {
                piece.mapping.write(at, &bytes[range]);
            }
        });
    }

    pub fn load(&self, pa: u64) -> u64 {
        let pieces = self.pieces();
        find(&pieces, pa).map_or(0, |piece| {
            piece.mapping.word((pa - piece.start) as usize).load(Ordering::Acquire)
        })
    }

    pub fn store(&self, pa: u64, value: u64) {
        let pieces = self.pieces();
        if let Some(piece) = find(&pieces, pa) {
            piece.mapping.word((pa - piece.start) as usize).store(value, Ordering::Release);
        }
    }

    fn pieces(&self) -> RwLockReadGuard<'_, Vec<Piece>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts a range at the borders of pieces.
    fn each_part(
        &self,
        pieces: &[Piece],
        pa: u64,
        len: usize,
        mut part: impl FnMut(Option<&Piece>, usize, std::ops::Range<usize>),
    ) {
        let mut done = 0;
        while done < len {
            let at = pa + done as u64;
            let piece = find(pieces, at);
            // Where nothing is mapped, go on byte by byte: it is rare, and always right.
            let room = piece.map_or(1, |piece| (piece.end() - at) as usize);
            let step = room.min(len - done);
            let offset = piece.map_or(0, |piece| (at - piece.start) as usize);
            part(piece, offset, done..done + step);
            done += step;
        }
    }
}

fn find(pieces: &[Piece], pa: u64) -> Option<&Piece> {
    let after = pieces.partition_point(|piece| piece.start <= pa);
    pieces[..after].last().filter(|piece| pa < piece.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(len: u64) -> File {
        // SAFETY: memfd_create with a valid name; the descriptor is ours alone.
        let file: File = unsafe {
            use std::os::fd::FromRawFd;
            File::from_raw_fd(libc::memfd_create(c"ram".as_ptr(), 0))
        };
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn ranges_cross_pieces_and_holes_are_seen() {
        let file = ram(0x4000);
        let memory = Memory::default();
        memory.map(0x1000, &file, 0x1000, 0x1000).unwrap();
        memory.map(0x2000, &file, 0x3000, 0x1000).unwrap();
        memory.map(0x8000, &file, 0, 0x1000).unwrap();
        let rows = [
            (0x1000, 0x2000, true),
            (0x1fff, 2, true),
            (0x2fff, 2, false),
            (0, 1, false),
            (0x8000, 0x1001, false),
            (0x5000, 0, true),
            (u64::MAX, 2, false),
        ];
        for (pa, len, expected) in rows {
            assert_eq!(memory.is_ram(pa, len), expected, "{pa:#x}+{len:#x}");
        }
        memory.write(0x1ffe, &[1, 2, 3, 4]);
        let mut bytes = [0; 4];
        memory.read(0x1ffe, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4]);
        use std::os::unix::fs::FileExt;
        file.read_exact_at(&mut bytes[..2], 0x3000).unwrap();
        assert_eq!(bytes[..2], [3, 4], "the second piece lies elsewhere in the file");
        memory.read(0x2ffe, &mut bytes);
        assert_eq!(bytes, [0, 0, 0xff, 0xff]);
        memory.store(0x8008, 0x1234);
        assert_eq!(memory.load(0x8008), 0x1234);
    }

    #[test]
    fn unmapping_takes_ranges_of_any_size() {
        let file = ram(0x2000);
        let memory = Memory::default();
        memory.map(0, &file, 0, 0x1000).unwrap();
        memory.map(0x1000, &file, 0, 0x1000).unwrap();
        memory.unmap(0, 0x1000);
        assert!(!memory.is_ram(0, 1) && memory.is_ram(0x1000, 1));
        memory.unmap(0, u64::MAX);
        assert!(!memory.is_ram(0x1000, 1));
        assert!(memory.map(0x1000, &file, 0, 0).is_err());
        assert!(memory.map(u64::MAX, &file, 0, 0x1000).is_err());
    }
}
