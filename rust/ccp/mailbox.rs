// SPDX-License-Identifier: GPL-2.0

//! The SEV mailbox: one command at a time, from doorbell to status.
//!
//! ```text
//!            start()                     answer
//!   Idle ───────────────► Busy ──────────────────────► Idle
//!                          │
//!                          │ no answer in time, or the registers read all ones
//!                          ▼
//!                        Dead ──── new Mailbox (the device is bound again) ───► Idle
//! ```
//!
//! Dead is final for the object: firmware may still be working on the command and may write to its
//! buffers at any time, so nothing else may be started, and whoever owns the buffers keeps them (see
//! `pages.rs`). The one way back is to bind the device again, which makes a new mailbox.
//!
//! Accesses per command: two writes for the buffer's address, one for the doorbell, one read of the
//! response, plus three in the interrupt handler. That is what the in-tree driver needs, too.

use core::fmt;

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
        Delta, //
    },
};

use crate::{
    pages::Address,
    regs::{
        Doorbell,
        Registers,
        BAR_SIZE, //
    },
    sys::completion::Completion,
    wire::{
        CommandInfo,
        Status, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// How often the wait for a slow command is interrupted for a message. The kernel's hung-task
/// detector complains after 120 s without a schedule.
const SLICE_SECS: u32 = 60;

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

/// How a caller waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Sleeps until the completion interrupt.
    Interrupt,
    /// Reads the response register until it is there; for the panic path, where nothing sleeps and
    /// no interrupt arrives.
    Poll,
}

/// Why a mailbox does not work any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dead {
    /// A command was not answered.
    Silent {
        /// Its name.
        command: &'static str,
        /// How long it had.
        secs: u32,
    },
    /// The registers read all ones.
    Gone {
        /// The command that was in flight.
        command: &'static str,
    },
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dead::Silent { command, secs } => {
                write!(f, "firmware did not answer {command} within {secs} s")
            }
            Dead::Gone { command } => {
                write!(f, "the registers read all ones during {command}")
            }
        }
    }
}

/// Why a command has no status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unanswered {
    /// This command killed the mailbox.
    Died(Dead),
    /// The mailbox was dead before; the command was not started.
    WasDead(Dead),
    /// The command was not started.
    NotStarted(Error),
}

/// Whatever carries a command to firmware and brings its status back.
pub(crate) trait Transport {
    /// Issues `command` with its buffer at `buffer` (with encryption bit) and waits for the answer.
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, Unanswered>;

    /// Why nothing can be executed any more, if so. Firmware may then still write to the buffers of
    /// the last command.
    fn dead(&self) -> Option<Dead>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Busy,
    Dead(Dead),
}

/// The mailbox of one PSP. The caller serialises access (it takes `&mut self`).
pub(crate) struct Mailbox<I, T> {
    registers: Registers<I>,
    /// Completed by the interrupt handler.
    done: Arc<Completion>,
    timeouts: T,
    dev: ARef<Device>,
    state: State,
    /// A command has been answered: the PSP is there.
    answered: bool,
}

impl<'a, I, T: Timeouts> Mailbox<I, T>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    /// A mailbox that has not been used yet. `done` is what the interrupt handler completes.
    pub(crate) fn new(
        dev: ARef<Device>,
        registers: Registers<I>,
        done: Arc<Completion>,
        timeouts: T,
    ) -> Self {
        Self {
            registers,
            done,
            timeouts,
            dev,
            state: State::Idle,
            answered: false,
        }
    }

    /// Rings the doorbell. The result must be waited for; until then no other command can start.
    fn start(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<InFlight<'_, I, T>, Unanswered> {
        match self.state {
            State::Idle => {}
            State::Busy => return Err(Unanswered::NotStarted(EBUSY)),
            State::Dead(why) => return Err(Unanswered::WasDead(why)),
        }

        let doorbell = Doorbell::zeroed()
            .try_with_command(u32::from(command.id.raw()))
            .map_err(Unanswered::NotStarted)?
            .with_interrupt(wait == Wait::Interrupt);
        self.registers.set_command_buffer(buffer);
        // An interrupt of an earlier command may have come late. One that comes between here and the
        // doorbell is recognised by a response that is not ready.
        self.done.reinit();
        self.state = State::Busy;
        self.registers.ring(doorbell);
        Ok(InFlight {
            mailbox: self,
            command,
        })
    }

    fn timeout_ms(&self, command: &CommandInfo) -> u32 {
        if !self.answered {
            self.timeouts.first_ms()
        } else if command.id.initialises_snp() {
            self.timeouts.snp_init_ms()
        } else {
            self.timeouts.command_ms()
        }
    }
}

