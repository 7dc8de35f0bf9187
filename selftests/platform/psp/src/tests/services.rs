// SPDX-License-Identifier: GPL-2.0
//! Requests, good and bad, as a host makes them.

use super::lab::{buf, Buf, Lab, C_BIT, LIST};
use crate::services::package;
use crate::{Config, Sfs, Tee};

const C: u32 = Config::MILAN.c_bit;
/// At a multiple of 64 KiB.
const AT: u64 = 0x10_0000;

fn request(size: u32, number: u32) -> Buf {
    buf(0x1000).u32(0, size).u32(4, number).u32(8, 0x55).u32(12, 0x55)
}

/// Status and extended status of a request with this behind its first page.
fn ask(sfs: &mut Sfs, lab: &Lab, at: u64, request: &Buf, rest: &[u8]) -> (u16, u32, u32) {
    lab.machine.poke(at & !C_BIT, &[request.0.as_slice(), rest].concat());
    let status = sfs.serve(&lab.machine, at);
    let word = |offset| {
        let bytes = lab.machine.peek((at & !C_BIT) + offset, 4);
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    (status, word(8), word(12))
}

fn update(sfs: &mut Sfs, lab: &Lab, package: &[u8]) -> (u16, u32) {
    let (status, written, extended) =
        ask(sfs, lab, AT, &request(0x1_0000, 2), &[package, &[0xc7; 64]].concat());
    assert_eq!(u32::from(status), written);
    (status, extended)
}

#[test]
fn packages_replace_what_is_older() {
    let (lab, mut sfs) = (Lab::new(), Sfs::new(C));
    let mut spoiled = package::make(1, 0x101, b"contents");
    spoiled[70] ^= 1;
    let mut no_magic = package::make(1, 0x101, b"contents");
    no_magic[0] ^= 1;
    let rows: [(&str, Vec<u8>, (u16, u32)); 7] = [
        ("newer", package::make(1, 0x101, b"contents"), (0, 0)),
        ("older", package::make(1, 0x100, b"contents"), (1, 7)),
        ("the same", package::make(1, 0x101, b"contents"), (0, 0)),
        ("spoiled", spoiled, (0x3072, 5)),
        ("no package", no_magic, (6, 4)),
        ("of another part", package::make(9, 1, b""), (6, 6)),
        ("nothing", vec![], (6, 4)),
    ];
    for (what, package, expected) in rows {
        assert_eq!(update(&mut sfs, &lab, &package), expected, "{what}");
    }
    assert_eq!(ask(&mut sfs, &lab, AT, &request(0x2000, 1), &[0xc7; 0x1000]), (0, 0, 0));
    let answer = lab.machine.peek(AT + 0x1000, 20);
    let numbers: Vec<u8> = [1u32, 0x101, 2, 0x200, 0xc7c7_c7c7].map(u32::to_le_bytes).concat();
    assert_eq!(answer, numbers);
}

#[test]
fn requests_are_whole_aligned_and_known() {
    let (lab, mut sfs) = (Lab::new(), Sfs::new(C));
    let filled = [0xc7; 0x1000];
    let mut touched = filled;
    touched[0xfff] = 0;
    let rows = [
        ("with C-bit", AT | C_BIT, request(0x2000, 1), filled, (0, 0)),
        ("not filled", AT, request(0x2000, 1), touched, (6, 3)),
        ("too short", AT, request(0x1000, 1), filled, (6, 1)),
        ("too long", AT, request(0x20_1000, 2), filled, (4, 1)),
        ("an answer of two pages", AT, request(0x3000, 1), filled, (6, 1)),
        ("a package that is not padded", AT, request(0x1_1000, 2), filled, (6, 1)),
        ("not aligned", AT + 0x1000, request(0x2000, 1), filled, (6, 2)),
        ("unknown", AT, request(0x2000, 3), filled, (9, 0)),
    ];
    for (what, at, request, rest, (status, extended)) in rows {
        let got = ask(&mut sfs, &lab, at, &request, &rest);
        assert_eq!(got, (status, status.into(), extended), "{what}");
    }
    assert_eq!(sfs.serve(&lab.machine, 1 << 40), 6, "no RAM");
    assert_eq!(sfs.number(&lab.machine, AT), Some(3));
}

#[test]
fn under_snp_every_page_is_fixed() {
    let (mut lab, mut sfs) = (Lab::prepared(), Sfs::new(C));
    // A list of one range: the request's two pages.
    let list = buf(24).u32(0, 1).u64(8, AT).u32(16, 2);
    lab.machine.poke(LIST, &list.0);
    lab.ok("SNP_INIT_EX", &buf(64).u32(0, 1 | 1 << 1).u64(8, LIST));
    let fixed = ask(&mut sfs, &lab, AT, &request(0x2000, 1), &[0xc7; 0x1000]);
    assert_eq!(fixed, (0, 0, 0));
    let beyond = ask(&mut sfs, &lab, AT, &request(0x1_0000, 2), &[]);
    assert_eq!(beyond, (1, 1, 8));
}

const RING: u64 = 0x20_0000;
const SIZE: u32 = 4 * 1024;

struct Host {
    lab: Lab,
    tee: Tee,
    at: u32,
}

impl Host {
    fn new() -> Host {
        let mut host = Host { lab: Lab::new(), tee: Tee::new(C), at: 0 };
        assert_eq!(host.init(RING, SIZE), 0);
        host
    }

    fn init(&mut self, base: u64, size: u32) -> u16 {
        self.lab.machine.poke(AT, &buf(12).u64(0, base).u32(8, size).0);
        self.tee.init_ring(&self.lab.machine, AT)
    }

    /// Status and answer of a command.
    fn command(&mut self, number: u32, body: &Buf) -> (u32, Buf) {
        let entry = RING + u64::from(self.at);
        self.lab.machine.poke(entry, &[buf(32).u32(0, number).0, body.0.clone()].concat());
        self.at = (self.at + 1024) % SIZE;
        assert_eq!(self.tee.next(&self.lab.machine, self.at), Some(number));
        assert_eq!(self.tee.step(&self.lab.machine, None), self.at);
        assert_eq!(self.tee.next(&self.lab.machine, self.at), None);
        let head = Buf(self.lab.machine.peek(entry, 32));
        assert_eq!(word(&head, 4), 2, "completed");
        (word(&head, 8), Buf(self.lab.machine.peek(entry + 32, body.0.len())))
    }

    fn load(&mut self, package: &[u8]) -> (u32, u32) {
        self.lab.machine.poke(AT, &[package, &[0; 64]].concat());
        let (status, answer) = self.command(1, &buf(20).u64(0, AT | C_BIT).u32(8, 0x1000));
        (status, word(&answer, 12))
    }
}

fn word(bytes: &Buf, at: usize) -> u32 {
    let bytes = &bytes.0[at..at + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[test]
fn rings_are_taken_once_and_given_back() {
    let mut host = Host { lab: Lab::new(), tee: Tee::new(C), at: 0 };
    assert_eq!(host.tee.destroy_ring(), 6, "there is none");
    let bad = [(RING + 8, SIZE), (RING, 1024), (RING, SIZE + 1), (1 << 40, SIZE), (RING, 0)];
    for (base, size) in bad {
        assert_eq!(host.init(base, size), 6, "{base:#x} {size}");
    }
    assert_eq!(host.init(RING | C_BIT, SIZE), 0);
    assert_eq!(host.init(RING, SIZE), 0xd);
    assert_eq!(host.tee.destroy_ring(), 0);
    assert_eq!(host.init(RING, SIZE), 0);
    for end in [3, SIZE] {
        assert_eq!(host.tee.next(&host.lab.machine, end), None, "{end} is no place in the ring");
    }
}

#[test]
fn applications_answer_in_sessions() {
    let mut host = Host::new();
    let package = package::make(7, 0x33, b"code");
    let (status, handle) = host.load(&package);
    assert_eq!((status, handle != 0), (0, true));
    assert_eq!(host.load(&package), (0, handle), "the same once more");
    let (status, answer) = host.command(3, &buf(64).u32(0, handle));
    let session = word(&answer, 4);
    assert_eq!((status, word(&answer, 60)), (0, 4));
    let sum = buf(68).u32(0, handle).u32(8, session).u32(12, 3).u32(16, 40).u32(20, 2);
    let (status, answer) = host.command(5, &sum);
    assert_eq!((status, word(&answer, 16), word(&answer, 20), word(&answer, 64)), (0, 42, 0x33, 4));

    // Two pieces, of which the range takes the end of one and the beginning of the other.
    let map = buf(780).u32(4, 2).u32(8, 0x2000).u64(12, 0x30_0000).u32(20, 0x1000);
    let (status, answer) = host.command(6, &map.u64(24, 0x32_0000).u32(32, 0x1000));
    assert_eq!(status, 0);
    let buffer = word(&answer, 0);
    host.lab.machine.poke(0x30_0ffe, b"ab");
    host.lab.machine.poke(0x32_0000, b"cd!");
    let reverse = sum.u32(4, 1).u32(12, 7).u32(16, buffer).u32(20, 0xffe).u32(24, 4);
    assert_eq!(host.command(5, &reverse).0, 0);
    let after = [host.lab.machine.peek(0x30_0ffe, 2), host.lab.machine.peek(0x32_0000, 3)];
    assert_eq!(after, [b"dc".to_vec(), b"ba!".to_vec()]);
    let bad = 0xffff_0006;
    assert_eq!(host.command(5, &reverse.clone().u32(20, 0x1ffe)).0, bad, "beyond the end");
    assert_eq!(host.command(5, &reverse.clone().u32(12, 3)).0, bad, "another type");
    assert_eq!(host.command(5, &reverse.clone().u32(4, 9)).0, 0xffff_000a, "unknown");
    assert_eq!(host.command(7, &buf(4).u32(0, buffer)).0, 0);
    assert_eq!(host.command(5, &reverse).0, bad, "not shared any more");

    assert_eq!(host.command(4, &buf(8).u32(0, handle).u32(4, session)).0, 0);
    assert_eq!(host.command(5, &reverse).0, 0xffff_0008, "the session has ended");
    assert_eq!(host.command(2, &buf(4).u32(0, handle)).0, 0);
    assert_eq!(host.command(3, &buf(64).u32(0, handle)).0, 0xffff_0008, "unloaded");
}

#[test]
fn mistakes_have_results() {
    let mut host = Host::new();
    let package = package::make(7, 1, b"code");
    let mut spoiled = package.clone();
    spoiled[65] ^= 1;
    assert_eq!(host.load(&spoiled).0, 0xffff_000f);
    assert_eq!(host.load(b"no package").0, 0xffff_0005);
    let rows = [
        ("application that is no RAM", 1, buf(20).u64(0, 1 << 40).u32(8, 0x1000), 0xffff_0006),
        ("application not at a page", 1, buf(20).u64(0, AT + 1).u32(8, 0x1000), 0xffff_0006),
        ("too large", 1, buf(20).u64(0, AT).u32(8, 0x20_1000), 0xffff_0006),
        ("unload nothing", 2, buf(4), 0xffff_0008),
        ("close nothing", 4, buf(8), 0xffff_0008),
        ("no pieces", 6, buf(780), 0xffff_0006),
        ("too many pieces", 6, buf(780).u32(4, 65), 0xffff_0006),
        ("a wrong sum", 6, buf(780).u32(4, 1).u32(8, 1).u64(12, AT).u32(20, 0x1000), 0xffff_0006),
        ("unmap nothing", 7, buf(4), 0xffff_0008),
        ("unknown", 8, buf(4), 0xffff_000a),
    ];
    for (what, number, body, expected) in rows {
        assert_eq!(host.command(number, &body).0, expected, "{what}");
    }
}
