// SPDX-License-Identifier: GPL-2.0
//! Firmware is replaced: before anything is up, and under guests.

use super::lab::*;
use crate::image::{Image, Signer, Takeover, SIGNATURE};
use crate::Status::*;
use crate::{Api, Config, Status};

const OLD: Api = Config::MILAN.api;
const NEW: Api = Api { major: 1, minor: 56, build: 3 };
/// Later than [`NEW`], and before 1.58.
const NEWER: Api = Api { major: 1, minor: 57, build: 1 };
const SVN: u8 = 20;
/// Where the host has its image.
const IMAGE: u64 = 0xa_0000;
const POLICY: u64 = 0x30000;

fn image(api: Api, svn: u8) -> Image {
    Image { part: [0x19, 1], api, svn, takeover: Takeover::Live }
}

/// An image's bytes, in the machine.
fn put(lab: &Lab, bytes: &[u8]) -> u32 {
    lab.machine.poke(IMAGE, bytes);
    bytes.len() as u32
}

fn download(lab: &mut Lab, image: &Image) -> Status {
    let len = put(lab, &image.signed(Signer::Vendor));
    lab.status("DOWNLOAD_FIRMWARE", &buf(12).u64(0, IMAGE).u32(8, len))
}

fn request(len: u32) -> Buf {
    buf(24).u32(0, 24).u64(8, IMAGE).u32(16, len)
}

fn download_ex(lab: &mut Lab, image: &Image) -> Status {
    let len = put(lab, &image.signed(Signer::Vendor));
    lab.status("SNP_DOWNLOAD_FIRMWARE_EX", &request(len))
}

/// What the two status commands say: the version twice, SNP's part of the current TCB and of the
/// reported one.
fn versions(lab: &mut Lab) -> ([u8; 3], u8, u8) {
    let status = lab.ok("PLATFORM_STATUS", &buf(12)).output.unwrap();
    lab.machine.poke(OUT, &[0; 32]);
    let up = lab.psp.snp.running.is_some();
    if up {
        lab.firmware(OUT, 1);
    }
    lab.ok("SNP_PLATFORM_STATUS", &buf(8).u64(0, OUT));
    if up {
        assert_eq!(lab.machine.rmp().rmpupdate(OUT, &Default::default()), rmp::Code::Success);
    }
    let snp = lab.machine.peek(OUT, 32);
    let version = [status[0], status[1], status[7]];
    assert_eq!([snp[0], snp[1], snp[4]], version, "both say the same");
    (version, snp[16 + 6], snp[24 + 6])
}

fn of(api: Api) -> [u8; 3] {
    [api.major, api.minor, api.build]
}

fn older_tcb() -> Config {
    Config { committed_tcb: Some(0xdb12_0000_0000_0004), ..Config::MILAN }
}

#[test]
fn an_image_replaces_the_firmware_until_reset() {
    let mut lab = Lab::new();
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN));
    assert_eq!(download(&mut lab, &image(NEW, SVN + 1)), Success);
    assert_eq!(versions(&mut lab), (of(NEW), SVN + 1, SVN + 1), "committed at once");
    assert_eq!(download(&mut lab, &image(OLD, SVN + 1)), BadVersion, "there is no way back");
    assert_eq!(download(&mut lab, &image(NEW, SVN)), BadSvn);
    assert_eq!(download(&mut lab, &image(NEW, SVN + 1)), Success, "the same once more");
    assert_eq!(versions(&mut lab), (of(NEW), SVN + 1, SVN + 1));
    lab.psp.reset();
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN), "the BIOS has its own");
}

