// SPDX-License-Identifier: GPL-2.0
//! Fields of `CPUX86State` that neither the plugin API nor an exported function reaches. Where they
//! are [`super::layout`] knows.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use super::ffi::{CpuState, Env};
use super::layout::{place, At};

/// Where the state of a CPU is.
pub fn of(state: *mut CpuState) -> *mut Env {
    state.wrapping_byte_add(place(At::Env)).cast()
}

/// The CPU whose state this is.
pub fn state(env: *mut Env) -> *mut CpuState {
    env.wrapping_byte_sub(place(At::Env)).cast()
}

/// A field of type `T`.
pub struct Field<T> {
    at: At,
    kind: std::marker::PhantomData<T>,
}

const fn field<T>(at: At) -> Field<T> {
    Field { at, kind: std::marker::PhantomData }
}

impl<T: Copy> Field<T> {
    /// Where it lies.
    fn offset(&self) -> usize {
        place(self.at)
    }

    /// Reads it.
    ///
    /// # Safety
    ///
    /// `env` must be the state of a CPU of this QEMU, on whose thread this is, in a callback.
    pub unsafe fn get(&self, env: *mut Env) -> T {
        // SAFETY: within the structure, of this type and aligned for it (the offsets' origin).
        unsafe { env.byte_add(self.offset()).cast::<T>().read() }
    }

    /// Writes it.
    ///
    /// # Safety
    ///
    /// As for [`Field::get`]; the value must be one that QEMU could have put there.
    pub unsafe fn set(&self, env: *mut Env, value: T) {
        // SAFETY: as in get().
        unsafe { env.byte_add(self.offset()).cast::<T>().write(value) }
    }
}

/// RAX to R15.
pub const REGS: Field<[u64; 16]> = field(At::Regs);
pub const EIP: Field<u64> = field(At::Eip);
pub const HFLAGS: Field<u32> = field(At::Hflags);
pub const HFLAGS2: Field<u32> = field(At::Hflags2);
/// The base in `segs[R_SS]`.
pub const SS_BASE: Field<u64> = field(At::SsBase);
/// CR0 to CR4.
pub const CR: Field<[u64; 5]> = field(At::Cr);
pub const EFER: Field<u64> = field(At::Efer);
/// The top of the x87 stack.
pub const FPSTT: Field<u32> = field(At::Fpstt);
/// The status word without the top.
pub const FPUS: Field<u16> = field(At::Fpus);
pub const FPUC: Field<u16> = field(At::Fpuc);
/// 1: empty.
pub const FPTAGS: Field<[u8; 8]> = field(At::Fptags);
/// Physical registers, of which 10 bytes each are used.
pub const FPREGS: Field<[[u8; 16]; 8]> = field(At::Fpregs);
pub const FPOP: Field<u16> = field(At::Fpop);
pub const FPIP: Field<u64> = field(At::Fpip);
pub const FPDP: Field<u64> = field(At::Fpdp);
pub const MXCSR: Field<u32> = field(At::Mxcsr);
/// The first 16 of the vector registers, 64 bytes each.
pub const XMM: Field<[[u8; 64]; 16]> = field(At::Xmm);
pub const VM_HSAVE: Field<u64> = field(At::VmHsave);
pub const XCR0: Field<u64> = field(At::Xcr0);
pub const PAT: Field<u64> = field(At::Pat);
pub const PKRU: Field<u32> = field(At::Pkru);
pub const ERROR_CODE: Field<u32> = field(At::ErrorCode);
/// The exception is that of an INT instruction.
pub const EXCEPTION_IS_INT: Field<i32> = field(At::ExceptionIsInt);
/// DR0 to DR3.
pub const DR: Field<[u64; 4]> = field(At::Dr);
/// The VMCB's interrupt controls.
pub const INT_CTL: Field<u32> = field(At::IntCtl);

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

/// Clears [`HF2_IGNNE`] of a CPU and nothing else.
///
/// # Safety
///
/// `state` must be a CPU of this QEMU. Any thread may do it.
pub unsafe fn clear_ignne(state: *mut CpuState) {
    // SAFETY: within the structure, aligned, and there as long as QEMU runs. The CPU's own thread
    // reads and writes it meanwhile by single instructions of the processor; what is lost of those
    // two accesses can only be this one.
    let hflags2 = unsafe { AtomicU32::from_ptr(of(state).byte_add(place(At::Hflags2)).cast()) };
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
    unsafe { state.byte_add(place(At::ExceptionIndex)).cast::<i32>().read() }
}

/// Makes QEMU deliver an exception without error code instead of what it was about to carry out.
///
/// # Safety
///
/// `state` must be a CPU of this QEMU, on whose thread this is, in the hook of `do_interrupt`.
pub unsafe fn set_exception(state: *mut CpuState, vector: i32) {
    // SAFETY: as for Field::get.
    unsafe {
        state.byte_add(place(At::ExceptionIndex)).cast::<i32>().write(vector);
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
    unsafe { state.byte_add(place(At::ExceptionIndex)).cast::<i32>().replace(-1) }
}
