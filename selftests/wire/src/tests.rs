// SPDX-License-Identifier: GPL-2.0

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::pages::Address;
use crate::wire::{
    command, sev::*, snp::*, status, ApiVersion, CommandId, Relayed, Status, Target, TcbLayout,
};

/// What golden.c printed.
const GOLDEN: &str = include_str!(concat!(env!("OUT_DIR"), "/golden.txt"));

/// The in-tree driver.
const DRIVER: &str = include_str!(concat!(env!("OUT_DIR"), "/sev-dev.c"));

/// The text of a function of the in-tree driver.
fn function(signature: &str) -> &'static str {
    let start = DRIVER
        .find(signature)
        .unwrap_or_else(|| panic!("sev-dev.c has no {signature}"));
    let body = &DRIVER[start..];
    &body[..body.find("\n}\n").expect("a function ends")]
}

/// The commands in `case` labels of `text`.
fn cases(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("case SEV_CMD_")?.split(':').next())
        .collect()
}

fn lines(kind: &str) -> impl Iterator<Item = Vec<&'static str>> + '_ {
    GOLDEN.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        (words.next() == Some(kind)).then(|| words.collect())
    })
}

fn number(word: &str) -> u64 {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    }
    .unwrap_or_else(|_| panic!("golden.c printed '{word}' where a number belongs"))
}

fn golden_bytes(name: &str) -> Vec<u8> {
    let row = lines("bytes").find(|row| row[0] == name);
    let hex = row.unwrap_or_else(|| panic!("golden.c has no structure {name}"))[1];
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex"))
        .collect()
}

/// `value` encodes to the bytes of the C structure `name`, and they decode to it.
fn same<T: IntoBytes + FromBytes + Immutable + Debug>(name: &str, value: T) {
    let golden = golden_bytes(name);
    assert_eq!(value.as_bytes(), golden, "{name} encodes differently");
    let decoded = T::read_from_bytes(&golden).unwrap_or_else(|_| panic!("{name} has another size"));
    assert_eq!(decoded.as_bytes(), golden, "{name} decodes differently");
}

/// Commands whose structure in the kernel's header cannot be the one that firmware reads: the ABI
/// has each address at a multiple of its size.
fn misplaced() -> BTreeSet<&'static str> {
    lines("wide")
        .filter(|row| number(row[2]) % 8 != 0)
        .map(|row| row[0])
        .collect()
}

/// Room for less would drop a buffer without a word.
#[test]
fn there_is_room_for_every_row() {
    let len = command::TABLE.iter().map(|row| usize::from(row.len)).max();
    assert_eq!(Some(command::MAX_LEN), len);
    let buffers = command::TABLE.iter().map(|row| row.fw_buffers.len()).max();
    assert_eq!(Some(command::MAX_FW_BUFFERS), buffers);
}

#[test]
fn what_the_kernel_has_a_wrong_structure_for_is_not_relayed() {
    assert_eq!(Vec::from_iter(misplaced()), ["SEND_UPDATE_VMSA"]);
    assert!(lines("wide").count() > 50);
    for row in command::TABLE {
        assert!(!misplaced().contains(row.name), "{}", row.name);
        for buffer in row.fw_buffers {
            let known =
                |wide: &Vec<&str>| wide[0] == row.name && number(wide[2]) == buffer.address.into();
            assert!(
                lines("wide").any(|wide| known(&wide)),
                "{} {}",
                row.name,
                buffer.address
            );
        }
    }
}

#[test]
fn every_command_has_the_kernels_id_and_length() {
    let golden: BTreeMap<&str, (u64, u64)> = lines("cmd")
        .filter(|row| !misplaced().contains(row[0]))
        .map(|row| (row[0], (number(row[1]), number(row[2]))))
        .collect();
    let ours: BTreeMap<&str, (u64, u64)> = command::TABLE
        .iter()
        .map(|row| (row.name, (row.id.raw().into(), row.len.into())))
        .collect();
    assert_eq!(ours, golden);
}

#[test]
fn every_firmware_buffer_is_where_the_kernel_has_it() {
    let mut golden: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for row in lines("field").filter(|row| !misplaced().contains(row[0])) {
        golden
            .entry(row[0])
            .or_default()
            .push((number(row[1]), number(row[2])));
    }
    let ours: BTreeMap<&str, Vec<(u64, u64)>> = command::TABLE
        .iter()
        .filter(|row| !row.fw_buffers.is_empty())
        .map(|row| {
            let pairs = row
                .fw_buffers
                .iter()
                .map(|b| (b.address.into(), b.len.into()));
            (row.name, pairs.collect())
        })
        .collect();
    assert_eq!(ours, golden);
}

