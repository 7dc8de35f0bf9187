// SPDX-License-Identifier: GPL-2.0

//! Whether the machine has slept.
//!
//! C header: `include/linux/timekeeping.h`

use kernel::bindings;

/// Whether the machine has been suspended, or hibernated, since it was started; modules that were
/// loaded afterwards know it, too. An attempt that failed may count, if it came so far that the
/// clocks stood still.
pub fn has_slept() -> bool {
    // In this order: the time that passes between the two reads makes the difference smaller.
    // SAFETY: Both are callable everywhere but in NMIs and while the clocks stand still.
    let (with_sleep, without) = unsafe { (bindings::ktime_get_boottime(), bindings::ktime_get()) };
    with_sleep > without
}
