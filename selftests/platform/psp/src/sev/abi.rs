// SPDX-License-Identifier: GPL-2.0
//! Command buffers of SEV (names: include/linux/psp-sev.h), and the structures that they point to
//! (AMD's sev-tool, virtee/sev).

use zerocopy::little_endian::{U32, U64};

use crate::abi::structures;
use crate::crypto::{self, PublicKey};

structures! {
    /// INIT. `flags`: 0 SEV-ES.
    Init {
        flags: U32,
        reserved: [u8; 4],
        tmr: U64,
        tmr_len: U32,
    }

    /// INIT_EX. `flags` as for INIT.
    InitEx {
        length: U32,
        flags: U32,
        tmr: U64,
        tmr_len: U32,
        reserved: [u8; 4],
        nv: U64,
        nv_len: U32,
    }

    /// PLATFORM_STATUS, all of which is an answer. `flags`: 0 externally owned, 8 SEV-ES.
    PlatformStatus {
        api_major: u8,
        api_minor: u8,
        state: u8,
        flags: U32,
        build: u8,
        guest_count: U32,
    }

    /// PEK_CSR, GET_ID. The length is an answer, too.
    Place {
        address: U64,
        len: U32,
    }

    /// PEK_CERT_IMPORT.
    PekCertImport {
        pek: U64,
        pek_len: U32,
        reserved: [u8; 4],
        oca: U64,
        oca_len: U32,
    }

    /// PDH_CERT_EXPORT. The lengths are answers, too.
    PdhCertExport {
        pdh: U64,
        pdh_len: U32,
        reserved: [u8; 4],
        chain: U64,
        chain_len: U32,
    }

    /// DECOMMISSION, DEACTIVATE, LAUNCH_FINISH, SEND_FINISH, SEND_CANCEL, RECEIVE_FINISH.
    Handle {
        handle: U32,
    }

    /// ACTIVATE.
    Activate {
        handle: U32,
        asid: U32,
    }

    /// ACTIVATE_EX, with the APIC ids of CPUs at `list`.
    ActivateEx {
        length: U32,
        handle: U32,
        asid: U32,
        count: U32,
        list: U64,
    }

    /// GUEST_STATUS. All but the handle is an answer.
    GuestStatus {
        handle: U32,
        policy: U32,
        asid: U32,
        state: u8,
    }

    /// LAUNCH_START, RECEIVE_START. The handle is an answer, too.
    Start {
        handle: U32,
        policy: U32,
        dh_cert: U64,
        dh_cert_len: U32,
        reserved: [u8; 4],
        session: U64,
        session_len: U32,
    }

    /// LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE. Of the last the length is an answer,
    /// too.
    Launch {
        handle: U32,
        reserved: [u8; 4],
        address: U64,
        len: U32,
    }

    /// LAUNCH_UPDATE_SECRET, SEND_UPDATE_DATA, SEND_UPDATE_VMSA, RECEIVE_UPDATE_DATA,
    /// RECEIVE_UPDATE_VMSA. Of the SEND ones the lengths of header and data are answers, too.
    Packet {
        handle: U32,
        reserved: [u8; 4],
        header: U64,
        header_len: U32,
        reserved2: [u8; 4],
        guest: U64,
        guest_len: U32,
        reserved3: [u8; 4],
        data: U64,
        data_len: U32,
    }

    /// ATTESTATION_REPORT. The length is an answer, too.
    AttestationReport {
        handle: U32,
        reserved: [u8; 4],
        address: U64,
        nonce: [u8; 16],
        len: U32,
    }

    /// SEND_START. Policy and length of the session are answers.
    SendStart {
        handle: U32,
        policy: U32,
        pdh: U64,
        pdh_len: U32,
        reserved: [u8; 4],
        chain: U64,
        chain_len: U32,
        reserved2: [u8; 4],
        vendor: U64,
        vendor_len: U32,
        reserved3: [u8; 4],
        session: U64,
        session_len: U32,
    }

    /// DBG_DECRYPT, DBG_ENCRYPT.
    Dbg {
        handle: U32,
        reserved: [u8; 4],
        src: U64,
        dst: U64,
        len: U32,
    }

    /// What LAUNCH_MEASURE answers at `address`.
    Measurement {
        measurement: [u8; 32],
        nonce: [u8; 16],
    }

    /// What a guest's owner sends with LAUNCH_START, and one platform to another.
    Session {
        nonce: [u8; 16],
        wrapped_keys: [u8; 32],
        wrap_iv: [u8; 16],
        /// Of the wrapped keys.
        wrap_mac: [u8; 32],
        policy_mac: [u8; 32],
    }

    /// The keys in it: the transport encryption key and the transport integrity key.
    TransportKeys {
        encryption: [u8; 16],
        integrity: [u8; 16],
    }

    /// What comes with the data of a packet.
    Header {
        flags: U32,
        iv: [u8; 16],
        mac: [u8; 32],
    }

    /// What is authenticated with the data, which follows.
    Sealed {
        context: u8,
        flags: U32,
        iv: [u8; 16],
        guest_len: U32,
        data_len: U32,
    }

    /// What ATTESTATION_REPORT answers at `address`.
    Attested {
        body: AttestedBody,
        usage: U32,
        algorithm: U32,
        reserved: [u8; 4],
        signature: crypto::Signature,
    }

    /// What the PEK signs of it.
    AttestedBody {
        nonce: [u8; 16],
        digest: [u8; 32],
        policy: U32,
    }

    /// What is authenticated by a measurement.
    Measured {
        context: u8,
        api_major: u8,
        api_minor: u8,
        build: u8,
        policy: U32,
        digest: [u8; 32],
        nonce: [u8; 16],
    }

    /// A certificate.
    Certificate {
        body: CertificateBody,
        signatures: [Signature; 2],
    }

    /// What its signatures are about.
    CertificateBody {
        version: U32,
        api_major: u8,
        api_minor: u8,
        reserved: [u8; 2],
        usage: U32,
        algorithm: U32,
        key: PublicKey,
    }

    /// A signature in it. There is room for RSA.
    Signature {
        usage: U32,
        algorithm: U32,
        ecdsa: crypto::Signature,
        rest: [u8; 368],
    }
}
