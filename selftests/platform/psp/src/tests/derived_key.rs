// SPDX-License-Identifier: GPL-2.0
//! Keys that a guest derives.

use super::inside::*;
use super::lab::*;
use crate::endorsement::Vlek;
use crate::{Api, Config};

/// `{root, reserved, fields, vmpl, svn, tcb}`
#[derive(Clone, Copy)]
struct Request {
    root: u32,
    fields: u64,
    vmpl: u32,
    svn: u32,
    tcb: u64,
}

const PLAIN: Request = Request { root: 0, fields: 0, vmpl: 0, svn: 0, tcb: 0 };
const VMRK: u32 = 1;
const ALL: u64 = 0x3f;

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.root.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(self.fields.to_le_bytes());
        bytes.extend(self.vmpl.to_le_bytes());
        bytes.extend(self.svn.to_le_bytes());
        bytes.extend(self.tcb.to_le_bytes());
        bytes
    }
}

/// The key, or the status in the answer; with a status there is no key.
fn key(inside: &mut Inside, vmpck: u8, request: &Request) -> Result<Vec<u8>, u32> {
    let (status, answer) = inside.answer(MSG_KEY_REQ, vmpck, &request.bytes());
    assert_eq!((&answer[..0x1c], answer.len()), ([0; 0x1c].as_slice(), 0x3c), "reserved");
    if status == 0 {
        return Ok(answer[0x1c..].to_vec());
    }
    assert_eq!(answer, [0; 0x3c], "no key beside an error");
    Err(status)
}

fn with_block(guest_svn: u32, image: u8) -> Inside {
    let finish = Launch::plain().finish.u64(8, LIST).u64(16, NV).u64(24, 1);
    Launch { finish, ..Launch::plain() }.run_with(|lab, digest| {
        let (mut block, _) = crate::snp::id_block::tests::signed(&digest, POLICY);
        block[0x40] = image;
        block[0x54..0x58].copy_from_slice(&guest_svn.to_le_bytes());
        let auth = crate::snp::id_block::tests::authenticate(&block);
        lab.machine.poke(LIST, &block);
        lab.machine.poke(NV, &auth);
    })
}

#[test]
fn the_same_guest_gets_the_same_key_and_others_only_what_they_share() {
    let tcb = Config::MILAN.tcb;
    let all = Request { fields: ALL, tcb, ..PLAIN };
    let of = |inside: &mut Inside, request: &Request| key(inside, 0, request).unwrap();
    let mut one = Launch::plain().run();
    let base = of(&mut one, &all);
    assert_eq!(base, of(&mut one, &all), "asked again");
    assert_eq!(base, of(&mut Launch::plain().run(), &all), "launched again");
    for (what, request) in [
        ("VMPL", Request { vmpl: 1, ..all }),
        ("fields", Request { fields: ALL & !1, ..all }),
        ("TCB", Request { tcb: tcb - 1, ..all }),
        ("root", Request { root: VMRK, ..all }),
    ] {
        assert_ne!(base, of(&mut one, &request), "{what}");
    }

    let mut other_chip =
        Launch { lab: || context_of(Config { seed: 9, ..Config::MILAN }), ..Launch::plain() }.run();
    assert_ne!(base, of(&mut other_chip, &all), "another chip");
    let policy =
        || Launch { start: Launch::plain().start.u64(8, POLICY | 1 << 19), ..Launch::plain() };
    assert_ne!(base, of(&mut policy().run(), &all), "another policy");
    let no_policy = Request { fields: ALL & !1, ..all };
    assert_eq!(of(&mut one, &no_policy), of(&mut policy().run(), &no_policy), "policy left out");
    let content = || Launch { features: 5, ..Launch::plain() };
    assert_ne!(base, of(&mut content().run(), &all), "another measurement");
    let no_digest = Request { fields: ALL & !8, ..all };
    assert_eq!(
        of(&mut one, &no_digest),
        of(&mut content().run(), &no_digest),
        "measurement left out"
    );
    assert_ne!(base, of(&mut with_block(0, 1), &all), "another image");
    let no_image = Request { fields: ALL & !2, ..all };
    assert_eq!(of(&mut one, &no_image), of(&mut with_block(0, 1), &no_image), "image left out");

    let own = Request { root: VMRK, ..PLAIN };
    let mut second = Launch {
        lab: || {
            let mut lab = Lab::context();
            lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
            lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
            lab
        },
        ..Launch::plain()
    }
    .run();
    assert_ne!(of(&mut one, &own), of(&mut second, &own), "VMRK is each guest's own");
}

