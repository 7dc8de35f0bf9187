// SPDX-License-Identifier: GPL-2.0
//! Fields of `CPUX86State` that neither the plugin API nor an exported function reaches. The
//! offsets are those of Debian's QEMU 11.1.3, read from the assembly of the functions named beside
//! them; README.md ("Another QEMU") says how to find them again.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use super::ffi::{CpuState, Env};

/// Where `CPUX86State` lies behind the start of `CPUState` in QEMU 11.1.3 (the assembly of
/// `helper_vmrun` in Debian's build subtracts it to get from one to the other).
pub(super) const ENV_OFFSET: usize = 0x4070;

/// Where the state of a CPU is.
pub fn of(state: *mut CpuState) -> *mut Env {
    state.wrapping_byte_add(ENV_OFFSET).cast()
}

/// A field of type `T`.
pub struct Field<T> {
    offset: usize,
    kind: std::marker::PhantomData<T>,
}

const fn field<T>(offset: usize) -> Field<T> {
    Field { offset, kind: std::marker::PhantomData }
}

impl<T: Copy> Field<T> {
    /// Where it lies.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Reads it.
    ///
    /// # Safety
    ///
    /// `env` must be the state of a CPU of this QEMU, on whose thread this is, in a callback.
    pub unsafe fn get(&self, env: *mut Env) -> T {
        // SAFETY: within the structure, of this type and aligned for it (the offsets' origin).
        unsafe { env.byte_add(self.offset).cast::<T>().read() }
    }

    /// Writes it.
    ///
    /// # Safety
    ///
    /// As for [`Field::get`]; the value must be one that QEMU could have put there.
    pub unsafe fn set(&self, env: *mut Env, value: T) {
        // SAFETY: as in get().
        unsafe { env.byte_add(self.offset).cast::<T>().write(value) }
    }
}

/// RAX to R15 (`do_vmexit`, RAX and RSP).
pub const REGS: Field<[u64; 16]> = field(0);
/// `do_vmexit`.
pub const EIP: Field<u64> = field(0x100);
/// `do_vmexit`.
pub const HFLAGS: Field<u32> = field(0x130);
/// `do_vmexit`.
pub const HFLAGS2: Field<u32> = field(0x134);
/// The base in `segs[R_SS]`, the third of ES, CS, SS (`do_vmexit`; `SegmentCache` has 24 bytes).
pub const SS_BASE: Field<u64> = field(0x138 + 2 * 24 + 8);
/// CR0 to CR4 (`do_vmexit`).
pub const CR: Field<[u64; 5]> = field(0x228);
/// `do_vmexit`.
pub const EFER: Field<u64> = field(0x2d8);
/// The top of the x87 stack (`x86_cpu_xsave_all_areas`, as all of the FPU).
pub const FPSTT: Field<u32> = field(0x2e0);
/// The status word without the top.
pub const FPUS: Field<u16> = field(0x2e4);
pub const FPUC: Field<u16> = field(0x2e6);
/// 1: empty.
pub const FPTAGS: Field<[u8; 8]> = field(0x2e8);
/// Physical registers, of which 10 bytes each are used.
pub const FPREGS: Field<[[u8; 16]; 8]> = field(0x2f0);
pub const FPOP: Field<u16> = field(0x370);
pub const FPIP: Field<u64> = field(0x378);
pub const FPDP: Field<u64> = field(0x380);
pub const MXCSR: Field<u32> = field(0x3b0);
/// The first 16 of the vector registers, 64 bytes each.
pub const XMM: Field<[[u8; 64]; 16]> = field(0x3c0);
/// `helper_vmrun`.
pub const VM_HSAVE: Field<u64> = field(0x2ca8);
/// `helper_xgetbv`.
pub const XCR0: Field<u64> = field(0x2d70);
/// `helper_rdmsr`, at 277h.
pub const PAT: Field<u64> = field(0x2f08);
/// `helper_rdpkru`.
pub const PKRU: Field<u32> = field(0x2f20);
/// `x86_cpu_tlb_fill`, where it ends because of `probe`.
pub const ERROR_CODE: Field<u32> = field(0x3480);
/// The exception is that of an INT instruction (`helper_vmrun`, at an event to inject).
pub const EXCEPTION_IS_INT: Field<i32> = field(0x3484);
/// DR0 to DR3 (`helper_get_dr`).
pub const DR: Field<[u64; 4]> = field(0x3490);
/// The VMCB's interrupt controls (`helper_write_crN`, CR8).
pub const INT_CTL: Field<u32> = field(0x3530);

