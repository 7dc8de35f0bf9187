// SPDX-License-Identifier: GPL-2.0

//! Why a command failed, in the terms of the in-tree driver.

use core::fmt;

use kernel::prelude::*;

use crate::wire::{
    CommandId,
    Status, //
};

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
    /// An earlier binding, load or kernel had issued a command, and the PSP still works on it.
    Busy {
        /// Its name.
        command: &'static str,
        /// How long the PSP had, since this driver looked for the first time.
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
            Dead::Busy { command, secs } => {
                write!(
                    f,
                    "the PSP still owes the answer to {command}, which was issued before this driver was bound, after another {secs} s"
                )
            }
            Dead::Gone { command } => {
                write!(f, "the registers read all ones during {command}")
            }
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CmdError {
    /// It did not get as far as firmware.
    Transport(Error),
    /// Firmware refused it.
    Firmware(Status),
    /// Firmware answered with this status, but a buffer of the command could not be taken back.
    Lost(Status),
    /// Firmware did not answer; this killed the mailbox.
    Died(Dead),
    /// The mailbox was dead before.
    Dead(Dead),
}

impl CmdError {
    /// What the in-tree driver returns in this case.
    pub(crate) fn errno(self) -> Error {
        match self {
            CmdError::Transport(err) => err,
            CmdError::Firmware(_) => EIO,
            CmdError::Lost(_) => EFAULT,
            CmdError::Died(_) => ETIMEDOUT,
            CmdError::Dead(_) => EBUSY,
        }
    }

    /// What the in-tree driver stores into `*psp_ret` in this case, if anything.
    pub(crate) fn psp_ret(self) -> Option<i32> {
        match self {
            CmdError::Firmware(status) | CmdError::Lost(status) => Some(status.raw().into()),
            CmdError::Died(_) => Some(0),
            CmdError::Transport(_) | CmdError::Dead(_) => None,
        }
    }

    /// The error in words, as that of `command`.
    pub(crate) fn of(self, command: CommandId) -> ErrorOf {
        ErrorOf { command, err: self }
    }

    /// What `result` becomes if a buffer of the command could not be taken back.
    pub(crate) fn losing<R>(result: &Result<R, Self>) -> Self {
        match result {
            Ok(_) => CmdError::Lost(Status::SUCCESS),
            Err(CmdError::Firmware(status)) => CmdError::Lost(*status),
            // Firmware did not answer, and the buffers are lost by that.
            Err(err) => *err,
        }
    }

    /// Whether firmware answered with `status`.
    pub(crate) fn is(self, status: Status) -> bool {
        matches!(self, CmdError::Firmware(answer) if answer == status)
    }
}

impl fmt::Display for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmdError::Transport(err) if *err == ENOMEM => write!(f, "out of memory"),
            CmdError::Transport(err) => write!(f, "not issued ({err:?})"),
            CmdError::Firmware(status) => write!(f, "{status}: {}", status.cause()),
            CmdError::Lost(status) => {
                write!(
                    f,
                    "firmware answered {status}, but kept a buffer of the command"
                )
            }
            CmdError::Died(why) => write!(f, "{why}"),
            CmdError::Dead(why) => {
                write!(
                    f,
                    "not issued, the mailbox is dead since {why}; restart the machine"
                )
            }
        }
    }
}

/// What [`CmdError::of`] makes.
pub(crate) struct ErrorOf {
    command: CommandId,
    err: CmdError,
}

impl fmt::Display for ErrorOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.err {
            CmdError::Firmware(status) => write!(f, "{status}: {}", status.cause_of(self.command)),
            err => write!(f, "{err}"),
        }
    }
}

impl From<Error> for CmdError {
    fn from(err: Error) -> Self {
        CmdError::Transport(err)
    }
}

impl From<CmdError> for Error {
    fn from(err: CmdError) -> Self {
        err.errno()
    }
}
