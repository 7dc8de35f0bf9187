// SPDX-License-Identifier: GPL-2.0

//! A proof is made by asking the hardware, in `rust/sys/snp_host.rs` alone.
//!
//! in: platform/snp.rs

use super::*;

fn proof() -> Result<HotplugWindow> {
    #[cfg(refused)]
    return Ok(HotplugWindow(&crate::sys::snp_host::KERNEL)); //~ E0423 pub struct HotplugWindow(&'static dyn Host);
    #[cfg(not(refused))]
    HotplugWindow::open(&crate::sys::snp_host::KERNEL)
}
