// SPDX-License-Identifier: GPL-2.0
//! A CPU of QEMU's, during a callback on its own thread.

use std::ffi::{c_int, CStr};
use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{ptr, slice};

use link::MAX_CPUS;

use super::ffi::{Array, ByteArray, CpuState, CpuWork, Env, Functions, RegDescriptor, Register};
use super::kept_tlb::{CpuTlbs, Here};
use super::layout::{place, At};
use super::{env, tlb};
use crate::acpi::Memory;
use crate::cpu::{Cpu, Reg};
use crate::kept::Kept;
use crate::writable::Alias;

/// SVM exit code of an intercepted VMRUN. VMRUN refuses a VMCB that does not intercept it, and an
/// exit clears all intercepts, so it is intercepted exactly while a guest runs.
const INTERCEPT_VMRUN: u32 = 0x80;
const VECTOR_GP: c_int = 13;
const VECTOR_PF: c_int = 14;
const CR2: usize = 2;

/// Registers that the plugin API shows, and where they should be as well.
const SHOWN: [(&str, At, usize); 13] = [
    ("rax", At::Regs, 0),
    ("rcx", At::Regs, 8),
    ("rdx", At::Regs, 16),
    ("rbx", At::Regs, 24),
    ("rsp", At::Regs, 32),
    ("r15", At::Regs, 120),
    ("rip", At::Eip, 0),
    ("cr0", At::Cr, 0),
    ("cr3", At::Cr, 24),
    ("cr4", At::Cr, 32),
    ("efer", At::Efer, 0),
    ("fctrl", At::Fpuc, 0),
    ("xmm0", At::Xmm, 0),
];

/// What is known about one CPU from its first moment on.
pub struct Slot {
    pub(super) state: *mut CpuState,
    registers: [*const Register; Reg::ALL.len()],
    rip: *const Register,
    eflags: *const Register,
    shown: [*const Register; SHOWN.len()],
    known: AtomicBool,
    buffer: *mut ByteArray,
    /// Its TLBs, and what has been put aside of them.
    pub tlbs: CpuTlbs,
    pub kept: Kept,
}

// SAFETY: handles are numbers in disguise, CpuState lives as long as the CPU, and the buffer is
// used in callbacks of this CPU alone, which QEMU runs on the CPU's thread one at a time; so are
// its TLBs.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// Why a CPU cannot be used.
#[derive(Debug)]
pub enum Strange {
    /// QEMU does not know the number.
    NoCpu,
    /// The list of registers has another format.
    Descriptors(usize),
    /// A register has gone.
    NoRegister(&'static str),
}

impl std::fmt::Display for Strange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Strange::NoCpu => f.write_str("qemu_get_cpu() does not know it"),
            Strange::Descriptors(size) => write!(f, "register descriptors have {size} bytes"),
            Strange::NoRegister(name) => write!(f, "it has no register {name}"),
        }
    }
}

impl Slot {
    /// QEMU's CPU.
    pub fn state(&self) -> *mut CpuState {
        self.state
    }

    /// Whether `state` is this CPU's.
    pub fn is(&self, state: *mut CpuState) -> bool {
        self.state == state
    }

    /// Looks up what is needed.
    ///
    /// # Safety
    ///
    /// In the init callback of CPU `index`.
    pub unsafe fn new(f: &Functions, index: usize) -> Result<Slot, Strange> {
        // SAFETY: a look-up; the number fits (there are at most 64).
        let state = unsafe { (f.qemu_get_cpu)(index as c_int) };
        if state.is_null() {
            return Err(Strange::NoCpu);
        }
        // SAFETY: allowed in an init callback; the caller frees the array.
        let array = unsafe { (f.api.qemu_plugin_get_registers)() };
        // SAFETY: the array that was just made, not freed yet.
        let found = unsafe { Slot::from_registers(f, state, array) };
        // SAFETY: as above; handles and names are not the array's.
        unsafe { (f.api.g_array_free)(array, 1) };
        found
    }

