// SPDX-License-Identifier: GPL-2.0

//! The direct map: where the kernel sees RAM. Physical addresses are without encryption bit.
//!
//! C header: `arch/x86/include/asm/page.h`

use kernel::bindings;

/// Where the map begins: the virtual address of physical address 0.
fn base() -> u64 {
    // SAFETY: The variable is constant after early boot.
    unsafe { bindings::page_offset_base as u64 }
}

/// The physical address of what is at `va`, which is in the direct map.
pub(crate) fn phys(va: *const u8) -> u64 {
    (va as u64).wrapping_sub(base())
}

/// Where `len` bytes at a physical address are; [`None`] if the map lacks the first or the last of
/// them.
pub(crate) fn virt(phys: u64, len: usize) -> Option<*mut u8> {
    let last = (len as u64).checked_sub(1)?;
    for edge in [phys, phys.checked_add(last)?] {
        let va = base().checked_add(edge)?;
        // SAFETY: Takes any address.
        if !unsafe { bindings::__virt_addr_valid(va as usize) } {
            return None;
        }
    }
    Some(base().wrapping_add(phys) as *mut u8)
}
