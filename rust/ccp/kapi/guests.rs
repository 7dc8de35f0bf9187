// SPDX-License-Identifier: GPL-2.0

//! The C functions of `include/linux/snp_guests.h`, exported by `rust/shim/exports.c`.

#![allow(unsafe_code, reason = "the seam to C: pointers come in as they are")]

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    guests::{
        self,
        AllGuests, //
    },
    sys::bindings as c, //
};

/// What kvm-amd has registered.
#[repr(transparent)]
struct Ops(c::snp_guests_ops);

impl AllGuests for Ops {
    fn ask_all(&self, asked: &mut c::snp_guests_asked) -> Result {
        let ask_all = self.0.ask_all.ok_or(EINVAL)?;
        // SAFETY: By the promise of whoever has registered.
        to_result(unsafe { ask_all(asked) })
    }
}

/// # Safety
///
/// `ops` is NULL, or stays valid and as it is until it was unregistered.
unsafe fn ops(ops: *const c::snp_guests_ops) -> Result<&'static Ops> {
    // SAFETY: By the caller's promise; the layouts are the same.
    unsafe { ops.cast::<Ops>().as_ref() }.ok_or(EINVAL)
}

/// kvm-amd is there to be asked.
///
/// # Safety
///
/// `ops` is NULL, or stays valid until it was unregistered; its function is as the header says.
#[no_mangle]
unsafe extern "C" fn snp_guests_register(ops: *const c::snp_guests_ops) -> c_int {
    // SAFETY: By the caller's promise.
    let result = unsafe { self::ops(ops) }.and_then(|ops| guests::register(ops));
    result.map_or_else(Error::to_errno, |()| 0)
}

/// kvm-amd goes away.
///
/// # Safety
///
/// As [`snp_guests_register`].
#[no_mangle]
unsafe extern "C" fn snp_guests_unregister(ops: *const c::snp_guests_ops) {
    // SAFETY: By the caller's promise.
    if let Ok(ops) = unsafe { self::ops(ops) } {
        guests::unregister(ops);
    }
}

c::same_prototypes! {
    snp_guests_register(_);
    snp_guests_unregister(_);
}
