// SPDX-License-Identifier: GPL-2.0

//! The PCI functions that this driver binds: probe, unbind, shutdown, reset.
//!
//! `psps.rs` chooses the master among the PSPs of a system, `services.rs` that for what is not SEV.

use crate::{
    irq::Interrupt,
    platform::{
        slot,
        MasterIo, //
    },
    platform_access::PlatformAccess,
    psp_mailbox::PspMailbox,
    psps,
    regs::{
        Capability,
        Interrupts,
        RegisterMap,
        Registers,
        Versions,
        BAR_SIZE, //
    },
    services, sfs_uapi,
    sys::{
        completion::Completion,
        cpu,
        crash_dump::is_kdump_kernel,
        device_attribute::{
            Attribute,
            Group,
            Groups,
            HasData,
            List, //
        },
        log,
        pci_adapter,
        pci_msi::MsiHandler, //
    },
};
use kernel::{
    bindings::X86_FEATURE_SEV,
    device::{
        Bound,
        Core, //
    },
    pci,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// The mailbox and interrupt registers are in this BAR on all generations.
const BAR: u32 = 2;

/// How many bits of address the PSP can reach (sp-pci.c of Linux 7.3).
const DMA_BITS: u32 = 48;

/// One generation of the PSP. The generations have the same mailbox protocol and the same
/// interrupt; only the registers have different places.
pub(crate) struct Generation {
    /// The name that the kernel's C driver uses for the generation.
    pub(crate) name: &'static str,
    /// The places of the registers.
    pub(crate) registers: RegisterMap,
}

// Register offsets: drivers/crypto/ccp/sp-pci.c of Linux 7.3.

/// Naples (Zen 1).
static PSPV1: Generation = Generation {
    name: "pspv1",
    registers: RegisterMap::new(0x10500, 0x10610, 0x10614),
};
/// Rome and Milan (Zen 2, Zen 3).
pub(crate) static PSPV2: Generation = Generation {
    name: "pspv2",
    registers: RegisterMap::new(0x10900, 0x10690, 0x10694).with_platform_access(0x10500),
};
/// Genoa, Bergamo and Siena (Zen 4).
pub(crate) static PSPV4: Generation = Generation {
    name: "pspv4",
    registers: RegisterMap::new(0x10900, 0x10690, 0x10694).with_tee(0x10500),
};
/// Turin (Zen 5) and later.
static PSPV6: Generation = Generation {
    name: "pspv6",
    registers: RegisterMap::new(0x10900, 0x10510, 0x10514).with_tee(0x10900),
};

/// The driver, for the PCI core.
pub(crate) struct PspDriver;

// PCI functions without SEV are never bound: crypto engines alone (0x1537, 0x1468) and client parts
// (0x15df, 0x15c7, 0x1649, 0x1134, 0x17e0, 0x115a).
pci_adapter::pci_device_table!(
    PCI_TABLE,
    <PspDriver as pci_adapter::Driver>::IdInfo,
    [
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x1456), &PSPV1),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x1486), &PSPV2),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x14ca), &PSPV4),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x156e), &PSPV6),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x17d8), &PSPV6),
    ]
);

