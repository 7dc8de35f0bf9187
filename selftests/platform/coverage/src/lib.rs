// SPDX-License-Identifier: GPL-2.0
//! A TCG plugin that writes down which code of the kernel modules under test was executed.
//!
//! `selftests/modules/coverage.c`, loaded first in the machine, says where the modules lie: it
//! executes a NOP that means nothing to anybody else, with what it has to say in registers. From
//! then on every translated block that begins there gets a callback, which is called before the
//! block is executed, each time. `scripts/coverage` turns the result into source lines.
//!
//! Argument: `out=FILE`. It gets a line `REGION OFFSET LENGTH` (hexadecimal) when a block is
//! executed for the first time. A block that an exception leaves in its middle counts as a whole.

use std::collections::HashSet;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::fs::File;
use std::io::Write;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use plugin_api::{Api, Info, PluginId, RegDescriptor, Register, Tb};

/// QEMU reads this before it calls anything.
#[no_mangle]
#[allow(non_upper_case_globals, reason = "the name is QEMU's")]
pub static qemu_plugin_version: c_int = plugin_api::API_VERSION;

/// Where Linux puts modules, or lower: no other code needs to be looked at.
const MODULES: u64 = 0xffff_ffff_a000_0000;
/// `nopl 0x56_4f_43_43(%rax)`: what `coverage.c` executes.
const MAGIC: [u8; 7] = [0x0f, 0x1f, 0x80, 0x43, 0x43, 0x4f, 0x56];
/// What it says: the number of a region, where that begins, how long it is (0: it is gone).
const REGISTERS: [&str; 3] = ["rdi", "rsi", "rdx"];
/// Text and init text of two modules.
const REGIONS: usize = 4;

struct Region {
    start: u64,
    length: u64,
}

struct State {
    regions: [Region; REGIONS],
    executed: HashSet<usize>,
    out: File,
}

static API: OnceLock<Api> = OnceLock::new();
static STATE: OnceLock<Mutex<State>> = OnceLock::new();
/// QEMU's handles of [`REGISTERS`], as numbers. They are the same for all CPUs of a kind.
static HANDLES: OnceLock<[usize; 3]> = OnceLock::new();

fn state() -> Option<MutexGuard<'static, State>> {
    STATE.get().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Loads the plugin. Anything but 0 makes QEMU exit.
///
/// # Safety
///
/// For QEMU only, with arguments as `qemu-plugin.h` describes them.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU's promise: argc strings at argv.
    let argument = (argc == 1).then(|| unsafe { CStr::from_ptr(*argv) }.to_string_lossy());
    let Some(path) = argument.as_deref().and_then(|argument| argument.strip_prefix("out=")) else {
        eprintln!("coverage: the argument is out=FILE");
        return -1;
    };
    let out = match File::create(path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("coverage: {path}: {error}");
            return -1;
        }
    };
    // SAFETY: QEMU has found qemu_plugin_version to fit.
    let api = match unsafe { Api::load() } {
        Ok(api) => API.get_or_init(|| api),
        Err(missing) => {
            eprintln!("coverage: this QEMU has no {missing}");
            return -1;
        }
    };
    let regions = [const { Region { start: 0, length: 0 } }; REGIONS];
    if STATE.set(Mutex::new(State { regions, executed: HashSet::new(), out })).is_err() {
        eprintln!("coverage: the plugin is loaded twice");
        return -1;
    }
    // SAFETY: the callbacks have the types of API version 7 and stay for ever. Userdata is not
    // used.
    unsafe {
        (api.qemu_plugin_register_vcpu_init_cb)(id, on_cpu, ptr::null_mut());
        (api.qemu_plugin_register_vcpu_tb_trans_cb)(id, on_translate, ptr::null_mut());
    }
    0
}

