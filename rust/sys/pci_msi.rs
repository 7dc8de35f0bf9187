// SPDX-License-Identifier: GPL-2.0

//! One message-signalled interrupt of a PCI device, with its handler.
//!
//! `kernel::pci` hands vectors out by reference to their allocation, so a driver that keeps both
//! has to refer to itself. This does it once.

use kernel::{
    device::Bound,
    irq::{
        Flags,
        Handler,
        IrqRequest,
        Registration, //
    },
    pci::{
        self,
        IrqType,
        IrqTypes,
        IrqVectorRegistration, //
    },
    prelude::*, //
};

/// An interrupt vector and the handler that is registered for it.
///
/// Fields are dropped in this order: the handler first, which waits for a running one.
#[pin_data]
pub struct MsiHandler<'bound, H: Handler> {
    #[pin]
    _registration: Registration<'bound, H>,
    vectors: KBox<IrqVectorRegistration<'bound>>,
}

impl<'bound, H: Handler + 'bound> MsiHandler<'bound, H> {
    /// Allocates one MSI-X vector, or one MSI where the device has no MSI-X, and registers
    /// `handler`.
    pub fn new(
        dev: &'bound pci::Device<Bound>,
        name: &'static CStr,
        handler: impl PinInit<H, Error> + 'bound,
    ) -> Result<Pin<KBox<Self>>> {
        let types = IrqTypes::default().with(IrqType::MsiX).with(IrqType::Msi);
        let vectors = KBox::new(dev.alloc_irq_vectors(1, 1, types)?, GFP_KERNEL)?;
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
