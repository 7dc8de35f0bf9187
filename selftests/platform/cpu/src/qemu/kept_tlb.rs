// SPDX-License-Identifier: GPL-2.0
//! TLBs that are put aside ([`crate::kept`]), as QEMU has them.
//!
//! A CPU's TLB is a part of `CPUState`, with pointers to its tables; what belongs to it is the
//! cache of blocks by address (`tb_jmp_cache`). Each CPU gets two made-up ones, which hold nothing
//! but a TLB that QEMU's own functions have made, and what is there is exchanged with them as a
//! whole. Only the thread of a CPU changes which tables its TLB has; other threads go through them,
//! to have writes to a page looked at, and hold the TLB's lock meanwhile, as the exchange does. A
//! block that has been thrown away says so itself; when QEMU throws away all of them it tells
//! plugins, and caches that are older than that are emptied before they are used.

use std::alloc::{alloc_zeroed, handle_alloc_error, Layout};
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use std::{cell::Cell, hint, mem, ptr};

use super::ffi::{CpuState, Env, Functions};
use super::layout::{place, At};
use super::resets::{self, Moment};
use crate::kept::{Side, Tlbs};

/// Bytes of a made-up CPU: as much as comes before the TLB's end and more.
const CPU_BYTES: usize = 0x10000;
/// Bytes of a cache of blocks, at least.
pub const JUMP_CACHE_BYTES: usize = 0x20000;
/// The TLB's lock and, in the next word, which of its parts, by MMU index, are not empty.
const LOCK_BYTES: usize = 4;
/// The mark: an index that x86 does not use is said to be not empty. To empty all TLBs of a CPU
/// takes that away.
pub const MARK: u32 = 1 << 15;

/// How often QEMU has thrown away all blocks.
static BLOCKS_GONE: AtomicU64 = AtomicU64::new(0);

/// All blocks are thrown away; no CPU executes any.
pub unsafe extern "C" fn on_blocks_gone(_: *mut c_void) {
    BLOCKS_GONE.fetch_add(1, Relaxed);
}

/// `helper_vmrun`: state, address size, length of the instruction.
pub type Vmrun = unsafe extern "C" fn(*mut Env, c_int, c_int);
/// `helper_write_crN`: state, number, value.
pub type WriteCr = unsafe extern "C" fn(*mut Env, c_int, u64);

/// Has generated code call other functions for VMRUN and for writes to control registers.
///
/// # Safety
///
/// No block may have been translated yet, and both must do what the functions of QEMU do that they
/// stand for.
pub unsafe fn install(f: &Functions, vmrun: Vmrun, write_cr: WriteCr) -> Result<(), String> {
    let replace = |what, info: *mut c_void, original: *const c_void, hook: *const c_void| {
        // `struct TCGHelperInfo` begins with the function, which the translator reads each time.
        let function = info.cast::<*const c_void>();
        // SAFETY: variables of QEMU's, aligned, that nobody reads yet (caller).
        unsafe {
            if *function != original {
                return Err(format!("{what} does not begin with the function"));
            }
            *function = hook;
        }
        Ok(())
    };
    let (vmrun, write_cr) = (vmrun as *const c_void, write_cr as *const c_void);
    replace("helper_info_vmrun", f.helper_info_vmrun, f.helper_vmrun as *const c_void, vmrun)?;
    let original = f.helper_write_crN as *const c_void;
    replace("helper_info_write_crN", f.helper_info_write_crN, original, write_cr)
}

/// A TLB that has been put aside.
struct Aside {
    /// A made-up CPU that has it.
    cpu: *mut CpuState,
    /// Since when it lies there: [`BLOCKS_GONE`], and what other threads do to TLBs.
    since: Cell<(u64, Option<Moment>)>,
}

impl Aside {
    /// # Safety
    ///
    /// The functions must be QEMU's.
    unsafe fn new(f: &Functions) -> Aside {
        let cpu = zeroed(CPU_BYTES).cast::<CpuState>();
        // SAFETY: a CPU's worth of zeroes, of which the function fills in the TLB (probe.rs); the
        // pointer has room for a pointer.
        unsafe {
            (f.tlb_init)(cpu);
            *jump_cache(cpu).as_ptr() = zeroed(JUMP_CACHE_BYTES);
        }
        Aside { cpu, since: Cell::new((0, None)) }
    }
}

/// Memory that is never freed: CPUs stay.
fn zeroed(bytes: usize) -> *mut c_void {
    let Ok(layout) = Layout::from_size_align(bytes, 64) else { return ptr::null_mut() };
    // SAFETY: not of size 0.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory.cast()
}

