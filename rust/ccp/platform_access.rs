// SPDX-License-Identifier: GPL-2.0

//! Platform access: a mailbox of the PSP beside that for SEV, for what concerns the platform.
//!
//! A message has a buffer, which begins with its size and a status, and which the PSP overwrites
//! with its answer. A doorbell has a number alone. There is no interrupt.
//!
//! Source: drivers/crypto/ccp/{platform-access.c, hsti.c} of Linux 7.3.

use kernel::{
    bitfield,
    io::poll::read_poll_timeout,
    prelude::*,
    time::Delta, //
};
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

use crate::{
    lent::Borrower,
    pages::HvPages,
    regs::{
        BarIo,
        Capability,
        PlatformAccessMap, //
    },
    sys::bindings::psp_platform_access_msg_PSP_CMD_HSTI_QUERY as HSTI_QUERY,
};

/// How long a message may take, and the one before it. The in-tree driver's value.
const TIMEOUT_MS: i64 = 500;
/// The time between two reads of the register.
const POLL_USECS: i64 = 100;

/// The size and the status that a message's buffer begins with.
pub(crate) const HEADER_LEN: usize = 8;
/// The largest buffer that the driver takes.
pub(crate) const LIMIT: usize = 0x1_0000;

bitfield! {
    /// C2PMSG_28: a message when written, its status when read.
    struct Message(u32) {
        /// The PSP is ready for a message: it has ended the last one.
        31:31 ready => bool;
        /// The PSP takes no messages.
        30:30 recovery => bool;
        /// The message's number.
        23:16 number;
        /// Why the last one failed; 0 if it did not.
        15:0 status;
    }
}

bitfield! {
    /// C2PMSG_80: what the doorbell is rung for when written, what came of it when read.
    struct Bell(u32) {
        /// The PSP is ready.
        31:31 ready => bool;
        /// A number when written; when read, why it failed, or 0 if it did not.
        7:0 number;
    }
}

/// The buffer of HSTI_QUERY.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct HstiQuery {
    size: u32,
    status: u32,
    /// The security bits of [`Capability`], from `fused_part` on.
    hsti: u32,
}

/// The mailbox.
pub(crate) struct PlatformAccess<I> {
    io: I,
    map: &'static PlatformAccessMap,
}

impl<I: BarIo> PlatformAccess<I> {
    /// The mailbox behind `io`, whose registers lie where `map` says.
    pub(crate) fn new(io: I, map: &'static PlatformAccessMap) -> Self {
        Self { io, map }
    }

    /// Asks for the security bits, and returns `capability` with them.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the PSP takes no message, [`ETIMEDOUT`], [`EIO`] if it refuses this one,
    /// [`ENOMEM`].
    pub(crate) fn with_security(&mut self, capability: Capability) -> Result<Capability> {
        let mut query = HstiQuery {
            // CAST: 12.
            size: size_of::<HstiQuery>() as u32,
            status: 0,
            hsti: 0,
        };
        self.send(HSTI_QUERY, query.as_mut_bytes())?;
        let bits = u32::from(capability) | query.hsti << Capability::FIRST_SECURITY_BIT;
        Ok(Capability::from(bits).with_security_reporting(true))
    }

    /// Sends a message, and leaves the answer in `buffer`.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the PSP takes no message, or somebody else has sent one meanwhile;
    /// [`ETIMEDOUT`]; [`EIO`] if it refuses this one, and then the buffer has a status; [`ENOMEM`].
    pub(crate) fn send(&mut self, number: u32, buffer: &mut [u8]) -> Result {
        let message = Message::zeroed().try_with_number(number)?;
        if self.message().recovery() {
            return Err(EBUSY);
        }
        self.wait().map_err(|_| EBUSY)?;
        let pages = HvPages::with_data(buffer)?.lend();
        let address = pages.spa().encrypted().raw();
        // CAST: The two halves are what the registers take.
        self.io.write(self.map.cmdbuf_lo, address as u32);
        self.io.write(self.map.cmdbuf_hi, (address >> 32) as u32);
        self.io.write(self.map.cmdresp, message.into());
        let answer = self.wait();
        // Fails if there is no answer: the buffer is lost then, which has been logged.
        let pages = pages.take_back(&mut Borrower {
            uses_it: answer.is_err(),
        });
        let refusal = answer?.status().get();
        // CAST: The two halves.
        let ours = [
            (self.map.cmdbuf_lo, address as u32),
            (self.map.cmdbuf_hi, (address >> 32) as u32),
        ];
        if ours
            .iter()
            .any(|(register, half)| self.io.read(*register) != *half)
        {
            return Err(EBUSY);
        }
        let pages = pages.map_err(|_| EIO)?;
        let answer = pages.bytes().get(..buffer.len()).ok_or(EINVAL)?;
        buffer.copy_from_slice(answer);
        let status = buffer.get_mut(4..HEADER_LEN).ok_or(EINVAL)?;
        if refusal != 0 {
            status.copy_from_slice(&refusal.to_le_bytes());
        }
        match status.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(EIO),
        }
    }

    /// Rings the doorbell. `result` gets why the PSP refuses.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it was rung and has not been answered; [`ETIMEDOUT`]; [`EIO`] if the PSP
    /// refuses.
    pub(crate) fn ring(&self, number: u32, result: &mut u32) -> Result {
        self.wait_for_bell().map_err(|_| EBUSY)?;
        let bell = Bell::zeroed().try_with_number(number & 0xff)?;
        self.io.write(self.map.doorbell, bell.into());
        self.io.write(self.map.button, 1);
        match self.wait_for_bell()?.number().get() {
            0 => Ok(()),
            refusal => {
                *result = refusal;
                Err(EIO)
            }
        }
    }

    fn wait_for_bell(&self) -> Result<Bell> {
        read_poll_timeout(
            || Ok(Bell::from(self.io.read(self.map.doorbell))),
            |bell| bell.ready(),
            Delta::from_micros(POLL_USECS),
            Delta::from_millis(TIMEOUT_MS),
        )
    }

    fn message(&self) -> Message {
        Message::from(self.io.read(self.map.cmdresp))
    }

    /// Waits until the last message has ended.
    fn wait(&self) -> Result<Message> {
        read_poll_timeout(
            || Ok(self.message()),
            |message| message.ready(),
            Delta::from_micros(POLL_USECS),
            Delta::from_millis(TIMEOUT_MS),
        )
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
