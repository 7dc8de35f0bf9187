// SPDX-License-Identifier: GPL-2.0
//! A guest without SNP goes from one platform to another: two processors, and a host on each.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::{encrypt, Cipher};

use super::guest::*;
use super::lab::*;
use crate::Status::*;
use crate::{Config, Status};

const NO_SEND: u32 = 1 << 3;
const DOMAIN: u32 = 1 << 4;
const SEV: u32 = 1 << 5;
/// The receiver's certificates, at the sender's.
const PDH: u64 = 0x9_0000;
const CHAIN: u64 = 0x9_1000;

fn of_seed(seed: u64) -> Lab {
    let mut lab = Lab::with(Config { seed, ..Config::MILAN });
    lab.start_sev(1 << 20);
    lab
}

fn asid(policy: u32) -> u32 {
    [SEV_ASID, ES_ASID][usize::from(policy & ES != 0)]
}

/// Copies what a platform's host gets of its certificates to another host's machine.
fn certificates(from: &mut Lab, to: &Lab) {
    from.ok("PDH_CERT_EXPORT", &buf(28).u64(0, OUT).u32(8, 2084).u64(16, PAGE).u32(24, 6252));
    to.machine.poke(PDH, &from.machine.peek(OUT, 2084));
    to.machine.poke(CHAIN, &from.machine.peek(PAGE, 6252));
}

fn send_start() -> Buf {
    let certificates = buf(68).u32(0, HANDLE).u64(8, PDH).u32(16, 2084);
    certificates.u64(24, CHAIN).u32(32, 6252).u64(56, SESSION).u32(64, 128)
}

/// A guest that runs on one platform, and another platform whose certificates are there.
fn two_platforms(policy: u32) -> (Lab, Lab) {
    let (mut sender, mut receiver) = (of_seed(1), of_seed(2));
    certificates(&mut receiver, &sender);
    sender.ok("LAUNCH_START", &launch_start(policy));
    sender.ok("ACTIVATE", &activate(asid(policy)));
    sender.ok("LAUNCH_FINISH", &handle());
    (sender, receiver)
}

/// On the way.
fn sending(policy: u32) -> (Lab, Lab) {
    let (mut sender, receiver) = two_platforms(policy);
    let outcome = sender.ok("SEND_START", &send_start());
    let answer = outcome.output.unwrap_or(outcome.input);
    assert_eq!(answer[4..8], policy.to_le_bytes(), "the policy is answered");
    (sender, receiver)
}

fn receive_start(policy: u32) -> Buf {
    launch_start(policy).u64(8, PDH).u32(16, 2084).u64(24, SESSION).u32(32, 128)
}

/// On both sides: the session has been carried over, and the sender's PDH.
fn under_way(policy: u32) -> (Lab, Lab) {
    let (mut sender, mut receiver) = sending(policy);
    certificates(&mut sender, &receiver);
    receiver.machine.poke(SESSION, &sender.machine.peek(SESSION, 128));
    receiver.ok("RECEIVE_START", &receive_start(policy));
    receiver.ok("ACTIVATE", &activate(asid(policy)));
    (sender, receiver)
}

/// Carries a packet over.
fn carry(sender: &Lab, receiver: &Lab, len: usize) {
    receiver.machine.poke(HEADER, &sender.machine.peek(HEADER, 52));
    receiver.machine.poke(PACKET, &sender.machine.peek(PACKET, len));
}

fn state(lab: &mut Lab) -> u8 {
    lab.ok("GUEST_STATUS", &buf(13).u32(0, HANDLE)).output.unwrap()[12]
}

