// SPDX-License-Identifier: GPL-2.0

//! Being nice to the scheduler.
//!
//! C header: `include/linux/sched.h`

use kernel::bindings;

/// Lets others run if they should. To be called now and then in long loops that may sleep.
pub fn cond_resched() {
    // SAFETY: Callable in any sleepable context.
    unsafe { bindings::__cond_resched() };
}
