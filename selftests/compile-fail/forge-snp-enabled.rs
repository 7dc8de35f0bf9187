// SPDX-License-Identifier: GPL-2.0

//! A proof is made by asking the hardware, in `rust/sys/snp_host.rs` alone.
//!
//! in: platform/snp.rs

use super::*;

fn proof() -> Result<SnpEnabled> {
    #[cfg(refused)]
    return Ok(SnpEnabled(())); //~ E0423 pub struct SnpEnabled(());
    #[cfg(not(refused))]
    HotplugWindow::open()?.prepare()
}
