// SPDX-License-Identifier: GPL-2.0
//! The processor: state of both platforms.

use crate::asid::Asids;
use crate::sev::Sev;
use crate::snp::Snp;
use crate::Config;

/// The secure processor.
pub struct Psp {
    pub(crate) config: Config,
    pub(crate) sev: Sev,
    pub(crate) snp: Snp,
    pub(crate) asids: Asids,
}

impl Psp {
    /// A processor after reset.
    pub fn new(config: Config) -> Psp {
        let (sev, snp) = (Sev::new(&config), Snp::new(&config));
        Psp { config, sev, snp, asids: Asids::default() }
    }

    /// A reset of the machine: everything but what is kept in flash is lost.
    pub fn reset(&mut self) {
        self.sev.reset();
        self.snp = Snp::new(&self.config);
        self.asids = Asids::default();
    }
}
