// SPDX-License-Identifier: GPL-2.0
//! What is in memory at launch: special pages, what is measured, and what the owner has signed
//! (Linux' asm/sev.h, QEMU's target/i386/sev.c, AMD's sev-tool, virtee/sev).

use zerocopy::little_endian::{U16, U32, U64};

use crate::abi::structures;
use crate::crypto::{PublicKey, Signature};

/// VM communication keys of a guest, one per VMPL.
pub(super) const VMPCKS: usize = 4;
/// Bytes of one.
pub(super) const VMPCK_LEN: usize = 32;

structures! {
    /// The secrets page (`struct snp_secrets_page`).
    Secrets {
        version: U32,
        /// 0 IMI_EN.
        flags: U32,
        family_model_stepping: U32,
        reserved: [u8; 4],
        gosvw: [u8; 16],
        vmpck: [[u8; VMPCK_LEN]; VMPCKS],
        /// The guest's, from here on.
        os_area: [u8; 96],
        vmsa_tweak_bitmap: [u8; 64],
        svsm: [u8; 32],
        tsc_factor: U32,
        rest: [u8; 0xe9c],
    }

    /// The CPUID page, and a message about CPUID without its status.
    CpuidTable {
        count: U32,
        reserved: [u8; 12],
        functions: [CpuidFunction; 64],
    }

    /// One of its entries.
    CpuidFunction {
        eax_in: U32,
        ecx_in: U32,
        xcr0_in: U64,
        xss_in: U64,
        eax: U32,
        ebx: U32,
        ecx: U32,
        edx: U32,
        reserved: [u8; 8],
    }

    /// A VMSA, as far as firmware looks at it (`struct sev_es_save_area` in asm/svm.h).
    Vmsa {
        segments: [u8; 0xca],
        vmpl: u8,
        cpl: u8,
        reserved: [u8; 4],
        efer: U64,
        registers: [u8; 0x2d8],
        sev_features: U64,
        rest: [u8; 0xc48],
    }

    /// PAGE_INFO, of which the launch digest is a chain.
    PageInfo {
        digest: [u8; 48],
        /// Of the content; zero if that is not measured.
        contents: [u8; 48],
        length: U16,
        page_type: u8,
        /// 0 IMI_PAGE.
        flags: u8,
        reserved: u8,
        /// Of VMPL 1, 2 and 3.
        vmpl_perms: [u8; 3],
        gpa: U64,
    }

    /// The ID block.
    IdBlock {
        digest: [u8; 48],
        family_id: [u8; 16],
        image_id: [u8; 16],
        version: U32,
        guest_svn: U32,
        policy: U64,
    }

    /// ID authentication.
    IdAuth {
        id_key_algorithm: U32,
        author_key_algorithm: U32,
        reserved: [u8; 56],
        block_signature: IdSignature,
        id_key: PublicKey,
        reserved2: [u8; 60],
        id_key_signature: IdSignature,
        author_key: PublicKey,
        reserved3: [u8; 892],
    }

    /// A signature in it.
    IdSignature {
        ecdsa: Signature,
        reserved: [u8; 368],
    }
}

const _: () = assert!(size_of::<Secrets>() == 0x1000);
const _: () = assert!(size_of::<IdAuth>() == 0x1000);
const _: () = assert!(size_of::<Vmsa>() == 0x1000);
