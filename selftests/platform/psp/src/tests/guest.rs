// SPDX-License-Identifier: GPL-2.0
//! Guests without SNP.

use sev::certs::sev::sev::Certificate;
use sev::firmware::host::{Build, Version};
use sev::launch::sev::{Measurement, Policy, Start};
use sev::parser::{Decoder, Encoder};
use sev::session::Session;
use sha2::{Digest, Sha256};

use super::lab::*;
use crate::Status::{self, *};

pub(super) const ES: u32 = 1 << 2;
const NO_DEBUG: u32 = 1 << 0;
const NO_KEY_SHARING: u32 = 1 << 1;
/// The first handle after reset.
pub(super) const HANDLE: u32 = 1;
/// As CPUID says: with encrypted registers below 50, without from there on.
pub(super) const ES_ASID: u32 = 49;
pub(super) const SEV_ASID: u32 = 50;
/// What a launch adds, two pages.
pub(super) const DATA: u64 = 0x6_0000;

pub(super) fn handle() -> Buf {
    buf(4).u32(0, HANDLE)
}

pub(super) fn launch_start(policy: u32) -> Buf {
    buf(36).u32(4, policy)
}

pub(super) fn activate(asid: u32) -> Buf {
    buf(8).u32(0, HANDLE).u32(4, asid)
}

/// LAUNCH_UPDATE_*, LAUNCH_MEASURE.
pub(super) fn region(pa: u64, len: u32) -> Buf {
    buf(20).u32(0, HANDLE).u64(8, pa).u32(16, len)
}

fn dbg(src: u64, dst: u64, len: u32) -> Buf {
    buf(28).u32(0, HANDLE).u64(8, src).u64(16, dst).u32(24, len)
}

/// Where headers and data of packets are.
pub(super) const HEADER: u64 = 0x8_0000;
pub(super) const PACKET: u64 = 0x8_1000;

/// LAUNCH_UPDATE_SECRET, SEND_UPDATE_*, RECEIVE_UPDATE_*.
pub(super) fn packet(guest: u64, len: u32) -> Buf {
    let header = buf(52).u32(0, HANDLE).u64(8, HEADER).u32(16, 52);
    header.u64(24, guest).u32(32, len).u64(40, PACKET).u32(48, len)
}

/// SEV initialised as Linux does it without SNP.
pub(super) fn initialised() -> Lab {
    let mut lab = Lab::new();
    lab.start_sev(1 << 20);
    lab
}

pub(super) fn started(policy: u32) -> Lab {
    let mut lab = initialised();
    lab.ok("LAUNCH_START", &launch_start(policy));
    lab
}

pub(super) fn activated(policy: u32) -> Lab {
    let mut lab = started(policy);
    lab.ok("ACTIVATE", &activate(if policy & ES == 0 { SEV_ASID } else { ES_ASID }));
    lab
}

pub(super) fn measured() -> Lab {
    let mut lab = activated(0);
    lab.ok("LAUNCH_MEASURE", &region(OUT, 48));
    lab
}

pub(super) fn running() -> Lab {
    let mut lab = measured();
    lab.ok("LAUNCH_FINISH", &handle());
    lab
}

pub(super) fn row(
    what: &'static str,
    lab: fn() -> Lab,
    command: &'static str,
    buffer: Buf,
    status: Status,
) -> Row {
    Row { what, lab, command, buffer, status }
}

/// Every command for a guest, as it would be right.
fn commands() -> Vec<(&'static str, Buf)> {
    vec![
        ("ACTIVATE", activate(SEV_ASID)),
        ("DEACTIVATE", handle()),
        ("DECOMMISSION", handle()),
        ("GUEST_STATUS", buf(13).u32(0, HANDLE)),
        ("LAUNCH_UPDATE_DATA", region(DATA, 0x1000)),
        ("LAUNCH_UPDATE_VMSA", region(DATA, 0x1000)),
        ("LAUNCH_MEASURE", region(OUT, 48)),
        ("LAUNCH_UPDATE_SECRET", packet(DATA, 16)),
        ("LAUNCH_FINISH", handle()),
        ("ATTESTATION_REPORT", buf(36).u32(0, HANDLE).u64(8, OUT).u32(32, 208)),
        ("SEND_START", buf(68).u32(0, HANDLE)),
        ("SEND_UPDATE_DATA", packet(DATA, 16)),
        ("SEND_UPDATE_VMSA", packet(DATA, 0x1000)),
        ("SEND_FINISH", handle()),
        ("SEND_CANCEL", handle()),
        ("RECEIVE_UPDATE_DATA", packet(DATA, 16)),
        ("RECEIVE_UPDATE_VMSA", packet(DATA, 0x1000)),
        ("RECEIVE_FINISH", handle()),
        ("DBG_DECRYPT", dbg(DATA, OUT, 16)),
        ("DBG_ENCRYPT", dbg(OUT, DATA, 16)),
    ]
}

