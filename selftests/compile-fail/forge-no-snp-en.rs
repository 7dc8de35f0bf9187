// SPDX-License-Identifier: GPL-2.0

//! A proof is made by asking the hardware, in `rust/sys/snp_host.rs` alone.
//!
//! in: platform/sev.rs

use super::*;

fn proof() -> Result<NoSnpEn> {
    #[cfg(refused)]
    return Ok(NoSnpEn(())); //~ E0423 pub struct NoSnpEn(());
    #[cfg(not(refused))]
    NoSnpEn::measure(&crate::sys::snp_host::KERNEL)
}
