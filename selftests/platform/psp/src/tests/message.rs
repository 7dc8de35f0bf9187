// SPDX-License-Identifier: GPL-2.0
//! Guest requests: the envelope, its carrier, and what is not a report or a key.

use rmp::{RmpUpdate, State};

use super::inside::*;
use super::lab::*;
use crate::Status;

fn request() -> Vec<u8> {
    report_request([7; 64], 0, 0)
}

/// A message that firmware must not take changes nothing: not the response page, not its state, not
/// the counters, so that the next right one is answered.
fn refused(inside: &mut Inside, page: &[u8], status: Status, what: &str) {
    let mark = [0xa5; 4096];
    inside.lab.machine.poke(RESPONSE, &mark);
    assert_eq!(inside.carry(page).status, status, "{what}");
    assert_eq!(inside.lab.machine.peek(RESPONSE, 4096), mark, "{what}: the response page");
    assert_eq!(inside.lab.machine.state(RESPONSE), Some(State::Firmware), "{what}");
    let next = inside.message(MSG_REPORT_REQ, 0, &request());
    assert!(inside.ask(&next).is_ok(), "{what}: the next right message");
}

#[test]
fn the_header_is_that_of_a_real_guest() {
    // A dump that others published (AMDESE/linux-svsm, issue 22), from 0x30 on.
    let message = Message::new(1, MSG_REPORT_REQ, 1, 0, &request());
    assert_eq!(message.header[0x30..0x38], [0x01, 0x01, 0x60, 0x00, 0x05, 0x01, 0x60, 0x00]);
}

#[test]
fn every_key_counts_by_itself() {
    let mut inside = Launch::plain().run();
    for vmpck in [0u8, 3, 0, 1, 3, 3, 2, 0] {
        let vmpl = u32::from(vmpck);
        let (status, _) = inside.answer(MSG_REPORT_REQ, vmpck, &report_request([0; 64], vmpl, 0));
        assert_eq!(status, 0, "VMPCK{vmpck}");
    }
    assert_eq!(inside.sequence, [6, 2, 2, 6]);
}

#[test]
fn spoiled_messages_are_refused_and_change_nothing() {
    use Status::*;
    type Spoil = fn(&mut [u8]);
    let rows: &[(&str, Spoil, Status)] = &[
        ("tag", |page| page[0] ^= 1, BadMeasurement),
        ("end of the tag", |page| page[15] ^= 1, BadMeasurement),
        ("first byte of the payload", |page| page[0x60] ^= 1, BadMeasurement),
        ("last byte of the payload", |page| page[0xbf] ^= 1, BadMeasurement),
        ("type", |page| page[0x34] = 3, BadMeasurement),
        ("message version", |page| page[0x35] = 2, BadMeasurement),
        ("shorter", |page| page[0x36] -= 1, BadMeasurement),
        ("longer", |page| page[0x36] += 1, BadMeasurement),
        ("another key's", |page| page[0x3c] = 1, BadMeasurement),
        ("nothing sealed", |page| page[0x60..].fill(0), BadMeasurement),
        ("sequence number 0", |page| page[0x20] = 0, InvalidParam),
        ("sequence number 2", |page| page[0x20] = 2, InvalidParam),
        ("sequence number 3", |page| page[0x20] = 3, InvalidParam),
        ("sequence number 2^63 + 1", |page| page[0x27] = 0x80, InvalidParam),
        ("reserved behind it", |page| page[0x28] = 1, InvalidParam),
        ("algorithm 0", |page| page[0x30] = 0, InvalidParam),
        ("algorithm 2", |page| page[0x30] = 2, InvalidParam),
        ("header version", |page| page[0x31] = 2, InvalidParam),
        ("header size", |page| page[0x32] = 0x61, InvalidParam),
        (
            "beyond the page",
            |page| page[0x36..0x38].copy_from_slice(&4001u16.to_le_bytes()),
            InvalidParam,
        ),
        ("reserved word", |page| page[0x38] = 1, InvalidParam),
        ("no such key", |page| page[0x3c] = 4, InvalidParam),
        ("reserved tail", |page| page[0x5f] = 1, InvalidParam),
        ("all zero", |page| page.fill(0), InvalidParam),
        ("all ones", |page| page.fill(0xff), InvalidParam),
    ];
    let mut inside = Launch::plain().run();
    for (what, spoil, status) in rows {
        // Small numbers, so that "sequence number 3" means one that is to come.
        inside.lab.psp.snp.running.as_mut().unwrap().guests.get_mut(&GCTX).unwrap().messages[0] = 0;
        inside.sequence[0] = 0;
        let mut page = inside.message(MSG_REPORT_REQ, 0, &request()).seal(&inside.keys[0]);
        spoil(&mut page);
        refused(&mut inside, &page, *status, what);
    }
}