impl<'a, I, T: Timeouts> Transport for Mailbox<I, T>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, Unanswered> {
        let flight = self.start(command, buffer, wait)?;
        let answer = match wait {
            Wait::Interrupt => flight.sleep(),
            Wait::Poll => flight.poll(),
        };
        answer.map_err(Unanswered::Died)
    }

    fn dead(&self) -> Option<Dead> {
        match self.state {
            State::Dead(why) => Some(why),
            State::Idle | State::Busy => None,
        }
    }
}

/// A command that firmware is working on. Dropping it without an answer kills the mailbox: firmware may still be
/// at work.
#[must_use = "dropping it kills the mailbox"]
struct InFlight<'m, I, T> {
    mailbox: &'m mut Mailbox<I, T>,
    command: &'static CommandInfo,
}

impl<I, T> Drop for InFlight<'_, I, T> {
    fn drop(&mut self) {
        if self.mailbox.state == State::Busy {
            let command = self.command.name;
            self.mailbox.state = State::Dead(Dead::Silent { command, secs: 0 });
        }
    }
}

/// What the response register says.
enum Response {
    Pending,
    Ready(Status),
    AllOnes,
}

impl<'a, I, T: Timeouts> InFlight<'_, I, T>
where
    I: Io<'a, Target = Region<BAR_SIZE>> + Copy,
    I::Backend: IoCapable<u32>,
{
    fn response(&self) -> Response {
        let response = self.mailbox.registers.response();
        if u32::from(response) == u32::MAX {
            // Would otherwise pass for "ready, status 0xffff".
            Response::AllOnes
        } else if response.ready() {
            Response::Ready(Status::new(response.status().get() as u16))
        } else {
            Response::Pending
        }
    }

    /// Sleeps until the answer is there.
    fn sleep(self) -> Result<Status, Dead> {
        let timeout_ms = self.mailbox.timeout_ms(self.command);
        let mut left = msecs_to_jiffies(timeout_ms);
        let mut waited_secs: u32 = 0;
        loop {
            let slice = left.min(msecs_to_jiffies(SLICE_SECS * 1000));
            let woken = self.mailbox.done.wait_timeout(slice);
            match self.response() {
                Response::AllOnes => return Err(self.gone()),
                Response::Ready(status) => {
                    if woken.is_none() {
                        dev_warn!(
                            self.mailbox.dev,
                            "{}: the answer is there but its interrupt never came; check that MSIs of this device are delivered\n",
                            self.command.name
                        );
                    }
                    return Ok(self.answered(status));
                }
                Response::Pending => {}
            }
            // Woken without an answer: by an interrupt of an earlier command. Each costs at least a
            // tick, so that a storm of them ends, too.
            let used = slice.saturating_sub(woken.unwrap_or(0)).max(1);
            left = left.saturating_sub(used);
            if left == 0 {
                return Err(self.silent(timeout_ms));
            }
            if woken.is_none() {
                waited_secs = waited_secs.saturating_add(SLICE_SECS);
                dev_notice!(
                    self.mailbox.dev,
                    "{}: firmware has been working for {} s, waiting up to {} s\n",
                    self.command.name,
                    waited_secs,
                    timeout_ms / 1000
                );
            }
        }
    }

    /// Reads the response register until the answer is there.
    fn poll(self) -> Result<Status, Dead> {
        /// Between two reads. The in-tree driver's value.
        const STEP_USECS: u32 = 10;
        let timeout_ms = self.mailbox.timeout_ms(self.command);
        for _ in 0..timeout_ms.saturating_mul(1000 / STEP_USECS) {
            match self.response() {
                Response::AllOnes => return Err(self.gone()),
                Response::Ready(status) => return Ok(self.answered(status)),
                Response::Pending => udelay(Delta::from_micros(STEP_USECS.into())),
            }
        }
        Err(self.silent(timeout_ms))
    }

    fn answered(self, status: Status) -> Status {
        self.mailbox.answered = true;
        self.mailbox.state = State::Idle;
        status
    }

    fn silent(self, timeout_ms: u32) -> Dead {
        let remedy = if self.mailbox.answered {
            "restart the machine; if the command is only slow, raise ccp.psp_cmd_timeout"
        } else {
            "the PSP may be disabled in the BIOS set-up"
        };
        let command = self.command.name;
        let secs = timeout_ms / 1000;
        self.die(Dead::Silent { command, secs }, remedy)
    }

    fn gone(self) -> Dead {
        let command = self.command.name;
        self.die(
            Dead::Gone { command },
            "the device was removed or lost power",
        )
    }

    fn die(self, why: Dead, remedy: &str) -> Dead {
        dev_err!(
            self.mailbox.dev,
            "{why}: the mailbox is dead, SEV and SNP commands fail from now on; {remedy}\n"
        );
        self.mailbox.state = State::Dead(why);
        why
    }
}