#[test]
fn commands_need_a_guest() {
    for (command, buffer) in commands() {
        assert_eq!(Lab::new().status(command, &buffer), InvalidPlatformState, "{command}: UNINIT");
        assert_eq!(initialised().status(command, &buffer), InvalidPlatformState, "{command}: INIT");
        for wrong in [0, HANDLE + 1, u32::MAX] {
            let status = activated(0).status(command, &buffer.clone().u32(0, wrong));
            assert_eq!(status, InvalidGuest, "{command}: handle {wrong:#x}");
        }
    }
    for command in ["LAUNCH_START", "RECEIVE_START"] {
        assert_eq!(Lab::new().status(command, &launch_start(0)), InvalidPlatformState, "{command}");
    }
}

#[test]
fn start_checks_the_policy() {
    let without_es: fn() -> Lab = || {
        let mut lab = Lab::new();
        lab.ok("INIT", &buf(20));
        lab
    };
    let start =
        |what, policy, status| row(what, initialised, "LAUNCH_START", launch_start(policy), status);
    check(vec![
        start("nothing asked for", 0, Success),
        start("all flags", 0x3f, Success),
        start("this API", 55 << 24 | 1 << 16, Success),
        start("a newer minor", 56 << 24 | 1 << 16, PolicyFailure),
        start("a newer major", 2 << 16, PolicyFailure),
        start("a reserved bit", 1 << 6, InvalidParam),
        row("reserved", initialised, "LAUNCH_START", launch_start(0).u32(20, 1), InvalidParam),
        row("ES not initialised", without_es, "LAUNCH_START", launch_start(ES), PolicyFailure),
    ]);
}

#[test]
fn keys_are_shared_between_guests_that_allow_it() {
    let other = |policy| launch_start(policy).u32(0, HANDLE);
    let no_sharing: fn() -> Lab = || started(NO_KEY_SHARING);
    check(vec![
        row("no such guest", || started(0), "LAUNCH_START", other(0).u32(0, 2), InvalidGuest),
        row("another policy", || started(0), "LAUNCH_START", other(ES), PolicyFailure),
        row("not allowed", no_sharing, "LAUNCH_START", other(NO_KEY_SHARING), PolicyFailure),
        row("with a session", || started(0), "LAUNCH_START", other(0).u64(24, OUT), InvalidParam),
        row("allowed", || started(0), "LAUNCH_START", other(0), Success),
    ]);
}

#[test]
fn asids_are_those_of_the_kind_of_guest() {
    let es: fn() -> Lab = || started(ES);
    let sev: fn() -> Lab = || started(0);
    let unflushed: fn() -> Lab = || {
        let mut lab = Lab::new();
        lab.ok("INIT", &buf(20));
        lab.ok("LAUNCH_START", &launch_start(0));
        lab
    };
    let owned: fn() -> Lab = || {
        let mut lab = started(0);
        let second = lab.ok("LAUNCH_START", &launch_start(0)).output.unwrap();
        assert_eq!(second[..4], 2u32.to_le_bytes());
        lab.ok("ACTIVATE", &activate(SEV_ASID).u32(0, 2));
        lab
    };
    let try_asid = |what, lab, asid, status| row(what, lab, "ACTIVATE", activate(asid), status);
    check(vec![
        try_asid("0", sev, 0, InvalidAsid),
        try_asid("one of SEV-ES", sev, ES_ASID, InvalidAsid),
        try_asid("the first", sev, SEV_ASID, Success),
        try_asid("the last", sev, 100, Success),
        try_asid("beyond the last", sev, 101, InvalidAsid),
        try_asid("ES: 0", es, 0, InvalidAsid),
        try_asid("ES: the first", es, 1, Success),
        try_asid("ES: the last", es, ES_ASID, Success),
        try_asid("ES: one of SEV", es, SEV_ASID, InvalidAsid),
        try_asid("twice", || activated(0), SEV_ASID + 1, Active),
        try_asid("another guest's", owned, SEV_ASID, AsidOwned),
        try_asid("no DF_FLUSH since INIT", unflushed, SEV_ASID, DfFlushRequired),
    ]);
}