    unsafe fn from_registers(
        f: &Functions,
        state: *mut CpuState,
        array: *mut Array,
    ) -> Result<Slot, Strange> {
        // SAFETY: a valid array (caller).
        let size = unsafe { (f.api.g_array_get_element_size)(array) } as usize;
        if size != size_of::<RegDescriptor>() {
            return Err(Strange::Descriptors(size));
        }
        // SAFETY: the elements have this size, GLib aligns them for anything.
        let all = unsafe {
            slice::from_raw_parts((*array).data.cast::<RegDescriptor>(), (*array).len as usize)
        };
        let find = |name: &'static str| {
            all.iter()
                // SAFETY: names are terminated strings that QEMU keeps for ever.
                .find(|reg| unsafe { CStr::from_ptr(reg.name) }.to_bytes() == name.as_bytes())
                .map(|reg| reg.handle)
                .ok_or(Strange::NoRegister(name))
        };
        let mut registers = [ptr::null(); Reg::ALL.len()];
        for (reg, name) in Reg::ALL {
            registers[reg as usize] = find(name)?;
        }
        let mut shown = [ptr::null(); SHOWN.len()];
        for (handle, (name, ..)) in shown.iter_mut().zip(SHOWN) {
            *handle = find(name)?;
        }
        // SAFETY: an allocation, never freed: CPUs stay.
        let buffer = unsafe { (f.api.g_byte_array_new)() };
        let (rip, eflags, known) = (find("rip")?, find("eflags")?, AtomicBool::new(false));
        // SAFETY: QEMU makes a CPU's TLB before it calls plugins for it.
        let (tlbs, kept) = (unsafe { CpuTlbs::new(f, state) }, Kept::new());
        Ok(Slot { state, registers, rip, eflags, shown, known, buffer, tlbs, kept })
    }

    /// Nobody has looked yet whether its fields are where they should be.
    pub fn is_new(&self) -> bool {
        !self.known.load(Relaxed)
    }

    /// They are.
    pub fn is_known(&self) {
        self.known.store(true, Relaxed);
    }
}

/// A CPU before an instruction. Plain data, so that [`Vcpu::retire`] and [`Vcpu::raise_gp`], which
/// leave by `longjmp`, skip no destructor.
#[derive(Clone, Copy)]
pub struct Vcpu<'a> {
    pub(super) f: &'a Functions,
    pub(super) slot: &'a Slot,
    index: usize,
    pub(super) env: *mut Env,
    pub(super) return_address: usize,
}

