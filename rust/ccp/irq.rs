// SPDX-License-Identifier: GPL-2.0

//! The PSP's interrupt.

use crate::{
    platform::MasterIo,
    regs::Registers,
    sys::completion::Completion, //
};
use kernel::{
    irq::{
        Handler,
        IrqReturn, //
    },
    sync::Arc, //
};

/// Acknowledges what is pending and wakes whoever waits for the mailbox.
pub(crate) struct Interrupt {
    registers: Registers<MasterIo>,
    done: Arc<Completion>,
}

impl Interrupt {
    /// A handler that completes `done` whenever the mailbox behind `registers` has an answer.
    pub(crate) fn new(registers: Registers<MasterIo>, done: Arc<Completion>) -> Self {
        Self { registers, done }
    }
}

impl Handler for Interrupt {
    fn handle(&self) -> IrqReturn {
        let pending = self.registers.acknowledge_interrupts();
        // An interrupt that is not followed by a response was for an earlier command.
        if pending.sev_command_complete() && self.registers.response().ready() {
            self.done.complete();
        }
        IrqReturn::Handled
    }
}
