// SPDX-License-Identifier: GPL-2.0
//! What QEMU calls while the machine runs, and at its end.

use std::arch::global_asm;
use std::ffi::{c_int, c_uint, c_void};
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, OnceLock};

use link::MAX_CPUS;

use crate::cpu::{Cpu, Outcome, Reg};
use crate::fill::Translator;
use crate::guest::inside::Inside;
use crate::guest::{Layer, VECTOR_VC, VMRUN_BYTES};
use crate::insn::{Insn, Kind};
use crate::kept::{Kept, Side, Whose};
use crate::model::Model;
use crate::qemu::ffi::{CpuState, Env, Functions, Tb};
use crate::qemu::kept_tlb::Here;
use crate::qemu::tlb::Request;
use crate::qemu::vcpu::{Slot, Vcpu};
use crate::qemu::{e820, env, fatal, interrupt, register, stale};
use crate::translate::{self, What};
use crate::watch::RMP_FAULT;

/// #PF.
const VECTOR_PF: i32 = 14;
/// RSP's number.
const RSP: u8 = 4;
/// EFER: long mode is active.
const EFER_LMA: u64 = 1 << 10;

/// Everything, from loading to the end of the process.
pub struct Machine {
    /// QEMU's.
    pub functions: Functions,
    /// The processors.
    pub model: Model<'static>,
    /// What is known about each in QEMU.
    pub slots: [OnceLock<Slot>; MAX_CPUS],
    /// The memory that the BIOS has set aside, until firmware has been told.
    pub set_aside: Mutex<Option<Range<u64>>>,
    /// SEV-ES and SNP guests, if they are to run.
    pub guest: Option<Layer>,
}

/// The one machine of this process.
pub static MACHINE: OnceLock<Machine> = OnceLock::new();

/// A CPU comes into being.
pub unsafe extern "C" fn on_vcpu_init(index: c_uint, _: *mut c_void) {
    let (Some(machine), index) = (MACHINE.get(), index as usize) else { return };
    // SAFETY: this is the init callback of that CPU.
    let slot = match unsafe { Slot::new(&machine.functions, index) } {
        Ok(slot) => slot,
        Err(error) => fatal(format_args!("CPU {index}: {error}")),
    };
    match machine.slots.get(index).map(|free| free.set(slot)) {
        Some(Ok(())) => machine.model.add_cpu(index),
        Some(Err(_)) => fatal(format_args!("CPU {index} comes a second time")),
        None => fatal(format_args!("CPU {index} is beyond the link page")),
    }
}

/// A block is translated.
pub unsafe extern "C" fn on_translate(tb: *mut Tb, _: *mut c_void) {
    let Some(machine) = MACHINE.get() else { return };
    // SAFETY: in the callback, and the stub is made for generated code.
    unsafe { translate::watch(&machine.functions, tb, machine.guest.is_some(), exec_stub) }
}

extern "C" {
    /// See below.
    fn exec_stub(_: c_uint, _: *mut c_void);
}

// The callback proper needs two things that QEMU does not pass: the address inside the translated
// block that it returns to, from which QEMU finds out where in the block it is, and the CPU's
// state, which generated code on an x86-64 host keeps in RBP (TCG_AREG0). A callback is called
// from generated code directly, so both are still in place on entry. The stub leaves the stack as
// it is: to `on_execute` it looks as if generated code had called it with four arguments.
global_asm!(
    ".pushsection .text",
    ".local {stub}",
    "{stub}:",
    "mov rdx, [rsp]",
    "mov rcx, rbp",
    "jmp {callback}",
    ".popsection",
    stub = sym exec_stub,
    callback = sym on_execute,
);

