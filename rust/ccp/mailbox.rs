// SPDX-License-Identifier: GPL-2.0

//! The SEV mailbox: one command at a time, from doorbell to status.
//!
//! ```text
//!        seen idle            start()                     answer
//!   New ───────────► Idle ───────────────► Busy ──────────────────────► Idle
//!    │                                      │
//!    │ busy, and stays so                   │ no answer in time, or the registers read all ones
//!    └────────────────► Dead ◄──────────────┘
//! ```
//!
//! Dead is final for the object: firmware may still be working on the command and may write to its
//! buffers at any time, so no other command may be started, and the buffers stay out of the
//! allocator (see `pages.rs`).
//!
//! The one way back is to bind the device again, which makes a new mailbox. A new mailbox rings no
//! doorbell before the PSP has answered the commands of earlier bindings, loads and kernels: a PSP
//! takes one command at a time, and a late answer would pass for that of the next command. The
//! response register shows whether the PSP has answered. Where this driver has given up a command
//! the record in `snp_host` shows it as well ([`Environment::unanswered`]), and no reset of the
//! function clears that record.
//!
//! Accesses per command: two writes for the buffer's address, one for the doorbell, one read of the
//! response, plus three in the interrupt handler. That is what the in-tree driver needs, too. The
//! first command reads the response once more, and a slow one four times in a second.
//!
//! # Interrupts that do not come
//!
//! When an answer is there without its interrupt, the mailbox sets the interrupt registers up again
//! and polls until an interrupt has come. If the enable register had lost its value, something has
//! reset the function, and perhaps firmware: [`Transport::take_reset`] reports it, and
//! `platform/reset.rs` asks firmware for its state.

use kernel::{
    device::Device,
    io::poll::read_poll_timeout_atomic,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Delta,
        Jiffies, //
    },
};

use crate::{
    error::{
        CmdError,
        Dead, //
    },
    pages::Address,
    regs::{
        BarIo,
        Doorbell,
        Registers, //
    },
    sys::{
        completion::Completion,
        log, //
    },
    wire::{
        CommandId,
        CommandInfo,
        Status, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// How often a message tells of a slow command.
const NOTICE_SECS: u32 = 60;

/// How often the wait for a slow command reads the response, in milliseconds: a lost interrupt
/// delays the answer by that much at most.
const POLL_MS: u32 = 250;

/// The same while interrupts do not come.
const POLL_WITHOUT_INTERRUPT_MS: u32 = 1;

/// The time between two reads of the response in a panic, in microseconds. The in-tree driver's
/// value.
const POLL_USECS: i64 = 10;

/// How long an interrupt may be behind its answer.
const LATE_INTERRUPT_MS: u32 = 100;

/// What the mailbox takes from outside: timeouts in milliseconds, and a record that outlives it.
pub(crate) trait Environment {
    /// Timeout of the first command after probe (`psp_probe_timeout`): a PSP that is not there
    /// shall not hold up the boot.
    fn first_timeout_ms(&self) -> u32;
    /// Timeout of SNP_INIT and SNP_INIT_EX, which write the whole RMP.
    fn snp_init_timeout_ms(&self) -> u32;
    /// Timeout of all other commands (`psp_cmd_timeout`).
    fn command_timeout_ms(&self) -> u32;
    /// The number of the command on record that the PSP has not answered.
    fn unanswered(&self) -> Option<u32>;
    /// Records that the PSP has not answered `command`, unless an earlier command is on record.
    fn record_unanswered(&self, command: CommandId);
    /// Deletes the record: the answer has come.
    fn record_answered(&self);
}

/// How a caller waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Sleeps until the completion interrupt.
    Interrupt,
    /// Reads the response register until it is there; for the panic path, where nothing sleeps and
    /// no interrupt arrives.
    Poll,
}

/// Why there is no answer, so that firmware takes no command now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotIdle {
    /// It has not answered the last one.
    Busy,
    /// The registers read all ones.
    Gone,
}

/// Whatever carries a command to firmware and brings its status back.
pub(crate) trait Transport {
    /// Issues `command` with its buffer at `buffer` (with encryption bit) and waits for the answer.
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, CmdError>;

    /// Why nothing can be executed any more, if so. Firmware may then still write to the buffers of
    /// the last command.
    fn dead(&self) -> Option<Dead>;

    /// Whether registers were found to have lost their values since this was asked last.
    fn take_reset(&mut self) -> bool;

