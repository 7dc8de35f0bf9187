// SPDX-License-Identifier: GPL-2.0

//! The command lock, and the one platform that it guards.
//!
//! Exported functions have no argument that names a PSP (`sev_do_cmd()` takes no device), so the
//! master is global. Only [`lock`] and [`lock_killable`] give access to it. [`detach`] takes the
//! master out before its registers go away: later callers find no platform.
//!
//! What may start legacy SEV takes the lock with [`lock_to_start`] or [`lock_killable_to_start`],
//! which read the file of INIT_EX before. Whoever gives the lock back writes the file if it is to
//! change.

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
        atomic::{
            Atomic,
            Relaxed, //
        },
        static_lock_class,
        Arc, //
    },
};

use super::{
    leave::Leaving,
    panic::LastShutdown,
    MasterIo,
    MasterMailbox,
    Platform,
    PspEnvironment,
    State, //
};
use crate::{
    nv_file,
    regs::Registers,
    state,
    sys::{
        completion::Completion,
        killable_mutex::{
            Guard,
            KillableMutex, //
        },
        notifier::Notifier,
    },
};

struct Master {
    platform: Platform,
    // Declared last, so dropped after the platform. A panic in between goes by the record and the
    // registers, which are still there.
    _notifier: Pin<KBox<Notifier<LastShutdown<MasterMailbox>>>>,
}

/// The command lock. A command may take minutes (SNP_INIT), and so may the wait for the lock.
// SAFETY: Initialised by `init()`, before anything that uses the lock exists.
static COMMANDS: KillableMutex<Option<KBox<Master>>> = unsafe { KillableMutex::new(None) };

/// Whether there is a master, for those who do not want to wait for the lock.
static ATTACHED: Atomic<bool> = Atomic::new(false);

/// Whether there is a PSP. It may go at any moment: [`lock`] and the others look again.
pub(crate) fn is_attached() -> bool {
    ATTACHED.load(Relaxed)
}

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
    let mailbox = |registers| {
        let environment = PspEnvironment { psp: address };
        MasterMailbox::new(dev.clone(), registers, done.clone(), environment)
    };
    let for_panic = mailbox(registers.for_panic());
    let platform = Platform::new(dev.clone(), mailbox(registers))?;
    let last = platform.last_shutdown(for_panic)?;
    let master = Master {
        platform,
        _notifier: KBox::pin_init(Notifier::register(last), GFP_KERNEL)?,
    };
    let master = KBox::new(master, GFP_KERNEL)?;
    let mut slot = COMMANDS.lock();
    if slot.is_some() {
        return Err(EBUSY);
    }
    slot.insert(master).platform.show();
    ATTACHED.store(true, Relaxed);
    Ok(())
}

/// The master's device goes away: shuts the master down and forgets it. From then on [`lock`] finds
/// nothing. Returns whether firmware was initialised.
pub(crate) fn detach() -> bool {
    let mut slot = COMMANDS.lock();
    let mut in_use = false;
    if let Some(master) = slot.as_mut() {
        let before = master.platform.state();
        in_use = master.platform.is_in_use();
        master.platform.shutdown(Leaving::DeviceGone);
        master.platform.check_for_reset();
        master.platform.state().trace_change(&before);
        master.platform.abandon_snp();
        submit(&mut master.platform);
    }
    let master = slot.take();
    ATTACHED.store(false, Relaxed);
    state::detached();
    drop(slot);
    nv_file::retry();
    // Unregistering the panic notifier sleeps, so it happens outside the lock.
    drop(master);
    in_use
}

/// Notes what is to be written to the file of INIT_EX. Returns whether there is anything.
fn submit(platform: &mut Platform) -> bool {
    match platform.changed_nv() {
        Some(contents) => {
            nv_file::submit(contents);
            true
        }
        None => false,
    }
}

/// The platform of the master. The command lock is held until this is dropped.
pub(crate) struct Locked {
    master: Guard<KBox<Master>>,
    /// The state that the platform had.
    before: State,
    // Declared last, so dropped without the lock.
    submitted: Submitted,
}

/// There is something to be written to the file of INIT_EX.
struct Submitted(bool);

impl Locked {
    fn new(master: Guard<KBox<Master>>) -> Self {
        Self {
            before: master.platform.state(),
            master,
            submitted: Submitted(false),
        }
    }
}

impl Deref for Locked {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.master.platform
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Platform {
        &mut self.master.platform
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.check_for_reset();
        self.state().trace_change(&self.before);
        self.show();
        self.submitted.0 = submit(self);
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        if self.0 {
            nv_file::write_submitted();
        }
    }
}

/// Takes the command lock, for kernel code: kvm-amd has to end a guest even in a task that was
/// killed.
///
/// # Errors
///
/// [`ENODEV`] if there is no master.
pub(crate) fn lock() -> Result<Locked> {
    COMMANDS.lock().some().map(Locked::new).ok_or(ENODEV)
}

/// Takes the command lock, for user space, which can be killed while it waits.
///
/// # Errors
///
/// As [`lock`], and [`EINTR`] if the task was killed.
pub(crate) fn lock_killable() -> Result<Locked> {
    COMMANDS
        .lock_killable()?
        .some()
        .map(Locked::new)
        .ok_or(ENODEV)
}

/// As [`lock`], for something that may start legacy SEV.
///
/// # Errors
///
/// As [`lock`].
pub(crate) fn lock_to_start() -> Result<Locked> {
    with_nv(lock)
}

/// As [`lock_killable`], for something that may start legacy SEV.
///
/// # Errors
///
/// As [`lock_killable`].
pub(crate) fn lock_killable_to_start() -> Result<Locked> {
    with_nv(lock_killable)
}

/// Has the file of INIT_EX read, if it is wanted, between two times that the lock is taken.
fn with_nv(lock: fn() -> Result<Locked>) -> Result<Locked> {
    let platform = lock()?;
    if !platform.wants_nv_file() {
        return Ok(platform);
    }
    drop(platform);
    let read = nv_file::read();
    let mut platform = lock()?;
    platform.set_nv(read);
    Ok(platform)
}

/// The machine has slept, and the master's interrupts are enabled again.
pub(crate) fn after_sleep() {
    if let Some(master) = COMMANDS.lock().as_mut() {
        master.platform.after_sleep();
        master.platform.show();
    }
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
        master.platform.show();
    }
}
