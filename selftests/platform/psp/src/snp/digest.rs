// SPDX-License-Identifier: GPL-2.0
//! The launch digest: SHA-384 over a chain of PAGE_INFO structures.

use sha2::{Digest, Sha384};
use zerocopy::{FromZeros, IntoBytes};

use super::launch_abi;

/// What a launch page is (psp-sev.h: SNP_PAGE_TYPE_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageType {
    /// Measured with its content.
    Normal = 1,
    /// A VMSA; measured with its content.
    Vmsa = 2,
    /// Zeroed by firmware.
    Zero = 3,
    /// Encrypted, content not measured.
    Unmeasured = 4,
    /// Filled with the guest's secrets by firmware.
    Secrets = 5,
    /// The CPUID table; checked by firmware.
    Cpuid = 6,
}

impl PageType {
    /// The type with this number.
    pub const fn from_number(number: u32) -> Option<PageType> {
        Some(match number {
            1 => PageType::Normal,
            2 => PageType::Vmsa,
            3 => PageType::Zero,
            4 => PageType::Unmeasured,
            5 => PageType::Secrets,
            6 => PageType::Cpuid,
            _ => return None,
        })
    }

    /// The name used in traces.
    pub const fn name(self) -> &'static str {
        match self {
            PageType::Normal => "NORMAL",
            PageType::Vmsa => "VMSA",
            PageType::Zero => "ZERO",
            PageType::Unmeasured => "UNMEASURED",
            PageType::Secrets => "SECRETS",
            PageType::Cpuid => "CPUID",
        }
    }

    const fn content_is_measured(self) -> bool {
        matches!(self, PageType::Normal | PageType::Vmsa)
    }
}

/// One measured page.
#[derive(Clone, Copy, Debug)]
pub struct PageInfo<'a> {
    /// Its type.
    pub page_type: PageType,
    /// Part of the initial migration image.
    pub imi: bool,
    /// Permissions of VMPL 1, 2 and 3.
    pub vmpl_perms: [u8; 3],
    /// Guest physical address.
    pub gpa: u64,
    /// 4096 bytes.
    pub content: &'a [u8],
}

/// The digest so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchDigest([u8; 48]);

impl LaunchDigest {
    /// The digest of nothing.
    pub const START: LaunchDigest = LaunchDigest([0; 48]);

    /// The 48 bytes.
    pub const fn bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// Extends the digest by a page. (sev-snp-measure has permissions in reverse, with what is
    /// reserved behind; they are zero in every launch that KVM makes. This is sev-tool's order.)
    pub fn extend(&mut self, page: &PageInfo<'_>) {
        let mut info = launch_abi::PageInfo {
            digest: self.0,
            length: (size_of::<launch_abi::PageInfo>() as u16).into(),
            page_type: page.page_type as u8,
            flags: page.imi.into(),
            vmpl_perms: page.vmpl_perms,
            gpa: page.gpa.into(),
            ..launch_abi::PageInfo::new_zeroed()
        };
        if page.page_type.content_is_measured() {
            info.contents = Sha384::digest(page.content).into();
        }
        self.0 = Sha384::digest(info.as_bytes()).into();
    }

    /// Makes it wrong.
    pub(crate) fn corrupt(&mut self) {
        self.0[0] ^= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: &LaunchDigest) -> String {
        digest.bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn page(page_type: PageType, gpa: u64, content: &[u8]) -> PageInfo<'_> {
        PageInfo { page_type, imi: false, vmpl_perms: [0; 3], gpa, content }
    }

    /// The published vectors A to E (computed with sev-snp-measure).
    #[test]
    fn published_vectors() {
        let zero = [0; 4096];
        let fill = |byte: u8| [byte; 4096];
        let (p1, p2, p3) = (fill(1), fill(2), fill(3));
        let rows: &[(&str, Vec<PageInfo<'_>>, &str)] = &[
            (
                "A",
                vec![page(PageType::Normal, 0, &zero)],
                "9d13634b6014bb21cf059b2dc694e7bff01a8a7137041100cd2b695f3d10fb687267b97808b27f8f471d943bc6f53a20",
            ),
            (
                "B",
                vec![page(PageType::Zero, 0x1000, &zero)],
                "4bd4147976a1e7554c1c778a781affc1c672f1965a727ba16084989b7e356044a28bbe585a2f75dac9356fa5ab78f061",
            ),
            (
                "C",
                vec![page(PageType::Secrets, 0x80d000, &zero)],
                "e82e99caf82a32c31ec5070eef9e2135866d8f7de60d756814f3bd8c989c1e826622e0a97dad026c6d9d81818780e6a2",
            ),
            (
                "D",
                vec![page(PageType::Cpuid, 0x80e000, &zero)],
                "c9e46442d2b4ddb823fa6b4a907930de7e93901180c5a3126ba234193059a0a51a21ba82f05d2fe0f3136f22b1b1a8e4",
            ),
            (
                "E",
                vec![
                    page(PageType::Normal, 0, &zero),
                    page(PageType::Normal, 0x1000, &p1),
                    page(PageType::Normal, 0x2000, &p2),
                    page(PageType::Normal, 0x3000, &p3),
                    page(PageType::Zero, 0x4000, &zero),
                    page(PageType::Unmeasured, 0x5000, &zero),
                    page(PageType::Secrets, 0x6000, &zero),
                    page(PageType::Cpuid, 0x7000, &zero),
                    page(PageType::Vmsa, 0xffff_ffff_f000, &zero),
                ],
                "0f8b5545f576249298ae443713b2f5b3744a2386737561cb78ac2c6869bfd2baf0aea590ce036c46ffb783e92a981bd9",
            ),
        ];
        for (name, pages, expected) in rows {
            let mut digest = LaunchDigest::START;
            for page in pages {
                digest.extend(page);
            }
            assert_eq!(hex(&digest), *expected, "vector {name}");
        }
    }

    #[test]
    fn every_input_matters() {
        let zero = [0; 4096];
        let base = page(PageType::Normal, 0x1000, &zero);
        let one = [1; 4096];
        let variants = [
            PageInfo { page_type: PageType::Vmsa, ..base },
            PageInfo { imi: true, ..base },
            PageInfo { vmpl_perms: [1, 0, 0], ..base },
            PageInfo { vmpl_perms: [0, 1, 0], ..base },
            PageInfo { vmpl_perms: [0, 0, 1], ..base },
            PageInfo { gpa: 0x2000, ..base },
            PageInfo { content: &one, ..base },
        ];
        let of = |page: &PageInfo<'_>| {
            let mut digest = LaunchDigest::START;
            digest.extend(page);
            digest
        };
        for variant in &variants {
            assert_ne!(of(&base), of(variant), "{variant:?}");
        }
        let mut unmeasured = PageInfo { page_type: PageType::Unmeasured, ..base };
        let before = of(&unmeasured);
        unmeasured.content = &one;
        assert_eq!(before, of(&unmeasured), "content of an unmeasured page");
    }
}