    /// Waits for firmware's answer to the last command, whoever issued it: reads the register until
    /// it is there, for `ms` milliseconds at most.
    ///
    /// # Errors
    ///
    /// See [`NotIdle`].
    fn poll_idle(&self, ms: u32) -> Result<(), NotIdle>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not a single command has been issued since the device was bound, and the PSP may still work
    /// on an earlier one.
    New,
    Idle,
    Busy,
    Dead(Dead),
}

/// The mailbox of one PSP. The caller serialises access (it takes `&mut self`).
pub(crate) struct Mailbox<I, E> {
    registers: Registers<I>,
    /// Completed by the interrupt handler.
    done: Arc<Completion>,
    environment: E,
    dev: ARef<Device>,
    state: State,
    /// A command has been answered: the PSP is there.
    answered: bool,
    /// The last answer came without its interrupt.
    interrupt_lost: bool,
    /// See [`Transport::take_reset`].
    reset: bool,
}

impl<I: BarIo, E: Environment> Mailbox<I, E> {
    /// A mailbox that has not been used yet. `done` is what the interrupt handler completes.
    pub(crate) fn new(
        dev: ARef<Device>,
        registers: Registers<I>,
        done: Arc<Completion>,
        environment: E,
    ) -> Self {
        Self {
            registers,
            done,
            environment,
            dev,
            state: State::New,
            answered: false,
            interrupt_lost: false,
            reset: false,
        }
    }

    /// Waits until the PSP works on no command from before this mailbox, for as long as the timeout
    /// of the first command. Issues nothing.
    ///
    /// `next`: the command that the caller issues afterwards.
    ///
    /// # Errors
    ///
    /// Why the mailbox is dead; it has been logged.
    pub(crate) fn wait_idle(&mut self, next: &CommandInfo, wait: Wait) -> Result<(), Dead> {
        // The record is under a lock. A kernel that panics takes no lock, and gives firmware
        // nothing that was not in use before.
        let use_record = wait == Wait::Interrupt;
        let unanswered = match use_record {
            true => self.environment.unanswered(),
            false => None,
        };
        let response = self.registers.response();
        if response.is_all_ones() {
            return Err(self.gone(next));
        }
        // The register of a mailbox that was never used reads as 0. After a time-out 0 proves
        // nothing: a reset clears the register as well, and does not stop firmware.
        let in_progress = response.in_progress();
        if !response.ready() && (unanswered.is_some() || in_progress.is_some()) {
            let command = name(unanswered.or(in_progress).unwrap_or(0));
            let timeout_ms = self.environment.first_timeout_ms();
            let secs = timeout_ms / 1000;
            log::notice!(
                self.dev,
                "psp-owes-answer",
                "the PSP still owes the answer to {command}, which was issued before this driver was bound; waiting up to {secs} s for it"
            );
            match self.wait_for_response(command, timeout_ms, wait) {
                Ok(_) => {}
                Err(NotIdle::Gone) => return Err(self.gone(next)),
                Err(NotIdle::Busy) => {
                    let row = in_progress.and_then(CommandId::lookup);
                    if let (true, Some(row)) = (use_record, row) {
                        self.environment.record_unanswered(row.id);
                    }
                    return Err(self.die(Dead::Busy { command, secs }));
                }
            }
            log::notice!(
                self.dev,
                "psp-answered",
                "the answer to {command} has come: going on"
            );
        }
        if use_record {
            self.environment.record_answered();
        }
        self.state = State::Idle;
        Ok(())
    }

    /// Waits for the response. Returns firmware's status, and whether an interrupt had come.
    fn wait_for_response(
        &mut self,
        command: &str,
        timeout_ms: u32,
        wait: Wait,
    ) -> Result<(Status, bool), NotIdle> {
        match wait {
            Wait::Interrupt => self.wait_interrupt(command, timeout_ms),
            Wait::Poll => {
                let reads = (timeout_ms as usize).saturating_mul(1000 / POLL_USECS as usize);
                let status = self.poll(reads, Delta::from_micros(POLL_USECS))?;
                Ok((status, false))
            }
        }
    }

    /// Reads the response.
    fn read_response(&self) -> Result<Status, NotIdle> {
        let response = self.registers.response();
        if response.is_all_ones() {
            // All ones would otherwise pass for "ready, status 0xffff".
            Err(NotIdle::Gone)
        } else if response.ready() {
            Ok(Status::new(response.status().get() as u16))
        } else {
            Err(NotIdle::Busy)
        }
    }

