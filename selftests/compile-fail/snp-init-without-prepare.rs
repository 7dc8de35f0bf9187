// SPDX-License-Identifier: GPL-2.0

//! An open window is not enough for SNP_INIT: SNP_EN must have been read as set on every CPU.
//!
//! in: platform/snp.rs

use super::*;

#[cfg(refused)]
type Proof = HotplugWindow;
#[cfg(not(refused))]
type Proof = SnpEnabled;

fn start<T: crate::mailbox::Transport>(
    channel: &mut crate::cmd::Channel<T>,
    proof: Proof,
) -> Result {
    let up = channel.init_snp(proof, None); //~ E0308 expected `SnpEnabled`, found `HotplugWindow`
    up.map_err(|(_, err)| err.errno())
}
