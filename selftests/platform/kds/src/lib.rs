// SPDX-License-Identifier: GPL-2.0
//! The vendor of the modelled chips: what AMD and its key distribution service are for real ones.
//!
//! [`Vendor`] issues the certificates of a chip's VCEK and of VLEKs, with AMD's extensions, and
//! [`tree`] writes them to files under the paths of the service's URLs. The root is not AMD's and
//! says so in its name, so whoever verifies against AMD's roots refuses everything from here.
//!
//! All is reproducible: the vendor's keys are the same everywhere, the chip's follow from its seed.

mod certificate;
mod tcb;
pub mod tree;
mod vendor;

pub use certificate::Error;
pub use tcb::Tcb;
pub use vendor::Vendor;