/// Firmware before 1.50 does not commit. Linux therefore downloads twice over it.
#[test]
fn old_firmware_does_not_commit() {
    let api = Api { major: 1, minor: 49, build: 9 };
    let mut lab = Lab::with(Config { api, ..Config::MILAN });
    assert_eq!(download(&mut lab, &image(OLD, SVN + 1)), Success);
    assert_eq!(versions(&mut lab), (of(OLD), SVN + 1, SVN), "current, but not committed");
    assert_eq!(download(&mut lab, &image(OLD, SVN + 1)), Success);
    assert_eq!(versions(&mut lab), (of(OLD), SVN + 1, SVN + 1));
}

#[test]
fn what_is_no_newer_firmware_for_this_part_is_refused() {
    let good = image(NEW, SVN);
    let bytes = good.signed(Signer::Vendor);
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let signed = |image: Image| image.signed(Signer::Vendor);
    let older = Api { build: OLD.build - 1, ..OLD };
    let broken = Image { takeover: Takeover::Broken, ..good.clone() };
    let rows: Vec<(&str, Vec<u8>, Status, Status)> = vec![
        ("zeros", vec![0; 4096], BadSignature, InvalidParam),
        ("another magic number", flipped(0), BadSignature, InvalidParam),
        ("cut short", bytes[..bytes.len() / 2].to_vec(), BadSignature, InvalidParam),
        ("damaged", flipped(0x1000), BadSignature, BadSignature),
        ("another version", flipped(0xf), BadSignature, BadSignature),
        ("damaged signature", flipped(bytes.len() - SIGNATURE), BadSignature, BadSignature),
        ("a stranger's", good.signed(Signer::Stranger), BadSignature, BadSignature),
        ("another part's", signed(Image { part: [0x1a, 2], ..good }), Unsupported, Unsupported),
        ("an older build", signed(image(older, SVN)), BadVersion, BadVersion),
        ("an older SVN", signed(image(NEW, SVN - 1)), BadSvn, InvalidConfig),
        ("it does not work", signed(broken), UpdateFailed, RestoreRequired),
        ("the same", signed(image(OLD, SVN)), Success, Success),
        ("newer", bytes.clone(), Success, Success),
    ];
    for (what, bytes, plain, live) in rows {
        let mut lab = Lab::new();
        let len = put(&lab, &bytes);
        let status = lab.status("DOWNLOAD_FIRMWARE", &buf(12).u64(0, IMAGE).u32(8, len));
        assert_eq!(status, plain, "{what}");
        if plain != Success {
            assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN), "{what}: nothing has changed");
        }
        for mut lab in [Lab::new(), Lab::snp(), Lab::launching(POLICY)] {
            put(&lab, &bytes);
            assert_eq!(lab.status("SNP_DOWNLOAD_FIRMWARE_EX", &request(len)), live, "EX: {what}");
            if live != Success && live != RestoreRequired {
                assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN), "EX: {what}");
            }
        }
    }
}

#[test]
fn requests_are_checked() {
    let sev: fn() -> Lab = || {
        let mut lab = Lab::new();
        lab.ok("INIT", &buf(20));
        lab
    };
    let row = |what, lab, buffer, status| Row {
        what,
        lab,
        command: "SNP_DOWNLOAD_FIRMWARE_EX",
        buffer,
        status,
    };
    let good = || request(0x1000);
    check(vec![
        row("after INIT", sev, good(), InvalidPlatformState),
        row("wrong length", Lab::new, good().u32(0, 20), InvalidLen),
        row("reserved", Lab::new, good().u32(4, 1), InvalidParam),
        row("unknown flag", Lab::new, good().u32(20, 2), InvalidParam),
        row("nothing", Lab::new, request(0), InvalidLen),
        row("huge", Lab::new, request(u32::MAX), InvalidLen),
        row("not at 32 bytes", Lab::new, good().u64(8, IMAGE + 16), InvalidAddress),
        row("beyond RAM", Lab::new, good().u64(8, RAM - 32), InvalidAddress),
    ]);
    let misaligned = buf(12).u64(0, IMAGE + 16).u32(8, 0x1000);
    assert_eq!(Lab::new().status("DOWNLOAD_FIRMWARE", &misaligned), InvalidAddress);
}

