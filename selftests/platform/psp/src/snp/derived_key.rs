// SPDX-License-Identifier: GPL-2.0
//! Keys that a guest derives from the chip, for itself.

use sha2::{Digest, Sha256};
use zerocopy::FromZeros;

use super::asker::Asker;
use super::endorsement::Endorsement;
use super::message_abi::{KeyAnswer, KeyRequest2};
use super::tcb;
use crate::{Psp, Status};

const ROOT_VMRK: u32 = 1;
const POLICY: u64 = 1 << 0;
const IMAGE_ID: u64 = 1 << 1;
const FAMILY_ID: u64 = 1 << 2;
const MEASUREMENT: u64 = 1 << 3;
const GUEST_SVN: u64 = 1 << 4;
const TCB_VERSION: u64 = 1 << 5;
const MITIGATIONS: u64 = 1 << 6;

/// How silicon derives is not public. Here as there the same chip gives the same key to whoever
/// agrees in all the fields that are mixed in, and to nobody else. Version 1 of a request has no
/// mitigations.
pub(super) fn answer(
    psp: &Psp,
    asker: &Asker<'_>,
    request: &KeyRequest2,
) -> Result<KeyAnswer, Status> {
    let KeyRequest2 { base, mitigations } = request;
    let (root, fields, vmpl) = (base.flags.get(), base.fields.get(), base.vmpl.get());
    let (svn, tcb, mitigations) = (base.guest_svn.get(), base.tcb.get(), mitigations.get());
    let guest = asker.guest;
    let block = guest.id_block.as_ref();

    let mut known = POLICY | IMAGE_ID | FAMILY_ID | MEASUREMENT | GUEST_SVN | TCB_VERSION;
    if asker.version >= 2 && psp.firmware.current.api.attests_mitigations() {
        known |= MITIGATIONS;
    }
    // What a guest may mix in is bounded by what it is, so that an old guest, or one on old
    // firmware, does not get at the keys of a newer one.
    let allowed = root >> 3 == 0
        && base.reserved == 0
        && fields & !known == 0
        && asker.speaks_for(vmpl)
        && svn <= block.map_or(0, |block| block.guest_svn)
        && tcb::within(tcb, psp.firmware.committed.tcb)
        && mitigations & !psp.snp.mitigations_verified == 0;
    if !allowed {
        return Err(Status::InvalidParam);
    }
    let mut kdf = Sha256::new().chain_update(b"ccp-rs PSP model guest key");
    kdf.update(root_key(psp, asker, root)?);
    kdf.update(fields.to_le_bytes());
    kdf.update(vmpl.to_le_bytes());
    let ids = block.map_or(([0; 16], [0; 16]), |block| (block.image_id, block.family_id));
    // Lengths are fixed and `fields` says which are there, so no two mixtures are the same bytes.
    for (field, bytes) in [
        (POLICY, guest.policy.to_le_bytes().as_slice()),
        (IMAGE_ID, &ids.0),
        (FAMILY_ID, &ids.1),
        (MEASUREMENT, guest.digest.bytes()),
        (GUEST_SVN, &svn.to_le_bytes()),
        (TCB_VERSION, &tcb.to_le_bytes()),
        (MITIGATIONS, &mitigations.to_le_bytes()),
    ] {
        if fields & field != 0 {
            kdf.update(bytes);
        }
    }
    Ok(KeyAnswer { key: kdf.finalize().into(), ..KeyAnswer::new_zeroed() })
}

/// The chip's secret, the VLEK's, or the guest's own (which a migration agent would pass on).
/// INVALID_KEY if there is no such key, or the host has masked it.
fn root_key(psp: &Psp, asker: &Asker<'_>, root: u32) -> Result<[u8; 32], Status> {
    let secret = Sha256::new().chain_update(b"ccp-rs PSP model root key");
    let key_sel = root >> 1;
    let secret = if root & ROOT_VMRK != 0 {
        if key_sel != 0 {
            return Err(Status::InvalidParam);
        }
        let seed = psp.config.seed.to_le_bytes();
        secret
            .chain_update(b"VMRK")
            .chain_update(seed)
            .chain_update(asker.guest.serial.to_le_bytes())
    } else {
        match (Endorsement::select(psp, asker.guest, key_sel)?, &psp.snp.vlek) {
            (Endorsement::Vcek, _) if psp.snp.mask_chip_key => return Err(Status::InvalidKey),
            (Endorsement::Vlek, Some(vlek)) => {
                secret.chain_update(b"VLEK").chain_update(vlek.hashstick)
            }
            _ => secret.chain_update(b"VCEK").chain_update(psp.config.seed.to_le_bytes()),
        }
    };
    Ok(secret.finalize().into())
}
