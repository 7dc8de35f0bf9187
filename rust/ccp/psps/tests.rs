// SPDX-License-Identifier: GPL-2.0

//! PSPs without registers, of which none can be driven: who is chosen, and when `/dev/sev` is
//! there. The tests share the list with the module, which has none without a PSP.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_psps)]
#[allow(unsafe_code, reason = "the macro's, and a function for C")]
mod suite {
    use super::super::*;
    use crate::{
        sys::{
            bindings as c,
            said, //
        },
        testing::{
            check,
            device, //
        },
    };
    use core::ptr;
    use kernel::bindings;

    fn candidate(dev: &ARef<Device>, address: u64) -> Result<Candidate> {
        Ok(Candidate {
            address,
            dev: dev.clone(),
            registers: None,
            done: Arc::pin_init(Completion::new(), GFP_KERNEL)?,
        })
    }

    #[test]
    fn the_lowest_is_chosen_once() -> Result {
        let (_registration, dev) = device()?;
        let mut psps = Psps::NONE;
        psps.attach_master();
        check!(psps.chosen.is_none());
        for address in [0x300, 0x100, 0x200] {
            psps.all.push(candidate(&dev, address)?, GFP_KERNEL)?;
        }
        psps.attach_master();
        psps.all.push(candidate(&dev, 0x80)?, GFP_KERNEL)?;
        psps.attach_master();
        check!(psps.chosen == Some(0x100) && psps.master.is_none());

        // Who is told that it cannot become the master.
        said::forget();
        psps.notice_if_not_master(0x100);
        psps.notice_if_not_master(0x555);
        check!(said::only(&[]));
        psps.notice_if_not_master(0x80);
        check!(said::only(&["not-the-master"]));
        psps.master = Some(0x100);
        psps.notice_if_not_master(0x80);
        check!(said::only(&[]));
        Ok(())
    }

    /// Files that are none of /dev/sev: whether they pass for one, and what a launch says; then
    /// what it says of a file that is one.
    fn answers_to_files() -> ([bool; 2], [c_int; 2], c_int) {
        let psps = PSPS.lock();
        let fops = match &psps.node {
            // SAFETY: Valid as long as the node is registered.
            Some(node) => unsafe { (*node.as_raw()).fops },
            None => ptr::null(),
        };
        drop(psps);
        let page = c::snp_gmem_launch {
            gctx_paddr: 0,
            pfn: 1,
            gfn: 1,
            source_pfn: u64::MAX,
            asid: 1,
            type_: c::SNP_PAGE_TYPE_VMSA,
        };
        let launch = |f_op| {
            // SAFETY: All fields may be zero.
            let mut file: bindings::file = unsafe { core::mem::zeroed() };
            file.f_op = f_op;
            // SAFETY: Only the operations of the file are looked at, and no PSP launches the page.
            unsafe { c::snp_gmem_launch(&raw mut file, &raw const page, ptr::null_mut()) }
        };
        let others = [ptr::null(), fops.wrapping_add(1)];
        (
            others.map(uapi::is_sev_file),
            others.map(launch),
            launch(fops),
        )
    }

    #[test]
    fn dev_sev_is_there_while_a_psp_is_bound() -> Result {
        if !PSPS.lock().all.is_empty() {
            return Ok(());
        }
        let (_registration, dev) = device()?;
        let mut psps = PSPS.lock();
        let (complete, chosen) = (psps.complete, psps.chosen);
        (psps.complete, psps.chosen) = (true, None);
        drop(psps);

        said::forget();
        let has_node = || PSPS.lock().node.is_some();
        let mut seen = KVec::new();
        let done = (|| {
            seen.push(has_node(), GFP_KERNEL)?;
            for address in [0x200, 0x300] {
                add(candidate(&dev, address)?)?;
                seen.push(has_node(), GFP_KERNEL)?;
            }
            Ok::<_, Error>(PSPS.lock().chosen)
        })();
        let told = said::only(&["not-the-master"]);
        let known = answers_to_files();
        let masters = || [0x200, 0x300].map(is_master);
        let mut seen_masters = [masters(); 2];
        PSPS.lock().master = Some(0x300);
        seen_masters[1] = masters();
        PSPS.lock().master = None;
        let mut in_use = false;
        for address in [0x400, 0x200, 0x300] {
            in_use |= remove(address);
            let _ = seen.push(has_node(), GFP_KERNEL);
        }
        let mut psps = PSPS.lock();
        (psps.complete, psps.chosen) = (complete, chosen);
        check!(psps.all.is_empty() && psps.all.capacity() == 0);
        drop(psps);
        check!(done? == Some(0x200) && told && !in_use);
        // EBADF; ENODEV: there is no master.
        check!(known == ([false; 2], [-9; 2], -19), "{:?}", known);
        check!(seen_masters == [[false, false], [false, true]]);
        check!(seen.as_slice() == [false, true, true, true, true, false]);
        Ok(())
    }
}
