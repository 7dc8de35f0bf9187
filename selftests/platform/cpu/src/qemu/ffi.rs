// SPDX-License-Identifier: GPL-2.0
//! What is used of QEMU beyond its plugin API (the crate `plugin_api`), declared by hand.
//!
//! All of it is looked up when the plugin is loaded, as the API is.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::transmute_copy;
use std::ops::Deref;

use plugin_api::symbol;
pub use plugin_api::{
    Api, Array, ByteArray, Info, PluginId, RegDescriptor, Register, Tb, VcpuCallback, API_VERSION,
    CB_RW_REGS_PC, DISCON_INTERRUPT,
};

/// `CPUState`.
pub enum CpuState {}
/// `CPUX86State`.
pub enum Env {}

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

/// `run_on_cpu_func`. Its argument is a union of 8 bytes.
pub type CpuWork = unsafe extern "C" fn(*mut CpuState, u64);

plugin_api::functions! {
    /// Tier 2: QEMU's internals, which a build with loadable modules exports. README.md says why.
    Internals
    qemu_get_cpu: fn(c_int) -> *mut CpuState;
    cpu_restore_state: fn(*mut CpuState, usize) -> bool;
    cpu_svm_has_intercept: fn(*mut Env, c_uint) -> bool;
    raise_exception_err_ra: fn(*mut Env, c_int, c_int, usize) -> !;
    probe_access_full:
        fn(*mut Env, u64, c_int, c_int, c_int, bool, *mut *mut c_void, *mut *mut c_void, usize) -> c_int;
    tlb_set_page_full: fn(*mut CpuState, c_int, u64, *mut c_void);
    tlb_flush: fn(*mut CpuState);
    // TLBs that are put aside (kept_tlb.rs).
    tlb_init: fn(*mut CpuState);
    tlb_reset_dirty: fn(*mut CpuState, usize, usize);
    tcg_flush_jmp_cache: fn(*mut CpuState);
    helper_vmrun: fn(*mut Env, c_int, c_int);
    // A breakpoint that is gone (stale.rs).
    cpu_memory_rw_debug: fn(*mut CpuState, u64, *mut c_void, usize, bool) -> c_int;
    queue_tb_flush: fn(*mut CpuState);
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
    get_system_memory: fn() -> *mut c_void;
    memory_region_init_io:
        fn(*mut c_void, *mut c_void, *const c_void, *mut c_void, *const c_char, u64);
    memory_region_add_subregion_overlap: fn(*mut c_void, u64, *mut c_void, c_int);
    e820_get_table: fn(*mut *const c_void) -> c_int;
    fw_cfg_find: fn() -> *mut c_void;
    fw_cfg_modify_file: fn(*mut c_void, *const c_char, *mut c_void, usize) -> *mut c_void;
    // Only tried out when the plugin is loaded (probe.rs).
    helper_fpush: fn(*mut Env);
    helper_fclex: fn(*mut Env);
    helper_fninit: fn(*mut Env);
    helper_fld1_ST0: fn(*mut Env);
    helper_rdpkru: fn(*mut Env, u32) -> u64;
    helper_xgetbv: fn(*mut Env, u32) -> u64;
    helper_get_dr: fn(*mut Env, c_int) -> u64;
    helper_rdmsr: fn(*mut Env);
    helper_stgi: fn(*mut Env);
    ;
    // Not called by name: see ops.rs, ignne.rs, lookup.rs and kept_tlb.rs.
    x86_tcg_ops, x86_cpu_tlb_fill, x86_cpu_do_interrupt, cpu_clear_ignne, helper_lookup_tb_ptr,
    helper_info_vmrun, helper_info_write_crN
}

/// All functions of QEMU that the plugin calls.
pub struct Functions {
    /// The plugin API.
    pub api: Api,
    internals: Internals,
}

impl Functions {
    /// Looks all of them up in the running program; `Err` names the first that is missing.
    ///
    /// # Safety
    ///
    /// The program must be a QEMU of the version that the declarations were made for, if one of
    /// them is called.
    pub unsafe fn load() -> Result<Functions, &'static str> {
        // SAFETY: the caller's promise, for both.
        Ok(unsafe { Functions { api: Api::load()?, internals: Internals::load()? } })
    }
}

impl Deref for Functions {
    type Target = Internals;

    fn deref(&self) -> &Internals {
        &self.internals
    }
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
