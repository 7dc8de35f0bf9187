// SPDX-License-Identifier: GPL-2.0
//! Address space identifiers and the flushes between two owners.
//!
//! Lines of a guest's memory stay in the caches under its ASID. So after an ASID has lost its
//! owner, every CPU must WBINVD and then a DF_FLUSH must come before it can be bound again. The
//! exact statuses are those whose names fit (model choice, as Linux' comments use them).

use std::collections::{BTreeMap, BTreeSet};

use crate::{Platform, Status};

/// Who an ASID belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An SNP guest, by the address of its context.
    Snp(u64),
    /// A guest without SNP, by its handle.
    Sev(u32),
}

/// All ASIDs.
#[derive(Debug, Default)]
pub(crate) struct Asids {
    owners: BTreeMap<u32, Owner>,
    /// Lost their owner since the last flush.
    dirty: BTreeSet<u32>,
    /// INIT has happened and no flush since.
    all_dirty: bool,
    /// Who must execute WBINVD, and each CPU's count of them when that became needed.
    wbinvd_needed: Option<(Who, Vec<u64>)>,
}

/// Whose caches are to be written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Those of some CPU: of all that run, and firmware does not know which those are.
    Some,
    Every,
}

impl Asids {
    /// The platform was initialised: nothing may be bound before a flush. With `snp`, which
    /// firmware starts only if it finds every CPU in order, that needs a WBINVD on each. Without,
    /// it needs one (model choice): a CPU that is offline executes none, and Linux starts SEV all
    /// the same on hosts with `nosmt`.
    pub(crate) fn initialised(&mut self, platform: &dyn Platform, snp: bool) {
        self.all_dirty = true;
        match self.wbinvd_needed {
            Some((Who::Every, _)) if !snp => {}
            _ => self.need_wbinvd(platform, if snp { Who::Every } else { Who::Some }),
        }
    }

    /// Binds `asid`, which the caller has found in range.
    pub(crate) fn bind(
        &mut self,
        asid: u32,
        owner: Owner,
        platform: &dyn Platform,
    ) -> Result<(), Status> {
        if self.owners.values().any(|other| *other == owner) {
            return Err(Status::Active);
        }
        if self.owners.contains_key(&asid) {
            return Err(Status::AsidOwned);
        }
        if self.all_dirty || self.dirty.contains(&asid) {
            return Err(Status::DfFlushRequired);
        }
        self.owners.insert(asid, owner);
        platform.set_asid(asid, Some(matches!(owner, Owner::Snp(_))));
        Ok(())
    }

    /// Takes the ASID from `owner`, if it has one.
    pub(crate) fn release(&mut self, owner: Owner, platform: &dyn Platform) {
        let held = self.owners.iter().find(|(_, other)| **other == owner).map(|(asid, _)| *asid);
        if let Some(asid) = held {
            self.owners.remove(&asid);
            self.dirty.insert(asid);
            platform.set_asid(asid, None);
            self.need_wbinvd(platform, Who::Every);
        }
    }

    /// Whether an ASID has an owner.
    pub(crate) fn bound(&self) -> bool {
        !self.owners.is_empty()
    }

    /// DF_FLUSH: needs a WBINVD on every CPU since the last loss of an owner, or initialisation
    /// with SNP; on some CPU since that without.
    pub(crate) fn flush(&mut self, platform: &dyn Platform) -> Result<(), Status> {
        if let Some((who, before)) = &self.wbinvd_needed {
            let now = platform.cpus();
            let flushed = |(before, now): (&u64, &crate::CpuRegisters)| now.wbinvd > *before;
            let mut each = before.iter().zip(&now).map(flushed);
            let enough = match who {
                Who::Every => now.len() == before.len() && each.all(|flushed| flushed),
                Who::Some => each.any(|flushed| flushed),
            };
            if !enough {
                return Err(Status::WbinvdRequired);
            }
        }
        self.wbinvd_needed = None;
        self.dirty.clear();
        self.all_dirty = false;
        Ok(())
    }

    /// Whether a flush is outstanding.
    pub(crate) fn needs_flush(&self) -> bool {
        self.all_dirty || !self.dirty.is_empty()
    }

    fn need_wbinvd(&mut self, platform: &dyn Platform, who: Who) {
        let counts = platform.cpus().iter().map(|cpu| cpu.wbinvd).collect();
        self.wbinvd_needed = Some((who, counts));
    }
}
