// SPDX-License-Identifier: GPL-2.0

//! The PCI functions that this driver binds: probe, unbind, shutdown, reset.
//!
//! `psps.rs` chooses the master among the PSPs of a system.

use crate::{
    irq::Interrupt,
    platform::{
        slot,
        MasterIo, //
    },
    psps,
    regs::{
        Interrupts,
        RegisterMap,
        Registers,
        BAR_SIZE, //
    },
    sys::{
        completion::Completion,
        cpu,
        crash_dump::is_kdump_kernel,
        pci_adapter,
        pci_bar,
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
    registers: RegisterMap::new(0x10900, 0x10690, 0x10694),
};
/// Genoa, Bergamo and Siena (Zen 4).
static PSPV4: Generation = Generation {
    name: "pspv4",
    registers: RegisterMap::new(0x10900, 0x10690, 0x10694),
};
/// Turin (Zen 5) and later.
static PSPV6: Generation = Generation {
    name: "pspv6",
    registers: RegisterMap::new(0x10900, 0x10510, 0x10514),
};

/// The driver, for the PCI core.
pub(crate) struct PspDriver;

// PCI functions without SEV are never bound: crypto engines alone (0x1537, 0x1468) and client parts
// (0x15df, 0x15c7, 0x1649, 0x1134, 0x17e0, 0x115a).
kernel::pci_device_table!(
    PCI_TABLE,
    <PspDriver as pci::Driver>::IdInfo,
    [
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x1456), &PSPV1),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x1486), &PSPV2),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x14ca), &PSPV4),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x156e), &PSPV6),
        (pci::DeviceId::from_id(pci::Vendor::AMD, 0x17d8), &PSPV6),
    ]
);

/// A bound device. Fields are dropped in this order: first the users of the registers, then the
/// registers.
pub(crate) struct Psp<'bound> {
    /// [`None`] if the PSP does not answer or has no SEV: the function is bound, but not used.
    sev: Option<Sev<'bound>>,
    _bar: pci::Bar<'bound, BAR_SIZE>,
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
            dev_warn!(
                self.dev,
                "released while SNP or SEV was initialised: guests that use them cannot go on; for new ones bind the PSP and reload kvm_amd\n"
            );
        }
    }
}

impl pci::Driver for PspDriver {
    type IdInfo = &'static Generation;
    type Data<'bound> = Psp<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        dev: &'bound pci::Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        probe(dev, info)
    }
}

impl pci_adapter::Driver for PspDriver {
    fn shutdown<'bound>(_dev: &'bound pci::Device<Core<'_>>, psp: Pin<&Self::Data<'bound>>) {
        // The next kernel finds firmware that is shut down and a PSP that raises no interrupt.
        if let Some(sev) = &psp.sev {
            sev.retire();
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
}

fn probe<'bound>(
    dev: &'bound pci::Device<Core<'_>>,
    generation: Option<&&'static Generation>,
) -> Result<Psp<'bound>> {
    // A device that was added through new_id without driver data has no generation.
    let generation: &'static Generation = generation.ok_or(ENODEV)?;
    pci_adapter::enable_master::<DMA_BITS>(dev)
        .inspect_err(|err| dev_err!(dev, "cannot enable the device: {err:?}\n"))?;
    let bar = dev
        .iomap_region_sized::<BAR_SIZE>(BAR, c"ccp")
        .inspect_err(|err| match *err {
            EBUSY => dev_err!(
                dev,
                "cannot claim BAR {BAR}: /proc/iomem says who has it, or memory was short\n"
            ),
            _ => dev_err!(dev, "cannot map BAR {BAR}: {err:?}\n"),
        })?;
    // SAFETY: The registers end up in `psps` and the platform, which `Sev` empties when it is
    // dropped, and those of the interrupts in its fields; `Psp` drops it before the BAR, and so
    // does this function on errors, because `bar` was there first.
    #[allow(unsafe_code)]
    let io = unsafe { pci_bar::unbounded(&bar) };
    let registers = Registers::new(io, &generation.registers);

    Ok(Psp {
        sev: probe_sev(dev, generation, registers)?,
        _bar: bar,
    })
}

/// Sets up the SEV part, if the PSP has one. A PSP that does not answer is no error: the function
/// stays bound, and kvm-amd loads without SEV.
fn probe_sev<'bound>(
    dev: &'bound pci::Device<Bound>,
    generation: &Generation,
    registers: Registers<MasterIo>,
) -> Result<Option<Sev<'bound>>> {
    if is_kdump_kernel() {
        // Firmware may be in any state, and nobody runs guests here.
        dev_info!(dev, "this is a kdump kernel: the PSP is left alone\n");
        return Ok(None);
    }
    let Some(capability) = registers.capability() else {
        dev_err!(
            dev,
            "the PSP's registers read all ones: the BIOS denies access or the device is gone, SEV is not available; look for a BIOS update\n"
        );
        return Ok(None);
    };
    if !capability.sev() {
        dev_info!(dev, "this PSP has no SEV\n");
        return Ok(None);
    }
    if !cpu::has(X86_FEATURE_SEV) {
        dev_info!(
            dev,
            "SEV is not available: memory encryption is not enabled in the BIOS\n"
        );
        return Ok(None);
    }

    let interrupts = registers.interrupts();
    interrupts.mask();
    let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
    let interrupt = MsiHandler::new(dev, c"psp", Ok(Interrupt::new(interrupts, done.clone())))
        .inspect_err(|err| dev_err!(dev, "cannot get an MSI-X or MSI vector ({err:?}), and the PSP has no other interrupt; look for pci=nomsi on the command line\n"))?;
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