#[test]
fn a_live_update_is_provisional_until_it_is_committed() {
    let mut lab = Lab::snp();
    let new_tcb = 0xdb15_0000_0000_0004;
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN + 1)), Success);
    assert_eq!(versions(&mut lab), (of(NEW), SVN + 1, SVN), "reported is what is committed");
    let config = buf(64).u64(0, new_tcb);
    assert_eq!(lab.status("SNP_CONFIG", &config), InvalidParam, "above the committed TCB");
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN)), Success, "back");
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN));
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN + 1)), Success);
    lab.ok("SNP_CONFIG", &buf(64).u64(0, 4));
    lab.ok("SNP_COMMIT", &buf(4).u32(0, 4));
    assert_eq!(versions(&mut lab), (of(NEW), SVN + 1, SVN + 1), "reported follows");
    lab.ok("SNP_CONFIG", &config);
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN + 1)), BadVersion);
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN)), InvalidConfig);

    let mut lab = Lab::snp();
    let len = put(&lab, &image(NEW, SVN + 1).signed(Signer::Vendor));
    lab.ok("SNP_DOWNLOAD_FIRMWARE_EX", &request(len).u32(20, 1));
    assert_eq!(versions(&mut lab), (of(NEW), SVN + 1, SVN + 1), "with COMMIT");
}

/// A chip that starts with a provisional firmware.
#[test]
fn the_bios_may_load_what_is_not_committed() {
    let mut lab = Lab::with(older_tcb());
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN - 2));
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN - 2)), Success);
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN - 3)), InvalidConfig);
    lab.ok("SNP_COMMIT", &buf(4).u32(0, 4));
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN - 2)), Success);
    lab.psp.reset();
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN - 2));
    lab.ok("SNP_COMMIT", &buf(4).u32(0, 4));
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN));
    let api = Api { build: OLD.build - 5, ..OLD };
    let mut lab = Lab::with(Config { committed_api: Some(api), ..Config::MILAN });
    assert_eq!(download_ex(&mut lab, &image(api, SVN)), Success);
    let older = Api { build: api.build - 1, ..api };
    assert_eq!(download_ex(&mut lab, &image(older, SVN)), BadVersion);
}

fn guest_status() -> Buf {
    buf(16).u64(0, GCTX).u64(8, OUT)
}

/// Brings the context up to date, as Linux' patches do.
fn look_at(lab: &mut Lab) {
    lab.firmware(OUT, 1);
    lab.ok("SNP_GUEST_STATUS", &guest_status());
    lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, OUT));
    assert_eq!(lab.machine.rmp().rmpupdate(OUT, &Default::default()), rmp::Code::Success);
}

#[test]
fn contexts_wait_for_guest_status() {
    let mut lab = Lab::launching(POLICY);
    lab.pre_guest(PAGE, 3, 0x8000);
    let update = buf(32).u64(0, GCTX).u32(8, 1 << 1).u64(16, PAGE);
    let finish = buf(64).u64(0, GCTX);
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN)), Success);
    assert_eq!(lab.status("SNP_LAUNCH_UPDATE", &update), InvalidGuestState);
    assert_eq!(lab.status("SNP_LAUNCH_FINISH", &finish), InvalidGuestState);
    assert_eq!(lab.status("SNP_GUEST_STATUS", &guest_status()), InvalidPageState);
    assert_eq!(lab.status("SNP_LAUNCH_UPDATE", &update), InvalidGuestState, "it did not help");
    look_at(&mut lab);
    lab.ok("SNP_LAUNCH_UPDATE", &update);
    lab.ok("SNP_LAUNCH_FINISH", &finish);
    // The way back is the same.
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN)), Success);
    look_at(&mut lab);
    // Without it the guest can still be ended.
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN)), Success);
    lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
}

