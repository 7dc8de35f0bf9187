// SPDX-License-Identifier: GPL-2.0

//! The TEE: applications that run on the PSP, and a ring of commands for them in memory.
//!
//! Up to 32 callers have a command in the ring; each waits for its own entry. The TEE reads entries
//! in their order, and answers in place.
//!
//! An entry that got no answer ends everything: the TEE may still write to the ring, and to what
//! commands have named, so nothing is issued any more until the PSP is bound again.
//!
//! Source: drivers/crypto/ccp/{tee-dev.c, tee-dev.h} and include/linux/psp-tee.h of Linux 7.3.

use kernel::{
    io::poll::read_poll_timeout,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

use crate::{
    lent::Borrower,
    pages::{
        FwPages,
        HvPages, //
    },
    psp_mailbox::{
        Order,
        PspMailbox,
        RingRegisters, //
    },
    regs::BarIo,
    sys::{
        log,
        pages::Gfp,
        volatile::Volatile, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// Entries of the ring, and bytes of each.
const ENTRIES: usize = 32;
const ENTRY: usize = 1024;
const RING: usize = ENTRIES * ENTRY;

/// The largest buffer of a command.
pub(crate) const BUFFER_LIMIT: usize = 988;

/// What an entry has at which offset.
mod entry {
    pub(super) const COMMAND: usize = 0;
    pub(super) const STATE: usize = 4;
    pub(super) const STATUS: usize = 8;
    pub(super) const BUFFER: usize = 32;
    pub(super) const BUFFER_LEN: usize = super::BUFFER_LIMIT;
    pub(super) const FLAG: usize = 1020;
}

/// States of an entry. The TEE sets the second one.
const SUBMITTED: u32 = 0;
const COMPLETED: u32 = 2;

/// What an entry's owner is at, for the TEE to read.
const WAITING: u32 = 1;
const TIMED_OUT: u32 = 2;
const COPIED: u32 = 3;

/// RING_INIT: there is a ring already.
const RING_BUSY: u32 = 0xd;

/// How often the state of an entry is read, and how often an entry is looked for; the in-tree
/// driver's values.
const POLL_MS: i64 = 1;
const TRY_MS: i64 = 10;

/// The buffer of RING_INIT.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RingInit {
    low: u32,
    high: u32,
    size: u32,
}

/// The memory of a ring. It is freed if the TEE has given the ring up, and else lost.
struct Memory {
    pages: Option<FwPages>,
    /// The PSP is not bound any more: nobody waits.
    left: Atomic<bool>,
    /// The TEE does not use the ring.
    free: Atomic<bool>,
}

impl Memory {
    /// Memory of which no TEE knows.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    fn new() -> Result<Self> {
        let pages = HvPages::for_len(Gfp::KERNEL, RING)?.lend();
        Ok(Self {
            pages: Some(pages),
            left: Atomic::new(false),
            free: Atomic::new(true),
        })
    }

    fn entry(&self, n: usize) -> Result<Volatile<'_>> {
        let memory = self.pages.as_ref().and_then(FwPages::volatile);
        let offset = n.checked_mul(ENTRY).ok_or(EINVAL)?;
        memory.ok_or(EINVAL)?.part(offset, ENTRY)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            let mut tee = Borrower {
                uses_it: !self.free.load(Relaxed),
            };
            // Freed, or lost, which has been logged.
            let _ = pages.take_back(&mut tee);
        }
    }
}

/// The ring, as its users share it.
pub(crate) struct Ring<I> {
    registers: RingRegisters<I>,
    memory: Arc<Memory>,
    /// The entry for the next command.
    next: usize,
    /// Entries whose owners wait, a bit each.
    waiting: u32,
    /// A command got no answer.
    dead: bool,
}

/// A command in the ring.
pub(crate) struct Submitted {
    memory: Arc<Memory>,
    entry: usize,
}

impl<I: BarIo> Ring<I> {
    /// Gives the TEE a ring.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the mailbox is at another command; [`ETIMEDOUT`]; [`EIO`] if the TEE refuses;
    /// [`ENOMEM`].
    pub(crate) fn new(mailbox: &mut PspMailbox<I>) -> Result<Self> {
        let memory = Arc::new(Memory::new()?, GFP_KERNEL)?;
        let ring = memory.pages.as_ref().ok_or(EINVAL)?.spa().encrypted();
        let init = RingInit {
            // CAST: The two halves.
            low: ring.raw() as u32,
            high: (ring.raw() >> 32) as u32,
            // CAST: 32 KiB.
            size: RING as u32,
        };
        let mut status = Self::init(mailbox, &memory, &init)?;
        if status == RING_BUSY {
            // An earlier kernel has left it.
            if mailbox.send(Order::RingDestroy)? != 0 {
                return Err(EIO);
            }
            status = Self::init(mailbox, &memory, &init)?;
        }
        if status != 0 {
            return Err(EIO);
        }
        memory.free.store(false, Relaxed);
        Ok(Self {
            registers: mailbox.ring(),
            memory,
            next: 0,
            waiting: 0,
            dead: false,
        })
    }

    /// Gives a TEE that has started anew another ring. Whoever waits gets [`ENODEV`].
    ///
    /// # Errors
    ///
    /// As [`Self::new`]. This ring is not to be used any more then.
    pub(crate) fn replace(&mut self, mailbox: &mut PspMailbox<I>) -> Result {
        self.memory.left.store(true, Relaxed);
        let new = Self::new(mailbox)?;
        let old = core::mem::replace(self, new);
        // A TEE that takes another ring has given this one up, unless it is still at a command.
        old.memory.free.store(!old.dead, Relaxed);
        Ok(())
    }