#[test]
fn every_page_is_named_by_an_address_of_the_kernels() {
    let named = command::TABLE
        .iter()
        .flat_map(|row| row.pages.iter().map(move |page| (row.name, page)));
    let named: Vec<_> = named.collect();
    assert!(named.len() > 8);
    for (name, page) in named {
        let known = |wide: &Vec<&str>| wide[0] == name && number(wide[2]) == u64::from(*page);
        assert!(lines("wide").any(|wide| known(&wide)), "{name} {page}");
    }
}

#[test]
fn firmware_writes_the_buffers_that_the_in_tree_driver_converts() {
    let mut intree = cases(function("static bool sev_cmd_buf_writable("));
    intree.sort();
    assert!(intree.len() > 5);
    intree.retain(|name| !misplaced().contains(name));
    let mut ours: Vec<_> = command::TABLE
        .iter()
        .filter(|row| row.writes_buffer)
        .map(|row| row.name)
        .collect();
    ours.sort();
    assert_eq!(ours, intree);
}

#[test]
fn guest_pages_are_those_of_the_in_tree_driver() {
    let body = function("static void snp_populate_cmd_buf_desc_list(");
    let mut intree: Vec<_> = body
        .split("break;")
        .filter(|case| case.contains("guest_owned = true"))
        .flat_map(cases)
        .collect();
    intree.sort();
    assert!(intree.len() > 5);
    let guest = |row: &&command::CommandInfo| {
        row.fw_buffers
            .iter()
            .any(|b| b.target == Target::GuestPages)
    };
    let mut ours: Vec<_> = command::TABLE
        .iter()
        .filter(guest)
        .map(|row| row.name)
        .collect();
    ours.sort();
    assert_eq!(ours, intree);
}

#[test]
fn firmware_buffers_lie_inside_the_command_buffer() {
    for row in command::TABLE {
        for buffer in row.fw_buffers {
            assert!(
                buffer.address + 8 <= row.len,
                "{}: address outside",
                row.name
            );
            assert!(buffer.len + 4 <= row.len, "{}: length outside", row.name);
        }
    }
}

#[test]
fn only_legacy_commands_have_rules_about_page_states() {
    for row in command::TABLE
        .iter()
        .filter(|row| row.name.starts_with("SNP_"))
    {
        assert!(
            !row.writes_buffer && row.fw_buffers.is_empty(),
            "{}",
            row.name
        );
    }
}

#[test]
fn commands_of_snp_are_not_legacy() {
    for row in command::TABLE {
        assert_eq!(
            row.id.is_legacy(),
            !row.name.starts_with("SNP_"),
            "{}",
            row.name
        );
    }
}

#[test]
fn lookup_finds_every_row_and_nothing_else() {
    for pair in command::TABLE.windows(2) {
        assert!(
            pair[0].id < pair[1].id,
            "{} and {} are out of order",
            pair[0].name,
            pair[1].name
        );
    }
    for number in 0..=0xffff_u32 {
        let row = command::TABLE
            .iter()
            .find(|row| u32::from(row.id.raw()) == number);
        let found = CommandId::lookup(number);
        assert_eq!(found.map(|i| i.name), row.map(|i| i.name), "{number:#x}");
    }
    for number in [0x1_0001, 0x1_0004, 0xffff_ffff] {
        assert!(
            CommandId::lookup(number).is_none(),
            "{number:#x} was truncated"
        );
    }
}

#[test]
fn what_starts_stops_or_replaces_firmware_is_not_relayed() {
    let refused: Vec<_> = command::TABLE
        .iter()
        .filter(|row| Relayed::new(row).is_none())
        .map(|row| row.name)
        .collect();
    assert_eq!(
        refused,
        [
            "INIT",
            "SHUTDOWN",
            "DOWNLOAD_FIRMWARE",
            "INIT_EX",
            "SNP_INIT",
            "SNP_INIT_EX",
            "SNP_SHUTDOWN_EX",
            "SNP_DOWNLOAD_FIRMWARE_EX"
        ]
    );
}

#[test]
fn commands_of_legacy_guests_need_sev() {
    for row in command::TABLE {
        let needs = (0x20..=0x61).contains(&row.id.raw()) || row.name == "DF_FLUSH";
        assert_eq!(row.id.needs_sev(), needs, "{}", row.name);
    }
}