    /// Sleeps until the response is there.
    fn wait_interrupt(
        &mut self,
        command: &str,
        timeout_ms: u32,
    ) -> Result<(Status, bool), NotIdle> {
        let mut remaining = msecs_to_jiffies(timeout_ms);
        let mut notices = Notices::default();
        loop {
            let poll_ms = match self.interrupt_lost {
                true => POLL_WITHOUT_INTERRUPT_MS,
                false => POLL_MS,
            };
            let slice = remaining.min(msecs_to_jiffies(poll_ms));
            let woken = self.done.wait_timeout(slice);
            match self.read_response() {
                Err(NotIdle::Busy) => {}
                response => return response.map(|status| (status, woken.is_some())),
            }
            // Without an answer it was an interrupt of an earlier command that woke this task. Each
            // costs at least a tick, so that a storm of them ends as well.
            let used = slice.saturating_sub(woken.unwrap_or(0)).max(1);
            remaining = remaining.saturating_sub(used);
            if remaining == 0 {
                return Err(NotIdle::Busy);
            }
            if let Some(waited_secs) = notices.due(used) {
                log::notice!(
                    self.dev,
                    "command-slow",
                    "{command}: firmware has been working for {waited_secs} s, waiting up to {} s",
                    timeout_ms / 1000
                );
            }
        }
    }

    /// The answer to `command` is there without its interrupt: sets the interrupt up again, and
    /// checks whether it was enabled.
    fn repair_interrupt(&mut self, command: &str) {
        // The interrupt may be on its way.
        let late = msecs_to_jiffies(LATE_INTERRUPT_MS);
        if !self.interrupt_lost && self.done.wait_timeout(late).is_some() {
            return;
        }
        let interrupts = self.registers.interrupts();
        let enabled = interrupts.are_enabled();
        // An interrupt that stays pending may keep the next one from being raised.
        interrupts.mask();
        interrupts.unmask();
        if !enabled {
            log::warn!(
                self.dev,
                "registers-reset",
                "{command}: the answer is there but its interrupt was switched off: something has reset the PSP's registers; it is switched on again"
            );
            self.reset = true;
        } else if !self.interrupt_lost {
            log::warn!(
                self.dev,
                "interrupt-lost",
                "{command}: the answer is there but its interrupt never came; polling until interrupts come again. Check that MSIs of this device are delivered"
            );
        }
        self.interrupt_lost = true;
    }

    fn interrupt_came(&mut self) {
        if self.interrupt_lost {
            log::notice!(self.dev, "interrupt-again", "interrupts come again");
            self.interrupt_lost = false;
        }
    }

    /// Reads the response until it is there, `reads` times at most.
    fn poll(&self, reads: usize, between: Delta) -> Result<Status, NotIdle> {
        read_poll_timeout_atomic(
            || Ok(self.read_response()),
            |response| *response != Err(NotIdle::Busy),
            between,
            reads,
        )
        .unwrap_or(Err(NotIdle::Busy))
    }

    /// The device is gone; `command` was in flight, or was to be.
    fn gone(&mut self, command: &CommandInfo) -> Dead {
        let command = command.name;
        self.die(Dead::Gone { command })
    }

    fn die(&mut self, why: Dead) -> Dead {
        match why {
            Dead::Silent { .. } if self.answered => log::err!(
                self.dev,
                "command-timeout",
                "{why}: the mailbox is dead, SEV and SNP commands fail from now on; if the command is only slow, raise ccp.psp_cmd_timeout and bind the PSP again, which waits for the answer; else restart the machine"
            ),
            Dead::Silent { .. } => log::err!(
                self.dev,
                "psp-silent",
                "{why}: the mailbox is dead, SEV and SNP commands fail from now on; the PSP may be disabled in the BIOS set-up"
            ),
            Dead::Busy { .. } => log::err!(
                self.dev,
                "psp-still-owes-answer",
                "{why}: the mailbox is dead, SEV and SNP commands fail from now on; to wait longer raise ccp.psp_probe_timeout and bind the PSP again; else restart the machine"
            ),
            Dead::Gone { .. } => log::err!(
                self.dev,
                "psp-gone",
                "{why}: the mailbox is dead, SEV and SNP commands fail from now on; the device was removed or lost power"
            ),
        }
        self.state = State::Dead(why);
        why
    }

    /// Rings the doorbell. Until [`InFlight::finish`] has returned no other command can start.
    fn start(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<InFlight<'_, I, E>, CmdError> {
        if self.state == State::New {
            self.wait_idle(command, wait).map_err(CmdError::Died)?;
        }
        match self.state {
            State::Idle => {}
            State::New | State::Busy => return Err(EBUSY.into()),
            State::Dead(why) => return Err(CmdError::Dead(why)),
        }

        let doorbell = Doorbell::zeroed()
            .try_with_command(u32::from(command.id.raw()))?
            .with_interrupt(wait == Wait::Interrupt);
        self.registers.set_command_buffer(buffer);
        // Forgets an interrupt of an earlier command that came late. If such an interrupt comes
        // after this, its handler finds no response and wakes nobody.
        self.done.reinit();
        self.state = State::Busy;
        self.registers.ring(doorbell);
        Ok(InFlight {
            mailbox: self,
            command,
            wait,
        })
    }

