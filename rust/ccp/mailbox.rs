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
//! buffers at any time, so nothing else may be started, and whoever owns the buffers keeps them
//! (see `pages.rs`).
//!
//! The one way back is to bind the device again, which makes a new mailbox. That rings no doorbell
//! before it has seen that the PSP has answered what an earlier binding, load or kernel asked for:
//! a PSP takes one command at a time, and the late answer would pass for that of the next one. The
//! response register tells, and where this driver has given up a command also the record in
//! `snp_host` ([`Ledger`]), which no reset of the function clears.
//!
//! Accesses per command: two writes for the buffer's address, one for the doorbell, one read of the
//! response, plus three in the interrupt handler. That is what the in-tree driver needs, too. The
//! first command reads the response once more, and a slow one four times in a second.
//!
//! # Interrupts that do not come
//!
//! When an answer is there and its interrupt is not, the interrupt registers are set up again, and
//! until an interrupt has been seen commands are polled for. If the enable register had lost its
//! value something has reset the function, and perhaps firmware: [`Transport::take_reset`] tells,
//! and `platform/reset.rs` looks what is left.

use kernel::{
    device::Device,
    io::{
        Io,
        IoCapable,
        Region, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::udelay,
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
        Doorbell,
        Registers,
        BAR_SIZE, //
    },
    sys::completion::Completion,
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

/// How often the wait for a slow command looks at the response, in milliseconds: an interrupt that
/// was lost costs no more than that.
const LOOK_MS: u32 = 250;

/// The same while interrupts do not come.
const DEAF_LOOK_MS: u32 = 1;

/// How long an interrupt may be behind its answer.
const GRACE_MS: u32 = 100;

/// How long to wait for an answer, in milliseconds.
pub(crate) trait Timeouts {
    /// For the first command after probe (`psp_probe_timeout`): a PSP that is not there shall not
    /// hold up the boot.
    fn first_ms(&self) -> u32;
    /// For SNP_INIT and SNP_INIT_EX, which write the whole RMP.
    fn snp_init_ms(&self) -> u32;
    /// For all others (`psp_cmd_timeout`).
    fn command_ms(&self) -> u32;
}

/// What outlives the mailbox: whether this PSP owes an answer.
pub(crate) trait Ledger {
    /// The command that the PSP owes an answer to.
    fn owed(&self) -> Option<u32>;
    /// The PSP owes an answer to this one, if not to an earlier one.
    fn owes(&self, command: CommandId);
    /// The answer has come.
    fn answered(&self);
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

/// Why firmware takes no command now.
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
    /// No command has been issued since the device was bound, and nobody has looked whether one may
    /// be.
    New,
    Idle,
    Busy,
    Dead(Dead),
}

/// The mailbox of one PSP. The caller serialises access (it takes `&mut self`).
pub(crate) struct Mailbox<I, S> {
    registers: Registers<I>,
    /// Completed by the interrupt handler.
    done: Arc<Completion>,
    surroundings: S,
    dev: ARef<Device>,
    state: State,
    /// A command has been answered: the PSP is there.
    answered: bool,
    /// The last answer came without its interrupt.
    deaf: bool,
    /// See [`Transport::take_reset`].
    reset: bool,
}

impl<'a, I, S: Timeouts + Ledger> Mailbox<I, S>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    /// A mailbox that has not been used yet. `done` is what the interrupt handler completes.
    pub(crate) fn new(
        dev: ARef<Device>,
        registers: Registers<I>,
        done: Arc<Completion>,
        surroundings: S,
    ) -> Self {
        Self {
            registers,
            done,
            surroundings,
            dev,
            state: State::New,
            answered: false,
            deaf: false,
            reset: false,
        }
    }

    /// Makes sure that the PSP works on no command that was issued before this mailbox was made,
    /// for which an administrator may let it have as much time as the first command has. Nothing is
    /// issued.
    ///
    /// `next`: what is to be issued then.
    ///
    /// # Errors
    ///
    /// Why the mailbox is dead; it has been logged.
    pub(crate) fn see_idle(&mut self, next: &CommandInfo, wait: Wait) -> Result<(), Dead> {
        // A kernel that panics takes no lock, and gives firmware nothing that was not in use
        // before.
        let records = wait == Wait::Interrupt;
        let owed = if records {
            self.surroundings.owed()
        } else {
            None
        };
        let response = self.registers.response();
        if response.is_all_ones() {
            return Err(self.gone(next));
        }
        // A mailbox that was never used reads as 0. But after a time-out the register is believed
        // only when it says that there is a response: a reset clears it as well, and does not stop
        // firmware.
        let found = response.in_progress();
        if !response.ready() && (owed.is_some() || found.is_some()) {
            let command = name(owed.or(found).unwrap_or(0));
            let timeout_ms = self.surroundings.first_ms();
            let secs = timeout_ms / 1000;
            dev_notice!(
                self.dev,
                "the PSP still owes the answer to {command}, which was issued before this driver was bound; waiting up to {secs} s for it\n"
            );
            match self.wait_for_response(command, timeout_ms, wait) {
                Some(Answer {
                    status: Some(_), ..
                }) => {}
                Some(Answer { status: None, .. }) => return Err(self.gone(next)),
                None => {
                    if let (true, Some(row)) = (records, found.and_then(CommandId::lookup)) {
                        self.surroundings.owes(row.id);
                    }
                    let why = Dead::Busy { command, secs };
                    return Err(self.die(why, "to wait longer raise ccp.psp_probe_timeout and bind the PSP again; else restart the machine"));
                }
            }
            dev_notice!(self.dev, "the answer to {command} has come: going on\n");
        }
        if records {
            self.surroundings.answered();
        }
        self.state = State::Idle;
        Ok(())
    }

    /// Waits for the response. [`None`] if there is none in time.
    fn wait_for_response(&mut self, command: &str, timeout_ms: u32, wait: Wait) -> Option<Answer> {
        match wait {
            Wait::Interrupt => self.sleep(command, timeout_ms),
            Wait::Poll => self.poll(timeout_ms),
        }
    }

    /// Looks at the response. [`None`] if there is none yet.
    fn look(&self, interrupted: bool) -> Option<Answer> {
        let response = self.registers.response();
        let status = if response.is_all_ones() {
            // Would otherwise pass for "ready, status 0xffff".
            None
        } else if response.ready() {
            Some(Status::new(response.status().get() as u16))
        } else {
            return None;
        };
        Some(Answer {
            status,
            interrupted,
        })
    }

    /// Sleeps until the response is there.
    fn sleep(&mut self, command: &str, timeout_ms: u32) -> Option<Answer> {
        let notice = msecs_to_jiffies(NOTICE_SECS * 1000);
        let mut left = msecs_to_jiffies(timeout_ms);
        let mut quiet: Jiffies = 0;
        let mut told: u32 = 0;
        loop {
            let look_ms = if self.deaf { DEAF_LOOK_MS } else { LOOK_MS };
            let slice = left.min(msecs_to_jiffies(look_ms));
            let woken = self.done.wait_timeout(slice);
            if let Some(answer) = self.look(woken.is_some()) {
                return Some(answer);
            }
            // Woken without an answer: by an interrupt of an earlier command. Each costs at least a
            // tick, so that a storm of them ends, too.
            let used = slice.saturating_sub(woken.unwrap_or(0)).max(1);
            left = left.saturating_sub(used);
            if left == 0 {
                return None;
            }
            quiet = quiet.saturating_add(used);
            if quiet >= notice {
                quiet = 0;
                told = told.saturating_add(NOTICE_SECS);
                dev_notice!(
                    self.dev,
                    "{}: firmware has been working for {} s, waiting up to {} s\n",
                    command,
                    told,
                    timeout_ms / 1000
                );
            }
        }
    }

    /// The answer to `command` is there, its interrupt is not: sets the interrupt up again, and
    /// looks whether it was.
    fn repair_interrupt(&mut self, command: &str) {
        // It may be on its way.
        if !self.deaf && self.done.wait_timeout(msecs_to_jiffies(GRACE_MS)).is_some() {
            return;
        }
        let interrupts = self.registers.interrupts();
        let enabled = interrupts.are_enabled();
        // What is pending, because nobody has seen it, may keep the next one from being raised.
        interrupts.mask();
        interrupts.unmask();
        if !enabled {
            dev_warn!(
                self.dev,
                "{command}: the answer is there but its interrupt was switched off: something has reset the PSP's registers; it is switched on again\n"
            );
            self.reset = true;
        } else if !self.deaf {
            dev_warn!(
                self.dev,
                "{command}: the answer is there but its interrupt never came; polling until interrupts come again. Check that MSIs of this device are delivered\n"
            );
        }
        self.deaf = true;
    }

    fn interrupt_came(&mut self) {
        if self.deaf {
            dev_notice!(self.dev, "interrupts come again\n");
            self.deaf = false;
        }
    }

    /// Reads the response until it is there.
    fn poll(&self, timeout_ms: u32) -> Option<Answer> {
        /// Between two reads. The in-tree driver's value.
        const STEP_USECS: u32 = 10;
        for _ in 0..timeout_ms.saturating_mul(1000 / STEP_USECS) {
            let answer = self.look(false);
            if answer.is_some() {
                return answer;
            }
            udelay(Delta::from_micros(STEP_USECS.into()));
        }
        None
    }

    /// The device is gone; `command` was in flight, or was to be.
    fn gone(&mut self, command: &CommandInfo) -> Dead {
        let command = command.name;
        self.die(
            Dead::Gone { command },
            "the device was removed or lost power",
        )
    }

    fn die(&mut self, why: Dead, remedy: &str) -> Dead {
        dev_err!(
            self.dev,
            "{why}: the mailbox is dead, SEV and SNP commands fail from now on; {remedy}\n"
        );
        self.state = State::Dead(why);
        why
    }

    /// Rings the doorbell. The result must be waited for; until then no other command can start.
    fn start(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<InFlight<'_, I, S>, CmdError> {
        if self.state == State::New {
            self.see_idle(command, wait).map_err(CmdError::Died)?;
        }
        match self.state {
            State::Idle => {}
            State::New | State::Busy => return Err(CmdError::Transport(EBUSY)),
            State::Dead(why) => return Err(CmdError::Dead(why)),
        }

        let doorbell = Doorbell::zeroed()
            .try_with_command(u32::from(command.id.raw()))
            .map_err(CmdError::Transport)?
            .with_interrupt(wait == Wait::Interrupt);
        self.registers.set_command_buffer(buffer);
        // An interrupt of an earlier command may have come late. One that comes after this finds no
        // response as long as firmware works on the new command, and the one who is woken looks for
        // himself.
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
            self.surroundings.first_ms()
        } else if command.id.initialises_snp() {
            self.surroundings.snp_init_ms()
        } else {
            self.surroundings.command_ms()
        }
    }
}

