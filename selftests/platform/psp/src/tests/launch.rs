// SPDX-License-Identifier: GPL-2.0
//! Guests, from GCTX_CREATE to DECOMMISSION.

use rmp::{Code, RmpUpdate, State};

use super::lab::*;
use crate::snp::digest::{LaunchDigest, PageInfo, PageType};
use crate::{Api, Config, Status};

const POLICY: u64 = 0x30000;
const DEBUG: u64 = 1 << 19;

fn launching() -> Lab {
    Lab::launching(POLICY)
}

fn running() -> Lab {
    let mut lab = launching();
    lab.ok("SNP_LAUNCH_FINISH", &finish());
    lab
}

fn start(policy: u64) -> Buf {
    buf(48).u64(0, GCTX).u64(8, policy)
}

fn update(page_type: PageType) -> Buf {
    buf(32).u64(0, GCTX).u32(8, (page_type as u32) << 1).u64(16, PAGE)
}

fn finish() -> Buf {
    buf(64).u64(0, GCTX)
}

/// Launching, with a Pre-Guest page at [`PAGE`].
fn with_page() -> Lab {
    let lab = launching();
    lab.machine.poke(PAGE, &[0x5a; 4096]);
    lab.pre_guest(PAGE, 3, 0x8000);
    lab
}

#[test]
fn contexts() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_GCTX_CREATE", buffer, status };
    let firmware: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(GCTX, 1);
        lab
    };
    let large: fn() -> Lab = || {
        let lab = Lab::snp();
        let page =
            RmpUpdate { assigned: true, immutable: true, large: true, ..RmpUpdate::default() };
        assert_eq!(lab.machine.rmp().rmpupdate(TMR, &page), Code::Success);
        lab
    };
    check(vec![
        row("firmware page", firmware, buf(8).u64(0, GCTX), Success),
        row("hypervisor page", Lab::snp, buf(8).u64(0, GCTX), InvalidPageState),
        row("twice", Lab::context, buf(8).u64(0, GCTX), InvalidPageState),
        row("misaligned", firmware, buf(8).u64(0, GCTX + 16), InvalidAddress),
        row("without entry", Lab::snp, buf(8).u64(0, COVERED), InvalidAddress),
        row("2M page", large, buf(8).u64(0, TMR), InvalidPageSize),
        row("the table", Lab::snp, buf(8).u64(0, RMP_BASE), InvalidPageState),
    ]);
}

#[test]
fn commands_need_a_context() {
    for (command, buffer) in [
        ("SNP_DECOMMISSION", buf(8)),
        ("SNP_ACTIVATE", buf(12).u32(8, 3)),
        ("SNP_GUEST_STATUS", buf(16)),
        ("SNP_LAUNCH_START", buf(48).u64(8, POLICY)),
        ("SNP_LAUNCH_UPDATE", buf(32)),
        ("SNP_LAUNCH_FINISH", buf(64)),
        ("SNP_DBG_DECRYPT", buf(24)),
        ("SNP_DBG_ENCRYPT", buf(24)),
    ] {
        for gctx in [0, GCTX, PAGE, RMP_BASE, COVERED, RAM, !C_BIT] {
            let mut lab = Lab::snp();
            lab.firmware(PAGE, 1);
            let status = lab.status(command, &buffer.clone().u64(0, gctx));
            assert_eq!(status, Status::InvalidGuest, "{command} at {gctx:#x}");
        }
    }
}