/// ACTIVATE_EX: on some CPUs, whose APIC ids are in a list.
#[test]
fn a_list_of_cpus_is_read() {
    let list = |asid: u32| buf(24).u32(0, 24).u32(4, HANDLE).u32(8, asid).u32(12, 2).u64(16, PAGE);
    let try_list = |what, buffer, status| row(what, || started(0), "ACTIVATE_EX", buffer, status);
    check(vec![
        try_list("two CPUs", list(SEV_ASID), Success),
        try_list("wrong length", list(SEV_ASID).u32(0, 20), InvalidLen),
        try_list("no such guest", list(SEV_ASID).u32(4, 2), InvalidGuest),
        try_list("one of SEV-ES", list(ES_ASID), InvalidAsid),
        try_list("beyond RAM", list(SEV_ASID).u64(16, RAM - 4), InvalidAddress),
    ]);
    let mut lab = started(0);
    lab.ok("ACTIVATE_EX", &list(SEV_ASID));
    assert_eq!(lab.machine.asids.borrow().get(&SEV_ASID), Some(&false));
    assert_eq!(lab.status("ACTIVATE", &activate(SEV_ASID)), Active);
}

/// DEACTIVATE, then WBINVD everywhere, then DF_FLUSH: only then does the ASID have another owner.
#[test]
fn an_asid_is_flushed_between_owners() {
    let mut lab = activated(0);
    assert_eq!(lab.status("DECOMMISSION", &handle()), Active);
    assert_eq!(lab.machine.asids.borrow().get(&SEV_ASID), Some(&false));
    lab.ok("DEACTIVATE", &handle());
    assert!(lab.machine.asids.borrow().is_empty(), "no CPU runs it any more");
    assert_eq!(lab.status("DEACTIVATE", &handle()), Inactive);
    lab.ok("DECOMMISSION", &handle());
    assert_eq!(lab.status("DECOMMISSION", &handle()), InvalidPlatformState, "no guest is left");
    lab.ok("LAUNCH_START", &launch_start(0));
    let again = activate(SEV_ASID).u32(0, 2);
    assert_eq!(lab.status("ACTIVATE", &again), DfFlushRequired);
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), WbinvdRequired);
    lab.machine.wbinvd();
    lab.ok("DF_FLUSH", &buf(0));
    lab.ok("ACTIVATE", &again);
}

/// A guest with encrypted registers and an SNP guest draw from the same ASIDs.
#[test]
fn an_snp_guest_keeps_its_asid() {
    let mut lab = Lab::launching(0x30000);
    lab.start_sev_beside_snp();
    lab.ok("LAUNCH_START", &launch_start(ES));
    assert_eq!(lab.status("ACTIVATE", &activate(3)), AsidOwned);
    lab.ok("ACTIVATE", &activate(4));
}

