// SPDX-License-Identifier: GPL-2.0

//! Command buffers and data pages of the SNP commands that the driver itself issues.

use crate::pages::Address;
use zerocopy_derive::{
    FromBytes,
    Immutable,
    IntoBytes,
    KnownLayout, //
};

/// A command buffer that is one address: `SNP_PLATFORM_STATUS`, `SNP_DECOMMISSION`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct Addr {
    pub(crate) address: Address,
}

/// The page that `SNP_PLATFORM_STATUS` fills.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct SnpStatus {
    pub(crate) api_major: u8,
    pub(crate) api_minor: u8,
    /// 0 UNINIT, 1 INIT.
    pub(crate) state: u8,
    /// Bit 0: the RMP is initialised.
    pub(crate) rmp_flags: u8,
    pub(crate) build: u32,
    /// `FLAG_*`.
    pub(crate) flags: u32,
    pub(crate) guest_count: u32,
    pub(crate) current_tcb: u64,
    pub(crate) reported_tcb: u64,
}

impl SnpStatus {
    /// `flags`: the command SNP_FEATURE_INFO exists.
    pub(crate) const FLAG_FEATURE_INFO: u32 = 1 << 3;
    /// `flags`: the platform (BIOS) is set up for ciphertext hiding.
    pub(crate) const FLAG_CIPHERTEXT_HIDING_CAP: u32 = 1 << 5;

    /// Whether SNP firmware is in the INIT state.
    pub(crate) fn is_init(&self) -> bool {
        self.state == 1
    }

    /// Whether all bits of `flag` are set.
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }
}

/// `SNP_GUEST_STATUS`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct GuestStatus {
    /// The guest's context.
    pub(crate) gctx: Address,
    /// A page for the answer.
    pub(crate) address: Address,
}

/// `SNP_FEATURE_INFO`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct FeatureInfoRequest {
    /// Size of this structure.
    pub(crate) length: u32,
    /// Sub-leaf of CPUID function 0x80000024.
    pub(crate) ecx_in: u32,
    pub(crate) address: Address,
}

/// What `SNP_FEATURE_INFO` stores for sub-leaf 0.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct FeatureInfo {
    pub(crate) eax: u32,
    pub(crate) ebx: u32,
    pub(crate) ecx: u32,
    pub(crate) edx: u32,
}

/// Features of SNP firmware, bits of `ecx` of sub-leaf 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Feature {
    /// SNP_SHUTDOWN_EX can clear SNP_EN.
    X86Shutdown = 1 << 1,
    /// A guest policy may ask for RAPL to be off.
    RaplDisable = 1 << 2,
    /// Ciphertext hiding.
    CiphertextHiding = 1 << 3,
    /// A guest policy may ask for AES-256-XTS.
    Aes256XtsPolicy = 1 << 4,
    /// A guest policy may allow CXL.
    CxlAllowPolicy = 1 << 5,
    /// The command SNP_VERIFY_MITIGATION.
    VerifyMitigation = 1 << 13,
}

impl FeatureInfo {
    /// Whether firmware has `feature`.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.ecx & feature as u32 != 0
    }
}

/// Guest-policy bits that every SNP firmware accepts: ABI minor and major (15:0), SMT, the bit that
/// must be one, MIGRATE_MA, DEBUG, SINGLE_SOCKET.
pub(crate) const POLICY_BASE: u64 = 0x001f_ffff;
/// Guest-policy bit: CXL_ALLOW.
pub(crate) const POLICY_CXL_ALLOW: u64 = 1 << 21;
/// Guest-policy bit: MEM_AES_256_XTS.
pub(crate) const POLICY_AES_256_XTS: u64 = 1 << 22;
/// Guest-policy bit: RAPL_DIS.
pub(crate) const POLICY_RAPL_DIS: u64 = 1 << 23;
/// Guest-policy bit: CIPHERTEXT_HIDING_DRAM.
pub(crate) const POLICY_CIPHERTEXT_HIDING: u64 = 1 << 24;
/// Guest-policy bit: PAGE_SWAP_DISABLE (API 1.58).
pub(crate) const POLICY_PAGE_SWAP_DISABLE: u64 = 1 << 25;

/// `SNP_INIT_EX`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct SnpInitEx {
    /// `INIT_*`.
    pub(crate) flags: u32,
    pub(crate) rsvd: u32,
    /// Page with a [`RangeListHeader`] and [`Range`]s.
    pub(crate) list_paddr: Address,
    /// Highest ASID of SNP guests, if [`INIT_CIPHERTEXT_HIDING_EN`].
    pub(crate) max_snp_asid: u16,
    pub(crate) rsvd2: [u8; 46],
}

