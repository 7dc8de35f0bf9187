// SPDX-License-Identifier: GPL-2.0
//! What QEMU calls: loading, translation, execution, exit.

use std::arch::global_asm;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::OnceLock;
use std::{fmt, ptr};

use link::{Mapping, MAX_CPUS};
use rmp::{MemoryTable, Rmp, ENTRY_BYTES};

use crate::args::Args;
use crate::insn::{self, Kind};
use crate::log::Log;
use crate::model::{Cpu, Model, Outcome, Reg};
use crate::qemu::ffi::{self, CpuState, Env, Functions, Info, PluginId, Tb};
use crate::qemu::tlb::{self, Filled};
use crate::qemu::vcpu::{Slot, Vcpu};
use crate::qemu::version;
use crate::ram::Ram;
use crate::stats::Stats;
use crate::watch::Translation;

/// Where a processor starts after power-on and reset.
const RESET_VECTOR: u64 = 0xffff_fff0;
/// The longest instruction.
const LONGEST: usize = 15;

/// Everything, from loading to the end of the process.
struct Machine {
    functions: Functions,
    model: Model<'static>,
    slots: [OnceLock<Slot>; MAX_CPUS],
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
    let machine =
        Machine { functions: qemu.functions, model, slots: [const { OnceLock::new() }; MAX_CPUS] };
    MACHINE.set(machine).map_err(|_| "the plugin is loaded twice".to_owned())?;
    let machine = MACHINE.get().ok_or_else(|| "the plugin is not loaded".to_owned())?;
    // SAFETY: the release has been checked, and QEMU loads plugins before it makes CPUs.
    unsafe { tlb::install(&machine.functions, on_tlb_fill)? };
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
    let rmp = &args.rmp;
    let words = ram.slice(rmp.entry_address(0), rmp.entries() * ENTRY_BYTES).ok_or_else(|| {
        format!("the RMP at {:#x} to {:#x} does not lie in RAM as a whole", rmp.base(), rmp.end())
    })?;
    let log =
        args.log.as_deref().map(|path| File::create(path).map_err(|error| says(path, &error)));
    use std::sync::atomic::Ordering::Release;
    link.low.store(args.low, Release);
    link.rmp_end.store(rmp.end(), Release);
    // The PSP model takes a base that is not 0 for the sign that the CPUs are there.
    link.rmp_base.store(rmp.base(), Release);
    Ok(Model {
        link,
        ram,
        rmp: Rmp::new(*rmp, MemoryTable { words, locks: &link.rmp_locks }),
        rmpread: args.rmpread,
        snp_en: args.snp_en,
        rmp_check: args.rmp_check,
        acpi_patched: AtomicBool::new(false),
        iommu: AtomicU64::new(0),
        stats: Stats::default(),
        log: Log::new(log.transpose()?),
    })
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
        for n in 0..(f.qemu_plugin_tb_n_insns)(tb) {
            let insn = (f.qemu_plugin_tb_get_insn)(tb, n);
            let at_reset_vector = n == 0 && (f.qemu_plugin_insn_vaddr)(insn) == RESET_VECTOR;
            let mut bytes = [0u8; LONGEST];
            let length = (f.qemu_plugin_insn_data)(insn, bytes.as_mut_ptr().cast(), LONGEST);
            let what = match insn::decode(&bytes[..length.min(LONGEST)]) {
                Some(kind) => What::Execute(kind, length as u8),
                None if at_reset_vector => What::Reset,
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

/// Why an instruction's callback is there. It fits into the pointer that QEMU keeps for the
/// callback, so that translating again (and again) allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Execute(Kind, u8),
    Reset,
}

impl What {
    /// Byte 0: the length, byte 1: the kind. No instruction has length 0.
    fn to_userdata(self) -> *mut c_void {
        ptr::without_provenance_mut(match self {
            What::Execute(kind, length) => usize::from(length) | ((kind as usize) << 8),
            What::Reset => 0,
        })
    }

    fn from_userdata(userdata: *mut c_void) -> Option<What> {
        let number = userdata.addr();
        match number & 0xff {
            0 => Some(What::Reset),
            length => Some(What::Execute(*Kind::ALL.get(number >> 8)?, u8::try_from(length).ok()?)),
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
    if vcpu.in_guest() {
        return;
    }
    match what {
        What::Reset => {
            const PE: u64 = 1;
            if vcpu.get(Reg::Cr0) & PE == 0 {
                machine.model.reset();
            }
        }
        What::Execute(kind, length) => match machine.model.execute(kind, &vcpu) {
            Outcome::Native => {}
            Outcome::Retire(registers) => vcpu.retire(registers, length.into()),
            Outcome::GeneralProtection => vcpu.raise_gp(),
        },
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
    // SAFETY: QEMU's own arguments. If it raises a page fault, this frame is skipped; nothing in it has a
    // destructor.
    if !unsafe { tlb::fill(cpu, address, size, access, mmu_index, probe, return_address) } {
        return false;
    }
    let Some(machine) = MACHINE.get() else { return true };
    let this = |slot: &OnceLock<Slot>| slot.get().is_some_and(|slot| slot.is(cpu));
    let Some(index) = machine.slots.iter().position(this) else { return true };
    let (f, model) = (&machine.functions, &machine.model);
    // SAFETY: in the hook, with its arguments.
    let pc = || unsafe { tlb::pc(f, cpu, return_address, address) };
    model.runs(index, pc);
    if model.watches(index) {
        // SAFETY: as above, and the entry has been made.
        let filled = unsafe { Filled::writable(f, cpu, address, access, mmu_index) };
        if let Some(filled) = filled {
            let new =
                Translation { page: filled.page(), write: filled.write, large: filled.large() };
            if !model.translated(index, new, pc) {
                filled.protect();
            }
        }
    }
    true
}

unsafe extern "C" fn on_exit(_: *mut c_void) {
    if let Some(machine) = MACHINE.get() {
        machine.model.log.note(format_args!("{}end of the summary", machine.model.stats));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userdata_comes_back() {
        for kind in Kind::ALL {
            for length in [2, 4, 15] {
                let what = What::Execute(kind, length);
                assert_eq!(What::from_userdata(what.to_userdata()), Some(what));
            }
        }
        assert_eq!(What::from_userdata(What::Reset.to_userdata()), Some(What::Reset));
        assert_eq!(What::from_userdata(ptr::without_provenance_mut(0xff02)), None);
    }
}