#[test]
fn launch_commands_check_state_and_memory() {
    let (data, vmsa) = ("LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_VMSA");
    let sev: fn() -> Lab = || activated(0);
    let es: fn() -> Lab = || activated(ES);
    check(vec![
        row("16 bytes", sev, data, region(DATA + 16, 16), Success),
        row("not activated", || started(0), data, region(DATA, 16), Inactive),
        row("measured", measured, data, region(DATA, 16), InvalidGuestState),
        row("running", running, data, region(DATA, 16), InvalidGuestState),
        row("nothing", sev, data, region(DATA, 0), InvalidLen),
        row("15 bytes", sev, data, region(DATA, 15), InvalidLen),
        row("misaligned", sev, data, region(DATA + 8, 16), InvalidAddress),
        row("beyond RAM", sev, data, region(RAM - 16, 32), InvalidAddress),
        row("reserved", sev, data, region(DATA, 16).u32(4, 1), InvalidParam),
        row("with ES", es, vmsa, region(DATA, 0x1000), Success),
        row("without ES", sev, vmsa, region(DATA, 0x1000), PolicyFailure),
        row("not activated", || started(ES), vmsa, region(DATA, 0x1000), Inactive),
        row("half a page", es, vmsa, region(DATA, 0x800), InvalidLen),
        row("two pages", es, vmsa, region(DATA, 0x2000), InvalidLen),
        row("misaligned", es, vmsa, region(DATA + 16, 0x1000), InvalidAddress),
        row("reserved", es, vmsa, region(DATA, 0x1000).u32(4, 1), InvalidParam),
        row("twice", measured, "LAUNCH_MEASURE", region(OUT, 48), InvalidGuestState),
        row("running", running, "LAUNCH_MEASURE", region(OUT, 48), InvalidGuestState),
        row("reserved", sev, "LAUNCH_MEASURE", region(OUT, 48).u32(4, 1), InvalidParam),
        row("beyond RAM", sev, "LAUNCH_MEASURE", region(RAM - 16, 48), InvalidAddress),
        row("not measured", sev, "LAUNCH_FINISH", handle(), Success),
        row("measured", measured, "LAUNCH_FINISH", handle(), Success),
        row("running", running, "LAUNCH_FINISH", handle(), InvalidGuestState),
    ]);
}

#[test]
fn the_length_of_a_measurement_is_answered() {
    for query in [region(0, 0), region(OUT, 47), region(0, 48)] {
        let mut lab = activated(0);
        let outcome = lab.run("LAUNCH_MEASURE", &query);
        assert_eq!(outcome.status, InvalidLen);
        let mut answer = query.0;
        answer[16..].copy_from_slice(&48u32.to_le_bytes());
        assert_eq!(outcome.output.unwrap_or(answer.clone()), answer);
        assert_eq!(lab.machine.peek(OUT, 48), [0; 48], "nothing is written");
        lab.ok("LAUNCH_MEASURE", &region(OUT, 48));
    }
}

#[test]
fn status_follows_the_launch() {
    let status = |lab: &mut Lab| {
        let answer = lab.ok("GUEST_STATUS", &buf(13).u32(0, HANDLE)).output.unwrap();
        let word = |at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
        (word(4), word(8), answer[12])
    };
    assert_eq!(status(&mut started(ES)), (ES, 0, 1));
    assert_eq!(status(&mut activated(ES)), (ES, ES_ASID, 1));
    assert_eq!(status(&mut measured()), (0, SEV_ASID, 2));
    assert_eq!(status(&mut running()), (0, SEV_ASID, 3));
}

#[test]
fn the_platform_works_while_there_are_guests() {
    let status = |lab: &mut Lab| {
        let answer = lab.ok("PLATFORM_STATUS", &buf(12)).output.unwrap();
        (answer[2], answer[8])
    };
    let mut lab = activated(0);
    lab.ok("LAUNCH_START", &launch_start(0));
    assert_eq!(status(&mut lab), (2, 2), "WORKING, two guests");
    assert_eq!(lab.status("PEK_GEN", &buf(0)), InvalidPlatformState);
    assert_eq!(lab.status("PEK_CERT_IMPORT", &buf(28)), InvalidPlatformState);
    lab.ok("PDH_GEN", &buf(0));
    lab.ok("SHUTDOWN", &buf(0));
    assert_eq!(status(&mut lab), (0, 0), "UNINIT");
    lab.ok("INIT", &buf(20));
    assert_eq!(status(&mut lab), (1, 0), "INIT");
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), WbinvdRequired, "the ASID had an owner");
    let next = lab.ok("LAUNCH_START", &launch_start(0)).output.unwrap();
    assert_eq!(next[..4], 3u32.to_le_bytes(), "handles are not used again");
}

