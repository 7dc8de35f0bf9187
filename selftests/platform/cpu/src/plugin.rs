// SPDX-License-Identifier: GPL-2.0
//! What QEMU calls: loading, translation, execution, exit.

use std::arch::global_asm;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::OnceLock;
use std::{fmt, ptr, slice};

use link::{Mapping, MAX_CPUS};
use rmp::{Geometry, MemoryTable, Rmp, BOOKKEEPING_BYTES, CFG_SEGMENTED, CFG_SHIFT};

use crate::args::{Args, Segments};
use crate::fill::Translator;
use crate::guest::inside::Inside;
use crate::guest::{Layer, VECTOR_VC, VMRUN_BYTES};
use crate::insn::{self, Insn, Kind};
use crate::log::Log;
use crate::model::{Cpu, Model, Outcome, Reg};
use crate::qemu::ffi::{self, CpuState, Env, Functions, Info, PluginId, Tb};
use crate::qemu::tlb::{self, Request};
use crate::qemu::vcpu::{Slot, Vcpu};
use crate::qemu::{env, ignne, interrupt, version};
use crate::ram::Ram;
use crate::stats::Stats;
use crate::watch::{Activity, RMP_FAULT};

/// Where a processor starts after power-on and reset.
const RESET_VECTOR: u64 = 0xffff_fff0;
/// The longest instruction.
const LONGEST: usize = 15;
/// #PF.
const VECTOR_PF: i32 = 14;
/// RSP's number.
const RSP: u8 = 4;
/// EFER: long mode is active.
const EFER_LMA: u64 = 1 << 10;

/// Everything, from loading to the end of the process.
struct Machine {
    functions: Functions,
    model: Model<'static>,
    slots: [OnceLock<Slot>; MAX_CPUS],
    /// SEV-ES and SNP guests, if they are to run.
    guest: Option<Layer>,
}

static MACHINE: OnceLock<Machine> = OnceLock::new();

/// QEMU reads this before it calls anything.
#[no_mangle]
#[allow(non_upper_case_globals, reason = "the name is QEMU's")]
pub static qemu_plugin_version: c_int = ffi::API_VERSION;

/// Loads the plugin: checks, opens files, registers callbacks. Anything but 0 makes QEMU exit.
///
/// # Safety
///
/// For QEMU only, with arguments as `qemu-plugin.h` describes them.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU's promise: info and argc strings at argv, for the time of the call.
    let loaded = unsafe { load(&*info, argc, argv) };
    match loaded {
        Ok(machine) => {
            let f = &machine.functions;
            // SAFETY: the callbacks have the types of API version 7 and stay for ever. Userdata is
            // not used.
            unsafe {
                (f.qemu_plugin_register_vcpu_init_cb)(id, on_vcpu_init, ptr::null_mut());
                (f.qemu_plugin_register_vcpu_tb_trans_cb)(id, on_translate, ptr::null_mut());
                (f.qemu_plugin_register_atexit_cb)(id, on_exit, ptr::null_mut());
                if machine.guest.is_some() {
                    let interrupt = ffi::DISCON_INTERRUPT;
                    let on = on_delivered;
                    (f.qemu_plugin_register_vcpu_discon_cb)(id, interrupt, on, ptr::null_mut());
                }
            }
            0
        }
        Err(sentence) => {
            eprintln!("snp_cpu: {sentence}");
            -1
        }
    }
}

