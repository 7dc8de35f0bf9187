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
//! A test of a driver's command against firmware, without QEMU and without a kernel:
//!
//! ```
//! use std::cell::RefCell;
//!
//! use psp::{Config, CpuRegisters, Platform, Psp, Status};
//! use rmp::Entry;
//!
//! /// 4 MiB of memory, one CPU that has not set SNP up.
//! struct Machine(RefCell<Vec<u8>>);
//!
//! impl Platform for Machine {
//!     fn is_ram(&self, pa: u64, len: u64) -> bool {
//!         pa.checked_add(len).is_some_and(|end| end <= 4 << 20)
//!     }
//!     fn read(&self, pa: u64, bytes: &mut [u8]) {
//!         bytes.copy_from_slice(&self.0.borrow()[pa as usize..][..bytes.len()]);
//!     }
//!     fn write(&self, pa: u64, bytes: &[u8]) {
//!         self.0.borrow_mut()[pa as usize..][..bytes.len()].copy_from_slice(bytes);
//!     }
//!     fn cpus(&self) -> Vec<CpuRegisters> {
//!         vec![CpuRegisters::default()]
//!     }
//!     fn clear_snp_en(&self) {}
//!     fn iommu_snp(&self) -> bool {
//!         false
//!     }
//!     fn iommu_pages(&self) -> Vec<u64> {
//!         Vec::new()
//!     }
//!     fn set_asid(&self, _asid: u32, _snp: Option<bool>) {}
//!     fn set_snp_active(&self, _active: bool) {}
//! }
//!
//! // The RMP lies in that memory, and nobody else is there to lock it against.
//! impl rmp::Table for Machine {
//!     fn load(&self, at: u64) -> Entry {
//!         let word = |at| {
//!             let mut bytes = [0; 8];
//!             self.read(at, &mut bytes);
//!             u64::from_le_bytes(bytes)
//!         };
//!         Entry { lo: word(at), hi: word(at + 8) }
//!     }
//!     fn store(&self, at: u64, entry: Entry) {
//!         self.write(at, &entry.lo.to_le_bytes());
//!         self.write(at + 8, &entry.hi.to_le_bytes());
//!     }
//!     fn try_lock(&self, _region: u64) -> bool {
//!         true
//!     }
//!     fn unlock(&self, _region: u64) {}
//! }
//!
//! let machine = Machine(RefCell::new(vec![0; 4 << 20]));
//! let mut psp = Psp::new(Config::MILAN);
//! let (platform_status, snp_init, buffer) = (0x4, 0x81, 0x1000);
//!
//! let outcome = psp.step(&machine, platform_status, buffer);
//! assert_eq!(outcome.status, Status::Success);
//! let api = Config::MILAN.api;
//! assert_eq!(machine.0.borrow()[0x1000..0x1003], [api.major, api.minor, 0]);
//! // Without SNP_EN on every CPU firmware does not begin.
//! assert_ne!(psp.step(&machine, snp_init, 0).status, Status::Success);
//! ```
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
mod part;
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
pub use part::{Part, TcbLayout};
pub use platform::{CpuRegisters, Platform};
pub use psp::Psp;
pub use report::Report;
pub use services::{Sfs, Tee};
pub use snp::digest::{LaunchDigest, PageInfo, PageType};
pub use status::Status;
pub use step::Outcome;
