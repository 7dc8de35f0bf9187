// SPDX-License-Identifier: GPL-2.0

//! What `rust/sys` does on all CPUs, on the machine that we are on.

use kernel::macros::kunit_tests;

#[kunit_tests(snp_host_cpus)]
#[allow(unsafe_code, reason = "the macro's, and CPUID")]
mod suite {
    use crate::{
        host::Barrier,
        owed::{
            Owed,
            PSPS, //
        },
        sys::{
            check::check,
            cpu,
            fake_cpuid::Leaf,
            guest_rmp::Owner,
            hotplug::CpusRead,
            msr::Msr,
            notifier::about_to_sleep,
            percpu::{
                CpuList,
                PerCpu,
                Ranges, //
            },
            sched::cond_resched,
            sleep::has_slept,
            workers::on_several, //
        },
        syscfg::{
            has_snp_en,
            snp_en,
            uses_svm,
            Register, //
        },
        window::SnpEn,
        LocalModule,
    };
    use core::arch::x86_64::{
        CpuidResult,
        __cpuid, //
    };
    use kernel::{
        bindings,
        cpu::{
            nr_cpu_ids,
            CpuId, //
        },
        module::this_module,
        prelude::*,
        str::CString,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

    /// The other answer is for a machine that can sleep.
    #[test]
    fn a_machine_that_was_just_started_has_not_slept() {
        for _ in 0..1000 {
            assert!(!has_slept());
        }
    }

    /// SEV, C-bit, ASIDs and RMP are in leaves 0x8000001f and 0x80000025 (Architecture Programmer's
    /// Manual, volume 3, appendix E).
    #[test]
    fn what_the_cpu_says_of_sev() -> Result {
        const SEV: u32 = 0x8000_001f;
        for bit in 0..32 {
            for others in [0, !0] {
                let _leaf = Leaf::pretend(SEV, [others ^ 1 << bit, 0, 0, 0]);
                let found = [cpu::has_snp(), cpu::has_rmpread(), cpu::has_segmented_rmp()];
                let none = others != 0;
                let expected = [4, 21, 23].map(|of| (of == bit) != none);
                check!(found == expected, "{bit} {others:#x}");
            }
        }
        for (ebx, expected) in [
            (0, 0),
            (0x40, 0),
            (51, 1 << 51),
            (!0 << 6 | 47, 1 << 47),
            (1, 2),
            (63, 1 << 63),
        ] {
            let _leaf = Leaf::pretend(SEV, [!0, ebx, !0, !0]);
            check!(cpu::c_bit() == expected, "{ebx:#x}");
        }
        let _leaf = Leaf::pretend(SEV, [1, 2, 0x1fd, 0x64]);
        assert_eq!(cpu::sev_asids(), (0x1fd, 0x64));
        let _leaf = Leaf::pretend(0x8000_0025, [0x1ca, 0x600, 3, 4]);
        assert_eq!(cpu::rmp_segments(), (0x1ca, 0x600));
        Ok(())
    }

    #[test]
    fn leaves_that_the_cpu_has_and_others() -> Result {
        // SAFETY: Every CPU in long mode has this leaf.
        let highest = unsafe { __cpuid(0x8000_0000) }.eax;
        let words = |leaf: CpuidResult| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx];
        // Sizes of addresses, and the last one of all.
        for number in [0x8000_0000, 0x8000_0001, 0x8000_0008, highest] {
            // SAFETY: As above, and no higher than the highest.
            let there = unsafe { __cpuid(number) };
            check!(words(cpu::leaf(number)) == words(there), "{number:#x}");
        }
        assert_ne!(cpu::leaf(0x8000_0008).eax, 0);
        for number in [highest + 1, u32::MAX] {
            check!(words(cpu::leaf(number)) == [0; 4], "{number:#x}");
        }
        Ok(())
    }

    /// What every CPU in long mode has that the kernel runs on, and what none of them has.
    #[test]
    fn features_are_found_by_their_numbers() {
        for feature in [
            bindings::X86_FEATURE_FPU,
            bindings::X86_FEATURE_LM,
            bindings::X86_FEATURE_CX16,
            bindings::X86_FEATURE_ALWAYS,
        ] {
            assert!(cpu::has(feature));
        }
        for feature in [
            bindings::X86_FEATURE_K6_MTRR,
            bindings::X86_FEATURE_CENTAUR_MCR,
            u32::MAX,
        ] {
            assert!(!cpu::has(feature));
        }
    }

    /// VM_HSAVE_PA, which nobody uses before a CPU has SVM enabled: the address of a page.
    const VM_HSAVE_PA: u32 = 0xc001_0117;
    const EFER: u32 = 0xc000_0080;

