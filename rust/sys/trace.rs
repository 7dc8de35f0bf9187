// SPDX-License-Identifier: GPL-2.0

//! The trace events of `rust/shim/trace.h` and `rust/shim/snp_host_trace.h`.

use super::{
    bindings as c,
    rmp::Frames, //
};
use kernel::prelude::*;

/// Has the tests know of an event.
macro_rules! note {
    ($($words:tt)+) => {
        #[cfg(CONFIG_KUNIT = "y")]
        super::said::event(fmt!($($words)+));
    };
}

/// `ccp_command_start`: firmware is given a command, with its command buffer at `buffer`.
pub(crate) fn command_start(id: u16, name: &str, buffer: u64) {
    note!("start {id:#x} {name} {buffer:#x}");
    // CAST: A short name.
    let len = name.len() as u32;
    // SAFETY: May be called in any context. The name is valid, and has that many bytes.
    unsafe { c::ccp_trace_command_start(id.into(), name.as_ptr().cast(), len, buffer) };
}

/// `ccp_command_done`: firmware has answered with `status`, or has not, and why (`error`), after so
/// many microseconds.
pub(crate) fn command_done(id: u16, name: &str, error: c_int, status: u16, us: u64) {
    note!("done {id:#x} {name} {error} {status:#x}");
    // CAST: A short name.
    let len = name.len() as u32;
    let name = name.as_ptr().cast();
    // SAFETY: As above.
    unsafe { c::ccp_trace_command_done(id.into(), name, len, error, status.into(), us) };
}

/// `ccp_pages`: pages have another owner: the host, firmware, a guest (with its ASID, and where the
/// first page is in the guest), or nobody (lost).
pub(crate) fn pages(frames: Frames, owner: &str, guest: Option<(u32, u64)>) {
    let (asid, gpa) = guest.unwrap_or_default();
    note!(
        "{owner} {:#x} {} {asid} {gpa:#x}",
        frames.pfn(),
        frames.count()
    );
    let (pfn, count) = (frames.pfn(), frames.count() as u64);
    // CAST: A word.
    let len = owner.len() as u32;
    // SAFETY: As above.
    unsafe { c::ccp_trace_pages(pfn, count, owner.as_ptr().cast(), len, asid, gpa) };
}

/// `ccp_state`: the platform has another state.
pub(crate) fn state(snp: &str, sev: &str) {
    note!("state {snp} {sev}");
    let (snp_ptr, sev_ptr) = (snp.as_ptr().cast(), sev.as_ptr().cast());
    // CAST: Words.
    let (snp_len, sev_len) = (snp.len() as u32, sev.len() as u32);
    // SAFETY: As above.
    unsafe { c::ccp_trace_state(snp_ptr, snp_len, sev_ptr, sev_len) };
}

/// `snp_host_window`: the hotplug window has another state.
pub(crate) fn window(state: &str) {
    note!("window {state}");
    // CAST: A word.
    let len = state.len() as u32;
    // SAFETY: As above.
    unsafe { c::snp_host_trace_window(state.as_ptr().cast(), len) };
}
