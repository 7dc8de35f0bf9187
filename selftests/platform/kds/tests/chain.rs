// SPDX-License-Identifier: GPL-2.0
//! The certificates, as other people's code sees them: OpenSSL's X.509 and virtee's `sev`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, sync::OnceLock};

use kds::{tree, Names, Style, Tcb};
use openssl::x509::X509;
use psp::{Config, Part};
use sev::certs::snp::{ca, Certificate, Chain, Verifiable};

const SEED: u64 = 7;
const TCB: Tcb = Tcb(Config::MILAN.tcb);

/// The tree, written once for all tests, with the command.
fn files() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kds");
        let _ = fs::remove_dir_all(&dir);
        let seed = SEED.to_string();
        let kds =
            Command::new(env!("CARGO_BIN_EXE_kds")).arg(&dir).args(["--seed", &seed]).status();
        assert!(kds.unwrap().success());
        dir
    })
}

/// The address of the chip's VCEK.
fn vcek() -> String {
    format!("vcek/v1/Milan/{}?{}", chip(), TCB.query(Part::Milan, Style::Padded))
}

fn chip() -> String {
    psp::endorsement::chip_id(Part::Milan, SEED).map(|byte| format!("{byte:02x}")).concat()
}

fn chain(kind: &str, intermediate: &str, key: &str) -> Chain {
    let read = |name: &str| {
        Certificate::from_pem(&fs::read(files().join(format!("{kind}/{name}.pem"))).unwrap())
            .unwrap()
    };
    Chain { ca: ca::Chain { ark: read("ark"), ask: read(intermediate) }, vek: read(key) }
}