#[test]
fn a_guest_cannot_ask_for_more_than_it_is() {
    let mut inside = with_block(5, 0);
    let tcb = Config::MILAN.tcb;
    for (what, vmpck, request, expected) in [
        ("its own SVN", 0, Request { svn: 5, fields: 0x10, ..PLAIN }, Ok(())),
        ("a newer SVN", 0, Request { svn: 6, ..PLAIN }, Err(0x16)),
        ("the committed TCB", 0, Request { tcb, ..PLAIN }, Ok(())),
        ("a newer TCB", 0, Request { tcb: tcb + 1, ..PLAIN }, Err(0x16)),
        ("VMPL 0 from VMPL 1", 1, PLAIN, Err(0x16)),
        ("VMPL 1 from VMPL 1", 1, Request { vmpl: 1, ..PLAIN }, Ok(())),
        ("VMPL 3 from VMPL 1", 1, Request { vmpl: 3, ..PLAIN }, Ok(())),
        ("VMPL 4", 0, Request { vmpl: 4, ..PLAIN }, Err(0x16)),
        ("an unknown field", 0, Request { fields: 0x40, ..PLAIN }, Err(0x16)),
        ("an unknown root", 0, Request { root: 8, ..PLAIN }, Err(0x16)),
        ("the VMRK with a key selection", 0, Request { root: VMRK | 1 << 1, ..PLAIN }, Err(0x16)),
        ("the VCEK by name", 0, Request { root: 1 << 1, ..PLAIN }, Ok(())),
        ("a VLEK that is not there", 0, Request { root: 2 << 1, ..PLAIN }, Err(0x27)),
        ("key selection 3", 0, Request { root: 3 << 1, ..PLAIN }, Err(0x16)),
    ] {
        assert_eq!(key(&mut inside, vmpck, &request).map(drop), expected, "{what}");
    }
    let mut reserved = PLAIN.bytes();
    reserved[4] = 1;
    assert_eq!(inside.answer(MSG_KEY_REQ, 0, &reserved).0, 0x16, "reserved word");
    let no_block = Request { svn: 1, ..PLAIN };
    assert_eq!(key(&mut Launch::plain().run(), 0, &no_block), Err(0x16), "an SVN without ID block");
}

#[test]
fn the_root_is_what_host_and_owner_allow() {
    let vcek = Request { root: 1 << 1, ..PLAIN };
    let vlek = Request { root: 2 << 1, ..PLAIN };
    let mut inside = Launch::plain().run();
    let from_vcek = key(&mut inside, 0, &PLAIN).unwrap();
    assert_eq!(key(&mut inside, 0, &vcek), Ok(from_vcek.clone()));

    inside.lab.ok("SNP_CONFIG", &buf(64).u32(8, 2));
    assert_eq!(key(&mut inside, 0, &vcek), Err(0x27), "MASK_CHIP_KEY");

    let wrapped = Vlek { hashstick: [3; 384], tcb: Config::MILAN.tcb }.wrap(0, [0; 12]);
    inside.lab.machine.poke(LIST, &wrapped);
    inside.lab.ok("SNP_VLEK_LOAD", &buf(16).u32(0, 16).u64(8, LIST));
    let from_vlek = key(&mut inside, 0, &vlek).unwrap();
    assert_eq!(key(&mut inside, 0, &PLAIN), Ok(from_vlek.clone()), "once there is a VLEK");
    assert_ne!(from_vlek, from_vcek);

    let finish = Launch::plain().finish.u64(24, 4);
    let mut without = Launch { finish, ..Launch::plain() }.run();
    assert_eq!(key(&mut without, 0, &vcek), Err(0x27), "an owner who rules out the VCEK");
    assert!(key(&mut without, 0, &Request { root: VMRK, ..PLAIN }).is_ok());
}

#[test]
fn mitigations_can_be_mixed_in_from_1_58_on() {
    let v2 = |vector: u64, fields| {
        let mut request = Request { fields, ..PLAIN }.bytes();
        request.extend(vector.to_le_bytes());
        request
    };
    fn ask(inside: &mut Inside, payload: &[u8]) -> (u32, Vec<u8>) {
        let message = Message::new(inside.sequence[0] + 1, MSG_KEY_REQ, 2, 0, payload);
        let answer = inside.ask(&message).unwrap();
        (u32::from_le_bytes(answer[..4].try_into().unwrap()), answer[0x20..].to_vec())
    }
    let mut old = Launch::plain().run();
    assert_eq!(ask(&mut old, &v2(0, 0x40)).0, 0x16, "before 1.58");

    let lab: fn() -> Lab =
        || context_of(Config { api: Api { major: 1, minor: 58, build: 4 }, ..Config::MILAN });
    let mut inside = Launch { lab, ..Launch::plain() }.run();
    let none = ask(&mut inside, &v2(0, 0x40));
    assert_eq!(none.0, 0);
    assert_eq!(ask(&mut inside, &v2(1, 0x40)).0, 0x16, "one that has not been verified");
    inside.lab.firmware(OUT, 1);
    let verify = buf(64).u32(0, 64).u8(4, 1).u64(8, 1).u32(16, 1).u64(32, OUT);
    inside.lab.ok("SNP_VERIFY_MITIGATION", &verify);
    let one = ask(&mut inside, &v2(1, 0x40));
    assert_eq!(one.0, 0);
    assert_ne!(one.1, none.1);
}
