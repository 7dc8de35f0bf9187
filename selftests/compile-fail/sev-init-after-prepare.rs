// SPDX-License-Identifier: GPL-2.0

//! CPUs that are ready for SNP are no reason to issue SEV INIT: firmware must have been initialised.
//!
//! in: platform/sev.rs

use super::*;
use crate::{cmd::snp::SnpUp, sys::snp_host::SnpEnabled};

#[cfg(refused)]
type Proof = SnpEnabled;
#[cfg(not(refused))]
type Proof = SnpUp;

fn start(proof: &Proof) -> Order<'_> {
    Order::AfterSnp(proof) //~ E0308 expected `&SnpUp`, found `&SnpEnabled`
}
