// SPDX-License-Identifier: GPL-2.0

//! One message-signalled interrupt of a PCI device, with its handler.

use kernel::{
    device::Bound,
    irq::{
        self,
        Flags,
        IrqReturn,
        Registration, //
    },
    pci::{
        self,
        IrqType,
        IrqTypes, //
    },
    prelude::*, //
};
#[cfg(irq_vector_registration)]
use kernel::{
    irq::IrqRequest,
    pci::IrqVectorRegistration, //
};

/// What is called in interrupt context.
pub trait Handler: Send + Sync + 'static {
    /// The device has raised its interrupt, which is nobody else's.
    fn handle(&self);
}

/// A [`Handler`], for the kernel crate.
struct Calls<H>(H);

#[cfg(irq_vector_registration)]
impl<H: Handler> irq::Handler for Calls<H> {
    fn handle(&self) -> IrqReturn {
        self.0.handle();
        IrqReturn::Handled
    }
}

#[cfg(not(irq_vector_registration))]
impl<H: Handler> irq::Handler for Calls<H> {
    fn handle(&self, _dev: &kernel::device::Device<Bound>) -> IrqReturn {
        self.0.handle();
        IrqReturn::Handled
    }
}

fn types() -> IrqTypes {
    IrqTypes::default().with(IrqType::MsiX).with(IrqType::Msi)
}

/// An interrupt vector and the handler that is registered for it.
///
/// The kernel crate hands the vector out by reference to its allocation, so whoever keeps both has
/// to refer to itself. Fields are dropped in this order: the handler first, which waits for a
/// running one.
#[cfg(irq_vector_registration)]
#[pin_data]
pub struct MsiHandler<'bound, H: Handler> {
    #[pin]
    _registration: Registration<'bound, Calls<H>>,
    vectors: KBox<IrqVectorRegistration<'bound>>,
}

/// An interrupt vector and the handler that is registered for it. The vector is the device's until
/// it is unbound; the handler goes with this, after a running one.
#[cfg(not(irq_vector_registration))]
#[pin_data]
pub struct MsiHandler<'bound, H: Handler> {
    #[pin]
    _registration: Registration<Calls<H>>,
    dev: &'bound pci::Device<Bound>,
}

#[cfg(irq_vector_registration)]
impl<'bound, H: Handler> MsiHandler<'bound, H> {
    /// Allocates one MSI-X vector, or one MSI where the device has no MSI-X, and registers
    /// `handler`.
    pub fn new(
        dev: &'bound pci::Device<Bound>,
        name: &'static CStr,
        handler: H,
    ) -> Result<Pin<KBox<Self>>> {
        let vectors = KBox::new(dev.alloc_irq_vectors(1, 1, types())?, GFP_KERNEL)?;
        let handler = Ok(Calls(handler));
        // SAFETY: The box neither moves its contents nor is it dropped before the registration that
        // borrows from it: both end up in one `Self`, which is dropped in the order of its fields,
        // and if that fails, the registration never came to be.
        let borrowed: &'bound IrqVectorRegistration<'bound> =
            unsafe { &*core::ptr::from_ref(&*vectors) };
        let request: IrqRequest<'bound> = borrowed.index(0)?.into();

        KBox::try_pin_init(
            try_pin_init!(Self {
                // Initialised first, dropped last.
                vectors,
                // SAFETY: The registration is dropped with `Self`, which is pinned in a box that no
                // one but its owner has. Drivers keep it in their device data, which is not leaked.
                _registration <- unsafe { Registration::new(request, Flags::TRIGGER_NONE, name, handler) },
            }),
            GFP_KERNEL,
        )
    }

    /// What kind of interrupt it became.
    pub fn irq_type(&self) -> IrqType {
        self.vectors.irq_type()
    }
}

#[cfg(not(irq_vector_registration))]
impl<'bound, H: Handler> MsiHandler<'bound, H> {
    /// Allocates one MSI-X vector, or one MSI where the device has no MSI-X, and registers
    /// `handler`.
    pub fn new(
        dev: &'bound pci::Device<Bound>,
        name: &'static CStr,
        handler: H,
    ) -> Result<Pin<KBox<Self>>> {
        let vector = *dev.alloc_irq_vectors(1, 1, types())?.start();
        let handler = Ok(Calls(handler));

        KBox::try_pin_init(
            try_pin_init!(Self {
                dev,
                _registration <- dev.request_irq(vector, Flags::TRIGGER_NONE, name, handler),
            }),
            GFP_KERNEL,
        )
    }

    /// What kind of interrupt it became.
    pub fn irq_type(&self) -> IrqType {
        let raw: *const kernel::bindings::pci_dev = core::ptr::from_ref(self.dev).cast();
        // SAFETY: `pci::Device` is a transparent wrapper of `struct pci_dev`. The bit-field changes
        // when vectors are allocated or freed, which happens before and after the life of `self`.
        match unsafe { kernel::bindings::pci_dev::msix_enabled_raw(raw) } {
            0 => IrqType::Msi,
            _ => IrqType::MsiX,
        }
    }
}
