// SPDX-License-Identifier: GPL-2.0
//! The legacy SEV platform.

use super::lab::*;
use crate::sev::certificate::{Certificate, Usage, LEN};
use crate::{crypto, Config, Part, Status};

const ES: u32 = 1;

fn init(tmr: u64, len: u32) -> Buf {
    buf(20).u32(0, ES).u64(8, tmr).u32(16, len)
}

fn init_ex() -> Buf {
    let tmr = buf(36).u32(0, 36).u32(4, ES).u64(8, TMR).u32(16, 2 << 20);
    tmr.u64(24, NV).u32(32, 0x8000)
}

fn initialised() -> Lab {
    let mut lab = Lab::new();
    lab.ok("INIT", &init(TMR, 1 << 20));
    lab
}

/// SNP and SEV initialised, as Linux leaves them.
fn both() -> Lab {
    let mut lab = Lab::snp();
    lab.firmware(TMR, 512);
    lab.ok("INIT", &init(TMR, 2 << 20));
    lab
}

#[test]
fn init_checks_state_and_tmr() {
    use Status::*;
    let row = |what, lab, buffer, status| Row { what, lab, command: "INIT", buffer, status };
    let tmr_in_hypervisor_page: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(TMR, 511);
        lab
    };
    check(vec![
        row("with ES", Lab::new, init(TMR, 1 << 20), Success),
        row("without ES needs no TMR", Lab::new, buf(20), Success),
        row("twice", initialised, init(TMR, 1 << 20), InvalidPlatformState),
        row("SNP_EN set and SNP not up", Lab::prepared, buf(20), InvalidPlatformState),
        row("unknown flag", Lab::new, buf(20).u32(0, 2), InvalidParam),
        row("reserved", Lab::new, buf(20).u32(4, 1), InvalidParam),
        row("TMR too small", Lab::new, init(TMR, 0xff000), InvalidLen),
        row("TMR misaligned", Lab::new, init(TMR + 0x1000, 1 << 20), InvalidAddress),
        row("TMR beyond RAM", Lab::new, init(RAM, 1 << 20), InvalidAddress),
        row("TMR wraps", Lab::new, init(0xffff_ffff_fff0_0000, 1 << 20), InvalidAddress),
        row("SNP: TMR of 1 MiB", Lab::snp, init(TMR, 1 << 20), InvalidLen),
        row("SNP: TMR 1 MiB aligned", Lab::snp, init(TMR + (1 << 20), 2 << 20), InvalidAddress),
        row("SNP: hypervisor pages", Lab::snp, init(TMR, 2 << 20), InvalidPageState),
        row("SNP: last page wrong", tmr_in_hypervisor_page, init(TMR, 2 << 20), InvalidPageState),
    ]);
}

#[test]
fn platform_status_follows_the_state() {
    let status = |lab: &mut Lab| lab.ok("PLATFORM_STATUS", &buf(12)).output.unwrap();
    let mut lab = Lab::new();
    assert_eq!(status(&mut lab), [1, 55, 0, 0, 0, 0, 0, 21, 0, 0, 0, 0]);
    lab.ok("INIT", &init(TMR, 1 << 20));
    assert_eq!(status(&mut lab), [1, 55, 1, 0, 1, 0, 0, 21, 0, 0, 0, 0], "INIT, ES");
    lab.ok("SHUTDOWN", &buf(0));
    assert_eq!(status(&mut lab), [1, 55, 0, 0, 0, 0, 0, 21, 0, 0, 0, 0]);
    let mut lab = both();
    assert_eq!(status(&mut lab)[2], 1, "into a Firmware page");
}

#[test]
fn the_tmr_is_reclaimed_after_shutdown_only() {
    let mut lab = both();
    let page = buf(8).u64(0, TMR + 0x1ff000);
    assert_eq!(lab.status("SNP_PAGE_RECLAIM", &page), Status::InvalidPageState);
    assert_eq!(lab.status("SNP_GCTX_CREATE", &page), Status::InvalidPageState);
    lab.ok("SHUTDOWN", &buf(0));
    lab.ok("SNP_PAGE_RECLAIM", &page);
}

#[test]
fn df_flush_needs_init() {
    let mut lab = Lab::new();
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), Status::InvalidPlatformState);
}