unsafe extern "C" fn on_execute(
    index: c_uint,
    userdata: *mut c_void,
    return_address: usize,
    env: *mut Env,
) {
    let index = index as usize;
    let (Some(machine), Some(what)) = (MACHINE.get(), What::from_userdata(userdata)) else {
        return;
    };
    let Some(slot) = machine.slots.get(index).and_then(OnceLock::get) else { return };
    // SAFETY: this is an instruction callback of that CPU with these flags; the value is a local.
    let vcpu = unsafe { Vcpu::new(&machine.functions, slot, index, env, return_address) };
    let Some(vcpu) = vcpu else {
        fatal(format_args!("CPU {index}: its state is not at {env:p}"));
    };
    if slot.is_new() && vcpu.in_kernel() {
        // Long before anything relies on it.
        if let Some(name) = vcpu.disagreement() {
            fatal(format_args!("CPU {index}: {name} is elsewhere"));
        }
        slot.is_known();
    }
    match what {
        What::Execute(Insn { kind, detail }, length) if vcpu.in_guest() => {
            if let Some(layer) = &machine.guest {
                let action = layer.instruction(&machine.model, &vcpu, kind, length, detail);
                vcpu.perform(action, length.into());
            }
        }
        _ if vcpu.in_guest() => {}
        What::Reset => {
            const PE: u64 = 1;
            if vcpu.get(Reg::Cr0) & PE == 0 {
                machine.reserve();
                machine.model.reset();
            }
        }
        What::Execute(Insn { kind, .. }, length) => {
            let outcome = match &machine.guest {
                Some(layer) if kind == Kind::Vmrun && u64::from(length) == VMRUN_BYTES => {
                    layer.vmrun(&machine.model, &vcpu)
                }
                _ => machine.model.execute(kind, &vcpu),
            };
            if kind == Kind::Invlpga {
                // SAFETY: between two instructions of this CPU, on its thread.
                slot.kept.forget_guest(&unsafe { Here::new(&machine.functions, &slot.tlbs) });
            }
            if machine.model.looks_at_iommu(kind, &vcpu) {
                vcpu.queue(after_iommu);
            }
            match outcome {
                Outcome::Native => {}
                Outcome::Retire(registers) => vcpu.retire(registers, length.into()),
                Outcome::GeneralProtection => vcpu.raise_gp(),
            }
        }
    }
}

/// In the place of QEMU's `cpu_clear_ignne()`, which is about the first CPU (see [`ignne`]).
pub extern "C" fn on_clear_ignne() {
    let first = MACHINE.get().and_then(|machine| machine.slots[0].get());
    if let Some(slot) = first {
        // SAFETY: a CPU of QEMU's.
        unsafe { env::clear_ignne(slot.state()) };
    }
}

/// An interrupt or exception has been delivered.
pub unsafe extern "C" fn on_delivered(index: c_uint, _: c_int, _: u64, _: u64, _: *mut c_void) {
    let index = index as usize;
    let Some(machine) = MACHINE.get() else { return };
    let Some(slot) = machine.slots.get(index).and_then(OnceLock::get) else { return };
    let Some(layer) = &machine.guest else { return };
    // SAFETY: a CPU of this QEMU, in a discontinuity callback.
    let vector = unsafe { env::take_exception_index(slot.state()) };
    if !layer.expects_delivery(index) {
        return;
    }
    // SAFETY: QEMU delivers events on the CPU's thread, between blocks.
    let vcpu = unsafe { Vcpu::outside_block(&machine.functions, slot, index) };
    vcpu.perform(layer.delivered(&machine.model, &vcpu, vector), 0);
}

/// In the place of QEMU's `do_interrupt`: an exception is to be delivered, or a #VMEXIT to be
/// carried out.
pub unsafe extern "C" fn on_do_interrupt(cpu: *mut CpuState) {
    let Some(machine) = MACHINE.get() else { return };
    let guest = machine.guest_of(cpu);
    // SAFETY: QEMU calls it with one of its CPUs, on the CPU's thread and between blocks.
    let (mut what, hflags, rip, code) = unsafe {
        let env = env::of(cpu);
        let code = env::ERROR_CODE.get(env);
        (env::exception_index(cpu), env::HFLAGS.get(env), env::EIP.get(env), code)
    };
    // SAFETY: QEMU's own argument, and what has just been read.
    let is_gone = || unsafe { stale::is_gone(&machine.functions, cpu, hflags, rip) };
    if what == stale::VECTOR_BP && is_gone() {
        return machine.model.stats.breakpoint_gone();
    }
    let rmp_fault = what == VECTOR_PF && code & RMP_FAULT != 0;
    if what == interrupt::VMEXIT {
        if hflags & env::HF_GUEST == 0 {
            // It overwrites the VMCB of the guest before. That is how the race that `ignne` repairs
            // showed itself.
            machine.model.log.note(format_args!("#VMEXIT at {rip:#x} where no guest runs"));
        }
        if let Some((index, _)) = machine.slot_of(cpu) {
            machine.model.complete_nested_fault(index);
        }
    }
    let mut leaves = None;
    if let Some((machine, layer, vcpu)) = guest {
        if what == interrupt::VMEXIT && layer.exit(&machine.model, &vcpu) {
            what = VECTOR_VC;
            // SAFETY: as above. cpu_vmexit() has seen to it that nothing else is pending.
            unsafe { env::set_exception(cpu, what) };
        }
        if what == interrupt::VMEXIT {
            leaves = guest;
        } else {
            layer.event(&vcpu, what);
        }
    }
    let asides = leaves.and_then(|(machine, layer, vcpu)| Asides::of(machine, layer, vcpu));
    if let Some(Asides { kept, tlbs, whose, .. }) = &asides {
        kept.guest_leaves(tlbs, *whose);
    }
    // SAFETY: QEMU's own argument. If it leaves by longjmp, this frame is skipped; nothing in it
    // has a destructor.
    unsafe { interrupt::perform(cpu) };
    if let Some(Asides { kept, tlbs, layer, .. }) = asides {
        if kept.host_comes(&tlbs) {
            layer.stats.kept(Side::Host);
        }
    }
    if rmp_fault {
        machine.shorten_error_code(cpu);
    }
    if let (interrupt::VMEXIT, Some((index, _))) = (what, machine.slot_of(cpu)) {
        machine.model.leaves(index);
    }
    if let Some((machine, layer, vcpu)) = leaves {
        layer.leave(&machine.model, &vcpu);
    }
}

