// SPDX-License-Identifier: GPL-2.0
//! The files.

use std::fs;
use std::path::Path;

use psp::Part;

use crate::service::{ask_ark, pem, Service};
use crate::{Error, Names, Style, Tcb};

/// Writes into `dir` what the service has for the chip with this seed at this TCB version, under
/// the paths of its URLs ([`Service::get`]), queries included (as `wget -x` names files), with
/// numbers as each of the styles of clients has them; and what these clients keep:
///
/// ```text
/// vcek/{ark,ask,vcek}.pem, vlek/{ark,asvk,vlek}.pem    what snpguest and snphost verify with
/// vlek/hashstick                                       the wrapped VLEK, for snphost's vlek-load
/// ```
pub fn write(dir: &Path, part: Part, seed: u64, tcb: Tcb, names: Names) -> Result<(), Error> {
    let service = Service::new(part, seed, tcb, names)?;
    let chip = service.chip();
    let mut targets = vec![
        format!("vcek/v1/{part}/cert_chain"),
        format!("vcek/v1/{part}/crl"),
        format!("vlek/v1/{part}/cert_chain"),
        format!("vlek/v1/{part}/crl"),
        format!("cek/id/{chip}"),
        format!("wp-content/resources/{}", ask_ark(part)),
    ];
    for style in [Style::Padded, Style::Plain] {
        let query = tcb.query(part, style);
        targets.push(format!("vcek/v1/{part}/{chip}?{query}"));
        targets.push(format!("vlek/v1/{part}/cert?{query}"));
    }
    for target in targets {
        let answer = service.get(&target)?.ok_or_else(|| format!("there is no {target}"))?;
        put(&dir.join(target), answer)?;
    }
    let [ark, ask, asvk] = [service.vendor.ark()?, service.vendor.ask()?, service.vendor.asvk()?];
    let (vcek, vlek) = (service.vcek(tcb)?, service.vlek(tcb)?);
    for (name, certificate) in [("ark", &ark), ("ask", &ask), ("vcek", &vcek)] {
        put(&dir.join(format!("vcek/{name}.pem")), pem(&[certificate])?)?;
    }
    for (name, certificate) in [("ark", &ark), ("asvk", &asvk), ("vlek", &vlek)] {
        put(&dir.join(format!("vlek/{name}.pem")), pem(&[certificate])?)?;
    }
    put(&dir.join("vlek/hashstick"), service.hashstick())
}

fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    let error = |error| format!("cannot write {}: {error}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(error)?;
    }
    Ok(fs::write(path, content).map_err(error)?)
}
