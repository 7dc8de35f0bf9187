// SPDX-License-Identifier: GPL-2.0

//! The hotplug window of `snp_host.ko`, as types.
//!
//! C header: `include/linux/snp_host.h`, which states the rules of the window.
//!
//! This file is the only constructor of three proofs, and each is made by asking the hardware:
//!
//! | type | what its existence proves |
//! |---|---|
//! | [`HotplugWindow`] | the window is open: no CPU comes or goes; all present CPUs are online |
//! | [`SnpEnabled`] | the same, and `SNP_EN` has been read as set on every CPU |
//! | [`NoSnpEn`] | `SNP_EN` has been read as clear on every CPU |
//!
//! The window itself belongs to `snp_host.ko` and survives an unload of this module. A value that
//! is dropped undecided (an early return) gives the window back if nothing was written and keeps it
//! open otherwise, so `?` is safe between any two steps.
//!
//! # Locking
//!
//! Everything here sleeps and must be called under the command lock, which comes before
//! `cpu_hotplug_disable()` and `cpus_read_lock()`.

use super::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Why the window stays open while the firmware is not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Keep {
    /// The firmware was shut down without `X86_SNP_SHUTDOWN`; `SNP_EN` stays until reset.
    LegacyShutdown = bindings::snp_host_keep_SNP_HOST_KEEP_LEGACY_SHUTDOWN,
    /// The firmware refused `SNP_SHUTDOWN_EX`.
    ShutdownFailed = bindings::snp_host_keep_SNP_HOST_KEEP_SHUTDOWN_FAILED,
    /// A command timed out.
    Timeout = bindings::snp_host_keep_SNP_HOST_KEEP_TIMEOUT,
    /// The mailbox does not answer any more.
    MailboxDead = bindings::snp_host_keep_SNP_HOST_KEEP_MAILBOX_DEAD,
    /// The firmware reported `HWERROR_PLATFORM` or `HWERROR_UNSAFE`.
    HardwareError = bindings::snp_host_keep_SNP_HOST_KEEP_HARDWARE_ERROR,
    /// The firmware reported `RMP_INITIALIZATION_FAILED`.
    RmpInitFailed = bindings::snp_host_keep_SNP_HOST_KEEP_RMP_INIT_FAILED,
    /// The firmware was shut down with `X86_SNP_SHUTDOWN`, but a CPU still has `SNP_EN`.
    StillEnabled = bindings::snp_host_keep_SNP_HOST_KEEP_STILL_ENABLED,
}

/// Proof that the hotplug window is open.
///
/// Dropping it closes the window if `SNP_EN` is set on no CPU, and keeps it open otherwise.
#[must_use = "dropping the window gives it back"]
pub struct HotplugWindow(());

impl HotplugWindow {
    /// Opens the window.
    ///
    /// Opening a window that an earlier load of this module left open takes it over.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if this kernel is no SNP host, [`EOPNOTSUPP`] if a present CPU is offline,
    /// [`ENOMEM`]. `snp_host` has told the log why.
    pub fn open() -> Result<Self> {
        // SAFETY: May be called in any sleepable context; takes no arguments.
        to_result(unsafe { bindings::snp_host_window_open() })?;
        Ok(Self(()))
    }

    /// Prepares all CPUs for SNP and verifies that it took effect everywhere.
    ///
    /// The kernel's `snp_prepare()` clears the RMP, sets MFDM, then `SNP_EN` and `VMPL_EN`, then
    /// clears `VM_HSAVE_PA`, on all CPUs; if this CPU has `SNP_EN` already it does nothing. It never
    /// reads back what it wrote: that is done here, on every CPU.
    ///
    /// # Errors
    ///
    /// What `snp_prepare()` returns, [`EIO`] if a CPU has no `SNP_EN`, [`ENOMEM`]. The window is
    /// then closed or kept as the hardware state demands.
    pub fn prepare(self) -> Result<SnpEnabled> {
        // SAFETY: May be called in any sleepable context; takes no arguments. The window is open, so
        // the set of online CPUs does not change between the MSR writes and the check below.
        to_result(unsafe { bindings::snp_prepare() })?;
        // SAFETY: As above.
        to_result(unsafe { bindings::snp_host_window_verify() })?;
        // From here on the window is the business of `SnpEnabled`.
        core::mem::forget(self);
        Ok(SnpEnabled(()))
    }
}