/// In the place of QEMU's `helper_vmrun`, which may leave by `longjmp`. RIP is up to date, so that
/// nobody looks for the block that this is called from.
pub unsafe extern "C" fn on_vmrun(env: *mut Env, address_size: c_int, length: c_int) {
    let Some(machine) = MACHINE.get() else { return };
    let guest = machine.guest_of(env::state(env));
    let entering = guest.filter(|(_, layer, vcpu)| layer.runs(vcpu.index()));
    // SAFETY: QEMU's own arguments.
    let vmrun = || unsafe { (machine.functions.helper_vmrun)(env, address_size, length) };
    let Some((_, layer, vcpu)) = entering else { return vmrun() };
    let flush = layer.wants_flush(&machine.model, vcpu.index());
    // SAFETY: this CPU, on its thread, in an instruction that ends its block.
    let (kept, tlbs) = unsafe { vcpu.kept() };
    kept.host_leaves(&tlbs);
    vmrun();
    if let Some(whose) = layer.whose(&machine.model, &vcpu) {
        if kept.guest_comes(&tlbs, whose, flush) {
            layer.stats.kept(Side::Guest);
        }
    }
}

extern "C" {
    /// See below.
    pub fn write_cr_stub(env: *mut Env, number: c_int, value: u64);
}

// In the place of QEMU's `helper_write_crN`. QEMU's own must find the address that it returns to in
// the block if it raises an exception, so it is jumped to; but CR3 with no more than 52 bits raises
// none.
global_asm!(
    ".pushsection .text",
    ".globl {stub}",
    ".hidden {stub}",
    "{stub}:",
    "cmp esi, 3",
    "jne 2f",
    "mov rax, rdx",
    "shr rax, 52",
    "jz {cr3}",
    "2:",
    "mov rax, [rip + {original}]",
    "jmp rax",
    ".popsection",
    stub = sym write_cr_stub,
    cr3 = sym on_write_cr3,
    original = sym ORIGINAL_WRITE_CR,
);

/// The address of QEMU's function.
pub static ORIGINAL_WRITE_CR: AtomicUsize = AtomicUsize::new(0);

/// QEMU's function empties the TLB, which is no reason to forget what has been put aside.
unsafe extern "C" fn on_write_cr3(env: *mut Env, number: c_int, value: u64) {
    let Some(machine) = MACHINE.get() else { return };
    // SAFETY: QEMU's own arguments.
    let write = || unsafe { (machine.functions.helper_write_crN)(env, number, value) };
    match machine.slot_of(env::state(env)) {
        // SAFETY: this CPU, on its thread, in an instruction that ends its block.
        Some((_, slot)) => unsafe { Here::new(&machine.functions, &slot.tlbs) }.keep_mark(write),
        None => write(),
    }
}

/// A guest that leaves or comes, and what is put aside for it.
struct Asides<'a> {
    layer: &'a Layer,
    kept: &'a Kept,
    tlbs: Here<'a>,
    whose: Whose,
}

