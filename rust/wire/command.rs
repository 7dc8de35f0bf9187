// SPDX-License-Identifier: GPL-2.0

//! The table of mailbox commands.
//!
//! One row says all that the driver knows about a command: number, name, command buffer, who may
//! issue the command, whether firmware writes into the command buffer, and which addresses in the
//! buffer name memory that firmware writes. The row makes three things: a [`CommandId`], a
//! [`CommandInfo`] for commands that arrive as bytes (KVM passes command buffers through
//! `sev_do_cmd()`), and a constant of type [`Command`] or [`StartCommand`] by which the driver
//! issues the command itself.
//!
//! A new command is a new row, which is all that KVM needs to issue it.
//! Documentation/architecture.md says what else a command of the driver's own needs.

use core::marker::PhantomData;

use super::{
    sev,
    snp, //
};

/// A mailbox command number, bits 26:16 of CMDRESP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CommandId(u16);

impl CommandId {
    /// The number as it goes into CMDRESP.
    pub(crate) const fn raw(self) -> u16 {
        self.0
    }

    /// The row of the command.
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

    /// Whether the command is one for the legacy platform, not for a guest: only those change the
    /// platform's persistent state.
    pub(crate) fn is_for_sev_platform(self) -> bool {
        self < Self::DECOMMISSION
    }

    /// Whether the command needs legacy SEV to be initialised: the commands of legacy guests, and
    /// DF_FLUSH, which KVM issues before it reuses an ASID.
    pub(crate) fn needs_sev(self) -> bool {
        self == Self::DF_FLUSH || (Self::DECOMMISSION..=Self::DBG_ENCRYPT).contains(&self)
    }

    /// Whether the command brings SNP firmware to the INIT state, which has a timeout of its own.
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

/// An address field in a command buffer that firmware writes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FwBuffer {
    /// Offset of the 64-bit system physical address.
    pub(crate) address: u16,
    /// Offset of the 32-bit length.
    pub(crate) len: u16,
    /// The kind of memory.
    pub(crate) target: Target,
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct CommandInfo {
    /// Number.
    pub(crate) id: CommandId,
    /// Name as in the firmware ABI.
    pub(crate) name: &'static str,
    /// Length of the command buffer in bytes; 0 for commands without one.
    pub(crate) len: u16,
    /// The command starts, stops or replaces firmware: other modules may not issue it, because the
    /// driver would lose track of firmware's state.
    pub(crate) driver_only: bool,
    /// Firmware stores results in the command buffer itself.
    pub(crate) writes_buffer: bool,
    /// Memory that firmware writes through addresses in the command buffer. Filled in for legacy
    /// commands only: for SNP commands the ABI makes the caller supply pages in the right state.
    pub(crate) fw_buffers: &'static [FwBuffer],
    /// Offsets of the addresses of 4 KiB pages that firmware writes or takes: the pages that
    /// callers of SNP commands supply. The context of a guest is among them only where the command
    /// makes it (SNP_GCTX_CREATE); later it is a page of this driver.
    pub(crate) pages: &'static [u16],
}

/// A command that the driver may issue at any time. `R` is its command buffer, `()` if it has none.
pub(crate) struct Command<R> {
    info: &'static CommandInfo,
    buffer: PhantomData<fn(R)>,
}

impl<R> Command<R> {
    const fn new(id: CommandId) -> Self {
        let info = id.row();
        assert!(info.len as usize == size_of::<R>());
        Self {
            info,
            buffer: PhantomData,
        }
    }

    /// The row of the command.
    pub(crate) const fn info(&self) -> &'static CommandInfo {
        self.info
    }
}

/// A command that starts firmware. `Channel` alone issues it, in exchange for the proof that the
/// order of initialisation is kept.
pub(crate) struct StartCommand<R>(Command<R>);

impl<R> StartCommand<R> {
    /// The row of the command.
    pub(crate) const fn info(&self) -> &'static CommandInfo {
        self.0.info
    }
}

/// A command that other kernel modules may issue through this driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relayed(&'static CommandInfo);

impl Relayed {
    /// `None` if nobody but the driver may issue the command.
    pub(crate) fn new(command: &'static CommandInfo) -> Option<Self> {
        (!command.driver_only).then_some(Self(command))
    }

    /// The row of the command.
    pub(crate) fn info(self) -> &'static CommandInfo {
        self.0
    }
}