#[test]
fn answers_to_some_commands_mean_more() {
    let special: Vec<_> = command::TABLE
        .iter()
        .flat_map(|command| status::TABLE.iter().map(move |row| (command, row)))
        .map(|(command, row)| (command, row, Status::new(row.code).cause_of(command.id)))
        .filter(|(_, row, cause)| *cause != row.cause)
        .map(|(command, row, cause)| (command.name, row.name, cause))
        .collect();
    let expected = [
        ("PEK_CERT_IMPORT", "INVALID_CERTIFICATE", "the PEK's"),
        ("SNP_LAUNCH_START", "POLICY_FAILURE", "the guest's policy"),
        (
            "SNP_LAUNCH_UPDATE",
            "INVALID_PARAM",
            "permissions or contents",
        ),
        (
            "SNP_LAUNCH_UPDATE",
            "INVALID_PAGE_STATE",
            "launch each page once",
        ),
        (
            "SNP_LAUNCH_UPDATE",
            "INVALID_PAGE_OWNER",
            "launch each page once",
        ),
        (
            "SNP_LAUNCH_FINISH",
            "BAD_SIGNATURE",
            "the ID block is not signed",
        ),
        (
            "SNP_LAUNCH_FINISH",
            "BAD_MEASUREMENT",
            "what was launched is not",
        ),
        (
            "SNP_LAUNCH_FINISH",
            "INVALID_PARAM",
            "the ID block is not signed",
        ),
        (
            "SNP_CONFIG",
            "INVALID_PARAM",
            "the TCB that reports are to have",
        ),
    ];
    assert_eq!(special.len(), expected.len(), "{special:?}");
    for (found, (command, status, words)) in special.iter().zip(expected) {
        assert_eq!((found.0, found.1), (command, status));
        assert!(found.2.contains(words), "{command} {status}: {}", found.2);
    }
    let unknown = Status::new(0x9000);
    assert_eq!(
        unknown.cause_of(CommandId::SNP_CONFIG),
        unknown.cause(),
        "not even a name"
    );
}

#[test]
fn statuses_are_sorted_and_speak() {
    for pair in status::TABLE.windows(2) {
        assert!(
            pair[0].code < pair[1].code,
            "{} and {}",
            pair[0].name,
            pair[1].name
        );
    }
    assert_eq!(Status::new(0x1a).to_string(), "INVALID_PAGE_STATE (0x1a)");
    assert_eq!(
        Status::new(0x9000).to_string(),
        "undocumented status (0x9000)"
    );
    assert!(!Status::new(0x9000).cause().is_empty());
}

#[test]
fn structures_of_legacy_commands() {
    let (address, len) = (Address(0x1122_3344_5566_7788), 0x99aa_bbcc);
    let (address2, len2) = (Address(0x0102_0304_0506_0708), 0x0d0e_0f10);
    same(
        "Init",
        Init {
            flags: INIT_FLAG_ES,
            reserved: 0,
            tmr_address: address,
            tmr_len: len,
        },
    );
    same(
        "InitEx",
        InitEx {
            len: 36,
            flags: INIT_FLAG_ES,
            tmr_address: address,
            tmr_len: len,
            reserved: 0,
            nv_address: address2,
            nv_len: len2,
        },
    );
    same(
        "PlatformStatus",
        PlatformStatus {
            api_major: 0x12,
            api_minor: 0x34,
            state: 2,
            flags: 0x5566_7788,
            build: 0x9a,
            guest_count: 0xbcde_f012,
        },
    );
    same("OutBuffer", OutBuffer { address, len });
    same(
        "PekCertImport",
        PekCertImport {
            pek_address: address,
            pek_len: len,
            reserved: 0,
            oca_address: address2,
            oca_len: len2,
        },
    );
    same(
        "PdhCertExport",
        PdhCertExport {
            pdh_address: address,
            pdh_len: len,
            reserved: 0,
            chain_address: address2,
            chain_len: len2,
        },
    );
    same("DownloadFirmware", DownloadFirmware { address, len });
}