impl<'a> Vcpu<'a> {
    /// The CPU that called back; none if `env` is not where the CPU's state should be.
    ///
    /// # Safety
    ///
    /// In an instruction callback with flags [`super::ffi::CB_RW_REGS_PC`] of the CPU of `slot`,
    /// number `index`, with the address that the callback returns to. The value must not outlive
    /// the callback.
    pub unsafe fn new(
        f: &'a Functions,
        slot: &'a Slot,
        index: usize,
        env: *mut Env,
        return_address: usize,
    ) -> Option<Vcpu<'a>> {
        (env == env::of(slot.state)).then_some(Vcpu { f, slot, index, env, return_address })
    }

    /// The CPU, outside of a translated block.
    ///
    /// # Safety
    ///
    /// On the thread of the CPU of `slot`, number `index`, where QEMU calls back and everything
    /// that a block keeps in host registers has been written back. The value must not outlive the
    /// call.
    pub unsafe fn outside_block(f: &'a Functions, slot: &'a Slot, index: usize) -> Vcpu<'a> {
        Vcpu { f, slot, index, env: env::of(slot.state), return_address: 0 }
    }

    /// A kernel in long mode runs: registers have values that tell one from the other.
    pub fn in_kernel(&self) -> bool {
        const LMA: u64 = 1 << 10;
        self.get(Reg::Efer) & LMA != 0 && self.cpl() == 0
    }

    /// The first register that the plugin API shows and that is not where it should be in QEMU.
    pub fn disagreement(&self) -> Option<&'static str> {
        let mut shown = self.slot.shown.iter().zip(SHOWN);
        let elsewhere = |&(handle, (name, at, offset)): &(&*const Register, (&str, At, usize))| {
            // SAFETY: within this CPU's state, on its thread; any bytes there are numbers.
            let there =
                unsafe { self.env.byte_add(place(at) + offset).cast::<u64>().read_unaligned() };
            let all = if name == "fctrl" { 0xffff } else { u64::MAX };
            self.read(*handle) & all != there & all
        };
        shown.find(elsewhere).map(|(_, (name, ..))| name)
    }

    /// What has been put aside of the CPU's TLBs, and how to get at it.
    ///
    /// # Safety
    ///
    /// As for [`Here::new`].
    pub unsafe fn kept(&self) -> (&'a Kept, Here<'a>) {
        // SAFETY: the caller's promise.
        (&self.slot.kept, unsafe { Here::new(self.f, &self.slot.tlbs) })
    }

    /// Whether the CPU runs a guest of its own (VMRUN).
    pub fn in_guest(&self) -> bool {
        // SAFETY: env is this CPU's state (checked in new); the function only looks.
        unsafe { (self.f.cpu_svm_has_intercept)(self.env, INTERCEPT_VMRUN) }
    }

    /// Writes registers and goes on behind the instruction, which has `length` bytes.
    pub fn retire(self, registers: [Option<(Reg, u64)>; 4], length: u64) -> ! {
        self.restore();
        // Not an address: RIP counts from CS.base, which is not 0 in a BIOS.
        let rip = self.read(self.slot.rip);
        // SAFETY: this CPU's state; it is up to date since the call before.
        assert_eq!(rip, unsafe { env::rip(self.slot.state) }, "QEMU's RIP is elsewhere");
        let next = rip + length;
        for (reg, value) in registers.into_iter().flatten() {
            self.write(self.slot.registers[reg as usize], value);
        }
        // SAFETY: the callback has the flags for it. The frames that are skipped are this one, the
        // callback's, and the assembly stub: none holds a lock or a value with a destructor.
        unsafe { (self.f.api.qemu_plugin_set_pc)(next) }
    }

    /// Brings RIP and the lazy flags up to date. The block must be left after it.
    pub(super) fn restore(&self) {
        // SAFETY: the return address lies in the block being executed, which callers leave.
        unsafe { (self.f.cpu_restore_state)(self.slot.state, self.return_address) };
    }

    /// Empties the TLBs of all CPUs when they have left the blocks that they execute, this one's as
    /// well. Nobody waits: a CPU that is asked leaves at the end of the block, or the chain of
    /// blocks, that it is in.
    pub fn queue_flush_of_all(&self) {
        self.queue_flush(|_| true);
    }

    /// Has this CPU do something when it has left the block that it executes.
    pub fn queue(&self, work: CpuWork) {
        // SAFETY: this CPU, which calls it on its own thread.
        unsafe { (self.f.async_run_on_cpu)(self.slot.state, work, 0) };
    }

    fn queue_flush(&self, which: impl Fn(*mut CpuState) -> bool) {
        for index in 0..MAX_CPUS {
            // SAFETY: a look-up, and a CPU of QEMU's that is told to do something by itself.
            unsafe {
                let cpu = (self.f.qemu_get_cpu)(index as c_int);
                if !cpu.is_null() && which(cpu) {
                    let flush = self.f.tlb_flush as usize as u64;
                    (self.f.async_run_on_cpu)(cpu, call, flush);
                }
            }
        }
    }

    /// RFLAGS, up to date after [`Vcpu::restore`].
    pub(super) fn eflags(&self) -> u64 {
        self.read(self.slot.eflags)
    }

    /// #GP(0) at the instruction.
    pub fn raise_gp(self) -> ! {
        // SAFETY: env is this CPU's state, the return address lies in the block being executed,
        // from which QEMU restores RIP; skipped frames as in retire().
        unsafe { (self.f.raise_exception_err_ra)(self.env, VECTOR_GP, 0, self.return_address) }
    }

    /// #PF in the course of a translation, at the instruction in the block at `return_address`.
    ///
    /// # Safety
    ///
    /// In the hook of `tlb_fill`, on this CPU, with the hook's return address; skipped frames as in
    /// retire().
    pub unsafe fn raise_pf(self, address: u64, code: u32, return_address: usize) -> ! {
        // SAFETY: this CPU's state, on its thread, where QEMU's own function raises its faults.
        unsafe {
            let mut cr = env::CR.get(self.env);
            cr[CR2] = address;
            env::CR.set(self.env, cr);
            (self.f.raise_exception_err_ra)(self.env, VECTOR_PF, code as c_int, return_address)
        }
    }

    fn read(&self, register: *const Register) -> u64 {
        self.resize(0);
        // SAFETY: a handle of this CPU, and the buffer is free (see Slot).
        unsafe { (self.f.api.qemu_plugin_read_register)(register, self.slot.buffer) };
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(self.bytes()) {
            *to = *from;
        }
        u64::from_le_bytes(bytes)
    }

    fn write(&self, register: *const Register, value: u64) {
        self.fill(&value.to_le_bytes());
        // SAFETY: a handle of a writable register of 8 bytes (RAX to RDX), which the buffer holds.
        unsafe { (self.f.api.qemu_plugin_write_register)(register, self.slot.buffer) };
    }

    /// Writes at a virtual address of the host; false if it is not mapped.
    pub fn write_data(&self, address: u64, bytes: &[u8]) -> bool {
        self.fill(bytes);
        // SAFETY: as in read_virtual().
        unsafe { (self.f.api.qemu_plugin_write_memory_vaddr)(address, self.slot.buffer) }
    }

    fn fill(&self, bytes: &[u8]) {
        self.resize(bytes.len());
        // SAFETY: the buffer has just been made this long, and nobody else uses it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), (*self.slot.buffer).data, bytes.len()) };
    }

    fn resize(&self, length: usize) {
        // SAFETY: a valid array; lengths here are at most an ACPI table's.
        unsafe { (self.f.api.g_byte_array_set_size)(self.slot.buffer, length as u32) };
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a valid array; nothing resizes it while the slice is in use (private callers).
        let array = unsafe { &*self.slot.buffer };
        if array.data.is_null() {
            return &[];
        }
        // SAFETY: GLib keeps `len` initialised bytes at `data`.
        unsafe { slice::from_raw_parts(array.data, array.len as usize) }
    }

    fn take(&self, into: &mut [u8], done: bool) -> bool {
        let found = self.bytes();
        if !done || found.len() != into.len() {
            return false;
        }
        into.copy_from_slice(found);
        true
    }
}