/// # Safety
///
/// As for [`qemu_plugin_install`].
unsafe fn load(
    info: &Info,
    argc: c_int,
    argv: *const *const c_char,
) -> Result<&'static Machine, String> {
    // SAFETY: the caller's promise.
    let qemu = unsafe { version::check(info) }.map_err(|e| e.to_string())?;
    let args: Vec<String> = (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: the caller's promise.
        .map(|n| unsafe { CStr::from_ptr(*argv.add(n)) }.to_string_lossy().into_owned())
        .collect();
    let args = Args::parse(args.iter().map(String::as_str)).map_err(|e| e.to_string())?;
    let model = build(&args)?;
    model.log.note(format_args!("QEMU: {}, at most {} CPUs", qemu.package, info.max_vcpus));
    let machine = Machine {
        functions: qemu.functions,
        model,
        slots: [const { OnceLock::new() }; MAX_CPUS],
        guest: args.guest.then(Layer::new),
    };
    MACHINE.set(machine).map_err(|_| "the plugin is loaded twice".to_owned())?;
    let machine = MACHINE.get().ok_or_else(|| "the plugin is not loaded".to_owned())?;
    // SAFETY: the release has been checked, and QEMU loads plugins before it makes CPUs.
    unsafe {
        ignne::install(&machine.functions, on_clear_ignne)?;
        tlb::install(&machine.functions, on_tlb_fill)?;
        interrupt::install(&machine.functions, on_do_interrupt)?;
    }
    Ok(machine)
}

fn build(args: &Args) -> Result<Model<'static>, String> {
    let says = |path: &Path, error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(&args.ram);
    let ram =
        file.and_then(|file| Ram::map(&file, args.low)).map_err(|error| says(&args.ram, &error))?;
    let link = Mapping::open(&args.link).map_err(|error| error.to_string())?;
    // Used until the process ends.
    let link: &'static Mapping = Box::leak(Box::new(link));
    let words = ram.slice(0, args.low).ok_or("the RAM file has less than low= says")?;
    let rmp = place_rmp(args, words)?;
    if let Some(range) = rmp.ranges().find(|range| range.end > args.low) {
        return Err(format!(
            "the RMP at {:#x} to {:#x} does not lie in low RAM",
            range.start, range.end
        ));
    }
    let log =
        args.log.as_deref().map(|path| File::create(path).map_err(|error| says(path, &error)));
    link.low.store(args.low, Release);
    Ok(Model {
        link,
        ram,
        rmp: Rmp::new(rmp, MemoryTable { words, start: 0, locks: &link.rmp_locks }),
        rmpread: args.rmpread,
        snp_en: args.snp_en,
        segments: args.segments,
        pins: args.pins.clone(),
        pinned: AtomicBool::new(false),
        checks: args.checks,
        pages_taken: AtomicU64::new(0),
        activity: [const { Activity::new() }; MAX_CPUS],
        acpi_patched: AtomicBool::new(false),
        iommu: AtomicU64::new(0),
        stats: Stats::default(),
        log: Log::new(log.transpose()?),
    })
}

/// What the BIOS makes of the memory that it has set aside for the RMP. Segments start 1 MiB behind
/// book-keeping and segment table, which is written here.
fn place_rmp(args: &Args, ram: &[AtomicU64]) -> Result<Geometry, String> {
    let Some(Segments { shift, .. }) = args.segments else {
        return Ok(args.rmp.clone());
    };
    let base = args.rmp.base();
    let table = Geometry::segment_table(shift, args.low, base + (1 << 20));
    let first = ((base + BOOKKEEPING_BYTES) / 8) as usize;
    for (n, word) in table.into_iter().enumerate() {
        ram.get(first + n).ok_or("the RMP does not lie in low RAM")?.store(word, Relaxed);
    }
    let cfg = CFG_SEGMENTED | u64::from(shift) << CFG_SHIFT;
    // RMP_END is not used: Linux wants to see 0.
    let word = |pa: u64| ram.get((pa / 8) as usize).map(|word| word.load(Relaxed));
    let rmp = Geometry::from_registers(base, 0, cfg, word).map_err(|error| error.to_string())?;
    match rmp.ranges().map(|range| range.end).max() {
        Some(end) if end > args.rmp.end() + 1 => Err(format!(
            "a segmented RMP from {base:#x} on needs memory up to {end:#x}, rmp_end= says {:#x}",
            args.rmp.end()
        )),
        _ => Ok(rmp),
    }
}

