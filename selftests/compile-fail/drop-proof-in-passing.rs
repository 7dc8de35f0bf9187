// SPDX-License-Identifier: GPL-2.0

//! That SNP is prepared on the CPUs is not forgotten in passing.
//!
//! in: platform/snp.rs

use super::*;

fn prepare(window: HotplugWindow) -> Result {
    #[cfg(refused)]
    window.prepare()?; //~ unused_must_use unused `SnpEnabled` that must be used
    #[cfg(not(refused))]
    window.prepare()?.keep(snp_host_keep::SNP_HOST_KEEP_TIMEOUT);
    Ok(())
}
