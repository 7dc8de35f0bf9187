// SPDX-License-Identifier: GPL-2.0

//! The command lock, and the one platform that it guards.
//!
//! Exported functions have no argument that names a PSP (`sev_do_cmd()` takes no device), so the
//! master is global. Only [`lock`] and [`lock_killable`] give access to it. [`detach`] takes the
//! master out before its registers go away: later callers find no platform.

#![allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::{
    device::Device,
    prelude::*,
    sync::{
        aref::ARef,
        static_lock_class,
        Arc, //
    },
};

use super::{
    leave::Leaving,
    panic::{
        self,
        PanicNotifier, //
    },
    MasterIo,
    Platform, //
};
use crate::{
    regs::Registers,
    sys::{
        completion::Completion,
        killable_mutex::{
            Guard,
            KillableMutex, //
        },
    },
};

struct Master {
    platform: Platform,
    // Declared last, so dropped after the platform. A panic in between goes by the record and the
    // registers, which are still there.
    _notifier: PanicNotifier,
}

/// The command lock. A command may take minutes (SNP_INIT), and so may the wait for the lock.
// SAFETY: Initialised by `init()`, before anything that uses the lock exists.
static COMMANDS: KillableMutex<Option<KBox<Master>>> = unsafe { KillableMutex::new(None) };

/// Makes the lock usable.
///
/// # Safety
///
/// To be called once, before the driver is registered.
pub(crate) unsafe fn init() {
    // SAFETY: Called once, and before anything else in this file.
    unsafe { COMMANDS.init(c"ccp command lock", static_lock_class!()) };
}

/// Makes a PSP the master: identifies its firmware, and registers the panic notifier.
///
/// `address` is the place of the device among all PCI devices; `done` is what its interrupt handler
/// completes when the mailbox has an answer.
///
/// # Errors
///
/// If firmware does not answer or cannot be identified: the log has the reason. [`EBUSY`] if there
/// is a master already, [`ENOMEM`].
pub(crate) fn attach(
    dev: ARef<Device>,
    address: u64,
    registers: Registers<MasterIo>,
    done: Arc<Completion>,
) -> Result {
    let registers_for_panic = registers.for_panic();
    let platform = Platform::new(dev, address, registers, done.clone())?;
    let notifier = panic::register(&platform, address, registers_for_panic, done)?;
    let master = Master {
        platform,
        _notifier: notifier,
    };
    let master = KBox::new(master, GFP_KERNEL)?;
    let mut slot = COMMANDS.lock();
    if slot.is_some() {
        return Err(EBUSY);
    }
    *slot = Some(master);
    Ok(())
}

/// The master's device goes away: shuts the master down and forgets it. From then on [`lock`] finds
/// nothing. Returns whether firmware was initialised.
pub(crate) fn detach() -> bool {
    let mut slot = COMMANDS.lock();
    let mut in_use = false;
    if let Some(master) = slot.as_mut() {
        in_use = master.platform.is_in_use();
        master.platform.shutdown(Leaving::DeviceGone);
        master.platform.check_for_reset();
        master.platform.abandon_snp();
    }
    let master = slot.take();
    drop(slot);
    // Unregistering the panic notifier sleeps, so it happens outside the lock.
    drop(master);
    in_use
}

/// The platform of the master. The command lock is held until this is dropped.
pub(crate) struct Locked(Guard<KBox<Master>>);

impl Deref for Locked {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.0.platform
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Platform {
        &mut self.0.platform
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.check_for_reset();
    }
}

/// Takes the command lock, for kernel code: kvm-amd has to end a guest even in a task that was
/// killed.
///
/// # Errors
///
/// [`ENODEV`] if there is no master.
pub(crate) fn lock() -> Result<Locked> {
    COMMANDS.lock().some().map(Locked).ok_or(ENODEV)
}

/// Takes the command lock, for user space, which can be killed while it waits.
///
/// # Errors
///
/// As [`lock`], and [`EINTR`] if the task was killed.
pub(crate) fn lock_killable() -> Result<Locked> {
    COMMANDS.lock_killable()?.some().map(Locked).ok_or(ENODEV)
}

/// Takes the command lock until [`resume`]: the PCI core is about to reset the master's function.
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