/// Runs the openssl command; says whether it was satisfied.
fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).current_dir(files()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn sev_accepts_both_chains() {
    chain("vcek", "ask", "vcek").verify().unwrap();
    chain("vlek", "asvk", "vlek").verify().unwrap();
}

#[test]
fn sev_refuses_what_does_not_belong_together() {
    let (vcek, vlek) = (chain("vcek", "ask", "vcek"), chain("vlek", "asvk", "vlek"));
    let mixed = [
        ("a VLEK under the ASK", Chain { vek: vlek.vek.clone(), ..vcek.clone() }),
        ("a VCEK under the ASVK", Chain { vek: vcek.vek.clone(), ..vlek.clone() }),
        (
            "AMD's own root",
            Chain {
                ca: ca::Chain {
                    ark: sev::certs::snp::builtin::milan::ark().unwrap(),
                    ask: vcek.ca.ask.clone(),
                },
                vek: vcek.vek.clone(),
            },
        ),
        (
            "AMD's own root and ASK",
            Chain {
                ca: ca::Chain {
                    ark: sev::certs::snp::builtin::milan::ark().unwrap(),
                    ask: sev::certs::snp::builtin::milan::ask().unwrap(),
                },
                vek: vcek.vek.clone(),
            },
        ),
    ];
    for (what, chain) in mixed {
        assert!(chain.verify().is_err(), "{what}");
    }
}

/// Strict as far as AMD's own are: a VCEK or VLEK has no authority key identifier.
#[test]
fn openssl_accepts_the_chains_and_no_other() {
    let verify = |arguments: &[&str]| openssl(&[&["verify", "-CAfile"], arguments].concat());
    for (arguments, accepted) in [
        (&["vcek/ark.pem", "-untrusted", "vcek/ask.pem", "vcek/vcek.pem"][..], true),
        (&["vlek/ark.pem", "-untrusted", "vlek/asvk.pem", "vlek/vlek.pem"], true),
        (&["vcek/ark.pem", "-x509_strict", "vcek/ask.pem"], true),
        (&["vcek/ark.pem", "-x509_strict", "vlek/asvk.pem"], true),
        (&["vcek/ark.pem", "-untrusted", "vlek/asvk.pem", "vcek/vcek.pem"], false),
        (&["vcek/ark.pem", "-untrusted", "vcek/ask.pem", "vlek/vlek.pem"], false),
        (&["vcek/ark.pem", "vcek/vcek.pem"], false),
    ] {
        let (ok, text) = verify(arguments);
        assert_eq!(ok, accepted, "{arguments:?}: {text}");
    }
}

/// Extension by extension as in a certificate of AMD's that others publish (virtee/sev,
/// tests/certs_data/vcek_milan.der), which says what each is; numbers are this chip's.
#[test]
fn the_vcek_has_amds_extensions() {
    let der = fs::read(files().join(vcek())).unwrap();
    let vcek = X509::from_der(&der).unwrap();
    assert_eq!(vcek.serial_number().to_bn().unwrap().to_vec(), [0u8; 0], "serial 0");
    assert_eq!(
        vcek.public_key().unwrap().ec_key().unwrap().group().curve_name(),
        Some(openssl::nid::Nid::SECP384R1)
    );
    let (_, text) = openssl(&["asn1parse", "-inform", "pem", "-in", "vcek/vcek.pem"]);
    let mut lines = text.lines();
    let mut value = |oid: &str| {
        let found = lines.by_ref().find(|line| line.ends_with(&format!(":{oid}")));
        assert!(found.is_some(), "no {oid}, or out of order");
        lines.next().unwrap().rsplit(':').next().unwrap().to_owned()
    };
    assert_eq!(value("1.3.6.1.4.1.3704.1.1"), "020100", "structure version");
    assert_eq!(value("1.3.6.1.4.1.3704.1.2"), "16084D696C616E2D4230", "product Milan-B0");
    let svns = [(1, "020104"), (2, "020100"), (3, "020114"), (4, "020100"), (5, "020100")];
    for (n, der) in svns.into_iter().chain([(6, "020100"), (7, "020100"), (8, "020200DB")]) {
        assert_eq!(value(&format!("1.3.6.1.4.1.3704.1.3.{n}")), der, "security version {n}");
    }
    assert_eq!(value("1.3.6.1.4.1.3704.1.4"), chip().to_uppercase(), "chip");
}

#[test]
fn the_tree_is_the_services() {
    let pems = |path: &str| X509::stack_from_pem(&fs::read(files().join(path)).unwrap()).unwrap();
    let names = |path: &str| -> Vec<String> {
        let common = |x509: &X509| {
            let mut names = x509.subject_name().entries_by_nid(openssl::nid::Nid::COMMONNAME);
            names.next().unwrap().data().to_string().unwrap()
        };
        pems(path).iter().map(common).collect()
    };
    assert_eq!(names("vcek/v1/Milan/cert_chain"), ["SEV-Milan", "ARK-Milan"]);
    assert_eq!(names("vlek/v1/Milan/cert_chain"), ["SEV-VLEK-Milan", "ARK-Milan"]);
    let query = TCB.query(Part::Milan, Style::Padded);
    let vlek = fs::read(files().join(format!("vlek/v1/Milan/cert?{query}"))).unwrap();
    assert_eq!(X509::from_der(&vlek).unwrap(), pems("vlek/vlek.pem")[0]);
    for x509 in pems("vcek/v1/Milan/cert_chain") {
        let issuer = format!("{:?}", x509.issuer_name());
        assert!(issuer.contains("not AMD"), "nobody shall take it for AMD's: {issuer}");
    }
}

#[test]
fn sev_reads_the_wrapped_vlek() {
    use sev::{firmware::host::WrappedVlekHashstick, parser::ByteParser, Generation};
    let bytes = fs::read(files().join("vlek/hashstick")).unwrap();
    let hashstick = WrappedVlekHashstick::from_bytes_with(&bytes, Generation::Milan).unwrap();
    let tcb = hashstick.tcb_version;
    assert_eq!((tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode), (4, 0, 20, 219));
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let again = files().with_extension("again");
    tree::write(&again, Part::Milan, SEED, TCB, Names::Model).unwrap();
    let vcek = vcek();
    for file in [vcek.as_str(), "vcek/ark.pem", "vcek/ask.pem", "vlek/vlek.pem", "vlek/hashstick"] {
        let read = |dir: &Path| fs::read(dir.join(file)).unwrap();
        assert_eq!(read(files()), read(&again), "{file}");
    }
}

/// By virtee's `sev`, which knows where a Turin has its numbers, and by the names.
#[test]
fn every_part_has_its_own_names_and_numbers() {
    for part in Part::ALL {
        let dir = files().with_extension(part.to_string());
        let tcb = Tcb(Config::new(part).tcb);
        tree::write(&dir, part, SEED, tcb, Names::Model).unwrap();
        let read = |name: &str| fs::read(dir.join("vcek").join(name)).unwrap();
        let [ark, ask, vek] = ["ark.pem", "ask.pem", "vcek.pem"]
            .map(|name| Certificate::from_pem(&read(name)).unwrap());
        Chain { ca: ca::Chain { ark, ask }, vek }.verify().unwrap();
        let vcek = X509::from_pem(&read("vcek.pem")).unwrap();
        let issuer = format!("{:?}", vcek.issuer_name());
        assert!(issuer.contains(&format!("\"SEV-{part}\"")), "{issuer}");
        let id = psp::endorsement::chip_id(part, SEED);
        let id: Vec<_> = id[..part.chip_id_len()].iter().map(|b| format!("{b:02x}")).collect();
        let id = id.concat();
        assert_eq!(id.len(), if part == Part::Turin { 16 } else { 128 });
        let path = format!("vcek/v1/{part}/{id}?{}", tcb.query(part, Style::Padded));
        assert_eq!(X509::from_der(&fs::read(dir.join(path)).unwrap()).unwrap(), vcek);
    }
}