#[test]
fn start_checks_state_and_policy() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_LAUNCH_START", buffer, status };
    let hiding: fn() -> Lab = || {
        let mut lab = Lab::prepared();
        lab.ok("SNP_INIT_EX", &buf(64).u32(0, 1 | 4 | 8).u32(16, 5));
        lab.firmware(GCTX, 1);
        lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
        lab
    };
    fn with(config: Config) -> Lab {
        let mut lab = Lab::with(config);
        lab.prepare();
        lab.ok("SNP_INIT", &buf(0));
        lab.firmware(GCTX, 1);
        lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
        lab
    }
    let smt: fn() -> Lab = || with(Config { smt: true, ..Config::MILAN });
    let newest: fn() -> Lab =
        || with(Config { api: Api { major: 1, minor: 58, build: 4 }, ..Config::MILAN });
    check(vec![
        row("QEMU's default", Lab::context, start(POLICY), Success),
        row("the platform's version", Lab::context, start(POLICY | 1 << 8 | 55), Success),
        row("a newer minor version", Lab::context, start(POLICY | 1 << 8 | 56), PolicyFailure),
        row("a newer major version", Lab::context, start(POLICY | 2 << 8), PolicyFailure),
        row("bit 17 clear", Lab::context, start(1 << 16), InvalidParam),
        row("unknown bit", Lab::context, start(POLICY | 1 << 63), InvalidParam),
        row("XTS is not there", Lab::context, start(POLICY | 1 << 22), InvalidParam),
        row("no SMT wanted, none there", Lab::context, start(1 << 17), Success),
        row("no SMT wanted, SMT on", smt, start(1 << 17), PolicyFailure),
        row("SMT allowed, SMT on", smt, start(POLICY), Success),
        row("RAPL off wanted", Lab::context, start(POLICY | 1 << 23), PolicyFailure),
        row("RAPL off", hiding, start(POLICY | 1 << 23), Success),
        row("hiding wanted", Lab::context, start(POLICY | 1 << 24), PolicyFailure),
        row("hiding", hiding, start(POLICY | 1 << 24), Success),
        row("no page swapping", newest, start(POLICY | 1 << 25), Success),
        row("no page swapping, before 1.58", Lab::context, start(POLICY | 1 << 25), InvalidParam),
        row("twice", launching, start(POLICY), InvalidGuestState),
        row("migration agent", Lab::context, start(POLICY).u32(24, 1), InvalidParam),
    ]);
}

#[test]
fn activate() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_ACTIVATE", buffer, status };
    let started: fn() -> Lab = || {
        let mut lab = Lab::context();
        lab.ok("SNP_LAUNCH_START", &start(POLICY));
        lab
    };
    let other_started: fn() -> Lab = || {
        let mut lab = launching();
        lab.firmware(PAGE, 1);
        lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, PAGE));
        lab.ok("SNP_LAUNCH_START", &buf(48).u64(0, PAGE).u64(8, POLICY));
        lab
    };
    let unflushed: fn() -> Lab = || {
        let mut lab = Lab::prepared();
        lab.ok("SNP_INIT", &buf(0));
        lab.firmware(GCTX, 1);
        lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
        lab.ok("SNP_LAUNCH_START", &start(POLICY));
        lab
    };
    let with = |gctx, asid| buf(12).u64(0, gctx).u32(8, asid);
    check(vec![
        row("ASID 1", started, with(GCTX, 1), Success),
        row("ASID 49", started, with(GCTX, 49), Success),
        row("ASID 0", started, with(GCTX, 0), InvalidAsid),
        row("an ASID of plain SEV", started, with(GCTX, 50), InvalidAsid),
        row("ASID 2^32-1", started, with(GCTX, u32::MAX), InvalidAsid),
        row("before LAUNCH_START", Lab::context, with(GCTX, 1), InvalidGuestState),
        row("already active", launching, with(GCTX, 4), Active),
        row("ASID of another guest", other_started, with(PAGE, 3), AsidOwned),
        row("before the first flush", unflushed, with(GCTX, 1), DfFlushRequired),
    ]);
    let with = |asid| buf(32).u32(0, 32).u64(8, GCTX).u32(16, asid).u32(20, 2).u64(24, PAGE);
    let row = |what, buffer, status| Row {
        what,
        lab: started,
        command: "SNP_ACTIVATE_EX",
        buffer,
        status,
    };
    check(vec![
        row("on two CPUs", with(1), Success),
        row("ASID 0", with(0), InvalidAsid),
        row("wrong length", with(1).u32(0, 24), InvalidLen),
        row("reserved", with(1).u32(4, 1), InvalidParam),
        row("no context", with(1).u64(8, PAGE), InvalidGuest),
        row("list beyond RAM", with(1).u64(24, RAM - 4), InvalidAddress),
    ]);
}

