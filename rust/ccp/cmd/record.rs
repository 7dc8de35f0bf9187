// SPDX-License-Identifier: GPL-2.0

//! The record for the panic path: what firmware was asked to do, without a lock.
//!
//! A panic may stop a CPU that holds the command lock at any instruction, and leaves the data under
//! the lock half-changed. So the panic path believes the hardware (mailbox register, RMP, SNP_EN)
//! and this record. The lock's holder stores each field as one word. A field errs on the safe side:
//! it gets the effect of a command before the command is issued, and loses the effect after the
//! answer to the command that ends it.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::{
    pages::Address,
    sys::rmp::{
        AtomicFrames,
        Frames, //
    },
    wire::{
        CommandId,
        CommandInfo,
        Status, //
    },
};

/// How many guests there can be: one for each ASID, of which the largest processors have 1006.
const GUESTS: usize = 1024;

/// See the top of this file.
pub(crate) struct Record {
    /// The number of the last command; 0 before the first.
    command: Atomic<u32>,
    /// SNP firmware is in the INIT state, or may be.
    snp: Atomic<bool>,
    /// Firmware has X86_SNP_SHUTDOWN.
    x86_snp_shutdown: Atomic<bool>,
    /// The guest contexts that firmware has, by the addresses that it was told; 0 is none.
    contexts: KVec<Atomic<u64>>,
    /// Pages that other modules have from `snp_alloc_firmware_page()`.
    pages: Atomic<u32>,
    /// The TMR; whether a page of it is firmware's is for the RMP to say.
    tmr: AtomicFrames,
    /// The NV area, likewise.
    nv: AtomicFrames,
}

impl Record {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn new() -> Result<Self> {
        let mut contexts = KVec::with_capacity(GUESTS, GFP_KERNEL)?;
        for _ in 0..GUESTS {
            contexts.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            command: Atomic::new(0),
            snp: Atomic::new(false),
            x86_snp_shutdown: Atomic::new(false),
            contexts,
            pages: Atomic::new(0),
            tmr: AtomicFrames::none(),
            nv: AtomicFrames::none(),
        })
    }

    /// To be called before a command is issued.
    pub(super) fn asked(&self, command: &CommandInfo) {
        self.command.store(command.id.raw().into(), Relaxed);
        if command.id.initialises_snp() {
            self.snp.store(true, Relaxed);
        }
    }

    /// To be called after a command was answered.
    pub(super) fn answered(&self, command: &CommandInfo, status: Status) {
        let up = match command.id {
            // No SNP_INIT is issued while SNP is up, so a refusal means UNINIT.
            id if id.initialises_snp() => status.is_success(),
            CommandId::SNP_SHUTDOWN_EX if status.is_success() => false,
            _ => return,
        };
        self.set_snp(up);
    }

    /// SNP firmware was found in the INIT state, or not.
    pub(super) fn set_snp(&self, up: bool) {
        self.snp.store(up, Relaxed);
    }

    /// Whether firmware has X86_SNP_SHUTDOWN, which another firmware may not have.
    pub(crate) fn set_x86_snp_shutdown(&self, has: bool) {
        self.x86_snp_shutdown.store(has, Relaxed);
    }

    /// The same, as stored last.
    pub(crate) fn x86_snp_shutdown(&self) -> bool {
        self.x86_snp_shutdown.load(Relaxed)
    }

    /// Stores the number of pages that other modules have from `snp_alloc_firmware_page()`.
    pub(crate) fn set_pages(&self, pages: u32) {
        self.pages.store(pages, Relaxed);
    }

    /// Firmware has this context, or has not. One more than there can be guests is left out.
    pub(crate) fn set_context(&self, address: Address, has: bool) {
        let (from, to) = match has {
            true => (0, address.raw()),
            false => (address.raw(), 0),
        };
        let known = self.contexts().any(|context| context == address);
        let slot = self.contexts.iter().find(|slot| slot.load(Relaxed) == from);
        match slot {
            Some(slot) if known != has => slot.store(to, Relaxed),
            _ => {}
        }
    }

    /// Firmware has no context any more.
    pub(crate) fn forget_contexts(&self) {
        for slot in &self.contexts {
            slot.store(0, Relaxed);
        }
    }

    /// The contexts that firmware has.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = Address> + '_ {
        let contexts = self.contexts.iter().map(|slot| slot.load(Relaxed));
        contexts
            .filter(|address| *address != 0)
            .map(|address| zerocopy::transmute!(address))
    }

    /// To be called before the TMR is given to firmware, and with [`None`] after it was taken back.
    pub(crate) fn set_tmr(&self, tmr: Option<Frames>) {
        self.tmr.store(tmr);
    }

    /// The same for the NV area.
    pub(crate) fn set_nv(&self, area: Option<Frames>) {
        self.nv.store(area);
    }

    /// The name of the last command.
    pub(crate) fn command(&self) -> &'static str {
        CommandId::lookup(self.command.load(Relaxed)).map_or("a command", |row| row.name)
    }

    /// Whether SNP firmware may be in the INIT state.
    pub(crate) fn snp(&self) -> bool {
        self.snp.load(Relaxed)
    }

    /// Guest contexts that firmware has.
    pub(crate) fn guests(&self) -> u32 {
        // CAST: There are at most `GUESTS`.
        self.contexts().count() as u32
    }

    /// Pages that other modules have from `snp_alloc_firmware_page()`.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.load(Relaxed)
    }

    /// The TMR and the NV area, if legacy firmware has them.
    pub(crate) fn sev_areas(&self) -> impl Iterator<Item = Frames> + '_ {
        [&self.tmr, &self.nv]
            .into_iter()
            .filter_map(AtomicFrames::load)
    }
}