/// Without SNP firmware cannot know which CPUs are offline, so one that did it is enough.
#[test]
fn df_flush_needs_a_wbinvd_after_init() {
    let mut lab = initialised();
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), Status::WbinvdRequired);
    lab.machine.cpus.borrow_mut()[1].wbinvd += 1;
    lab.ok("DF_FLUSH", &buf(0));
    lab.ok("SHUTDOWN", &buf(0));
    lab.ok("INIT", &buf(20));
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), Status::WbinvdRequired, "after the next INIT");
}

/// What SNP_INIT asked of every CPU is not forgiven by an INIT.
#[test]
fn init_does_not_make_flushing_easier() {
    let mut lab = Lab::prepared();
    lab.ok("SNP_INIT", &buf(0));
    lab.ok("INIT", &buf(20));
    lab.machine.cpus.borrow_mut()[0].wbinvd += 1;
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), Status::WbinvdRequired);
    lab.machine.cpus.borrow_mut()[1].wbinvd += 1;
    lab.ok("DF_FLUSH", &buf(0));
}

#[test]
fn the_address_of_the_tmr_has_no_c_bit() {
    let mut lab = Lab::new();
    assert!(lab.ok("INIT", &init(TMR, 1 << 20)).reports.is_empty());
    let mut lab = Lab::new();
    let report = lab.ok("INIT", &init(TMR | C_BIT, 1 << 20)).reports;
    assert_eq!(report.len(), 1);
    assert_eq!((report[0].what, report[0].address), ("C-bit in the address of the TMR", TMR));
}

#[test]
fn df_flush_needs_wbinvd_on_every_cpu_with_snp() {
    let mut lab = both();
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), Status::WbinvdRequired);
    lab.machine.cpus.borrow_mut()[0].wbinvd += 1;
    assert_eq!(lab.status("DF_FLUSH", &buf(0)), Status::WbinvdRequired, "one of two CPUs");
    lab.machine.cpus.borrow_mut()[1].wbinvd += 1;
    lab.ok("DF_FLUSH", &buf(0));
    lab.ok("DF_FLUSH", &buf(0));
}

#[test]
fn keys_need_init() {
    for (command, len) in [
        ("PEK_GEN", 0),
        ("PDH_GEN", 0),
        ("PEK_CSR", 12),
        ("PEK_CERT_IMPORT", 28),
        ("PDH_CERT_EXPORT", 28),
    ] {
        assert_eq!(
            Lab::new().status(command, &buf(len)),
            Status::InvalidPlatformState,
            "{command}"
        );
    }
    assert_eq!(initialised().status("FACTORY_RESET", &buf(0)), Status::InvalidPlatformState);
    assert_eq!(Lab::new().status("FACTORY_RESET", &buf(0)), Status::Success);
}

/// Both spellings of the length query, and what a too small buffer gets.
#[test]
fn lengths_are_answered_with_invalid_len() {
    for (command, query, len) in [
        ("GET_ID", buf(12), 64u32),
        ("GET_ID", buf(12).u64(0, OUT).u32(8, 63), 64),
        ("GET_ID", buf(12).u32(8, 100), 64),
        ("PEK_CSR", buf(12), 2084),
        ("PEK_CSR", buf(12).u64(0, OUT).u32(8, 2083), 2084),
    ] {
        let mut lab = initialised();
        let outcome = lab.run(command, &query);
        assert_eq!(outcome.status, Status::InvalidLen, "{command}");
        assert_eq!(outcome.output.unwrap()[8..12], len.to_le_bytes(), "{command}");
        assert_eq!(lab.machine.peek(OUT, 4096), vec![0; 4096], "{command} wrote");
    }
    for query in [
        buf(28),
        buf(28).u64(0, OUT).u32(8, 2084).u64(16, OUT + 0x1000).u32(24, 6251),
        buf(28).u64(0, OUT).u32(8, 2083).u64(16, OUT + 0x1000).u32(24, 6252),
    ] {
        let outcome = initialised().run("PDH_CERT_EXPORT", &query);
        assert_eq!(outcome.status, Status::InvalidLen);
        let answer = outcome.output.unwrap();
        assert_eq!(answer[8..12], 2084u32.to_le_bytes());
        assert_eq!(answer[24..28], 6252u32.to_le_bytes());
    }
}

