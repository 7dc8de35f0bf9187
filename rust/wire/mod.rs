// SPDX-License-Identifier: GPL-2.0

//! The formats of the SEV firmware: command ids, command buffers, status codes, versions.
//!
//! Nothing here uses the `kernel` crate, so that `selftests/wire` compiles the same files on the
//! build machine and compares every id, size and offset with the kernel's own
//! `include/linux/psp-sev.h`.
//!
//! All integers are little endian as on x86, the only architecture that has this device.

pub(crate) mod command;
pub(crate) mod sev;
pub(crate) mod snp;
pub(crate) mod status;
pub(crate) mod version;

pub(crate) use command::{
    Command,
    CommandId,
    CommandInfo,
    FwBuffer,
    Relayed,
    StartCommand,
    Target, //
};
pub(crate) use status::Status;
pub(crate) use version::{
    ApiVersion,
    TcbLayout, //
};
