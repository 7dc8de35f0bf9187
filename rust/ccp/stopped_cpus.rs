// SPDX-License-Identifier: GPL-2.0

//! The CPUs that are stopped while the kernel panics.
//!
//! A guest that is decommissioned leaves every CPU in debt of a WBINVD, without which firmware
//! takes no DF_FLUSH and stops nothing. The other CPUs are stopped by an NMI before the panic
//! notifiers run, and execute nothing afterwards. So a kvm-amd with hooks has them call [`hold`] in
//! that NMI, where they wait until the panicking CPU has ended the guests.
//!
//! The kernel gives them a second for the NMI, and goes on without them then: a panic with guests
//! takes that second longer.

use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        delay::udelay,
        Delta, //
    },
};

use crate::sys::{
    cpu,
    notifier, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// What the panicking CPU needs of the others.
pub(crate) trait OtherCpus: Sync {
    /// Whether they wait.
    fn are_held(&self) -> bool;

    /// Has them write their caches back and invalidate them; false if one does not in time.
    fn write_back(&self) -> bool;

    /// Lets them go where they would have gone.
    fn let_go(&self);
}

/// Those of this machine.
pub(crate) static MACHINE: Machine = Machine(());

pub(crate) struct Machine(());

/// Guests that there are.
static GUESTS: Atomic<u32> = Atomic::new(0);
/// CPUs that have come to wait, and those that have written back.
static HELD: Atomic<u32> = Atomic::new(0);
static DONE: Atomic<u32> = Atomic::new(0);
/// What those that wait are to do.
static ORDER: Atomic<u32> = Atomic::new(WAIT);

const WAIT: u32 = 0;
const WRITE_BACK: u32 = 1;
const GO: u32 = 2;

const STEP_USECS: i64 = 10;
/// The panicking CPU may wait 10 s for the command in flight, then ends up to a thousand guests.
const HOLD_STEPS: usize = 60_000_000 / STEP_USECS as usize;
/// A WBINVD takes milliseconds, on big caches tens of them.
const WRITE_BACK_STEPS: usize = 5_000_000 / STEP_USECS as usize;

/// How many guests there are.
pub(crate) fn set_guests(guests: u32) {
    GUESTS.store(guests, Relaxed);
}

/// The same, as stored last.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn guests() -> u32 {
    GUESTS.load(Relaxed)
}

/// Called on a CPU that is being stopped, in its NMI. Returns at once unless the kernel panics with
/// guests.
pub(crate) fn hold() {
    if notifier::in_panic() {
        wait(cpu::wbinvd_local);
    }
}

/// Waits, if there are guests, until the panicking CPU says what to do. This CPU counts as done
/// when it has: the panicking one has firmware flush then.
fn wait(write_back: impl FnOnce()) {
    if GUESTS.load(Relaxed) == 0 || ORDER.load(Relaxed) == GO {
        return;
    }
    HELD.fetch_add(1, Relaxed);
    for _ in 0..HOLD_STEPS {
        match ORDER.load(Relaxed) {
            WAIT => udelay(Delta::from_micros(STEP_USECS)),
            WRITE_BACK => {
                write_back();
                DONE.fetch_add(1, Relaxed);
                return;
            }
            _ => return,
        }
    }
}

/// Waits for the others, `steps` at most; false if one is late.
fn all_have_written_back(steps: usize) -> bool {
    for _ in 0..steps {
        if DONE.load(Relaxed) == HELD.load(Relaxed) {
            return true;
        }
        udelay(Delta::from_micros(STEP_USECS));
    }
    false
}

impl OtherCpus for Machine {
    fn are_held(&self) -> bool {
        HELD.load(Relaxed) != 0
    }

    fn write_back(&self) -> bool {
        ORDER.store(WRITE_BACK, Relaxed);
        all_have_written_back(WRITE_BACK_STEPS)
    }

    fn let_go(&self) {
        ORDER.store(GO, Relaxed);
    }
}
