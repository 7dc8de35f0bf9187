// SPDX-License-Identifier: GPL-2.0
//! The vendor of the modelled chips: what AMD and its key distribution service are for real ones.
//!
//! [`Vendor`] issues the certificates of a chip's VCEK and of VLEKs, with AMD's extensions, and of
//! its CEK. [`Service`] has them under the paths of the service's URLs, [`tree`] writes them to
//! files and [`http`] serves them. The root is not AMD's and says so in its name, if it is not told
//! to have AMD's; whoever verifies against AMD's roots refuses everything from here.
//!
//! All is reproducible: the vendor's keys are the same everywhere, the chip's follow from its seed.

mod certificate;
pub mod http;
mod legacy;
mod revocation;
mod service;
mod tcb;
pub mod tree;
mod vendor;

pub use certificate::{Error, Names};
pub use service::Service;
pub use tcb::{Style, Tcb};
pub use vendor::Vendor;