impl<'a, I, S: Timeouts + Ledger> Transport for Mailbox<I, S>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, CmdError> {
        self.start(command, buffer, wait)?
            .finish(wait)
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
        // Nobody waits for a single command: reads that are slow themselves shall not add up.
        for _ in 0..ms {
            match self.look(false) {
                Some(Answer { status: None, .. }) => return Err(NotIdle::Gone),
                Some(_) => return Ok(()),
                None => udelay(Delta::from_millis(1)),
            }
        }
        Err(NotIdle::Busy)
    }
}

/// A command that firmware is working on. Dropping it without an answer kills the mailbox: firmware
/// may still be at work.
#[must_use = "dropping it kills the mailbox"]
struct InFlight<'m, I, S: Ledger> {
    mailbox: &'m mut Mailbox<I, S>,
    command: &'static CommandInfo,
    /// Whether anybody is left to whom the record would be of use, and who may sleep for it.
    wait: Wait,
}

impl<I, S: Ledger> Drop for InFlight<'_, I, S> {
    fn drop(&mut self) {
        if self.mailbox.state == State::Busy {
            let command = self.command.name;
            self.mailbox.state = State::Dead(Dead::Silent { command, secs: 0 });
            self.record();
        }
    }
}

impl<I, S: Ledger> InFlight<'_, I, S> {
    /// The command has no answer: so that it outlives this mailbox. A kernel that panics has nobody
    /// to tell.
    fn record(&self) {
        if self.wait == Wait::Interrupt {
            self.mailbox.surroundings.owes(self.command.id);
        }
    }
}

