// SPDX-License-Identifier: GPL-2.0

//! Command buffers of the legacy SEV commands that the driver itself issues.

use crate::pages::Address;
use zerocopy_derive::{
    FromBytes,
    Immutable,
    IntoBytes,
    KnownLayout, //
};

/// `INIT`: start the legacy platform.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct Init {
    /// [`INIT_FLAG_ES`].
    pub(crate) flags: u32,
    pub(crate) reserved: u32,
    /// Trusted memory region. Without the encryption bit.
    pub(crate) tmr_address: Address,
    pub(crate) tmr_len: u32,
}

/// `INIT_EX`: as [`Init`], and firmware's persistent state is in memory of the host.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct InitEx {
    /// Of this structure.
    pub(crate) len: u32,
    /// As in [`Init`].
    pub(crate) flags: u32,
    /// Without the encryption bit.
    pub(crate) tmr_address: Address,
    pub(crate) tmr_len: u32,
    pub(crate) reserved: u32,
    pub(crate) nv_address: Address,
    pub(crate) nv_len: u32,
}

/// `flags` of INIT and INIT_EX: SEV-ES guests will be run, the TMR fields are valid.
pub(crate) const INIT_FLAG_ES: u32 = 1 << 0;

/// `PLATFORM_STATUS`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct PlatformStatus {
    pub(crate) api_major: u8,
    pub(crate) api_minor: u8,
    /// See [`PlatformState`].
    pub(crate) state: u8,
    /// Bit 0: externally owned; bit 8: initialised for SEV-ES.
    pub(crate) flags: u32,
    pub(crate) build: u8,
    pub(crate) guest_count: u32,
}

/// State of the legacy platform.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PlatformState {
    /// Not started.
    Uninit,
    /// Started, no guest.
    Init,
    /// At least one guest.
    Working,
}

impl PlatformStatus {
    /// The state, or the raw value if firmware gave none that the ABI knows.
    pub(crate) fn state(&self) -> Result<PlatformState, u8> {
        match self.state {
            0 => Ok(PlatformState::Uninit),
            1 => Ok(PlatformState::Init),
            2 => Ok(PlatformState::Working),
            other => Err(other),
        }
    }
}

/// An output buffer with its length: `PEK_CSR` and `GET_ID`.
///
/// On return `len` is the length written or, with INVALID_LEN, the length needed.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct OutBuffer {
    pub(crate) address: Address,
    pub(crate) len: u32,
}

/// `PEK_CERT_IMPORT`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct PekCertImport {
    pub(crate) pek_address: Address,
    pub(crate) pek_len: u32,
    pub(crate) reserved: u32,
    pub(crate) oca_address: Address,
    pub(crate) oca_len: u32,
}

/// `PDH_CERT_EXPORT`. The lengths come back as in [`OutBuffer`].
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct PdhCertExport {
    pub(crate) pdh_address: Address,
    pub(crate) pdh_len: u32,
    pub(crate) reserved: u32,
    pub(crate) chain_address: Address,
    pub(crate) chain_len: u32,
}

/// `DOWNLOAD_FIRMWARE`.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct DownloadFirmware {
    pub(crate) address: Address,
    pub(crate) len: u32,
}
