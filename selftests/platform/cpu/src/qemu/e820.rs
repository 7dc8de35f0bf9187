// SPDX-License-Identifier: GPL-2.0
//! What the BIOS has set aside is not in the memory map.
//!
//! QEMU hands the machine's memory map to SeaBIOS and OVMF in the file "etc/e820" of fw_cfg, which
//! is replaced here before the first of them runs: the memory of the RMP becomes reserved.
//! (hw/i386/e820_memory_layout.c and hw/nvram/fw_cfg.c of QEMU.)

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;

use super::ffi::Functions;

/// `struct e820_entry`. QEMU has it packed, in the machine's byte order.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    address: u64,
    length: u64,
    kind: u32,
}

/// Types of entries, from the ACPI specification.
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Reserves a range of RAM in the memory map that firmware will read.
pub fn reserve(f: &Functions, range: Range<u64>) -> Result<(), &'static str> {
    // SAFETY: a CPU's thread outside QEMU's own code does not hold the lock.
    unsafe { (f.bql_lock_impl)(c"snp_cpu".as_ptr(), 0) };
    // SAFETY: the lock is held.
    let result = unsafe { replace(f, range) };
    // SAFETY: locked above.
    unsafe { (f.bql_unlock)() };
    result
}

/// # Safety
///
/// With QEMU's lock.
unsafe fn replace(f: &Functions, range: Range<u64>) -> Result<(), &'static str> {
    let mut table: *const Entry = ptr::null();
    // SAFETY: the lock is held; the table is not changed any more once the machine is made.
    let (fw_cfg, old) = unsafe {
        let count = (f.e820_get_table)((&raw mut table).cast::<*const c_void>());
        if table.is_null() || count <= 0 {
            return Err("QEMU has no memory map for firmware");
        }
        ((f.fw_cfg_find)(), std::slice::from_raw_parts(table, count as usize))
    };
    if fw_cfg.is_null() {
        return Err("the machine has no fw_cfg");
    }
    let new = with_reserved(old, range).ok_or("the RMP does not lie in RAM")?.leak();
    // SAFETY: the device exists; the new content stays for ever. What it returns was QEMU's own
    // table, which is not to be freed.
    unsafe {
        (f.fw_cfg_modify_file)(
            fw_cfg,
            c"etc/e820".as_ptr(),
            new.as_mut_ptr().cast::<c_void>(),
            size_of_val(new),
        );
    }
    Ok(())
}

/// The memory map with a range of one RAM entry reserved. None if it is not part of one.
fn with_reserved(map: &[Entry], range: Range<u64>) -> Option<Vec<Entry>> {
    let entry = |range: Range<u64>, kind| {
        let length = range.end - range.start;
        (length > 0).then_some(Entry { address: range.start, length, kind })
    };
    let end = |old: &Entry| old.address.saturating_add(old.length);
    let holds =
        |old: &Entry| old.kind == RAM && old.address <= range.start && range.end <= end(old);
    let ram = *map.iter().find(|old| holds(old))?;
    let parts = [
        entry(ram.address..range.start, RAM),
        entry(range.clone(), RESERVED),
        entry(range.end..end(&ram), RAM),
    ];
    let others = map.iter().filter(|old| **old != ram).copied();
    Some(others.chain(parts.into_iter().flatten()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ram(address: u64, length: u64) -> Entry {
        Entry { address, length, kind: RAM }
    }

    const fn reserved(address: u64, length: u64) -> Entry {
        Entry { address, length, kind: RESERVED }
    }

    #[test]
    fn ram_is_split_around_what_is_reserved() {
        const BIOS: Entry = reserved(0xfeff_c000, 0x4000);
        let map = [BIOS, ram(0, 0x8000), ram(0x10_0000, 0x8000)];
        let rows = [
            (
                0x2000..0x3000,
                vec![map[2], ram(0, 0x2000), reserved(0x2000, 0x1000), ram(0x3000, 0x5000)],
            ),
            (0..0x1000, vec![map[2], reserved(0, 0x1000), ram(0x1000, 0x7000)]),
            (0x7000..0x8000, vec![map[2], ram(0, 0x7000), reserved(0x7000, 0x1000)]),
            (0x10_0000..0x10_8000, vec![map[1], reserved(0x10_0000, 0x8000)]),
        ];
        for (range, expected) in rows {
            let map = with_reserved(&map, range.clone()).unwrap();
            assert_eq!(map, [vec![BIOS], expected].concat(), "{range:x?}");
        }
        for range in [0x7000..0x9000, 0x9000..0xa000, 0xfeff_c000..0xfeff_d000] {
            assert_eq!(with_reserved(&map, range), None);
        }
    }

    #[test]
    fn entries_have_the_size_of_qemus() {
        assert_eq!(size_of::<Entry>(), 20);
    }
}