/// The files of a bound device in sysfs, with the names and formats of the in-tree driver. fwupd
/// reads them.
static FILES: [Attribute<PspDriver>; 11] = [
    Attribute::new(c"bootloader_version", |psp| {
        version(psp, Versions::bootloader)
    }),
    Attribute::new(c"tee_version", |psp| match psp.about()?.capability.tee() {
        true => version(psp, Versions::tee),
        false => Err(ENODEV),
    }),
    Attribute::new(c"fused_part", |psp| security(psp, Capability::fused_part)),
    Attribute::new(c"boot_integrity", |psp| {
        security(psp, Capability::boot_integrity)
    }),
    Attribute::new(c"debug_lock_on", |psp| {
        security(psp, Capability::debug_lock_on)
    }),
    Attribute::new(c"tsme_status", |psp| security(psp, Capability::tsme_status)),
    Attribute::new(c"anti_rollback_status", |psp| {
        security(psp, Capability::anti_rollback_status)
    }),
    Attribute::new(c"rpmc_production_enabled", |psp| {
        security(psp, Capability::rpmc_production_enabled)
    }),
    Attribute::new(c"rpmc_spirom_available", |psp| {
        security(psp, Capability::rpmc_spirom_available)
    }),
    Attribute::new(c"hsp_tpm_available", |psp| {
        security(psp, Capability::hsp_tpm_available)
    }),
    Attribute::new(c"rom_armor_enforced", |psp| {
        security(psp, Capability::rom_armor_enforced)
    }),
];
static FILE_LIST: List<PspDriver, 12> = List::new(&FILES);
static FILE_GROUP: Group<PspDriver> = Group::new(&FILE_LIST);
static FILE_GROUPS: Groups<PspDriver> = Groups::new(&FILE_GROUP);

/// A version, read at that moment.
///
/// # Errors
///
/// [`ENODEV`] if the PSP does not tell it.
fn version(psp: &Psp<'_>, read: fn(&Versions<MasterIo>) -> Option<[u8; 4]>) -> Result<CString> {
    let [a, b, c, d] = read(&psp.about()?.versions).ok_or(ENODEV)?;
    CString::try_from_fmt(fmt!("{a:02x}.{b:02x}.{c:02x}.{d:02x}"))
}

/// What the PSP says about the security of the platform.
///
/// # Errors
///
/// [`ENODEV`] if the PSP says nothing about it.
fn security(psp: &Psp<'_>, fact: fn(Capability) -> bool) -> Result<CString> {
    let capability = psp.about()?.capability;
    if !capability.security_reporting() {
        return Err(ENODEV);
    }
    CString::try_from_fmt(fmt!("{}", u8::from(fact(capability))))
}

/// What a PSP that answers says about itself.
struct About {
    /// As of probe.
    capability: Capability,
    versions: Versions<MasterIo>,
}

/// A bound device. Fields are dropped in this order: first the users of the registers, then the
/// registers.
pub(crate) struct Psp<'bound> {
    /// [`None`] if the PSP does not answer or has no SEV: the function is bound, but not used.
    sev: Option<Sev<'bound>>,
    /// Ended after SEV: until SNP is shut down pages of SFS are HV-Fixed.
    services: Option<Services>,
    about: Option<About>,
    _bar: pci::Bar<'bound, BAR_SIZE>,
}

impl Psp<'_> {
    /// # Errors
    ///
    /// [`ENODEV`] if the PSP did not answer.
    fn about(&self) -> Result<&About> {
        self.about.as_ref().ok_or(ENODEV)
    }
}

/// What the PSP does beside SEV. Fields are dropped in this order.
struct Services {
    _node: Option<sfs_uapi::Node>,
    bound: services::Bound,
}

/// A PSP with SEV. Dropping it takes it out of [`psps`], before its interrupt goes.
struct Sev<'bound> {
    dev: &'bound pci::Device<Bound>,
    address: u64,
    interrupts: Interrupts<MasterIo>,
    /// This is the master, and `reset_prepare()` has taken the command lock.
    paused: Atomic<bool>,
    _interrupt: Pin<KBox<MsiHandler<'bound, Interrupt>>>,
}

impl Sev<'_> {
    /// Shuts firmware down if this is the master, and masks the interrupts. Returns when nobody
    /// uses the registers any more but the interrupt handler, and whether firmware had to be shut
    /// down. A second call has no effect.
    fn retire(&self) -> bool {
        let in_use = psps::remove(self.address);
        self.interrupts.mask();
        in_use
    }
}

impl Drop for Sev<'_> {
    fn drop(&mut self) {
        if self.retire() {
            log::warn!(
                self.dev,
                "released-in-use",
                "released while SNP or SEV was initialised: guests that use them cannot go on; for new ones bind the PSP and reload kvm_amd"
            );
        }
    }
}

impl HasData for PspDriver {
    type Data<'bound> = Psp<'bound>;
}

