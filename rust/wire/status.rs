// SPDX-License-Identifier: GPL-2.0

//! Status codes of the firmware, in words.

use core::fmt;

use super::command::CommandId;

/// Status of a completed command, bits 15:0 of CMDRESP.
///
/// The field is 16 bits wide and firmware uses values that no document lists (0x9000 has been seen
/// in the field), so every value is representable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status(u16);

/// What `*psp_ret` and the `error` field of the ioctl hold when no command reached firmware.
pub(crate) const NO_FW_CALL: i32 = -1;

impl Status {
    /// Wraps the raw field.
    pub(crate) const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The raw field.
    pub(crate) const fn raw(self) -> u16 {
        self.0
    }

    /// Whether the command succeeded.
    pub(crate) fn is_success(self) -> bool {
        self == Self::SUCCESS
    }

    fn row(self) -> Option<&'static StatusInfo> {
        let row = TABLE.partition_point(|row| row.code < self.0);
        TABLE.get(row).filter(|row| row.code == self.0)
    }

    /// Name as in the firmware ABI.
    pub(crate) fn name(self) -> &'static str {
        self.row().map_or("undocumented status", |row| row.name)
    }

    /// What it usually means on a host and, after the semicolon, what to do.
    pub(crate) fn cause(self) -> &'static str {
        self.row().map_or(
            "not a status of the published ABI; look for newer firmware and its release notes",
            |row| row.cause,
        )
    }

    /// [`Self::cause`], or what this answer to `command` means in particular.
    pub(crate) fn cause_of(self, command: CommandId) -> &'static str {
        match (command, self.name()) {
            (CommandId::PEK_CERT_IMPORT, "INVALID_CERTIFICATE") => "the PEK's certificate is not signed by the owner's key, or is not that of this platform; have the CSR of PEK_CSR signed by the OCA that is imported with it",
            (CommandId::SNP_CONFIG, "INVALID_PARAM") => "the TCB that reports are to have is above the committed one, or a reserved field is set; commit the firmware first (snphost commit)",
            (CommandId::SNP_LAUNCH_FINISH, "BAD_MEASUREMENT") => "what was launched is not what the ID block was made for; make one for this image, number of vCPUs, CPU model and kernel hashes",
            (CommandId::SNP_LAUNCH_FINISH, "BAD_SIGNATURE" | "INVALID_PARAM") => "the ID block is not signed by the keys that come with it; have its owner sign it anew",
            (CommandId::SNP_LAUNCH_START, "POLICY_FAILURE") => "the guest's policy asks for more than this platform has: newer firmware, no SMT, no debugging, one socket; change the policy or update the firmware",
            (CommandId::SNP_LAUNCH_UPDATE, "INVALID_PARAM") => "firmware does not accept type, permissions or contents of the page; a CPUID page comes back as it would be accepted, so launch with that CPU model",
            (CommandId::SNP_LAUNCH_UPDATE, "INVALID_PAGE_STATE" | "INVALID_PAGE_OWNER") => "the page is firmware's or a guest's already; launch each page once, else end all guests and reload kvm_amd",
            _ => self.cause(),
        }
    }

    /// Whether firmware reports damage after which nothing it did may be relied on.
    pub(crate) fn is_hardware_error(self) -> bool {
        self == Self::HWERROR_PLATFORM || self == Self::HWERROR_UNSAFE
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.name(), self.0)
    }
}

/// A row of the status table.
#[derive(Debug)]
pub(crate) struct StatusInfo {
    /// Raw value.
    pub(crate) code: u16,
    /// Name as in the firmware ABI.
    pub(crate) name: &'static str,
    /// Cause and remedy.
    pub(crate) cause: &'static str,
}

/// Expands to [`TABLE`], and to a constant for each status that the driver treats in a way of its
/// own ("named"), or as an answer to a firmware image or after one ("image"). The compiler refuses
/// the name of any other one, and a constant that is not used. Tests may use all names.
///
/// `NAME = code [named|image]: cause and remedy,`
macro_rules! statuses {
    (@constant $name:ident $code:literal $cause:literal named) => {
        #[doc = concat!("`", stringify!($name), "`: ", $cause)]
        pub(crate) const $name: Status = Status($code);
    };
    (@constant $name:ident $code:literal $cause:literal image) => {
        statuses! { @constant $name $code $cause named }
    };
    (@constant $name:ident $code:literal $cause:literal) => {
        #[cfg(CONFIG_KUNIT)]
        #[allow(dead_code, reason = "the table is the firmware ABI")]
        #[doc = concat!("`", stringify!($name), "`: ", $cause)]
        pub(crate) const $name: Status = Status($code);
    };
    (@is_named) => { false };
    (@is_named named) => { true };
    (@is_named image) => { false };
    ($($name:ident = $code:literal $($named:ident)?: $cause:literal,)*) => {
        impl Status {
            $(statuses! { @constant $name $code $cause $($named)? })*
        }

        /// All documented codes, ascending.
        pub(crate) static TABLE: &[StatusInfo] = &[
            $(StatusInfo { code: $code, name: stringify!($name), cause: $cause },)*
        ];

        /// Which rows are named.
        #[allow(dead_code, reason = "selftests/wire prints it")]
        pub(crate) const NAMED: &[bool] = &[$(statuses!(@is_named $($named)?)),*];
    };
}

