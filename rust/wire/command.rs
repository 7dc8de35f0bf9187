// SPDX-License-Identifier: GPL-2.0

//! The table of mailbox commands.
//!
//! One row per command that a kernel user may issue: id, name, length of the command buffer,
//! whether firmware writes into the command buffer, and which addresses in it name memory that
//! firmware writes. Everything the driver knows about a command it did not originate (KVM passes
//! command buffers through `sev_do_cmd()`) comes from this table.

/// A mailbox command number, bits 26:16 of CMDRESP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CommandId(u16);

impl CommandId {
    /// The number as it goes into CMDRESP.
    pub(crate) const fn raw(self) -> u16 {
        self.0
    }

    /// The row of a command that is named in the source: a missing row does not compile.
    #[inline]
    pub(crate) const fn row(self) -> &'static CommandInfo {
        let mut n = 0;
        while n < TABLE.len() {
            if TABLE[n].id.0 == self.0 {
                return &TABLE[n];
            }
            n += 1;
        }
        panic!("the command is not in the table");
    }

    /// The row of the command with this number, if the table has one.
    ///
    /// `None` also for numbers that do not fit the CMDRESP field.
    pub(crate) fn lookup(number: u32) -> Option<&'static CommandInfo> {
        let id = CommandId(u16::try_from(number).ok()?);
        // The table is sorted by id (checked by selftests/wire).
        let n = TABLE.partition_point(|row| row.id < id);
        TABLE.get(n).filter(|row| row.id == id)
    }

    /// Whether the command belongs to the legacy SEV set.
    ///
    /// While SNP firmware is in the INIT state, firmware writes for these commands only into pages
    /// that are in the Firmware state (SNP firmware ABI, "Legacy SEV commands").
    pub(crate) fn is_legacy(self) -> bool {
        self < Self::SNP_INIT
    }

    /// Whether the command works only while legacy SEV is initialised, and may be the first of its kind:
    /// those of legacy guests, and DF_FLUSH, which KVM issues before it uses the ASID of one again.
    pub(crate) fn needs_sev(self) -> bool {
        self == Self::DF_FLUSH || (Self::DECOMMISSION..=Self::DBG_ENCRYPT).contains(&self)
    }

    /// Whether the command starts, stops or replaces firmware.
    fn is_life_cycle(self) -> bool {
        matches!(
            self,
            Self::INIT
                | Self::INIT_EX
                | Self::SHUTDOWN
                | Self::DOWNLOAD_FIRMWARE
                | Self::SNP_INIT
                | Self::SNP_INIT_EX
                | Self::SNP_SHUTDOWN_EX
        )
    }

    /// Whether the command brings SNP firmware to the INIT state, which takes a time of its own.
    pub(crate) fn initialises_snp(self) -> bool {
        self == Self::SNP_INIT || self == Self::SNP_INIT_EX
    }
}

/// How the memory behind an address in a command buffer is to be given to firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// Kernel memory of the caller, possibly in the middle of a page: firmware gets a page of its
    /// own instead, and the result is copied.
    Bounce,
    /// Whole guest pages, already encrypted with the guest's key: copying them would yield
    /// ciphertext, so these very pages change hands for the time of the command.
    GuestPages,
}

/// An address in a command buffer behind which firmware writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FwBuffer {
    /// Offset of the 64-bit system physical address.
    pub(crate) address: u16,
    /// Offset of the 32-bit length.
    pub(crate) len: u16,
    /// Whose memory it is.
    pub(crate) target: Target,
}

/// What is known about a command.
#[derive(Debug)]
pub(crate) struct CommandInfo {
    /// Number.
    pub(crate) id: CommandId,
    /// Name as in the firmware ABI.
    pub(crate) name: &'static str,
    /// Length of the command buffer in bytes; 0 for commands without one.
    pub(crate) len: u16,
    /// Firmware stores results in the command buffer itself.
    pub(crate) writes_buffer: bool,
    /// Memory that firmware writes through addresses in the command buffer. Filled in for legacy
    /// commands only: for SNP commands the ABI makes the caller supply pages in the right state.
    pub(crate) fw_buffers: &'static [FwBuffer],
}

/// A command that other kernel modules may issue through this driver: any but those that start, stop or
/// replace firmware, whose state the driver would lose track of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relayed(&'static CommandInfo);

impl Relayed {
    /// `None` if nobody but the driver may issue the command.
    pub(crate) fn new(command: &'static CommandInfo) -> Option<Self> {
        (!command.id.is_life_cycle()).then_some(Self(command))
    }

    /// Its row.
    pub(crate) fn info(self) -> &'static CommandInfo {
        self.0
    }
}

