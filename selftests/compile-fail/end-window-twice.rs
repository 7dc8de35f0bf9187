// SPDX-License-Identifier: GPL-2.0

//! What becomes of the hotplug window is said once.
//!
//! in: platform/snp.rs

use super::*;

fn end(enabled: SnpEnabled) {
    #[cfg(refused)]
    let _ = enabled.end();
    enabled.keep(snp_host_keep::SNP_HOST_KEEP_LEGACY_SHUTDOWN); //~ E0382 move occurs because `enabled` has type `SnpEnabled`
}