#[test]
fn outputs_need_firmware_pages_while_snp_is_up() {
    let export = buf(28).u64(0, OUT).u32(8, 2084).u64(16, OUT + 0x1000).u32(24, 6252);
    let rows: &[(&str, Buf, u64)] = &[
        ("GET_ID", buf(12).u64(0, OUT).u32(8, 64), 1),
        ("PEK_CSR", buf(12).u64(0, OUT).u32(8, 2084), 1),
        ("PDH_CERT_EXPORT", export, 3),
    ];
    for (command, buffer, pages) in rows {
        let mut lab = both();
        lab.firmware(OUT, pages - 1);
        assert_eq!(lab.status(command, buffer), Status::InvalidPageState, "{command}");
        lab.firmware(OUT + ((pages - 1) << 12), 1);
        assert_eq!(lab.status(command, buffer), Status::Success, "{command}");
        assert_eq!(lab.machine.state(OUT), Some(rmp::State::Firmware), "{command}");
        let beyond = Buf(buffer.0.clone()).u64(0, RAM - 8);
        assert_eq!(lab.status(command, &beyond), Status::InvalidAddress, "{command}");
    }
}

/// The exported certificates, PDH first.
fn export(lab: &mut Lab) -> [Certificate; 4] {
    lab.ok(
        "PDH_CERT_EXPORT",
        &buf(28).u64(0, OUT).u32(8, 2084).u64(16, OUT + 0x1000).u32(24, 6252),
    );
    [OUT, OUT + 0x1000, OUT + 0x1000 + LEN as u64, OUT + 0x1000 + 2 * LEN as u64]
        .map(|at| Certificate::from_bytes(&lab.machine.peek(at, LEN)).unwrap())
}

/// What sevctl does: the chain of the platform, with the CEK as the vendor has signed it, up to the
/// vendor's root. virtee's `sev` verifies it.
#[test]
fn the_chain_ends_at_the_vendors_root() {
    use ::sev::certs::sev::{ca, sev, Chain, Verifiable};
    use ::sev::parser::Decoder;

    let Config { seed, tcb, .. } = Config::MILAN;
    let service =
        kds::Service::new("milan".parse().unwrap(), seed, kds::Tcb(tcb), kds::Names::Model)
            .unwrap();
    let get = |target: &str| service.get(target).unwrap().unwrap();
    let [pdh, pek, oca, exported] =
        export(&mut initialised()).map(|certificate| certificate.bytes().to_vec());
    let decode = |bytes: &[u8]| sev::Certificate::decode(&mut &*bytes, ()).unwrap();
    let chain = |cek: &[u8]| Chain {
        ca: ca::Chain::decode(&mut &*get("/wp-content/resources/ask_ark_milan.cert"), ()).unwrap(),
        sev: sev::Chain {
            pdh: decode(&pdh),
            pek: decode(&pek),
            oca: decode(&oca),
            cek: decode(cek),
        },
    };
    let signed = get(&format!("/cek/id/{}", service.chip()));
    assert_eq!(signed[..0x414], exported[..0x414], "the same key, of the same firmware");
    assert!(chain(&signed).verify().is_ok());
    assert!(chain(&exported).verify().is_err(), "nobody has signed this one");
}

#[test]
fn an_owner_takes_the_platform() {
    let mut lab = initialised();
    lab.ok("PEK_CSR", &buf(12).u64(0, OUT).u32(8, 2084));
    let csr = Certificate::from_bytes(&lab.machine.peek(OUT, LEN)).unwrap();
    let owner = crypto::derive(99, "owner", 0);
    let oca = Certificate::new(Config::MILAN.api, Usage::Oca, &owner).signed(0, Usage::Oca, &owner);
    let pek = csr.signed(0, Usage::Oca, &owner);
    let import = buf(28).u64(0, PAGE).u32(8, 2084).u64(16, PAGE + 0x1000).u32(24, 2084);
    let owned = |lab: &mut Lab| lab.ok("PLATFORM_STATUS", &buf(12)).output.unwrap()[3] & 1;

    lab.machine.poke(PAGE + 0x1000, oca.bytes());
    assert_eq!(lab.status("PEK_CERT_IMPORT", &import), Status::InvalidCertificate, "no PEK there");
    lab.machine.poke(PAGE, pek.bytes());
    let short = Buf(import.0.clone()).u32(24, 2083);
    assert_eq!(lab.status("PEK_CERT_IMPORT", &short), Status::InvalidLen);
    let mut forged = pek.bytes().to_vec();
    forged[0x420] ^= 1;
    lab.machine.poke(PAGE, &forged);
    assert_eq!(lab.status("PEK_CERT_IMPORT", &import), Status::BadSignature);
    assert_eq!(owned(&mut lab), 0);
    lab.machine.poke(PAGE, pek.bytes());
    lab.ok("PEK_CERT_IMPORT", &import);
    assert_eq!(owned(&mut lab), 1);
    assert_eq!(lab.status("PEK_CERT_IMPORT", &import), Status::AlreadyOwned);
    let [pdh, pek, oca, cek] = export(&mut lab);
    assert!(pdh.is_signed_by(Usage::Pek, &pek) && pek.is_signed_by(Usage::Oca, &oca));
    assert!(pek.is_signed_by(Usage::Cek, &cek));
    assert_eq!(oca.public_key(), &crypto::public_key(&owner));
    lab.ok("PEK_GEN", &buf(0));
    assert_eq!(owned(&mut lab), 0);
}

