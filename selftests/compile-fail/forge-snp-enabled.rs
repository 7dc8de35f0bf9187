// SPDX-License-Identifier: GPL-2.0

//! A proof is made by asking the hardware, in `rust/sys/snp_host.rs` alone.
//!
//! in: platform/snp.rs

use super::*;

fn proof() -> Result<SnpEnabled> {
    #[cfg(refused)]
    return Ok(SnpEnabled(&crate::sys::snp_host::KERNEL)); //~ E0423 pub struct SnpEnabled(&'static dyn Host);
    #[cfg(not(refused))]
    HotplugWindow::open(&crate::sys::snp_host::KERNEL)?.prepare()
}
