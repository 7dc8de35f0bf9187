// SPDX-License-Identifier: GPL-2.0
//! Being called when an address is translated.
//!
//! QEMU translates by calling `tlb_fill` of `x86_tcg_ops`. The plugin's function there calls QEMU's and then
//! looks at the entry that has been made.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::OnceLock;

use super::ffi::{CpuState, Env, Functions};
use super::ops;
use super::vcpu::ENV_OFFSET;

/// `tlb_fill` of `struct TCGCPUOps`: CPU, address, size, kind of access, MMU index, probe (do not raise an
/// exception), return address. False only if `probe` and there is no translation.
pub type TlbFill =
    unsafe extern "C" fn(*mut CpuState, u64, c_int, c_int, c_int, bool, usize) -> bool;

/// `MMU_DATA_LOAD`, `MMU_DATA_STORE` and `MMU_INST_FETCH`, kinds of access.
const LOAD: c_int = 0;
pub const STORE: c_int = 1;
pub const FETCH: c_int = 2;
/// `MMU_PHYS_IDX`: the walk of page tables, which probes every entry as if it were to be written.
pub const MMU_PHYS_IDX: c_int = 6;
/// `MMU_NESTED_IDX`: the address is a guest's physical one.
pub const MMU_NESTED_IDX: c_int = 7;
/// `PAGE_WRITE` in `prot`.
const WRITE: u8 = 2;
/// `PAGE_EXEC` in `prot`.
const EXECUTE: u8 = 4;
const PAGE_MASK: u64 = !0xfff;

static ORIGINAL: OnceLock<TlbFill> = OnceLock::new();

/// The start of `CPUTLBEntryFull`: how a page was translated.
#[repr(C)]
struct Full {
    section: [u64; 2],
    phys_addr: u64,
    attrs: u64,
    prot: u8,
    lg_page_size: u8,
}

/// Puts `hook` in the place of QEMU's function, which [`fill`] calls.
///
/// # Safety
///
/// As for [`ops::replace`].
pub unsafe fn install(f: &Functions, hook: TlbFill) -> Result<(), String> {
    // SAFETY: what x86_cpu_tlb_fill is in QEMU 11.1.3.
    let original = unsafe { transmute::<*mut c_void, TlbFill>(f.x86_cpu_tlb_fill) };
    ORIGINAL.set(original).map_err(|_| "the plugin is loaded twice".to_owned())?;
    // SAFETY: the caller's promise; the hook has the type of the function.
    unsafe { ops::replace(f, "x86_cpu_tlb_fill", f.x86_cpu_tlb_fill, hook as usize) }
}

/// A page that QEMU has put into a TLB.
pub struct Filled<'a> {
    f: &'a Functions,
    cpu: *mut CpuState,
    full: *mut Full,
    address: u64,
    mmu_index: c_int,
    /// The access that needs it is a write.
    pub write: bool,
}

/// Calls QEMU's own function. It may leave by `longjmp` (a page fault), so no value with a destructor may be
/// alive in the caller.
///
/// # Safety
///
/// With the arguments that QEMU has called the hook with.
pub unsafe fn fill(
    cpu: *mut CpuState,
    address: u64,
    size: c_int,
    access: c_int,
    mmu_index: c_int,
    probe: bool,
    return_address: usize,
) -> bool {
    match ORIGINAL.get() {
        // SAFETY: the caller's promise.
        Some(original) => unsafe {
            original(cpu, address, size, access, mmu_index, probe, return_address)
        },
        None => false,
    }
}

impl<'a> Filled<'a> {
    /// The page that [`fill`] has just made an entry for; none if it does not allow for writing, or if
    /// it is about a page table.
    ///
    /// # Safety
    ///
    /// In the hook, after [`fill`] has returned true, with the same arguments.
    pub unsafe fn writable(
        f: &'a Functions,
        cpu: *mut CpuState,
        address: u64,
        access: c_int,
        mmu_index: c_int,
    ) -> Option<Filled<'a>> {
        if mmu_index == MMU_PHYS_IDX {
            return None;
        }
        // SAFETY: the caller's promise.
        let filled = unsafe { Filled::any(f, cpu, address, access, mmu_index) };
        // SAFETY: see any(); nothing has changed the TLB since.
        filled.filter(|filled| unsafe { (*filled.full).prot } & WRITE != 0)
    }

    /// The page that [`fill`] has just made an entry for; none if it cannot be found again.
    ///
    /// # Safety
    ///
    /// As for [`Filled::writable`].
    pub unsafe fn any(
        f: &'a Functions,
        cpu: *mut CpuState,
        address: u64,
        access: c_int,
        mmu_index: c_int,
    ) -> Option<Filled<'a>> {
        // Looked up as a load: it must not count as a write. (A page that can be written can be read.)
        let kind = if access == FETCH { FETCH } else { LOAD };
        let (mut host, mut full) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the entry is there, so QEMU does not call the hook again; size 0 touches no memory.
        unsafe {
            (f.probe_access_full)(
                env(cpu),
                address,
                0,
                kind,
                mmu_index,
                true,
                &mut host,
                &mut full,
                0,
            );
        }
        let full = full.cast::<Full>();
        // SAFETY: null (no access), or the entry's description, which stays until the TLB changes, which
        // only this thread does.
        let prot = unsafe { full.as_ref() }.map_or(0, |full| full.prot);
        (prot != 0).then_some(Filled { f, cpu, full, address, mmu_index, write: access == STORE })
    }

    /// Physical address of the page.
    pub fn page(&self) -> u64 {
        // SAFETY: see writable(); nothing has changed the TLB since.
        unsafe { (*self.full).phys_addr & PAGE_MASK }
    }

    /// The page tables map 2 MiB or more at once.
    pub fn large(&self) -> bool {
        // SAFETY: as in page().
        unsafe { (*self.full).lg_page_size >= 21 }
    }

    /// Makes the entry read-only: the next write asks for a translation again.
    pub fn protect(self) {
        self.limit(false, true);
    }

    /// Takes rights away that are not among these; what is not allowed asks for a translation again.
    pub fn limit(self, write: bool, execute: bool) {
        let without = |allowed, right| if allowed { 0 } else { right };
        // SAFETY: as in page(). QEMU makes the entry anew from its description.
        unsafe {
            (*self.full).prot &= !(without(write, WRITE) | without(execute, EXECUTE));
            let address = self.address & PAGE_MASK;
            (self.f.tlb_set_page_full)(self.cpu, self.mmu_index, address, self.full.cast());
        }
    }
}

/// Where the CPU is that needs a translation: the address of the instruction in the block at
/// `return_address`, or `fallback` if QEMU fetches code.
///
/// # Safety
///
/// In the hook, with the arguments that it was called with.
pub unsafe fn pc(f: &Functions, cpu: *mut CpuState, return_address: usize, fallback: u64) -> u64 {
    let mut data = [0; 4];
    // SAFETY: looks up what was noted about the block when it was translated: two words on x86.
    if !unsafe { (f.cpu_unwind_state_data)(cpu, return_address, data.as_mut_ptr()) } {
        return fallback;
    }
    // Blocks are relative to their page, so the offset alone was noted.
    // SAFETY: RIP lies there, which Vcpu::retire() checks.
    let rip = unsafe { super::vcpu::rip(cpu) };
    (rip & PAGE_MASK) | (data[0] & !PAGE_MASK)
}

fn env(cpu: *mut CpuState) -> *mut Env {
    cpu.wrapping_byte_add(ENV_OFFSET).cast()
}
