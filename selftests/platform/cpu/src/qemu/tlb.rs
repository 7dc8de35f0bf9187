// SPDX-License-Identifier: GPL-2.0
//! Being called when an address is translated.
//!
//! QEMU translates by calling `tlb_fill` of `x86_tcg_ops`. The plugin's function there
//! ([`crate::fill`]) calls QEMU's and then looks at the entry that has been made.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::OnceLock;

use super::env;
use super::ffi::{CpuState, Functions};
use super::ops;
use crate::writable::Alias;

/// `tlb_fill` of `struct TCGCPUOps`: CPU, address, size, kind of access, MMU index, probe (do not
/// raise an exception), return address. False only if `probe` and there is no translation.
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
/// `PAGE_WRITE_INV` in `prot`: good for one write.
const WRITE_ONCE: u8 = 0x20;
/// `MMU_KSMAP64_IDX` and `MMU_KNOSMAP64_IDX`.
const MMU_KERNEL: [c_int; 2] = [0, 4];
/// `MMU_USER64_IDX` and `MMU_USER32_IDX`.
const MMU_USER: [c_int; 2] = [2, 3];
pub const PAGE_MASK: u64 = !0xfff;

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

/// Puts `hook` in the place of QEMU's function, which [`Request::fill`] calls.
///
/// # Safety
///
/// As for [`ops::replace`].
pub unsafe fn install(f: &Functions, hook: TlbFill) -> Result<(), String> {
    // SAFETY: what x86_cpu_tlb_fill is in QEMU 11.1.
    let original = unsafe { transmute::<*mut c_void, TlbFill>(f.x86_cpu_tlb_fill) };
    ORIGINAL.set(original).map_err(|_| "the plugin is loaded twice".to_owned())?;
    // SAFETY: the caller's promise; the hook has the type of the function.
    unsafe { ops::replace(f, "x86_cpu_tlb_fill", f.x86_cpu_tlb_fill, hook as usize) }
}

/// A translation that QEMU asks for.
#[derive(Clone, Copy)]
pub struct Request {
    pub cpu: *mut CpuState,
    pub address: u64,
    pub size: c_int,
    pub access: c_int,
    pub mmu_index: c_int,
    /// Nothing is to be raised.
    pub probe: bool,
    pub return_address: usize,
}

impl Request {
    /// Calls QEMU's own function. It may leave by `longjmp` (a page fault), so no value with a
    /// destructor may be alive in the caller.
    ///
    /// # Safety
    ///
    /// With what QEMU has called the hook with.
    pub unsafe fn fill(&self) -> bool {
        let Request { cpu, address, size, access, mmu_index, probe, return_address } = *self;
        match ORIGINAL.get() {
            // SAFETY: the caller's promise.
            Some(original) => unsafe {
                original(cpu, address, size, access, mmu_index, probe, return_address)
            },
            None => false,
        }
    }

    /// QEMU's walk of page tables looks for the host's address of a table, and whatever it does
    /// there comes later.
    pub fn is_table(&self) -> bool {
        self.mmu_index == MMU_PHYS_IDX && self.probe && self.access == STORE
    }

    /// What finds the translation again: if it is of an address of a 64-bit kernel's, which leads
    /// to the same page whatever process runs.
    pub fn kernel_alias(&self, cpu: usize) -> Option<Alias> {
        let kernels = self.address >> 63 != 0 && MMU_KERNEL.contains(&self.mmu_index);
        let va = self.address & PAGE_MASK;
        kernels.then(|| Alias { cpu, va, mmus: 1 << self.mmu_index })
    }

    /// Bits of a page fault's error code, `P` among them.
    pub fn fault_code(&self) -> u32 {
        const PRESENT: u32 = 1 << 0;
        const WRITTEN: u32 = 1 << 1;
        const USER: u32 = 1 << 2;
        const FETCHED: u32 = 1 << 4;
        let access = match self.access {
            STORE => WRITTEN,
            FETCH => FETCHED,
            _ => 0,
        };
        let user = self.mmu_index == MMU_NESTED_IDX || MMU_USER.contains(&self.mmu_index);
        PRESENT | access | if user { USER } else { 0 }
    }

