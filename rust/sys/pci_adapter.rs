// SPDX-License-Identifier: GPL-2.0

//! PCI drivers that are told when the system goes down, when it comes back from its disk, and when
//! their function is reset, and whose devices have files in sysfs.
//!
//! `kernel::pci::Driver` has `probe` and `unbind` only. [`Driver`] and [`Adapter`] are the kernel's
//! with the `shutdown`, `err_handler`, `dev_groups` and `pm` of `struct pci_driver`; they should go
//! once the kernel's have them.
//!
//! C headers: `include/linux/pci.h`, `include/linux/pm.h`

use super::device_attribute::{self, HasData};
use kernel::{
    bindings,
    device::{
        Bound,
        Core,
        CoreInternal, //
    },
    dma::{
        Device as _,
        DmaMask, //
    },
    driver,
    error::{
        from_result,
        to_result, //
    },
    pci,
    prelude::*,
    types::Opaque, //
};

/// Whether a PCI driver with this name is registered now.
#[must_use]
pub fn is_registered(name: &CStr) -> bool {
    // SAFETY: The name is a string, and the bus there as long as the kernel is. The result is only
    // compared, as the driver may be gone at any time.
    let driver =
        unsafe { bindings::driver_find(name.as_char_ptr(), &raw const bindings::pci_bus_type) };
    !driver.is_null()
}

/// A PCI driver with a say at reboot, kexec and resets of its function, and with files in sysfs.
pub trait Driver: HasData + Sized + 'static {
    /// What the driver knows of each device of its table.
    type IdInfo: 'static;

    /// The devices that the driver is for, made with [`pci_device_table`].
    const ID_TABLE: pci::IdTable<Self::IdInfo>;

    /// The files of a device that is bound.
    const FILES: &'static device_attribute::Groups<Self>;

    /// A device is there. `info` is that of its entry in the table, [`None`] for one that user
    /// space has added by `new_id`. May sleep; called with the device lock held.
    fn probe<'bound>(
        dev: &'bound pci::Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// The system is about to reboot, power off or start another kernel. The device stays bound,
    /// but is not used any more. May sleep; called with the device lock held.
    fn shutdown<'bound>(dev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// The PCI core is about to reset the function: nobody may use it until [`Self::reset_done`].
    /// May sleep; called with the device lock held.
    fn reset_prepare<'bound>(dev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// The PCI core has reset the function, or failed to, and restored its configuration space.
    /// Called by the task that called [`Self::reset_prepare`], with the device lock held. May
    /// sleep.
    fn reset_done<'bound>(dev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// The system was hibernated and is back: the device has lost its state, but for its
    /// configuration space, which the PCI core has restored. User space is frozen, interrupts are
    /// on. May sleep.
    fn restored<'bound>(dev: &'bound pci::Device<Bound>, this: Pin<&Self::Data<'bound>>);

    /// The system was suspended, or hibernated, and is back; after [`Self::restored`]. May sleep.
    fn resumed<'bound>(dev: &'bound pci::Device<Bound>, this: Pin<&Self::Data<'bound>>);
}

/// The registration of a [`Driver`].
pub struct Adapter<T: Driver>(T);

impl<T: Driver> Adapter<T> {
    const ERROR_HANDLERS: bindings::pci_error_handlers = bindings::pci_error_handlers {
        error_detected: None,
        mmio_enabled: None,
        slot_reset: None,
        reset_prepare: Some(reset_prepare::<T>),
        reset_done: Some(reset_done::<T>),
        resume: None,
        cor_error_detected: None,
    };

    const PM: bindings::dev_pm_ops = bindings::dev_pm_ops {
        suspend: Some(suspend::<T>),
        restore_early: Some(restore_early::<T>),
        restore: Some(resume::<T>),
        resume: Some(resume::<T>),
        ..pin_init::zeroed()
    };
}

