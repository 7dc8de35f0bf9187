// SPDX-License-Identifier: GPL-2.0
//! Which endorsement key vouches for a guest: the chip's or the loaded one.

use p384::ecdsa::SigningKey;

use super::guest::Guest;
use super::tcb;
use crate::endorsement::{self, Vlek};
use crate::{Psp, Status};

/// Which key to use (KEY_SEL of requests).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endorsement {
    Vcek = 0,
    Vlek = 1,
}

impl Endorsement {
    /// What a KEY_SEL stands for: 0 the VLEK if one is loaded, else the VCEK; 1 the VCEK; 2 the
    /// VLEK. INVALID_KEY if the guest's owner has ruled out the VCEK, if no VLEK is loaded, or if
    /// the one that is does not reach up to the reported TCB.
    pub(super) fn select(psp: &Psp, guest: &Guest, key_sel: u32) -> Result<Endorsement, Status> {
        let loaded = psp.snp.vlek.as_ref();
        let vlek = match key_sel {
            0 => loaded.is_some(),
            1 => false,
            2 => true,
            _ => return Err(Status::InvalidParam),
        };
        let good = |vlek: &Vlek| tcb::within(psp.reported_tcb(), vlek.tcb);
        match vlek {
            true if loaded.is_some_and(good) => Ok(Endorsement::Vlek),
            false if !guest.vcek_disabled => Ok(Endorsement::Vcek),
            _ => Err(Status::InvalidKey),
        }
    }

    /// The key, unless the host has masked it (SNP_CONFIG's MASK_CHIP_KEY, which is about the
    /// VCEK).
    pub(super) fn key(self, psp: &Psp) -> Option<SigningKey> {
        let tcb = psp.reported_tcb();
        match self {
            Endorsement::Vlek => psp.snp.vlek.as_ref().map(|vlek| vlek.key(tcb)),
            Endorsement::Vcek if psp.snp.mask_chip_key => None,
            Endorsement::Vcek => Some(endorsement::vcek_key(psp.config.seed, tcb)),
        }
    }
}
