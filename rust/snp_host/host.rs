// SPDX-License-Identifier: GPL-2.0

//! The hotplug window: `snp_host_window_open()`, `snp_host_prepare()`, `snp_host_window_close()`.
//!
//! [`Window`] decides; this file reads the CPUs, does what the new state demands, and logs it.
//!
//! # Locking
//!
//! The lock of [`HOST`] comes after the caller's command lock and before `cpu_hotplug_disable()`
//! and `cpus_read_lock()`. The vetoes run with the hotplug lock held for writing, so they must not
//! take it: they look at [`WINDOW_OPEN`] alone.

use crate::{
    entry::Entries,
    owed::Owed,
    prepare::{
        cpus::{
            check_all_online,
            AllCpus, //
        },
        snp_prepare,
        snp_shutdown, //
    },
    rmp::{
        NotEnforced,
        Table, //
    },
    sys::{
        guest_rmp::Owner,
        hotplug::{
            CpuVeto,
            HotplugDisabled, //
        },
        log,
        module_pin::ModulePin,
        notifier::{
            about_to_sleep,
            Callback,
            SystemSleep, //
        },
        pci_adapter,
        trace, //
    },
    syscfg::{
        has_snp_en,
        syscfg,
        Syscfg, //
    },
    window::{
        self,
        Event,
        Rmp,
        SnpEn,
        Window, //
    },
};
use kernel::{
    cpu::CpuId,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

#[allow(unsafe_code)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        /// What is known about this host; [`None`] while the module is being loaded or unloaded.
        // SAFETY: `init_lock()` initialises it before anything that uses it is registered.
        pub(super) unsafe(uninit) static HOST: Mutex<Option<super::SnpHost>> = None;
    }
}
use lock::HOST;

/// Makes the lock usable.
///
/// # Safety
///
/// To be called once, before anything else in this file.
#[allow(unsafe_code)]
pub(crate) unsafe fn init_lock() {
    // SAFETY: Called once, and first.
    unsafe { HOST.init() };
}

/// [`Window::is_open`] for the vetoes, which cannot take the lock. Set by [`Barrier`].
static WINDOW_OPEN: Atomic<bool> = Atomic::new(false);

/// Another ccp was loaded when this module was: it enables SNP and knows of no window. Until ours
/// opens one.
static OTHER_CCP: Atomic<bool> = Atomic::new(false);

/// What keeps CPUs from coming and going: the flag that the vetoes see, and `cpu_hotplug_disable()`
/// (a [`HotplugDisabled`], except in tests).
///
/// The flag is set first. `cpu_hotplug_disable()` waits for a CPU that is just coming or going, so
/// no CPU slips through between the two. At the end the flag goes first, too: nobody is refused
/// once hotplug is enabled.
pub(crate) struct Barrier<'a, D> {
    flag: &'a Atomic<bool>,
    /// Dropped after the flag was cleared.
    _disabled: D,
}

impl<'a, D> Barrier<'a, D> {
    /// Sets the flag, then calls `disable`.
    pub(crate) fn new(flag: &'a Atomic<bool>, disable: impl FnOnce() -> D) -> Self {
        flag.store(true, Relaxed);
        Self {
            flag,
            _disabled: disable(),
        }
    }
}

impl<D> Drop for Barrier<'_, D> {
    fn drop(&mut self) {
        self.flag.store(false, Relaxed);
    }
}

/// This host.
pub(crate) struct SnpHost {
    /// Why this kernel is no SNP host, if so.
    unfit: Option<&'static str>,
    window: Window,
    /// When the window was opened.
    opened: Option<Instant<Monotonic>>,
    /// There while the window is open.
    barrier: Option<Barrier<'static, HotplugDisabled>>,
    /// Keeps this module loaded while the window is open or a CPU has `SNP_EN`.
    pin: Option<ModulePin>,
    /// Differences between CPUs that the last preflight found, and that firmware may refuse.
    warnings: KVec<CString>,
    /// The entries of the RMP, from the first question about one.
    entries: Option<Entries>,
    owed: Owed,
    module: &'static ThisModule,
}

/// The host, from load to unload.
pub(crate) struct Registration(());

