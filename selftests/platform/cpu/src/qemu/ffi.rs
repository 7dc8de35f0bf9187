// SPDX-License-Identifier: GPL-2.0
//! QEMU's functions, declared by hand: version 7 of the plugin API (`qemu-plugin.h`), as far as it
//! is used, and what is used beyond it.
//!
//! They are looked up when the plugin is loaded instead of being linked, so that a QEMU that lacks
//! one is refused with a sentence, and so that the unit tests need no QEMU.

use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::mem::transmute_copy;

/// The version of the plugin API that the declarations below follow.
pub const API_VERSION: c_int = 7;

/// `qemu_plugin_id_t`.
pub type PluginId = u64;

/// `qemu_info_t`.
#[repr(C)]
pub struct Info {
    /// "x86_64" for qemu-system-x86_64.
    pub target_name: *const c_char,
    /// The oldest API version that this QEMU takes.
    pub version_min: c_int,
    /// Its own API version.
    pub version_cur: c_int,
    /// Not user-mode emulation.
    pub system_emulation: bool,
    /// CPUs at start.
    pub smp_vcpus: c_int,
    /// CPUs with those that can be plugged.
    pub max_vcpus: c_int,
}

/// `struct qemu_plugin_tb`.
pub enum Tb {}
/// `struct qemu_plugin_insn`.
pub enum Insn {}
/// `struct qemu_plugin_register`, a handle.
pub enum Register {}
/// `CPUState`.
pub enum CpuState {}
/// `CPUX86State`.
pub enum Env {}

/// `GByteArray`.
#[repr(C)]
pub struct ByteArray {
    /// The bytes.
    pub data: *mut u8,
    /// How many.
    pub len: c_uint,
}

/// `GArray`.
#[repr(C)]
pub struct Array {
    /// The elements.
    pub data: *mut c_char,
    /// How many.
    pub len: c_uint,
}

/// `qemu_plugin_reg_descriptor`.
#[repr(C)]
pub struct RegDescriptor {
    /// For `qemu_plugin_read_register` and its like.
    pub handle: *const Register,
    /// The name, such as "rax".
    pub name: *const c_char,
    feature: *const c_char,
    is_readonly: bool,
}

/// `VersionInfo` of the QMP command query-version.
#[repr(C)]
pub struct VersionInfo {
    /// The release.
    pub qemu: *const VersionTriple,
    /// What the distributor made of it.
    pub package: *const c_char,
}

/// `VersionTriple`.
#[repr(C)]
pub struct VersionTriple {
    /// 11 in 11.1.3.
    pub major: i64,
    /// 1 in 11.1.3.
    pub minor: i64,
    /// 3 in 11.1.3.
    pub micro: i64,
}

/// `QEMU_PLUGIN_CB_RW_REGS_PC`: the callback may read and write registers and set the PC.
pub const CB_RW_REGS_PC: c_int = 3;

/// `qemu_plugin_vcpu_simple_cb_t`.
pub type VcpuCallback = unsafe extern "C" fn(c_uint, *mut c_void);
/// `qemu_plugin_vcpu_tb_trans_cb_t`.
pub type TranslateCallback = unsafe extern "C" fn(*mut Tb, *mut c_void);
/// `qemu_plugin_vcpu_discon_cb_t`: the CPU, what happened, where it was and where it goes.
pub type DisconCallback = unsafe extern "C" fn(c_uint, c_int, u64, u64, *mut c_void);
/// `QEMU_PLUGIN_DISCON_INTERRUPT`: on x86, anything that went through the IDT.
pub const DISCON_INTERRUPT: c_int = 1;
/// `qemu_plugin_udata_cb_t`.
pub type ExitCallback = unsafe extern "C" fn(*mut c_void);
/// `qemu_plugin_vcpu_udata_cb_t`. The plugin's is an assembly stub (see [`crate::plugin`]).
pub type ExecCallback = unsafe extern "C" fn();

/// `run_on_cpu_func`. Its argument is a union of 8 bytes.
pub type CpuWork = unsafe extern "C" fn(*mut CpuState, u64);

macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)* ; $($object:ident),*) => {
        /// The functions, by their own names.
        #[allow(non_snake_case, reason = "they are QEMU's")]
        pub struct Functions {
            $(
                #[allow(missing_docs, reason = "documented by QEMU and GLib under this name")]
                pub $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,
            )*
            $(
                #[allow(missing_docs, reason = "README.md says what it is for")]
                pub $object: *mut c_void,
            )*
        }

        // SAFETY: functions, and addresses of what lives as long as the process.
        unsafe impl Send for Functions {}
        // SAFETY: as above.
        unsafe impl Sync for Functions {}

        impl Functions {
            /// Looks all of them up in the running program; `Err` names the first that is missing.
            ///
            /// # Safety
            ///
            /// The program must be a QEMU of the version that the declarations were made for.
            pub unsafe fn load() -> Result<Functions, &'static str> {
                Ok(Functions {
                    $($name: {
                        let address = symbol(concat!(stringify!($name), "\0"))
                            .ok_or(stringify!($name))?;
                        // SAFETY: a pointer and a function pointer have the same size here; that
                        // the function has this type in this QEMU is the caller's promise.
                        unsafe { transmute_copy(&address) }
                    },)*
                    $($object: symbol(concat!(stringify!($object), "\0"))
                        .ok_or(stringify!($object))?,)*
                })
            }
        }
    };
}