#[test]
fn an_asid_is_reused_after_wbinvd_and_flush() {
    let mut lab = launching();
    lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
    assert_eq!(lab.machine.state(GCTX), Some(State::Firmware));
    lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
    lab.ok("SNP_LAUNCH_START", &start(POLICY));
    let activate = buf(12).u64(0, GCTX).u32(8, 3);
    assert_eq!(lab.status("SNP_ACTIVATE", &activate), Status::DfFlushRequired);
    assert_eq!(lab.status("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8)), Status::DfFlushRequired);
    assert_eq!(lab.status("SNP_DF_FLUSH", &buf(0)), Status::WbinvdRequired);
    lab.machine.wbinvd();
    lab.ok("SNP_DF_FLUSH", &buf(0));
    lab.ok("SNP_ACTIVATE", &activate);
}

/// A flush does not help while the guest has its ASID; a context without one is no hindrance.
#[test]
fn snp_is_not_shut_down_under_a_guest() {
    for mut lab in [launching(), running()] {
        for flags in [0, 1, 3] {
            let shutdown = buf(8).u32(0, 8).u32(4, flags);
            assert_eq!(lab.status("SNP_SHUTDOWN_EX", &shutdown), Status::DfFlushRequired);
            lab.machine.wbinvd();
            lab.ok("SNP_DF_FLUSH", &buf(0));
            assert_eq!(lab.status("SNP_SHUTDOWN_EX", &shutdown), Status::DfFlushRequired);
        }
        assert_eq!(lab.status("SNP_SHUTDOWN", &buf(0)), Status::DfFlushRequired);
        assert_eq!(lab.machine.state(GCTX), Some(State::Context));
        assert!(lab.machine.cpus.borrow().iter().all(crate::CpuRegisters::snp_en));

        lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
        lab.machine.wbinvd();
        lab.ok("SNP_DF_FLUSH", &buf(0));
        lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 3));
    }
    let mut lab = Lab::context();
    lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 1));
    assert_eq!(lab.machine.state(GCTX), Some(State::Firmware));
}

#[test]
fn update_checks_guest_and_page() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_LAUNCH_UPDATE", buffer, status };
    let inactive: fn() -> Lab = || {
        let mut lab = Lab::context();
        lab.ok("SNP_LAUNCH_START", &start(POLICY));
        lab.pre_guest(PAGE, 3, 0x8000);
        lab
    };
    let of_another: fn() -> Lab = || {
        let lab = launching();
        lab.pre_guest(PAGE, 4, 0x8000);
        lab
    };
    let firmware: fn() -> Lab = || {
        let lab = launching();
        lab.firmware(PAGE, 1);
        lab
    };
    let mutable: fn() -> Lab = || {
        let lab = launching();
        let page = RmpUpdate { assigned: true, asid: 3, gpa: 0x8000, ..RmpUpdate::default() };
        assert_eq!(lab.machine.rmp().rmpupdate(PAGE, &page), Code::Success);
        lab
    };
    let twice: fn() -> Lab = || {
        let mut lab = with_page();
        lab.ok("SNP_LAUNCH_UPDATE", &update(PageType::Normal));
        lab
    };
    let normal = || update(PageType::Normal);
    check(vec![
        row("pre-guest", with_page, normal(), Success),
        row("hypervisor page", launching, normal(), InvalidPageState),
        row("firmware page", firmware, normal(), InvalidPageState),
        row("not immutable", mutable, normal(), InvalidPageState),
        row("second time", twice, normal(), InvalidPageState),
        row("another guest's", of_another, normal(), InvalidPageOwner),
        row("not activated", inactive, normal(), Inactive),
        row("before start", Lab::context, normal(), InvalidGuestState),
        row("after finish", running, normal(), InvalidGuestState),
        row("misaligned", with_page, normal().u64(16, PAGE + 8), InvalidAddress),
        row("without entry", with_page, normal().u64(16, COVERED), InvalidAddress),
        row("2M of 4K", with_page, normal().u32(8, 3).u64(16, 0), InvalidPageState),
        row("type 0", with_page, normal().u32(8, 0), InvalidParam),
        row("type 7", with_page, normal().u32(8, 14), InvalidParam),
        row("migration image", with_page, normal().u32(8, 2 | 1 << 4), InvalidParam),
        row("reserved flag", with_page, normal().u32(8, 2 | 1 << 5), InvalidParam),
        row("reserved word", with_page, normal().u32(12, 1), InvalidParam),
        row("reserved byte", with_page, normal().u8(24, 1), InvalidParam),
        row("reserved tail", with_page, normal().u32(28, 1), InvalidParam),
        row("all permissions", with_page, normal().u32(24, 0x0f0f_0f00), Success),
        row("shadow stacks of VMPL1", with_page, normal().u8(25, 0x10), InvalidParam),
        row("no permission of VMPL3", with_page, normal().u8(27, 0x80), InvalidParam),
    ]);
}

