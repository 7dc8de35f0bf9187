// SPDX-License-Identifier: GPL-2.0

//! The command lock, and the one platform that it guards.
//!
//! Callers come from C with nothing in hand (`sev_do_cmd()` takes no device), so the master is
//! global. It is only reachable through the lock, and [`detach`] takes it out before its registers
//! go away: whoever comes later finds no platform.

#![allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        static_lock_class, //
    },
};

use super::{
    panic::{
        LastOfMaster,
        Notifier, //
    },
    Leaving,
    Platform, //
};
use crate::sys::killable_mutex::{
    Guard,
    KillableMutex, //
};

struct Master {
    platform: Platform,
    // Declared last: the notifier is unregistered after the platform is gone, which it notices.
    _notifier: Notifier,
}

/// The command lock. A command may take minutes (SNP_INIT), and so may the wait for the next one.
// SAFETY: Initialised by `init()`, before anything that uses the lock exists.
static COMMANDS: KillableMutex<Option<KBox<Master>>> = unsafe { KillableMutex::new(None) };

static INITIALISED: AtomicFlag = AtomicFlag::new(false);

/// Initialises the lock. Called once, first thing in module init.
///
/// # Errors
///
/// [`EBUSY`] the second time.
pub(crate) fn init() -> Result {
    if INITIALISED.xchg(true, Relaxed) {
        return Err(EBUSY);
    }
    // SAFETY: Called once, as just checked.
    unsafe { COMMANDS.init(c"ccp command lock", static_lock_class!()) };
    Ok(())
}

/// Makes `platform` the master, and has `last_shutdown` done if the kernel panics meanwhile.
///
/// # Errors
///
/// [`EBUSY`] if there is one already, [`ENOMEM`].
pub(crate) fn attach(platform: Platform, last_shutdown: LastOfMaster) -> Result {
    let master = KBox::new(
        Master {
            platform,
            _notifier: Notifier::register(last_shutdown)?,
        },
        GFP_KERNEL,
    )?;
    let mut slot = COMMANDS.lock();
    if slot.is_some() {
        return Err(EBUSY);
    }
    *slot = Some(master);
    Ok(())
}

/// The master's device goes away: shuts the master down and forgets it. From then on [`with`] finds
/// nothing. Whether firmware was initialised.
pub(crate) fn detach() -> bool {
    let mut slot = COMMANDS.lock();
    let mut in_use = false;
    if let Some(master) = slot.as_mut() {
        in_use = master.platform.is_in_use();
        master.platform.shutdown(Leaving::DeviceGone);
        master.platform.look_for_reset();
        master.platform.abandon_snp();
    }
    let master = slot.take();
    drop(slot);
    // Unregistering the panic notifier sleeps, so it happens outside the lock.
    drop(master);
    in_use
}

/// Runs `work` on the master under the command lock. For kernel code, which has to end what it
/// began (a guest, say) even in a task that was killed.
///
/// # Errors
///
/// [`ENODEV`] if there is none; what `work` returns.
pub(crate) fn with<R, E: From<Error>>(
    work: impl FnOnce(&mut Platform) -> Result<R, E>,
) -> Result<R, E> {
    on_master(COMMANDS.lock(), work)
}

/// The same for user space, which can be killed while it waits for the lock.
///
/// # Errors
///
/// As [`with`], and [`EINTR`] if it was.
pub(crate) fn with_killable<R, E: From<Error>>(
    work: impl FnOnce(&mut Platform) -> Result<R, E>,
) -> Result<R, E> {
    on_master(COMMANDS.lock_killable()?, work)
}

fn on_master<R, E: From<Error>>(
    mut slot: Guard<Option<KBox<Master>>>,
    work: impl FnOnce(&mut Platform) -> Result<R, E>,
) -> Result<R, E> {
    match slot.as_mut() {
        Some(master) => {
            let result = work(&mut master.platform);
            master.platform.look_for_reset();
            result
        }
        None => Err(ENODEV.into()),
    }
}

/// Keeps everybody from the master until [`resume`], because its function is about to be reset.
/// Waits for the command in flight.
pub(crate) fn pause() {
    core::mem::forget(COMMANDS.lock());
}

/// The master's function was reset, and its interrupts are enabled again.
///
/// # Safety
///
/// This task has called [`pause`], and not this since.
pub(crate) unsafe fn resume() {
    // SAFETY: `pause()` took the lock in this task, and left it taken.
    let mut slot = unsafe { COMMANDS.taken() };
    if let Some(master) = slot.as_mut() {
        master.platform.after_reset();
    }
}
