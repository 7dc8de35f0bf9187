// SPDX-License-Identifier: GPL-2.0

//! A window is good for one prepare.
//!
//! in: platform/snp.rs

use super::*;

fn prepare() -> Result<SnpEnabled> {
    let window = HotplugWindow::open(&crate::sys::snp_host::KERNEL)?;
    let enabled = window.prepare()?;
    #[cfg(not(refused))]
    let window = HotplugWindow::open(&crate::sys::snp_host::KERNEL)?;
    drop(enabled);
    window.prepare() //~ E0382 move occurs because `window` has type `HotplugWindow`
}
