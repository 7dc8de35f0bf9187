// SPDX-License-Identifier: GPL-2.0

//! What several KUnit suites need.

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    faux,
    prelude::*,
    sync::aref::ARef,
    time::{
        Instant,
        Monotonic, //
    }, //
};

pub(crate) use crate::sys::check::check;
use crate::sys::{
    bindings::ccp_gfp_comp,
    pages::{
        Gfp,
        Pages, //
    },
};

pub(crate) mod guest_rmp;
pub(crate) mod script;

/// Pages such as those of user space: a huge page, of which all parts have one count of references.
pub(crate) fn compound(order: u32) -> Result<Pages> {
    let gfp = bindings::GFP_KERNEL | ccp_gfp_comp;
    Pages::zeroed(Gfp::from_raw(gfp), order)
}

/// A device for messages. It goes when the registration is dropped; the reference may stay.
pub(crate) fn device() -> Result<(faux::Registration, ARef<Device>)> {
    let registration = faux::Registration::new(c"ccp-test", None)?;
    let device: &Device<Bound> = registration.as_ref().as_ref();
    let device = ARef::from(&**device);
    Ok((registration, device))
}

/// Whether so many milliseconds have passed. Those of delays may be shorter than those of the
/// clock, by one part in a hundred: the kernel measures the clock once more, and keeps the delays.
pub(crate) fn have_passed(ms: i64, since: Instant<Monotonic>) -> bool {
    since.elapsed().as_nanos() >= ms * 990_000
}
