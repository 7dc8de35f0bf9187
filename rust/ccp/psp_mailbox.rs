// SPDX-License-Identifier: GPL-2.0

//! The PSP's own mailbox: for the ring of the TEE, and for what is asked of firmware beside SEV.
//!
//! There is no interrupt, and one command at a time.
//!
//! Source: drivers/crypto/ccp/{psp-dev.c, psp-dev.h} and include/linux/psp.h of Linux 7.3.

use kernel::{
    bitfield,
    io::poll::read_poll_timeout,
    prelude::*,
    time::Delta, //
};

use crate::{
    lent::Borrower,
    pages::Address,
    regs::{
        BarIo,
        MailboxMap, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// How long a command may take. The in-tree driver's value.
const TIMEOUT: Delta = Delta::from_secs(10);
/// The time between two reads of the register. The in-tree driver's value.
const POLL_USECS: i64 = 1000;

bitfield! {
    /// C2PMSG_17: a command when written, its status when read.
    struct Command(u32) {
        /// The PSP is ready for a command: it has ended the last one.
        31:31 ready => bool;
        /// The command's number.
        19:16 number;
        /// Why the last one failed; 0 if it did not.
        15:0 status;
    }
}

/// What the PSP is told.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// Commands come through the ring that the buffer describes.
    RingInit(Address),
    /// They do not any more.
    RingDestroy,
    /// A request, which says itself what it is.
    Extended(Address),
}

/// The mailbox.
pub(crate) struct PspMailbox<I> {
    io: I,
    map: &'static MailboxMap,
    /// The last command got no answer in time.
    unanswered: bool,
    pub(crate) timeout: Delta,
}

impl<I: BarIo> PspMailbox<I> {
    /// The mailbox behind `io`, whose registers lie where `map` says.
    pub(crate) fn new(io: I, map: &'static MailboxMap) -> Self {
        Self {
            io,
            map,
            unanswered: false,
            timeout: TIMEOUT,
        }
    }

    /// Whether the PSP takes a command.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it is at another one.
    pub(crate) fn need_ready(&self) -> Result {
        self.command().ready().then_some(()).ok_or(EBUSY)
    }

    /// Has the PSP carry out an order, and returns its status: 0 if it did.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it is at another one; [`ETIMEDOUT`], and then it may still use the buffer.
    pub(crate) fn send(&mut self, order: Order) -> Result<u32> {
        self.need_ready()?;
        let (number, buffer) = match order {
            Order::RingInit(buffer) => (1u32, Some(buffer)),
            Order::RingDestroy => (2, None),
            Order::Extended(buffer) => (14, Some(buffer)),
        };
        if let Some(buffer) = buffer {
            // CAST: The two halves are what the registers take.
            self.io.write(self.map.cmdbuf_lo, buffer.raw() as u32);
            self.io
                .write(self.map.cmdbuf_hi, (buffer.raw() >> 32) as u32);
        }
        let command = Command::zeroed().try_with_number(number)?;
        self.io.write(self.map.cmdresp, command.into());
        let answer = read_poll_timeout(
            || Ok(self.command()),
            |command| command.ready(),
            Delta::from_micros(POLL_USECS),
            self.timeout,
        );
        self.unanswered = answer.is_err();
        Ok(answer?.status().get())
    }

    fn command(&self) -> Command {
        Command::from(self.io.read(self.map.cmdresp))
    }

    /// Who has what [`send`](Self::send) named. An answer that came late is one.
    pub(crate) fn borrower(&self) -> Borrower {
        Borrower {
            uses_it: self.unanswered && self.need_ready().is_err(),
        }
    }

    /// The registers of the TEE's ring.
    pub(crate) fn ring(&self) -> RingRegisters<I> {
        RingRegisters {
            io: self.io,
            map: self.map,
        }
    }
}

/// How far the TEE's ring is written and read. The mailbox may be at work meanwhile.
pub(crate) struct RingRegisters<I> {
    io: I,
    map: &'static MailboxMap,
}

impl<I: BarIo> RingRegisters<I> {
    /// Tells the TEE up to where the ring has commands.
    pub(crate) fn set_end(&mut self, end: u32) {
        self.io.write(self.map.wptr, end);
    }

    /// Up to where the TEE has read them.
    pub(crate) fn read_to(&self) -> u32 {
        self.io.read(self.map.rptr)
    }
}
