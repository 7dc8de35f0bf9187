// SPDX-License-Identifier: GPL-2.0

//! The mailbox against a PSP that follows a script: its registers answer, and may raise the
//! interrupt, as they are accessed.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_mailbox)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        driver::PSPV2,
        irq::Interrupt,
        sys::{
            fake_io,
            said, //
        },
        testing::{
            check,
            device,
            have_passed, //
        },
        wire::{
            command::TABLE,
            status,
            CommandId, //
        },
    };
    use core::cell::Cell;
    use kernel::time::{
        Instant,
        Monotonic, //
    };

    /// A timeout that a test waits for.
    const SHORT_MS: u32 = 8;
    /// A timeout that no test waits for.
    const LONG_MS: u32 = 8_000;
    /// Whoever takes longer has waited for [`LONG_MS`].
    const FAR_TOO_LONG_MS: i64 = 6_000;

    const READY: u32 = 1 << 31;
    const SUCCESS: u32 = READY;
    const COMPLETE: u32 = 1 << 1;
    const WAITS: [Wait; 2] = [Wait::Interrupt, Wait::Poll];

    /// What the PSP does with a command.
    #[derive(Clone, Copy)]
    struct Plan {
        /// The response register says so once the command is done; [`None`] if it never is.
        response: Option<u32>,
        /// That many reads of the response find the command unfinished.
        unfinished: usize,
        /// It raises the interrupt when it is done.
        interrupt: bool,
        /// It also raises one at the doorbell and at each read, for nothing.
        spurious: bool,
    }

    const PROMPT: Plan = Plan {
        response: Some(SUCCESS),
        unfinished: 0,
        interrupt: true,
        spurious: false,
    };
    const SILENT: Plan = Plan {
        response: None,
        ..PROMPT
    };

    struct Psp {
        done: Arc<Completion>,
        plan: Cell<Plan>,
        /// C2PMSG_32, 56 and 57.
        cmdresp: Cell<u32>,
        buffer: Cell<[u32; 2]>,
        doorbell: Cell<u32>,
        inten: Cell<u32>,
        intsts: Cell<u32>,
        /// Reads of the response since the doorbell.
        asked: Cell<usize>,
        /// What is on record in the place of `snp_host`.
        owed: Cell<Option<u32>>,
        reads: Cell<usize>,
        writes: Cell<usize>,
    }

    impl Psp {
        fn new() -> Result<Self> {
            Ok(Self {
                done: Arc::pin_init(Completion::new(), GFP_KERNEL)?,
                plan: Cell::new(PROMPT),
                cmdresp: Cell::new(0),
                buffer: Cell::new([0; 2]),
                doorbell: Cell::new(0),
                inten: Cell::new(u32::MAX),
                intsts: Cell::new(0),
                asked: Cell::new(0),
                owed: Cell::new(None),
                reads: Cell::new(0),
                writes: Cell::new(0),
            })
        }

        fn finish_if_due(&self) {
            let plan = self.plan.get();
            match plan.response {
                Some(response) if self.asked.get() >= plan.unfinished => {
                    self.cmdresp.set(response);
                    self.interrupt(plan.interrupt);
                }
                _ if plan.spurious => self.done.complete(),
                _ => {}
            }
        }

        /// Raises the interrupt, which the handler of this test takes at once; or it gets lost. One
        /// that is pending keeps the next from being raised.
        fn interrupt(&self, arrives: bool) {
            let enabled = self.inten.get() & COMPLETE != 0;
            let pending = self.intsts.get() & COMPLETE != 0;
            if enabled && arrives && !pending {
                self.done.complete();
            } else {
                self.intsts.set(self.intsts.get() | COMPLETE);
            }
        }

        /// Reads and writes since the last call.
        fn accesses(&self) -> (usize, usize) {
            (self.reads.take(), self.writes.take())
        }

        /// Whether an interrupt was raised that nobody waited for.
        fn has_stale_interrupt(&self) -> bool {
            self.done.wait_timeout(0).is_some()
        }
    }

    impl fake_io::Device for Psp {
        fn read(&self, offset: usize) -> u32 {
            self.reads.set(self.reads.get() + 1);
            if offset == PSPV2.registers.intsts {
                return self.intsts.get();
            }
            if offset == PSPV2.registers.inten {
                return self.inten.get();
            }
            let value = self.cmdresp.get();
            if value & READY == 0 && value != 0 {
                self.asked.set(self.asked.get() + 1);
                self.finish_if_due();
            }
            value
        }

        fn write(&self, offset: usize, value: u32) {
            self.writes.set(self.writes.get() + 1);
            let map = &PSPV2.registers;
            let [low, high] = self.buffer.get();
            if offset == map.cmdbuf_lo {
                self.buffer.set([value, high]);
            } else if offset == map.cmdbuf_hi {
                self.buffer.set([low, value]);
            } else if offset == map.inten {
                self.inten.set(value);
            } else if offset == map.intsts {
                self.intsts.set(self.intsts.get() & !value);
            } else if offset == map.cmdresp {
                self.doorbell.set(value);
                self.cmdresp.set(value);
                self.asked.set(0);
                self.finish_if_due();
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Limits {
        first_ms: u32,
        snp_init_ms: u32,
        command_ms: u32,
    }

    const PATIENT: Limits = Limits {
        first_ms: LONG_MS,
        snp_init_ms: LONG_MS,
        command_ms: LONG_MS,
    };
    const IMPATIENT: Limits = Limits {
        first_ms: SHORT_MS,
        snp_init_ms: SHORT_MS,
        command_ms: SHORT_MS,
    };

    /// What the mailbox asks for, with the record kept by the PSP of the test.
    struct Around<'a> {
        limits: Limits,
        psp: &'a Psp,
    }

    impl Environment for Around<'_> {
        fn first_timeout_ms(&self) -> u32 {
            self.limits.first_ms
        }

        fn snp_init_timeout_ms(&self) -> u32 {
            self.limits.snp_init_ms
        }

        fn command_timeout_ms(&self) -> u32 {
            self.limits.command_ms
        }

        fn unanswered(&self) -> Option<u32> {
            self.psp.owed.get()
        }

        fn record_unanswered(&self, command: CommandId) {
            let first = self.unanswered().unwrap_or(command.raw().into());
            self.psp.owed.set(Some(first));
        }

        fn record_answered(&self) {
            self.psp.owed.set(None);
        }
    }

    type View<'a> = fake_io::View<'a, Psp>;

    fn registers(psp: &Psp) -> Registers<View<'_>> {
        Registers::new(fake_io::region(psp), &PSPV2.registers)
    }

    type TestMailbox<'a> = Mailbox<View<'a>, Around<'a>>;

    /// A mailbox of which it has been seen that the PSP is idle.
    fn mailbox<'a>(psp: &'a Psp, dev: &ARef<Device>, limits: Limits) -> TestMailbox<'a> {
        let mut mailbox = bound(psp, dev, limits);
        mailbox.state = State::Idle;
        mailbox
    }

    /// The mailbox of a PSP that has just been bound.
    fn bound<'a>(psp: &'a Psp, dev: &ARef<Device>, limits: Limits) -> TestMailbox<'a> {
        let around = Around { limits, psp };
        Mailbox::new(dev.clone(), registers(psp), psp.done.clone(), around)
    }

    fn ok() -> Result<Status, CmdError> {
        Ok(Status::SUCCESS)
    }

    fn took_long(start: Instant<Monotonic>) -> bool {
        start.elapsed().as_millis() >= FAR_TOO_LONG_MS
    }

    /// Executes a command; an answer that came with the timeout is none.
    fn prompt(
        mailbox: &mut TestMailbox<'_>,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, CmdError> {
        let start = Instant::now();
        let answer = mailbox.execute(command, buffer, wait);
        if took_long(start) {
            return Err(CmdError::Transport(ETIMEDOUT));
        }
        answer
    }

    #[test]
    fn every_command_succeeds_with_three_writes_and_one_read() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        for (n, command) in TABLE.iter().enumerate() {
            for wait in WAITS {
                let spa = 0x0008_1234_5678_9000 + n as u64;
                check!(
                    prompt(&mut mailbox, command, zerocopy::transmute!(spa), wait) == ok(),
                    "{}",
                    command.name
                );
                check!(psp.accesses() == (1, 3), "{}", command.name);
                check!(
                    psp.buffer.get() == [0x5678_9000 + n as u32, 0x0008_1234],
                    "{}",
                    command.name
                );
                let interrupt = u32::from(wait == Wait::Interrupt);
                let doorbell = u32::from(command.id.raw()) << 16 | interrupt;
                check!(psp.doorbell.get() == doorbell, "{}", command.name);
                check!(mailbox.dead().is_none(), "{}", command.name);
                // The PSP of this test raises one in any case.
                check!(
                    psp.has_stale_interrupt() == (wait == Wait::Poll),
                    "{}",
                    command.name
                );
            }
        }
        Ok(())
    }

    #[test]
    fn every_command_brings_every_documented_status() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        for command in TABLE {
            for row in status::TABLE {
                for wait in WAITS {
                    psp.plan.set(Plan {
                        response: Some(READY | u32::from(row.code)),
                        ..PROMPT
                    });
                    let answer = prompt(&mut mailbox, command, Address::NONE, wait);
                    check!(
                        answer == Ok(Status::new(row.code)),
                        "{} {}",
                        command.name,
                        row.name
                    );
                }
            }
        }
        check!(mailbox.dead().is_none());
        Ok(())
    }

    #[test]
    fn every_16_bit_status_arrives() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        let command = CommandId::SNP_INIT_EX.row();
        for raw in 0..=u16::MAX {
            psp.plan.set(Plan {
                response: Some(READY | u32::from(raw)),
                ..PROMPT
            });
            let answer = prompt(&mut mailbox, command, Address::NONE, Wait::Poll);
            check!(answer == Ok(Status::new(raw)), "{:#x}", raw);
        }
        // The bits between READY and the status say nothing.
        psp.plan.set(Plan {
            response: Some(READY | 0x7fff_0003),
            ..PROMPT
        });
        check!(
            prompt(&mut mailbox, command, Address::NONE, Wait::Poll) == Ok(Status::INVALID_CONFIG)
        );
        Ok(())
    }

    #[test]
    fn silence_kills_the_mailbox_whatever_the_command() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        psp.plan.set(SILENT);
        for command in TABLE {
            for wait in WAITS {
                let mut mailbox = mailbox(&psp, &dev, IMPATIENT);
                let dead = Dead::Silent {
                    command: command.name,
                    secs: 0,
                };
                said::forget();
                let answer = mailbox.execute(command, Address::NONE, wait);
                check!(answer == Err(CmdError::Died(dead)), "{}", command.name);
                check!(mailbox.dead() == Some(dead), "{}", command.name);
                check!(said::only(&["psp-silent"]), "{}", command.name);
                psp.accesses();
                for next in [command, CommandId::PLATFORM_STATUS.row()] {
                    let refused = Err(CmdError::Dead(dead));
                    check!(
                        mailbox.execute(next, Address::NONE, wait) == refused,
                        "{}",
                        command.name
                    );
                }
                check!(psp.accesses() == (0, 0), "{}", command.name);
                check!(said::only(&[]), "{}", command.name);
            }
        }
        Ok(())
    }

    #[test]
    fn an_answer_after_death_is_not_listened_to() -> Result {
        let (_faux, dev) = device()?;
        for wait in WAITS {
            let psp = Psp::new()?;
            psp.plan.set(SILENT);
            let mut mailbox = mailbox(&psp, &dev, IMPATIENT);
            let command = CommandId::INIT.row();
            check!(mailbox.execute(command, Address::NONE, wait).is_err());
            let dead = mailbox.dead();
            check!(dead.is_some());
            psp.plan.set(PROMPT);
            psp.finish_if_due();
            psp.accesses();
            check!(mailbox.dead() == dead);
            let answer = mailbox.execute(command, Address::NONE, wait);
            check!(matches!(answer, Err(CmdError::Dead(why)) if Some(why) == dead));
            check!(psp.accesses() == (0, 0));
        }
        Ok(())
    }

    #[test]
    fn the_first_command_has_a_timeout_of_its_own() -> Result {
        let (_faux, dev) = device()?;
        let command = CommandId::PLATFORM_STATUS.row();
        for wait in WAITS {
            let psp = Psp::new()?;
            psp.plan.set(SILENT);
            let start = Instant::now();
            let quick_first = Limits {
                first_ms: SHORT_MS,
                ..PATIENT
            };
            check!(mailbox(&psp, &dev, quick_first)
                .execute(command, Address::NONE, wait)
                .is_err());

            let quick_later = Limits {
                command_ms: SHORT_MS,
                ..PATIENT
            };
            let mut mailbox = mailbox(&psp, &dev, quick_later);
            psp.plan.set(PROMPT);
            check!(mailbox.execute(command, Address::NONE, wait) == ok());
            psp.plan.set(SILENT);
            said::forget();
            check!(mailbox.execute(command, Address::NONE, wait).is_err());
            check!(said::only(&["command-timeout"]), "{:?}", wait);
            check!(!took_long(start), "{:?}", wait);
        }
        Ok(())
    }

    #[test]
    fn snp_init_has_a_timeout_of_its_own() -> Result {
        let (_faux, dev) = device()?;
        for command in TABLE {
            let initialises = matches!(command.id, CommandId::SNP_INIT | CommandId::SNP_INIT_EX);
            for wait in WAITS {
                let psp = Psp::new()?;
                let (snp_init_ms, command_ms) = if initialises {
                    (SHORT_MS, LONG_MS)
                } else {
                    (LONG_MS, SHORT_MS)
                };
                let limits = Limits {
                    first_ms: LONG_MS,
                    snp_init_ms,
                    command_ms,
                };
                let mut mailbox = mailbox(&psp, &dev, limits);
                check!(
                    mailbox.execute(CommandId::PLATFORM_STATUS.row(), Address::NONE, wait) == ok()
                );
                psp.plan.set(SILENT);
                let start = Instant::now();
                check!(mailbox.execute(command, Address::NONE, wait).is_err());
                check!(!took_long(start), "{}", command.name);
            }
        }
        Ok(())
    }

    #[test]
    fn no_time_out_is_early() -> Result {
        /// Ticks that come late make a sleep shorter, but not by three quarters of this.
        const MS: u32 = 400;
        let (_faux, dev) = device()?;
        let first = Limits {
            first_ms: MS,
            ..IMPATIENT
        };
        let snp_init = Limits {
            snp_init_ms: MS,
            ..IMPATIENT
        };
        let later = Limits {
            command_ms: MS,
            ..IMPATIENT
        };
        let status = CommandId::PLATFORM_STATUS.row();
        let init = CommandId::SNP_INIT_EX.row();
        // Limits; what is asked, after an answer or as the first thing; somebody else's command.
        for (limits, command, answered, owed) in [
            (first, status, false, 0),
            (first, init, false, 0),
            (first, status, false, rung(init)),
            (snp_init, init, true, 0),
            (later, status, true, 0),
        ] {
            for wait in WAITS {
                let psp = Psp::new()?;
                psp.plan.set(SILENT);
                psp.cmdresp.set(owed);
                let mut mailbox = bound(&psp, &dev, limits);
                mailbox.answered = answered;
                let start = Instant::<Monotonic>::now();
                check!(mailbox.execute(command, Address::NONE, wait).is_err());
                let elapsed = start.elapsed().as_millis();
                // The delay between two reads is not exact on an emulator; their number is.
                let (reads, _) = psp.accesses();
                let early = match wait {
                    Wait::Interrupt => elapsed < i64::from(MS) / 4,
                    Wait::Poll => reads < MS as usize * 100,
                };
                check!(
                    !early && elapsed < FAR_TOO_LONG_MS,
                    "{} {:?}: {} ms, {} reads",
                    command.name,
                    wait,
                    elapsed,
                    reads
                );
            }
        }
        Ok(())
    }

    #[test]
    fn the_seconds_of_a_time_out_are_told() -> Result {
        let (_faux, dev) = device()?;
        let limits = Limits {
            first_ms: 1000,
            ..PATIENT
        };
        let next = CommandId::PLATFORM_STATUS.row();
        let earlier = CommandId::SNP_INIT_EX.row();
        let (command, secs) = (next.name, 1);
        let silent = Dead::Silent { command, secs };
        let command = earlier.name;
        let busy = Dead::Busy { command, secs };
        let owes: [&str; 2] = ["psp-owes-answer", "psp-still-owes-answer"];
        for (found, dead, lines) in [
            (0, silent, &["psp-silent"][..]),
            (rung(earlier), busy, &owes),
        ] {
            said::forget();
            let psp = Psp::new()?;
            psp.plan.set(SILENT);
            psp.cmdresp.set(found);
            let mut mailbox = bound(&psp, &dev, limits);
            let answer = mailbox.execute(next, Address::NONE, Wait::Interrupt);
            check!(answer == Err(CmdError::Died(dead)), "{:?}", answer);
            check!(said::only(lines), "{:?}", answer);
        }
        Ok(())
    }

    #[test]
    fn a_slow_command_is_told_of_each_minute() -> Result {
        let secs = |secs: u32| msecs_to_jiffies(secs * 1000);
        let mut notices = Notices::default();
        for (used, due) in [
            (secs(60) - 1, None),
            (1, Some(60)),
            (1, None),
            (secs(60) - 2, None),
            // A slice does not end with the minute.
            (3, Some(120)),
            (secs(60) - 1, None),
            (secs(60), Some(180)),
        ] {
            check!(notices.due(used) == due, "{} {:?}", used, due);
        }
        Ok(())
    }

    #[test]
    fn an_interrupt_before_the_wait_is_not_lost() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        // The PSP of this test answers, with its interrupt, while the doorbell is being written.
        check!(
            prompt(
                &mut mailbox,
                CommandId::DF_FLUSH.row(),
                Address::NONE,
                Wait::Interrupt
            ) == ok()
        );
        check!(!psp.has_stale_interrupt());
        Ok(())
    }

    #[test]
    fn an_answer_without_interrupt_counts() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        psp.plan.set(Plan {
            response: Some(READY | 3),
            interrupt: false,
            ..PROMPT
        });
        let mut mailbox = mailbox(&psp, &dev, IMPATIENT);
        for _ in 0..2 {
            let answer =
                mailbox.execute(CommandId::SNP_INIT_EX.row(), Address::NONE, Wait::Interrupt);
            check!(answer == Ok(Status::INVALID_CONFIG));
            // The interrupt is looked at, and set up again.
            check!(psp.accesses() == (2, 6));
        }
        check!(mailbox.dead().is_none() && !mailbox.take_reset());
        Ok(())
    }

    #[test]
    fn an_interrupt_that_was_lost_costs_no_slice() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        let command = CommandId::PLATFORM_STATUS.row();
        let lost = Plan {
            interrupt: false,
            ..PROMPT
        };
        let start = Instant::now();
        said::forget();
        // Looked for once; the others are polled for. It is told of once as well.
        for n in 0..20 {
            let lines: &[&str] = if n == 0 { &["interrupt-lost"] } else { &[] };
            psp.plan.set(lost);
            check!(mailbox.execute(command, Address::NONE, Wait::Interrupt) == ok());
            check!(psp.accesses() == (2, 6) && mailbox.interrupt_lost && said::only(lines));
        }
        check!(have_passed(POLL_MS.into(), start));
        check!(!took_long(start));
        // Polled for at each tick, and not at each slice.
        let unfinished = 20;
        psp.plan.set(Plan { unfinished, ..lost });
        let start = Instant::<Monotonic>::now();
        check!(mailbox.execute(command, Address::NONE, Wait::Interrupt) == ok());
        check!(psp.accesses() == (unfinished + 2, 6));
        let slices = i64::from(POLL_MS) * unfinished as i64;
        check!(start.elapsed().as_millis() < slices / 2);
        // The first that comes ends it.
        psp.plan.set(PROMPT);
        for lines in [&["interrupt-again"][..], &[]] {
            check!(prompt(&mut mailbox, command, Address::NONE, Wait::Interrupt) == ok());
            check!(psp.accesses() == (1, 3) && !mailbox.interrupt_lost && said::only(lines));
        }
        check!(!mailbox.take_reset());
        Ok(())
    }

    #[test]
    fn an_interrupt_a_little_behind_its_answer_is_not_lost() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        psp.done.complete();
        mailbox.repair_interrupt("PLATFORM_STATUS");
        check!(psp.accesses() == (0, 0) && !mailbox.interrupt_lost);
        Ok(())
    }

    #[test]
    fn registers_that_lost_their_values_get_them_again_and_are_told_of() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        let command = CommandId::PLATFORM_STATUS.row();
        said::forget();
        // More than once.
        for _ in 0..3 {
            psp.inten.set(0);
            for (deaf, reset, accesses, line) in [
                (true, true, (2, 6), "registers-reset"),
                (false, false, (1, 3), "interrupt-again"),
            ] {
                check!(prompt(&mut mailbox, command, Address::NONE, Wait::Interrupt) == ok());
                check!(psp.inten.get() == u32::MAX && psp.accesses() == accesses);
                check!(mailbox.interrupt_lost == deaf);
                check!(mailbox.take_reset() == reset && !mailbox.take_reset());
                check!(said::only(&[line]));
            }
        }
        Ok(())
    }

    #[test]
    fn a_panic_needs_no_interrupt() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        psp.inten.set(0);
        let command = CommandId::SHUTDOWN.row();
        check!(prompt(&mut mailbox, command, Address::NONE, Wait::Poll) == ok());
        check!(psp.accesses() == (1, 3) && !mailbox.interrupt_lost && !mailbox.take_reset());
        Ok(())
    }

    #[test]
    fn interrupts_for_nothing_do_not_end_the_wait() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        for unfinished in 0..5 {
            psp.plan.set(Plan {
                unfinished,
                spurious: true,
                ..PROMPT
            });
            let answer = prompt(
                &mut mailbox,
                CommandId::INIT.row(),
                Address::NONE,
                Wait::Interrupt,
            );
            check!(answer == ok(), "{}", unfinished);
            check!(psp.accesses() == (unfinished + 1, 3), "{}", unfinished);
        }
        Ok(())
    }

    #[test]
    fn a_storm_of_interrupts_for_nothing_ends() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        psp.plan.set(Plan {
            spurious: true,
            ..SILENT
        });
        let mut mailbox = mailbox(&psp, &dev, IMPATIENT);
        let answer = mailbox.execute(CommandId::INIT.row(), Address::NONE, Wait::Interrupt);
        check!(matches!(answer, Err(CmdError::Died(Dead::Silent { .. }))));
        // Each costs a tick.
        let ticks = msecs_to_jiffies(SHORT_MS) as usize;
        let accesses = psp.accesses();
        check!(accesses == (ticks, 3), "{:?}", accesses);
        Ok(())
    }

    #[test]
    fn an_old_interrupt_does_not_count() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        psp.done.complete();
        psp.done.complete();
        check!(
            prompt(
                &mut mailbox,
                CommandId::PDH_GEN.row(),
                Address::NONE,
                Wait::Interrupt
            ) == ok()
        );
        check!(psp.accesses() == (1, 3));
        check!(!psp.has_stale_interrupt());
        Ok(())
    }

    #[test]
    fn all_ones_at_any_read_is_a_device_that_is_gone() -> Result {
        let (_faux, dev) = device()?;
        for command in TABLE {
            for wait in WAITS {
                for unfinished in 0..4 {
                    let psp = Psp::new()?;
                    psp.plan.set(Plan {
                        response: Some(u32::MAX),
                        unfinished,
                        spurious: true,
                        ..PROMPT
                    });
                    let mut mailbox = mailbox(&psp, &dev, PATIENT);
                    let dead = Dead::Gone {
                        command: command.name,
                    };
                    said::forget();
                    let answer = prompt(&mut mailbox, command, Address::NONE, wait);
                    check!(
                        answer == Err(CmdError::Died(dead)),
                        "{} {}",
                        command.name,
                        unfinished
                    );
                    check!(
                        psp.accesses() == (unfinished + 1, 3),
                        "{} {}",
                        command.name,
                        unfinished
                    );
                    let again = prompt(&mut mailbox, command, Address::NONE, wait);
                    check!(again == Err(CmdError::Dead(dead)), "{}", command.name);
                    check!(psp.accesses() == (0, 0), "{}", command.name);
                    check!(said::only(&["psp-gone"]), "{}", command.name);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn polling_reads_until_the_answer_is_there() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        psp.plan.set(Plan {
            unfinished: 100,
            interrupt: false,
            ..PROMPT
        });
        let mut mailbox = mailbox(&psp, &dev, PATIENT);
        check!(
            prompt(
                &mut mailbox,
                CommandId::SHUTDOWN.row(),
                Address::NONE,
                Wait::Poll
            ) == ok()
        );
        check!(psp.accesses() == (101, 3));
        Ok(())
    }

    /// Whoever issued it: this is another mailbox, on the same registers.
    #[test]
    fn an_answer_to_somebody_elses_command_is_waited_for() -> Result {
        let (_faux, dev) = device()?;
        let after = |unfinished| Plan {
            unfinished,
            ..PROMPT
        };
        let last = SHORT_MS as usize - 1;
        for (plan, ms, idle, reads) in [
            (PROMPT, 1, Ok(()), 1),
            (SILENT, 1, Err(NotIdle::Busy), 1),
            (SILENT, SHORT_MS, Err(NotIdle::Busy), SHORT_MS as usize),
            (after(5), SHORT_MS, Ok(()), 6),
            // In the last millisecond, and in the one after it.
            (after(last), SHORT_MS, Ok(()), last + 1),
            (
                after(last + 1),
                SHORT_MS,
                Err(NotIdle::Busy),
                SHORT_MS as usize,
            ),
            (
                Plan {
                    response: Some(u32::MAX),
                    ..PROMPT
                },
                SHORT_MS,
                Err(NotIdle::Gone),
                1,
            ),
        ] {
            let psp = Psp::new()?;
            psp.plan.set(plan);
            let mut first = mailbox(&psp, &dev, PATIENT);
            let second = mailbox(&psp, &dev, PATIENT);
            core::mem::forget(first.start(
                CommandId::SHUTDOWN.row(),
                Address::NONE,
                Wait::Interrupt,
            ));
            psp.accesses();
            let start = Instant::<Monotonic>::now();
            check!(second.poll_idle(ms) == idle);
            let took = start.elapsed().as_millis();
            check!(took < FAR_TOO_LONG_MS, "{}", took);
            // Between the reads.
            let between = i64::from(ms) - 1;
            let whole = have_passed(between, start);
            check!(idle != Err(NotIdle::Busy) || whole, "{}", took);
            // It writes nothing.
            check!(psp.accesses() == (reads, 0));
        }
        Ok(())
    }

    #[test]
    fn nothing_starts_while_a_command_is_in_flight() -> Result {
        let (_faux, dev) = device()?;
        for command in TABLE {
            let psp = Psp::new()?;
            let mut mailbox = mailbox(&psp, &dev, PATIENT);
            core::mem::forget(mailbox.start(command, Address::NONE, Wait::Interrupt));
            nothing_starts(&psp, &mut mailbox, CmdError::Transport(EBUSY), command.name)?;
        }
        Ok(())
    }

    #[test]
    fn a_command_that_nobody_waits_for_kills_the_mailbox() -> Result {
        let (_faux, dev) = device()?;
        for command in TABLE {
            for wait in WAITS {
                let psp = Psp::new()?;
                let mut mailbox = mailbox(&psp, &dev, PATIENT);
                drop(mailbox.start(command, Address::NONE, wait));
                let dead = Dead::Silent {
                    command: command.name,
                    secs: 0,
                };
                nothing_starts(&psp, &mut mailbox, CmdError::Dead(dead), command.name)?;
                // The next mailbox waits for it; after a panic there is none.
                let record = (wait == Wait::Interrupt).then_some(command.id.raw().into());
                check!(psp.owed.get() == record, "{} {:?}", command.name, wait);
            }
        }
        Ok(())
    }

    fn nothing_starts(
        psp: &Psp,
        mailbox: &mut TestMailbox<'_>,
        why: CmdError,
        after: &str,
    ) -> Result {
        psp.accesses();
        for wait in WAITS {
            let answer = prompt(mailbox, CommandId::INIT.row(), Address::NONE, wait);
            check!(answer == Err(why), "{}", after);
        }
        check!(psp.accesses() == (0, 0), "{}", after);
        Ok(())
    }

    /// The doorbell of `command` as somebody else has rung it.
    fn rung(command: &CommandInfo) -> u32 {
        u32::from(command.id.raw()) << 16 | 1
    }

    #[test]
    fn the_first_command_looks_once_whether_the_psp_is_idle() -> Result {
        let (_faux, dev) = device()?;
        // Never used; after any answer.
        for before in [0, READY, READY | 0x1a, READY | 0x7fff_0003] {
            for wait in WAITS {
                let psp = Psp::new()?;
                psp.cmdresp.set(before);
                let mut mailbox = bound(&psp, &dev, PATIENT);
                check!(psp.accesses() == (0, 0), "{:#x}", before);
                for reads in [2, 1, 1] {
                    let answer = prompt(
                        &mut mailbox,
                        CommandId::PLATFORM_STATUS.row(),
                        Address::NONE,
                        wait,
                    );
                    check!(answer == ok(), "{:#x}", before);
                    check!(psp.accesses() == (reads, 3), "{:#x}", before);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_is_rung_while_an_earlier_command_has_no_answer() -> Result {
        let (_faux, dev) = device()?;
        for earlier in TABLE {
            for wait in WAITS {
                let psp = Psp::new()?;
                psp.plan.set(SILENT);
                psp.cmdresp.set(rung(earlier));
                // Two bindings in a row.
                for _ in 0..2 {
                    let mut mailbox = bound(&psp, &dev, IMPATIENT);
                    let dead = Dead::Busy {
                        command: earlier.name,
                        secs: 0,
                    };
                    let command = CommandId::PLATFORM_STATUS.row();
                    let answer = mailbox.execute(command, Address::NONE, wait);
                    check!(answer == Err(CmdError::Died(dead)), "{}", earlier.name);
                    check!(psp.accesses().1 == 0, "{}", earlier.name);
                    nothing_starts(&psp, &mut mailbox, CmdError::Dead(dead), earlier.name)?;
                }
                check!(psp.cmdresp.get() == rung(earlier), "{}", earlier.name);
                // A kernel that panics records nothing.
                let record = (wait == Wait::Interrupt).then_some(earlier.id.raw().into());
                check!(psp.owed.get() == record, "{}", earlier.name);
            }
        }
        Ok(())
    }

    #[test]
    fn a_command_that_is_not_in_the_table_is_waited_for_as_well() -> Result {
        let (_faux, dev) = device()?;
        let psp = Psp::new()?;
        psp.plan.set(SILENT);
        psp.cmdresp.set(0x07ff_0001);
        let answer = bound(&psp, &dev, IMPATIENT).execute(
            CommandId::PLATFORM_STATUS.row(),
            Address::NONE,
            Wait::Interrupt,
        );
        check!(matches!(answer, Err(CmdError::Died(Dead::Busy { .. }))));
        check!(psp.accesses().1 == 0);
        Ok(())
    }

    #[test]
    fn a_late_answer_is_waited_for_and_not_taken_for_that_of_the_next() -> Result {
        let (_faux, dev) = device()?;
        for wait in WAITS {
            for interrupt in [true, false] {
                let psp = Psp::new()?;
                psp.cmdresp.set(rung(CommandId::SNP_INIT_EX.row()));
                psp.owed.set(Some(CommandId::SNP_INIT_EX.raw().into()));
                psp.plan.set(Plan {
                    response: Some(READY | 3),
                    unfinished: 2,
                    interrupt,
                    ..PROMPT
                });
                let mut mailbox = bound(&psp, &dev, PATIENT);
                let next = CommandId::PLATFORM_STATUS.row();
                said::forget();
                check!(mailbox.wait_idle(next, wait).is_ok());
                check!(said::only(&["psp-owes-answer", "psp-answered"]));
                check!(psp.accesses().1 == 0 && psp.cmdresp.get() == READY | 3);
                // Its interrupt is there once more.
                psp.done.complete();
                psp.plan.set(Plan {
                    unfinished: 1,
                    ..PROMPT
                });
                check!(prompt(&mut mailbox, next, Address::NONE, wait) == ok());
                psp.plan.set(SILENT);
                mailbox.environment.limits = IMPATIENT;
                let answer = mailbox.execute(next, Address::NONE, wait);
                check!(matches!(answer, Err(CmdError::Died(Dead::Silent { .. }))));
            }
        }
        Ok(())
    }

    #[test]
    fn a_record_is_settled_by_an_answer_alone() -> Result {
        let (_faux, dev) = device()?;
        let owed = Some(CommandId::SNP_INIT_EX.raw().into());
        let next = CommandId::PLATFORM_STATUS.row();
        // What the register says, and whether that is an answer: a reset clears it, and does not
        // stop firmware.
        for (found, idle) in [(0, false), (1, false), (READY, true), (READY | 0x1a, true)] {
            let psp = Psp::new()?;
            psp.plan.set(SILENT);
            psp.cmdresp.set(found);
            psp.owed.set(owed);
            let mut mailbox = bound(&psp, &dev, IMPATIENT);
            let seen = mailbox.wait_idle(next, Wait::Interrupt);
            let dead = Dead::Busy {
                command: "SNP_INIT_EX",
                secs: 0,
            };
            check!(
                seen == if idle { Ok(()) } else { Err(dead) },
                "{:#x}",
                found
            );
            check!(
                psp.owed.get() == if idle { None } else { owed },
                "{:#x}",
                found
            );
            check!(psp.accesses().1 == 0, "{:#x}", found);
            // A kernel that panics leaves the record alone.
            psp.owed.set(owed);
            psp.cmdresp.set(READY);
            let mut mailbox = bound(&psp, &dev, IMPATIENT);
            check!(mailbox.wait_idle(next, Wait::Poll) == Ok(()));
            check!(psp.owed.get() == owed);
        }
        Ok(())
    }

    #[test]
    fn a_command_without_an_answer_goes_on_record() -> Result {
        let (_faux, dev) = device()?;
        let gone = Plan {
            response: Some(u32::MAX),
            ..PROMPT
        };
        for (plan, wait, recorded) in [
            (PROMPT, Wait::Interrupt, false),
            (SILENT, Wait::Interrupt, true),
            (gone, Wait::Interrupt, true),
            (SILENT, Wait::Poll, false),
            (gone, Wait::Poll, false),
        ] {
            for command in TABLE {
                let psp = Psp::new()?;
                psp.plan.set(plan);
                let mut mailbox = mailbox(&psp, &dev, IMPATIENT);
                let _ = mailbox.execute(command, Address::NONE, wait);
                let _ = mailbox.execute(CommandId::INIT.row(), Address::NONE, wait);
                let record = recorded.then_some(command.id.raw().into());
                check!(psp.owed.get() == record, "{} {:?}", command.name, wait);
            }
        }
        Ok(())
    }

    #[test]
    fn a_device_that_is_gone_when_it_is_bound_is_left_alone() -> Result {
        let (_faux, dev) = device()?;
        for wait in WAITS {
            let psp = Psp::new()?;
            psp.cmdresp.set(u32::MAX);
            let mut mailbox = bound(&psp, &dev, PATIENT);
            let command = CommandId::PLATFORM_STATUS.row();
            let dead = Dead::Gone {
                command: command.name,
            };
            let answer = prompt(&mut mailbox, command, Address::NONE, wait);
            check!(answer == Err(CmdError::Died(dead)));
            check!(psp.accesses() == (1, 0) && psp.owed.get().is_none());
        }
        Ok(())
    }

    #[test]
    fn the_handler_wakes_for_an_answer_alone() -> Result {
        let psp = Psp::new()?;
        let handler = Interrupt::new(registers(&psp).interrupts(), psp.done.clone());
        // Pending interrupts, response, whether that is an answer.
        for (intsts, cmdresp, wakes) in [
            (COMPLETE, READY, true),
            (COMPLETE, READY | 3, true),
            (u32::MAX, READY, true),
            (COMPLETE, 0x0085_0001, false),
            (!COMPLETE, READY, false),
            (0, READY, false),
            (0, 0, false),
        ] {
            psp.plan.set(SILENT);
            psp.intsts.set(intsts);
            psp.cmdresp.set(cmdresp);
            handler.service();
            check!(psp.intsts.get() == 0, "{:#x} {:#x}", intsts, cmdresp);
            check!(
                psp.has_stale_interrupt() == wakes,
                "{:#x} {:#x}",
                intsts,
                cmdresp
            );
        }
        Ok(())
    }
}
