// SPDX-License-Identifier: GPL-2.0
//! Reports, as a verifier sees them: read and verified by virtee's `sev`, and once more by OpenSSL
//! over the raw bytes, against certificates that the vendor of the chip has issued.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use ::sev::certs::snp::{ca, Certificate, Chain, Verifiable};
use ::sev::firmware::guest::AttestationReport;
use ::sev::measurement::idblock::snp_calculate_id;
use ::sev::measurement::idblock_types::{FamilyId, ImageId};
use ::sev::measurement::snp::SnpLaunchDigest;
use ::sev::parser::ByteParser;
use kds::{Names, Tcb, Vendor};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::sha::sha384;
use openssl::x509::X509;
use x509_cert::der::Encode;

use super::inside::*;
use super::lab::*;
use crate::endorsement::{chip_id, Vlek};
use crate::image::{Image, Signer, Takeover};
use crate::{Api, Config, Part, Status};

const SEED: u64 = Config::MILAN.seed;
const TCB: u64 = Config::MILAN.tcb;

fn vendor() -> &'static Vendor {
    static VENDOR: OnceLock<Vendor> = OnceLock::new();
    VENDOR.get_or_init(|| vendor_of(Part::Milan))
}

/// The crate `kds` is built with another build of this one, and takes its own types only.
fn vendor_of(part: Part) -> Vendor {
    Vendor::new(part.to_string().parse().unwrap(), Names::Model).unwrap()
}

fn certificate(certificate: &x509_cert::Certificate) -> Certificate {
    Certificate::from_der(&certificate.to_der().unwrap()).unwrap()
}

/// The chain for the VCEK of a chip.
fn vcek(seed: u64, tcb: u64) -> Chain {
    vcek_by(vendor(), seed, tcb)
}

fn vcek_by(vendor: &Vendor, seed: u64, tcb: u64) -> Chain {
    let (ark, ask) = (vendor.ark().unwrap(), vendor.ask().unwrap());
    let vek = vendor.vcek(seed, Tcb(tcb)).unwrap();
    Chain {
        ca: ca::Chain { ark: certificate(&ark), ask: certificate(&ask) },
        vek: certificate(&vek),
    }
}

fn vlek(of: &Vlek, tcb: u64) -> Chain {
    let vendor = vendor();
    let (ark, asvk) = (vendor.ark().unwrap(), vendor.asvk().unwrap());
    let vek = vendor.vlek(&of.public_key(tcb), Tcb(tcb), "tests").unwrap();
    Chain {
        ca: ca::Chain { ark: certificate(&ark), ask: certificate(&asvk) },
        vek: certificate(&vek),
    }
}

fn parse(report: &[u8]) -> AttestationReport {
    AttestationReport::from_bytes(report).unwrap()
}

/// Whether `sev` accepts chain and report.
fn sev_accepts(chain: &Chain, report: &[u8]) -> bool {
    AttestationReport::from_bytes(report).is_ok_and(|report| (chain, &report).verify().is_ok())
}

/// Whether the certificate's key has signed these very bytes. (`sev` parses a report and verifies
/// what it has written again, so reserved bytes escape it.)
fn openssl_accepts(chain: &Chain, report: &[u8]) -> bool {
    let number = |at: usize| {
        let big_endian: Vec<u8> = report[at..at + 72].iter().rev().copied().collect();
        BigNum::from_slice(&big_endian).unwrap()
    };
    let signature = EcdsaSig::from_private_components(number(0x2a0), number(0x2e8)).unwrap();
    let key = X509::from(&chain.vek).public_key().unwrap().ec_key().unwrap();
    signature.verify(&sha384(&report[..0x2a0]), &key).unwrap_or(false)
}

fn bytes_of(report: &[u8], at: usize, len: usize) -> Vec<u8> {
    report[at..at + len].to_vec()
}

