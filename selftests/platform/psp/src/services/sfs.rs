// SPDX-License-Identifier: GPL-2.0
//! Seamless firmware servicing: firmware of the processor and of others is replaced while the
//! machine runs.
//!
//! Source: drivers/crypto/ccp/sfs.c and include/uapi/linux/psp-sfs.h of Linux 7.3: the request's
//! header, where the answer goes, what a buffer has to be filled with. What the answer says, the
//! package and the extended status are model choices.

use std::collections::BTreeMap;

use rmp::{Geometry, Rmp, State};
use zerocopy::little_endian::U32;
use zerocopy::IntoBytes;

use super::package::{self, Defect};
use super::{status, Host};
use crate::abi::structures;
use crate::Platform;

/// The first page of a request is its own; an answer, or a package, begins behind it.
const PAGE: u64 = 0x1000;
/// A package is padded to this, and its request lies at a multiple of it.
const UNIT: u64 = 0x1_0000;
/// The largest request.
const LIMIT: u64 = 2 << 20;
/// What an answer's page is filled with by whoever asks.
const UNTOUCHED: u8 = 0xc7;

const GET_VERSIONS: u32 = 1;
const UPDATE: u32 = 2;

structures! {
    /// How a request of the mailbox begins.
    Header {
        /// Of the whole request.
        size: U32,
        number: U32,
        status: U32,
        extended_status: U32,
    }

    /// Which version of a part runs.
    Version {
        part: U32,
        version: U32,
    }
}

/// What the extended status says.
mod extended {
    pub(super) const NONE: u32 = 0;
    pub(super) const SIZE: u32 = 1;
    pub(super) const ALIGNMENT: u32 = 2;
    pub(super) const NOT_FILLED: u32 = 3;
    pub(super) const FORMAT: u32 = 4;
    pub(super) const SIGNATURE: u32 = 5;
    pub(super) const PART: u32 = 6;
    pub(super) const OLDER: u32 = 7;
    pub(super) const PAGE_STATE: u32 = 8;
}

/// Firmware that can be replaced.
#[derive(Debug)]
pub struct Sfs {
    /// By part.
    versions: BTreeMap<u32, u32>,
    c_bit: u32,
}

type Refused = (u16, u32);

impl Sfs {
    /// As the BIOS has loaded it.
    pub fn new(c_bit: u32) -> Sfs {
        Sfs { versions: BTreeMap::from([(1, 0x100), (2, 0x200)]), c_bit }
    }

    /// The number of the request at `address`, if that is RAM.
    pub fn number(&self, platform: &dyn Platform, address: u64) -> Option<u32> {
        let header: Header = Host::new(platform, self.c_bit).read_as(address)?;
        Some(header.number.get())
    }

    /// Carries out the request at `address`, and returns its status.
    pub fn serve(&mut self, platform: &dyn Platform, address: u64) -> u16 {
        let host = Host::new(platform, self.c_bit);
        let Some(mut header) = host.read_as::<Header>(address) else {
            return status::INVALID_PARAMETER;
        };
        let size = u64::from(header.size.get());
        let done = self.request(&host, address, size, header.number.get());
        let (code, extended) = match done {
            Ok(()) => (status::SUCCESS, extended::NONE),
            Err(refused) => refused,
        };
        header.status = u32::from(code).into();
        header.extended_status = extended.into();
        host.write(address, header.as_bytes());
        code
    }

    fn request(
        &mut self,
        host: &Host<'_>,
        address: u64,
        size: u64,
        number: u32,
    ) -> Result<(), Refused> {
        let invalid = |why| (status::INVALID_PARAMETER, why);
        if size > LIMIT {
            return Err((status::TOO_LARGE, extended::SIZE));
        }
        if size <= PAGE {
            return Err(invalid(extended::SIZE));
        }
        if host.plain(address) % UNIT != 0 {
            return Err(invalid(extended::ALIGNMENT));
        }
        if !is_fixed(host, address, size) {
            return Err((status::NOT_ALLOWED, extended::PAGE_STATE));
        }
        let rest = host.read(address + PAGE, size - PAGE).ok_or(invalid(extended::SIZE))?;
        match number {
            GET_VERSIONS if size != 2 * PAGE => Err(invalid(extended::SIZE)),
            GET_VERSIONS if rest.iter().any(|byte| *byte != UNTOUCHED) => {
                Err(invalid(extended::NOT_FILLED))
            }
            GET_VERSIONS => {
                host.write(address + PAGE, &self.versions());
                Ok(())
            }
            UPDATE if size % UNIT != 0 => Err(invalid(extended::SIZE)),
            UPDATE => self.update(&rest),
            _ => Err((status::NOT_IMPLEMENTED, extended::NONE)),
        }
    }

    fn versions(&self) -> Vec<u8> {
        let rows = self.versions.iter().flat_map(|(part, version)| {
            Version { part: (*part).into(), version: (*version).into() }.as_bytes().to_vec()
        });
        rows.collect()
    }

    fn update(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let package = package::open(bytes).map_err(|defect| match defect {
            Defect::Format => (status::INVALID_PARAMETER, extended::FORMAT),
            Defect::Signature => (status::INVALID_SIGNATURE, extended::SIGNATURE),
        })?;
        let running = self.versions.get_mut(&package.part);
        let running = running.ok_or((status::INVALID_PARAMETER, extended::PART))?;
        if package.version < *running {
            return Err((status::NOT_ALLOWED, extended::OLDER));
        }
        *running = package.version;
        Ok(())
    }
}

/// Whether a guest cannot get any page of the request: while CPUs enforce the RMP all are HV-Fixed.
fn is_fixed(host: &Host<'_>, address: u64, size: u64) -> bool {
    let platform = host.platform();
    let cpus = platform.cpus();
    let Some(cpu) = cpus.first().filter(|cpu| cpu.snp_en()) else {
        return true;
    };
    let word = |pa| {
        let mut bytes = [0; 8];
        platform.is_ram(pa, 8).then(|| platform.read(pa, &mut bytes))?;
        Some(u64::from_le_bytes(bytes))
    };
    let Ok(geometry) = Geometry::from_registers(cpu.rmp_base, cpu.rmp_end, cpu.rmp_cfg, word)
    else {
        return false;
    };
    let rmp = Rmp::new(geometry, platform);
    let first = host.plain(address);
    (first..first + size).step_by(PAGE as usize).all(|pa| rmp.state(pa) == Some(State::HvFixed))
}
