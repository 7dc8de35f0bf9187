// SPDX-License-Identifier: GPL-2.0

//! Pages that other modules have from the driver.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_firmware_pages)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        platform::testing::*,
        sys::pages::Gfp, //
    };

    #[test]
    fn firmware_pages_come_back_the_way_they_went() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for x86 in [false, true] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, x86)?;
            let before = leaked();
            let early = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
            check!(HOST.assigned() == 0);
            check!(p.start_snp(0).is_ok());
            let inside = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
            let late = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
            check!(HOST.assigned() == 2);
            p.free_firmware_page(early);
            p.free_firmware_page(inside);
            check!(HOST.assigned() == 1 && plan.reclaims.get() == 1);
            p.shutdown(Leaving::KvmGone);
            p.free_firmware_page(late);
            // Where SNP has ended on all CPUs the RMP is clear, and there is nothing to reclaim.
            check!(plan.reclaims.get() == if x86 { 1 } else { 2 }, "{}", x86);
            check!(HOST.assigned() == i32::from(x86), "{}", x86);
            // A page that nobody gave out.
            said::forget();
            p.free_firmware_page(late);
            check!(said::only(&["page-of-others"]), "{}", x86);
            check!(leaked() == before, "{}", x86);
            // For the next round: this host has no RMP to clear.
            HOST.forget();
        }
        Ok(())
    }

    /// What other firmware has used, and has given back.
    #[test]
    fn an_hv_fixed_block_is_freed_with_the_rmp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let blocks = || {
            let mut count = 0;
            hv_fixed::list(|_| {
                count += 1;
                Ok(())
            });
            count
        };
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let block = hv_fixed::take()?;
        let started = p.start_snp(0).is_ok();
        hv_fixed::give_back(block);
        let kept = blocks();
        p.shutdown(Leaving::KvmGone);
        check!(started && kept == 1 && blocks() == 0);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn guests_are_counted() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        // CPUs that are stopped wait for the end of as many.
        let record = |p: &Platform<_>| {
            let guests = p.channel.record().guests();
            let same = stopped_cpus::guests() == guests;
            (guests, p.channel.record().pages(), same)
        };
        check!(p.guests() == 0 && record(&p) == (0, 0, true));
        // For answers to guests' requests.
        let other = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
        check!(p.guests() == 0 && record(&p) == (0, 1, true));
        let (page, context) = guest(&mut p)?;
        let (_, second) = guest(&mut p)?;
        check!(p.guests() == 2 && record(&p) == (2, 3, true));
        // A context that is known already is no guest more.
        for known in p.channel.record().clone().contexts() {
            p.channel.record().set_context(known, true);
        }
        check!(record(&p) == (2, 3, true));
        p.free_firmware_page(other);
        check!(p.guests() == 2 && record(&p) == (2, 2, true));
        // What firmware refuses changes nothing.
        plan.once(CommandId::SNP_DECOMMISSION, Refuses(Status::INVALID_GUEST));
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, context).is_err());
        check!(p.guests() == 2);
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, context).is_ok());
        check!(p.guests() == 1 && record(&p) == (1, 2, true));
        p.free_firmware_page(page);
        plan.once(CommandId::SNP_GCTX_CREATE, Refuses(Status::INVALID_PARAM));
        check!(guest(&mut p).is_err() && p.guests() == 1);
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, second).is_ok());
        check!(p.guests() == 0 && record(&p) == (0, 2, true));
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        Ok(())
    }

    /// The page of a context may go before the guest does, and firmware forgets all at its end.
    #[test]
    fn a_context_is_on_record_while_firmware_has_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        let before = leaked();
        // Firmware does not release one page, and releases the other.
        for (refused, guests, lost) in [(false, 0, 0), (true, 1, 1)] {
            let (page, _) = guest(&mut p)?;
            check!(p.guests() == 1, "{}", refused);
            HOST.shared_fails.set(0, usize::from(refused));
            p.free_firmware_page(page);
            check!(
                p.guests() == guests && leaked() == before + lost,
                "{}",
                refused
            );
        }
        p.forget_contexts();
        check!(p.guests() == 0 && stopped_cpus::guests() == 0);
        // A page that this driver has not handed out makes no guest, but may have been one.
        const FOREIGN: u64 = 0x7000;
        let create = CommandId::SNP_GCTX_CREATE;
        check!(relay_context(&mut p, create, FOREIGN).is_ok() && p.guests() == 0);
        p.channel
            .record()
            .set_context(zerocopy::transmute!(FOREIGN), true);
        check!(p.guests() == 1);
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, FOREIGN).is_ok());
        check!(p.guests() == 0 && stopped_cpus::guests() == 0);
        // One that firmware does not know ends with SNP.
        guest(&mut p)?;
        plan.active.set(0);
        plan.dirty.set(false);
        plan.once(CommandId::SNP_DECOMMISSION, Refuses(Status::INVALID_GUEST));
        p.shutdown(Leaving::KvmGone);
        check!(!p.is_snp_up() && p.guests() == 0 && stopped_cpus::guests() == 0);
        HOST.forget();
        Ok(())
    }
}