impl pci_adapter::Driver for PspDriver {
    type IdInfo = &'static Generation;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;
    const FILES: &'static Groups<Self> = &FILE_GROUPS;

    fn probe<'bound>(
        dev: &'bound pci::Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        probe(dev, info)
    }

    fn shutdown<'bound>(_dev: &'bound pci::Device<Core<'_>>, psp: Pin<&Self::Data<'bound>>) {
        // The next kernel finds firmware that is shut down and a PSP that raises no interrupt.
        if let Some(sev) = &psp.sev {
            sev.retire();
        }
        if let Some(services) = &psp.services {
            services.bound.retire();
        }
    }

    fn reset_prepare<'bound>(_dev: &'bound pci::Device<Core<'_>>, psp: Pin<&Self::Data<'bound>>) {
        let Some(sev) = &psp.sev else { return };
        // The PCI core holds the device lock until `reset_done()`, so the master stays the master.
        if psps::is_master(sev.address) {
            slot::pause();
            sev.paused.store(true, Relaxed);
        }
    }

    fn reset_done<'bound>(_dev: &'bound pci::Device<Core<'_>>, psp: Pin<&Self::Data<'bound>>) {
        let Some(sev) = &psp.sev else { return };
        sev.interrupts.mask();
        sev.interrupts.unmask();
        if sev.paused.xchg(false, Relaxed) {
            // SAFETY: The PCI core has called `reset_prepare()` in this task, which has called
            // `pause()`.
            #[allow(unsafe_code)]
            unsafe {
                slot::resume()
            };
        }
    }

    fn restored<'bound>(dev: &'bound pci::Device<Bound>, psp: Pin<&Self::Data<'bound>>) {
        if let Some(services) = &psp.services {
            services.bound.restored(dev.as_ref());
        }
    }

    fn resumed<'bound>(_dev: &'bound pci::Device<Bound>, psp: Pin<&Self::Data<'bound>>) {
        // The PSP's registers are as after a reset.
        if let Some(sev) = &psp.sev {
            sev.interrupts.mask();
            sev.interrupts.unmask();
            if psps::is_master(sev.address) {
                slot::after_sleep();
            }
        }
    }
}

fn probe<'bound>(
    dev: &'bound pci::Device<Core<'_>>,
    generation: Option<&&'static Generation>,
) -> Result<Psp<'bound>> {
    // A device that was added through new_id without driver data has no generation.
    let generation: &'static Generation = generation.ok_or(ENODEV)?;
    pci_adapter::enable_master::<DMA_BITS>(dev)
        .inspect_err(|err| log::err!(dev, "pci-enable", "cannot enable the device: {err:?}"))?;
    let bar = dev
        .iomap_region_sized::<BAR_SIZE>(BAR, c"ccp")
        .inspect_err(|err| match *err {
            EBUSY => log::err!(
                dev,
                "bar-claimed",
                "cannot claim BAR {BAR}: /proc/iomem says who has it, or memory was short"
            ),
            _ => log::err!(dev, "bar-unmapped", "cannot map BAR {BAR}: {err:?}"),
        })?;
    // SAFETY: The registers end up in `psps` and the platform, which `Sev` empties when it is
    // dropped, and some in fields of `Sev` and `Psp`; `Psp` drops those before the BAR, and so does
    // this function on errors, because `bar` was there first.
    #[allow(unsafe_code)]
    let io = unsafe { MasterIo::new(&bar) };
    let registers = Registers::new(io, &generation.registers);
    let map = generation.registers.platform_access.as_ref();
    let mut access = map.map(|map| PlatformAccess::new(io, map));
    let about = registers.capability().map(|capability| About {
        capability: with_security(dev, access.as_mut(), capability),
        versions: registers.versions(),
    });
    let capability = about.as_ref().map(|about| about.capability);

    Ok(Psp {
        sev: probe_sev(dev, generation, registers, capability)?,
        services: probe_services(dev, generation, io, access, capability),
        about,
        _bar: bar,
    })
}