#[test]
fn each_page_type_gets_its_content_and_measurement() {
    let given = [0x5a; 4096];
    for (page_type, changes) in [
        (PageType::Normal, false),
        (PageType::Vmsa, false),
        (PageType::Zero, true),
        (PageType::Unmeasured, false),
        (PageType::Secrets, true),
    ] {
        let mut lab = with_page();
        let outcome = lab.ok("SNP_LAUNCH_UPDATE", &update(page_type).u32(24, 0x0403_0200));
        let content = lab.machine.peek(PAGE, 4096);
        assert_eq!(content != given, changes, "{page_type:?}");
        if page_type == PageType::Zero {
            assert_eq!(content, [0; 4096]);
        }
        let entry = lab.machine.rmp().entry(PAGE).unwrap();
        assert_eq!(State::of(entry), State::GuestValid, "{page_type:?}");
        assert_eq!(entry.vmsa(), page_type == PageType::Vmsa, "{page_type:?}");
        assert_eq!(entry.hi, 0x0403_020f, "{page_type:?}: permissions");
        let mut digest = LaunchDigest::START;
        let content = content.as_slice();
        let info = PageInfo { page_type, imi: false, vmpl_perms: [2, 3, 4], gpa: 0x8000, content };
        digest.extend(&info);
        let fact = outcome.facts.iter().find(|fact| fact.0 == "digest").unwrap();
        assert_eq!(fact.1, crate::Fact::Bytes(digest.bytes().to_vec()), "{page_type:?}");
        let shared = lab.machine.rmp().rmpupdate(PAGE, &RmpUpdate::default());
        assert_eq!(shared, Code::Success, "{page_type:?}: the host can take the page back");
    }
}

#[test]
fn cpuid_pages_must_be_well_formed() {
    let mut table = vec![0; 4096];
    table[0] = 2;
    let rows: &[(&str, usize, u8, Status)] = &[
        ("good", 16, 1, Status::Success),
        ("65 entries", 0, 65, Status::InvalidParam),
        ("a count of 2^31", 3, 0x80, Status::InvalidParam),
        ("reserved in the header", 4, 1, Status::InvalidParam),
        ("reserved in an entry", 16 + 48 + 40, 1, Status::InvalidParam),
        ("beyond the entries in use", 16 + 2 * 48 + 40, 1, Status::Success),
    ];
    for (what, at, value, status) in rows {
        let mut lab = launching();
        let mut page = table.clone();
        page[*at] = *value;
        lab.machine.poke(PAGE, &page);
        lab.pre_guest(PAGE, 3, 0x8000);
        assert_eq!(lab.status("SNP_LAUNCH_UPDATE", &update(PageType::Cpuid)), *status, "{what}");
        let expected = if *status == Status::Success { State::GuestValid } else { State::PreGuest };
        assert_eq!(lab.machine.state(PAGE), Some(expected), "{what}");
        assert_eq!(lab.machine.peek(PAGE, 4096), page, "{what}");
    }
}

/// A table with values that firmware does not accept comes back with those that it would, and the
/// page can be launched with them.
#[test]
fn cpuid_pages_are_corrected() {
    let refused = Config { cpuid_refused: Some(0x8000_001f), ..Config::MILAN };
    let mut table = vec![0; 4096];
    table[0] = 2;
    let mut function = |n: usize, eax: u32, ecx_out: u32| {
        let at = 16 + 48 * n;
        table[at..at + 4].copy_from_slice(&eax.to_le_bytes());
        table[at + 32..at + 36].copy_from_slice(&ecx_out.to_le_bytes());
    };
    function(0, 1, 0x1234);
    function(1, 0x8000_001f, 0x5678);
    function(2, 0x8000_001f, 0x9abc);
    let mut corrected = table.clone();
    corrected[16 + 48 + 32..16 + 48 + 36].fill(0);

    let mut lab = with_page();
    lab.psp.config = refused;
    lab.machine.poke(PAGE, &table);
    let cpuid = update(PageType::Cpuid);
    assert_eq!(lab.status("SNP_LAUNCH_UPDATE", &cpuid), Status::InvalidParam);
    assert_eq!(lab.machine.state(PAGE), Some(State::PreGuest));
    assert_eq!(lab.machine.peek(PAGE, 4096), corrected, "functions beyond the count do not count");
    lab.ok("SNP_LAUNCH_UPDATE", &cpuid);
    assert_eq!(lab.machine.peek(PAGE, 4096), corrected);

    let mut lab = with_page();
    lab.machine.poke(PAGE, &table);
    lab.ok("SNP_LAUNCH_UPDATE", &cpuid);
    assert_eq!(lab.machine.peek(PAGE, 4096), table, "nothing is refused unless it is asked for");
}