/// `SNP_INIT_EX`: firmware initialises the RMP.
pub(crate) const INIT_RMP: u32 = 1 << 0;
/// `SNP_INIT_EX`: `list_paddr` is valid.
pub(crate) const INIT_LIST_PADDR_EN: u32 = 1 << 1;
/// `SNP_INIT_EX`: `max_snp_asid` is valid, ciphertext is hidden for the ASIDs up to it.
pub(crate) const INIT_CIPHERTEXT_HIDING_EN: u32 = 1 << 3;

/// Head of the list of HV-Fixed ranges; the page is filled up with [`Range`]s.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct RangeListHeader {
    pub(crate) num_elements: u32,
    pub(crate) rsvd: u32,
}

/// A range of pages that shall become HV-Fixed.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct Range {
    pub(crate) base: u64,
    pub(crate) page_count: u32,
    pub(crate) rsvd: u32,
}

/// `SNP_SHUTDOWN_EX`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct SnpShutdownEx {
    /// Size of this structure.
    pub(crate) len: u32,
    /// `SHUTDOWN_*`.
    pub(crate) flags: u32,
}

/// `SNP_SHUTDOWN_EX`: the IOMMU stops enforcing SNP and its pages become Reclaim.
pub(crate) const SHUTDOWN_IOMMU_SNP: u32 = 1 << 0;
/// `SNP_SHUTDOWN_EX`: firmware clears SNP_EN on all CPUs.
pub(crate) const SHUTDOWN_X86_SNP: u32 = 1 << 1;

/// `SNP_PAGE_RECLAIM`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct PageReclaim {
    /// Address of the page; bit 0 selects a 2 MiB page.
    pub(crate) paddr: Address,
}

/// `SNP_CONFIG`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct SnpConfig {
    /// TCB version for attestation reports; all zero follows the current one.
    pub(crate) reported_tcb: u64,
    /// Bit 0: hide the chip id; bit 1: do not sign reports.
    pub(crate) flags: u32,
    pub(crate) rsvd: [u8; 52],
}

/// `SNP_DOWNLOAD_FIRMWARE_EX`, as in the patches that were proposed for the in-tree driver.
/// psp-sev.h of Linux 7.3 has a shorter structure for it, which nothing uses.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct DownloadFirmwareEx {
    /// Size of this structure.
    pub(crate) length: u32,
    pub(crate) rsvd: u32,
    /// The image, aligned to 32 bytes.
    pub(crate) address: Address,
    pub(crate) len: u32,
    /// Bit 0 commits the image, which is for the administrator to do: always 0.
    pub(crate) flags: u32,
}

/// `SNP_COMMIT`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct SnpCommit {
    /// Size of this structure.
    pub(crate) len: u32,
}

/// `SNP_VLEK_LOAD`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct VlekLoad {
    /// Size of this structure.
    pub(crate) len: u32,
    /// Must be 0.
    pub(crate) version: u8,
    pub(crate) rsvd: [u8; 3],
    /// The wrapped hashstick.
    pub(crate) address: Address,
}

/// `SNP_VERIFY_MITIGATION`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct VerifyMitigation {
    /// Size of this structure.
    pub(crate) length: u32,
    /// `MITIGATION_*`.
    pub(crate) subcommand: u16,
    pub(crate) rsvd: u16,
    /// The one mitigation to be verified.
    pub(crate) vector: u64,
    /// [`MITIGATION_DST_EN`].
    pub(crate) flags: u32,
    pub(crate) rsvd2: [u8; 4],
    /// Input that some mitigations may take.
    pub(crate) src_paddr: Address,
    /// Page for the answer, [`Mitigations`].
    pub(crate) dst_paddr: Address,
    pub(crate) rsvd3: [u8; 24],
}

/// `SNP_VERIFY_MITIGATION`: firmware says which it supports and has verified.
pub(crate) const MITIGATION_STATUS: u16 = 0;
/// `SNP_VERIFY_MITIGATION`: firmware verifies one.
pub(crate) const MITIGATION_VERIFY: u16 = 1;
/// `SNP_VERIFY_MITIGATION`: `dst_paddr` is valid.
pub(crate) const MITIGATION_DST_EN: u32 = 1 << 0;

/// What `SNP_VERIFY_MITIGATION` stores.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct Mitigations {
    /// Those that firmware has verified, a bit each.
    pub(crate) verified: u64,
    /// Those that firmware knows.
    pub(crate) supported: u64,
    /// Why one could not be verified; 0 if it could.
    pub(crate) failure: u32,
}
