// SPDX-License-Identifier: GPL-2.0

//! PSPs that offer nothing: which of them is meant, and the answer of each service. The tests share
//! the list with the module, which has none without a PSP.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_services)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        hv_fixed,
        sys::said,
        testing::{
            check,
            device, //
        },
    };

    const NOTHING: Offer = Offer {
        platform_access: None,
        mailbox: None,
        tee: false,
        sfs: false,
    };

    /// Calls `test` and forgets which PSP was the lowest.
    fn on_a_machine_without_psp(test: impl FnOnce(&Device) -> Result) -> Result {
        if !PSPS.lock().bound.is_empty() {
            return Ok(());
        }
        let (_registration, dev) = device()?;
        let before = PSPS.lock().master.take();
        let result = test(&dev);
        let mut psps = PSPS.lock();
        psps.master = before;
        check!(psps.bound.is_empty() && psps.bound.capacity() == 0);
        result
    }

    #[test]
    fn the_master_is_the_lowest_that_was_ever_bound() -> Result {
        on_a_machine_without_psp(|dev| {
            let address = || master().map(|psp| psp.address);
            check!(address() == Err(ENODEV));
            let first = add(dev, 0x200, NOTHING)?;
            check!(address() == Ok(0x200));
            let lower = add(dev, 0x100, NOTHING)?;
            check!(address() == Ok(0x100));
            let higher = add(dev, 0x300, NOTHING)?;
            check!(address() == Ok(0x100));
            // No other takes its place.
            lower.retire();
            check!(address() == Err(ENODEV));
            drop((first, higher));
            let again = add(dev, 0x100, NOTHING)?;
            check!(address() == Ok(0x100));
            // Of the one that went before it nothing is left to end.
            lower.retire();
            drop(again);
            check!(address() == Err(ENODEV));
            Ok(())
        })
    }

    #[test]
    fn what_a_psp_does_not_offer_is_not_there() -> Result {
        on_a_machine_without_psp(|dev| {
            said::forget();
            // A TEE without a mailbox.
            let offer = Offer {
                tee: true,
                ..NOTHING
            };
            let bound = add(dev, 0x100, offer)?;
            let psp = master()?;
            check!(psp.need_tee() == Err(ENODEV) && psp.need_sfs() == Err(ENODEV));
            check!(psp.platform_access(|_| Ok(())) == Err(ENODEV));
            check!(psp.sfs(|_, _| Ok(())) == Err(ENODEV));
            check!(tee::Access::with(&*psp, |_| Ok(())) == Err(ENODEV));
            bound.restored(dev);
            check!(said::only(&[]));
            Ok(())
        })
    }

    /// A PSP of whose mailbox nobody knows where it is.
    #[test]
    fn sfs_without_a_mailbox_leaves_no_block() -> Result {
        on_a_machine_without_psp(|dev| {
            let offer = Offer {
                sfs: true,
                ..NOTHING
            };
            let bound = add(dev, 0x100, offer)?;
            let psp = master()?;
            let sfs = (psp.need_sfs(), psp.sfs(|_, _| Ok(())));
            drop((bound, psp));
            check!(sfs == (Ok(()), Err(ENODEV)));
            let mut blocks = 0;
            hv_fixed::list(|_| {
                blocks += 1;
                Err(E2BIG)
            });
            check!(blocks == 0);
            Ok(())
        })
    }
}