/// # Safety
///
/// A CPU of QEMU's, or a made-up one.
unsafe fn jump_cache<'a>(cpu: *mut CpuState) -> &'a AtomicPtr<c_void> {
    // SAFETY: within the structure, aligned; other threads read it by single instructions.
    unsafe { AtomicPtr::from_ptr(cpu.byte_add(place(At::JumpCache)).cast()) }
}

/// The TLBs of a CPU.
pub struct CpuTlbs {
    cpu: *mut CpuState,
    host: Aside,
    guest: Aside,
}

impl CpuTlbs {
    /// # Safety
    ///
    /// `cpu` must be a CPU of QEMU's that has its TLB already.
    pub unsafe fn new(f: &Functions, cpu: *mut CpuState) -> CpuTlbs {
        // SAFETY: the caller's promise.
        unsafe { CpuTlbs { cpu, host: Aside::new(f), guest: Aside::new(f) } }
    }

    fn aside(&self, side: Side) -> &Aside {
        match side {
            Side::Host => &self.host,
            Side::Guest => &self.guest,
        }
    }

    /// Which parts of the CPU's are not empty.
    fn dirty(&self) -> &AtomicU32 {
        // SAFETY: within the structure, aligned. Only this CPU's thread uses it.
        unsafe { AtomicU32::from_ptr(self.cpu.byte_add(place(At::Tlb) + LOCK_BYTES).cast()) }
    }
}

/// The TLBs with QEMU's functions, on the CPU's own thread.
pub struct Here<'a> {
    f: &'a Functions,
    tlbs: &'a CpuTlbs,
}

impl<'a> Here<'a> {
    /// # Safety
    ///
    /// On the thread of the CPU, which uses no entry of its TLB at this moment.
    pub unsafe fn new(f: &'a Functions, tlbs: &'a CpuTlbs) -> Here<'a> {
        Here { f, tlbs }
    }

    /// Does what empties the CPU's TLB for the sake of what is there, and not of what has been put
    /// aside: the mark stays.
    pub fn keep_mark(&self, work: impl FnOnce()) {
        let marked = self.is_marked();
        work();
        if marked {
            self.mark();
        }
    }
}

impl Tlbs for Here<'_> {
    fn exchange(&self, side: Side) {
        let (cpu, aside) = (self.tlbs.cpu, self.tlbs.aside(side));
        let (start, end) = (place(At::Tlb), place(At::TlbEnd));
        // Before the exchange: what begins in between counts for the one that is put aside.
        let now = (BLOCKS_GONE.load(Relaxed), resets::now());
        // SAFETY: both have a TLB there (probe.rs). QEMU's spin lock is a word that is not 0 while
        // somebody holds it.
        unsafe {
            let lock = AtomicU32::from_ptr(cpu.byte_add(start).cast());
            while lock.swap(1, Acquire) != 0 {
                hint::spin_loop();
            }
            let from = |cpu: *mut CpuState| cpu.byte_add(start + LOCK_BYTES).cast::<u32>();
            let words = (end - start - LOCK_BYTES) / mem::size_of::<u32>();
            ptr::swap_nonoverlapping(from(cpu), from(aside.cpu), words);
            lock.store(0, Release);
            let blocks = jump_cache(aside.cpu).load(Relaxed);
            jump_cache(aside.cpu).store(jump_cache(cpu).swap(blocks, Relaxed), Relaxed);
            let since = aside.since.replace(now);
            if since.0 != now.0 {
                (self.f.tcg_flush_jmp_cache)(cpu);
            }
            // The one that has been taken back is among those that others go through from here on.
            // Whoever began before that is told of by a moment that is not the same.
            if since.1.is_none() || since.1 != resets::now() {
                // All of the addresses at which QEMU has memory.
                resets::reset(self.f, cpu, 0, usize::MAX);
            }
        }
    }

    fn empty(&self) {
        // VMRUN and #VMEXIT empty it, and seldom put anything there.
        if self.tlbs.dirty().load(Relaxed) != 0 {
            // SAFETY: this CPU, on its own thread.
            unsafe { (self.f.tlb_flush)(self.tlbs.cpu) }
        }
    }

    fn empty_aside(&self, side: Side) {
        // SAFETY: a made-up CPU with a TLB and a cache of blocks, that nobody else knows. (Entries
        // of the cache are not looked at.)
        unsafe { (self.f.tlb_flush)(self.tlbs.aside(side).cpu) }
    }

    fn mark(&self) {
        self.tlbs.dirty().fetch_or(MARK, Relaxed);
    }

    fn is_marked(&self) -> bool {
        self.tlbs.dirty().load(Relaxed) & MARK != 0
    }
}