impl Drop for HotplugWindow {
    fn drop(&mut self) {
        // If the window has to stay open, `snp_host` logs the reason and shows it in sysfs; nobody
        // here can do more about it.
        let _ = close(bindings::snp_host_close_SNP_HOST_CLOSE_SNP_OFF);
    }
}

/// Asks `snp_host` to close the window.
fn close(why: bindings::snp_host_close) -> Result {
    // SAFETY: May be called in any sleepable context; `why` is one of the enum's values.
    let closed = to_result(unsafe { bindings::snp_host_window_close(why) });
    if matches!(closed, Err(err) if err != EBUSY) {
        // `snp_host` could not look, so no reason is on record yet.
        keep(bindings::snp_host_keep_SNP_HOST_KEEP_UNDECIDED);
    }
    closed
}

/// Tells `snp_host` to leave the window open.
fn keep(why: bindings::snp_host_keep) {
    // SAFETY: May be called in any sleepable context; `why` is one of the enum's values.
    unsafe { bindings::snp_host_window_keep(why) };
}

/// Proof that the hotplug window is open and every CPU has `SNP_EN` set.
///
/// Dropping it keeps the window open, as "undecided".
#[must_use = "say what becomes of the hotplug window"]
pub struct SnpEnabled(());

impl SnpEnabled {
    /// The firmware was shut down with `X86_SNP_SHUTDOWN`: ends SNP on the x86 side.
    ///
    /// Verifies that `SNP_EN` reads 0 on every CPU, lets the kernel clear the RMP and switch MFDM
    /// off, and closes the window, in that order.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a CPU still has `SNP_EN`; [`ENOMEM`]. The window then stays open.
    pub fn end(self) -> Result<NoSnpEn> {
        let proof = match NoSnpEn::measure() {
            Err(err) if err == EBUSY => {
                self.keep(Keep::StillEnabled);
                return Err(err);
            }
            measured => measured?,
        };
        // SAFETY: May be called in any sleepable context; takes no arguments. Clearing the RMP is
        // allowed because no CPU enforces it: `proof`.
        unsafe { bindings::snp_shutdown() };
        core::mem::forget(self);
        close(bindings::snp_host_close_SNP_HOST_CLOSE_SNP_OFF)?;
        Ok(proof)
    }

    /// The firmware refused `SNP_INIT` definitely (a status, not a timeout, and none of the
    /// statuses in [`Keep`]): closes the window if the whole RMP is zero.
    ///
    /// Nothing is assigned then, so nothing is enforced, and the next [`HotplugWindow::prepare`]
    /// verifies every CPU again.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the RMP is not all zero or cannot be read; [`ENOMEM`]. The window then stays
    /// open.
    pub fn refused(self) -> Result {
        core::mem::forget(self);
        close(bindings::snp_host_close_SNP_HOST_CLOSE_INIT_REFUSED)
    }

    /// Leaves the window open, with the reason on record.
    pub fn keep(self, why: Keep) {
        core::mem::forget(self);
        keep(why as u32);
    }
}

impl Drop for SnpEnabled {
    fn drop(&mut self) {
        keep(bindings::snp_host_keep_SNP_HOST_KEEP_UNDECIDED);
    }
}

/// Proof that no CPU has `SNP_EN` set.
///
/// It stays true for as long as the command lock is held: nothing but a prepare under that lock sets
/// `SNP_EN`.
#[derive(Clone, Copy, Debug)]
pub struct NoSnpEn(());

impl NoSnpEn {
    /// Reads `SNP_EN` on every CPU.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a CPU has it set, [`ENOMEM`].
    pub fn measure() -> Result<Self> {
        // SAFETY: May be called in any sleepable context; takes no arguments.
        match unsafe { bindings::snp_host_snp_en_cpus() } {
            0 => Ok(Self(())),
            err if err < 0 => Err(Error::from_errno(err)),
            _ => Err(EBUSY),
        }
    }
}