#[test]
fn keys_in_flash_survive_shutdown_and_reset() {
    let mut lab = initialised();
    lab.ok("PDH_GEN", &buf(0));
    let before = export(&mut lab);
    lab.ok("SHUTDOWN", &buf(0));
    lab.psp.reset();
    lab.ok("INIT", &init(TMR, 1 << 20));
    assert!(export(&mut lab) == before);
}

#[test]
fn init_ex_checks_lengths_and_nv() {
    use Status::*;
    let row = |what, lab, buffer, status| Row { what, lab, command: "INIT_EX", buffer, status };
    let damaged: fn() -> Lab = || {
        let lab = Lab::new();
        lab.machine.poke(NV, &[1]);
        lab
    };
    let snp_without_nv: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(TMR, 512);
        lab.firmware(NV, 7);
        lab
    };
    let snp: fn() -> Lab = || {
        let lab = Lab::snp();
        lab.firmware(TMR, 512);
        lab.firmware(NV, 8);
        lab
    };
    check(vec![
        row("blank NV", Lab::new, init_ex(), Success),
        row("SNP", snp, init_ex(), Success),
        row("SNP: NV not Firmware", snp_without_nv, init_ex(), InvalidPageState),
        row("wrong length", Lab::new, init_ex().u32(0, 20), InvalidLen),
        row("wrong NV length", Lab::new, init_ex().u32(32, 0x4000), InvalidLen),
        row("NV beyond RAM", Lab::new, init_ex().u64(24, RAM - 0x1000), InvalidAddress),
        row("NV not at a page", Lab::new, init_ex().u64(24, NV + 0x800), InvalidAddress),
        row("twice", initialised, init_ex(), InvalidPlatformState),
        row("damaged NV", damaged, init_ex(), SecureDataInvalid),
    ]);
}

#[test]
fn nv_keeps_keys_and_damage_is_healed_once() {
    let mut lab = Lab::new();
    lab.ok("INIT_EX", &init_ex());
    lab.ok("PEK_GEN", &buf(0));
    let before = export(&mut lab);
    let mut nv = lab.machine.peek(NV, 0x8000);
    lab.ok("SHUTDOWN", &buf(0));
    let mut other = Lab::new();
    other.machine.poke(NV, &nv);
    other.ok("INIT_EX", &init_ex());
    assert!(export(&mut other) == before, "the same chip finds its keys again");
    nv[9] ^= 1;
    let mut third = Lab::new();
    third.machine.poke(NV, &nv);
    assert_eq!(third.status("INIT_EX", &init_ex()), Status::SecureDataInvalid);
    third.ok("INIT_EX", &init_ex());
    assert!(export(&mut third) != before);
}