#[test]
fn a_report_shows_what_was_launched_and_verifies() {
    let mut data = [0; 64];
    data[..9].copy_from_slice(b"the nonce");
    let mut finish = Launch::plain().finish;
    finish.0[32..64].fill(0x77);
    let mut digest = [0; 48];
    let mut inside = Launch { finish, ..Launch::plain() }.run_with(|_, launched| digest = launched);
    let raw = inside.report(data);
    let report = parse(&raw);
    let chain = vcek(SEED, TCB);
    assert!(sev_accepts(&chain, &raw) && openssl_accepts(&chain, &raw), "{report}");

    assert_eq!((report.version, report.sig_algo, report.vmpl), (3, 1, 0));
    assert_eq!(report.report_data, data);
    assert_eq!(report.measurement, digest);
    assert_eq!(report.host_data, [0x77; 32]);
    assert_eq!(u64::from(report.policy), POLICY);
    assert_eq!(report.chip_id, chip_id(Part::Milan, SEED));
    assert_eq!(
        (report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step),
        (Some(0x19), Some(1), Some(1))
    );
    for tcb in [report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb] {
        assert_eq!((tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode), (4, 0, 20, 219));
    }
    for version in [report.current, report.committed] {
        assert_eq!((version.major, version.minor, version.build), (1, 55, 21));
    }
    assert!(report.plat_info.alias_check_complete());
    assert!(!report.plat_info.smt_enabled() && !report.plat_info.ciphertext_hiding_enabled());
    assert_eq!((report.key_info.signing_key(), report.key_info.author_key_en()), (0, false));
    assert_eq!((report.guest_svn, report.family_id, report.image_id), (0, [0; 16], [0; 16]));
    assert_eq!((report.id_key_digest, report.author_key_digest), ([0; 48], [0; 48]));
    assert_eq!(report.report_id_ma, [0xff; 32], "no migration agent");
    assert_ne!(report.report_id, [0; 32]);
    for reserved in
        [0x4c..0x50, 0x18b..0x1a0, 0x1eb..0x1ec, 0x1ef..0x1f0, 0x1f8..0x2a0, 0x330..0x4a0]
    {
        assert!(raw[reserved.clone()].iter().all(|byte| *byte == 0), "reserved {reserved:x?}");
    }
}

#[test]
fn tampered_reports_do_not_verify() {
    let raw = Launch::plain().run().report([0; 64]);
    let chain = vcek(SEED, TCB);
    assert!(openssl_accepts(&chain, &raw));
    for at in (0..0x2a0).chain([0x2a0, 0x2cf, 0x2e8, 0x317]) {
        let mut tampered = raw.clone();
        tampered[at] ^= 1;
        assert!(!openssl_accepts(&chain, &tampered), "byte {at:#x}");
    }
    for (what, at) in [
        ("policy", 0x0a),
        ("VMPL", 0x30),
        ("report data", 0x50),
        ("measurement", 0x90),
        ("host data", 0xc0),
        ("chip id", 0x1a0),
        ("reported TCB", 0x180),
        ("signature", 0x2a0),
    ] {
        let mut tampered = raw.clone();
        tampered[at] ^= 1;
        assert!(!sev_accepts(&chain, &tampered), "{what}");
    }
}

#[test]
fn other_chips_keys_do_not_verify() {
    let raw = Launch::plain().run().report([0; 64]);
    for (what, chain) in [
        ("another chip", vcek(SEED + 1, TCB)),
        ("another TCB", vcek(SEED, TCB - 1)),
        ("a VLEK", vlek(&Vlek { hashstick: [3; 384], tcb: TCB }, TCB)),
    ] {
        assert!(chain.verify().is_ok(), "{what}: the chain itself");
        assert!(!sev_accepts(&chain, &raw) && !openssl_accepts(&chain, &raw), "{what}");
    }
}

/// Key files of a guest's owner.
fn owner(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ccp-rs-{name}-{}.pem", std::process::id()));
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::SECP384R1).unwrap();
    let key = openssl::ec::EcKey::generate(&group).unwrap();
    fs::write(&path, key.private_key_to_pem().unwrap()).unwrap();
    path
}

