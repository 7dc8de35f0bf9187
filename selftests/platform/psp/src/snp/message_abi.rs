// SPDX-License-Identifier: GPL-2.0
//! Guest messages: their header, what they ask and what they answer (asm/sev.h,
//! uapi/linux/sev-guest.h, virtee/sev, google/go-sev-guest).

use zerocopy::little_endian::{U16, U32, U64};

use super::launch_abi::CpuidTable;
use crate::abi::structures;
use crate::crypto::Signature;

structures! {
    /// What a message begins with (`struct snp_guest_msg_hdr`).
    Header {
        tag: [u8; 16],
        reserved_tag: [u8; 16],
        sequence: U64,
        reserved: [u8; 8],
        authenticated: Authenticated,
    }

    /// The part of the header that is authenticated with the payload.
    Authenticated {
        algorithm: u8,
        header_version: u8,
        header_size: U16,
        kind: u8,
        version: u8,
        size: U16,
        reserved: [u8; 4],
        vmpck: u8,
        reserved2: [u8; 35],
    }

    /// REPORT. `flags`: 1:0 KEY_SEL.
    ReportRequest {
        report_data: [u8; 64],
        vmpl: U32,
        flags: U32,
        reserved: [u8; 24],
    }

    ReportAnswer {
        status: U32,
        size: U32,
        reserved: [u8; 24],
        report: Report,
    }

    /// KEY. `flags`: 0 ROOT_KEY_SELECT (VCEK or VLEK, VMRK), 2:1 KEY_SEL.
    KeyRequest {
        flags: U32,
        reserved: U32,
        fields: U64,
        vmpl: U32,
        guest_svn: U32,
        tcb: U64,
    }

    /// Version 2 of it.
    KeyRequest2 {
        base: KeyRequest,
        mitigations: U64,
    }

    KeyAnswer {
        status: U32,
        reserved: [u8; 28],
        key: [u8; 32],
    }

    /// TSC_INFO.
    TscInfoRequest {
        reserved: [u8; 128],
    }

    TscInfoAnswer {
        status: U32,
        reserved: U32,
        scale: U64,
        offset: U64,
        factor: U32,
        reserved2: [u8; 100],
    }

    /// CPUID.
    CpuidRequest {
        table: CpuidTable,
    }

    /// The status stands in front of the count, and takes of what is reserved in the request.
    CpuidAnswer {
        status: U32,
        count: U32,
        reserved: [u8; 8],
        functions: [super::launch_abi::CpuidFunction; 64],
    }

    /// An attestation report.
    Report {
        body: ReportBody,
        signature: Signature,
        reserved: [u8; 368],
    }

    /// What is signed.
    ReportBody {
        version: U32,
        guest_svn: U32,
        policy: U64,
        family_id: [u8; 16],
        image_id: [u8; 16],
        vmpl: U32,
        signature_algorithm: U32,
        current_tcb: U64,
        /// 0 SMT, 1 TSME, 2 ECC, 3 RAPL_DIS, 4 CIPHERTEXT_HIDING, 5 ALIAS_CHECK.
        platform_info: U64,
        /// 0 AUTHOR_KEY_EN, 1 MASK_CHIP_KEY, 4:2 SIGNING_KEY.
        key_info: U32,
        reserved: U32,
        report_data: [u8; 64],
        measurement: [u8; 48],
        host_data: [u8; 32],
        id_key_digest: [u8; 48],
        author_key_digest: [u8; 48],
        report_id: [u8; 32],
        report_id_ma: [u8; 32],
        reported_tcb: U64,
        /// Family, model, stepping.
        cpuid: [u8; 3],
        reserved2: [u8; 21],
        chip_id: [u8; 64],
        committed_tcb: U64,
        current: Version,
        committed: Version,
        launch_tcb: U64,
        launch_mitigations: U64,
        current_mitigations: U64,
        reserved3: [u8; 152],
    }

    /// A firmware version in it.
    Version {
        build: u8,
        minor: u8,
        major: u8,
        reserved: u8,
    }
}

const _: () = assert!(size_of::<Header>() == 0x60);
const _: () = assert!(size_of::<ReportBody>() == 0x2a0);
const _: () = assert!(size_of::<Report>() == 0x4a0);
