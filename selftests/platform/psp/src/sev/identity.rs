// SPDX-License-Identifier: GPL-2.0
//! The platform's keys and owner, and how they are kept in flash or in INIT_EX's NV area.

use p384::ecdsa::SigningKey;
use sha2::{Digest, Sha256};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::abi;
use super::certificate::{Certificate, Usage};
use crate::abi::structures;
use crate::{crypto, Api};

/// Bytes of the NV area (psp-sev.h: NV_LENGTH).
pub(crate) const NV_LEN: usize = 32 << 10;

const NV_MAGIC: [u8; 8] = *b"CCPRSNV1";

structures! {
    /// What the model makes of the NV area, which nobody else reads.
    Nv {
        magic: [u8; 8],
        oca: U32,
        pek: U32,
        pdh: U32,
        owned: u8,
        reserved: [u8; 11],
        external_pek: abi::Certificate,
        external_oca: abi::Certificate,
        reserved2: [u8; NV_LEN - 64 - 2 * size_of::<abi::Certificate>()],
        /// Of all before it, with the chip's seed.
        sum: [u8; 32],
    }
}

const _: () = assert!(size_of::<Nv>() == NV_LEN);

/// Keys follow from the chip's seed and these generation counters, so only counters are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    seed: u64,
    oca: u32,
    pek: u32,
    pdh: u32,
    /// PEK and OCA certificates of an external owner.
    external: Option<(Certificate, Certificate)>,
}

impl Identity {
    /// A chip that has just generated its first keys; it owns itself.
    pub(crate) fn new(seed: u64) -> Identity {
        Identity { seed, oca: 1, pek: 1, pdh: 1, external: None }
    }

    pub(crate) fn externally_owned(&self) -> bool {
        self.external.is_some()
    }

    /// PEK_GEN: new PEK and PDH, self-owned again.
    pub(crate) fn new_pek(&mut self) {
        self.pek += 1;
        self.pdh += 1;
        self.external = None;
    }

    /// PDH_GEN.
    pub(crate) fn new_pdh(&mut self) {
        self.pdh += 1;
    }

    /// FACTORY_RESET: all keys are new.
    pub(crate) fn new_all(&mut self) {
        self.oca += 1;
        self.new_pek();
    }

    pub(crate) fn set_owner(&mut self, pek: Certificate, oca: Certificate) {
        self.external = Some((pek, oca));
    }

    fn oca_key(&self) -> SigningKey {
        crypto::derive(self.seed, "OCA", self.oca)
    }

    fn pek_key(&self) -> SigningKey {
        crypto::derive(self.seed, "PEK", self.pek)
    }

    fn cek_key(&self) -> SigningKey {
        crypto::derive(self.seed, "CEK", 0)
    }

    /// What the PEK says of a digest.
    pub(crate) fn sign(&self, digest: &[u8]) -> crypto::Signature {
        crypto::sign(&self.pek_key(), digest)
    }

    /// The PEK without signatures, for an owner to sign.
    pub(crate) fn pek_csr(&self, api: Api) -> Certificate {
        Certificate::new(api, Usage::Pek, &self.pek_key())
    }

    /// PEK, OCA and CEK. The PEK is signed by the owner and by the chip. The CEK has no signature:
    /// that of AMD is fetched from AMD's server by chip id, firmware does not have it.
    pub(crate) fn chain(&self, api: Api) -> [Certificate; 3] {
        let (pek, oca) = match &self.external {
            Some((pek, oca)) => (pek.clone(), oca.clone()),
            None => {
                let oca_key = self.oca_key();
                let oca = Certificate::new(api, Usage::Oca, &oca_key);
                let pek = self.pek_csr(api).signed(0, Usage::Oca, &oca_key);
                (pek, oca.signed(0, Usage::Oca, &oca_key))
            }
        };
        let pek = pek.signed(1, Usage::Cek, &self.cek_key());
        [pek, oca, self.cek(api)]
    }

    /// What AMD signs.
    pub(crate) fn cek(&self, api: Api) -> Certificate {
        Certificate::new(api, Usage::Cek, &self.cek_key())
    }

    fn pdh_key(&self) -> SigningKey {
        crypto::derive(self.seed, "PDH", self.pdh)
    }

    pub(crate) fn pdh(&self, api: Api) -> Certificate {
        Certificate::new(api, Usage::Pdh, &self.pdh_key()).signed(0, Usage::Pek, &self.pek_key())
    }

