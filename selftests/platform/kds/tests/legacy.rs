// SPDX-License-Identifier: GPL-2.0
//! SEV's own authorities and the CEK, as virtee's `sev` verifies them.

use kds::{Names, Service, Tcb};
use psp::{Config, Part};
use sev::certs::sev::{ca, sev as platform, Verifiable};
use sev::parser::Decoder;

const SEED: u64 = 7;

fn service(part: Part) -> Service {
    Service::new(part, SEED, Tcb(Config::new(part).tcb), Names::Model).unwrap()
}

fn get(service: &Service, target: &str) -> Vec<u8> {
    service.get(target).unwrap().unwrap_or_else(|| panic!("there is no {target}"))
}

#[test]
fn the_cek_of_every_part_is_signed_by_its_ask() {
    for part in Part::ALL {
        let service = service(part);
        let name = format!("/wp-content/resources/ask_ark_{part}.cert").to_lowercase();
        let chain = get(&service, &name);
        assert_eq!(chain.len(), 2 * 1600, "as long as AMD's");
        let chain = ca::Chain::decode(&mut chain.as_slice(), ()).unwrap();
        let ask = (&chain).verify().unwrap();
        let cek = get(&service, &format!("/cek/id/{}", service.chip()));
        let cek = platform::Certificate::decode(&mut cek.as_slice(), ()).unwrap();
        (ask, &cek).verify().unwrap();
        assert!((&chain.ark, &cek).verify().is_err(), "the root has not signed it");
    }
}

#[test]
fn a_cek_that_was_changed_is_nobodys() {
    let service = service(Part::Milan);
    let chain = get(&service, "/wp-content/resources/ask_ark_milan.cert");
    let chain = ca::Chain::decode(&mut chain.as_slice(), ()).unwrap();
    let mut cek = get(&service, &format!("/cek/id/{}", service.chip()));
    cek[0x20] ^= 1;
    let cek = platform::Certificate::decode(&mut cek.as_slice(), ()).unwrap();
    assert!((&chain.ask, &cek).verify().is_err());
}
