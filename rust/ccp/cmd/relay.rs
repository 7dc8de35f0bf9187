// SPDX-License-Identifier: GPL-2.0

//! Commands of other kernel modules, passed through as bytes.
//!
//! kvm-amd builds command buffers itself. Once SNP is initialised, firmware writes for legacy
//! commands only into pages in the Firmware state. kvm-amd leaves that to this driver, which finds
//! the addresses that firmware writes through in the command table.

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

use super::{
    Channel,
    CmdError, //
};
use crate::{
    mailbox::Transport,
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

/// Memory behind one address of the command buffer, in the Firmware state.
enum Assigned {
    /// Bounce pages for the caller's memory at `address`.
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
        // Legacy commands alone have such fields.
        if !self.snp_init() || command.fw_buffers.is_empty() {
            let result = self.run(command, data);
            if let Err(CmdError::Died(_)) = result {
                leak_named(command, data, memory);
            }
            return result;
        }
        self.alive()?;

        // Firmware gets the addresses of bounce pages, the caller sees its own addresses again.
        let mut buffer = [0; MAX_LEN];
        let buffer = buffer.get_mut(..data.len()).ok_or(EINVAL)?;
        buffer.copy_from_slice(data);

        let mut assigned: [Option<Assigned>; MAX_FW_BUFFERS] = [const { None }; MAX_FW_BUFFERS];
        let mut result = Ok(());
        for (slot, field) in assigned.iter_mut().zip(command.fw_buffers) {
            result = self
                .assign_field(field, buffer, memory)
                .map(|memory| *slot = memory);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.run(command, buffer);
        }

        // Whatever failed, all memory is taken back, and the caller's addresses are restored.
        for assigned in assigned.into_iter().flatten() {
            let status = match result {
                Ok(()) => Status::SUCCESS,
                Err(CmdError::Firmware(status)) => status,
                // Firmware wrote nothing, or the loss of an earlier field is the error to return.
                Err(_) => {
                    let _ = self.unassign_field(assigned, buffer, None);
                    continue;
                }
            };
            if self.unassign_field(assigned, buffer, Some(memory)).is_err() {
                result = Err(CmdError::Lost(status));
            }
        }
        data.copy_from_slice(buffer);
        result
    }

    /// Puts the memory behind `field` into the Firmware state; `None` if the field has length 0.
    fn assign_field(
        &mut self,
        field: &FwBuffer,
        buffer: &mut [u8],
        memory: &CallerMemory,
    ) -> Result<Option<Assigned>, CmdError> {
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
                Ok(Some(Assigned::Guest(pages)))
            }
            Target::Bounce => {
                let pages = HvPages::for_len(Gfp::KERNEL_ACCOUNT, len as usize).map_err(failed)?;
                let pages = pages.into_firmware(self)?;
                put(
                    buffer,
                    field.address,
                    pages.spa().encrypted().raw().to_le_bytes(),
                )?;
                Ok(Some(Assigned::Bounce {
                    pages,
                    field: field.address,
                    address,
                    len: len as usize,
                }))
            }
        }
    }

    /// Undoes [`Self::assign_field`], and copies firmware's results to the caller's memory.
    fn unassign_field(
        &mut self,
        assigned: Assigned,
        buffer: &mut [u8],
        results_to: Option<&CallerMemory>,
    ) -> Result<(), CmdError> {
        let lost = |_| CmdError::Transport(EFAULT);
        match assigned {
            Assigned::Guest(pages) => pages.take_back(self).map_err(lost),
            Assigned::Bounce {
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

/// Keeps the memory that a command buffer names from the allocator: the command has no answer, and
/// firmware may write to that memory at any time, also after its owner has freed it. (Memory in the
/// middle of a slab cannot be kept.)
fn leak_named(command: &CommandInfo, buffer: &[u8], memory: &CallerMemory) {
    let leak = |address: u64, len: u64| {
        if let (true, Ok(frames)) = (address != 0 && len != 0, memory.frames(address, len)) {
            let _ = Leaked::foreign(frames, &UNANSWERED);
        }
    };
    for field in command.fw_buffers {
        if let (Ok(address), Ok(len)) = (get(buffer, field.address), get(buffer, field.len)) {
            leak(u64::from_le_bytes(address), u32::from_le_bytes(len).into());
        }
    }
    for &field in command.pages {
        if let Ok(address) = get(buffer, field) {
            // The lowest bit may select a 2 MiB page; no caller sets it.
            let page = PAGE_SIZE as u64;
            leak(u64::from_le_bytes(address) & !(page - 1), page);
        }
    }
}

fn get<const N: usize>(buffer: &[u8], offset: u16) -> Result<[u8; N], CmdError> {
    buffer
        .get(usize::from(offset)..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(EINVAL.into())
}

fn put<const N: usize>(buffer: &mut [u8], offset: u16, value: [u8; N]) -> Result<(), CmdError> {
    let field = buffer
        .get_mut(usize::from(offset)..)
        .and_then(|rest| rest.first_chunk_mut())
        .ok_or(EINVAL)?;
    *field = value;
    Ok(())
}
