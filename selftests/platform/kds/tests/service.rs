// SPDX-License-Identifier: GPL-2.0
//! The service as clients ask it, and who its certificates say has issued them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use kds::{Names, Service, Style, Tcb};
use openssl::x509::{X509Crl, X509};
use psp::{Config, Part};

const SEED: u64 = 7;

fn service(part: Part, names: Names) -> (Service, Tcb) {
    let tcb = Tcb(Config::new(part).tcb);
    (Service::new(part, SEED, tcb, names).unwrap(), tcb)
}

/// They write the chip in small and in capital letters, numbers with and without zeros, in any
/// order.
#[test]
fn all_clients_get_the_same_certificate() {
    for part in Part::ALL {
        let (service, tcb) = service(part, Names::Model);
        let chip = service.chip();
        let (padded, plain) = (tcb.query(part, Style::Padded), tcb.query(part, Style::Plain));
        let mut other_order: Vec<&str> = plain.split('&').collect();
        other_order.reverse();
        let certificates: Vec<Vec<u8>> = [
            format!("/vcek/v1/{part}/{chip}?{padded}"),
            format!("/vcek/v1/{part}/{}?{plain}", chip.to_uppercase()),
            format!("vcek/v1/{part}/{chip}?{}", other_order.join("&")),
        ]
        .map(|target| service.get(&target).unwrap().unwrap_or_else(|| panic!("no {target}")))
        .into();
        assert!(certificates.iter().all(|certificate| *certificate == certificates[0]));
        let other = service.get(&format!("/vcek/v1/{part}/{chip}?blSPL=1")).unwrap().unwrap();
        assert_ne!(other, certificates[0], "another TCB is another key");
    }
}

#[test]
fn what_there_is_not() {
    let (service, _) = service(Part::Turin, Names::Model);
    let chip = service.chip();
    for target in [
        format!("/vcek/v1/Milan/{chip}?blSPL=1"),
        format!("/vcek/v1/Turin/{chip}{}?blSPL=1", "0".repeat(112)),
        format!("/vcek/v1/Turin/{}?blSPL=1", chip.replace(|c| c != '0', "0")),
        format!("/vcek/v1/Turin/{chip}?blSPL=256"),
        format!("/vcek/v1/Turin/{chip}?spl=1"),
        "/vcek/v1/Turin".to_owned(),
        "/vlek/v1/Turin/other?blSPL=1".to_owned(),
        "/".to_owned(),
    ] {
        assert!(service.get(&target).unwrap().is_none(), "{target}");
    }
}

/// As OpenSSL sees it: signed by the root, by nobody else, and without entries.
#[test]
fn the_list_of_revoked_certificates_is_the_roots() {
    let (service, _) = service(Part::Genoa, Names::Model);
    let crl = service.get("/vcek/v1/Genoa/crl").unwrap().unwrap();
    let crl = X509Crl::from_der(&crl).unwrap();
    let chain = service.get("/vcek/v1/Genoa/cert_chain").unwrap().unwrap();
    let chain = X509::stack_from_pem(&chain).unwrap();
    let [ask, ark] = chain.as_slice() else { panic!("two certificates") };
    assert!(crl.verify(&ark.public_key().unwrap()).unwrap());
    assert!(!crl.verify(&ask.public_key().unwrap()).unwrap());
    assert!(crl.get_revoked().is_none());
    assert_eq!(crl.issuer_name().to_der().unwrap(), ark.subject_name().to_der().unwrap());
}

#[test]
fn names_are_the_vendors_only_if_asked_for() {
    for (names, organisation, points) in [
        (Names::Model, "ccp-rs PSP model (not AMD)", false),
        (Names::Amd, "Advanced Micro Devices", true),
    ] {
        let (service, tcb) = service(Part::Milan, names);
        let pem = service.get("/vcek/v1/Milan/cert_chain").unwrap().unwrap();
        let vcek =
            format!("/vcek/v1/Milan/{}?{}", service.chip(), tcb.query(Part::Milan, Style::Plain));
        let mut all = X509::stack_from_pem(&pem).unwrap();
        assert!(all.iter().all(|x509| x509.crl_distribution_points().is_some() == points));
        all.push(X509::from_der(&service.get(&vcek).unwrap().unwrap()).unwrap());
        for x509 in &all {
            for name in [x509.issuer_name(), x509.subject_name()] {
                let found: Vec<String> = name
                    .entries_by_nid(openssl::nid::Nid::ORGANIZATIONNAME)
                    .map(|entry| entry.data().to_string().unwrap())
                    .collect();
                assert_eq!(found, [organisation]);
            }
        }
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn over_http() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_kds"))
        .args(["--serve", "0", "--part", "turin"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let _server = Server(server);
    let address = address.trim().strip_prefix("http://127.0.0.1:").unwrap().to_owned();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{address}")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let body = answer.get(end + 4..).unwrap_or(&[]).to_vec();
        (String::from_utf8_lossy(&answer[..end]).into_owned(), body)
    };
    let request =
        |method: &str, path: &str| ask(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    // Somebody connects and says nothing of use.
    assert!(ask("\r\n\r\n").0.starts_with("HTTP/1.1 405"));
    let (head, body) = request("GET", "/vcek/v1/Turin/cert_chain");
    assert!(
        head.starts_with("HTTP/1.1 200 OK")
            && head.contains(&format!("Content-Length: {}", body.len()))
    );
    assert_eq!(X509::stack_from_pem(&body).unwrap().len(), 2);
    let (head, nothing) = request("HEAD", "/vcek/v1/Turin/cert_chain");
    assert!(head.contains(&format!("Content-Length: {}", body.len())) && nothing.is_empty());
    assert!(request("GET", "/vcek/v1/Milan/cert_chain").0.starts_with("HTTP/1.1 404"));
    assert!(request("POST", "/vcek/v1/Turin/cert_chain").0.starts_with("HTTP/1.1 405"));
}