    /// The secret shared with the owner of a key of the same kind as the PDH; none if the
    /// certificate has no key.
    pub(crate) fn agree(&self, peer: &Certificate) -> Option<[u8; crypto::NUMBER]> {
        crypto::agree(&self.pdh_key(), peer.public_key())
    }

    /// The NV area's content.
    pub(crate) fn to_nv(&self) -> Vec<u8> {
        let mut nv = Nv::new_zeroed();
        nv.magic = NV_MAGIC;
        (nv.oca, nv.pek, nv.pdh) = (self.oca.into(), self.pek.into(), self.pdh.into());
        if let Some((pek, oca)) = &self.external {
            nv.owned = 1;
            (nv.external_pek, nv.external_oca) = (pek.stored().clone(), oca.stored().clone());
        }
        nv.sum = self.nv_sum(&nv);
        nv.as_bytes().to_vec()
    }

    /// What an NV area holds: `Some(None)` if it is blank (Linux passes zeros for a file that does
    /// not exist yet, and 0xff is erased flash), none if it is not this chip's or damaged.
    pub(crate) fn from_nv(seed: u64, nv: &[u8]) -> Option<Option<Identity>> {
        if nv.iter().all(|byte| *byte == 0) || nv.iter().all(|byte| *byte == 0xff) {
            return Some(None);
        }
        let nv = Nv::ref_from_bytes(nv).ok()?;
        let mut identity = Identity::new(seed);
        if nv.magic != NV_MAGIC || nv.sum != identity.nv_sum(nv) {
            return None;
        }
        (identity.oca, identity.pek, identity.pdh) = (nv.oca.get(), nv.pek.get(), nv.pdh.get());
        if nv.owned == 1 {
            let certificate = |stored: &abi::Certificate| Certificate::from(stored.clone());
            let owner = (certificate(&nv.external_pek), certificate(&nv.external_oca));
            identity.external = Some(owner);
        }
        Some(Some(identity))
    }

    fn nv_sum(&self, nv: &Nv) -> [u8; 32] {
        let summed = &nv.as_bytes()[..NV_LEN - nv.sum.len()];
        Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(summed).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const API: Api = Config::MILAN.api;

    #[test]
    fn the_chain_verifies_from_pdh_to_cek() {
        let identity = Identity::new(7);
        let [pek, oca, cek] = identity.chain(API);
        let pdh = identity.pdh(API);
        assert!(pdh.is(Usage::Pdh) && pdh.is_signed_by(Usage::Pek, &pek));
        assert!(pek.is_signed_by(Usage::Oca, &oca) && pek.is_signed_by(Usage::Cek, &cek));
        assert!(oca.is_signed_by(Usage::Oca, &oca));
        assert!(cek.is(Usage::Cek) && !cek.is_signed_by(Usage::Cek, &cek));
    }

    #[test]
    fn generating_changes_what_the_abi_says() {
        let all = |identity: &Identity| {
            let [pek, oca, cek] = identity.chain(API);
            [identity.pdh(API), pek, oca, cek].map(|cert| cert.public_key().clone())
        };
        type Row = (&'static str, fn(&mut Identity), [bool; 4]);
        let rows: [Row; 3] = [
            ("PDH_GEN", Identity::new_pdh, [true, false, false, false]),
            ("PEK_GEN", Identity::new_pek, [true, true, false, false]),
            ("FACTORY_RESET", Identity::new_all, [true, true, true, false]),
        ];
        for (name, change, expected) in rows {
            let before = Identity::new(7);
            let mut after = before.clone();
            change(&mut after);
            let (before, after) = (all(&before), all(&after));
            for (at, changes) in expected.into_iter().enumerate() {
                assert_eq!(before[at] != after[at], changes, "{name}, certificate {at}");
            }
        }
    }

    #[test]
    fn nv_round_trips_and_damage_is_seen() {
        let mut identity = Identity::new(7);
        identity.new_pek();
        let [pek, oca, _] = identity.chain(API);
        identity.set_owner(pek, oca);
        let nv = identity.to_nv();
        assert_eq!(Identity::from_nv(7, &nv), Some(Some(identity)));
        assert_eq!(Identity::from_nv(8, &nv), None, "another chip's");
        let mut bad = nv.clone();
        bad[12] ^= 1;
        assert_eq!(Identity::from_nv(7, &bad), None, "damaged");
        assert_eq!(Identity::from_nv(7, &vec![0; NV_LEN]), Some(None));
        assert_eq!(Identity::from_nv(7, &vec![0xff; NV_LEN]), Some(None));
    }
}