impl<'a> Asides<'a> {
    /// Of a guest that is about to leave.
    fn of(machine: &'a Machine, layer: &'a Layer, vcpu: Vcpu<'a>) -> Option<Asides<'a>> {
        let whose = layer.whose(&machine.model, &vcpu)?;
        // SAFETY: between blocks of this CPU, on its thread.
        let (kept, tlbs) = unsafe { vcpu.kept() };
        Some(Asides { layer, kept, tlbs, whose })
    }
}

impl Machine {
    /// Reserves what is set aside, before the first instruction of SeaBIOS or OVMF.
    fn reserve(&self) {
        let range = self.set_aside.lock().map(|mut range| range.take());
        let result = range.ok().flatten().map(|range| e820::reserve(&self.functions, range));
        if let Some(Err(error)) = result {
            fatal(format_args!("memory map: {error}"));
        }
    }

    /// The CPU, between blocks, if it runs a guest of the layer's.
    fn guest_of(&self, cpu: *mut CpuState) -> Option<(&Machine, &Layer, Vcpu<'_>)> {
        let layer = self.guest.as_ref()?;
        let (index, slot) = self.slot_of(cpu)?;
        // SAFETY: called by QEMU's CPU loop, on the CPU's thread.
        let vcpu = unsafe { Vcpu::outside_block(&self.functions, slot, index) };
        layer.has_guest(index).then_some((self, layer, vcpu))
    }

    /// QEMU keeps error codes as signed numbers and pushes them as such: with bit 31 set, the upper
    /// half is all ones. A processor's is zero.
    fn shorten_error_code(&self, cpu: *mut CpuState) {
        let Some((index, slot)) = self.slot_of(cpu) else { return };
        // SAFETY: as in guest_of().
        let vcpu = unsafe { Vcpu::outside_block(&self.functions, slot, index) };
        if vcpu.paging().efer & EFER_LMA != 0 {
            vcpu.write_data(vcpu.gpr(RSP).wrapping_add(4), &[0; 4]);
        }
    }

    /// What is known about a CPU, and its number.
    fn slot_of(&self, cpu: *mut CpuState) -> Option<(usize, &Slot)> {
        let mut slots = self.slots.iter().enumerate();
        slots.find_map(|(index, slot)| Some((index, slot.get().filter(|slot| slot.is(cpu))?)))
    }
}

/// In the place of QEMU's `tlb_fill`: a CPU needs a translation, to execute, read or write.
pub unsafe extern "C" fn on_tlb_fill(
    cpu: *mut CpuState,
    address: u64,
    size: c_int,
    access: c_int,
    mmu_index: c_int,
    probe: bool,
    return_address: usize,
) -> bool {
    let request = Request { cpu, address, size, access, mmu_index, probe, return_address };
    let Some(machine) = MACHINE.get() else { return false };
    let Some((index, slot)) = machine.slot_of(cpu) else {
        // SAFETY: QEMU's own arguments.
        return unsafe { request.fill() };
    };
    let Machine { functions, model, guest, .. } = machine;
    let guest = guest.as_ref();
    let translator = Translator { after_iommu, f: functions, model, guest, index, slot };
    // SAFETY: as above. If a page fault is raised, this frame is skipped; nothing in it has a
    // destructor.
    unsafe { translator.translate(&request) }
}

/// A CPU has written to the IOMMU's registers, or prepares for SNP, and left the block in which it
/// did.
unsafe extern "C" fn after_iommu(cpu: *mut CpuState, _: u64) {
    let Some(machine) = MACHINE.get() else { return };
    let Some((index, slot)) = machine.slot_of(cpu) else { return };
    // SAFETY: QEMU runs what is queued for a CPU on its thread, between blocks.
    let vcpu = unsafe { Vcpu::outside_block(&machine.functions, slot, index) };
    if let Some(address) = machine.model.lacks_exclusion_base() {
        let value = &machine.model.exclusion_base;
        // SAFETY: queued work, as the comment above says; the model says that it is the first time.
        if let Err(error) = unsafe { register::install(&machine.functions, &vcpu, address, value) }
        {
            fatal(format_args!("IOMMU: {error}"));
        }
    }
    machine.model.iommu_written(&vcpu);
}

/// The end of the process: the summary.
pub unsafe extern "C" fn on_exit(_: *mut c_void) {
    if let Some(machine) = MACHINE.get() {
        let guest = machine.guest.as_ref().map(|layer| layer.stats.to_string());
        machine.model.log.note(format_args!(
            "{}{}end of the summary",
            machine.model.stats,
            guest.unwrap_or_default()
        ));
    }
}
