// SPDX-License-Identifier: GPL-2.0
//! What an owner gets of a launch without SNP, and puts into it: secrets, and signed reports.

use sev::firmware::host::{Build, Version};
use sev::launch::sev::{HeaderFlags, Measurement};
use sha2::{Digest, Sha256};

use super::guest::*;
use super::lab::*;
use crate::sev::certificate::{Certificate, Usage, LEN};
use crate::Status::*;
use crate::{crypto, Status};

const SECRET: &[u8; 32] = b"the key of the guest's own disk.";

/// A measured guest, and the secret that its owner has sealed with virtee/sev.
fn sealed() -> Lab {
    let mut lab = initialised();
    let owner = Owner::new(&mut lab, 0);
    lab.ok("LAUNCH_START", &Owner::buffer(0));
    lab.ok("ACTIVATE", &activate(SEV_ASID));
    lab.machine.poke(DATA, &[7; 0x1000]);
    lab.ok("LAUNCH_UPDATE_DATA", &region(DATA, 0x1000));
    lab.ok("LAUNCH_MEASURE", &region(OUT, 48));
    let answer = lab.machine.peek(OUT, 48);
    let measurement = Measurement {
        measure: answer[..32].try_into().unwrap(),
        mnonce: answer[32..].try_into().unwrap(),
    };
    let build = Build { version: Version { major: 1, minor: 55 }, build: 21 };
    let session = owner.session.verify(&Sha256::digest([7; 0x1000]), build, measurement).unwrap();
    let secret = session.secret(HeaderFlags::default(), SECRET).unwrap();
    let flags = 0u32.to_le_bytes();
    lab.machine.poke(HEADER, &[&flags[..], &secret.header.iv, &secret.header.mac].concat());
    lab.machine.poke(PACKET, &secret.ciphertext);
    lab
}

fn flip(lab: &Lab, at: u64) {
    let byte = lab.machine.peek(at, 1)[0];
    lab.machine.poke(at, &[byte ^ 1]);
}

#[test]
fn an_owners_secret_arrives() {
    let mut lab = sealed();
    assert_ne!(lab.machine.peek(PACKET, 32), SECRET, "encrypted");
    lab.ok("LAUNCH_UPDATE_SECRET", &packet(DATA + 64, 32));
    assert_eq!(lab.machine.peek(DATA + 64, 32), SECRET);
    assert_eq!(lab.machine.peek(DATA + 96, 16), [7; 16], "and nothing more");
    lab.ok("LAUNCH_FINISH", &handle());
    let again = lab.status("LAUNCH_UPDATE_SECRET", &packet(DATA + 64, 32));
    assert_eq!(again, InvalidGuestState, "running");
}

#[test]
fn what_the_owner_has_not_sealed_is_refused() {
    type Change = fn(&mut Lab);
    let good = || packet(DATA, 32);
    let rows: [(&str, Change, Buf, Status); 16] = [
        ("as it was made", |_| {}, good(), Success),
        ("flag: compressed", |lab| flip(lab, HEADER), good(), Unsupported),
        ("reserved flag", |lab| flip(lab, HEADER + 1), good(), InvalidParam),
        ("IV", |lab| flip(lab, HEADER + 4), good(), BadMeasurement),
        ("tag", |lab| flip(lab, HEADER + 51), good(), BadMeasurement),
        ("data", |lab| flip(lab, PACKET + 31), good(), BadMeasurement),
        ("half of it", |_| {}, packet(DATA, 16), BadMeasurement),
        ("two lengths", |_| {}, good().u32(48, 16), InvalidLen),
        ("no whole block", |_| {}, packet(DATA, 24), InvalidLen),
        ("more than 16 KiB", |_| {}, packet(DATA, 0x4010), InvalidLen),
        ("short header", |_| {}, good().u32(16, 51), InvalidLen),
        ("misaligned", |_| {}, packet(DATA + 8, 32), InvalidAddress),
        ("guest beyond RAM", |_| {}, packet(RAM, 32), InvalidAddress),
        ("data beyond RAM", |_| {}, good().u64(40, RAM), InvalidAddress),
        ("reserved", |_| {}, good().u32(36, 1), InvalidParam),
        ("not activated", |lab| lab.ok("DEACTIVATE", &handle()).input.clear(), good(), Inactive),
    ];
    for (what, change, buffer, status) in rows {
        let mut lab = sealed();
        change(&mut lab);
        assert_eq!(lab.status("LAUNCH_UPDATE_SECRET", &buffer), status, "{what}");
        let untouched = lab.machine.peek(DATA, 32) == [7; 32];
        assert_eq!(untouched, status != Success, "{what}: the guest's memory");
    }
    assert_eq!(activated(0).status("LAUNCH_UPDATE_SECRET", &good()), InvalidGuestState);
}

