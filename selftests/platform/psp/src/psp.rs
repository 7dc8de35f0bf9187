// SPDX-License-Identifier: GPL-2.0
//! The processor: state of both platforms.

use crate::asid::Asids;
use crate::firmware::Firmware;
use crate::owned::Owned;
use crate::sev::{Area, Sev};
use crate::snp::Snp;
use crate::Config;

/// The secure processor.
pub struct Psp {
    pub(crate) config: Config,
    pub(crate) firmware: Firmware,
    pub(crate) sev: Sev,
    pub(crate) snp: Snp,
    pub(crate) asids: Asids,
    pub(crate) owned: Owned,
}

impl Psp {
    /// A processor after reset.
    pub fn new(config: Config) -> Psp {
        Psp {
            firmware: Firmware::new(&config),
            sev: Sev::new(&config),
            snp: Snp::default(),
            config,
            asids: Asids::default(),
            owned: Owned::default(),
        }
    }

    /// Whether firmware uses the page at `pa` for itself: it is SEV's or the IOMMU's. Such a page
    /// is not given back, and does not become anything else (model choice: Linux reclaims TMR and
    /// NV area after SHUTDOWN, and the IOMMU's pages not at all).
    pub(crate) fn holds(&self, pa: u64) -> bool {
        let snp = self.snp.running.as_ref();
        self.sev.holds(pa) || snp.is_some_and(|snp| snp.iommu_pages.contains(&pa))
    }

    /// Where firmware may write whenever it likes: the pages of the TMR, contexts, and the pages of
    /// the NV area.
    pub(crate) fn own_areas(&self) -> Vec<Vec<u64>> {
        let tmr = self.sev.tmr.iter().flat_map(Area::pages).collect();
        let snp = self.snp.running.as_ref();
        let contexts = snp.into_iter().flat_map(|snp| snp.guests.keys().copied()).collect();
        let nv = self.sev.nv.iter().flat_map(Area::pages).collect();
        [tmr, contexts, nv].into_iter().filter(|area: &Vec<_>| !area.is_empty()).collect()
    }

    /// A reset of the machine: everything but what is kept in flash is lost, and the BIOS loads its
    /// own firmware again.
    pub fn reset(&mut self) {
        self.firmware = Firmware::new(&self.config);
        self.sev.reset();
        self.snp = Snp::default();
        self.asids = Asids::default();
        self.owned = Owned::default();
    }
}