    #[test]
    fn registers_are_read_and_written_on_this_cpu() -> Result {
        // SAFETY: Every CPU in long mode has this leaf. The CPU of scripts/kunit has SVM.
        if unsafe { __cpuid(0x8000_0001) }.ecx & 1 << 2 == 0 {
            return Ok(());
        }
        let (hsave, efer) = (Msr::new(VM_HSAVE_PA), Msr::new(EFER));
        // In an interrupt, so on one CPU.
        let answers = PerCpu::collect(|| {
            let before = hsave.read()?;
            if efer.read()? & SVME != 0 {
                return Ok(());
            }
            for page in [0x12_3456_7000, 0xab_cdef_0000, 0x8000_0000] {
                // SAFETY: Without SVM the CPU does not use the page.
                unsafe { hsave.write(page) }?;
                let (low, high): (u32, u32);
                // SAFETY: The register has just been written.
                unsafe {
                    core::arch::asm!(
                        "rdmsr", in("ecx") VM_HSAVE_PA, out("eax") low, out("edx") high,
                        options(nomem, nostack, preserves_flags)
                    )
                };
                let found = (u64::from(high) << 32 | u64::from(low), hsave.read()?);
                check!(found == (page, page), "{page:#x} {found:x?}");
            }
            // SAFETY: It is no page, so the CPU refuses it.
            check!(unsafe { hsave.write(1) } == Err(EIO));
            // SAFETY: What there was.
            unsafe { hsave.write(before) }
        })?;
        check!(answers.failing(Result::is_ok).is_empty());
        Ok(())
    }

    /// The formats of Zen 3 and Zen 4 in memory, and of RMPREAD.
    #[test]
    fn owners_are_decoded() {
        let guest = Owner {
            asid: 0x3ff,
            gpa: 0x7_ffff_ffff_f000,
        };
        // Every bit of address and ASID; assigned, size, count of subpages; then all others.
        let raw = 0x3ff << 51 | ((1u64 << 39) - 1) << 12;
        for noise in [0, 0xfff, 7 << 61] {
            assert_eq!(Owner::from_raw(raw | noise), guest);
            assert_eq!(Owner::from_raw(noise), Owner { asid: 0, gpa: 0 });
        }
        let rmpread = [0x7_ffff_ffff_f000, 0x3ff << 32 | 0x1_0101];
        assert_eq!(Owner::from_rmpread(rmpread), guest);
    }

    #[test]
    fn each_online_cpu_answers_for_itself() -> Result {
        let calls = Atomic::<u32>::new(0);
        let answers = PerCpu::collect(|| {
            calls.fetch_add(1, Relaxed);
            CpuId::current().as_u32()
        })?;
        let online = CpusRead::lock().online().weight();
        assert_eq!(calls.load(Relaxed), online);
        let mut answered = 0;
        for (cpu, answer) in answers.as_slice().iter().enumerate() {
            if let Some(answer) = answer {
                // CAST: A CPU number.
                assert_eq!(*answer, cpu as u32);
                answered += 1;
            }
        }
        assert_eq!(answered, online);
        Ok(())
    }

    #[test]
    fn cpus_that_do_not_pass_are_named() -> Result {
        let all: PerCpu<Register> = PerCpu::collect(|| Some(1))?;
        assert!(all.failing(|value| *value == Some(1)).is_empty());
        assert!(all.passing(|value| *value == Some(2)).is_empty());
        assert!(!all.passing(|value| *value == Some(1)).is_empty());
        // A CPU without the register does not pass either.
        let none: PerCpu<Register> = PerCpu::collect(|| None)?;
        assert!(none.passing(Option::is_some).is_empty());
        assert!(!none.failing(Option::is_some).is_empty());
        Ok(())
    }

    /// SYSCFG.SNP_EN and EFER.SVME, by the Architecture Programmer's Manual volume 2.
    const SNP_EN: u64 = 1 << 24;
    const SVME: u64 = 1 << 12;

    #[test]
    fn one_bit_says_snp_en_and_one_svm() {
        for (value, snp_en, svm) in [
            (None, false, false),
            (Some(0), false, false),
            (Some(SNP_EN), true, false),
            (Some(!SNP_EN), false, true),
            (Some(SVME), false, true),
            (Some(!SVME), true, false),
        ] {
            assert_eq!(has_snp_en(&value), snp_en);
            assert_eq!(uses_svm(&value), svm);
        }
    }

    #[test]
    fn snp_en_everywhere_is_told_from_somewhere() -> Result {
        let first = || CpuId::current().as_u32() == 0;
        let online = CpusRead::lock().online().weight();
        let some = match online {
            1 => SnpEn::Everywhere,
            _ => SnpEn::Somewhere,
        };
        for (on_first, on_others, expected) in [
            (0, 0, SnpEn::Nowhere),
            (SNP_EN, 0, some),
            (SNP_EN, SNP_EN, SnpEn::Everywhere),
        ] {
            let cpus: PerCpu<Register> =
                PerCpu::collect(|| Some(if first() { on_first } else { on_others }))?;
            assert!(snp_en(&cpus, has_snp_en) == expected);
            assert!(cpus.snp_en() == expected);
        }
        Ok(())
    }

