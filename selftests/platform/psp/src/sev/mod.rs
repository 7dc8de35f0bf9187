// SPDX-License-Identifier: GPL-2.0
//! Legacy SEV: platform life cycle, keys and certificates. Legacy guests are not modelled.

pub(crate) mod certificate;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod platform;

use identity::Identity;

use crate::Config;

/// State of the SEV platform, by the numbers that PLATFORM_STATUS reports. WORKING (a guest
/// exists) cannot be reached without legacy guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Uninit = 0,
    Init = 1,
}

/// Memory that firmware holds from INIT to SHUTDOWN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) pa: u64,
    pub(crate) len: u64,
}

/// The SEV platform.
#[derive(Debug)]
pub(crate) struct Sev {
    pub(crate) state: State,
    /// INIT asked for SEV-ES.
    pub(crate) es: bool,
    pub(crate) tmr: Option<Area>,
    pub(crate) nv: Option<Area>,
    /// What is in flash, for INIT; INIT_EX has its own copy in the NV area.
    flash: Identity,
    /// The identity in use while initialised.
    active: Identity,
}

impl Sev {
    pub(crate) fn new(config: &Config) -> Sev {
        let identity = Identity::new(config.seed);
        Sev {
            state: State::Uninit,
            es: false,
            tmr: None,
            nv: None,
            flash: identity.clone(),
            active: identity,
        }
    }

    /// All but the flash is lost.
    pub(crate) fn reset(&mut self) {
        self.state = State::Uninit;
        self.es = false;
        self.tmr = None;
        self.nv = None;
    }

    pub(crate) fn initialised(&self) -> bool {
        self.state != State::Uninit
    }

    /// Whether the page at `pa` is part of the TMR or NV area in use.
    pub(crate) fn holds(&self, pa: u64) -> bool {
        let inside = |area: &Area| (area.pa..area.pa + area.len).contains(&pa);
        self.tmr.iter().chain(&self.nv).any(inside)
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
