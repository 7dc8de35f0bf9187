// SPDX-License-Identifier: GPL-2.0
//! The secrets page (layout: Linux' `struct snp_secrets_page`).

use sha2::{Digest, Sha256};

use super::message::VMPCK_LEN;

/// Version 3: without the TSC factor's successor fields.
const VERSION: u32 = 3;
const GOSVW: usize = 0x10;
const VMPCK: usize = 0x20;

/// The page for a guest: its four communication keys, and what LAUNCH_START passed through.
pub(super) fn page(seed: u64, serial: u64, imi: bool, gosvw: &[u8; 16]) -> Vec<u8> {
    let mut page = vec![0; 0x1000];
    page[..4].copy_from_slice(&VERSION.to_le_bytes());
    page[4] = imi.into();
    page[GOSVW..GOSVW + 16].copy_from_slice(gosvw);
    for vmpl in 0..4u8 {
        let at = VMPCK + VMPCK_LEN * usize::from(vmpl);
        page[at..at + VMPCK_LEN].copy_from_slice(&vmpck(seed, serial, vmpl));
    }
    page
}

/// Key of one VMPL. Derived, so that a run can be repeated.
pub(super) fn vmpck(seed: u64, serial: u64, vmpl: u8) -> [u8; VMPCK_LEN] {
    Sha256::new()
        .chain_update(b"ccp-rs PSP model VMPCK")
        .chain_update(seed.to_le_bytes())
        .chain_update(serial.to_le_bytes())
        .chain_update([vmpl])
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_guest_and_vmpl() {
        let (a, b) = (page(0, 1, false, &[7; 16]), page(0, 2, false, &[7; 16]));
        assert_eq!(a[..4], [3, 0, 0, 0]);
        assert_eq!(a[0x10..0x20], [7; 16]);
        let key = |page: &[u8], n: usize| page[0x20 + 32 * n..0x40 + 32 * n].to_vec();
        for n in 0..4 {
            assert_ne!(key(&a, n), key(&b, n), "VMPCK{n} of two guests");
            assert!((0..n).all(|other| key(&a, n) != key(&a, other)), "VMPCK{n} of two VMPLs");
        }
        assert!(a[0xa0..].iter().all(|byte| *byte == 0));
    }
}