#[test]
fn an_authentic_message_that_nobody_knows_is_refused() {
    let mut inside = Launch::plain().run();
    let key = inside.keys[0];
    for (what, kind, version, payload) in [
        ("type 0", 0, 1, request()),
        ("an answer's type", MSG_REPORT_REQ + 1, 1, request()),
        ("EXPORT", 7, 1, request()),
        ("TSC_INFO's answer", 18, 1, request()),
        ("type 255", 255, 1, request()),
        ("version 0", MSG_REPORT_REQ, 0, request()),
        ("version 2", MSG_REPORT_REQ, 2, request()),
        ("too short", MSG_REPORT_REQ, 1, request()[..0x5f].to_vec()),
        ("too long", MSG_REPORT_REQ, 1, vec![0; 0x61]),
        ("empty", MSG_REPORT_REQ, 1, vec![]),
        ("a page's worth", MSG_REPORT_REQ, 1, vec![0; 4000]),
        ("KEY in version 2, too short", MSG_KEY_REQ, 2, vec![0; 0x20]),
    ] {
        let message = Message::new(inside.sequence[0] + 1, kind, version, 0, &payload);
        refused(&mut inside, &message.seal(&key), Status::InvalidParam, what);
    }
}

#[test]
fn replayed_messages_are_refused() {
    let mut inside = Launch::plain().run();
    let first = inside.message(MSG_REPORT_REQ, 0, &request());
    let answered = inside.ask(&first).unwrap();
    assert!(!answered.is_empty());
    let key = inside.keys[0];
    refused(&mut inside, &first.seal(&key), Status::InvalidParam, "a request once more");
    let answer = inside.lab.machine.peek(RESPONSE, 4096);
    refused(&mut inside, &answer, Status::InvalidParam, "the answer as a request");
}

#[test]
fn another_guests_messages_are_refused() {
    let other = Launch { lab: second_context, ..Launch::plain() }.run();
    let mut inside = Launch::plain().run();
    assert_ne!(inside.keys, other.keys);
    let page = inside.message(MSG_REPORT_REQ, 0, &request()).seal(&other.keys[0]);
    refused(&mut inside, &page, Status::BadMeasurement, "another guest's key");
}

/// A context that is the platform's second.
fn second_context() -> Lab {
    let mut lab = Lab::context();
    lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
    lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
    lab
}

#[test]
fn counters_do_not_wrap() {
    let mut inside = Launch::plain().run();
    let mut set = |done: u64| {
        let running = inside.lab.psp.snp.running.as_mut().unwrap();
        running.guests.get_mut(&GCTX).unwrap().messages[0] = done;
        inside.sequence[0] = done;
        let message = inside.message(MSG_REPORT_REQ, 0, &request());
        inside.ask(&message).map(drop)
    };
    assert_eq!(set(u64::MAX - 2), Ok(()), "the last request that has an answer");
    assert_eq!(set(u64::MAX - 1), Err(Status::AeadOflow));
}

