// SPDX-License-Identifier: GPL-2.0

//! A host of the tests' own: what it does to CPU hotplug, to sleep and to this module, and what it
//! says. It shares the vetoes with this module's host, whose window is closed.

use kernel::macros::kunit_tests;

#[kunit_tests(snp_host_window)]
#[allow(unsafe_code, reason = "the functions for C")]
mod suite {
    use super::super::*;
    use crate::{
        rmp,
        sys::{
            bindings as c,
            check::check,
            errno::EOPNOTSUPP,
            said,
            sysfs::{
                Directory,
                File, //
            }, //
        },
        syscfg::SNP_EN,
        LocalModule,
    };
    use kernel::{
        bindings,
        module::this_module,
        time::Delta, //
    };

    fn host() -> SnpHost {
        SnpHost::new(this_module::<LocalModule>(), None)
    }

    /// On a machine for SNP the tests would change what it does.
    fn may_have_snp() -> bool {
        let host = HOST.lock();
        rmp::is_reserved() || host.as_ref().is_some_and(|host| host.unfit.is_none())
    }

    /// The kernel refuses a second one of the same name.
    #[test]
    fn a_directory_goes_when_it_is_dropped() -> Result {
        static FILES: [File; 1] = [File::new(c"file", 0o400, show_state)];
        for _ in 0..2 {
            let directory = Directory::in_kernel(c"snp_host_test", &FILES)?;
            drop(directory.inside(c"inside", &FILES)?);
            drop(directory.inside(c"inside", &FILES)?);
        }
        Ok(())
    }

    /// Else most of the tests would do nothing.
    #[test]
    fn there_is_a_host_while_the_module_is_loaded() -> Result {
        check!(HOST.lock().is_some());
        Ok(())
    }

