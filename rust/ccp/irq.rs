// SPDX-License-Identifier: GPL-2.0

//! The PSP's interrupt.

use crate::{
    platform::MasterIo,
    regs::{
        BarIo,
        Interrupts, //
    },
    sys::{
        completion::Completion,
        pci_msi, //
    },
};
use kernel::sync::Arc;

/// Acknowledges the pending interrupts, and wakes the task that waits for the mailbox.
pub(crate) struct Interrupt<I = MasterIo> {
    registers: Interrupts<I>,
    done: Arc<Completion>,
}

impl<I: BarIo> Interrupt<I> {
    /// A handler that completes `done` whenever the mailbox behind `registers` has an answer.
    pub(crate) fn new(registers: Interrupts<I>, done: Arc<Completion>) -> Self {
        Self { registers, done }
    }

    /// The device has raised an interrupt.
    pub(crate) fn service(&self) {
        let pending = self.registers.acknowledge();
        // An interrupt that is not followed by a response was for an earlier command.
        if pending.sev_command_complete() && self.registers.response().ready() {
            self.done.complete();
        }
    }
}

impl pci_msi::Handler for Interrupt {
    fn handle(&self) {
        self.service();
    }
}
