// SPDX-License-Identifier: GPL-2.0

//! Rescheduling in long loops.
//!
//! C header: `include/linux/sched.h`

use kernel::task::might_sleep;

/// Lets others run if they should. To be called now and then in long loops that may sleep.
pub fn cond_resched() {
    might_sleep();
    // As in C: a kernel that is always preemptible needs no such places, and has no such function.
    #[cfg(any(not(CONFIG_PREEMPTION), CONFIG_PREEMPT_DYNAMIC))]
    // SAFETY: Callable in any sleepable context.
    unsafe {
        kernel::bindings::__cond_resched()
    };
}