#[test]
fn the_host_looks_in_if_the_policy_allows_it() {
    let debug: fn() -> Lab = || activated(0);
    let rows = |command| {
        vec![
            row("while launching", debug, command, dbg(DATA, OUT, 16), Success),
            row("running", running, command, dbg(DATA + 16, OUT + 32, 48), Success),
            row("not allowed", || activated(NO_DEBUG), command, dbg(DATA, OUT, 16), PolicyFailure),
            row("not activated", || started(0), command, dbg(DATA, OUT, 16), Inactive),
            row("reserved", debug, command, dbg(DATA, OUT, 16).u32(4, 1), InvalidParam),
            row("nothing", debug, command, dbg(DATA, OUT, 0), InvalidLen),
            row("15 bytes", debug, command, dbg(DATA, OUT, 15), InvalidLen),
            row("source misaligned", debug, command, dbg(DATA + 8, OUT, 16), InvalidAddress),
            row("target misaligned", debug, command, dbg(DATA, OUT + 8, 16), InvalidAddress),
            row("source beyond RAM", debug, command, dbg(RAM, OUT, 16), InvalidAddress),
            row("target beyond RAM", debug, command, dbg(DATA, RAM, 16), InvalidAddress),
        ]
    };
    check(rows("DBG_DECRYPT"));
    check(rows("DBG_ENCRYPT"));
    let mut lab = running();
    lab.machine.poke(OUT, &[0; 48]);
    lab.machine.poke(DATA, b"plain text of 16");
    lab.ok("DBG_DECRYPT", &dbg(DATA, OUT, 16));
    assert_eq!(lab.machine.peek(OUT, 32), b"plain text of 16\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    lab.machine.poke(OUT, b"PLAIN TEXT OF 16");
    lab.ok("DBG_ENCRYPT", &dbg(OUT, DATA, 16));
    assert_eq!(lab.machine.peek(DATA, 16), b"PLAIN TEXT OF 16");
}

/// While SNP is up, what firmware writes must be Firmware pages, guests' memory included.
#[test]
fn memory_belongs_to_firmware_while_snp_is_up() {
    fn lab() -> Lab {
        let mut lab = Lab::snp();
        lab.start_sev_beside_snp();
        lab.ok("LAUNCH_START", &launch_start(ES));
        lab.ok("ACTIVATE", &activate(ES_ASID));
        lab
    }
    fn with_page(page: u64) -> Lab {
        let lab = lab();
        lab.firmware(page, 1);
        lab
    }
    let (data, vmsa) = ("LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_VMSA");
    let one: fn() -> Lab = || with_page(DATA);
    let out: fn() -> Lab = || with_page(OUT);
    check(vec![
        row("the host's page", lab, data, region(DATA, 16), InvalidPageState),
        row("Firmware", one, data, region(DATA, 0x1000), Success),
        row("the second page is the host's", one, data, region(DATA, 0x1010), InvalidPageState),
        row("the host's page", lab, vmsa, region(DATA, 0x1000), InvalidPageState),
        row("Firmware", one, vmsa, region(DATA, 0x1000), Success),
        row("the host's page", lab, "LAUNCH_MEASURE", region(OUT, 48), InvalidPageState),
        row("Firmware", out, "LAUNCH_MEASURE", region(OUT, 48), Success),
        row("the host's page", lab, "DBG_DECRYPT", dbg(DATA, OUT, 16), InvalidPageState),
        row("Firmware", out, "DBG_DECRYPT", dbg(DATA, OUT, 16), Success),
        row("the host's page", lab, "DBG_ENCRYPT", dbg(OUT, DATA, 16), InvalidPageState),
        row("Firmware", one, "DBG_ENCRYPT", dbg(OUT, DATA, 16), Success),
    ]);
}

/// An owner's side by virtee/sev: keys wrapped for our PDH, and what it makes of our measurement.
pub(super) struct Owner {
    pub(super) session: Session<sev::session::Initialized>,
    start: Start,
}

pub(super) const DH_CERT: u64 = 0x7_0000;
pub(super) const SESSION: u64 = 0x7_1000;

impl Owner {
    pub(super) fn new(lab: &mut Lab, policy: u32) -> Owner {
        lab.ok(
            "PDH_CERT_EXPORT",
            &buf(28).u64(0, OUT).u32(8, 2084).u64(16, OUT + 0x1000).u32(24, 6252),
        );
        let pdh = Certificate::decode(&mut lab.machine.peek(OUT, 2084).as_slice(), ()).unwrap();
        let session = Session::try_from(Policy::from(policy)).unwrap();
        let start = session.start_pdh(pdh).unwrap();
        let mut cert = Vec::new();
        start.cert.encode(&mut cert, ()).unwrap();
        lab.machine.poke(DH_CERT, &cert);
        let s = &start.session;
        let parts: [&[u8]; 5] = [&s.nonce, &s.wrap_tk, &s.wrap_iv, &s.wrap_mac, &s.policy_mac];
        lab.machine.poke(SESSION, &parts.concat());
        Owner { session, start }
    }

    pub(super) fn buffer(policy: u32) -> Buf {
        launch_start(policy).u64(8, DH_CERT).u32(16, 2084).u64(24, SESSION).u32(32, 128)
    }
}

#[test]
fn an_owner_verifies_the_measurement() {
    let policy = ES;
    let mut lab = initialised();
    let owner = Owner::new(&mut lab, policy);
    assert_eq!(owner.start.policy, Policy::from(policy));
    lab.ok("LAUNCH_START", &Owner::buffer(policy));
    lab.ok("ACTIVATE", &activate(ES_ASID));
    lab.machine.poke(DATA, b"firmware of the guest, and more.");
    lab.machine.poke(DATA + 0x1000, &[7; 0x1000]);
    lab.ok("LAUNCH_UPDATE_DATA", &region(DATA, 32));
    lab.ok("LAUNCH_UPDATE_VMSA", &region(DATA + 0x1000, 0x1000));
    lab.ok("LAUNCH_MEASURE", &region(OUT, 48));
    let answer = lab.machine.peek(OUT, 48);
    let measurement = Measurement {
        measure: answer[..32].try_into().unwrap(),
        mnonce: answer[32..].try_into().unwrap(),
    };
    let version = Version { major: 1, minor: 55 };
    let build = Build { version, build: 21 };
    let digest =
        |data: &[u8]| Sha256::new().chain_update(data).chain_update([7; 0x1000]).finalize();
    let good = digest(b"firmware of the guest, and more.");
    assert!(owner.session.verify(&good, build, measurement).is_ok());
    let again = |lab: &mut Lab| Owner::new(lab, policy).session;
    let bad = digest(b"firmware of the guest, and less.");
    assert!(again(&mut lab).verify(&bad, build, measurement).is_err(), "other keys and data");
}

#[test]
fn a_session_that_is_not_the_owners_is_refused() {
    type Change = fn(&mut Lab);
    fn flip(lab: &mut Lab, at: u64) {
        let byte = lab.machine.peek(at, 1)[0];
        lab.machine.poke(at, &[byte ^ 1]);
    }
    let rows: [(&str, Change, Buf, Status); 9] = [
        ("as it was made", |_| {}, Owner::buffer(0), Success),
        ("another policy", |_| {}, Owner::buffer(1), BadMeasurement),
        ("nonce", |lab| flip(lab, SESSION), Owner::buffer(0), BadMeasurement),
        ("wrapped keys", |lab| flip(lab, SESSION + 16), Owner::buffer(0), BadMeasurement),
        ("IV", |lab| flip(lab, SESSION + 48), Owner::buffer(0), BadMeasurement),
        (
            "a new PDH",
            |lab| lab.ok("PDH_GEN", &buf(0)).input.clear(),
            Owner::buffer(0),
            BadMeasurement,
        ),
        (
            "no certificate of a DH key",
            |lab| flip(lab, DH_CERT + 8),
            Owner::buffer(0),
            InvalidCertificate,
        ),
        ("short certificate", |_| {}, Owner::buffer(0).u32(16, 2083), InvalidLen),
        ("short session", |_| {}, Owner::buffer(0).u32(32, 127), InvalidLen),
    ];
    for (what, change, buffer, status) in rows {
        let mut lab = initialised();
        Owner::new(&mut lab, 0);
        change(&mut lab);
        assert_eq!(lab.status("LAUNCH_START", &buffer), status, "{what}");
    }
}
