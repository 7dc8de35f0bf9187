// SPDX-License-Identifier: GPL-2.0

//! Kernel declarations that [`kernel::bindings`] does not reach.
//!
//! bindgen makes them from `include/ccp_bindings.h` while building (the rule and the allow list are
//! in `Kbuild`), on top of the kernel crate's own types.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    rust_2018_idioms,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::bindings::*;

/// The crypto engine's request. Nothing here looks inside one.
#[repr(C)]
pub struct ccp_cmd {
    _opaque: [u8; 0],
}

include!(env!("CCP_BINDINGS"));

/// Compares each function with its C prototype: does not compile if a type differs.
macro_rules! same_prototypes {
    ($($name:ident($($arg:ty),*);)*) => { $(
        const _: () = {
            let mut _prototype: unsafe extern "C" fn($($arg),*) -> _ =
                $crate::sys::bindings::$name;
            _prototype = $name;
        };
    )* };
}
pub(crate) use same_prototypes;