/// Sets up what the PSP does beside SEV. A PSP that does not answer has nothing.
fn probe_services(
    dev: &pci::Device<Bound>,
    generation: &'static Generation,
    io: MasterIo,
    platform_access: Option<PlatformAccess<MasterIo>>,
    capability: Option<Capability>,
) -> Option<Services> {
    let capability = capability.filter(|_| !is_kdump_kernel())?;
    let mailbox = generation.registers.mailbox.as_ref();
    let offer = services::Offer {
        platform_access,
        mailbox: mailbox.map(|map| PspMailbox::new(io, map)),
        tee: capability.tee(),
        sfs: capability.sfs(),
    };
    let add = || {
        let bound = services::add(dev.as_ref(), pci_adapter::address(dev), offer)?;
        Ok(Services {
            _node: capability.sfs().then(sfs_uapi::Node::new).transpose()?,
            bound,
        })
    };
    let added: Result<Services> = add();
    added
        .inspect_err(|err| {
            log::warn!(
                dev,
                "services-left-out",
                "TEE, SFS and platform access are left out ({err:?}); bind the PSP again, SEV does not need them"
            )
        })
        .ok()
}

/// What the PSP says about security, wherever it says that. SEV does not depend on it.
fn with_security(
    dev: &pci::Device<Bound>,
    access: Option<&mut PlatformAccess<MasterIo>>,
    capability: Capability,
) -> Capability {
    let Some(access) = access else {
        return capability;
    };
    if capability.security_reporting() || is_kdump_kernel() {
        return capability;
    }
    match access.with_security(capability) {
        Ok(capability) => capability,
        Err(err) => {
            log::warn!(
                dev,
                "security-unknown",
                "the PSP does not say whether the platform is secured ({err:?}), so sysfs has no files about that; SEV does not need them"
            );
            capability
        }
    }
}

/// Sets up the SEV part, if the PSP has one. A PSP that does not answer is no error: the function
/// stays bound, and kvm-amd loads without SEV.
fn probe_sev<'bound>(
    dev: &'bound pci::Device<Bound>,
    generation: &Generation,
    registers: Registers<MasterIo>,
    capability: Option<Capability>,
) -> Result<Option<Sev<'bound>>> {
    if is_kdump_kernel() {
        // Firmware may be in any state, and nobody runs guests here.
        dev_info!(dev, "this is a kdump kernel: the PSP is left alone\n");
        return Ok(None);
    }
    let Some(capability) = capability else {
        log::err!(
            dev,
            "registers-denied",
            "the PSP's registers read all ones: the BIOS denies access or the device is gone, SEV is not available; look for a BIOS update"
        );
        return Ok(None);
    };
    if !capability.sev() {
        dev_info!(dev, "this PSP has no SEV\n");
        return Ok(None);
    }
    if !cpu::has(X86_FEATURE_SEV) {
        log::notice!(
            dev,
            "no-memory-encryption",
            "SEV is not available: memory encryption is not enabled in the BIOS"
        );
        return Ok(None);
    }

    let interrupts = registers.interrupts();
    interrupts.mask();
    let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
    let interrupt = MsiHandler::new(dev, c"psp", Interrupt::new(interrupts, done.clone()))
        .inspect_err(|err| {
            log::err!(
                dev,
                "no-interrupt",
                "cannot get an MSI-X or MSI vector ({err:?}), and the PSP has no other interrupt; look for pci=nomsi on the command line"
            )
        })?;
    interrupts.unmask();

    let address = pci_adapter::address(dev);
    dev_info!(
        dev,
        "SEV enabled ({}, {:?})\n",
        generation.name,
        interrupt.irq_type()
    );
    let sev = Sev {
        dev,
        address,
        interrupts,
        paused: Atomic::new(false),
        _interrupt: interrupt,
    };
    psps::add(psps::Candidate {
        address,
        dev: dev.as_ref().into(),
        registers: Some(registers),
        done,
    })?;
    Ok(Some(sev))
}