    fn init(mailbox: &mut PspMailbox<I>, memory: &Memory, init: &RingInit) -> Result<u32> {
        let buffer = HvPages::with_data(init.as_bytes())?.lend();
        let status = mailbox.send(Order::RingInit(buffer.spa().encrypted()));
        // Until there is an answer the TEE may take the ring.
        let uses_it = status == Err(ETIMEDOUT);
        memory.free.store(!uses_it, Relaxed);
        let _ = buffer.take_back(&mut mailbox.borrower());
        status
    }

    /// Writes a command into the next entry.
    ///
    /// # Errors
    ///
    /// [`EAGAIN`] if the ring is full.
    fn try_submit(&mut self, command: u32, buffer: &[u8]) -> Result<Submitted> {
        let n = self.next;
        let bit = 1u32.checked_shl(n as u32).ok_or(EINVAL)?;
        let following = if n + 1 < ENTRIES { n + 1 } else { 0 };
        // CAST: Less than 32 KiB.
        let end = (following * ENTRY) as u32;
        // The TEE takes a ring whose end it has reached for an empty one.
        if self.waiting & bit != 0 || self.registers.read_to() == end {
            return Err(EAGAIN);
        }
        let entry = self.memory.entry(n)?;
        entry.set_word(entry::COMMAND, command)?;
        entry.set_word(entry::STATE, SUBMITTED)?;
        entry.part(entry::BUFFER, entry::BUFFER_LEN)?.fill(buffer)?;
        entry.set_word(entry::FLAG, WAITING)?;
        self.waiting |= bit;
        self.next = following;
        // MMIO writes are ordered after earlier writes to memory.
        self.registers.set_end(end);
        Ok(Submitted {
            memory: self.memory.clone(),
            entry: n,
        })
    }

    /// The owner of an entry has its answer. That of a ring before this one changes nothing here.
    fn done(&mut self, submitted: &Submitted) {
        if self.has(submitted) {
            self.waiting &= !(1u32.checked_shl(submitted.entry as u32).unwrap_or(0));
        }
    }

    /// A command got no answer.
    fn silent(&mut self, submitted: &Submitted) {
        self.dead |= self.has(submitted);
    }

    fn has(&self, submitted: &Submitted) -> bool {
        Arc::ptr_eq(&self.memory, &submitted.memory)
    }

    /// Takes the ring from the TEE. Whoever waits gets [`ENODEV`].
    ///
    /// # Errors
    ///
    /// What [`PspMailbox::send`] returns; [`EIO`] if the TEE refuses. The ring is lost then.
    pub(crate) fn leave(self, mailbox: &mut PspMailbox<I>) -> Result {
        self.memory.left.store(true, Relaxed);
        if self.dead {
            return Err(EBUSY);
        }
        if mailbox.send(Order::RingDestroy)? != 0 {
            return Err(EIO);
        }
        self.memory.free.store(true, Relaxed);
        Ok(())
    }
}

/// The way to the ring, which is used under a lock that [`process`] does not know.
pub(crate) trait Access {
    /// The registers.
    type Io: BarIo;

    /// How long a command may take, and how long it waits for an entry. The in-tree driver's value.
    const TIMEOUT_MS: i64 = 10_000;

    /// Calls `act` with it.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if there is no ring (any more); what `act` returns.
    fn with<R>(&self, act: impl FnOnce(&mut Ring<Self::Io>) -> Result<R>) -> Result<R>;
}

/// Has the TEE carry out a command, and returns its status. The answer is in `buffer`.
///
/// # Errors
///
/// [`EINVAL`] if the buffer is empty or too large; [`ENODEV`] if there is no TEE; [`EBUSY`] if the
/// ring stays full, or a command got no answer before; [`ETIMEDOUT`] if this one gets none.
pub(crate) fn process<A: Access>(tee: &A, command: u32, buffer: &mut [u8]) -> Result<u32> {
    if buffer.is_empty() || buffer.len() > entry::BUFFER_LEN {
        return Err(EINVAL);
    }
    let submitted = submit(tee, command, buffer)?;
    let entry = submitted.memory.entry(submitted.entry)?;
    let state = read_poll_timeout(
        || {
            Ok((
                entry.word(entry::STATE)?,
                submitted.memory.left.load(Relaxed),
            ))
        },
        |(state, left)| *state == COMPLETED || *left,
        Delta::from_millis(POLL_MS),
        Delta::from_millis(A::TIMEOUT_MS),
    );
    match state {
        Ok((COMPLETED, _)) => {}
        Ok(_) => return Err(ENODEV),
        Err(err) => {
            entry.set_word(entry::FLAG, TIMED_OUT)?;
            tee.with(|ring| {
                ring.silent(&submitted);
                Ok(())
            })?;
            log::err!(
                "tee-silent",
                "the TEE did not answer command {command:#x} within {} s: it is not used any more until the PSP is bound again, and amdtee reloaded",
                A::TIMEOUT_MS / 1000
            );
            return Err(err);
        }
    }
    entry.part(entry::BUFFER, entry::BUFFER_LEN)?.read(buffer)?;
    let status = entry.word(entry::STATUS)?;
    entry.set_word(entry::FLAG, COPIED)?;
    tee.with(|ring| {
        ring.done(&submitted);
        Ok(())
    })?;
    Ok(status)
}

/// Waits for an entry.
fn submit<A: Access>(tee: &A, command: u32, buffer: &[u8]) -> Result<Submitted> {
    for _ in 0..A::TIMEOUT_MS / TRY_MS {
        let submitted = tee.with(|ring| match ring.dead {
            true => Err(EBUSY),
            false => ring.try_submit(command, buffer),
        });
        if submitted.as_ref().err() != Some(&EAGAIN) {
            return submitted;
        }
        fsleep(Delta::from_millis(TRY_MS));
    }
    Err(EBUSY)
}
