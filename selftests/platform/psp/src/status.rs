// SPDX-License-Identifier: GPL-2.0
//! Status codes (include/uapi/linux/psp-sev.h, `enum sev_ret_code`).

use std::fmt;

macro_rules! statuses {
    ($($variant:ident = $code:literal $name:literal,)*) => {
        /// What a command ends with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Status {
            $(#[doc = $name] $variant = $code,)*
        }

        impl Status {
            /// The name that the ABI gives the code.
            pub const fn name(self) -> &'static str {
                match self { $(Status::$variant => $name,)* }
            }

            /// The status with this code, if the ABI assigns it.
            pub const fn from_code(code: u16) -> Option<Status> {
                match code { $($code => Some(Status::$variant),)* _ => None }
            }
        }
    };
}

statuses! {
    Success = 0x00 "SUCCESS",
    InvalidPlatformState = 0x01 "INVALID_PLATFORM_STATE",
    InvalidGuestState = 0x02 "INVALID_GUEST_STATE",
    InvalidConfig = 0x03 "INVALID_CONFIG",
    InvalidLen = 0x04 "INVALID_LEN",
    AlreadyOwned = 0x05 "ALREADY_OWNED",
    InvalidCertificate = 0x06 "INVALID_CERTIFICATE",
    PolicyFailure = 0x07 "POLICY_FAILURE",
    Inactive = 0x08 "INACTIVE",
    InvalidAddress = 0x09 "INVALID_ADDRESS",
    BadSignature = 0x0a "BAD_SIGNATURE",
    BadMeasurement = 0x0b "BAD_MEASUREMENT",
    AsidOwned = 0x0c "ASID_OWNED",
    InvalidAsid = 0x0d "INVALID_ASID",
    WbinvdRequired = 0x0e "WBINVD_REQUIRED",
    DfFlushRequired = 0x0f "DFFLUSH_REQUIRED",
    InvalidGuest = 0x10 "INVALID_GUEST",
    InvalidCommand = 0x11 "INVALID_COMMAND",
    Active = 0x12 "ACTIVE",
    HwErrorPlatform = 0x13 "HWERROR_PLATFORM",
    HwErrorUnsafe = 0x14 "HWERROR_UNSAFE",
    Unsupported = 0x15 "UNSUPPORTED",
    InvalidParam = 0x16 "INVALID_PARAM",
    ResourceLimit = 0x17 "RESOURCE_LIMIT",
    SecureDataInvalid = 0x18 "SECURE_DATA_INVALID",
    InvalidPageSize = 0x19 "INVALID_PAGE_SIZE",
    InvalidPageState = 0x1a "INVALID_PAGE_STATE",
    InvalidMdataEntry = 0x1b "INVALID_MDATA_ENTRY",
    InvalidPageOwner = 0x1c "INVALID_PAGE_OWNER",
    AeadOflow = 0x1d "AEAD_OFLOW",
    ExitRingBuffer = 0x1f "EXIT_RING_BUFFER",
    RmpInitRequired = 0x20 "RMP_INIT_REQUIRED",
    BadSvn = 0x21 "BAD_SVN",
    BadVersion = 0x22 "BAD_VERSION",
    ShutdownRequired = 0x23 "SHUTDOWN_REQUIRED",
    UpdateFailed = 0x24 "UPDATE_FAILED",
    RestoreRequired = 0x25 "RESTORE_REQUIRED",
    RmpInitializationFailed = 0x26 "RMP_INITIALIZATION_FAILED",
    InvalidKey = 0x27 "INVALID_KEY",
    ShutdownIncomplete = 0x28 "SHUTDOWN_INCOMPLETE",
    IncorrectBufferLength = 0x30 "INCORRECT_BUFFER_LENGTH",
    ExpandBufferLengthRequest = 0x31 "EXPAND_BUFFER_LENGTH_REQUEST",
    SpdmRequest = 0x32 "SPDM_REQUEST",
    SpdmError = 0x33 "SPDM_ERROR",
    InDevConn = 0x35 "ERR_IN_DEV_CONN",
    InvalidDevCtx = 0x36 "INVALID_DEV_CTX",
    InvalidTdiCtx = 0x37 "INVALID_TDI_CTX",
    InvalidTdi = 0x38 "INVALID_TDI",
    ReclaimRequired = 0x39 "RECLAIM_REQUIRED",
    InUse = 0x3a "IN_USE",
    InvalidDevState = 0x3b "INVALID_DEV_STATE",
    InvalidTdiState = 0x3c "INVALID_TDI_STATE",
    DevCertChanged = 0x3d "DEV_CERT_CHANGED",
    ResyncReq = 0x3e "RESYNC_REQ",
    ResponseTooLarge = 0x3f "RESPONSE_TOO_LARGE",
}

impl Status {
    /// The 16 bits that go into the mailbox.
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