#[test]
fn guest_and_pages_must_be_in_the_right_state() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "SNP_GUEST_REQUEST", buffer, status };
    fn sealed() -> Inside {
        let inside = Launch::plain().run();
        let page = inside.message(MSG_REPORT_REQ, 0, &request()).seal(&inside.keys[0]);
        inside.lab.machine.poke(REQUEST, &page);
        inside
    }
    let good: fn() -> Lab = || sealed().lab;
    // The same message, authentic as it is, in a page of this or that kind.
    fn in_page(update: RmpUpdate) -> Lab {
        let lab = sealed().lab;
        assert_eq!(lab.machine.rmp().rmpupdate(REQUEST, &update), rmp::Code::Success);
        lab
    }
    fn guests(immutable: bool) -> RmpUpdate {
        RmpUpdate { assigned: true, immutable, asid: 3, gpa: 0xa000, large: false }
    }
    let reclaim: fn() -> Lab = || {
        let mut lab = sealed().lab;
        lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, RESPONSE));
        lab
    };
    let launching: fn() -> Lab = || {
        let lab = Lab::launching(POLICY);
        lab.firmware(RESPONSE, 1);
        lab
    };
    let context: fn() -> Lab = || {
        let lab = Lab::context();
        lab.firmware(RESPONSE, 1);
        lab
    };
    let firmware = RmpUpdate { assigned: true, immutable: true, ..RmpUpdate::default() };
    assert_eq!(in_page(firmware).status("SNP_GUEST_REQUEST", &guest_request()), Success);
    let ask = guest_request;
    check(vec![
        row("right", good, ask(), Success),
        row("before start", context, ask(), InvalidGuestState),
        row("during launch", launching, ask(), InvalidGuestState),
        row("no context", good, ask().u64(0, PAGE), InvalidGuest),
        row("no context, and nothing else right", Lab::snp, buf(24), InvalidGuest),
        row("request misaligned", good, ask().u64(8, REQUEST + 16), InvalidAddress),
        row("request beyond RAM", good, ask().u64(8, RAM), InvalidAddress),
        row("request in a pre-guest page", || in_page(guests(true)), ask(), InvalidPageState),
        row("request in a guest's page", || in_page(guests(false)), ask(), InvalidPageState),
        row("request in a validated page", good, ask().u64(8, PAGE), InvalidPageState),
        row("request in the context", good, ask().u64(8, GCTX), InvalidPageState),
        row("request in the table", good, ask().u64(8, RMP_BASE), InvalidPageState),
        row("response misaligned", good, ask().u64(16, RESPONSE + 16), InvalidAddress),
        row("response beyond RAM", good, ask().u64(16, RAM), InvalidAddress),
        row("response in a hypervisor page", good, ask().u64(16, LIST), InvalidPageState),
        row("response in a page without entry", good, ask().u64(16, COVERED), InvalidPageState),
        row("response in a reclaimed page", reclaim, ask(), InvalidPageState),
        row("response in a guest's page", good, ask().u64(16, PAGE), InvalidPageState),
        row("response in the context", good, ask().u64(16, GCTX), InvalidPageState),
        row("response in the table", good, ask().u64(16, RMP_BASE), InvalidPageState),
    ]);
    let mut inside = sealed();
    inside.lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
    assert_eq!(inside.lab.status("SNP_GUEST_REQUEST", &ask()), InvalidGuest, "after its end");
}

#[test]
fn tsc_info_is_for_secure_tsc() {
    const SECURE_TSC: u64 = 1 << 9;
    let zeros = [0; 0x80];
    let (status, answer) = Launch::plain().run().answer(MSG_TSC_INFO_REQ, 0, &zeros);
    assert_eq!((status, answer), (0x16, vec![0; 0x7c]), "a guest without it");
    for (khz, scale) in
        [(0, 1u64 << 32), (2_450_000, 1 << 32), (4_900_000, 2 << 32), (1_225_000, 1 << 31)]
    {
        let start = Launch::plain().start.u32(28, khz);
        let mut inside = Launch { start, features: 1 | SECURE_TSC, ..Launch::plain() }.run();
        let (status, answer) = inside.answer(MSG_TSC_INFO_REQ, 0, &zeros);
        assert_eq!(status, 0, "{khz} kHz");
        assert_eq!(answer[4..12], scale.to_le_bytes(), "{khz} kHz: scale");
        assert_eq!((answer[12..].to_vec(), answer.len()), (vec![0; 0x70], 0x7c), "{khz} kHz");
        let mut reserved = zeros;
        reserved[0x7f] = 1;
        assert_eq!(inside.answer(MSG_TSC_INFO_REQ, 0, &reserved).0, 0x16, "reserved");
    }
}

#[test]
fn cpuid_tables_come_back_or_are_malformed() {
    let mut inside = Launch::plain().run();
    let mut table = vec![0; 16 + 64 * 48];
    table[0] = 2;
    table[16..20].copy_from_slice(&0x8000_001fu32.to_le_bytes());
    table[48 + 16 + 24] = 0x5a;
    let (status, answer) = inside.answer(MSG_CPUID_REQ, 0, &table);
    assert_eq!(status, 0);
    assert_eq!(answer[..4], [2, 0, 0, 0], "count");
    assert_eq!(answer[4..12], [0; 8]);
    assert_eq!(answer[12..], table[16..], "entries");
    for (what, at, value) in [("65 entries", 0, 65), ("reserved", 4, 1), ("of an entry", 56, 1)] {
        let mut bad = table.clone();
        bad[at] = value;
        assert_eq!(inside.answer(MSG_CPUID_REQ, 0, &bad), (0x16, vec![0; 0xc0c]), "{what}");
    }
}