#[test]
fn vmsas_that_cannot_run_are_reported() {
    let with = |features: u64, efer: u64, vmpl: u8| {
        let mut page = vec![0; 4096];
        page[0x3b0..0x3b8].copy_from_slice(&features.to_le_bytes());
        page[0xd0..0xd8].copy_from_slice(&efer.to_le_bytes());
        page[0xca] = vmpl;
        page
    };
    for (page, expected) in [
        (with(1, 1 << 12, 0), None),
        (with(0x21, 0x1d01, 3), None),
        (with(0x20, 1 << 12, 0), Some("VMSA without SNP in SEV_FEATURES")),
        (with(1, 0xd01, 0), Some("VMSA without SVME in EFER")),
        (with(1, 1 << 12, 4), Some("VMSA of a VMPL that there is not")),
    ] {
        let mut lab = launching();
        lab.machine.poke(PAGE, &page);
        lab.pre_guest(PAGE, 3, 0x8000);
        let outcome = lab.ok("SNP_LAUNCH_UPDATE", &update(PageType::Vmsa));
        let reported = outcome.reports.first().map(|report| (report.what, report.address));
        assert_eq!(reported, expected.map(|what| (what, PAGE)));
    }
}

#[test]
fn a_failed_page_can_be_reclaimed() {
    let mut lab = with_page();
    assert_eq!(
        lab.status("SNP_LAUNCH_UPDATE", &update(PageType::Normal).u32(12, 1)),
        Status::InvalidParam
    );
    lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, PAGE));
    assert_eq!(lab.machine.rmp().rmpupdate(PAGE, &RmpUpdate::default()), Code::Success);
}

#[test]
fn finish_checks_state_and_id_block() {
    use crate::snp::id_block::tests::signed;
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_LAUNCH_FINISH", buffer, status };
    fn with_block(digest: u8, policy: u64) -> Lab {
        let lab = launching();
        let (block, auth) = signed(&[digest; 48], policy);
        lab.machine.poke(PAGE, &block);
        lab.machine.poke(OUT, &auth);
        lab
    }
    let block = || finish().u64(8, PAGE).u64(16, OUT);
    check(vec![
        row("plain", launching, finish(), Success),
        row("VCEK off", launching, finish().u64(24, 4), Success),
        row("twice", running, finish(), InvalidGuestState),
        row("before start", Lab::context, finish(), InvalidGuestState),
        row("author key without block", launching, finish().u64(24, 2), InvalidParam),
        row("reserved flag", launching, finish().u64(24, 8), InvalidParam),
        row("ID block", || with_block(0, POLICY), block().u64(24, 1), Success),
        row("and author key", || with_block(0, POLICY), block().u64(24, 3), Success),
        row("wrong digest", || with_block(1, POLICY), block().u64(24, 1), BadMeasurement),
        row("wrong policy", || with_block(0, POLICY | DEBUG), block().u64(24, 1), PolicyFailure),
        row("block beyond RAM", launching, block().u64(8, RAM).u64(24, 1), InvalidAddress),
        row("auth beyond RAM", launching, block().u64(16, RAM).u64(24, 1), InvalidAddress),
    ]);
}

#[test]
fn guest_status_reports_the_guest() {
    let status = |lab: &mut Lab| {
        lab.ok("SNP_GUEST_STATUS", &buf(16).u64(0, GCTX).u64(8, OUT));
        let out = lab.machine.peek(OUT, 32);
        (out[..8].to_vec(), out[8], out[12])
    };
    for (setup, expected) in [
        (Lab::context as fn() -> Lab, (0u64, 0, 0)),
        (launching, (POLICY, 3, 1)),
        (running, (POLICY, 3, 2)),
    ] {
        let mut lab = setup();
        assert_eq!(
            lab.status("SNP_GUEST_STATUS", &buf(16).u64(0, GCTX).u64(8, OUT)),
            Status::InvalidPageState
        );
        lab.firmware(OUT, 1);
        let (policy, asid, state) = expected;
        assert_eq!(status(&mut lab), (policy.to_le_bytes().to_vec(), asid, state));
    }
}