functions! {
    // The plugin API.
    qemu_plugin_register_vcpu_init_cb: fn(PluginId, VcpuCallback, *mut c_void);
    qemu_plugin_register_vcpu_tb_trans_cb: fn(PluginId, TranslateCallback, *mut c_void);
    qemu_plugin_register_vcpu_discon_cb: fn(PluginId, c_int, DisconCallback, *mut c_void);
    qemu_plugin_register_atexit_cb: fn(PluginId, ExitCallback, *mut c_void);
    qemu_plugin_register_vcpu_insn_exec_cb: fn(*mut Insn, ExecCallback, c_int, *mut c_void);
    qemu_plugin_tb_n_insns: fn(*const Tb) -> usize;
    qemu_plugin_tb_get_insn: fn(*const Tb, usize) -> *mut Insn;
    qemu_plugin_insn_data: fn(*const Insn, *mut c_void, usize) -> usize;
    qemu_plugin_insn_vaddr: fn(*const Insn) -> u64;
    qemu_plugin_insn_size: fn(*const Insn) -> usize;
    qemu_plugin_insn_haddr: fn(*const Insn) -> *const c_void;
    qemu_plugin_get_registers: fn() -> *mut Array;
    qemu_plugin_read_register: fn(*const Register, *mut ByteArray) -> bool;
    qemu_plugin_write_register: fn(*const Register, *mut ByteArray) -> bool;
    qemu_plugin_set_pc: fn(u64) -> !;
    qemu_plugin_read_memory_vaddr: fn(u64, *mut ByteArray, usize) -> bool;
    qemu_plugin_write_memory_vaddr: fn(u64, *mut ByteArray) -> bool;
    qemu_plugin_read_memory_hwaddr: fn(u64, *mut ByteArray, usize) -> c_int;
    qemu_plugin_write_memory_hwaddr: fn(u64, *mut ByteArray) -> c_int;
    // GLib, which the API's signatures contain. QEMU has loaded it.
    g_byte_array_new: fn() -> *mut ByteArray;
    g_byte_array_set_size: fn(*mut ByteArray, c_uint) -> *mut ByteArray;
    g_array_get_element_size: fn(*mut Array) -> c_uint;
    g_array_free: fn(*mut Array, c_int) -> *mut c_char;
    // Tier 2: QEMU's internals, which a build with loadable modules exports. README.md says why.
    qemu_get_cpu: fn(c_int) -> *mut CpuState;
    cpu_restore_state: fn(*mut CpuState, usize) -> bool;
    cpu_svm_has_intercept: fn(*mut Env, c_uint) -> bool;
    raise_exception_err_ra: fn(*mut Env, c_int, c_int, usize) -> !;
    probe_access_full:
        fn(*mut Env, u64, c_int, c_int, c_int, bool, *mut *mut c_void, *mut *mut c_void, usize) -> c_int;
    tlb_set_page_full: fn(*mut CpuState, c_int, u64, *mut c_void);
    tlb_flush: fn(*mut CpuState);
    async_run_on_cpu: fn(*mut CpuState, CpuWork, u64);
    cpu_unwind_state_data: fn(*mut CpuState, usize, *mut u64) -> bool;
    // The same for guests.
    helper_vmload: fn(*mut Env, c_int);
    helper_vmsave: fn(*mut Env, c_int);
    helper_fldcw: fn(*mut Env, u32);
    helper_ldmxcsr: fn(*mut Env, u32);
    helper_update_mxcsr: fn(*mut Env);
    helper_write_crN: fn(*mut Env, c_int, u64);
    bql_lock_impl: fn(*const c_char, c_int);
    bql_unlock: fn();
    helper_wrmsr: fn(*mut Env);
    cpu_sync_avx_hflag: fn(*mut Env);
    cpu_sync_bndcs_hflags: fn(*mut Env);
    cpu_load_eflags: fn(*mut Env, c_int, c_int);
    cpu_vmexit: fn(*mut Env, u64, u64, usize) -> !;
    ;
    // Not called by name: see ops.rs and ignne.rs.
    x86_tcg_ops, x86_cpu_tlb_fill, x86_cpu_do_interrupt, cpu_clear_ignne
}

/// `qmp_query_version`, the one function that is called before it is known which QEMU this is; its
/// type has been the same since query-version exists.
pub type QueryVersion = unsafe extern "C" fn(*mut c_void) -> *const VersionInfo;

/// Looks that one up.
pub fn query_version() -> Option<QueryVersion> {
    let address = symbol("qmp_query_version\0")?;
    // SAFETY: the same size; the type is QEMU's (see QueryVersion).
    Some(unsafe { transmute_copy(&address) })
}

/// The address of a symbol, given with its terminating zero.
pub fn symbol(name: &'static str) -> Option<*mut c_void> {
    let name = CStr::from_bytes_with_nul(name.as_bytes()).ok()?;
    // SAFETY: a look-up in what is loaded already, with a terminated name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}