/// A secret is for the launch that the owner has seen: the measurement is part of the tag.
#[test]
fn a_secret_is_for_one_launch() {
    let mut lab = sealed();
    let [header, data] = [(HEADER, 52), (PACKET, 32)].map(|(at, len)| lab.machine.peek(at, len));
    lab.ok("LAUNCH_START", &Owner::buffer(0));
    let second = |buffer: Buf| buffer.u32(0, 2);
    lab.ok("ACTIVATE", &second(activate(SEV_ASID + 1)));
    lab.ok("LAUNCH_UPDATE_DATA", &second(region(DATA, 16)));
    lab.ok("LAUNCH_MEASURE", &second(region(OUT, 48)));
    lab.machine.poke(HEADER, &header);
    lab.machine.poke(PACKET, &data);
    let status = lab.status("LAUNCH_UPDATE_SECRET", &second(packet(DATA, 32)));
    assert_eq!(status, BadMeasurement, "another launch with the same keys");
}

fn report() -> Buf {
    let mut request = buf(36).u32(0, HANDLE).u64(8, OUT).u32(32, 208);
    request.0[16..32].copy_from_slice(b"nonce of anybody");
    request
}

#[test]
fn a_report_is_signed_by_the_platform() {
    let mut lab = sealed();
    lab.ok("LAUNCH_FINISH", &handle());
    lab.ok("ATTESTATION_REPORT", &report());
    let report = lab.machine.peek(OUT, 208);
    assert_eq!(report[..16], *b"nonce of anybody");
    assert_eq!(report[16..48], Sha256::digest([7; 0x1000])[..]);
    assert_eq!(report[48..52], 0u32.to_le_bytes(), "policy");
    assert_eq!(report[52..56], 0x1002u32.to_le_bytes(), "PEK");
    assert_eq!(report[56..64], [2, 0, 0, 0, 0, 0, 0, 0], "ECDSA with SHA-256");
    let export = buf(28).u64(0, OUT).u32(8, 2084).u64(16, PAGE).u32(24, 6252);
    lab.ok("PDH_CERT_EXPORT", &export);
    let pek = Certificate::from_bytes(&lab.machine.peek(PAGE, LEN)).unwrap();
    assert!(pek.is(Usage::Pek));
    let signature: crypto::Signature = zerocopy::FromBytes::read_from_bytes(&report[64..]).unwrap();
    let verifies =
        |bytes: &[u8]| crypto::verify(pek.public_key(), &Sha256::digest(bytes), &signature);
    assert!(verifies(&report[..52]));
    let mut forged = report[..52].to_vec();
    forged[20] ^= 1;
    assert!(!verifies(&forged));
}

#[test]
fn reports_are_of_complete_launches() {
    let launching: fn() -> Lab = || activated(0);
    let ask = |what, lab, buffer, status| row(what, lab, "ATTESTATION_REPORT", buffer, status);
    check(vec![
        ask("measured", measured, report(), Success),
        ask("running", running, report(), Success),
        ask("launching", launching, report(), InvalidGuestState),
        ask("reserved", measured, report().u32(4, 1), InvalidParam),
        ask("beyond RAM", measured, report().u64(8, RAM - 16), InvalidAddress),
    ]);
    for query in [report().u32(32, 0), report().u32(32, 207), report().u64(8, 0)] {
        let mut lab = running();
        let outcome = lab.run("ATTESTATION_REPORT", &query);
        assert_eq!(outcome.status, InvalidLen);
        let answer = outcome.output.unwrap_or(outcome.input);
        assert_eq!(answer[32..], 208u32.to_le_bytes());
        assert_eq!(lab.machine.peek(OUT + 48, 160), [0; 160], "nothing is written");
    }
}
