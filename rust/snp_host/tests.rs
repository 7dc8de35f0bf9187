// SPDX-License-Identifier: GPL-2.0

//! What `rust/sys` does on all CPUs, on the machine that we are on.

use kernel::macros::kunit_tests;

#[kunit_tests(snp_host_cpus)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use crate::{
        sys::{
            guest_rmp::Owner,
            hotplug::CpusRead,
            percpu::PerCpu,
            sched::cond_resched,
            workers::on_several, //
        },
        syscfg::Register,
    };
    use kernel::{
        cpu::CpuId,
        prelude::*,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

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