/// The host keeps the NV area in a file, and writes that after the commands that change something.
#[test]
fn the_nv_area_changes_with_the_identity() {
    fn owned(lab: &mut Lab) {
        lab.ok("PEK_CSR", &buf(12).u64(0, OUT).u32(8, 2084));
        let csr = Certificate::from_bytes(&lab.machine.peek(OUT, LEN)).unwrap();
        let owner = crypto::derive(99, "owner", 0);
        let oca = Certificate::new(Config::MILAN.api, Usage::Oca, &owner);
        lab.machine.poke(PAGE, csr.signed(0, Usage::Oca, &owner).bytes());
        lab.machine.poke(PAGE + 0x1000, oca.signed(0, Usage::Oca, &owner).bytes());
        let import = buf(28).u64(0, PAGE).u32(8, 2084).u64(16, PAGE + 0x1000).u32(24, 2084);
        lab.ok("PEK_CERT_IMPORT", &import);
    }
    fn plain(lab: &mut Lab, command: &str) {
        lab.ok(command, &buf(0));
    }
    type Step = (&'static str, fn(&mut Lab), bool);
    let steps: [Step; 9] = [
        ("PDH_GEN", |lab| plain(lab, "PDH_GEN"), true),
        ("PEK_GEN", |lab| plain(lab, "PEK_GEN"), true),
        ("PEK_CERT_IMPORT", owned, true),
        ("LAUNCH_START", |lab| lab.ok("LAUNCH_START", &buf(36)).input.clear(), false),
        ("PDH_CERT_EXPORT", |lab| drop(export(lab)), false),
        ("SHUTDOWN", |lab| plain(lab, "SHUTDOWN"), false),
        ("FACTORY_RESET", |lab| plain(lab, "FACTORY_RESET"), false),
        ("INIT", |lab| lab.ok("INIT", &init(TMR, 1 << 20)).input.clear(), false),
        ("PDH_GEN after INIT", |lab| plain(lab, "PDH_GEN"), false),
    ];
    let mut lab = Lab::new();
    lab.machine.poke(NV, &[0xff; 0x8000]);
    lab.ok("INIT_EX", &init_ex());
    let mut before = lab.machine.peek(NV, 0x8000);
    assert_ne!(before, [0xff; 0x8000], "INIT_EX writes keys into what is blank");
    for (what, step, changes) in steps {
        step(&mut lab);
        let after = lab.machine.peek(NV, 0x8000);
        assert_eq!(after != before, changes, "{what}");
        before = after;
    }
    lab.ok("SHUTDOWN", &buf(0));
    lab.ok("INIT_EX", &init_ex());
    assert_eq!(lab.machine.peek(NV, 0x8000), before, "INIT_EX leaves what is valid");
    assert_eq!(lab.ok("PLATFORM_STATUS", &buf(12)).output.unwrap()[3] & 1, 1, "still owned");
}

#[test]
fn download_firmware_needs_both_platforms_down() {
    use Status::*;
    let row =
        |what, lab, buffer, status| Row { what, lab, command: "DOWNLOAD_FIRMWARE", buffer, status };
    check(vec![
        row("an image", Lab::new, buf(12).u64(0, PAGE).u32(8, 0x1000), BadSignature),
        row("nothing", Lab::new, buf(12).u64(0, PAGE), InvalidLen),
        row("huge", Lab::new, buf(12).u64(0, PAGE).u32(8, u32::MAX), InvalidLen),
        row("beyond RAM", Lab::new, buf(12).u64(0, RAM).u32(8, 1), InvalidAddress),
        row("after INIT", initialised, buf(12).u64(0, PAGE).u32(8, 1), InvalidPlatformState),
        row("after SNP_INIT", Lab::snp, buf(12).u64(0, PAGE).u32(8, 1), InvalidPlatformState),
    ]);
}

/// A Turin's has 8 bytes.
#[test]
fn the_identifier_is_as_long_as_the_parts() {
    for (part, len) in [(Part::Milan, 64), (Part::Genoa, 64), (Part::Turin, 8)] {
        let mut lab = Lab::with(Config::new(part));
        let outcome = lab.run("GET_ID", &buf(12));
        assert_eq!(outcome.output.unwrap()[8], len);
        lab.ok("GET_ID", &buf(12).u64(0, OUT).u32(8, 64));
        let id = crate::endorsement::chip_id(part, Config::new(part).seed);
        assert_eq!(lab.machine.peek(OUT, 64), id);
    }
}

/// The other socket's follows, for those who have room.
#[test]
fn two_sockets_have_two_identifiers() {
    let config = || Config { second_seed: Some(5), ..Config::MILAN };
    let [first, second] =
        [config().seed, 5].map(|seed| crate::endorsement::chip_id(Part::Milan, seed));
    for (room, expected) in
        [(64, [first, [0; 64]]), (127, [first, [0; 64]]), (128, [first, second])]
    {
        let mut lab = Lab::with(config());
        let outcome = lab.ok("GET_ID", &buf(12).u64(0, OUT).u32(8, room));
        // What does not change is not written back.
        let len = outcome.output.map_or(room, |out| out[8].into());
        assert_eq!(len, if room < 128 { 64 } else { 128 }, "room for {room}");
        assert_eq!(lab.machine.peek(OUT, 128), expected.concat(), "room for {room}");
    }
}
