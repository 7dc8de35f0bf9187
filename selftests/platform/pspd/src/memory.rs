// SPDX-License-Identifier: GPL-2.0
//! Guest memory, as QEMU shares it: pieces of files, mapped where DMA_MAP says.
//!
//! Guests write to it while firmware does, as with any DMA: what is read is old, new or mixed.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend,
    GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

/// All pieces. QEMU splits and replaces them while firmware of the guest shadows ROMs.
pub struct Memory(GuestMemoryAtomic<GuestMemoryMmap>);

impl Default for Memory {
    fn default() -> Memory {
        Memory(GuestMemoryAtomic::new(GuestMemoryMmap::new()))
    }
}

impl Memory {
    pub fn map(&self, start: u64, file: File, offset: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let piece = GuestRegionMmap::from_range(
            GuestAddress(start),
            len,
            Some(FileOffset::new(file, offset)),
        )
        .map_err(io::Error::other)?;
        let update = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        update.replace(self.0.memory().insert_region(Arc::new(piece)).map_err(io::Error::other)?);
        Ok(())
    }

    /// Drops all pieces that begin in the range. QEMU unmaps ranges as it mapped them, and
    /// everything at once with sizes up to 2^63.
    pub fn unmap(&self, start: u64, len: u64) {
        let last = start.saturating_add(len.saturating_sub(1));
        let update = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.0.memory();
        let inside = |piece: &&GuestRegionMmap| (start..=last).contains(&piece.start_addr().0);
        let pieces =
            all.iter().filter(inside).fold(GuestMemoryMmap::clone(&all), |rest, piece| match rest
                .remove_region(piece.start_addr(), piece.len())
            {
                Ok((rest, _)) => rest,
                Err(_) => unreachable!("the piece was found"),
            });
        update.replace(pieces);
    }

    pub fn unmap_all(&self) {
        self.unmap(0, u64::MAX);
    }

    pub fn is_ram(&self, pa: u64, len: u64) -> bool {
        let fits = pa.checked_add(len).and(usize::try_from(len).ok());
        fits.is_some_and(|len| len == 0 || self.0.memory().check_range(GuestAddress(pa), len))
    }

    /// Reads what is RAM; QEMU may have unmapped a piece since [`Memory::is_ram`], which then reads
    /// as all ones, as a bus without anybody on it.
    pub fn read(&self, pa: u64, bytes: &mut [u8]) {
        let count = self.0.memory().read(bytes, GuestAddress(pa)).unwrap_or(0);
        bytes[count..].fill(0xff);
    }

    /// Writes what is RAM; the rest is lost.
    pub fn write(&self, pa: u64, bytes: &[u8]) {
        let _ = self.0.memory().write(bytes, GuestAddress(pa));
    }

    /// The aligned word at `pa`; 0 where there is no RAM.
    pub fn load(&self, pa: u64) -> u64 {
        self.0.memory().load(GuestAddress(pa), Ordering::Acquire).unwrap_or(0)
    }

    /// Stores an aligned word as one; without effect where there is no RAM.
    pub fn store(&self, pa: u64, value: u64) {
        let _ = self.0.memory().store(value, GuestAddress(pa), Ordering::Release);
    }
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

    fn share(file: &File) -> File {
        file.try_clone().unwrap()
    }

    #[test]
    fn ranges_cross_pieces_and_holes_are_seen() {
        let file = ram(0x4000);
        let memory = Memory::default();
        memory.map(0x1000, share(&file), 0x1000, 0x1000).unwrap();
        memory.map(0x2000, share(&file), 0x3000, 0x1000).unwrap();
        memory.map(0x8000, share(&file), 0, 0x1000).unwrap();
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
        memory.map(0, share(&file), 0, 0x1000).unwrap();
        memory.map(0x1000, share(&file), 0, 0x1000).unwrap();
        memory.unmap(0, 0x1000);
        assert!(!memory.is_ram(0, 1) && memory.is_ram(0x1000, 1));
        memory.unmap(0, u64::MAX);
        assert!(!memory.is_ram(0x1000, 1));
        assert!(memory.map(0x1000, share(&file), 0, 0).is_err());
        assert!(memory.map(u64::MAX, share(&file), 0, 0x1000).is_err());
    }
}