#[test]
fn id_blocks_made_by_others_are_taken_and_reported() {
    let (id_key, author_key) = (owner("id"), owner("author"));
    for (with_author, flags) in [(true, 3), (false, 1)] {
        let finish = Launch::plain().finish.u64(8, LIST).u64(16, NV).u64(24, flags);
        let mut made = None;
        let mut inside = Launch { finish, ..Launch::plain() }.run_with(|lab, digest| {
            let calculated = snp_calculate_id(
                Some(SnpLaunchDigest::new(digest)),
                Some(FamilyId::new(*b"family of guests")),
                Some(ImageId::new(*b"one of its image")),
                Some(7),
                Some(POLICY.into()),
                id_key.clone(),
                author_key.clone(),
            );
            let calculated = calculated.unwrap();
            lab.machine.poke(LIST, &calculated.id_block.to_bytes().unwrap());
            lab.machine.poke(NV, &calculated.id_auth.to_bytes().unwrap());
            made = Some(calculated);
        });
        let digest = |digest: SnpLaunchDigest| -> Vec<u8> { digest.try_into().unwrap() };
        let made = made.unwrap();
        let raw = inside.report([0; 64]);
        let report = parse(&raw);
        assert!(sev_accepts(&vcek(SEED, TCB), &raw));
        assert_eq!(
            (&report.family_id, &report.image_id),
            (b"family of guests", b"one of its image")
        );
        assert_eq!(report.guest_svn, 7);
        assert_eq!(report.id_key_digest.to_vec(), digest(made.id_key_digest));
        assert_eq!(report.key_info.author_key_en(), with_author);
        let author = if with_author { digest(made.auth_key_digest) } else { vec![0; 48] };
        assert_eq!(report.author_key_digest.to_vec(), author);
    }
    // What was signed for one launch is not good for another: the block says which it is.
    let mut lab = Lab::launching(POLICY);
    let calculated = snp_calculate_id(
        Some(SnpLaunchDigest::new([1; 48])),
        None,
        None,
        None,
        Some(POLICY.into()),
        id_key.clone(),
        author_key.clone(),
    )
    .unwrap();
    let auth = calculated.id_auth.to_bytes().unwrap();
    let finish = buf(64).u64(0, GCTX).u64(8, LIST).u64(16, NV).u64(24, 3);
    lab.machine.poke(NV, &auth);
    let mut block = calculated.id_block.to_bytes().unwrap();
    lab.machine.poke(LIST, &block);
    assert_eq!(lab.status("SNP_LAUNCH_FINISH", &finish), Status::BadMeasurement);
    block[..48].fill(0);
    lab.machine.poke(LIST, &block);
    assert_eq!(
        lab.status("SNP_LAUNCH_FINISH", &finish),
        Status::BadSignature,
        "a changed ID block"
    );
    lab.ok("SNP_LAUNCH_FINISH", &buf(64).u64(0, GCTX));
    for path in [id_key, author_key] {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_host_lowers_the_tcb_and_masks() {
    let mut inside = Launch::plain().run();
    let lower = TCB - (1 << 56);
    inside.lab.ok("SNP_CONFIG", &buf(64).u64(0, lower));
    let raw = inside.report([0; 64]);
    assert_eq!(bytes_of(&raw, 0x180, 8), lower.to_le_bytes(), "reported");
    assert_eq!(bytes_of(&raw, 0x38, 8), TCB.to_le_bytes(), "current");
    assert_eq!(bytes_of(&raw, 0x1e0, 8), TCB.to_le_bytes(), "committed");
    assert!(sev_accepts(&vcek(SEED, lower), &raw), "signed with the VCEK of the reported TCB");
    assert!(!sev_accepts(&vcek(SEED, TCB), &raw));

    inside.lab.ok("SNP_CONFIG", &buf(64).u32(8, 1));
    let raw = inside.report([0; 64]);
    assert_eq!(bytes_of(&raw, 0x1a0, 64), [0; 64], "MASK_CHIP_ID");
    assert!(openssl_accepts(&vcek(SEED, TCB), &raw));

    inside.lab.ok("SNP_CONFIG", &buf(64).u32(8, 2));
    let raw = inside.report([0; 64]);
    let key_info = parse(&raw).key_info;
    assert_eq!((key_info.mask_chip_key(), key_info.signing_key()), (true, 7), "MASK_CHIP_KEY");
    assert_eq!(bytes_of(&raw, 0x2a0, 512), [0; 512], "no signature");
    assert_eq!(bytes_of(&raw, 0x1a0, 64), chip_id(Part::Milan, SEED));
    assert!(!sev_accepts(&vcek(SEED, TCB), &raw));
}

/// A verifier needs the VCEK of the reported TCB, which is the committed one, whatever runs.
#[test]
fn reports_show_which_firmware_runs_and_which_is_committed() {
    let mut inside = Launch::plain().run();
    let (api, new) = (Api { major: 1, minor: 56, build: 3 }, 0xdb15_0000_0000_0004u64);
    let image = Image { part: [0x19, 1], api, svn: 21, takeover: Takeover::Live };
    let bytes = image.signed(Signer::Vendor);
    inside.lab.machine.poke(NV, &bytes);
    let download = buf(24).u32(0, 24).u64(8, NV).u32(16, bytes.len() as u32);
    inside.lab.ok("SNP_DOWNLOAD_FIRMWARE_EX", &download);
    inside.lab.firmware(OUT, 1);
    inside.lab.ok("SNP_GUEST_STATUS", &buf(16).u64(0, GCTX).u64(8, OUT));
    // Current, reported, committed, launch; current and committed version.
    let shown = |raw: &[u8]| {
        let tcb = |at| u64::from_le_bytes(bytes_of(raw, at, 8).try_into().unwrap());
        ([0x38, 0x180, 0x1e0, 0x1f0].map(tcb), bytes_of(raw, 0x1e8, 8).to_vec())
    };
    let raw = inside.report([0; 64]);
    assert_eq!(shown(&raw), ([new, TCB, TCB, TCB], vec![3, 56, 1, 0, 21, 55, 1, 0]));
    assert!(sev_accepts(&vcek(SEED, TCB), &raw) && !sev_accepts(&vcek(SEED, new), &raw));
    inside.lab.ok("SNP_COMMIT", &buf(4).u32(0, 4));
    let raw = inside.report([0; 64]);
    assert_eq!(shown(&raw), ([new, new, new, TCB], vec![3, 56, 1, 0, 3, 56, 1, 0]));
    assert!(sev_accepts(&vcek(SEED, new), &raw) && !sev_accepts(&vcek(SEED, TCB), &raw));
}

/// The answer to a request with this VMPL and key selection.
fn status(inside: &mut Inside, vmpck: u8, vmpl: u32, key_sel: u32) -> u32 {
    let (status, answer) =
        inside.answer(MSG_REPORT_REQ, vmpck, &report_request([0; 64], vmpl, key_sel));
    assert_eq!(answer.len(), 0x1c + 0x4a0);
    assert!(status == 0 || answer.iter().all(|byte| *byte == 0), "no report beside an error");
    status
}

#[test]
fn a_guest_speaks_for_its_own_vmpl_and_those_below() {
    let mut inside = Launch::plain().run();
    for vmpck in 0..4 {
        for vmpl in [0, 1, 2, 3, 4, u32::MAX] {
            let expected = if (u32::from(vmpck)..4).contains(&vmpl) { 0 } else { 0x16 };
            assert_eq!(status(&mut inside, vmpck, vmpl, 0), expected, "VMPCK{vmpck}, VMPL {vmpl}");
        }
    }
    let (status, answer) = inside.answer(MSG_REPORT_REQ, 1, &report_request([0; 64], 2, 0));
    assert_eq!((status, parse(&answer[0x1c..]).vmpl), (0, 2));
    let mut reserved = report_request([0; 64], 0, 0);
    reserved[0x5f] = 1;
    assert_eq!(inside.answer(MSG_REPORT_REQ, 0, &reserved).0, 0x16, "reserved");
}

#[test]
fn the_signing_key_is_the_one_that_was_asked_for() {
    let loaded = Vlek { hashstick: [3; 384], tcb: TCB };
    let load = |inside: &mut Inside| {
        inside.lab.machine.poke(LIST, &loaded.wrap(SEED, [0; 12]));
        inside.lab.ok("SNP_VLEK_LOAD", &buf(16).u32(0, 16).u64(8, LIST));
    };
    let ask = |inside: &mut Inside, key_sel| {
        inside.answer(MSG_REPORT_REQ, 0, &report_request([0; 64], 0, key_sel)).1[0x1c..].to_vec()
    };
    let mut inside = Launch::plain().run();
    assert_eq!(status(&mut inside, 0, 0, 2), 0x27, "a VLEK that is not there");
    assert_eq!(status(&mut inside, 0, 0, 3), 0x16, "key selection 3");
    assert_eq!(status(&mut inside, 0, 0, 4), 0x16, "reserved bits");
    assert!(sev_accepts(&vcek(SEED, TCB), &ask(&mut inside, 1)), "the VCEK by name");

    load(&mut inside);
    for key_sel in [0, 2] {
        let raw = ask(&mut inside, key_sel);
        assert_eq!(parse(&raw).key_info.signing_key(), 1, "selection {key_sel}");
        assert!(sev_accepts(&vlek(&loaded, TCB), &raw), "selection {key_sel}");
        assert!(!sev_accepts(&vcek(SEED, TCB), &raw), "selection {key_sel}");
    }
    let raw = ask(&mut inside, 1);
    assert!(parse(&raw).key_info.signing_key() == 0 && sev_accepts(&vcek(SEED, TCB), &raw));

    let lower = TCB - 1;
    inside.lab.ok("SNP_CONFIG", &buf(64).u64(0, lower));
    assert!(sev_accepts(&vlek(&loaded, lower), &ask(&mut inside, 2)), "at a lower TCB");

    let finish = Launch::plain().finish.u64(24, 4);
    let mut inside = Launch { finish, ..Launch::plain() }.run();
    assert_eq!(status(&mut inside, 0, 0, 0), 0x27, "no VCEK wanted, no VLEK there");
    assert_eq!(status(&mut inside, 0, 0, 1), 0x27, "no VCEK wanted");
    load(&mut inside);
    assert_eq!(status(&mut inside, 0, 0, 0), 0, "no VCEK wanted, a VLEK there");
}

#[test]
fn a_vlek_is_good_up_to_its_tcb() {
    let mut inside = Launch::plain().run();
    let old = Vlek { hashstick: [3; 384], tcb: TCB - 1 };
    inside.lab.machine.poke(LIST, &old.wrap(SEED, [0; 12]));
    inside.lab.ok("SNP_VLEK_LOAD", &buf(16).u32(0, 16).u64(8, LIST));
    assert_eq!(status(&mut inside, 0, 0, 2), 0x27);
    inside.lab.ok("SNP_CONFIG", &buf(64).u64(0, TCB - 1));
    assert_eq!(status(&mut inside, 0, 0, 2), 0);
}

#[test]
fn platform_information_follows_the_platform() {
    let hiding: fn() -> Lab = || {
        let mut lab = Lab::prepared();
        lab.ok("SNP_INIT_EX", &buf(64).u32(0, 1 | 4 | 8).u32(16, 5));
        lab.machine.wbinvd();
        lab.ok("SNP_DF_FLUSH", &buf(0));
        lab.firmware(GCTX, 1);
        lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
        lab
    };
    let raw = Launch { lab: hiding, ..Launch::plain() }.run().report([0; 64]);
    let info = parse(&raw).plat_info;
    assert!(info.rapl_disabled() && info.ciphertext_hiding_enabled() && !info.smt_enabled());
    let smt: fn() -> Lab = || context_of(Config { smt: true, ..Config::MILAN });
    let raw = Launch { lab: smt, ..Launch::plain() }.run().report([0; 64]);
    let info = parse(&raw).plat_info;
    assert!(info.smt_enabled() && !info.rapl_disabled() && !info.ciphertext_hiding_enabled());
}

#[test]
fn mitigations_are_reported_from_1_58_on() {
    let newest: fn() -> Lab = || {
        let api = Api { major: 1, minor: 58, build: 4 };
        let mut lab = context_of(Config { api, ..Config::MILAN });
        verify_mitigation(&mut lab, 1);
        lab
    };
    let mut inside = Launch { lab: newest, ..Launch::plain() }.run();
    verify_mitigation(&mut inside.lab, 2);
    let raw = inside.report([0; 64]);
    let report = parse(&raw);
    assert!(sev_accepts(&vcek(SEED, TCB), &raw));
    assert_eq!(report.version, 5);
    assert_eq!((report.launch_mit_vector, report.current_mit_vector), (Some(1), Some(3)));
}

fn verify_mitigation(lab: &mut Lab, vector: u64) {
    if lab.machine.state(OUT) != Some(rmp::State::Firmware) {
        lab.firmware(OUT, 1);
    }
    let verify = buf(64).u32(0, 64).u8(4, 1).u64(8, vector).u32(16, 1).u64(32, OUT);
    lab.ok("SNP_VERIFY_MITIGATION", &verify);
}

/// Each part's, as virtee's `sev` reads it: it knows a part by the CPUID in the report, or if there
/// is none by the chip's identifier.
#[test]
fn every_part_has_its_own_report() {
    type Row = (fn() -> Lab, Part, u32, [u8; 3], usize, Option<u8>, [u8; 4]);
    let rows: [Row; 5] = [
        (of_milan, Part::Milan, 3, [25, 1, 1], 64, None, [4, 0, 20, 219]),
        (of_genoa, Part::Genoa, 3, [25, 17, 0], 64, None, [9, 0, 21, 72]),
        (of_turin, Part::Turin, 5, [26, 0, 0], 8, Some(1), [2, 5, 3, 78]),
        (of_old_milan, Part::Milan, 2, [0; 3], 64, None, [4, 0, 20, 219]),
        (of_new_genoa, Part::Genoa, 4, [25, 17, 0], 64, None, [9, 0, 21, 72]),
    ];
    for (lab, part, version, cpu, id_len, fmc, numbers) in rows {
        let raw = Launch { lab, ..Launch::plain() }.run().report([7; 64]);
        let report = parse(&raw);
        let what = format!("{part}, version {version}: {report}");
        assert_eq!(report.version, version, "{what}");
        assert_eq!(raw[0x188..0x18b], cpu, "{what}");
        assert!(raw[0x1a0..0x1a0 + id_len].iter().any(|byte| *byte != 0), "{what}");
        assert_eq!(raw[0x1a0 + id_len..0x1e0], vec![0; 64 - id_len], "{what}");
        for tcb in
            [report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb]
        {
            let found = [tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode];
            assert_eq!((tcb.fmc, found), (fmc, numbers), "{what}");
        }
        let chain = vcek_by(&vendor_of(part), SEED, Config::new(part).tcb);
        assert!(sev_accepts(&chain, &raw) && openssl_accepts(&chain, &raw), "{what}");
    }
}

fn of_milan() -> Lab {
    context_of(Config::new(Part::Milan))
}

fn of_genoa() -> Lab {
    context_of(Config::new(Part::Genoa))
}

fn of_turin() -> Lab {
    context_of(Config::new(Part::Turin))
}

fn of_old_milan() -> Lab {
    context_of(Config { api: Api { major: 1, minor: 52, build: 4 }, ..Config::new(Part::Milan) })
}

fn of_new_genoa() -> Lab {
    context_of(Config { api: Api { major: 1, minor: 55, build: 31 }, ..Config::new(Part::Genoa) })
}
