// SPDX-License-Identifier: GPL-2.0
//! The launch digest, computed from what is to be launched alone.
//!
//! Source: the SNP firmware ABI, SNP_LAUNCH_UPDATE, structure PAGE_INFO.

use sha2::{Digest, Sha384};

use crate::image::{Kind, Page};

/// The digest after these pages, in this order.
pub fn of(pages: &[Page]) -> [u8; 48] {
    pages.iter().fold([0; 48], |so_far, page| {
        let contents: [u8; 48] = match page.kind {
            Kind::Normal | Kind::Vmsa => Sha384::digest(&page.data).into(),
            // Firmware chooses what is in them, or it does not matter.
            Kind::Zero | Kind::Unmeasured | Kind::Secrets | Kind::Cpuid => [0; 48],
        };
        let mut hash = Sha384::new();
        hash.update(so_far);
        hash.update(contents);
        // Length of the structure, type, not of a migration image, no rights for VMPL 1 to 3.
        hash.update(0x70u16.to_le_bytes());
        hash.update([page.kind as u8, 0, 0, 0, 0, 0]);
        hash.update(page.gpa.to_le_bytes());
        hash.finalize().into()
    })
}

/// As text.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with sev-snp-measure.
    #[test]
    fn published_vector() {
        let page = |kind, gpa, fill| Page { kind, gpa, data: vec![fill; 4096] };
        let pages = [
            page(Kind::Normal, 0, 0),
            page(Kind::Normal, 0x1000, 1),
            page(Kind::Normal, 0x2000, 2),
            page(Kind::Normal, 0x3000, 3),
            page(Kind::Zero, 0x4000, 0),
            page(Kind::Unmeasured, 0x5000, 0),
            page(Kind::Secrets, 0x6000, 0),
            page(Kind::Cpuid, 0x7000, 0),
            page(Kind::Vmsa, 0xffff_ffff_f000, 0),
        ];
        assert_eq!(
            hex(&of(&pages)),
            "0f8b5545f576249298ae443713b2f5b3744a2386737561cb78ac2c6869bfd2baf0aea590ce036c46ffb783e92a981bd9"
        );
    }
}