    #[test]
    fn vetoes_begin_before_hotplug_is_disabled_and_end_before_it_is_enabled() {
        struct Disabled<'a>(&'a Atomic<bool>, &'a Atomic<bool>);
        impl Drop for Disabled<'_> {
            fn drop(&mut self) {
                self.1.store(self.0.load(Relaxed), Relaxed);
            }
        }
        let (flag, flag_at_end) = (Atomic::new(false), Atomic::new(true));
        let mut flag_at_start = false;
        let barrier = Barrier::new(&flag, || {
            flag_at_start = flag.load(Relaxed);
            Disabled(&flag, &flag_at_end)
        });
        assert!(flag_at_start && flag.load(Relaxed));
        drop(barrier);
        assert!(!flag_at_end.load(Relaxed) && !flag.load(Relaxed));
    }

    #[test]
    fn lists_of_cpus_are_printed_as_ranges() -> Result {
        for (cpus, text) in [
            (0b0000, c""),
            (0b0001, c"0"),
            (0b0010, c"1"),
            (0b0011, c"0-1"),
            (0b0101, c"0,2"),
            (0b1011, c"0-1,3"),
            (0b1110, c"1-3"),
            (!0, c"0-31"),
        ] {
            let is_in = |cpu: u32| cpus >> cpu & 1 == 1;
            let printed = Ranges((0..32).filter(|cpu| is_in(*cpu)));
            let printed = CString::try_from_fmt(fmt!("{printed}"))?;
            check!(&*printed == text, "{cpus:#b}");
            // The machine has fewer.
            if u32::BITS - u32::leading_zeros(cpus) <= nr_cpu_ids() {
                let list = CpuList::new(|cpu| is_in(cpu.as_u32()));
                let printed = CString::try_from_fmt(fmt!("{list}"))?;
                check!(&*printed == text, "{cpus:#b}");
                check!(list.is_empty() == (cpus == 0), "{cpus:#b}");
            }
        }
        Ok(())
    }

    #[test]
    fn sleep_begins_with_three_notifications_out_of_six() {
        for (action, what) in [
            (bindings::PM_HIBERNATION_PREPARE, Some("hibernation")),
            (bindings::PM_POST_HIBERNATION, None),
            (bindings::PM_SUSPEND_PREPARE, Some("suspend")),
            (bindings::PM_POST_SUSPEND, None),
            (
                bindings::PM_RESTORE_PREPARE,
                Some("resume from hibernation"),
            ),
            (bindings::PM_POST_RESTORE, None),
        ] {
            // CAST: `u32` to `usize` loses nothing.
            assert_eq!(about_to_sleep(action as c_ulong), what);
        }
    }

    #[test]
    fn the_first_debt_of_each_psp_is_kept_until_it_is_paid() -> Result {
        let mut owed = Owed::default();
        assert_eq!((owed.command(0), owed.command(9)), (0, 0));
        for (psp, command, owes) in [(0, 3, 3), (0, 4, 3), (9, 5, 5)] {
            owed.record(psp, command, this_module::<LocalModule>())?;
            assert_eq!(owed.command(psp), owes);
        }
        assert_eq!(owed.command(0), 3);
        owed.forget(9);
        assert_eq!((owed.command(0), owed.command(9)), (3, 0));
        owed.forget(0);
        owed.forget(0);
        assert_eq!(owed.command(0), 0);
        owed.record(0, 6, this_module::<LocalModule>())?;
        assert_eq!(owed.command(0), 6);
        Ok(())
    }

    #[test]
    fn there_is_room_for_the_psps_of_any_machine() -> Result {
        let mut owed = Owed::default();
        for psp in 0..PSPS as u64 {
            owed.record(psp, 3, this_module::<LocalModule>())?;
        }
        assert_eq!(
            owed.record(PSPS as u64, 3, this_module::<LocalModule>()),
            Err(ENOSPC)
        );
        // Not those that are there.
        assert_eq!(owed.record(0, 4, this_module::<LocalModule>()), Ok(()));
        for psp in 0..PSPS as u64 {
            assert_eq!(owed.command(psp), 3);
        }
        owed.forget(0);
        owed.record(PSPS as u64, 3, this_module::<LocalModule>())
    }

    #[test]
    fn every_share_of_the_work_is_done_once_and_before_the_return() -> Result {
        const SHARES: usize = 1000;
        for helpers in [0, 1, 2, 100] {
            let shares = [const { Atomic::<u32>::new(0) }; SHARES];
            let next = Atomic::<usize>::new(0);
            let workers = Atomic::<u32>::new(0);
            on_several(c"snp_host_test", helpers, || {
                workers.fetch_add(1, Relaxed);
                while let Some(share) = shares.get(next.fetch_add(1, Relaxed)) {
                    share.fetch_add(1, Relaxed);
                    cond_resched();
                }
            });
            assert!(shares.iter().all(|share| share.load(Relaxed) == 1));
            // Each helper has had its turn, even if it found nothing left.
            let online = CpusRead::lock().online().weight();
            // CAST: Small.
            let expected = online.min(helpers as u32 + 1);
            assert_eq!(workers.load(Relaxed), expected);
        }
        Ok(())
    }
}
