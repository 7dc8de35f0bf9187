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
//! | [`SnpEnabled`] | the same, and all CPUs are prepared: `SNP_EN` was read as set on every one |
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

use super::{
    bindings::{
        self,
        snp_host_close,
        snp_host_keep, //
    },
    cc, cpu,
    hotplug::CpusRead,
    iommu,
    msr::Msr,
    pages::Pages,
    rmp::{
        Kernel,
        Rmp, //
    },
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// The machine, by the functions of the kernel and of `snp_host.ko` for SNP.
///
/// [`KERNEL`] is this machine; tests have others, which follow a script.
pub trait Host: Rmp + Sync {
    /// Whether this is an SNP host (see [`cc::is_snp_host`]).
    fn is_snp_host(&self) -> bool;

    /// `snp_host_window_open()`.
    fn window_open(&self) -> Result;

    /// `snp_host_prepare()`, for [`HotplugWindow::prepare`].
    fn prepare(&self) -> Result;

    /// `snp_host_window_close()`.
    fn window_close(&self, why: snp_host_close) -> Result;

    /// `snp_host_window_keep()`.
    fn window_keep(&self, why: snp_host_keep);

    /// `snp_host_snp_en_cpus()`.
    fn snp_en_cpus(&self) -> Result<u32>;

    /// How many CPUs are online.
    fn online_cpus(&self) -> u32;

    /// Whether the CPU that this runs on has `SNP_EN`. May be called in any context.
    fn snp_en_here(&self) -> bool;

    /// Writes the caches of all online CPUs back and invalidates them. Sleeps.
    fn wbinvd_on_all(&self);

    /// The same for the CPU that this runs on. May be called in any context.
    fn wbinvd_here(&self);

    /// Writes the cache lines of the pages back to memory and drops them from all caches.
    fn clflush(&self, pages: &Pages);

    /// Takes back the pages that the IOMMUs used under SNP (see [`iommu::snp_disable`]).
    fn take_iommu_pages_back(&self) -> Result;
}

/// This machine.
pub static KERNEL: Kernel = Kernel(());

impl Host for Kernel {
    fn is_snp_host(&self) -> bool {
        cc::is_snp_host()
    }

    fn window_open(&self) -> Result {
        // SAFETY: May be called in any sleepable context; takes no arguments.
        to_result(unsafe { bindings::snp_host_window_open() })
    }

    fn prepare(&self) -> Result {
        // SAFETY: May be called in any sleepable context; takes no arguments.
        to_result(unsafe { bindings::snp_host_prepare() })
    }

    fn window_close(&self, why: snp_host_close) -> Result {
        // SAFETY: May be called in any sleepable context; `snp_host` checks `why`.
        to_result(unsafe { bindings::snp_host_window_close(why) })
    }

    fn window_keep(&self, why: snp_host_keep) {
        // SAFETY: May be called in any sleepable context; `snp_host` takes any `why`.
        unsafe { bindings::snp_host_window_keep(why) };
    }

    fn snp_en_cpus(&self) -> Result<u32> {
        // SAFETY: May be called in any sleepable context; takes no arguments.
        let cpus = unsafe { bindings::snp_host_snp_en_cpus() };
        u32::try_from(cpus).map_err(|_| Error::from_errno(cpus))
    }

    fn online_cpus(&self) -> u32 {
        CpusRead::lock().online().weight()
    }

    fn snp_en_here(&self) -> bool {
        const SNP_EN: u64 = 1 << kernel::bindings::MSR_AMD64_SYSCFG_SNP_EN_BIT;
        Msr::new(kernel::bindings::MSR_AMD64_SYSCFG)
            .read()
            .is_ok_and(|syscfg| syscfg & SNP_EN != 0)
    }

    fn wbinvd_on_all(&self) {
        cpu::wbinvd_on_all();
    }

    fn wbinvd_here(&self) {
        cpu::wbinvd_local();
    }

    fn clflush(&self, pages: &Pages) {
        pages.clflush();
    }

    fn take_iommu_pages_back(&self) -> Result {
        iommu::snp_disable()
    }
}

/// `snp_host_psp_owes()`.
pub fn psp_owes(psp: u64, command: u32) {
    // SAFETY: May be called in any sleepable context; takes any numbers.
    let recorded = unsafe { bindings::snp_host_psp_owes(psp, command) };
    // Fails for want of room alone: then the PSP's own register is the one witness.
    debug_assert!(recorded == 0);
}

/// `snp_host_psp_owed()`.
pub fn psp_owed(psp: u64) -> Option<u32> {
    // SAFETY: May be called in any sleepable context; takes any number.
    Some(unsafe { bindings::snp_host_psp_owed(psp) }).filter(|command| *command != 0)
}

/// `snp_host_psp_answered()`.
pub fn psp_answered(psp: u64) {
    // SAFETY: May be called in any sleepable context; takes any number.
    unsafe { bindings::snp_host_psp_answered(psp) };
}

/// `snp_host_describe()`: calls `f` with the text, or with the error.
pub fn describe<R>(f: impl FnOnce(Result<&str>) -> R) -> R {
    let mut text = [0; 384];
    // SAFETY: May be called in any sleepable context; the buffer has that size.
    let told = unsafe { bindings::snp_host_describe(text.as_mut_ptr().cast(), text.len()) };
    let text = CStr::from_bytes_until_nul(&text).map_err(|_| EINVAL);
    f(to_result(told)
        .and(text)
        .and_then(|text| text.to_str().map_err(|_| EINVAL)))
}

/// Proof that the hotplug window is open.
///
/// Dropping it closes the window if `SNP_EN` is set on no CPU, and keeps it open otherwise.
#[must_use = "dropping the window gives it back"]
pub struct HotplugWindow(&'static dyn Host);

impl HotplugWindow {
    /// Opens the window.
    ///
    /// Opening a window that an earlier load of this module left open takes it over.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if this kernel is no SNP host, [`EOPNOTSUPP`] if a present CPU is offline,
    /// [`ENOMEM`]. `snp_host` has told the log why.
    pub fn open(host: &'static dyn Host) -> Result<Self> {
        host.window_open()?;
        Ok(Self(host))
    }

    /// Prepares all CPUs for SNP, which clears the RMP if no CPU has `SNP_EN` yet.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if this host cannot do SNP, [`EBUSY`] if a CPU is using SVM: nothing has been
    /// written then. [`EIO`] if a CPU ignored a write; [`ENOMEM`]. `snp_host` has told the log why.
    /// The window is then closed or kept as the hardware state demands.
    pub fn prepare(self) -> Result<SnpEnabled> {
        let host = self.0;
        // The window is open, so the set of online CPUs does not change meanwhile.
        host.prepare()?;
        // From here on the window is the business of `SnpEnabled`.
        core::mem::forget(self);
        Ok(SnpEnabled(host))
    }

    /// Takes over CPUs that were prepared before: by an earlier kernel, or for an earlier load of
    /// this module. Verifies that all of them have `SNP_EN`, and writes nothing.
    ///
    /// # Errors
    ///
    /// [`EIO`] if a CPU has no `SNP_EN`, [`ENOMEM`]. The window is then closed or kept as the
    /// hardware state demands.
    pub fn adopt(self) -> Result<SnpEnabled> {
        let host = self.0;
        // The window is open: all present CPUs are online and stay so.
        if host.snp_en_cpus()? != host.online_cpus() {
            return Err(EIO);
        }
        // From here on the window is the business of `SnpEnabled`.
        core::mem::forget(self);
        Ok(SnpEnabled(host))
    }
}

impl Drop for HotplugWindow {
    fn drop(&mut self) {
        // If the window has to stay open, `snp_host` logs the reason and shows it in sysfs; nobody
        // here can do more about it.
        let _ = close(self.0, snp_host_close::SNP_HOST_CLOSE_SNP_OFF);
    }
}

/// Asks `snp_host` to close the window.
fn close(host: &dyn Host, why: snp_host_close) -> Result {
    let closed = host.window_close(why);
    if matches!(closed, Err(err) if err != EBUSY) {
        // `snp_host` could not look, so no reason is on record yet.
        host.window_keep(snp_host_keep::SNP_HOST_KEEP_UNDECIDED);
    }
    closed
}

/// Proof that the hotplug window is open and every CPU is prepared for SNP.
///
/// Dropping it keeps the window open, as "undecided".
#[must_use = "say what becomes of the hotplug window"]
pub struct SnpEnabled(&'static dyn Host);

impl SnpEnabled {
    /// The firmware was shut down with `X86_SNP_SHUTDOWN`: ends SNP on the x86 side.
    ///
    /// `snp_host` verifies that `SNP_EN` reads 0 on every CPU, clears the RMP, switches MFDM off,
    /// and closes the window, in that order.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a CPU still has `SNP_EN`; [`ENOMEM`]. The window then stays open.
    pub fn end(self) -> Result<NoSnpEn> {
        let host = self.0;
        core::mem::forget(self);
        close(host, snp_host_close::SNP_HOST_CLOSE_SNP_OFF)?;
        Ok(NoSnpEn(()))
    }

    /// The firmware refused `SNP_INIT` definitely (a status, not a timeout, and none of the
    /// statuses in [`snp_host_keep`]): closes the window if the whole RMP is zero.
    ///
    /// Nothing is assigned then, so nothing is enforced, and the next [`HotplugWindow::prepare`]
    /// verifies every CPU again.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the RMP is not all zero or cannot be read; [`ENOMEM`]. The window then stays
    /// open.
    pub fn refused(self) -> Result {
        let host = self.0;
        core::mem::forget(self);
        close(host, snp_host_close::SNP_HOST_CLOSE_INIT_REFUSED)
    }

    /// Leaves the window open, with the reason on record.
    pub fn keep(self, why: snp_host_keep) {
        self.0.window_keep(why);
        core::mem::forget(self);
    }
}

impl Drop for SnpEnabled {
    fn drop(&mut self) {
        self.0.window_keep(snp_host_keep::SNP_HOST_KEEP_UNDECIDED);
    }
}

/// Proof that no CPU has `SNP_EN` set.
///
/// It stays true for as long as the command lock is held: nothing but a prepare under that lock
/// sets `SNP_EN`.
#[derive(Clone, Copy, Debug)]
pub struct NoSnpEn(());

impl NoSnpEn {
    /// Reads `SNP_EN` on every CPU.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a CPU has it set, [`ENOMEM`].
    pub fn measure(host: &dyn Host) -> Result<Self> {
        match host.snp_en_cpus()? {
            0 => Ok(Self(())),
            _ => Err(EBUSY),
        }
    }
}
