// SPDX-License-Identifier: GPL-2.0
//! Loading: what QEMU is this, what machine is asked for, and who is to be called when.

use std::ffi::{c_char, c_int, CStr};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, OnceLock};
use std::{fmt, ptr};

use link::{Mapping, MAX_CPUS};
use rmp::{Geometry, MemoryTable, Rmp, BOOKKEEPING_BYTES, CFG_SEGMENTED, CFG_SHIFT};

use crate::activity::Activity;
use crate::args::Args;
use crate::guest::Layer;
use crate::log::Log;
use crate::model::Model;
use crate::plugin::{self, Machine, MACHINE};
use crate::qemu::ffi::{self, Info, PluginId};
use crate::qemu::{build, ignne, interrupt, kept_tlb, layout, lookup, probe, resets, tlb, version};
use crate::ram::Ram;
use crate::stats::Stats;
use crate::variant::Segments;
use crate::writable::Writable;

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
                (f.api.qemu_plugin_register_vcpu_init_cb)(
                    id,
                    plugin::on_vcpu_init,
                    ptr::null_mut(),
                );
                (f.api.qemu_plugin_register_vcpu_tb_trans_cb)(
                    id,
                    plugin::on_translate,
                    ptr::null_mut(),
                );
                (f.api.qemu_plugin_register_atexit_cb)(id, plugin::on_exit, ptr::null_mut());
                if machine.guest.is_some() {
                    let interrupt = ffi::DISCON_INTERRUPT;
                    let on = plugin::on_delivered;
                    (f.api.qemu_plugin_register_vcpu_discon_cb)(id, interrupt, on, ptr::null_mut());
                    let on = kept_tlb::on_blocks_gone;
                    (f.api.qemu_plugin_register_flush_cb)(id, on, ptr::null_mut());
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
    // SAFETY: the series has been checked, and QEMU loads plugins before it makes CPUs.
    let places = unsafe { probe::layout(&qemu.functions) }?;
    let id = build::id().ok_or("this QEMU has no GNU build-id")?;
    let build = build::judge(&id, &places)?;
    layout::set(places)?;
    let (package, cpus) = (&qemu.package, info.max_vcpus);
    model.log.note(format_args!("QEMU: {package}, {build}, at most {cpus} CPUs"));
    let machine = Machine {
        functions: qemu.functions,
        model,
        slots: [const { OnceLock::new() }; MAX_CPUS],
        set_aside: Mutex::new(Some(args.rmp.base()..args.rmp.end() + 1)),
        guest: args.guest.then(Layer::new),
    };
    MACHINE.set(machine).map_err(|_| "the plugin is loaded twice".to_owned())?;
    let machine = MACHINE.get().ok_or_else(|| "the plugin is not loaded".to_owned())?;
    // SAFETY: the release has been checked, and QEMU loads plugins before it makes CPUs.
    unsafe {
        ignne::install(&machine.functions, plugin::on_clear_ignne)?;
        lookup::install(&machine.functions)?;
        tlb::install(&machine.functions, plugin::on_tlb_fill)?;
        interrupt::install(&machine.functions, plugin::on_do_interrupt)?;
        if machine.guest.is_some() {
            let original = machine.functions.helper_write_crN as usize;
            plugin::ORIGINAL_WRITE_CR.store(original, Relaxed);
            let (vmrun, write_cr) = (plugin::on_vmrun, plugin::write_cr_stub);
            kept_tlb::install(&machine.functions, vmrun, write_cr)?;
            resets::install(&machine.functions)?;
        }
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
    let rmp = place_rmp(args, &ram)?;
    let (start, words) = ram.piece(args.rmp.base()).ok_or("rmp_base= does not lie in RAM")?;
    if let Some(range) =
        rmp.ranges().find(|range| ram.slice(range.start, range.end - range.start).is_none())
    {
        return Err(format!(
            "the RMP at {:#x} to {:#x} does not lie in RAM",
            range.start, range.end
        ));
    }
    let log =
        args.log.as_deref().map(|path| File::create(path).map_err(|error| says(path, &error)));
    link.low.store(args.low, Release);
    Ok(Model {
        link,
        writable: Writable::new(&ram),
        ram,
        rmp: Rmp::new(rmp, MemoryTable { words, start, locks: &link.rmp_locks }),
        rmpread: args.rmpread,
        snp_en: args.snp_en,
        segments: args.segments,
        pins: args.pins.clone(),
        pinned: AtomicBool::new(false),
        checks: args.checks,
        pages_taken: AtomicU64::new(0),
        rmp_changes: AtomicU64::new(0),
        activity: [const { Activity::new() }; MAX_CPUS],
        acpi_patched: AtomicBool::new(false),
        iommu: AtomicU64::new(0),
        exclusion_base: AtomicU64::new(0),
        exclusion_base_at: AtomicU64::new(0),
        command_buffer: AtomicU64::new(0),
        stats: Stats::default(),
        log: Log::new(log.transpose()?),
    })
}

/// What the BIOS makes of the memory that it has set aside for the RMP. Segments start 1 MiB behind
/// book-keeping and segment table, which is written here.
fn place_rmp(args: &Args, ram: &Ram) -> Result<Geometry, String> {
    let Some(Segments { shift: Some(shift), .. }) = args.segments else {
        return Ok(args.rmp.clone());
    };
    let base = args.rmp.base();
    let table = Geometry::segment_table(shift, ram.end(), base + (1 << 20));
    for (at, word) in (base + BOOKKEEPING_BYTES..).step_by(8).zip(table) {
        ram.word(at).ok_or("the segment table does not lie in RAM")?.store(word, Relaxed);
    }
    let cfg = CFG_SEGMENTED | u64::from(shift) << CFG_SHIFT;
    // RMP_END is not used: Linux wants to see 0.
    let word = |pa| ram.word(pa).map(|word| word.load(Relaxed));
    let rmp = Geometry::from_registers(base, 0, cfg, word).map_err(|error| error.to_string())?;
    match rmp.ranges().map(|range| range.end).max() {
        Some(end) if end > args.rmp.end() + 1 => Err(format!(
            "a segmented RMP from {base:#x} on needs memory up to {end:#x}, rmp_end= says {:#x}",
            args.rmp.end()
        )),
        _ => Ok(rmp),
    }
}