#[test]
fn a_guest_arrives_on_another_platform() {
    let (mut sender, mut receiver) = under_way(ES);
    assert_eq!((state(&mut sender), state(&mut receiver)), (4, 5), "SUPDATE and RUPDATE");
    sender.machine.poke(DATA, b"memory of a guest");
    sender.machine.poke(DATA + 0x1000, &[9; 0x1000]);

    sender.ok("SEND_UPDATE_DATA", &packet(DATA, 32));
    assert_ne!(sender.machine.peek(PACKET, 17), b"memory of a guest", "encrypted");
    carry(&sender, &receiver, 32);
    receiver.ok("RECEIVE_UPDATE_DATA", &packet(DATA + 0x100, 32));
    assert_eq!(receiver.machine.peek(DATA + 0x100, 17), b"memory of a guest");

    sender.ok("SEND_UPDATE_VMSA", &packet(DATA + 0x1000, 0x1000));
    carry(&sender, &receiver, 0x1000);
    receiver.ok("RECEIVE_UPDATE_VMSA", &packet(DATA + 0x1000, 0x1000));
    assert_eq!(receiver.machine.peek(DATA + 0x1000, 0x1000), [9; 0x1000]);

    sender.ok("SEND_FINISH", &handle());
    receiver.ok("RECEIVE_FINISH", &handle());
    assert_eq!((state(&mut sender), state(&mut receiver)), (6, 3), "SENT and RUNNING");
    for command in ["SEND_START", "SEND_CANCEL", "SEND_FINISH", "LAUNCH_FINISH"] {
        let buffer = if command == "SEND_START" { send_start() } else { handle() };
        assert_eq!(sender.status(command, &buffer), InvalidGuestState, "{command} once sent");
    }
    sender.ok("DEACTIVATE", &handle());
    sender.ok("DECOMMISSION", &handle());
    // And further on, to a third one. What it was launched from is not known any more.
    let report = buf(36).u32(0, HANDLE).u64(8, OUT).u32(32, 208);
    assert_eq!(receiver.status("ATTESTATION_REPORT", &report), InvalidGuestState);
    certificates(&mut of_seed(3), &receiver);
    receiver.ok("SEND_START", &send_start());
}

/// A packet is of one kind, of one session, and nobody changes it on the way.
#[test]
fn what_was_not_sent_does_not_arrive() {
    fn flip(lab: &Lab, at: u64) {
        let byte = lab.machine.peek(at, 1)[0];
        lab.machine.poke(at, &[byte ^ 1]);
    }
    type Change = fn(&mut Lab);
    let rows: [(&str, Change, &str, Status); 6] = [
        ("as it was sent", |_| {}, "RECEIVE_UPDATE_DATA", Success),
        ("as a VMSA", |_| {}, "RECEIVE_UPDATE_VMSA", BadMeasurement),
        ("data", |lab| flip(lab, PACKET), "RECEIVE_UPDATE_DATA", BadMeasurement),
        ("IV", |lab| flip(lab, HEADER + 19), "RECEIVE_UPDATE_DATA", BadMeasurement),
        ("tag", |lab| flip(lab, HEADER + 20), "RECEIVE_UPDATE_DATA", BadMeasurement),
        (
            "complete",
            |lab| lab.ok("RECEIVE_FINISH", &handle()).input.clear(),
            "RECEIVE_UPDATE_DATA",
            InvalidGuestState,
        ),
    ];
    for (what, change, command, status) in rows {
        let (mut sender, mut receiver) = under_way(ES);
        sender.machine.poke(DATA, &[5; 0x1000]);
        sender.ok("SEND_UPDATE_DATA", &packet(DATA, 0x1000));
        carry(&sender, &receiver, 0x1000);
        change(&mut receiver);
        assert_eq!(receiver.status(command, &packet(DATA, 0x1000)), status, "{what}");
        let there = receiver.machine.peek(DATA, 0x1000) == [5; 0x1000];
        assert_eq!(there, status == Success, "{what}: the guest's memory");
    }
    let (mut sender, mut receiver) = under_way(0);
    sender.ok("SEND_UPDATE_DATA", &packet(DATA, 16));
    carry(&sender, &receiver, 16);
    sender.ok("SEND_CANCEL", &handle());
    certificates(&mut receiver, &sender);
    sender.ok("SEND_START", &send_start());
    sender.ok("SEND_UPDATE_DATA", &packet(DATA, 16));
    let first = receiver.machine.peek(HEADER, 52);
    carry(&sender, &receiver, 16);
    let status = receiver.status("RECEIVE_UPDATE_DATA", &packet(DATA, 16));
    assert_eq!(status, BadMeasurement, "another session's");
    assert_ne!(receiver.machine.peek(HEADER, 52), first);
    let mut third = of_seed(3);
    certificates(&mut sender, &third);
    third.machine.poke(SESSION, &sender.machine.peek(SESSION, 128));
    assert_eq!(third.status("RECEIVE_START", &receive_start(0)), BadMeasurement, "for another");
    assert_eq!(receiver.status("RECEIVE_START", &receive_start(1)), BadMeasurement, "policy");
    assert_eq!(receiver.status("RECEIVE_START", &receive_start(0).u64(24, 0)), InvalidParam);
    assert_eq!(receiver.status("RECEIVE_START", &receive_start(0).u32(32, 127)), InvalidLen);
}