/// The largest number.
const fn max(numbers: &[usize]) -> usize {
    let (mut n, mut max) = (0, 0);
    while n < numbers.len() {
        if numbers[n] > max {
            max = numbers[n];
        }
        n += 1;
    }
    max
}

/// Expands to the constants of [`CommandId`], to [`TABLE`], and to a [`Command`] or
/// [`StartCommand`] for each row.
///
/// `NAME = id, command buffer [, start | own] [, out] [bounce|guest @ address, length; ...]
/// {page};`
macro_rules! commands {
    (@driver_only start) => { true };
    (@driver_only own) => { true };
    (@driver_only out) => { false };
    (@writes_buffer out) => { true };
    (@writes_buffer $other:ident) => { false };
    (@target bounce) => { Target::Bounce };
    (@target guest) => { Target::GuestPages };
    (@handle $name:ident $buffer:ty, start $(, $attribute:ident)*) => {
        #[allow(dead_code, reason = "the table is the firmware ABI")]
        #[doc = concat!("`", stringify!($name), "`")]
        pub(crate) const $name: StartCommand<$buffer> =
            StartCommand(Command::new(CommandId::$name));
    };
    (@handle $name:ident $buffer:ty $(, $attribute:ident)*) => {
        #[allow(dead_code, reason = "the table is the firmware ABI")]
        #[doc = concat!("`", stringify!($name), "`")]
        pub(crate) const $name: Command<$buffer> = Command::new(CommandId::$name);
    };
    ($(
        $name:ident = $id:literal, $buffer:ty $(, $attribute:ident)*
            $([$($target:ident @ $addr:literal, $blen:literal);+])?
            $({ $page:literal })?;
    )*) => {
        #[allow(dead_code, reason = "the table is the firmware ABI")]
        impl CommandId {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub(crate) const $name: CommandId = CommandId($id);
            )*
        }

        $(commands! { @handle $name $buffer $(, $attribute)* })*

        /// All commands, ascending by id.
        pub(crate) const TABLE: &[CommandInfo] = &[
            $(CommandInfo {
                id: CommandId($id),
                name: stringify!($name),
                // CAST: A few dozen bytes; selftests/wire compares each length.
                len: size_of::<$buffer>() as u16,
                driver_only: false $(|| commands!(@driver_only $attribute))*,
                writes_buffer: false $(|| commands!(@writes_buffer $attribute))*,
                fw_buffers: &[$($(FwBuffer {
                    address: $addr,
                    len: $blen,
                    target: commands!(@target $target),
                },)+)?],
                pages: &[$($page)?],
            },)*
        ];

        /// The length of the longest command buffer.
        pub(crate) const MAX_LEN: usize = max(&[$(size_of::<$buffer>()),*]);

        /// The most addresses in one command buffer that firmware writes through.
        pub(crate) const MAX_FW_BUFFERS: usize =
            max(&[$(<[u16]>::len(&[$($($addr),+)?])),*]);

        /// The type of each row's command buffer; plain bytes if only KVM issues the command.
        #[allow(dead_code, reason = "selftests/wire prints what it says")]
        pub(crate) const BUFFERS: &[&str] = &[$(stringify!($buffer)),*];
    };
}