    fn timeout_ms(&self, command: &CommandInfo) -> u32 {
        if !self.answered {
            self.environment.first_timeout_ms()
        } else if command.id.initialises_snp() {
            self.environment.snp_init_timeout_ms()
        } else {
            self.environment.command_timeout_ms()
        }
    }
}

impl<I: BarIo, E: Environment> Transport for Mailbox<I, E> {
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, CmdError> {
        self.start(command, buffer, wait)?
            .finish()
            .map_err(CmdError::Died)
    }

    fn dead(&self) -> Option<Dead> {
        match self.state {
            State::Dead(why) => Some(why),
            State::New | State::Idle | State::Busy => None,
        }
    }

    fn take_reset(&mut self) -> bool {
        core::mem::take(&mut self.reset)
    }

    fn poll_idle(&self, ms: u32) -> Result<(), NotIdle> {
        // A millisecond between two reads: slow reads then add little to the timeout.
        self.poll(ms as usize, Delta::from_millis(1)).map(drop)
    }
}

/// A command that firmware is working on. Dropping it without an answer kills the mailbox: firmware
/// may still be at work.
#[must_use = "dropping it kills the mailbox"]
struct InFlight<'m, I: BarIo, E: Environment> {
    mailbox: &'m mut Mailbox<I, E>,
    command: &'static CommandInfo,
    wait: Wait,
}

impl<I: BarIo, E: Environment> Drop for InFlight<'_, I, E> {
    fn drop(&mut self) {
        if self.mailbox.state == State::Busy {
            let command = self.command.name;
            self.mailbox.state = State::Dead(Dead::Silent { command, secs: 0 });
            self.record_unanswered();
        }
    }
}

impl<I: BarIo, E: Environment> InFlight<'_, I, E> {
    /// Records that the command has no answer, for the next mailbox of this PSP. A kernel that
    /// panics has no next mailbox, and must not take the lock of the record.
    fn record_unanswered(&self) {
        if self.wait == Wait::Interrupt {
            self.mailbox.environment.record_unanswered(self.command.id);
        }
    }

    /// Waits for the answer.
    fn finish(self) -> Result<Status, Dead> {
        let Self { command, wait, .. } = self;
        let timeout_ms = self.mailbox.timeout_ms(command);
        let response = self
            .mailbox
            .wait_for_response(command.name, timeout_ms, wait);
        let (status, interrupted) = match response {
            Ok(answer) => answer,
            Err(NotIdle::Busy) => return Err(self.silent(timeout_ms)),
            Err(NotIdle::Gone) => {
                self.record_unanswered();
                return Err(self.mailbox.gone(command));
            }
        };
        match (wait, interrupted) {
            (Wait::Interrupt, true) => self.mailbox.interrupt_came(),
            (Wait::Interrupt, false) => self.mailbox.repair_interrupt(command.name),
            (Wait::Poll, _) => {}
        }
        self.mailbox.answered = true;
        self.mailbox.state = State::Idle;
        Ok(status)
    }

    fn silent(self, timeout_ms: u32) -> Dead {
        let command = self.command.name;
        let secs = timeout_ms / 1000;
        self.record_unanswered();
        self.mailbox.die(Dead::Silent { command, secs })
    }
}

/// When a message tells of a slow command.
#[derive(Default)]
struct Notices {
    /// Since the last one, or since the wait began.
    since: Jiffies,
    /// Up to the last one.
    waited_secs: u32,
}

impl Notices {
    /// The wait has taken `used` more. If a notice is due: how long the wait is now, in seconds.
    fn due(&mut self, used: Jiffies) -> Option<u32> {
        self.since = self.since.saturating_add(used);
        if self.since < msecs_to_jiffies(NOTICE_SECS * 1000) {
            return None;
        }
        self.since = 0;
        self.waited_secs = self.waited_secs.saturating_add(NOTICE_SECS);
        Some(self.waited_secs)
    }
}

/// The name of a command, which somebody else may have issued.
fn name(command: u32) -> &'static str {
    CommandId::lookup(command).map_or("a command that this driver does not know", |row| row.name)
}
