// SPDX-License-Identifier: GPL-2.0

//! The module parameters in `rust/shim/params.c`.

use kernel::prelude::*;

extern "C" {
    static ccp_psp_cmd_timeout: c_int;
    static ccp_psp_probe_timeout: c_int;
    static ccp_psp_init_on_probe: bool;
    static ccp_snp: bool;
    static ccp_tio: bool;
    static ccp_init_ex_path: *const c_char;
}

/// `psp_cmd_timeout`, in seconds. The administrator may change it at any time.
pub(crate) fn psp_cmd_timeout() -> i32 {
    // SAFETY: A plain integer that sysfs writes to; volatile so that each call sees it anew.
    unsafe { (&raw const ccp_psp_cmd_timeout).read_volatile() }
}

/// `psp_probe_timeout`, in seconds. The administrator may change it at any time.
pub(crate) fn psp_probe_timeout() -> i32 {
    // SAFETY: As above.
    unsafe { (&raw const ccp_psp_probe_timeout).read_volatile() }
}

/// `psp_init_on_probe`.
pub(crate) fn psp_init_on_probe() -> bool {
    // SAFETY: Set before module init and never again.
    unsafe { ccp_psp_init_on_probe }
}

/// `snp`.
pub(crate) fn snp() -> bool {
    // SAFETY: Set before module init and never again.
    unsafe { ccp_snp }
}

/// `tio`.
pub(crate) fn tio() -> bool {
    // SAFETY: Set before module init and never again.
    unsafe { ccp_tio }
}

/// `init_ex_path`, if it names anything.
pub(crate) fn init_ex_path() -> Option<&'static CStr> {
    // SAFETY: Set before module init and never again.
    let path = unsafe { ccp_init_ex_path };
    // SAFETY: A string, which lives as long as the module.
    let path = (!path.is_null()).then(|| unsafe { CStr::from_char_ptr(path) })?;
    (!path.is_empty()).then_some(path)
}
