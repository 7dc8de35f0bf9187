// SPDX-License-Identifier: GPL-2.0

//! Commands of other kernel modules, passed through as bytes.
//!
//! kvm-amd builds command buffers itself. For legacy commands it relies on this driver to change
//! the state of the memory behind them once SNP is initialised, and does not know that it happens:
//! the command table says which fields are addresses that firmware writes through.

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

use super::{
    Channel,
    CmdError, //
};
use crate::{
    mailbox::{
        Transport,
        Wait, //
    },
    pages::{
        FwPages,
        GuestPages,
        HvPages,
        Leaked,
        UNANSWERED, //
    },
    sys::{
        caller_memory::CallerMemory,
        pages::Gfp, //
    },
    wire::{
        command::{
            MAX_FW_BUFFERS,
            MAX_LEN, //
        },
        CommandInfo,
        FwBuffer,
        Relayed,
        Status,
        Target, //
    },
};

/// Memory behind one address of the command buffer, in firmware's hands.
enum Given {
    /// A stand-in for the caller's memory at `address`.
    Bounce {
        pages: FwPages,
        field: u16,
        address: u64,
        len: usize,
    },
    /// The guest's own pages.
    Guest(GuestPages),
}

impl<T: Transport> Channel<T> {
    /// Issues a command of another module and copies the command buffer back, also if firmware
    /// refused the command.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn relay(
        &mut self,
        command: Relayed,
        data: &mut [u8],
        memory: &CallerMemory,
    ) -> Result<(), CmdError> {
        let command = command.info();
        if !self.snp_init() || !command.id.is_legacy() || command.fw_buffers.is_empty() {
            let result = self.run(command, data, Wait::Interrupt);
            if let Err(CmdError::Died(_)) = result {
                lose_behind(command, data, memory);
            }
            return result;
        }
        self.alive()?;

        // What firmware gets differs from what the caller wrote and will see again.
        let mut buffer = [0; MAX_LEN];
        let buffer = buffer
            .get_mut(..data.len())
            .ok_or(CmdError::Transport(EINVAL))?;
        buffer.copy_from_slice(data);

        let mut given: [Option<Given>; MAX_FW_BUFFERS] = [const { None }; MAX_FW_BUFFERS];
        let mut result = Ok(());
        for (slot, field) in given.iter_mut().zip(command.fw_buffers) {
            result = self
                .give_behind(field, buffer, memory)
                .map(|memory| *slot = memory);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.run(command, buffer, Wait::Interrupt);
        }

        // However far it got, everything is taken back, and the caller sees its own addresses.
        for given in given.into_iter().flatten() {
            let answered = match result {
                Ok(()) => Status::SUCCESS,
                Err(CmdError::Firmware(status)) => status,
                // Nothing was written, or the first loss is what counts.
                Err(_) => {
                    let _ = self.take_behind(given, buffer, None);
                    continue;
                }
            };
            if self.take_behind(given, buffer, Some(memory)).is_err() {
                result = Err(CmdError::Lost(answered));
            }
        }
        data.copy_from_slice(buffer);
        result
    }

    /// Gives firmware the memory behind `field`; `None` if the field has length 0.
    fn give_behind(
        &mut self,
        field: &FwBuffer,
        buffer: &mut [u8],
        memory: &CallerMemory,
    ) -> Result<Option<Given>, CmdError> {
        // The in-tree driver's answer to every failure of this kind.
        let failed = |_| CmdError::Transport(EFAULT);

        let len = u32::from_le_bytes(get(buffer, field.len)?);
        if len == 0 {
            return Ok(None);
        }
        let address = u64::from_le_bytes(get(buffer, field.address)?);
        match field.target {
            Target::GuestPages => {
                let frames = memory.frames(address, len.into()).map_err(failed)?;
                let pages = GuestPages::into_firmware(frames, self).map_err(failed)?;
                Ok(Some(Given::Guest(pages)))
            }
            Target::Bounce => {
                let pages = HvPages::for_len(Gfp::KERNEL_ACCOUNT, len as usize).map_err(failed)?;
                let pages = pages.into_firmware(self).map_err(CmdError::Transport)?;
                put(
                    buffer,
                    field.address,
                    pages.spa().encrypted().raw().to_le_bytes(),
                )?;
                Ok(Some(Given::Bounce {
                    pages,
                    field: field.address,
                    address,
                    len: len as usize,
                }))
            }
        }
    }

    /// Takes back what [`Self::give_behind`] gave. Results are copied to the caller's memory, if
    /// there are any.
    fn take_behind(
        &mut self,
        given: Given,
        buffer: &mut [u8],
        results_to: Option<&CallerMemory>,
    ) -> Result<(), CmdError> {
        let lost = |_| CmdError::Transport(EFAULT);
        match given {
            Given::Guest(pages) => pages.take_back(self).map_err(lost),
            Given::Bounce {
                pages,
                field,
                address,
                len,
            } => {
                put(buffer, field, address.to_le_bytes())?;
                let pages = pages.take_back(self).map_err(lost)?;
                match (results_to, pages.bytes().get(..len)) {
                    (Some(memory), Some(results)) => {
                        memory.write(address, results).map_err(CmdError::Transport)
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The command has no answer, and firmware may write to the memory that it names at any time: keeps
/// that from the allocator. Its owner will free it sooner or later. (A part of a slab cannot be
/// kept.)
fn lose_behind(command: &CommandInfo, buffer: &[u8], memory: &CallerMemory) {
    let lose = |address: u64, len: u64| {
        if let (true, Ok(frames)) = (address != 0 && len != 0, memory.frames(address, len)) {
            let _ = Leaked::foreign(frames, &UNANSWERED);
        }
    };
    for field in command.fw_buffers {
        if let (Ok(address), Ok(len)) = (get(buffer, field.address), get(buffer, field.len)) {
            lose(u64::from_le_bytes(address), u32::from_le_bytes(len).into());
        }
    }
    for &field in command.pages {
        if let Ok(address) = get(buffer, field) {
            // The lowest bit may say how large the page is; nobody names a larger one.
            let page = PAGE_SIZE as u64;
            lose(u64::from_le_bytes(address) & !(page - 1), page);
        }
    }
}

fn get<const N: usize>(buffer: &[u8], offset: u16) -> Result<[u8; N], CmdError> {
    buffer
        .get(usize::from(offset)..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(CmdError::Transport(EINVAL))
}

fn put<const N: usize>(buffer: &mut [u8], offset: u16, value: [u8; N]) -> Result<(), CmdError> {
    let field = buffer
        .get_mut(usize::from(offset)..)
        .and_then(|rest| rest.first_chunk_mut())
        .ok_or(CmdError::Transport(EINVAL))?;
    *field = value;
    Ok(())
}
