// SPDX-License-Identifier: GPL-2.0

//! The exports for amdtee and for drivers of devices behind the PSP.

use core::slice;

use kernel::prelude::*;

use crate::{
    platform_access::{
        HEADER_LEN,
        LIMIT, //
    },
    services,
    sys::bindings as c,
    tee, //
};

fn to_c(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// Whether there is a TEE.
#[no_mangle]
extern "C" fn psp_check_tee_status() -> c_int {
    to_c(services::master().and_then(|psp| psp.need_tee()))
}

/// Has the TEE carry out a command.
///
/// # Safety
///
/// `buf` is NULL or valid for reading and writing `len` bytes, and the caller's alone; `status` is
/// NULL or valid for writing.
#[no_mangle]
unsafe extern "C" fn psp_tee_process_cmd(
    cmd_id: c::tee_cmd_id,
    buf: *mut c_void,
    len: usize,
    status: *mut u32,
) -> c_int {
    if buf.is_null() || status.is_null() || len == 0 || len > tee::BUFFER_LIMIT {
        return EINVAL.to_errno();
    }
    // SAFETY: Not NULL, so valid, by the caller's promise.
    let (buffer, status) = unsafe {
        (
            slice::from_raw_parts_mut(buf.cast::<u8>(), len),
            &mut *status,
        )
    };
    *status = 0;
    let done = services::master().and_then(|psp| tee::process(&*psp, cmd_id, buffer));
    to_c(done.map(|answer| *status = answer))
}

/// Whether there is platform access.
#[no_mangle]
extern "C" fn psp_check_platform_access_status() -> c_int {
    to_c(services::master().and_then(|psp| psp.platform_access(|_| Ok(()))))
}

/// Sends a message of platform access.
///
/// The PSP gets a copy of the request, and the caller a copy of the answer: after a time-out the
/// PSP may still write to what it was given.
///
/// # Safety
///
/// `req` is valid for reading and writing as many bytes as the request's header says, and for the
/// header.
#[no_mangle]
unsafe extern "C" fn psp_send_platform_access_msg(
    msg: c::psp_platform_access_msg,
    req: *mut c::psp_request,
) -> c_int {
    if req.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: The header is valid, by the caller's promise. It need not be aligned.
    let header = unsafe { (&raw const (*req).header).read_unaligned() };
    // CAST: Both have 32 bits at least.
    let len = (header.payload_size as usize).max(HEADER_LEN);
    if len > LIMIT {
        return EINVAL.to_errno();
    }
    // SAFETY: By the caller's promise, and the caller's alone.
    let request = unsafe { slice::from_raw_parts_mut(req.cast::<u8>(), len) };
    to_c(
        services::master()
            .and_then(|psp| psp.platform_access(|access| access.send(msg & 0xff, request))),
    )
}

/// Rings the doorbell.
///
/// # Safety
///
/// `result` is NULL or valid for writing.
#[no_mangle]
unsafe extern "C" fn psp_ring_platform_doorbell(msg: c_int, result: *mut u32) -> c_int {
    let mut refusal = 0;
    // CAST: The PSP takes the lowest bits.
    let number = msg as u32;
    let rung = services::master()
        .and_then(|psp| psp.platform_access(|access| access.ring(number, &mut refusal)));
    // SAFETY: By the caller's promise.
    unsafe { store(refusal, result) };
    to_c(rung)
}

/// Stores why the PSP refuses, if it does.
///
/// # Safety
///
/// `result` is NULL or valid for writing.
pub(super) unsafe fn store(refusal: u32, result: *mut u32) {
    if refusal != 0 && !result.is_null() {
        // SAFETY: Not NULL, so valid, by the caller's promise.
        unsafe { result.write(refusal) };
    }
}

c::same_prototypes! {
    psp_check_tee_status();
    psp_tee_process_cmd(_, _, _, _);
    psp_check_platform_access_status();
    psp_send_platform_access_msg(_, _);
    psp_ring_platform_doorbell(_, _);
}