unsafe extern "C" fn on_cpu(_: c_uint, _: *mut c_void) {
    let Some(api) = API.get() else { return };
    HANDLES.get_or_init(|| {
        // SAFETY: allowed in an init callback; the array is freed below.
        let array = unsafe { (api.qemu_plugin_get_registers)() };
        // SAFETY: QEMU's promise: `len` descriptors at `data`, with names that it keeps for ever.
        let found = unsafe {
            let data = (*array).data.cast::<RegDescriptor>();
            let all = std::slice::from_raw_parts(data, (*array).len as usize);
            REGISTERS.map(|name| {
                all.iter()
                    .find(|reg| CStr::from_ptr(reg.name).to_bytes() == name.as_bytes())
                    .map_or(0, |reg| reg.handle.addr())
            })
        };
        // SAFETY: the array from above. Handles are not in it.
        unsafe { (api.g_array_free)(array, 1) };
        found
    });
}

unsafe extern "C" fn on_translate(block: *mut Tb, _: *mut c_void) {
    let Some(api) = API.get() else { return };
    // SAFETY: the block is valid during this callback, and so are its instructions, of which there
    // is at least one. insn_data writes as many bytes as it is told, at most.
    unsafe {
        let start = (api.qemu_plugin_insn_vaddr)((api.qemu_plugin_tb_get_insn)(block, 0));
        if start < MODULES {
            return;
        }
        let mut length = 0;
        for n in 0..(api.qemu_plugin_tb_n_insns)(block) {
            let insn = (api.qemu_plugin_tb_get_insn)(block, n);
            length += (api.qemu_plugin_insn_size)(insn);
            let mut bytes = [0; MAGIC.len()];
            (api.qemu_plugin_insn_data)(insn, bytes.as_mut_ptr().cast(), bytes.len());
            if bytes == MAGIC {
                let (flags, no_data) = (plugin_api::CB_R_REGS, ptr::null_mut());
                (api.qemu_plugin_register_vcpu_insn_exec_cb)(insn, on_magic, flags, no_data);
            }
        }
        let Some(state) = state() else { return };
        let inside =
            |region: &Region| (region.start..region.start + region.length).contains(&start);
        if let Some(number) = state.regions.iter().position(inside) {
            let data = pack(number, start - state.regions[number].start, length);
            let flags = plugin_api::CB_NO_REGS;
            (api.qemu_plugin_register_vcpu_tb_exec_cb)(block, on_execute, flags, data);
        }
    }
}

/// A block in a pointer: 8 bits of region, 16 of length, the offset above them. Modules are smaller
/// than 1 TiB and blocks than a page.
fn pack(region: usize, offset: u64, length: usize) -> *mut c_void {
    ptr::without_provenance_mut(region | length << 8 | (offset as usize) << 24)
}

unsafe extern "C" fn on_execute(_: c_uint, block: *mut c_void) {
    let Some(mut state) = state() else { return };
    let block = block.addr();
    if state.executed.insert(block) {
        // A disk that is full must not stop the machine; scripts/coverage checks that files end in
        // a whole line.
        let _ = writeln!(state.out, "{} {:x} {:x}", block & 0xff, block >> 24, block >> 8 & 0xffff);
    }
}

unsafe extern "C" fn on_magic(_: c_uint, _: *mut c_void) {
    let Some(handles) = HANDLES.get() else { return };
    let [number, start, length] = handles.map(|handle| read(ptr::without_provenance(handle)));
    let region = usize::try_from(number).ok();
    if let (Some(mut state), Some(number)) = (state(), region) {
        if let Some(region) = state.regions.get_mut(number) {
            *region = Region { start, length };
        }
    }
}

fn read(handle: *const Register) -> u64 {
    let mut bytes = [0; 8];
    let Some(api) = API.get() else { return 0 };
    // SAFETY: this is called in a callback that may read registers, with a handle that QEMU gave
    // out; it appends to the array, which has `len` bytes at `data` then.
    unsafe {
        let array = (api.g_byte_array_new)();
        if !handle.is_null() && (api.qemu_plugin_read_register)(handle, array) {
            let found = std::slice::from_raw_parts((*array).data, (*array).len as usize);
            for (to, from) in bytes.iter_mut().zip(found) {
                *to = *from;
            }
        }
        (api.g_byte_array_free)(array, 1);
    }
    u64::from_le_bytes(bytes)
}
