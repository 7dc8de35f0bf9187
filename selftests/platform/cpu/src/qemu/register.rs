// SPDX-License-Identifier: GPL-2.0
//! A register that QEMU's IOMMU lacks.
//!
//! The exclusion base is among the registers of `amd-iommu`, but what is written there is dropped
//! and it reads as 0 (`amdvi_mmio_write()` of hw/i386/amd_iommu.c has no case for it). Linux keeps
//! the address of the completion-wait semaphore in it, and a crash kernel takes the semaphore from
//! there. So a memory region of 8 bytes is put over it.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::ffi::Functions;
use crate::acpi::Memory;

/// `DEVICE_LITTLE_ENDIAN`.
const LITTLE_ENDIAN: c_int = 2;
/// Above QEMU's own region, which has 0 or 1.
const PRIORITY: c_int = 16;
const BYTES: u64 = 8;
/// More than `MemoryRegion` has.
const REGION_WORDS: usize = 512;

/// `valid` of [`Ops`].
#[repr(C)]
struct Valid {
    min: c_uint,
    max: c_uint,
    unaligned: bool,
    accepts: *const c_void,
}

/// `impl` of [`Ops`].
#[repr(C)]
struct Implemented {
    min: c_uint,
    max: c_uint,
    unaligned: bool,
}

/// `MemoryRegionOps`.
#[repr(C)]
pub struct Ops {
    read: unsafe extern "C" fn(*mut c_void, u64, c_uint) -> u64,
    write: unsafe extern "C" fn(*mut c_void, u64, u64, c_uint),
    read_with_attrs: *const c_void,
    write_with_attrs: *const c_void,
    endianness: c_int,
    valid: Valid,
    implemented: Implemented,
}

// SAFETY: functions and null pointers, never changed.
unsafe impl Sync for Ops {}

static OPS: Ops = Ops {
    read,
    write,
    read_with_attrs: ptr::null(),
    write_with_attrs: ptr::null(),
    endianness: LITTLE_ENDIAN,
    valid: Valid { min: 1, max: 8, unaligned: false, accepts: ptr::null() },
    implemented: Implemented { min: 1, max: 8, unaligned: false },
};

/// Which bits of the register an access is about, and how far they are from its start.
fn bits(offset: u64, size: c_uint) -> (u64, u64) {
    let shift = 8 * (offset % BYTES);
    let ones = if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
    (ones << shift, shift)
}

unsafe extern "C" fn read(value: *mut c_void, offset: u64, size: c_uint) -> u64 {
    // SAFETY: what install() has given, which stays.
    let value = unsafe { &*value.cast::<AtomicU64>() };
    let (mask, shift) = bits(offset, size);
    (value.load(Acquire) & mask) >> shift
}

unsafe extern "C" fn write(value: *mut c_void, offset: u64, data: u64, size: c_uint) {
    // SAFETY: as in read().
    let value = unsafe { &*value.cast::<AtomicU64>() };
    let (mask, shift) = bits(offset, size);
    // Nobody else writes meanwhile: QEMU holds its lock.
    value.store(value.load(Relaxed) & !mask | data << shift & mask, Release);
}

/// Puts a register with this value at a physical address. `Err`: it does not work as one.
///
/// # Safety
///
/// On a CPU's thread, in work that was queued for it: there QEMU holds its lock. Once for each
/// address.
pub unsafe fn install(
    f: &Functions,
    memory: &impl Memory,
    address: u64,
    value: &'static AtomicU64,
) -> Result<(), &'static str> {
    const NAME: &[u8] = b"snp-cpu-exclusion-base\0";
    let region: &'static mut [u64; REGION_WORDS] = Box::leak(Box::new([0; REGION_WORDS]));
    let region = region.as_mut_ptr().cast::<c_void>();
    let opaque = ptr::from_ref(value).cast_mut().cast::<c_void>();
    let ops = ptr::from_ref(&OPS).cast::<c_void>();
    let name = NAME.as_ptr().cast::<c_char>();
    // SAFETY: zeroed memory, larger than a MemoryRegion, that stays for ever, as the operations,
    // the value and the name do; the lock is held (caller).
    unsafe {
        (f.memory_region_init_io)(region, ptr::null_mut(), ops, opaque, name, BYTES);
        let system = (f.get_system_memory)();
        (f.memory_region_add_subregion_overlap)(system, address, region, PRIORITY);
    }
    let kept = value.load(Acquire);
    let works = works(memory, address, value);
    value.store(kept, Release);
    works
}

/// Tries out reading and writing, whole and in halves: the layout of [`Ops`] is an assumption.
fn works(memory: &impl Memory, address: u64, value: &AtomicU64) -> Result<(), &'static str> {
    const TRIED: u64 = 0x0123_4567_89ab_cdef;
    let tried = TRIED.to_le_bytes();
    let mut seen = [0; 8];
    value.store(TRIED, Release);
    if !memory.read(address, &mut seen) || seen != tried {
        return Err("a register of the plugin's cannot be read");
    }
    for half in [..4, ..8] {
        value.store(0, Release);
        let low = if half.end == 4 { TRIED & u64::from(u32::MAX) } else { TRIED };
        if !memory.write(address, &tried[half]) || value.swap(0, AcqRel) != low {
            return Err("a register of the plugin's cannot be written");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_register_are_read_and_written() {
        let value = AtomicU64::new(0x0123_4567_89ab_cdef);
        let opaque = ptr::from_ref(&value).cast_mut().cast::<c_void>();
        // SAFETY: the value is alive.
        unsafe {
            assert_eq!(read(opaque, 0, 8), 0x0123_4567_89ab_cdef);
            assert_eq!(read(opaque, 4, 4), 0x0123_4567);
            assert_eq!(read(opaque, 1, 1), 0xcd);
            write(opaque, 4, 0xffff_ffff_0000_0042, 4);
            assert_eq!(value.load(Relaxed), 0x42_89ab_cdef);
            write(opaque, 0, 0x1000, 8);
            assert_eq!(value.load(Relaxed), 0x1000);
        }
    }

    /// Keeps the lower half only, as a wrong layout of [`Ops`] might.
    struct Half<'a>(&'a AtomicU64);

    impl Memory for Half<'_> {
        fn read(&self, _: u64, bytes: &mut [u8]) -> bool {
            bytes.copy_from_slice(&self.0.load(Relaxed).to_le_bytes());
            true
        }

        fn write(&self, _: u64, bytes: &[u8]) -> bool {
            let mut low = [0; 4];
            low.copy_from_slice(&bytes[..4]);
            self.0.store(u32::from_le_bytes(low).into(), Relaxed);
            true
        }
    }

    #[test]
    fn a_register_that_does_not_work_is_noticed() {
        let value = AtomicU64::new(0);
        let error = works(&Half(&value), 0, &value);
        assert_eq!(error, Err("a register of the plugin's cannot be written"));
    }
}
