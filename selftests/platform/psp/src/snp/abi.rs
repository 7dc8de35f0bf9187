// SPDX-License-Identifier: GPL-2.0
//! Command buffers of SNP, and what firmware writes in answer (names: include/linux/psp-sev.h,
//! uapi/linux/psp-sev.h).

use zerocopy::little_endian::{U16, U32, U64};

use crate::abi::structures;

structures! {
    /// SNP_GCTX_CREATE, SNP_DECOMMISSION.
    Gctx {
        gctx: U64,
    }

    /// SNP_ACTIVATE.
    Activate {
        gctx: U64,
        asid: U32,
    }

    /// SNP_ACTIVATE_EX, with the APIC ids of CPUs at `list` (AMD's sev-tool).
    ActivateEx {
        length: U32,
        reserved: [u8; 4],
        gctx: U64,
        asid: U32,
        count: U32,
        list: U64,
    }

    /// SNP_GUEST_STATUS.
    GuestStatus {
        gctx: U64,
        address: U64,
    }

    /// What is at `address` then.
    GuestStatusAnswer {
        policy: U64,
        asid: U32,
        state: u8,
        reserved: [u8; 19],
    }

    /// SNP_DBG_DECRYPT, SNP_DBG_ENCRYPT.
    Dbg {
        gctx: U64,
        src: U64,
        dst: U64,
    }

    /// SNP_GUEST_REQUEST.
    GuestRequest {
        gctx: U64,
        request: U64,
        response: U64,
    }

    /// SNP_LAUNCH_START. `flags`: 0 MA_EN, 1 IMI_EN.
    LaunchStart {
        gctx: U64,
        policy: U64,
        ma_gctx: U64,
        flags: U32,
        desired_tsc_khz: U32,
        gosvw: [u8; 16],
    }

    /// SNP_LAUNCH_UPDATE. `flags`: 0 PAGE_SIZE, 3:1 PAGE_TYPE, 4 IMI_PAGE.
    LaunchUpdate {
        gctx: U64,
        flags: U32,
        reserved: [u8; 4],
        address: U64,
        reserved2: [u8; 1],
        vmpl_perms: [u8; 3],
        reserved3: [u8; 4],
    }

    /// SNP_LAUNCH_FINISH. `flags`: 0 ID_BLOCK_EN, 1 AUTH_KEY_EN, 2 VCEK_DIS.
    LaunchFinish {
        gctx: U64,
        id_block: U64,
        id_auth: U64,
        flags: U64,
        host_data: [u8; 32],
    }

    /// SNP_PAGE_RECLAIM. Bit 0 of the address is PAGE_SIZE.
    PageReclaim {
        address: U64,
    }

    /// SNP_PLATFORM_STATUS.
    PlatformStatus {
        address: U64,
    }

    /// What is at `address` then. `rmp_flags`: 0 IS_RMP_INIT, 1 ALIAS_CHECK_COMPLETE.
    PlatformStatusAnswer {
        api_major: u8,
        api_minor: u8,
        state: u8,
        rmp_flags: u8,
        build: U32,
        flags: U32,
        guest_count: U32,
        current_tcb: U64,
        reported_tcb: U64,
    }

    /// SNP_FEATURE_INFO.
    FeatureInfo {
        length: U32,
        ecx_in: U32,
        address: U64,
    }

    /// What is at `address` then.
    FeatureInfoAnswer {
        eax: U32,
        ebx: U32,
        ecx: U32,
        edx: U32,
    }

    /// SNP_VERIFY_MITIGATION. `flags`: 0 DST_PADDR_EN, 1 SRC_PADDR_EN.
    VerifyMitigation {
        length: U32,
        subcommand: U16,
        reserved: [u8; 2],
        vector: U64,
        flags: U32,
        reserved2: [u8; 4],
        src: U64,
        dst: U64,
        reserved3: [u8; 24],
    }

    /// What is at `dst` then.
    VerifyMitigationAnswer {
        verified: U64,
        supported: U64,
        failure: U32,
    }

    /// SNP_CONFIG. `flags`: 0 MASK_CHIP_ID, 1 MASK_CHIP_KEY.
    Config {
        reported_tcb: U64,
        flags: U32,
        reserved: [u8; 52],
    }

    /// SNP_COMMIT.
    Commit {
        length: U32,
    }

    /// SNP_VLEK_LOAD.
    VlekLoad {
        length: U32,
        version: u8,
        reserved: [u8; 3],
        address: U64,
    }

    /// SNP_INIT_EX. `flags`: 0 INIT_RMP, 1 LIST_PADDR_EN, 2 RAPL_DIS, 3 CIPHERTEXT_HIDING_EN.
    InitEx {
        flags: U32,
        reserved: [u8; 4],
        list: U64,
        max_snp_asid: U16,
        reserved2: [u8; 46],
    }

    /// What is at `list`, in front of so many [`Range`]s.
    RangeList {
        count: U32,
        reserved: U32,
    }

    /// Pages that are to become HV-Fixed.
    Range {
        base: U64,
        page_count: U32,
        reserved: U32,
    }

    /// SNP_SHUTDOWN_EX. `flags`: 0 IOMMU_SNP_SHUTDOWN, 1 X86_SNP_SHUTDOWN.
    ShutdownEx {
        length: U32,
        flags: U32,
    }
}