/// An assumption about QEMU does not hold: going on would corrupt it.
#[inline(never)]
fn fatal(sentence: fmt::Arguments<'_>) -> ! {
    eprintln!("snp_cpu: {sentence}; QEMU is stopped, because its inside is not as expected");
    // SAFETY: ends the process from a CPU thread, without the exit handlers that would wait for
    // this thread.
    unsafe { libc::_exit(1) }
}

unsafe extern "C" fn on_vcpu_init(index: c_uint, _: *mut c_void) {
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

unsafe extern "C" fn on_translate(tb: *mut Tb, _: *mut c_void) {
    let Some(machine) = MACHINE.get() else { return };
    let f = &machine.functions;
    // SAFETY: tb is valid during this callback, and so are its instructions, of which there are
    // this many. insn_data writes at most as many bytes as it is told.
    unsafe {
        let count = (f.qemu_plugin_tb_n_insns)(tb);
        if !worth_decoding(f, tb, count) {
            return;
        }
        for n in 0..count {
            let insn = (f.qemu_plugin_tb_get_insn)(tb, n);
            let address = (f.qemu_plugin_insn_vaddr)(insn);
            let mut bytes = [0u8; LONGEST];
            let length = (f.qemu_plugin_insn_data)(insn, bytes.as_mut_ptr().cast(), LONGEST);
            let decoded = insn::decode(&bytes[..length.min(LONGEST)])
                .filter(|insn| machine.guest.is_some() || !insn.kind.only_in_guests());
            let what = match decoded {
                Some(insn) => What::Execute(insn, length as u8),
                None if n == 0 && address == RESET_VECTOR => What::Reset,
                None => continue,
            };
            (f.qemu_plugin_register_vcpu_insn_exec_cb)(
                insn,
                exec_stub,
                ffi::CB_RW_REGS_PC,
                what.to_userdata(),
            );
        }
    }
}

/// Whether a block has anything in it that looks like an instruction for the model. To ask QEMU for
/// the bytes of each instruction takes longer than to look at all of them where they are, and
/// nearly all blocks have nothing.
///
/// # Safety
///
/// `tb` is being translated and has `count` instructions.
unsafe fn worth_decoding(f: &Functions, tb: *mut Tb, count: usize) -> bool {
    const PAGE: u64 = 0x1000;
    if count == 0 {
        return false;
    }
    // SAFETY: two of the block's instructions.
    let (first, start, size) = unsafe {
        let first = (f.qemu_plugin_tb_get_insn)(tb, 0);
        let last = (f.qemu_plugin_tb_get_insn)(tb, count - 1);
        let start = (f.qemu_plugin_insn_vaddr)(first);
        let end =
            (f.qemu_plugin_insn_vaddr)(last).wrapping_add((f.qemu_plugin_insn_size)(last) as u64);
        (first, start, end.wrapping_sub(start))
    };
    // The page behind may lie anywhere.
    if start == RESET_VECTOR || start % PAGE + size > PAGE {
        return true;
    }
    // SAFETY: as above.
    let code = unsafe { (f.qemu_plugin_insn_haddr)(first) };
    if code.is_null() {
        return true;
    }
    // SAFETY: QEMU translates from there, and the page is RAM or ROM of the machine, which stays
    // mapped. Should a CPU write to it meanwhile, QEMU throws the block away: it watches pages with
    // code in them.
    let code = unsafe { slice::from_raw_parts(code.cast::<u8>(), size as usize) };
    insn::may_contain(code)
}

/// Why an instruction's callback is there. It fits into the pointer that QEMU keeps for the
/// callback, so that translating again (and again) allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Execute(Insn, u8),
    Reset,
}