// Codes: enum sev_ret_code in include/uapi/linux/psp-sev.h. Names: the firmware ABI's where the
// header has an older spelling (INAVLID_CONFIG, HWSEV_RET_*).
statuses! {
    SUCCESS = 0x00 named: "done",
    INVALID_PLATFORM_STATE = 0x01 named: "the platform is not in a state that allows this command (SEV INIT with SNP_EN set needs SNP_INIT first)",
    INVALID_GUEST_STATE = 0x02 image: "the guest is not in a state that allows this command; check the order of the launch commands",
    INVALID_CONFIG = 0x03 image: "firmware refuses the configuration of CPUs, IOMMU or BIOS; enable SEV-SNP, IOMMU and RMP coverage in the BIOS set-up, boot by UEFI, update the BIOS",
    INVALID_LEN = 0x04 image: "a buffer has the wrong length; the length that firmware wants is stored in the command buffer",
    ALREADY_OWNED = 0x05: "the platform has an external owner; FACTORY_RESET gives it up",
    INVALID_CERTIFICATE = 0x06: "a certificate does not verify; check PEK, OCA and their order",
    POLICY_FAILURE = 0x07: "the guest's policy forbids it or asks for more than this platform has; check SMT, ABI version and debug bits of the policy",
    INACTIVE = 0x08: "the guest has no ASID; ACTIVATE comes first",
    INVALID_ADDRESS = 0x09: "an address is misaligned or outside of what firmware may touch",
    BAD_SIGNATURE = 0x0a image: "a signature does not verify; check that the file belongs to this CPU model",
    BAD_MEASUREMENT = 0x0b: "the measurement differs from the one in the ID block",
    ASID_OWNED = 0x0c: "the ASID belongs to another guest; end all guests and reload kvm_amd",
    INVALID_ASID = 0x0d: "the ASID is out of range for this kind of guest",
    WBINVD_REQUIRED = 0x0e: "caches must be written back on all CPUs first",
    DFFLUSH_REQUIRED = 0x0f named: "a DF_FLUSH is needed first",
    INVALID_GUEST = 0x10: "firmware does not know the guest; end it and start it again",
    INVALID_COMMAND = 0x11 image: "this firmware does not have the command; update the firmware",
    ACTIVE = 0x12: "the guest is still active; DEACTIVATE comes first",
    HWERROR_PLATFORM = 0x13 named: "the hardware or its configuration failed, memory contents are safe; check IOMMU and memory-encryption settings in the BIOS set-up",
    HWERROR_UNSAFE = 0x14 named: "the hardware failed and memory contents may be damaged; restart the machine",
    UNSUPPORTED = 0x15 image: "this platform does not have the feature",
    INVALID_PARAM = 0x16 named: "a parameter or a reserved field has a value that firmware does not accept",
    RESOURCE_LIMIT = 0x17: "firmware has no room for it; stop some guests",
    SECURE_DATA_INVALID = 0x18 named: "the persistent SEV state failed its integrity check; firmware resets it on the next attempt",
    INVALID_PAGE_SIZE = 0x19: "the RMP entry of a page has the wrong page size",
    INVALID_PAGE_STATE = 0x1a named: "the RMP entry of a page is in the wrong state",
    INVALID_MDATA_ENTRY = 0x1b: "the metadata entry does not match the page",
    INVALID_PAGE_OWNER = 0x1c: "the page belongs to another guest",
    AEAD_OFLOW = 0x1d: "the message sequence of the guest is used up",
    EXIT_RING_BUFFER = 0x1f: "firmware left ring-buffer mode",
    RMP_INIT_REQUIRED = 0x20: "the RMP has never been initialised; SNP_INIT must be asked to do it",
    BAD_SVN = 0x21 image: "the image's security version is below the committed one",
    BAD_VERSION = 0x22 image: "the image's version is below the committed one",
    SHUTDOWN_REQUIRED = 0x23 image: "the update needs SNP to be shut down first; unload kvm_amd",
    UPDATE_FAILED = 0x24 image: "the update failed, the old firmware goes on",
    RESTORE_REQUIRED = 0x25 image: "the new firmware cannot run; load the previous image",
    RMP_INITIALIZATION_FAILED = 0x26 named: "firmware could not set up the RMP; check that the BIOS reserved an RMP that covers all memory",
    INVALID_KEY = 0x27: "the wrapped key does not verify; it must have been made for this chip and TCB version",
    SHUTDOWN_INCOMPLETE = 0x28: "the shutdown is not finished; try again, then restart the machine",
    INCORRECT_BUFFER_LENGTH = 0x30: "a data object is too short or too long",
    EXPAND_BUFFER_LENGTH_REQUEST = 0x31: "firmware needs a larger buffer",
    SPDM_REQUEST = 0x32: "firmware waits for the answer to an SPDM message",
    SPDM_ERROR = 0x33: "the SPDM exchange with the device failed",
    ERR_IN_DEV_CONN = 0x35: "the connection to the device failed",
    INVALID_DEV_CTX = 0x36: "no such device context",
    INVALID_TDI_CTX = 0x37: "no such device interface context",
    INVALID_TDI = 0x38: "no such device interface",
    RECLAIM_REQUIRED = 0x39: "pages must be reclaimed first",
    IN_USE = 0x3a: "still in use",
    INVALID_DEV_STATE = 0x3b: "the device is not in a state that allows this command",
    INVALID_TDI_STATE = 0x3c: "the device interface is not in a state that allows this command",
    DEV_CERT_CHANGED = 0x3d: "the device's certificate changed",
    RESYNC_REQ = 0x3e: "the device must be synchronised again",
    RESPONSE_TOO_LARGE = 0x3f: "the device's answer does not fit",
}