/// Expands to the constants of [`CommandId`] and to [`TABLE`], so that a command cannot have an id
/// without a row.
///
/// `NAME = id, len [, out] [, bounce(addr, len)]* [, guest(addr, len)]*`
macro_rules! commands {
    (@writes) => { false };
    (@writes out) => { true };
    (@target bounce) => { Target::Bounce };
    (@target guest) => { Target::GuestPages };
    ($(
        $name:ident = $id:literal, $len:literal $($out:ident)?
            $([$($target:ident @ $addr:literal, $blen:literal);+])?,
    )*) => {
        #[allow(dead_code, reason = "the table is the firmware ABI; KVM uses what the driver does not")]
        impl CommandId {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub(crate) const $name: CommandId = CommandId($id);
            )*
        }

        /// All commands, ascending by id.
        pub(crate) const TABLE: &[CommandInfo] = &[
            $(CommandInfo {
                id: CommandId($id),
                name: stringify!($name),
                len: $len,
                writes_buffer: commands!(@writes $($out)?),
                fw_buffers: &[$($(FwBuffer {
                    address: $addr,
                    len: $blen,
                    target: commands!(@target $target),
                },)+)?],
            },)*
        ];
    };
}

// Ids, lengths and offsets: struct definitions in include/linux/psp-sev.h; the columns "out",
// "bounce" and "guest": the SEV-legacy chapter of the SNP firmware ABI as implemented by
// sev_cmd_buf_writable() and snp_populate_cmd_buf_desc_list() of the in-tree driver.
//
// Commands that the in-tree driver has ids for but no length (SNP_SHUTDOWN, ACTIVATE_EX, PAGE_SWAP_*,
// PAGE_MOVE, PAGE_MD_INIT, PAGE_SET_STATE, DOWNLOAD_FIRMWARE_EX) have no user and no row.
commands! {
    INIT = 0x001, 20,
    SHUTDOWN = 0x002, 0,
    FACTORY_RESET = 0x003, 0,
    PLATFORM_STATUS = 0x004, 12 out,
    PEK_GEN = 0x005, 0,
    PEK_CSR = 0x006, 12 out [bounce @ 0, 8],
    PEK_CERT_IMPORT = 0x007, 28,
    PDH_CERT_EXPORT = 0x008, 28 out [bounce @ 0, 8; bounce @ 16, 24],
    PDH_GEN = 0x009, 0,
    DF_FLUSH = 0x00a, 0,
    DOWNLOAD_FIRMWARE = 0x00b, 12,
    GET_ID = 0x00c, 12 out [bounce @ 0, 8],
    INIT_EX = 0x00d, 36,
    DECOMMISSION = 0x020, 4,
    ACTIVATE = 0x021, 8,
    DEACTIVATE = 0x022, 4,
    GUEST_STATUS = 0x023, 13 out,
    LAUNCH_START = 0x030, 36 out,
    LAUNCH_UPDATE_DATA = 0x031, 20 [guest @ 8, 16],
    LAUNCH_UPDATE_VMSA = 0x032, 20 [guest @ 8, 16],
    LAUNCH_MEASURE = 0x033, 20 out [bounce @ 8, 16],
    LAUNCH_UPDATE_SECRET = 0x034, 52 [guest @ 24, 32],
    LAUNCH_FINISH = 0x035, 4,
    ATTESTATION_REPORT = 0x036, 36 out [bounce @ 8, 32],
    SEND_START = 0x040, 68 out [bounce @ 56, 64],
    SEND_UPDATE_DATA = 0x041, 52 out [bounce @ 8, 16; bounce @ 40, 48],
    // 48 bytes, not 52: the kernel's struct lacks the reserved word at offset 4. Nobody issues it.
    SEND_UPDATE_VMSA = 0x042, 48 out [bounce @ 4, 12; bounce @ 36, 44],
    SEND_FINISH = 0x043, 4,
    SEND_CANCEL = 0x044, 4,
    RECEIVE_START = 0x050, 36 out,
    RECEIVE_UPDATE_DATA = 0x051, 52 [guest @ 24, 32],
    RECEIVE_UPDATE_VMSA = 0x052, 52 [guest @ 24, 32],
    RECEIVE_FINISH = 0x053, 4,
    DBG_DECRYPT = 0x060, 28 [guest @ 16, 24],
    DBG_ENCRYPT = 0x061, 28 [guest @ 16, 24],
    SNP_INIT = 0x081, 0,
    SNP_PLATFORM_STATUS = 0x083, 8,
    SNP_DF_FLUSH = 0x084, 0,
    SNP_INIT_EX = 0x085, 64,
    SNP_SHUTDOWN_EX = 0x086, 8,
    SNP_DECOMMISSION = 0x090, 8,
    SNP_ACTIVATE = 0x091, 12,
    SNP_GUEST_STATUS = 0x092, 16,
    SNP_GCTX_CREATE = 0x093, 8,
    SNP_GUEST_REQUEST = 0x094, 24,
    SNP_LAUNCH_START = 0x0a0, 48,
    SNP_LAUNCH_UPDATE = 0x0a1, 32,
    SNP_LAUNCH_FINISH = 0x0a2, 64,
    SNP_DBG_DECRYPT = 0x0b0, 24,
    SNP_DBG_ENCRYPT = 0x0b1, 24,
    SNP_VERIFY_MITIGATION = 0x0b2, 64,
    SNP_PAGE_RECLAIM = 0x0c7, 8,
    SNP_PAGE_UNSMASH = 0x0c8, 8,
    SNP_CONFIG = 0x0c9, 64,
    SNP_COMMIT = 0x0cb, 4,
    SNP_VLEK_LOAD = 0x0cd, 16,
    SNP_FEATURE_INFO = 0x0ce, 16,
}