impl What {
    /// Byte 0: the length, byte 1: the kind, byte 2: its detail. No instruction has length 0.
    fn to_userdata(self) -> *mut c_void {
        ptr::without_provenance_mut(match self {
            What::Execute(Insn { kind, detail }, length) => {
                usize::from(length) | ((kind as usize) << 8) | (usize::from(detail) << 16)
            }
            What::Reset => 0,
        })
    }

    fn from_userdata(userdata: *mut c_void) -> Option<What> {
        let number = userdata.addr();
        match (number & 0xff, number >> 8 & 0xff) {
            (0, _) => Some(What::Reset),
            (length, kind) => {
                let insn = Insn { kind: *Kind::ALL.get(kind)?, detail: (number >> 16) as u8 };
                Some(What::Execute(insn, u8::try_from(length).ok()?))
            }
        }
    }
}

extern "C" {
    /// See below.
    fn exec_stub();
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
                machine.model.reset();
            }
        }
        What::Execute(Insn { kind, .. }, length) => {
            let outcome = match &machine.guest {
                Some(layer) if kind == Kind::Vmrun && u64::from(length) == VMRUN_BYTES => {
                    if !vcpu.fields_are_known() {
                        fatal(format_args!("CPU {index}: its registers are elsewhere"));
                    }
                    layer.vmrun(&machine.model, &vcpu)
                }
                _ => machine.model.execute(kind, &vcpu),
            };
            match outcome {
                Outcome::Native => {}
                Outcome::Retire(registers) => vcpu.retire(registers, length.into()),
                Outcome::GeneralProtection => vcpu.raise_gp(),
            }
        }
    }
}

/// In the place of QEMU's `cpu_clear_ignne()`, which is about the first CPU (see [`ignne`]).
extern "C" fn on_clear_ignne() {
    let first = MACHINE.get().and_then(|machine| machine.slots[0].get());
    if let Some(slot) = first {
        // SAFETY: a CPU of QEMU's.
        unsafe { env::clear_ignne(slot.state()) };
    }
}

/// An interrupt or exception has been delivered.
unsafe extern "C" fn on_delivered(index: c_uint, _: c_int, _: u64, _: u64, _: *mut c_void) {
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
unsafe extern "C" fn on_do_interrupt(cpu: *mut CpuState) {
    let Some(machine) = MACHINE.get() else { return };
    let guest = machine.guest_of(cpu);
    // SAFETY: QEMU calls it with one of its CPUs, on the CPU's thread and between blocks.
    let (mut what, hflags, rip, code) = unsafe {
        let env = Vcpu::env(cpu);
        let code = env::ERROR_CODE.get(env);
        (env::exception_index(cpu), env::HFLAGS.get(env), env::EIP.get(env), code)
    };
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
    // SAFETY: QEMU's own argument. If it leaves by longjmp, this frame is skipped; nothing in it
    // has a destructor.
    unsafe { interrupt::perform(cpu) };
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

impl Machine {
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
unsafe extern "C" fn on_tlb_fill(
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
    let translator = Translator { f: functions, model, guest: guest.as_ref(), index, slot };
    // SAFETY: as above. If a page fault is raised, this frame is skipped; nothing in it has a
    // destructor.
    unsafe { translator.translate(&request) }
}

unsafe extern "C" fn on_exit(_: *mut c_void) {
    if let Some(machine) = MACHINE.get() {
        let guest = machine.guest.as_ref().map(|layer| layer.stats.to_string());
        machine.model.log.note(format_args!(
            "{}{}end of the summary",
            machine.model.stats,
            guest.unwrap_or_default()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userdata_comes_back() {
        for kind in Kind::ALL {
            for (length, detail) in [(2, 0), (4, 0x8f), (15, 0x40)] {
                let what = What::Execute(Insn { kind, detail }, length);
                assert_eq!(What::from_userdata(what.to_userdata()), Some(what));
            }
        }
        assert_eq!(What::from_userdata(What::Reset.to_userdata()), Some(What::Reset));
        assert_eq!(What::from_userdata(ptr::without_provenance_mut(0xff02)), None);
    }
}