/// HFLAGS: 64-bit code segment.
pub const HF_CS64: u32 = 1 << 15;
/// HFLAGS: a guest runs (`helper_vmrun` sets it, `do_vmexit` clears it).
pub const HF_GUEST: u32 = 1 << 21;
/// HFLAGS2: interrupts are virtual (`helper_write_crN`, CR8).
pub const HF2_VINTR: u32 = 1 << 3;
/// HFLAGS2: nested paging is in use (`do_vmexit` clears it).
pub const HF2_NPT: u32 = 1 << 6;
/// HFLAGS2: the FPU's exceptions are ignored (`cpu_clear_ignne`).
pub const HF2_IGNNE: u32 = 1 << 7;

/// `CPUState.exception_index` (`x86_cpu_do_interrupt`).
const EXCEPTION_INDEX: usize = 0x2c0;

/// Clears [`HF2_IGNNE`] of a CPU and nothing else.
///
/// # Safety
///
/// `state` must be a CPU of this QEMU. Any thread may do it.
pub unsafe fn clear_ignne(state: *mut CpuState) {
    // SAFETY: within the structure, aligned, and there as long as QEMU runs. The CPU's own thread
    // reads and writes it meanwhile by single instructions of the processor; what is lost of those
    // two accesses can only be this one.
    let hflags2 = unsafe { AtomicU32::from_ptr(of(state).byte_add(HFLAGS2.offset).cast()) };
    if hflags2.load(Relaxed) & HF2_IGNNE != 0 {
        hflags2.fetch_and(!HF2_IGNNE, Relaxed);
    }
}

/// RIP, or its page only while a block is being executed.
///
/// # Safety
///
/// `state` must be a CPU of QEMU's.
pub unsafe fn rip(state: *mut CpuState) -> u64 {
    // SAFETY: within CPUX86State; Vcpu::retire() compares it with what the plugin API says.
    unsafe { EIP.get(of(state)) }
}

/// What the CPU's loop is to do next: a vector to deliver, one of QEMU's own reasons to leave
/// translated code, or -1, nothing.
///
/// # Safety
///
/// `state` must be a CPU of this QEMU, on whose thread this is, between blocks.
pub unsafe fn exception_index(state: *mut CpuState) -> i32 {
    // SAFETY: as for Field::get.
    unsafe { state.byte_add(EXCEPTION_INDEX).cast::<i32>().read() }
}

/// Makes QEMU deliver an exception without error code instead of what it was about to carry out.
///
/// # Safety
///
/// `state` must be a CPU of this QEMU, on whose thread this is, in the hook of `do_interrupt`.
pub unsafe fn set_exception(state: *mut CpuState, vector: i32) {
    // SAFETY: as for Field::get.
    unsafe {
        state.byte_add(EXCEPTION_INDEX).cast::<i32>().write(vector);
        EXCEPTION_IS_INT.set(of(state), 0);
        ERROR_CODE.set(of(state), 0);
    }
}

/// The vector that has just been delivered, -1 for an interrupt of the host. There is none any more
/// afterwards: VMRUN in QEMU delivers an interrupt that it injects by itself, but leaves the vector
/// here, and a CPU that is asked to leave its loop before something else is put here would deliver
/// it once more (`cpu_handle_interrupt` and `cpu_handle_exception` in accel/tcg/cpu-exec.c). A
/// kernel does not survive that between SYSCALL or interrupt and SWAPGS.
///
/// # Safety
///
/// `state` must be a CPU of this QEMU, on whose thread this is, in a discontinuity callback.
pub unsafe fn take_exception_index(state: *mut CpuState) -> i32 {
    // SAFETY: as for Field::get; -1 is what QEMU itself writes after each delivery.
    unsafe { state.byte_add(EXCEPTION_INDEX).cast::<i32>().replace(-1) }
}