/// What other people's cryptography makes of the format arrives, too.
#[test]
fn a_packet_by_openssl_is_taken() {
    let mut lab = initialised();
    let owner = Owner::new(&mut lab, ES);
    let (tek, tik) = (owner.session.tek.to_vec(), owner.session.tik.to_vec());
    lab.ok("RECEIVE_START", &Owner::buffer(ES));
    lab.ok("ACTIVATE", &activate(ES_ASID));
    let (iv, len) = ([3; 16], 0x1000u32.to_le_bytes());
    let data = encrypt(Cipher::aes_128_ctr(), &tek, Some(&iv), &[8; 0x1000]).unwrap();
    for (context, command) in [(2, "RECEIVE_UPDATE_DATA"), (3, "RECEIVE_UPDATE_VMSA")] {
        let key = PKey::hmac(&tik).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        for part in [&[context][..], &[0; 4], &iv, &len, &len, &data] {
            signer.update(part).unwrap();
        }
        let mac = signer.sign_to_vec().unwrap();
        lab.machine.poke(HEADER, &[&[0; 4][..], &iv, &mac].concat());
        lab.machine.poke(PACKET, &data);
        lab.machine.poke(DATA, &[0; 0x1000]);
        lab.ok(command, &packet(DATA, 0x1000));
        assert_eq!(lab.machine.peek(DATA, 0x1000), [8; 0x1000], "{command}");
    }
}

#[test]
fn a_guest_goes_where_its_policy_lets_it() {
    type Change = fn(&mut Lab);
    fn flip(lab: &Lab, at: u64) {
        let byte = lab.machine.peek(at, 1)[0];
        lab.machine.poke(at, &[byte ^ 1]);
    }
    let rows: [(&str, u32, Change, Buf, Status); 15] = [
        ("anywhere", 0, |_| {}, send_start(), Success),
        ("nowhere", NO_SEND, |_| {}, send_start(), PolicyFailure),
        ("to the same owner", DOMAIN, |_| {}, send_start(), PolicyFailure),
        ("to AMD's chips", SEV, |_| {}, send_start(), InvalidCertificate),
        ("short PDH", 0, |_| {}, send_start().u32(16, 2083), InvalidLen),
        ("short chain", 0, |_| {}, send_start().u32(32, 4168), InvalidLen),
        ("reserved", 0, |_| {}, send_start().u32(52, 1), InvalidParam),
        ("no PDH", 0, |lab| flip(lab, PDH + 8), send_start(), InvalidCertificate),
        ("PDH changed", 0, |lab| flip(lab, PDH + 0x20), send_start(), BadSignature),
        ("PEK changed", 0, |lab| flip(lab, CHAIN + 0x20), send_start(), BadSignature),
        ("OCA changed", 0, |lab| flip(lab, CHAIN + 0x844), send_start(), BadSignature),
        ("CEK changed", 0, |lab| flip(lab, CHAIN + 0x1068), send_start(), BadSignature),
        ("no OCA", 0, |lab| flip(lab, CHAIN + 0x82c), send_start(), InvalidCertificate),
        ("chain beyond RAM", 0, |_| {}, send_start().u64(24, RAM - 4000), InvalidAddress),
        ("session beyond RAM", 0, |_| {}, send_start().u64(56, RAM - 16), InvalidAddress),
    ];
    for (what, policy, change, buffer, status) in rows {
        let (mut sender, _) = two_platforms(policy);
        change(&mut sender);
        assert_eq!(sender.status("SEND_START", &buffer), status, "{what}");
        let expected = if status == Success { 4 } else { 3 };
        assert_eq!(state(&mut sender), expected, "{what}: the guest's state");
    }
    let (mut sender, _) = two_platforms(DOMAIN);
    let own = buf(28).u64(0, PDH).u32(8, 2084).u64(16, CHAIN).u32(24, 6252);
    sender.ok("PDH_CERT_EXPORT", &own);
    sender.ok("SEND_START", &send_start());
}

