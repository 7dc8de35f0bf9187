// SPDX-License-Identifier: GPL-2.0

//! The driver's wire formats, compiled for the build machine. The tests compare them with the
//! kernel's header; the program prints what tests of the modules need to know of the tables:
//!
//! `command NAME driver|kvm lengths|-`: whether the driver issues the command itself, and whether
//! firmware reports lengths of what it wrote in the command buffer;
//!
//! `status NAME CODE named|-`: whether the driver treats the status in a way of its own.

/// In the driver an address can only be had for memory that is firmware's.
mod pages {
    #[derive(
        Clone,
        Copy,
        Default,
        Debug,
        zerocopy_derive::FromBytes,
        zerocopy_derive::IntoBytes,
        zerocopy_derive::Immutable,
        zerocopy_derive::KnownLayout,
    )]
    #[repr(transparent)]
    pub(crate) struct Address(pub(crate) u64);
}

#[path = "../../../rust/wire/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the driver uses what this program does not"
)]
mod wire;

#[cfg(test)]
mod circles;
#[cfg(test)]
mod tests;

use wire::{command, status, Target};

fn main() {
    for (row, buffer) in command::TABLE.iter().zip(command::BUFFERS) {
        let issuer = if buffer.starts_with('[') {
            "kvm"
        } else {
            "driver"
        };
        let bounces = row.fw_buffers.iter().any(|b| b.target == Target::Bounce);
        let lengths = row.writes_buffer && bounces;
        let lengths = if lengths { "lengths" } else { "-" };
        println!("command {} {issuer} {lengths}", row.name);
    }
    for (row, named) in status::TABLE.iter().zip(status::NAMED) {
        let named = if *named { "named" } else { "-" };
        println!("status {} {:#x} {named}", row.name, row.code);
    }
}