impl Registration {
    /// Sets the host up. An `SNP_EN` that is set already opens the window at once.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; the window is closed then.
    pub(crate) fn new(module: &'static ThisModule, unfit: Option<&'static str>) -> Result<Self> {
        let mut host = SnpHost::new(module, unfit);
        match unfit {
            Some(why) => log::notice!("no-snp-host", "{why}: CPU hotplug is never restricted"),
            None => {
                host.find_snp_en()?;
                // Ours needs this module, so it comes later.
                note_other_ccp(pci_adapter::is_registered(c"ccp"));
            }
        }
        *HOST.lock() = Some(host);
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(mut host) = HOST.lock().take() else {
            return;
        };
        // Only a forced unload gets here with an open window.
        if let Some(barrier) = host.barrier.take() {
            log::err!(
                "unloaded-by-force",
                "unloaded by force while the hotplug window is open: CPU hotplug stays disabled \
                 until the machine restarts, but suspend and switching SMT on are no longer \
                 refused: do neither"
            );
            core::mem::forget(barrier);
        }
    }
}

/// Notes whether another ccp is loaded.
fn note_other_ccp(is_loaded: bool) {
    OTHER_CCP.store(is_loaded, Relaxed);
    if is_loaded {
        log::warn!(
            "other-ccp",
            "another ccp than that of this snp_host is loaded, and enables SNP without a \
             hotplug window: for now unload kvm_amd and ccp and load kvm_amd again; if the \
             initramfs has it, make that anew (update-initramfs -u)"
        );
    }
}

/// Calls `f` with the host, under its lock.
pub(crate) fn with_host<T>(f: impl FnOnce(&mut SnpHost) -> Result<T>) -> Result<T> {
    f(HOST.lock().as_mut().ok_or(ENODEV)?)
}

impl SnpHost {
    /// A host whose window is closed.
    fn new(module: &'static ThisModule, unfit: Option<&'static str>) -> Self {
        Self {
            unfit,
            window: Window::Closed,
            opened: None,
            barrier: None,
            pin: None,
            warnings: KVec::new(),
            entries: None,
            owed: Owed::default(),
            module,
        }
    }

    /// `snp_host_rmp_owner()`.
    ///
    /// # Errors
    ///
    /// See there.
    pub(crate) fn rmp_owner(&mut self, pfn: u64) -> Result<Owner> {
        let entries = match self.entries.take() {
            Some(entries) => entries,
            None => Entries::find()?,
        };
        self.entries.insert(entries).owner(pfn)
    }