#[test]
fn lengths_are_answered() {
    let (mut sender, _) = two_platforms(0);
    for query in [buf(68).u32(0, HANDLE), send_start().u32(64, 127), send_start().u64(56, 0)] {
        let outcome = sender.run("SEND_START", &query);
        assert_eq!(outcome.status, InvalidLen);
        let answer = outcome.output.unwrap_or(outcome.input);
        assert_eq!(answer[64..], 128u32.to_le_bytes());
    }
    assert_eq!(state(&mut sender), 3, "it still runs");
    sender.ok("SEND_START", &send_start());
    let nothing = buf(52).u32(0, HANDLE);
    for query in [nothing, packet(DATA, 32).u32(16, 51), packet(DATA, 32).u32(48, 16)] {
        let outcome = sender.run("SEND_UPDATE_DATA", &query);
        assert_eq!(outcome.status, InvalidLen);
        let answer = outcome.output.unwrap();
        assert_eq!(answer[16..20], 52u32.to_le_bytes());
        assert_eq!(answer[48..], answer[32..36], "as much as the guest's memory");
    }
}

#[test]
fn sending_checks_state_and_memory() {
    let (data, vmsa) = ("SEND_UPDATE_DATA", "SEND_UPDATE_VMSA");
    let going: fn() -> Lab = || sending(0).0;
    let going_es: fn() -> Lab = || sending(ES).0;
    let stays: fn() -> Lab = || two_platforms(0).0;
    let inactive: fn() -> Lab = || {
        let (mut sender, _) = sending(0);
        sender.ok("DEACTIVATE", &handle());
        sender
    };
    check(vec![
        row("16 bytes", going, data, packet(DATA + 16, 16), Success),
        row("16 KiB", going, data, packet(DATA, 0x4000), Success),
        row("more", going, data, packet(DATA, 0x4010), InvalidLen),
        row("15 bytes", going, data, packet(DATA, 15), InvalidLen),
        row("misaligned", going, data, packet(DATA + 8, 16), InvalidAddress),
        row("beyond RAM", going, data, packet(RAM, 16), InvalidAddress),
        row("header beyond RAM", going, data, packet(DATA, 16).u64(8, RAM - 16), InvalidAddress),
        row("data beyond RAM", going, data, packet(DATA, 16).u64(40, RAM), InvalidAddress),
        row("reserved", going, data, packet(DATA, 16).u32(20, 1), InvalidParam),
        row("it stays", stays, data, packet(DATA, 16), InvalidGuestState),
        row("not activated", inactive, data, packet(DATA, 16), Inactive),
        row("registers", going_es, vmsa, packet(DATA, 0x1000), Success),
        row("without ES", going, vmsa, packet(DATA, 0x1000), PolicyFailure),
        row("half a page", going_es, vmsa, packet(DATA, 0x800), InvalidLen),
        row("it stays", stays, "SEND_FINISH", handle(), InvalidGuestState),
        row("it stays", stays, "SEND_CANCEL", handle(), InvalidGuestState),
        row("it stays", stays, "RECEIVE_FINISH", handle(), InvalidGuestState),
        row("on its way", going, "RECEIVE_FINISH", handle(), InvalidGuestState),
        row("on its way", going, "SEND_START", send_start(), InvalidGuestState),
        row("back", going, "SEND_CANCEL", handle(), Success),
    ]);
    let (mut sender, _) = sending(0);
    let first = sender.machine.peek(SESSION, 128);
    sender.ok("SEND_CANCEL", &handle());
    assert_eq!(state(&mut sender), 3);
    sender.ok("SEND_START", &send_start());
    assert_ne!(sender.machine.peek(SESSION, 128), first, "keys are not used a second time");
}

/// While SNP is up, what firmware writes must be Firmware pages.
#[test]
fn packets_go_to_firmware_pages_while_snp_is_up() {
    fn lab() -> Lab {
        let mut lab = Lab::snp();
        lab.start_sev_beside_snp();
        certificates(&mut of_seed(2), &lab);
        lab.ok("LAUNCH_START", &launch_start(0));
        lab.ok("ACTIVATE", &activate(SEV_ASID));
        lab.ok("LAUNCH_FINISH", &handle());
        lab
    }
    let mut lab = lab();
    assert_eq!(lab.status("SEND_START", &send_start()), InvalidPageState);
    lab.firmware(SESSION & !0xfff, 1);
    lab.ok("SEND_START", &send_start());
    assert_eq!(lab.status("SEND_UPDATE_DATA", &packet(DATA, 16)), InvalidPageState, "header");
    lab.firmware(HEADER, 1);
    assert_eq!(lab.status("SEND_UPDATE_DATA", &packet(DATA, 16)), InvalidPageState, "data");
    lab.firmware(PACKET, 1);
    lab.ok("SEND_UPDATE_DATA", &packet(DATA, 16));
}
