// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug: keeping the set of CPUs as it is.
//!
//! C headers: `include/linux/cpu.h`, `include/linux/cpuhplock.h`, `include/linux/cpuhotplug.h`

use core::marker::PhantomData;
use kernel::{
    bindings,
    cpu::CpuId,
    cpumask::Cpumask,
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// A section in which no CPU comes or goes (`cpus_read_lock()`). Sleeps to get it.
///
/// The lock is a reader-writer semaphore of this task, so the guard does not move to another.
pub struct CpusRead(PhantomData<*mut ()>);

impl CpusRead {
    /// Enters the section.
    #[must_use]
    pub fn lock() -> Self {
        // SAFETY: Callable in any sleepable context.
        unsafe { bindings::cpus_read_lock() };
        Self(PhantomData)
    }

    /// The CPUs that are online. They stay so until the section ends.
    pub fn online(&self) -> &Cpumask {
        // SAFETY: The mask is a static of the kernel and does not change inside the section.
        unsafe { Cpumask::from_raw(&raw const bindings::__cpu_online_mask) }
    }

    /// The CPUs that are present, online or not.
    pub fn present(&self) -> &Cpumask {
        // SAFETY: As in `online()`; physical hotplug takes the same lock to write.
        unsafe { Cpumask::from_raw(&raw const bindings::__cpu_present_mask) }
    }
}

impl Drop for CpusRead {
    fn drop(&mut self) {
        // SAFETY: `lock()` took it, on this task.
        unsafe { bindings::cpus_read_unlock() };
    }
}

/// One outstanding `cpu_hotplug_disable()`.
///
/// While it exists, requests to bring a CPU online or offline fail with `EBUSY`. Three paths do not
/// look at it: suspend and hibernation, the end of a kexec jump, and enabling SMT at run time. See
/// [`CpuVeto`].
pub struct HotplugDisabled(());

impl HotplugDisabled {
    /// Waits for a CPU that is just coming or going, then disables hotplug.
    ///
    /// Sleeps. Not to be called inside a [`CpusRead`] section: the lock that this takes comes
    /// before that one.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: Callable in any sleepable context outside `cpus_read_lock()`.
        unsafe { bindings::cpu_hotplug_disable() };
        Self(())
    }
}

impl Drop for HotplugDisabled {
    fn drop(&mut self) {
        // SAFETY: `new()` disabled it once, and this is the one time it is enabled again.
        unsafe { bindings::cpu_hotplug_enable() };
    }
}

/// A veto on CPUs that come or go, on every path that brings CPUs up or down.
pub trait CpuVeto {
    /// Before `cpu` is brought up. Runs on the CPU that does it, may sleep, and must not call
    /// anything that takes `cpus_read_lock()`: the write side is held.
    ///
    /// # Errors
    ///
    /// An error leaves the CPU offline and is returned to whoever wanted it online.
    fn may_come(cpu: CpuId) -> Result;

    /// While `cpu` is still online and is to go. Runs on that CPU, with the same restrictions.
    ///
    /// # Errors
    ///
    /// An error leaves the CPU online and is returned to whoever wanted it offline.
    fn may_go(cpu: CpuId) -> Result;
}

/// A registered [`CpuVeto`].
pub struct CpuVetoRegistration {
    _come: State,
    _go: State,
}

impl CpuVetoRegistration {
    /// Registers `T`. CPUs that are online already are not asked.
    pub fn new<T: CpuVeto>(name: &'static CStr) -> Result<Self> {
        Ok(Self {
            _come: State::new(
                bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN,
                name,
                Some(come::<T>),
                None,
            )?,
            _go: State::new(
                bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
                name,
                None,
                Some(go::<T>),
            )?,
        })
    }
}

type Callback = unsafe extern "C" fn(cpu: c_uint) -> c_int;

/// # Safety
///
/// `cpu` is the number of a possible CPU.
unsafe extern "C" fn come<T: CpuVeto>(cpu: c_uint) -> c_int {
    // SAFETY: The caller, the hotplug core, promises that.
    from_result(|| T::may_come(unsafe { CpuId::from_u32_unchecked(cpu) }).map(|()| 0))
}

/// # Safety
///
/// `cpu` is the number of a possible CPU.
unsafe extern "C" fn go<T: CpuVeto>(cpu: c_uint) -> c_int {
    // SAFETY: The caller, the hotplug core, promises that.
    from_result(|| T::may_go(unsafe { CpuId::from_u32_unchecked(cpu) }).map(|()| 0))
}

/// A registered state of the hotplug state machine.
struct State(bindings::cpuhp_state);

impl State {
    fn new(
        range: bindings::cpuhp_state,
        name: &'static CStr,
        startup: Option<Callback>,
        teardown: Option<Callback>,
    ) -> Result<Self> {
        // SAFETY: The name is static and the callbacks live until the state is removed in `drop()`.
        let state = unsafe {
            bindings::__cpuhp_setup_state(
                range,
                name.as_char_ptr(),
                false,
                startup,
                teardown,
                false,
            )
        };
        // A dynamic range is answered with the state's number, which is positive.
        to_result(state)?;
        Ok(Self(state))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: The state was set up in `new()`; its callbacks are not run.
        unsafe { bindings::__cpuhp_remove_state(self.0, false) };
    }
}