    /// Where the CPU is: the instruction, or what is translated if QEMU fetches code.
    ///
    /// # Safety
    ///
    /// In the hook.
    pub unsafe fn pc(&self, f: &Functions) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { pc(f, self.cpu, self.return_address) }.unwrap_or(self.address)
    }

    /// The entry that [`Request::fill`] has just made; none if it cannot be found again.
    ///
    /// # Safety
    ///
    /// In the hook, after [`Request::fill`] has returned true.
    pub unsafe fn filled<'a>(&self, f: &'a Functions) -> Option<Filled<'a>> {
        // Looked up as a load: it must not count as a write. (A page that can be written can be
        // read.)
        let kind = if self.access == FETCH { FETCH } else { LOAD };
        let (mut host, mut full) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the entry is there, so QEMU does not call the hook again; size 0 touches no
        // memory.
        unsafe {
            (f.probe_access_full)(
                env::of(self.cpu),
                self.address,
                0,
                kind,
                self.mmu_index,
                true,
                &mut host,
                &mut full,
                0,
            );
        }
        let full = full.cast::<Full>();
        // SAFETY: null (no access), or the entry's description, which stays until the TLB changes,
        // which only this thread does.
        let prot = unsafe { full.as_ref() }.map_or(0, |full| full.prot);
        (prot != 0).then_some(Filled { f, request: *self, full })
    }
}

/// A page that QEMU has put into a TLB.
pub struct Filled<'a> {
    f: &'a Functions,
    request: Request,
    full: *mut Full,
}

impl Filled<'_> {
    /// Physical address of the page.
    pub fn page(&self) -> u64 {
        // SAFETY: see Request::filled(); nothing has changed the TLB since.
        unsafe { (*self.full).phys_addr & PAGE_MASK }
    }

    /// Whether the description is laid out as [`Full`] says, for a page that is what it is called:
    /// as before there are page tables.
    pub fn is_plain(&self) -> bool {
        // SAFETY: as in page().
        let prot = unsafe { (*self.full).prot };
        self.page() == self.request.address & PAGE_MASK && prot & EXECUTE != 0 && !self.large()
    }

    /// The page tables map 2 MiB or more at once.
    pub fn large(&self) -> bool {
        // SAFETY: as in page().
        unsafe { (*self.full).lg_page_size >= 21 }
    }

    /// It allows for writing.
    pub fn writable(&self) -> bool {
        // SAFETY: as in page().
        unsafe { (*self.full).prot & WRITE != 0 }
    }

    /// Makes the entry read-only: the next write asks for a translation again.
    pub fn protect(self) {
        self.change(!WRITE, 0);
    }

    /// Takes rights away that are not among these; what is not allowed asks for a translation
    /// again.
    pub fn limit(self, write: bool, execute: bool) {
        let without = |allowed, right| if allowed { 0 } else { right };
        self.change(!(without(write, WRITE) | without(execute, EXECUTE)), 0);
    }

    /// Takes all rights away.
    pub fn revoke(self) {
        self.change(0, 0);
    }

    /// Each write asks for a translation again, and this one is not disturbed.
    pub fn ask_again(self) {
        self.change(!0, WRITE_ONCE);
    }

    fn change(self, keep: u8, add: u8) {
        let Request { cpu, mmu_index, address, .. } = self.request;
        // SAFETY: as in page(). QEMU makes the entry anew from its description.
        unsafe {
            (*self.full).prot = (*self.full).prot & keep | add;
            (self.f.tlb_set_page_full)(cpu, mmu_index, address & PAGE_MASK, self.full.cast());
        }
    }
}

/// Makes the translations of `alias` read-only, if they lead to `page`.
///
/// # Safety
///
/// On the thread of `cpu`, which is the alias's, in an instruction callback of a kernel's.
pub unsafe fn protect(f: &Functions, cpu: *mut CpuState, alias: Alias, page: u64) {
    for mmu_index in MMU_KERNEL.into_iter().filter(|index| alias.mmus >> index & 1 != 0) {
        let address = alias.va;
        let request = Request {
            cpu,
            address,
            size: 0,
            access: LOAD,
            mmu_index,
            probe: true,
            return_address: 0,
        };
        // SAFETY: a translation that is not there is made, as for any probe, and looked at by the
        // hook; otherwise as after Request::fill().
        let filled = unsafe { request.filled(f) };
        if let Some(filled) = filled.filter(|filled| filled.page() == page && filled.writable()) {
            filled.protect();
        }
    }
}

/// The address of the instruction in the block at `return_address`; none outside of blocks.
///
/// # Safety
///
/// On the thread of `cpu`, in the hook or in an instruction callback.
pub unsafe fn pc(f: &Functions, cpu: *mut CpuState, return_address: usize) -> Option<u64> {
    let mut data = [0; 4];
    // SAFETY: looks up what was noted about the block when it was translated: two words on x86.
    if !unsafe { (f.cpu_unwind_state_data)(cpu, return_address, data.as_mut_ptr()) } {
        return None;
    }
    // Blocks are relative to their page, so the offset alone was noted.
    // SAFETY: RIP lies there, which Vcpu::retire() checks.
    let rip = unsafe { env::rip(cpu) };
    Some((rip & PAGE_MASK) | (data[0] & !PAGE_MASK))
}