#[test]
fn structures_of_snp_commands() {
    let (address, address2) = (
        Address(0x1122_3344_5566_7788),
        Address(0x0102_0304_0506_0708),
    );
    same("Addr", Addr { address });
    same(
        "SnpStatus",
        SnpStatus {
            api_major: 0x12,
            api_minor: 0x34,
            state: 1,
            rmp_flags: 1,
            build: 0x5566_7788,
            flags: SnpStatus::FLAG_FEATURE_INFO | SnpStatus::FLAG_CIPHERTEXT_HIDING_CAP,
            guest_count: 0xbcde_f012,
            current_tcb: address.0,
            reported_tcb: address2.0,
        },
    );
    same(
        "FeatureInfoRequest",
        FeatureInfoRequest {
            length: size_of::<FeatureInfoRequest>() as u32,
            ecx_in: 0x1122_3344,
            address: address2,
        },
    );
    same(
        "FeatureInfo",
        FeatureInfo {
            eax: 0x1122_3344,
            ebx: 0x5566_7788,
            ecx: 0x99aa_bbcc,
            edx: 0xddee_ff00,
        },
    );
    same(
        "SnpInitEx",
        SnpInitEx {
            flags: INIT_RMP | INIT_LIST_PADDR_EN | INIT_CIPHERTEXT_HIDING_EN,
            rsvd: 0,
            list_paddr: address2,
            max_snp_asid: 0x1122,
            rsvd2: [0; 46],
        },
    );
    same(
        "Range",
        Range {
            base: address2.0,
            page_count: 0x1122_3344,
            rsvd: 0,
        },
    );
    same(
        "RangeListHeader",
        RangeListHeader {
            num_elements: 0x1122_3344,
            rsvd: 0,
        },
    );
    same(
        "SnpShutdownEx",
        SnpShutdownEx {
            len: size_of::<SnpShutdownEx>() as u32,
            flags: SHUTDOWN_IOMMU_SNP | SHUTDOWN_X86_SNP,
        },
    );
    same(
        "PageReclaim",
        PageReclaim {
            paddr: Address(0x1122_3344_5566_7000),
        },
    );
    same(
        "SnpConfig",
        SnpConfig {
            reported_tcb: address.0,
            flags: 3,
            rsvd: [0; 52],
        },
    );
    same(
        "DownloadFirmwareEx",
        DownloadFirmwareEx {
            length: size_of::<DownloadFirmwareEx>() as u32,
            rsvd: 0,
            address,
            len: 0x99aa_bbcc,
            flags: 1,
        },
    );
    same(
        "GuestStatus",
        GuestStatus {
            gctx: address,
            address: address2,
        },
    );
    same(
        "SnpCommit",
        SnpCommit {
            len: size_of::<SnpCommit>() as u32,
        },
    );
    same(
        "VlekLoad",
        VlekLoad {
            len: size_of::<VlekLoad>() as u32,
            version: 0x12,
            rsvd: [0; 3],
            address: address2,
        },
    );
    same(
        "VerifyMitigation",
        VerifyMitigation {
            length: size_of::<VerifyMitigation>() as u32,
            subcommand: MITIGATION_VERIFY,
            vector: address.0,
            flags: MITIGATION_DST_EN,
            dst_paddr: address2,
            ..VerifyMitigation::default()
        },
    );
    same(
        "Mitigations",
        Mitigations {
            verified: address.0,
            supported: address2.0,
            failure: 0x99aa_bbcc,
        },
    );
}

#[test]
fn constants_are_the_kernels() {
    let ours: BTreeMap<&str, u64> = [
        ("X86Shutdown", Feature::X86Shutdown as u64),
        ("VerifyMitigation", Feature::VerifyMitigation as u64),
        ("MITIGATION_STATUS", MITIGATION_STATUS.into()),
        ("RaplDisable", Feature::RaplDisable as u64),
        ("CiphertextHiding", Feature::CiphertextHiding as u64),
        ("Aes256XtsPolicy", Feature::Aes256XtsPolicy as u64),
        ("CxlAllowPolicy", Feature::CxlAllowPolicy as u64),
        ("POLICY_BASE", POLICY_BASE),
        ("POLICY_CXL_ALLOW", POLICY_CXL_ALLOW),
        ("POLICY_AES_256_XTS", POLICY_AES_256_XTS),
        ("POLICY_RAPL_DIS", POLICY_RAPL_DIS),
        ("POLICY_CIPHERTEXT_HIDING", POLICY_CIPHERTEXT_HIDING),
        ("POLICY_PAGE_SWAP_DISABLE", POLICY_PAGE_SWAP_DISABLE),
    ]
    .into();
    let golden: BTreeMap<&str, u64> = lines("value").map(|row| (row[0], number(row[1]))).collect();
    assert_eq!(ours, golden);
}

#[test]
fn svn_of_both_tcb_layouts() {
    let tcb = |name| u64::from_le_bytes(golden_bytes(name).try_into().expect("8 bytes"));
    assert_eq!(TcbLayout::MilanGenoa.snp_svn(tcb("TcbMilanGenoa")), 0x5a);
    assert_eq!(TcbLayout::Turin.snp_svn(tcb("TcbTurin")), 0x5a);
    assert_eq!(TcbLayout::Turin.snp_svn(tcb("TcbMilanGenoa")), 0);
}

#[test]
fn versions_compare_major_first() {
    let v = |major, minor| ApiVersion {
        major,
        minor,
        build: 0,
    };
    for (ours, wanted, enough) in [
        ((1, 51), (1, 51), true),
        ((1, 50), (1, 51), false),
        ((2, 0), (1, 51), true),
        ((0, 255), (1, 0), false),
    ] {
        assert_eq!(
            v(ours.0, ours.1).at_least(wanted),
            enough,
            "{ours:?} {wanted:?}"
        );
    }
}