/// A context is brought forward by one firmware, not by two.
#[test]
fn contexts_of_the_firmware_before_last_are_too_old() {
    let mut lab = Lab::launching(POLICY);
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN)), Success);
    assert_eq!(download_ex(&mut lab, &image(NEWER, SVN)), ShutdownRequired);
    assert_eq!(versions(&mut lab).0, of(NEW), "nothing has changed");
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN)), Success, "but the one before is possible");
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN)), Success);
    look_at(&mut lab);
    assert_eq!(download_ex(&mut lab, &image(NEWER, SVN)), Success);
}

#[test]
fn an_image_may_want_snp_to_be_shut_down() {
    let stubborn = Image { takeover: Takeover::Shutdown, ..image(NEW, SVN) };
    for mut lab in [Lab::snp(), Lab::launching(POLICY)] {
        assert_eq!(download_ex(&mut lab, &stubborn), ShutdownRequired);
        assert_eq!(versions(&mut lab).0, of(OLD), "nothing has changed");
    }
    let mut lab = Lab::snp();
    lab.ok("SNP_SHUTDOWN_EX", &buf(8).u32(0, 8).u32(4, 3));
    assert_eq!(download_ex(&mut lab, &stubborn), Success);
    assert_eq!(download(&mut Lab::new(), &stubborn), Success);
}

#[test]
fn an_asid_is_bound_after_a_flush() {
    let activate = buf(12).u64(0, GCTX).u32(8, 3);
    fn started() -> Lab {
        let mut lab = Lab::context();
        lab.ok("SNP_LAUNCH_START", &buf(48).u64(0, GCTX).u64(8, POLICY));
        lab
    }
    let mut lab = started();
    assert_eq!(download_ex(&mut lab, &image(NEW, SVN)), Success);
    look_at(&mut lab);
    assert_eq!(lab.status("SNP_ACTIVATE", &activate), DfFlushRequired);
    assert_eq!(lab.status("SNP_DF_FLUSH", &buf(0)), WbinvdRequired);
    lab.machine.wbinvd();
    lab.ok("SNP_DF_FLUSH", &buf(0));
    lab.ok("SNP_ACTIVATE", &activate);
    // From 1.58 on neither that nor a look at every guest.
    let mut lab = started();
    let api = Api { major: 1, minor: 58, build: 4 };
    assert_eq!(download_ex(&mut lab, &image(api, SVN)), Success);
    lab.ok("SNP_ACTIVATE", &activate);
    lab.ok("SNP_LAUNCH_FINISH", &buf(64).u64(0, GCTX));
}

/// Nothing works any more until the old image is there again, and then everything goes on.
#[test]
fn firmware_that_does_not_work_takes_images_only() {
    let broken = Image { takeover: Takeover::Broken, ..image(NEW, SVN) };
    let mut lab = Lab::launching(POLICY);
    assert_eq!(download_ex(&mut lab, &broken), RestoreRequired);
    for command in crate::command::COMMANDS {
        let buffer = buf(command.len as usize);
        let status = lab.status(command.name, &buffer);
        let expected = match command.name {
            "SNP_DOWNLOAD_FIRMWARE_EX" => InvalidLen,
            _ => RestoreRequired,
        };
        assert_eq!(status, expected, "{}", command.name);
    }
    assert_eq!(lab.run_at(0x7ff, BUFFER, &buf(0)).status, InvalidCommand);
    assert_eq!(download_ex(&mut lab, &image(NEWER, SVN)), ShutdownRequired, "not past a context");
    assert_eq!(download_ex(&mut lab, &image(OLD, SVN)), Success);
    assert_eq!(versions(&mut lab).0, of(OLD));
    lab.ok("SNP_LAUNCH_FINISH", &buf(64).u64(0, GCTX));

    let mut lab = Lab::new();
    assert_eq!(download_ex(&mut lab, &broken), RestoreRequired);
    lab.psp.reset();
    assert_eq!(versions(&mut lab), (of(OLD), SVN, SVN));
}