/// Work for a CPU: calls the function at this address for it.
unsafe extern "C" fn call(cpu: *mut CpuState, function: u64) {
    // SAFETY: queue_flush() has given the address of tlb_flush, which this CPU calls on its own
    // thread.
    unsafe {
        let function: unsafe extern "C" fn(*mut CpuState) = std::mem::transmute(function as usize);
        function(cpu);
    }
}

impl Cpu for Vcpu<'_> {
    fn index(&self) -> usize {
        self.index
    }

    fn get(&self, reg: Reg) -> u64 {
        self.read(self.slot.registers[reg as usize])
    }

    fn read_virtual(&self, address: u64, bytes: &mut [u8; 16]) -> bool {
        self.resize(0);
        // SAFETY: QEMU walks the page tables and copies, or says that it cannot.
        let done = unsafe {
            (self.f.api.qemu_plugin_read_memory_vaddr)(address, self.slot.buffer, bytes.len())
        };
        self.take(bytes, done)
    }

    fn write_virtual(&self, address: u64, bytes: &[u8; 16]) -> bool {
        self.write_data(address, bytes)
    }

    fn pc(&self) -> u64 {
        // SAFETY: this CPU, on its thread, and the callback's return address.
        unsafe { tlb::pc(self.f, self.slot.state, self.return_address) }.unwrap_or(0)
    }

    fn flush_translations(&self) {
        // SAFETY: this CPU, on its own thread.
        unsafe { (self.f.tlb_flush)(self.slot.state) };
    }

    fn flush_all_translations(&self) {
        self.flush_translations();
        self.queue_flush(|cpu| cpu != self.slot.state);
    }

    fn flush_translations_of(&self, cpu: usize) {
        // SAFETY: a look-up.
        let other = unsafe { (self.f.qemu_get_cpu)(cpu as c_int) };
        self.queue_flush(|cpu| cpu == other);
    }

    fn protect(&self, alias: Alias, page: u64) {
        // SAFETY: this CPU, on its own thread, where an instruction of its kernel's is executed.
        unsafe { tlb::protect(self.f, self.slot.state, alias, page) };
    }
}

impl Memory for Vcpu<'_> {
    fn read(&self, pa: u64, bytes: &mut [u8]) -> bool {
        self.resize(0);
        // SAFETY: QEMU copies from the address space of this CPU, or says that it cannot.
        let result = unsafe {
            (self.f.api.qemu_plugin_read_memory_hwaddr)(pa, self.slot.buffer, bytes.len())
        };
        self.take(bytes, result == 0)
    }

    fn write(&self, pa: u64, bytes: &[u8]) -> bool {
        self.fill(bytes);
        // SAFETY: as in read().
        unsafe { (self.f.api.qemu_plugin_write_memory_hwaddr)(pa, self.slot.buffer) == 0 }
    }
}