    /// Why the window is as it is.
    fn reason(&self) -> &'static str {
        match (self.unfit, self.window) {
            (Some(why), _) => why,
            (None, Window::Closed) if self.pin.is_some() => {
                "SNP_EN is set, but the firmware refused SNP_INIT and the RMP is all zero"
            }
            (None, Window::Closed) => "SNP is not in use",
            (None, Window::Preparing) => "SNP is being enabled",
            (None, Window::Enabled) => "SNP is enabled on all CPUs",
            (None, Window::Held(why)) => window::reason(why),
        }
    }

    /// For how long the window has been open.
    fn open_seconds(&self) -> i64 {
        self.opened.map_or(0, |at| at.elapsed().as_millis() / 1000)
    }

    /// Opens the window if SNP_EN was set before this module was loaded.
    fn find_snp_en(&mut self) -> Result {
        // No CPU may come between reading the CPUs and opening the window, which has a
        // `cpu_hotplug_disable()` of its own.
        let _disabled = HotplugDisabled::new();
        self.found(&Syscfg::read()?);
        Ok(())
    }

    /// SYSCFG is so while this module is loaded.
    fn found(&mut self, syscfg: &Syscfg) {
        if syscfg.snp_en() == SnpEn::Somewhere {
            log::err!(
                "snp-en-uneven",
                "SNP_EN is set on CPUs {}, but not on CPUs {}, which bypass the RMP checks of the \
                 others. Starting SNP (reload kvm_amd) sets it on all; if that fails, reboot",
                syscfg.passing(has_snp_en),
                syscfg.failing(has_snp_en),
            );
        }
        self.apply(Event::Found(syscfg.snp_en()));
    }

    /// `snp_host_window_open()`.
    pub(crate) fn open(&mut self) -> Result {
        if let Some(why) = self.unfit {
            log::err!("window-refused", "the hotplug window is not opened: {why}");
            return Err(ENODEV);
        }
        // No CPU may go between the check and opening the window, which has a
        // `cpu_hotplug_disable()` of its own. A CPU that comes is prepared with the others.
        let _disabled = HotplugDisabled::new();
        check_all_online()?;
        self.apply(Event::Open);
        OTHER_CCP.store(false, Relaxed);
        Ok(())
    }

    /// `snp_host_prepare()`.
    pub(crate) fn prepare(&mut self) -> Result {
        if !self.window.is_open() {
            log::err!(
                "window-missing",
                "the CPUs were to be prepared for SNP, but no hotplug window is open"
            );
            return Err(EPERM);
        }
        self.warnings.clear();
        match snp_prepare(&mut AllCpus::new(None, &mut self.warnings)).map_err(Error::from) {
            Ok(()) => {
                self.apply(Event::Prepared);
                Ok(())
            }
            Err(err) => {
                self.not_prepared(err, Syscfg::read().map(|syscfg| syscfg.snp_en()))?;
                Err(err)
            }
        }
    }

    /// The step that failed has logged why, unless memory was short.
    ///
    /// # Errors
    ///
    /// That of reading the CPUs.
    fn not_prepared(&mut self, err: Error, snp_en: Result<SnpEn>) -> Result {
        if err == ENOMEM {
            log::err!(
                "prepare-no-memory",
                "SNP stays off: no memory for preparing the CPUs; try again"
            );
        }
        self.apply(Event::NotPrepared(snp_en?));
        Ok(())
    }

    /// `snp_host_window_close(SNP_HOST_CLOSE_SNP_OFF)`.
    pub(crate) fn close_snp_off(&mut self) -> Result {
        let snp_en = Syscfg::read()?.snp_en();
        self.close(snp_en, Event::CloseSnpOff(snp_en))
    }

    /// `snp_host_window_close(SNP_HOST_CLOSE_INIT_REFUSED)`.
    pub(crate) fn close_init_refused(&mut self) -> Result {
        for text in &self.warnings {
            log::warn!(
                "snp-init-perhaps",
                "SNP_INIT was refused, perhaps because {text}",
                text = &**text
            );
        }
        let snp_en = Syscfg::read()?.snp_en();
        let rmp = match Table::find() {
            Ok(table) => table.scan(snp_en),
            Err(_) => Rmp::Unreadable,
        };
        self.close(snp_en, Event::CloseInitRefused(snp_en, rmp))
    }

    /// Closes the window if `event`, which has `snp_en`, allows it. Before that [`snp_shutdown`]
    /// undoes the preparation, if no CPU has SNP_EN any more.
    fn close(&mut self, snp_en: SnpEn, event: Event) -> Result {
        if let (true, Some(not_enforced)) =
            (self.window.needs_snp_shutdown(), NotEnforced::check(snp_en))
        {
            let mut cpus = AllCpus::new(Some(not_enforced), &mut self.warnings);
            if let Err(err) = snp_shutdown(&mut cpus) {
                log::warn!(
                    "rmp-not-cleared",
                    "the RMP is not cleared now but when SNP is started again: {err}"
                );
            }
        }
        self.apply(event);
        self.update_pin(snp_en);
        if self.window.is_open() {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Takes a step of the window, does what the new state demands, and logs it.
    fn apply(&mut self, event: Event) {
        let before = self.window;
        self.window = before.step(event);
        if self.window == before {
            return;
        }
        trace::window(self.window.name());
        match (before.is_open(), self.window.is_open()) {
            (false, true) => {
                self.barrier = Some(Barrier::new(&WINDOW_OPEN, HotplugDisabled::new));
                self.opened = Some(Instant::now());
                self.pin = Some(ModulePin::new(self.module));
                log::notice!(
                    "window-opened",
                    "hotplug window opened: no CPU may come or go, and no suspend or hibernation, \
                     while SNP is enabled. To end that unload kvm_amd; for a host without SNP boot \
                     with sev=nosnp"
                );
            }
            (true, false) => {
                self.barrier = None;
                self.opened = None;
                log::notice!(
                    "window-closed",
                    "hotplug window closed: CPUs may come and go again"
                );
            }
            _ => (),
        }
        if let Window::Held(why) = self.window {
            log::notice!(
                "window-stays-open",
                "hotplug window stays open: {}. CPU hotplug, suspend and hibernation stay disabled \
                 until a shutdown of SNP clears SNP_EN (load and unload kvm_amd) or the machine is \
                 reset",
                window::reason(why),
            );
        }
    }

    /// Allows unloading once the window is closed, unless a CPU still has `SNP_EN`: the next load
    /// would take it for the SNP_EN of an earlier kernel.
    fn update_pin(&mut self, snp_en: SnpEn) {
        if self.window.is_open() || snp_en != SnpEn::Nowhere {
            self.pin.get_or_insert_with(|| ModulePin::new(self.module));
        } else {
            self.pin = None;
        }
    }
}

/// Refuses to bring CPUs up or down, and system sleep, while the window is open: enabling SMT at
/// run time and a few other paths do not look at `cpu_hotplug_disable()`.
pub(crate) struct Vetoes;

/// Whether a CPU that is brought up would be the one without SNP_EN.
fn cpus_have_snp_en() -> bool {
    WINDOW_OPEN.load(Relaxed) || OTHER_CCP.load(Relaxed) && has_snp_en(&syscfg())
}

impl CpuVeto for Vetoes {
    fn may_come(cpu: CpuId) -> Result {
        if !cpus_have_snp_en() {
            return Ok(());
        }
        log::warn!(
            "cpu-stays-offline",
            "CPU {} stays offline: without SNP_EN it would bypass the RMP checks of all others. \
             Unload kvm_amd first, or boot with sev=nosnp",
            cpu.as_u32(),
        );
        Err(EBUSY)
    }

    fn may_go(cpu: CpuId) -> Result {
        if !WINDOW_OPEN.load(Relaxed) {
            return Ok(());
        }
        log::warn!(
            "cpu-stays-online",
            "CPU {} stays online: SNP is enabled, and it might come back without SNP_EN. Unload \
             kvm_amd first, or boot with sev=nosnp",
            cpu.as_u32(),
        );
        Err(EBUSY)
    }
}

impl Callback for Vetoes {
    type Chain = SystemSleep;

    fn call(&mut self, action: c_ulong) -> Result {
        let Some(what) = about_to_sleep(action) else {
            return Ok(());
        };
        if !cpus_have_snp_en() {
            return Ok(());
        }
        log::warn!(
            "sleep-refused",
            "{what} refused while SNP is enabled: CPUs could come back without SNP_EN. Unload \
             kvm_amd first, or boot with sev=nosnp; /sys/kernel/snp_host/reason says why if that \
             does not help"
        );
        Err(EBUSY)
    }
}

/// The contents of `/sys/kernel/snp_host/state`.
pub(crate) fn show_state() -> Result<CString> {
    with_host(|host| CString::try_from_fmt(fmt!("{}", host.window.name())))
}

/// The contents of `/sys/kernel/snp_host/reason`.
pub(crate) fn show_reason() -> Result<CString> {
    with_host(|host| CString::try_from_fmt(fmt!("{}", host.reason())))
}

/// The contents of `/sys/kernel/snp_host/open_seconds`: for how long the window has been open.
pub(crate) fn show_open_seconds() -> Result<CString> {
    with_host(|host| CString::try_from_fmt(fmt!("{}", host.open_seconds())))
}

/// `snp_host_describe()`.
fn describe() -> Result<CString> {
    let window = with_host(|host| {
        let (reason, seconds) = (host.reason(), host.open_seconds());
        match host.window.is_open() {
            true => CString::try_from_fmt(fmt!("refused for {seconds} s: {reason}")),
            false => CString::try_from_fmt(fmt!("allowed: {reason}")),
        }
    })?;
    let window = window.to_str().map_err(|_| EINVAL)?;
    match Table::find() {
        Ok(table) => CString::try_from_fmt(fmt!("CPU hotplug: {window}\nRMP: {table}")),
        Err(err) => CString::try_from_fmt(fmt!("CPU hotplug: {window}\nRMP: unusable, {err}")),
    }
}

/// The contents of `/sys/kernel/snp_host/snp_en_cpus`, measured now.
pub(crate) fn show_snp_en_cpus() -> Result<CString> {
    let syscfg = Syscfg::read()?;
    let cpus = syscfg.passing(has_snp_en);
    CString::try_from_fmt(fmt!("{cpus}"))
}

#[allow(unsafe_code, reason = "`no_mangle` counts as unsafe")]
mod exports {
    //! The C functions of `include/linux/snp_host.h`, exported by `exports.c`.

    use super::*;
    use crate::sys::bindings::{
        same_prototypes,
        snp_host_close,
        snp_host_keep, //
    };

    /// What C gets of a function of the host.
    fn errno(f: impl FnOnce(&mut SnpHost) -> Result) -> c_int {
        kernel::error::from_result(|| with_host(f).map(|()| 0))
    }

    #[no_mangle]
    extern "C" fn snp_host_window_open() -> c_int {
        errno(SnpHost::open)
    }

    #[no_mangle]
    extern "C" fn snp_host_prepare() -> c_int {
        errno(SnpHost::prepare)
    }

    #[no_mangle]
    extern "C" fn snp_host_window_close(why: snp_host_close) -> c_int {
        errno(|host| match why {
            snp_host_close::SNP_HOST_CLOSE_SNP_OFF => host.close_snp_off(),
            snp_host_close::SNP_HOST_CLOSE_INIT_REFUSED => host.close_init_refused(),
            _ => Err(EINVAL),
        })
    }

    #[no_mangle]
    extern "C" fn snp_host_window_keep(why: snp_host_keep) {
        // The only error is that the module is being set up or torn down, when nobody can call
        // this.
        let _ = with_host(|host| {
            host.apply(Event::Keep(why));
            Ok(())
        });
    }

    #[no_mangle]
    extern "C" fn snp_host_snp_en_cpus() -> c_int {
        match Syscfg::read() {
            Ok(syscfg) => {
                let cpus = syscfg.as_slice().iter().flatten();
                // CAST: There are fewer CPUs than that.
                cpus.filter(|value| has_snp_en(value)).count() as c_int
            }
            Err(err) => err.to_errno(),
        }
    }

    #[no_mangle]
    extern "C" fn snp_host_psp_owes(psp: u64, command: u32) -> c_int {
        errno(|host| host.owed.record(psp, command, host.module))
    }

    #[no_mangle]
    extern "C" fn snp_host_psp_owed(psp: u64) -> u32 {
        with_host(|host| Ok(host.owed.command(psp))).unwrap_or(0)
    }

    #[no_mangle]
    extern "C" fn snp_host_psp_answered(psp: u64) {
        let _ = with_host(|host| {
            host.owed.forget(psp);
            Ok(())
        });
    }

    /// # Safety
    ///
    /// `asid` and `gpa` are valid for writing.
    #[no_mangle]
    unsafe extern "C" fn snp_host_rmp_owner(pfn: u64, asid: *mut u32, gpa: *mut u64) -> c_int {
        errno(|host| {
            let owner = host.rmp_owner(pfn)?;
            // SAFETY: By the caller's promise.
            unsafe {
                asid.write(owner.asid);
                gpa.write(owner.gpa);
            }
            Ok(())
        })
    }

    /// # Safety
    ///
    /// `text` is valid for writing `size` bytes.
    #[no_mangle]
    unsafe extern "C" fn snp_host_describe(text: *mut c_char, size: usize) -> c_int {
        kernel::error::from_result(|| {
            let words = describe()?;
            let words = words.to_bytes_with_nul();
            if words.len() > size {
                return Err(ENOSPC);
            }
            // SAFETY: It fits, by the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(words.as_ptr(), text.cast(), words.len()) };
            Ok(0)
        })
    }

    same_prototypes! {
        snp_host_describe(_, _);
        snp_host_rmp_owner(_, _, _);
        snp_host_window_open();
        snp_host_prepare();
        snp_host_window_close(_);
        snp_host_window_keep(_);
        snp_host_snp_en_cpus();
        snp_host_psp_owes(_, _);
        snp_host_psp_owed(_);
        snp_host_psp_answered(_);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
