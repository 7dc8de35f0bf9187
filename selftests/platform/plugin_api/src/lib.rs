// SPDX-License-Identifier: GPL-2.0
//! QEMU's plugin API, version 7 (`qemu-plugin.h` of QEMU 11.1), declared by hand as far as the
//! plugins of this workspace use it. (The crate `qemu-plugin` has version 5.)
//!
//! The functions are looked up when a plugin is loaded instead of being linked, so that a QEMU
//! that lacks one is refused with a sentence, and so that unit tests need no QEMU.

use std::ffi::{c_char, c_int, c_uint, c_void, CStr};

#[doc(hidden)]
pub use std::mem::transmute_copy;

/// The version of the plugin API that the declarations follow.
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

/// `QEMU_PLUGIN_CB_NO_REGS`: the callback uses no registers.
pub const CB_NO_REGS: c_int = 0;
/// `QEMU_PLUGIN_CB_R_REGS`: the callback may read registers.
pub const CB_R_REGS: c_int = 1;
/// `QEMU_PLUGIN_CB_RW_REGS_PC`: the callback may read and write registers and set the PC.
pub const CB_RW_REGS_PC: c_int = 3;

/// `qemu_plugin_vcpu_simple_cb_t`, and `qemu_plugin_vcpu_udata_cb_t`, which is the same.
pub type VcpuCallback = unsafe extern "C" fn(c_uint, *mut c_void);
/// `qemu_plugin_vcpu_tb_trans_cb_t`.
pub type TranslateCallback = unsafe extern "C" fn(*mut Tb, *mut c_void);
/// `qemu_plugin_vcpu_discon_cb_t`: the CPU, what happened, where it was and where it goes.
pub type DisconCallback = unsafe extern "C" fn(c_uint, c_int, u64, u64, *mut c_void);
/// `QEMU_PLUGIN_DISCON_INTERRUPT`: on x86, anything that went through the IDT.
pub const DISCON_INTERRUPT: c_int = 1;
/// `qemu_plugin_udata_cb_t`.
pub type ExitCallback = unsafe extern "C" fn(*mut c_void);

/// A structure of functions (and, behind a second semicolon, of addresses) that are looked up by
/// their own names in the running program.
#[macro_export]
macro_rules! functions {
    (
        $(#[$doc:meta])* $structure:ident
        $($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)*
        $(; $($object:ident),*)?
    ) => {
        $(#[$doc])*
        #[allow(non_snake_case, reason = "they are QEMU's")]
        pub struct $structure {
            $(
                #[allow(missing_docs, reason = "documented by QEMU and GLib under this name")]
                pub $name: unsafe extern "C" fn($($arg),*) $(-> $result)?,
            )*
            $($(
                #[allow(missing_docs, reason = "README.md says what it is for")]
                pub $object: *mut ::std::ffi::c_void,
            )*)?
        }

        // SAFETY: functions, and addresses of what lives as long as the process.
        unsafe impl Send for $structure {}
        // SAFETY: as above.
        unsafe impl Sync for $structure {}

        impl $structure {
            /// Looks all of them up in the running program; `Err` names the first that is missing.
            ///
            /// # Safety
            ///
            /// The program must be a QEMU of the version that the declarations were made for, if
            /// one of them is called.
            pub unsafe fn load() -> Result<$structure, &'static str> {
                Ok($structure {
                    $($name: {
                        let address = $crate::symbol(concat!(stringify!($name), "\0"))
                            .ok_or(stringify!($name))?;
                        // SAFETY: a pointer and a function pointer have the same size here; that
                        // the function has this type in this QEMU is the caller's promise.
                        unsafe { $crate::transmute_copy(&address) }
                    },)*
                    $($($object: $crate::symbol(concat!(stringify!($object), "\0"))
                        .ok_or(stringify!($object))?,)*)?
                })
            }
        }
    };
}

functions! {
    /// The plugin API.
    Api
    qemu_plugin_register_vcpu_init_cb: fn(PluginId, VcpuCallback, *mut c_void);
    qemu_plugin_register_vcpu_tb_trans_cb: fn(PluginId, TranslateCallback, *mut c_void);
    qemu_plugin_register_vcpu_tb_exec_cb: fn(*mut Tb, VcpuCallback, c_int, *mut c_void);
    qemu_plugin_register_vcpu_insn_exec_cb: fn(*mut Insn, VcpuCallback, c_int, *mut c_void);
    qemu_plugin_register_vcpu_discon_cb: fn(PluginId, c_int, DisconCallback, *mut c_void);
    qemu_plugin_register_flush_cb: fn(PluginId, ExitCallback, *mut c_void);
    qemu_plugin_register_atexit_cb: fn(PluginId, ExitCallback, *mut c_void);
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
    g_byte_array_free: fn(*mut ByteArray, c_int) -> *mut u8;
    g_byte_array_set_size: fn(*mut ByteArray, c_uint) -> *mut ByteArray;
    g_array_get_element_size: fn(*mut Array) -> c_uint;
    g_array_free: fn(*mut Array, c_int) -> *mut c_char;
}

/// The address of a symbol, given with its terminating zero.
pub fn symbol(name: &'static str) -> Option<*mut c_void> {
    let name = CStr::from_bytes_with_nul(name.as_bytes()).ok()?;
    // SAFETY: a look-up in what is loaded already, with a terminated name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This process is not a QEMU.
    #[test]
    fn another_program_lacks_the_api() {
        // SAFETY: none of the functions that are found is called.
        let missing = unsafe { Api::load() }.err();
        assert_eq!(missing, Some("qemu_plugin_register_vcpu_init_cb"));
        assert!(symbol("dlsym\0").is_some(), "what there is is found");
        assert!(symbol("dlsym").is_none(), "a name must be terminated");
    }
}