// SAFETY: `bindings::pci_driver` is `repr(C)` and embeds a `struct device_driver` at that offset;
// `T::Data` is what `probe()` below stores.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = T::Data<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = core::mem::offset_of!(Self::DriverType, driver);
}

// SAFETY: `unregister` undoes what a successful `register` did.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        driver: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: Nobody else knows the structure yet.
        unsafe {
            (*driver.get()).name = name.as_char_ptr();
            (*driver.get()).id_table = T::ID_TABLE.as_ptr();
            (*driver.get()).probe = Some(probe::<T>);
            (*driver.get()).shutdown = Some(shutdown::<T>);
            (*driver.get()).err_handler = &Self::ERROR_HANDLERS;
            (*driver.get()).dev_groups = T::FILES.as_ptr().cast_mut();
            (*driver.get()).driver.pm = &Self::PM;
        }
        // SAFETY: The structure is filled in and, as the caller promises, stays valid and in place
        // until `unregister`.
        to_result(unsafe {
            bindings::__pci_register_driver(driver.get(), module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(driver: &Opaque<Self::DriverType>) {
        // SAFETY: The caller promises that it was registered.
        unsafe { bindings::pci_unregister_driver(driver.get()) };
    }
}

/// # Safety
///
/// To be called by the PCI core only, with a device that is being bound and the matching entry of
/// the driver's table.
unsafe extern "C" fn probe<T: Driver>(
    dev: *mut bindings::pci_dev,
    id: *const bindings::pci_device_id,
) -> c_int {
    // SAFETY: The PCI core passes a valid device, in the context that the type stands for.
    let dev = unsafe { &*dev.cast::<pci::Device<CoreInternal<'_>>>() };
    // SAFETY: The PCI core passes a valid id, and `pci::DeviceId` is transparent.
    let id = unsafe { &*id.cast::<pci::DeviceId>() };
    // SAFETY: `id` is an entry of `T::ID_TABLE` or a dynamic one, which is only accepted without
    // `driver_data` or with that of an entry.
    let info = unsafe { info::<T>(id) };

    from_result(|| {
        dev.as_ref().set_drvdata(T::probe(dev, info))?;
        Ok(0)
    })
}

/// What the table has of the device.
///
/// # Safety
///
/// `id` is an entry of the driver's table, or has the `driver_data` of one, or none.
#[cfg(device_id_pointers)]
unsafe fn info<T: Driver>(id: &pci::DeviceId) -> Option<&'static T::IdInfo> {
    use kernel::device_id::RawDeviceIdIndex;
    // SAFETY: The table's data are `T::IdInfo`; all else is the caller's promise.
    unsafe { id.info_unchecked_opt::<T::IdInfo>() }
}

/// As above. `driver_data` is a number of an entry, and none is the same as the first.
///
/// # Safety
///
/// None: the table's own function looks at the number.
#[cfg(not(device_id_pointers))]
unsafe fn info<T: Driver>(id: &pci::DeviceId) -> Option<&'static T::IdInfo> {
    use kernel::device_id::RawDeviceIdIndex;
    let index = id.index();
    let first: *const pci::DeviceId = T::ID_TABLE.as_ptr().cast();
    (index != 0 || core::ptr::eq(id, first)).then(|| T::ID_TABLE.info(index))
}

/// Makes the table of a driver's devices: `pci_device_table!(NAME, INFO_TYPE, [(id, info), …])`.
#[allow(unused_macros, reason = "one of the modules has no PCI driver")]
macro_rules! pci_device_table {
    ($name:ident, $($table:tt)*) => {
        #[cfg(device_id_pointers)]
        kernel::pci_device_table!($name, $($table)*);
        #[cfg(not(device_id_pointers))]
        kernel::pci_device_table!($name, MODALIASES, $($table)*);
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use pci_device_table;

/// Expands to a callback of the PCI core that calls a method of [`Driver`].
macro_rules! callback {
    ($callback:ident, $method:ident) => {
        /// # Safety
        ///
        /// To be called by the PCI core only, for a device that was probed, with the device lock
        /// held.
        unsafe extern "C" fn $callback<T: Driver>(dev: *mut bindings::pci_dev) {
            // SAFETY: As in `probe()`.
            let dev = unsafe { &*dev.cast::<pci::Device<CoreInternal<'_>>>() };
            // SAFETY: `probe()` stored a `T::Data`. The driver core drops it after `remove()`, and
            // not while the device lock is held here.
            let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };
            T::$method(dev, data);
        }
    };
}

callback!(shutdown, shutdown);
callback!(reset_prepare, reset_prepare);
callback!(reset_done, reset_done);

/// Keeps the device in D0 while the system is suspended: the PCI core takes it for the driver's
/// business if the state is saved already, and would put it into D3hot otherwise. A function that
/// comes back from there without No_Soft_Reset has been reset.
///
/// # Safety
///
/// To be called by the PM core only, for the `struct device` of a PCI device of `T`.
unsafe extern "C" fn suspend<T: Driver>(dev: *mut bindings::device) -> c_int {
    // SAFETY: By the caller's promise it is part of a `struct pci_dev`.
    let dev = unsafe { kernel::container_of!(dev, bindings::pci_dev, dev) };
    // SAFETY: The PM core passes a valid device, whose configuration space nobody else saves now.
    unsafe { bindings::pci_save_state(dev) }
}

/// Expands to a callback of the PM core that calls a method of [`Driver`].
macro_rules! pm_callback {
    ($callback:ident, $method:ident) => {
        /// # Safety
        ///
        /// To be called by the PM core only, for the `struct device` of a PCI device that this
        /// driver is bound to.
        unsafe extern "C" fn $callback<T: Driver>(dev: *mut bindings::device) -> c_int {
            // SAFETY: By the caller's promise it is part of a `struct pci_dev`.
            let dev = unsafe { kernel::container_of!(dev, bindings::pci_dev, dev) };
            // SAFETY: The PM core passes a valid device, which stays bound: user space is frozen,
            // and from `dpm_prepare()` to `dpm_complete()` nothing is probed.
            let dev = unsafe { &*dev.cast_const().cast::<pci::Device<CoreInternal<'_>>>() };
            // SAFETY: `probe()` stored a `T::Data`, which is dropped when the device is unbound.
            let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };
            T::$method(dev, data);
            0
        }
    };
}

pm_callback!(restore_early, restored);
pm_callback!(resume, resumed);

/// Enables the device until it is unbound, as a bus master that reaches memory up to `BITS` bits.
///
/// `pci::Device::enable_device_mem` enables it for good.
pub fn enable_master<const BITS: u32>(dev: &pci::Device<Core<'_>>) -> Result {
    let raw: *mut bindings::pci_dev = core::ptr::from_ref(dev).cast_mut().cast();
    // SAFETY: `pci::Device` is a transparent wrapper of `struct pci_dev`, and the device is being
    // bound, so it may be given managed resources.
    to_result(unsafe { bindings::pcim_enable_device(raw) })?;
    // SAFETY: The driver has not allocated or mapped anything for DMA yet.
    unsafe { dev.dma_set_mask_and_coherent(DmaMask::new::<BITS>()) }?;
    dev.set_master();
    Ok(())
}

/// The place of the device in the order that the PCI core gives devices: domain, bus, device,
/// function. C: `pci_domain_nr()` and `pci_dev_id()`.
pub fn address(dev: &pci::Device<Bound>) -> u64 {
    let raw: *mut bindings::pci_dev = core::ptr::from_ref(dev).cast_mut().cast();
    // SAFETY: `pci::Device` is a transparent wrapper of `struct pci_dev`. A device that is bound is
    // on a bus, whose `sysdata` is a `struct pci_sysdata` on x86 and stays as long as the bus.
    let domain = unsafe { (*(*(*raw).bus).sysdata.cast::<bindings::pci_sysdata>()).domain };
    u64::from(domain.unsigned_abs()) << 16 | u64::from(dev.dev_id())
}