// Ids, lengths and offsets: struct definitions in include/linux/psp-sev.h; "out", "bounce" and
// "guest": the SEV-legacy chapter of the SNP firmware ABI as implemented by sev_cmd_buf_writable()
// and snp_populate_cmd_buf_desc_list() of the in-tree driver. "start" and "own" are this driver's:
// the command starts, or else stops or replaces firmware. A buffer of plain bytes is one that only
// KVM fills.
//
// Commands that the in-tree driver has ids for but no length (SNP_SHUTDOWN, ACTIVATE_EX,
// PAGE_SWAP_*, PAGE_MOVE, PAGE_MD_INIT, PAGE_SET_STATE) have no user and no row; selftests/wire
// compares ids and lengths with the kernel's sources. Neither has SEND_UPDATE_VMSA: the kernel's
// structure lacks the reserved word at offset 4, so that firmware would take all addresses and
// lengths from the wrong place.
commands! {
    INIT = 0x001, sev::Init, start;
    SHUTDOWN = 0x002, (), own;
    FACTORY_RESET = 0x003, ();
    PLATFORM_STATUS = 0x004, sev::PlatformStatus, out;
    PEK_GEN = 0x005, ();
    PEK_CSR = 0x006, sev::OutBuffer, out [bounce @ 0, 8];
    PEK_CERT_IMPORT = 0x007, sev::PekCertImport;
    PDH_CERT_EXPORT = 0x008, sev::PdhCertExport, out [bounce @ 0, 8; bounce @ 16, 24];
    PDH_GEN = 0x009, ();
    DF_FLUSH = 0x00a, ();
    DOWNLOAD_FIRMWARE = 0x00b, sev::DownloadFirmware, own;
    GET_ID = 0x00c, sev::OutBuffer, out [bounce @ 0, 8];
    INIT_EX = 0x00d, sev::InitEx, start;
    DECOMMISSION = 0x020, [u8; 4];
    ACTIVATE = 0x021, [u8; 8];
    DEACTIVATE = 0x022, [u8; 4];
    GUEST_STATUS = 0x023, [u8; 13], out;
    LAUNCH_START = 0x030, [u8; 36], out;
    LAUNCH_UPDATE_DATA = 0x031, [u8; 20] [guest @ 8, 16];
    LAUNCH_UPDATE_VMSA = 0x032, [u8; 20] [guest @ 8, 16];
    LAUNCH_MEASURE = 0x033, [u8; 20], out [bounce @ 8, 16];
    LAUNCH_UPDATE_SECRET = 0x034, [u8; 52] [guest @ 24, 32];
    LAUNCH_FINISH = 0x035, [u8; 4];
    ATTESTATION_REPORT = 0x036, [u8; 36], out [bounce @ 8, 32];
    SEND_START = 0x040, [u8; 68], out [bounce @ 56, 64];
    SEND_UPDATE_DATA = 0x041, [u8; 52], out [bounce @ 8, 16; bounce @ 40, 48];
    SEND_FINISH = 0x043, [u8; 4];
    SEND_CANCEL = 0x044, [u8; 4];
    RECEIVE_START = 0x050, [u8; 36], out;
    RECEIVE_UPDATE_DATA = 0x051, [u8; 52] [guest @ 24, 32];
    RECEIVE_UPDATE_VMSA = 0x052, [u8; 52] [guest @ 24, 32];
    RECEIVE_FINISH = 0x053, [u8; 4];
    DBG_DECRYPT = 0x060, [u8; 28] [guest @ 16, 24];
    DBG_ENCRYPT = 0x061, [u8; 28] [guest @ 16, 24];
    SNP_INIT = 0x081, (), start;
    SNP_PLATFORM_STATUS = 0x083, snp::Addr {0};
    SNP_DF_FLUSH = 0x084, ();
    SNP_INIT_EX = 0x085, snp::SnpInitEx, start;
    SNP_SHUTDOWN_EX = 0x086, snp::SnpShutdownEx, own;
    SNP_DECOMMISSION = 0x090, snp::Addr;
    SNP_ACTIVATE = 0x091, [u8; 12];
    SNP_GUEST_STATUS = 0x092, snp::GuestStatus {8};
    SNP_GCTX_CREATE = 0x093, [u8; 8] {0};
    SNP_GUEST_REQUEST = 0x094, [u8; 24] {16};
    SNP_LAUNCH_START = 0x0a0, [u8; 48];
    SNP_LAUNCH_UPDATE = 0x0a1, [u8; 32] {16};
    SNP_LAUNCH_FINISH = 0x0a2, [u8; 64];
    SNP_DBG_DECRYPT = 0x0b0, [u8; 24] {16};
    SNP_DBG_ENCRYPT = 0x0b1, [u8; 24] {16};
    SNP_VERIFY_MITIGATION = 0x0b2, snp::VerifyMitigation {32};
    SNP_PAGE_RECLAIM = 0x0c7, snp::PageReclaim {0};
    SNP_PAGE_UNSMASH = 0x0c8, [u8; 8] {0};
    SNP_CONFIG = 0x0c9, snp::SnpConfig;
    SNP_DOWNLOAD_FIRMWARE_EX = 0x0ca, snp::DownloadFirmwareEx, own;
    SNP_COMMIT = 0x0cb, snp::SnpCommit;
    SNP_VLEK_LOAD = 0x0cd, snp::VlekLoad;
    SNP_FEATURE_INFO = 0x0ce, snp::FeatureInfoRequest {8};
}
