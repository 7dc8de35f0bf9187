// SPDX-License-Identifier: GPL-2.0
//! Legacy SEV: platform life cycle, keys and certificates, guests without SNP.

pub(crate) mod abi;
pub(crate) mod certificate;
pub(crate) mod guest;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod launch;
pub(crate) mod migration;
mod packet;
pub(crate) mod platform;
mod session;

use std::collections::BTreeMap;

use guest::Guest;
use identity::Identity;
use sha2::{Digest, Sha256};

use crate::Config;

/// State of the SEV platform, by the numbers that PLATFORM_STATUS reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Uninit = 0,
    Init = 1,
    /// A guest exists.
    Working = 2,
}

/// Memory that firmware holds from INIT to SHUTDOWN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) pa: u64,
    pub(crate) len: u64,
}

impl Area {
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> {
        (self.pa..self.pa + self.len).step_by(0x1000)
    }
}

/// The SEV platform.
#[derive(Debug)]
pub(crate) struct Sev {
    /// Between INIT and SHUTDOWN.
    initialised: bool,
    /// INIT asked for SEV-ES.
    pub(crate) es: bool,
    pub(crate) tmr: Option<Area>,
    pub(crate) nv: Option<Area>,
    /// What is in flash, for INIT; INIT_EX has its own copy in the NV area.
    flash: Identity,
    /// The identity in use while initialised.
    active: Identity,
    seed: u64,
    /// By handle.
    guests: BTreeMap<u32, Guest>,
    /// Guests since reset: a handle is not used a second time.
    handles: u32,
    /// Numbers drawn since reset.
    drawn: u64,
}

impl Sev {
    pub(crate) fn new(config: &Config) -> Sev {
        let identity = Identity::new(config.seed);
        Sev {
            initialised: false,
            es: false,
            tmr: None,
            nv: None,
            flash: identity.clone(),
            active: identity,
            seed: config.seed,
            guests: BTreeMap::new(),
            handles: 0,
            drawn: 0,
        }
    }

    /// All but the flash is lost.
    pub(crate) fn reset(&mut self) {
        self.initialised = false;
        self.es = false;
        self.tmr = None;
        self.nv = None;
        self.guests.clear();
    }

    pub(crate) fn initialised(&self) -> bool {
        self.initialised
    }

    pub(crate) fn state(&self) -> State {
        match (self.initialised, self.guests.is_empty()) {
            (false, _) => State::Uninit,
            (true, true) => State::Init,
            (true, false) => State::Working,
        }
    }

    /// Bytes that are random on silicon. Here they follow from the seed and from how many came
    /// before.
    fn random(&mut self) -> [u8; 16] {
        self.drawn += 1;
        let hash = Sha256::new_with_prefix(b"ccp-rs PSP model random number")
            .chain_update(self.seed.to_le_bytes())
            .chain_update(self.drawn.to_le_bytes())
            .finalize();
        std::array::from_fn(|n| hash[n])
    }

    /// Transport keys that nobody else knows.
    fn new_keys(&mut self) -> abi::TransportKeys {
        abi::TransportKeys { encryption: self.random(), integrity: self.random() }
    }

    /// Whether the page at `pa` is part of the TMR or NV area in use.
    pub(crate) fn holds(&self, pa: u64) -> bool {
        let inside = |area: &Area| (area.pa..area.pa + area.len).contains(&pa);
        self.tmr.iter().chain(&self.nv).any(inside)
    }

    /// What the pages of the NV area in use hold.
    pub(crate) fn nv_pages(&self) -> Vec<(u64, Vec<u8>)> {
        let Some(nv) = &self.nv else { return Vec::new() };
        let content = self.active.to_nv();
        nv.pages().zip(content.chunks(0x1000).map(<[u8]>::to_vec)).collect()
    }

    /// The identity to report: the one in use, else the one in flash.
    pub(crate) fn identity(&self) -> &Identity {
        if self.initialised() {
            &self.active
        } else {
            &self.flash
        }
    }
}
