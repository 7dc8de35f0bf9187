// SPDX-License-Identifier: GPL-2.0

//! What a PSP does beside SEV, each by itself: the TEE, SFS, platform access. Trouble with one of
//! them is said once, and SEV and the others do not notice it.
//!
//! Exported functions and `/dev/sfs` name no PSP: they mean the master, which is the PSP with the
//! lowest PCI address that has been bound. No other takes its place while it is not bound.
//!
//! # Locking
//!
//! Of one PSP: SFS or the ring, then the mailbox. The lock of [`PSPS`] comes after all of them.

use kernel::{
    device::Device,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

use crate::{
    platform::MasterIo,
    platform_access::PlatformAccess,
    psp_mailbox::PspMailbox,
    sfs::Sfs,
    sys::{
        contents::Contents,
        log, //
    },
    tee::{
        self,
        Ring, //
    },
};

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::Record::init()` initialises it before the driver is registered.
        pub(super) unsafe(uninit) static PSPS: Mutex<super::Psps> = super::Psps::NONE;
    }
}
use lock::PSPS;

struct Psps {
    bound: KVec<Arc<Services>>,
    /// The lowest address that has been bound.
    master: Option<u64>,
}

impl Psps {
    const NONE: Self = Self {
        bound: KVec::new(),
        master: None,
    };
}

/// The PSPs, as long as the module is loaded.
pub(crate) struct Record(#[expect(dead_code, reason = "dropped")] Contents<PSPS>);

impl Record {
    /// Makes this file usable.
    ///
    /// # Safety
    ///
    /// To be called once, before the driver is registered.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn init() -> Self {
        // SAFETY: By the caller's promise.
        Self(unsafe { Contents::init(&PSPS, || Psps::NONE) })
    }
}

/// The services of one PSP. Each is [`None`] if the PSP does not have it, or is not bound any more.
#[pin_data]
pub(crate) struct Services {
    address: u64,
    #[pin]
    platform_access: Mutex<Option<PlatformAccess<MasterIo>>>,
    #[pin]
    sfs: Mutex<Option<Sfs>>,
    #[pin]
    ring: Mutex<Option<Ring<MasterIo>>>,
    #[pin]
    mailbox: Mutex<Option<PspMailbox<MasterIo>>>,
}

/// The master's services.
///
/// # Errors
///
/// [`ENODEV`] if it is not bound.
pub(crate) fn master() -> Result<Arc<Services>> {
    let psps = PSPS.lock();
    let is_master = |psp: &&Arc<Services>| Some(psp.address) == psps.master;
    psps.bound.iter().find(is_master).cloned().ok_or(ENODEV)
}

/// What a PSP says that it has.
pub(crate) struct Offer {
    pub(crate) platform_access: Option<PlatformAccess<MasterIo>>,
    pub(crate) mailbox: Option<PspMailbox<MasterIo>>,
    pub(crate) tee: bool,
    pub(crate) sfs: bool,
}

/// A PSP was bound. Dropping the result ends its services.
///
/// # Errors
///
/// [`ENOMEM`].
pub(crate) fn add(dev: &Device, address: u64, offer: Offer) -> Result<Bound> {
    let Offer {
        platform_access,
        mut mailbox,
        tee,
        sfs,
    } = offer;
    let ring = match (tee, mailbox.as_mut()) {
        (true, Some(mailbox)) => start_tee(dev, mailbox),
        _ => None,
    };
    let sfs = if sfs { start_sfs(dev) } else { None };
    let services = Arc::pin_init(
        pin_init!(Services {
            address,
            platform_access <- new_mutex!(platform_access),
            sfs <- new_mutex!(sfs),
            ring <- new_mutex!(ring),
            mailbox <- new_mutex!(mailbox),
        }),
        GFP_KERNEL,
    )?;
    let bound = Bound(services);
    let mut psps = PSPS.lock();
    psps.bound.push(bound.0.clone(), GFP_KERNEL)?;
    psps.master = Some(psps.master.map_or(address, |master| master.min(address)));
    drop(psps);
    Ok(bound)
}

fn start_tee(dev: &Device, mailbox: &mut PspMailbox<MasterIo>) -> Option<Ring<MasterIo>> {
    match Ring::new(mailbox) {
        Ok(ring) => {
            dev_info!(dev, "TEE enabled\n");
            Some(ring)
        }
        Err(err) => {
            log::warn!(
                dev,
                "tee-no-ring",
                "the TEE does not take a ring for commands ({err:?}): amdtee does not load; SEV does not need it"
            );
            None
        }
    }
}

fn start_sfs(dev: &Device) -> Option<Sfs> {
    match Sfs::new() {
        Ok(sfs) => {
            dev_info!(dev, "SFS enabled\n");
            Some(sfs)
        }
        Err(err) => {
            log::warn!(
                dev,
                "sfs-no-memory",
                "no memory of 2 MiB for SFS ({err:?}): /dev/sfs answers ENODEV; bind the PSP again, SEV does not need it"
            );
            None
        }
    }
}

/// The services of a PSP that is bound.
pub(crate) struct Bound(Arc<Services>);

impl Bound {
    /// Ends the services, and returns when nobody uses the registers any more. A second call has no
    /// effect.
    pub(crate) fn retire(&self) {
        let services = &*self.0;
        let mut psps = PSPS.lock();
        psps.bound.retain(|psp| psp.address != services.address);
        if psps.bound.is_empty() {
            // The memory goes with the last one.
            psps.bound = KVec::new();
        }
        drop(psps);
        *services.platform_access.lock() = None;
        let sfs = services.sfs.lock().take();
        let ring = services.ring.lock().take();
        let Some(mut mailbox) = services.mailbox.lock().take() else {
            return;
        };
        if let Some(sfs) = sfs {
            sfs.leave(&mut mailbox);
        }
        if let Some(ring) = ring {
            // The ring is lost if the TEE does not give it up, which is logged then.
            let _ = ring.leave(&mut mailbox);
        }
    }

    /// The machine was hibernated and is back: the TEE has started anew, and needs a ring. The
    /// kernel that has read the image may have given it one.
    pub(crate) fn restored(&self, dev: &Device) {
        let mut ring = self.0.ring.lock();
        let mut mailbox = self.0.mailbox.lock();
        let (Some(there), Some(mailbox)) = ((*ring).as_mut(), (*mailbox).as_mut()) else {
            return;
        };
        if let Err(err) = there.replace(mailbox) {
            log::warn!(
                dev,
                "tee-no-new-ring",
                "the TEE does not take a ring after hibernation ({err:?}): unload amdtee and bind the PSP again, SEV does not need it"
            );
            *ring = None;
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.retire();
    }
}

impl Services {
    /// # Errors
    ///
    /// [`ENODEV`] if there is no TEE.
    pub(crate) fn need_tee(&self) -> Result {
        self.ring.lock().as_ref().map(|_| ()).ok_or(ENODEV)
    }

    /// # Errors
    ///
    /// [`ENODEV`] if there is no SFS.
    pub(crate) fn need_sfs(&self) -> Result {
        self.sfs.lock().as_ref().map(|_| ()).ok_or(ENODEV)
    }

    /// Calls `act` with platform access.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if there is none; what `act` returns.
    pub(crate) fn platform_access<R>(
        &self,
        act: impl FnOnce(&mut PlatformAccess<MasterIo>) -> Result<R>,
    ) -> Result<R> {
        let mut access = self.platform_access.lock();
        act((*access).as_mut().ok_or(ENODEV)?)
    }

    /// Calls `act` with SFS and its mailbox.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if there is none; what `act` returns.
    pub(crate) fn sfs<R>(
        &self,
        act: impl FnOnce(&mut Sfs, &mut PspMailbox<MasterIo>) -> Result<R>,
    ) -> Result<R> {
        let mut sfs = self.sfs.lock();
        let sfs = (*sfs).as_mut().ok_or(ENODEV)?;
        let mut mailbox = self.mailbox.lock();
        act(sfs, (*mailbox).as_mut().ok_or(ENODEV)?)
    }
}

impl tee::Access for Services {
    type Io = MasterIo;

    fn with<R>(&self, act: impl FnOnce(&mut Ring<MasterIo>) -> Result<R>) -> Result<R> {
        let mut ring = self.ring.lock();
        act((*ring).as_mut().ok_or(ENODEV)?)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
