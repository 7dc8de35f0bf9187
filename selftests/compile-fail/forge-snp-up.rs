// SPDX-License-Identifier: GPL-2.0

//! That SNP firmware is in the INIT state is known from its answer alone, in `cmd/snp.rs`.
//!
//! in: platform/snp.rs

use super::*;

fn proof(enabled: SnpEnabled, up: SnpUp) -> SnpUp {
    #[cfg(refused)]
    return SnpUp(enabled); //~ E0423 pub(crate) struct SnpUp(SnpEnabled);
    #[cfg(not(refused))]
    up
}
