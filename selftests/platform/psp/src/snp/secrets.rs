// SPDX-License-Identifier: GPL-2.0
//! The secrets page.

use sha2::{Digest, Sha256};
use zerocopy::FromZeros;

use super::launch_abi::{Secrets, VMPCK_LEN};

/// Version 3: without the TSC factor's successor fields.
const VERSION: u32 = 3;

/// The page for a guest: its four communication keys, and what LAUNCH_START passed through.
pub(super) fn page(seed: u64, serial: u64, gosvw: &[u8; 16]) -> Secrets {
    Secrets {
        version: VERSION.into(),
        gosvw: *gosvw,
        vmpck: [0, 1, 2, 3].map(|vmpl| vmpck(seed, serial, vmpl)),
        ..Secrets::new_zeroed()
    }
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
    use zerocopy::IntoBytes;

    #[test]
    fn keys_differ_by_guest_and_vmpl() {
        let (a, b) = (page(0, 1, &[7; 16]), page(0, 2, &[7; 16]));
        let (a, b) = (a.as_bytes(), b.as_bytes());
        assert_eq!(a[..4], [3, 0, 0, 0]);
        assert_eq!(a[0x10..0x20], [7; 16]);
        let key = |page: &[u8], n: usize| page[0x20 + 32 * n..0x40 + 32 * n].to_vec();
        for n in 0..4 {
            assert_ne!(key(a, n), key(b, n), "VMPCK{n} of two guests");
            assert!((0..n).all(|other| key(a, n) != key(a, other)), "VMPCK{n} of two VMPLs");
        }
        assert!(a[0xa0..].iter().all(|byte| *byte == 0));
    }
}