#[test]
fn dbg_decrypt_needs_policy_and_ownership() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_DBG_DECRYPT", buffer, status };
    fn guest(policy: u64) -> Lab {
        let mut lab = Lab::launching(policy);
        lab.machine.poke(PAGE, &[0x5a; 4096]);
        lab.pre_guest(PAGE, 3, 0x8000);
        lab.ok("SNP_LAUNCH_UPDATE", &update(PageType::Normal));
        lab.firmware(OUT, 1);
        lab
    }
    let debug: fn() -> Lab = || guest(POLICY | DEBUG);
    let good = || buf(24).u64(0, GCTX).u64(8, PAGE).u64(16, OUT);
    check(vec![
        row("debuggable", debug, good(), Success),
        row("not debuggable", || guest(POLICY), good(), PolicyFailure),
        row("before start", Lab::context, good(), InvalidGuestState),
        row("not the guest's page", debug, good().u64(8, LIST), InvalidPageOwner),
        row("destination not firmware", debug, good().u64(16, LIST), InvalidPageState),
        row("source misaligned", debug, good().u64(8, PAGE + 16), InvalidAddress),
        row("destination misaligned", debug, good().u64(16, OUT + 16), InvalidAddress),
        row("source beyond RAM", debug, good().u64(8, RAM), InvalidAddress),
    ]);
    let mut lab = debug();
    lab.ok("SNP_DBG_DECRYPT", &good());
    assert_eq!(lab.machine.peek(OUT, 4096), [0x5a; 4096]);
}

#[test]
fn dbg_encrypt_needs_policy_and_a_page_that_waits() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_DBG_ENCRYPT", buffer, status };
    fn guest(policy: u64) -> Lab {
        let lab = Lab::launching(policy);
        lab.machine.poke(LIST, &[0xa5; 4096]);
        lab.pre_guest(PAGE, 3, 0x8000);
        lab.pre_guest(OUT, 4, 0x9000);
        lab
    }
    fn launched() -> Lab {
        let mut lab = guest(POLICY | DEBUG);
        lab.ok("SNP_LAUNCH_UPDATE", &update(PageType::Normal));
        lab
    }
    let debug: fn() -> Lab = || guest(POLICY | DEBUG);
    let good = || buf(24).u64(0, GCTX).u64(8, LIST).u64(16, PAGE);
    check(vec![
        row("debuggable", debug, good(), Success),
        row("not debuggable", || guest(POLICY), good(), PolicyFailure),
        row("before start", Lab::context, good(), InvalidGuestState),
        row("the guest may write it", launched, good(), InvalidPageState),
        row("the host's page", debug, good().u64(16, LIST), InvalidPageOwner),
        row("another guest's", debug, good().u64(16, OUT), InvalidPageOwner),
        row("source misaligned", debug, good().u64(8, LIST + 16), InvalidAddress),
        row("destination misaligned", debug, good().u64(16, PAGE + 16), InvalidAddress),
        row("source beyond RAM", debug, good().u64(8, RAM), InvalidAddress),
        row("destination beyond RAM", debug, good().u64(16, RAM), InvalidAddress),
    ]);
    let mut lab = debug();
    lab.ok("SNP_DBG_ENCRYPT", &good());
    assert_eq!(lab.machine.peek(PAGE, 4096), [0xa5; 4096]);
    assert_eq!(lab.machine.state(PAGE), Some(State::PreGuest));
}

#[test]
fn decommission_works_in_every_state() {
    for setup in [Lab::context as fn() -> Lab, launching, running] {
        let mut lab = setup();
        lab.firmware(OUT, 1);
        lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
        assert_eq!(lab.status("SNP_DECOMMISSION", &buf(8).u64(0, GCTX)), Status::InvalidGuest);
        lab.ok("SNP_PLATFORM_STATUS", &buf(8).u64(0, OUT));
        assert_eq!(lab.machine.peek(OUT + 12, 1), [0], "guest_count");
        lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, GCTX));
    }
}

#[test]
fn a_corrupted_digest_shows() {
    let mut lab = with_page();
    let good = lab.ok("SNP_LAUNCH_UPDATE", &update(PageType::Normal));
    let mut lab = with_page();
    lab.machine.poke(BUFFER, &update(PageType::Normal).0);
    lab.psp.corrupt_launch_digest(&lab.machine, BUFFER);
    let bad = lab.ok("SNP_LAUNCH_UPDATE", &update(PageType::Normal));
    let digest = |outcome: &crate::Outcome| {
        outcome.facts.iter().find(|fact| fact.0 == "digest").unwrap().1.clone()
    };
    assert_ne!(digest(&good), digest(&bad));
}
