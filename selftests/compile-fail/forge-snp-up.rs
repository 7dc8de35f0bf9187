// SPDX-License-Identifier: GPL-2.0

//! That SNP firmware is in the INIT state is known from its answer alone, in `cmd/init.rs`.
//!
//! in: platform/sev.rs

use super::*;
use crate::cmd::SnpIsUp;

fn proof(up: SnpIsUp) -> SnpIsUp {
    #[cfg(refused)]
    return SnpIsUp(()); //~ E0423 pub(crate) struct SnpIsUp(());
    #[cfg(not(refused))]
    up
}
