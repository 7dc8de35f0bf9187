// SPDX-License-Identifier: GPL-2.0
//! A model of the firmware that runs on the AMD Secure Processor: SEV, and SEV-SNP on the host.
//!
//! A pure library: [`Psp::step`] executes one mailbox command against a [`Platform`] (memory, RMP
//! and CPU registers of somebody else's making) and says what came of it. No I/O, no threads, no
//! clock, so every rule can be tested in a table.
//!
//! The model is strict where firmware is: it checks its state, the states of the pages it is
//! given, lengths, alignment and reserved fields, because a model that takes everything hides
//! bugs of drivers. Where the public sources leave the exact status open, the comment says
//! "model choice"; a driver must treat every status but SUCCESS as failure anyway.
//!
//! Sources: include/linux/psp-sev.h (ids, layouts), include/uapi/linux/psp-sev.h (status codes),
//! AMD's Apache-2.0 `sev-tool` (state machines, certificates), the Linux driver's own expectations.
//! Reading order: [`Psp`], `step`, `command` (the table), `call` (checked access), then `sev` and
//! `snp`.

mod abi;
mod asid;
mod call;
mod command;
mod config;
mod crypto;
pub mod endorsement;
mod firmware;
pub mod image;
mod owned;
mod platform;
mod psp;
mod report;
mod services;
mod sev;
mod snp;
mod status;
mod step;
#[cfg(test)]
mod tests;

pub use call::Fact;
pub use command::name;
pub use config::{Api, Config};
pub use platform::{CpuRegisters, Platform};
pub use psp::Psp;
pub use report::Report;
pub use services::{Sfs, Tee};
pub use snp::digest::{LaunchDigest, PageInfo, PageType};
pub use status::Status;
pub use step::Outcome;