impl<'a, I, S: Timeouts + Ledger> InFlight<'_, I, S>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    /// Waits for the answer.
    fn finish(self, wait: Wait) -> Result<Status, Dead> {
        let timeout_ms = self.mailbox.timeout_ms(self.command);
        match self
            .mailbox
            .wait_for_response(self.command.name, timeout_ms, wait)
        {
            None => Err(self.silent(timeout_ms)),
            Some(Answer { status: None, .. }) => {
                self.record();
                Err(self.mailbox.gone(self.command))
            }
            Some(Answer {
                status: Some(status),
                interrupted,
            }) => {
                match (wait, interrupted) {
                    (Wait::Interrupt, true) => self.mailbox.interrupt_came(),
                    (Wait::Interrupt, false) => self.mailbox.repair_interrupt(self.command.name),
                    (Wait::Poll, _) => {}
                }
                self.mailbox.answered = true;
                self.mailbox.state = State::Idle;
                Ok(status)
            }
        }
    }

    fn silent(self, timeout_ms: u32) -> Dead {
        let remedy = if self.mailbox.answered {
            "if the command is only slow, raise ccp.psp_cmd_timeout and bind the PSP again, which waits for the answer; else restart the machine"
        } else {
            "the PSP may be disabled in the BIOS set-up"
        };
        let command = self.command.name;
        let secs = timeout_ms / 1000;
        self.record();
        self.mailbox.die(Dead::Silent { command, secs }, remedy)
    }
}

/// What was found in the response register.
struct Answer {
    /// Firmware's status; [`None`] if the register reads all ones.
    status: Option<Status>,
    /// The interrupt had come.
    interrupted: bool,
}

/// The name of a command that somebody else has issued.
fn name(command: u32) -> &'static str {
    CommandId::lookup(command).map_or("a command that this driver does not know", |row| row.name)
}
