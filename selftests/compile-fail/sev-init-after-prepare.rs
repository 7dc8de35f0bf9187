// SPDX-License-Identifier: GPL-2.0

//! CPUs that are ready for SNP are no reason to issue SEV INIT: firmware must have been
//! initialised.
//!
//! in: platform/sev.rs

use super::*;
use crate::{cmd::SnpIsUp, sys::snp_host::SnpEnabled};

#[cfg(refused)]
type Proof = SnpEnabled;
#[cfg(not(refused))]
type Proof = SnpIsUp;

fn start(proof: Proof) -> InitProof {
    InitProof::SnpIsUp(proof) //~ E0308 expected `SnpIsUp`, found `SnpEnabled`
}