    /// Why this machine is no SNP host.
    fn unfit_for_now() -> Option<&'static str> {
        HOST.lock().as_ref().and_then(|host| host.unfit)
    }

    /// What is refused, and that each is said once: CPUs that come, those that go, sleep.
    fn refused() -> Result<[bool; 3]> {
        let first = CpuId::from_u32(0).ok_or(EINVAL)?;
        let sleeps = [
            bindings::PM_SUSPEND_PREPARE,
            bindings::PM_HIBERNATION_PREPARE,
            bindings::PM_RESTORE_PREPARE,
        ];
        said::forget();
        let come = Vetoes::may_come(first);
        check!(come == Ok(()) || come == Err(EBUSY) && said::only(&["cpu-stays-offline"]));
        let go = Vetoes::may_go(first);
        check!(go == Ok(()) || go == Err(EBUSY) && said::only(&["cpu-stays-online"]));
        let mut sleep = Ok(());
        for (n, action) in sleeps.into_iter().enumerate() {
            let answer = Vetoes.call(action as c_ulong);
            check!(answer == Ok(()) || answer == Err(EBUSY) && said::only(&["sleep-refused"]));
            check!(n == 0 || answer == sleep, "{}", n);
            sleep = answer;
            // Waking up is nobody's to refuse.
            check!(Vetoes.call(bindings::PM_POST_SUSPEND as c_ulong) == Ok(()));
        }
        check!(said::only(&[]));
        Ok([come.is_err(), go.is_err(), sleep.is_err()])
    }

    #[test]
    fn an_open_window_refuses_cpus_and_sleep() -> Result {
        if may_have_snp() {
            return Ok(());
        }
        let mut host = host();
        OTHER_CCP.store(true, Relaxed);
        let before = refused()?;
        said::forget();
        host.open()?;
        let other = OTHER_CCP.load(Relaxed);
        check!(said::only(&["window-opened"]) && before == [false; 3] && !other);
        check!(said::traced(&[fmt!("window preparing")]));
        check!(host.window.name() == "preparing" && host.pin.is_some());
        check!(host.barrier.is_some() && host.opened.is_some());
        check!(refused()? == [true; 3]);
        said::forget();
        // It does not nest.
        host.open()?;
        check!(said::only(&[]) && said::traced(&[]));
        host.close_snp_off()?;
        check!(said::only(&["window-closed"]) && said::traced(&[fmt!("window closed")]));
        check!(host.window.name() == "closed" && host.pin.is_none());
        check!(host.barrier.is_none() && host.opened.is_none());
        check!(refused()? == [false; 3]);
        Ok(())
    }

    #[test]
    fn a_machine_that_is_unfit_opens_no_window() -> Result {
        let mut host = SnpHost {
            unfit: Some("no reason"),
            ..host()
        };
        said::forget();
        check!(host.open() == Err(ENODEV) && said::only(&["window-refused"]));
        check!(host.window.name() == "closed" && host.barrier.is_none() && host.pin.is_none());
        check!(host.reason() == "no reason");
        Ok(())
    }

    /// A window that is held says once why.
    #[test]
    fn a_window_that_stays_open() -> Result {
        use c::snp_host_keep as why;

        if may_have_snp() {
            return Ok(());
        }
        let mut host = host();
        host.open()?;
        said::forget();
        host.apply(Event::Keep(why::SNP_HOST_KEEP_TIMEOUT));
        check!(said::only(&["window-stays-open"]) && host.window.name() == "held");
        let reason = window::reason(why::SNP_HOST_KEEP_TIMEOUT);
        check!(said::with(fmt!("stays open: {reason}. ")) && host.reason() == reason);
        check!(said::traced(&[fmt!("window held")]));
        host.apply(Event::Keep(why::SNP_HOST_KEEP_TIMEOUT));
        check!(said::only(&[]) && said::traced(&[]));
        host.apply(Event::Keep(why::SNP_HOST_KEEP_HARDWARE_ERROR));
        check!(said::only(&["window-stays-open"]) && host.barrier.is_some());
        // There is no RMP to clear, which is said, and keeps nothing open.
        host.close_snp_off()?;
        check!(said::only(&["rmp-not-cleared", "window-closed"]));
        check!(host.barrier.is_none());
        Ok(())
    }

    #[test]
    fn a_refused_snp_init_has_the_differences_as_causes() -> Result {
        if may_have_snp() {
            return Ok(());
        }
        let mut host = host();
        host.open()?;
        host.apply(Event::Prepared);
        check!(host.reason() == "SNP is enabled on all CPUs" && host.window.name() == "enabled");
        for text in [c"one", c"two"] {
            let text = CString::try_from_fmt(fmt!("{}", text.to_str().map_err(|_| EINVAL)?))?;
            host.warnings.push(text, GFP_KERNEL)?;
        }
        said::forget();
        host.close_init_refused()?;
        check!(said::only(&[
            "snp-init-perhaps",
            "snp-init-perhaps",
            "rmp-not-cleared",
            "window-closed"
        ]));
        check!(host.window.name() == "closed" && host.pin.is_none());
        Ok(())
    }

    /// A close that the hardware contradicts.
    #[test]
    fn a_window_that_cannot_be_closed_is_busy() -> Result {
        if may_have_snp() {
            return Ok(());
        }
        let mut host = host();
        host.open()?;
        said::forget();
        let everywhere = SnpEn::Everywhere;
        let closed = host.close(everywhere, Event::CloseSnpOff(everywhere));
        check!(closed == Err(EBUSY) && said::only(&["window-stays-open"]));
        check!(host.pin.is_some() && host.reason() == "SNP_EN is still set");
        // No CPU enforces the RMP, but not for that reason.
        host.close_snp_off()?;
        check!(said::only(&["rmp-not-cleared", "window-closed"]) && host.pin.is_none());
        Ok(())
    }

    #[test]
    fn nothing_is_prepared_without_a_window_or_an_rmp() -> Result {
        if may_have_snp() {
            return Ok(());
        }
        let mut host = host();
        said::forget();
        check!(host.prepare() == Err(EPERM) && said::only(&["window-missing"]));
        host.open()?;
        let old = CString::try_from_fmt(fmt!("of the last time"))?;
        host.warnings.push(old, GFP_KERNEL)?;
        said::forget();
        check!(host.prepare() == Err(EOPNOTSUPP) && said::only(&["rmp-misplaced"]));
        check!(host.warnings.is_empty() && host.window.name() == "preparing");
        check!(host.reason() == "SNP is being enabled");
        check!(matches!(host.rmp_owner(1), Err(err) if err == EOPNOTSUPP));
        said::forget();
        host.close_snp_off()?;
        check!(said::only(&["window-closed"]));
        Ok(())
    }

    /// The next load would take SNP_EN for that of an earlier kernel.
    #[test]
    fn the_module_stays_while_a_cpu_has_snp_en() -> Result {
        let mut host = host();
        host.update_pin(SnpEn::Nowhere);
        check!(host.pin.is_none() && host.reason() == "SNP is not in use");
        for snp_en in [SnpEn::Somewhere, SnpEn::Everywhere] {
            host.update_pin(snp_en);
            let reason = "SNP_EN is set, but the firmware refused SNP_INIT and the RMP is all zero";
            check!(host.pin.is_some() && host.reason() == reason);
            host.update_pin(SnpEn::Nowhere);
            check!(host.pin.is_none());
        }
        Ok(())
    }

    #[test]
    fn where_snp_en_is_set_nowhere_no_window_is_found() -> Result {
        if may_have_snp() {
            return Ok(());
        }
        let mut host = host();
        said::forget();
        host.find_snp_en()?;
        check!(said::only(&[]) && host.window.name() == "closed" && host.barrier.is_none());
        check!(refused()? == [false; 3]);
        Ok(())
    }

    /// By all CPUs, or by some.
    #[test]
    fn where_snp_en_is_set_a_window_is_found() -> Result {
        use c::snp_host_keep as why;

        if may_have_snp() {
            return Ok(());
        }
        let everywhere = Syscfg::collect(|| Some(SNP_EN))?;
        let somewhere = Syscfg::collect(|| match CpuId::current().as_u32() {
            0 => Some(SNP_EN),
            _ => Some(!SNP_EN),
        })?;
        // A machine with one CPU has no other one.
        let uneven = somewhere.snp_en() == SnpEn::Somewhere;
        for (syscfg, reason, lines) in [
            (
                everywhere,
                why::SNP_HOST_KEEP_FOUND_AT_LOAD,
                &["window-opened", "window-stays-open"][..],
            ),
            (
                somewhere,
                why::SNP_HOST_KEEP_SOME_CPUS,
                &["snp-en-uneven", "window-opened", "window-stays-open"],
            ),
        ] {
            if reason == why::SNP_HOST_KEEP_SOME_CPUS && !uneven {
                continue;
            }
            let mut host = host();
            said::forget();
            host.found(&syscfg);
            check!(said::only(lines) && host.reason() == window::reason(reason));
            check!(host.pin.is_some() && refused()? == [true; 3]);
            host.close_snp_off()?;
            check!(refused()? == [false; 3]);
        }
        Ok(())
    }

    #[test]
    fn another_ccp_is_warned_of() -> Result {
        let before = OTHER_CCP.load(Relaxed);
        said::forget();
        note_other_ccp(true);
        let (noted, told) = (OTHER_CCP.load(Relaxed), said::only(&["other-ccp"]));
        note_other_ccp(false);
        let (forgotten, silent) = (!OTHER_CCP.load(Relaxed), said::only(&[]));
        OTHER_CCP.store(before, Relaxed);
        check!(noted && told && forgotten && silent);
        Ok(())
    }

    /// What the CPUs have then is read anew.
    #[test]
    fn cpus_that_are_not_prepared() -> Result {
        if may_have_snp() {
            return Ok(());
        }
        for (err, snp_en, lines, state) in [
            (
                ENOMEM,
                Ok(SnpEn::Nowhere),
                &["prepare-no-memory"][..],
                "preparing",
            ),
            // Memory that is short may be so for this as well.
            (ENOMEM, Err(ENOMEM), &["prepare-no-memory"], "preparing"),
            (EIO, Ok(SnpEn::Everywhere), &[], "preparing"),
            (EIO, Ok(SnpEn::Somewhere), &["window-stays-open"], "held"),
        ] {
            let mut host = host();
            host.open()?;
            said::forget();
            let read = snp_en.map(|_| ());
            check!(host.not_prepared(err, snp_en) == read);
            check!(
                said::only(lines) && host.window.name() == state,
                "{}",
                state
            );
            host.close_snp_off()?;
        }
        Ok(())
    }

    #[test]
    fn seconds_are_counted_from_the_opening() -> Result {
        let mut host = host();
        check!(host.open_seconds() == 0);
        host.opened = Some(Instant::now());
        check!((0..=2).contains(&host.open_seconds()));
        host.opened = Some(Instant::now() - Delta::from_secs(3));
        check!((3..=5).contains(&host.open_seconds()));
        Ok(())
    }

    /// The functions for C, on a machine without SNP.
    #[test]
    fn what_the_functions_for_c_answer() -> Result {
        let Some(unfit) = unfit_for_now().filter(|_| !may_have_snp()) else {
            return Ok(());
        };
        said::forget();
        // SAFETY: They can be called at any time.
        let returned = unsafe {
            c::snp_host_window_keep(c::snp_host_keep::SNP_HOST_KEEP_TIMEOUT);
            [
                c::snp_host_window_open(),
                c::snp_host_prepare(),
                c::snp_host_window_close(c::snp_host_close::SNP_HOST_CLOSE_SNP_OFF),
                c::snp_host_window_close(c::snp_host_close::SNP_HOST_CLOSE_INIT_REFUSED),
                c::snp_host_window_close(c::snp_host_close(3)),
                c::snp_host_snp_en_cpus(),
            ]
        };
        check!(returned == [-19, -1, 0, 0, -22, 0], "{:?}", returned);
        check!(said::only(&["window-refused", "window-missing"]));
        check!(&*show_state()? == c"closed" && &*show_open_seconds()? == c"0");
        check!(&*show_snp_en_cpus()? == c"");
        check!(show_reason()?.to_bytes() == unfit.as_bytes());
        let (mut asid, mut gpa) = (7, 8);
        // SAFETY: Both are valid for writing.
        let owner = unsafe { c::snp_host_rmp_owner(1, &raw mut asid, &raw mut gpa) };
        check!((owner, asid, gpa) == (EOPNOTSUPP.to_errno(), 7, 8));
        Ok(())
    }

    /// The same for a host that is fit, and for none.
    #[test]
    fn what_the_functions_for_c_do() -> Result {
        use c::{
            snp_host_close as close,
            snp_host_keep as why, //
        };

        if may_have_snp() {
            return Ok(());
        }
        let own = HOST.lock().replace(host());
        said::forget();
        let name = || with_host(|host| Ok(host.window.name())).unwrap_or("none");
        // SAFETY: They can be called at any time.
        let seen = unsafe {
            let opened = (c::snp_host_window_open(), name());
            let refused = refused();
            said::forget();
            let prepared = with_host(|host| {
                host.apply(Event::Prepared);
                Ok(())
            });
            host_warning();
            let closed = (
                c::snp_host_window_close(close::SNP_HOST_CLOSE_INIT_REFUSED),
                name(),
            );
            let warned = said::only(&["snp-init-perhaps", "rmp-not-cleared", "window-closed"]);
            let again = (c::snp_host_window_open(), name());
            c::snp_host_window_keep(why::SNP_HOST_KEEP_TIMEOUT);
            let kept = name();
            host_warning();
            said::forget();
            let off = (
                c::snp_host_window_close(close::SNP_HOST_CLOSE_SNP_OFF),
                name(),
            );
            let silent = said::only(&["rmp-not-cleared", "window-closed"]);
            *HOST.lock() = None;
            let none = (c::snp_host_window_open(), name());
            let nothing = c::snp_host_psp_owed(1);
            let all_right = prepared.is_ok() && warned && silent;
            (
                opened, refused, closed, again, kept, off, none, nothing, all_right,
            )
        };
        *HOST.lock() = own;
        let (opened, refused, closed, again, kept, off, none, nothing, all_right) = seen;
        check!(opened == (0, "preparing") && refused? == [true; 3]);
        check!(closed == (0, "closed") && again == (0, "preparing") && kept == "held");
        check!(off == (0, "closed") && none == (-19, "none") && nothing == 0 && all_right);
        Ok(())
    }

    /// The preflight has found a difference.
    fn host_warning() {
        let _ = with_host(|host| {
            let text = CString::try_from_fmt(fmt!("of a difference"))?;
            Ok(host.warnings.push(text, GFP_KERNEL)?)
        });
    }

    #[test]
    fn debts_of_psps_are_kept_for_c() -> Result {
        const PSP: u64 = u64::MAX;
        // SAFETY: They can be called at any time.
        let [before, owes, owed, after] = unsafe {
            let before = c::snp_host_psp_owed(PSP);
            let owes = c::snp_host_psp_owes(PSP, 5);
            let owed = c::snp_host_psp_owed(PSP);
            c::snp_host_psp_answered(PSP);
            [before, owes as u32, owed, c::snp_host_psp_owed(PSP)]
        };
        check!([before, owes, owed, after] == [0, 0, 5, 0]);
        Ok(())
    }

    /// The whole text with its NUL, or nothing.
    #[test]
    fn the_host_is_described_where_there_is_room() -> Result {
        let text = describe()?;
        let len = text.to_bytes_with_nul().len();
        if let Some(unfit) = unfit_for_now().filter(|_| !may_have_snp()) {
            let no_rmp = "RMP: unusable, the BIOS has reserved no memory for the RMP";
            let expected = CString::try_from_fmt(fmt!("CPU hotplug: allowed: {unfit}\n{no_rmp}"))?;
            check!(*text == *expected);
        }
        for (size, errno) in [(len - 1, -28), (len, 0), (len + 1, 0)] {
            let mut copy = KVec::from_elem(7u8, len + 1, GFP_KERNEL)?;
            // SAFETY: There are more bytes than that.
            let told = unsafe { c::snp_host_describe(copy.as_mut_ptr().cast(), size) };
            let (words, rest) = copy.split_at(len);
            check!(told == errno && rest == [7], "{}", size);
            match errno {
                0 => check!(words == text.to_bytes_with_nul(), "{}", size),
                _ => check!(words.iter().all(|byte| *byte == 7), "{}", size),
            }
        }
        Ok(())
    }
}
