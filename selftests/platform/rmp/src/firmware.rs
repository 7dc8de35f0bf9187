// SPDX-License-Identifier: GPL-2.0
//! The changes that only firmware makes. Each checks the state it starts from under the region's
//! lock, so a concurrent RMPUPDATE can never slip in between check and change.

use crate::{Entry, PageSize, Rmp, State, Table, PAGES_PER_2M, VMPL0_ALL};

/// Why firmware did not change a page. The page is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The address is not aligned to the page, or the table does not cover it.
    Address,
    /// The page has this state, which is not the one required.
    State(State),
    /// The entry is part of a page of another size.
    Size,
    /// The page belongs to the guest with this ASID.
    Owner(u32),
}

impl<T: Table> Rmp<T> {
    /// Firmware -> Context (SNP_GCTX_CREATE).
    pub fn make_context(&self, pa: u64) -> Result<(), Refusal> {
        self.change(pa, PageSize::Size4K, |old| match State::of(old) {
            State::Firmware => Ok(Entry::CONTEXT),
            other => Err(Refusal::State(other)),
        })
    }

    /// Context -> Firmware (SNP_DECOMMISSION, SNP_SHUTDOWN).
    pub fn drop_context(&self, pa: u64) -> Result<(), Refusal> {
        self.change(pa, PageSize::Size4K, |old| match State::of(old) {
            State::Context => Ok(Entry::FIRMWARE),
            other => Err(Refusal::State(other)),
        })
    }

    /// Hypervisor or Firmware -> Firmware (SNP_INIT: what the IOMMU writes to). Pages without an
    /// entry are passed over.
    pub fn take(&self, pa: u64) -> Result<(), Refusal> {
        if self.geometry().index(pa).is_none() {
            return Ok(());
        }
        self.change(pa, PageSize::Size4K, |old| match State::of(old) {
            State::Hypervisor | State::Firmware => Ok(Entry::FIRMWARE),
            other => Err(Refusal::State(other)),
        })
    }

    /// Firmware -> Hypervisor (what the IOMMU wrote to, firmware before 1.53).
    pub fn drop_firmware(&self, pa: u64) -> Result<(), Refusal> {
        self.change(pa, PageSize::Size4K, |old| match State::of(old) {
            State::Firmware => Ok(Entry::ZERO),
            other => Err(Refusal::State(other)),
        })
    }

    /// Firmware -> Reclaim without the host asking (SNP_PLATFORM_STATUS's page, what the IOMMU
    /// wrote to).
    pub fn hand_back(&self, pa: u64) -> Result<(), Refusal> {
        self.change(pa, PageSize::Size4K, |old| match State::of(old) {
            State::Firmware => Ok(Entry::RECLAIM),
            other => Err(Refusal::State(other)),
        })
    }

    /// The entry of a Pre-Guest page of guest `asid`, for SNP_LAUNCH_UPDATE's checks.
    pub fn pre_guest(&self, pa: u64, asid: u32, size: PageSize) -> Result<Entry, Refusal> {
        let index = self.page_index(pa, size)?;
        pre_guest(self.load(index), asid, size)
    }

    /// Pre-Guest -> Guest-Valid (SNP_LAUNCH_UPDATE), with permissions `hi` for the VMPLs above 0.
    pub fn launch(
        &self,
        pa: u64,
        asid: u32,
        size: PageSize,
        vmsa: bool,
        upper_vmpls: u64,
    ) -> Result<(), Refusal> {
        self.change(pa, size, |old| {
            Ok(pre_guest(old, asid, size)?
                .with_immutable(false)
                .with_validated(true)
                .with_vmsa(vmsa)
                .with_permissions(VMPL0_ALL | upper_vmpls))
        })
    }

    /// SNP_PAGE_RECLAIM: Firmware and Metadata become Reclaim, Pre-Guest and Pre-Swap lose
    /// `immutable`, so RMPUPDATE can take all of them back. A page that already is Reclaim stays
    /// so and that counts as success: Linux relies on it after SNP_PLATFORM_STATUS. The exact
    /// target of the Pre- states is not public (model choice).
    pub fn reclaim(&self, pa: u64, size: PageSize) -> Result<(), Refusal> {
        self.change(pa, size, |old| match State::of(old) {
            State::Reclaim => Ok(old),
            State::Firmware | State::Metadata => Ok(Entry::RECLAIM.with_page_size(size)),
            State::PreGuest | State::PreSwap => Ok(old.with_immutable(false).with_validated(false)),
            other => Err(Refusal::State(other)),
        })
    }

    /// Hypervisor or Firmware -> HV-Fixed (SNP_INIT_EX's list). Pages without an entry and the
    /// table's own pages are passed over: Linux lists both, and real firmware takes it.
    pub fn make_hv_fixed(&self, pa: u64) -> Result<(), Refusal> {
        if self.geometry().index(pa).is_none() || self.geometry().holds(pa) {
            return Ok(());
        }
        self.change(pa, PageSize::Size4K, |old| match State::of(old) {
            State::Hypervisor | State::Firmware | State::HvFixed => Ok(Entry::HV_FIXED),
            other => Err(Refusal::State(other)),
        })
    }

    /// SNP_INIT with INIT_RMP: every page becomes Hypervisor, the table protects itself. What
    /// shares 2 MiB with it becomes HV-Fixed: on a real machine RMPUPDATE refuses such a page, the
    /// head does not count it (AMDSEV issue 245), and Linux keeps it from everybody
    /// (__snp_fixup_e820_tables() of arch/x86/virt/svm/sev.c).
    pub fn initialise(&self) {
        let geometry = self.geometry();
        let initial = |index: u64| match index << 12 {
            pa if geometry.index(pa).is_none() => Entry::ZERO,
            pa if geometry.holds(pa) => Entry::RMP_TABLE,
            _ => Entry::HV_FIXED,
        };
        let assigned = |index: &u64| initial(*index).assigned();
        let mut touched = false;
        for index in geometry.indices() {
            let head = index % PAGES_PER_2M == 0;
            if head {
                touched = geometry.touches(index << 12);
            }
            let entry = match (touched, head) {
                (false, _) => Entry::ZERO,
                (true, false) => initial(index),
                (true, true) => {
                    let others = (index + 1..index + PAGES_PER_2M).filter(assigned).count();
                    initial(index).with_subpages(others as u64)
                }
            };
            if self.load(index) != entry {
                let _locked = self.lock(index);
                self.store_raw(index, entry);
            }
        }
    }

    /// SNP_SHUTDOWN_EX with X86_SNP_SHUTDOWN: host software may write the table again, and what is
    /// beside it.
    pub fn release_table(&self) {
        for index in self.geometry().indices() {
            if self.geometry().touches(index << 12) {
                let _locked = self.lock(index);
                self.store(index, Entry::ZERO);
            }
        }
    }

    fn page_index(&self, pa: u64, size: PageSize) -> Result<u64, Refusal> {
        let last = pa.checked_add(size.bytes() - 1).ok_or(Refusal::Address)?;
        match (pa % size.bytes(), self.geometry().index(pa), self.geometry().index(last)) {
            (0, Some(index), Some(_)) => Ok(index),
            _ => Err(Refusal::Address),
        }
    }

    /// Applies `rule` to the page at `pa`. A 2 MiB page changes as a whole or not at all: its
    /// parts always carry the same state, so the rule is asked for the head alone.
    fn change(
        &self,
        pa: u64,
        size: PageSize,
        rule: impl Fn(Entry) -> Result<Entry, Refusal>,
    ) -> Result<(), Refusal> {
        let index = self.page_index(pa, size)?;
        let _locked = self.lock(index);
        let old = self.load(index);
        if old.assigned() && old.page_size() != size {
            return Err(Refusal::Size);
        }
        self.store_page(index, size, rule(old)?);
        Ok(())
    }
}

fn pre_guest(entry: Entry, asid: u32, size: PageSize) -> Result<Entry, Refusal> {
    if entry.assigned() && entry.page_size() != size {
        return Err(Refusal::Size);
    }
    match State::of(entry) {
        State::PreGuest if entry.asid() != asid => Err(Refusal::Owner(entry.asid())),
        State::PreGuest => Ok(entry),
        other => Err(Refusal::State(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::Fixture;

    const PAGE: u64 = 0x20_3000;
    const GUEST: Entry = Entry::RECLAIM.with_asid(3).with_gpa(0x5000);

    fn every_state() -> [(State, Entry); State::ALL.len()] {
        State::ALL.map(|state| {
            let entry = match state {
                State::Hypervisor => Entry::ZERO,
                State::HvFixed => Entry::HV_FIXED,
                State::RmpTable => Entry::RMP_TABLE,
                State::Firmware => Entry::FIRMWARE,
                State::Reclaim => Entry::RECLAIM,
                State::Context => Entry::CONTEXT,
                State::Metadata => Entry::FIRMWARE.with_gpa(0x9000),
                State::PreGuest => Entry::pre_guest(3, 0x5000),
                State::PreSwap => Entry::pre_guest(3, 0x5000).with_validated(true),
                State::GuestInvalid => GUEST,
                State::GuestValid => GUEST.with_validated(true),
            };
            assert_eq!(State::of(entry), state);
            (state, entry)
        })
    }

    type Change = fn(&Rmp<crate::MemoryTable<'_>>) -> Result<(), Refusal>;

    /// Name, change, from which states it works, and to which state.
    type Rule = (&'static str, Change, &'static [(State, State)]);

    const RULES: &[Rule] = &[
        ("make_context", |r| r.make_context(PAGE), &[(State::Firmware, State::Context)]),
        ("drop_context", |r| r.drop_context(PAGE), &[(State::Context, State::Firmware)]),
        ("hand_back", |r| r.hand_back(PAGE), &[(State::Firmware, State::Reclaim)]),
        ("drop_firmware", |r| r.drop_firmware(PAGE), &[(State::Firmware, State::Hypervisor)]),
        (
            "take",
            |r| r.take(PAGE),
            &[(State::Hypervisor, State::Firmware), (State::Firmware, State::Firmware)],
        ),
        (
            "launch",
            |r| r.launch(PAGE, 3, PageSize::Size4K, false, 0),
            &[(State::PreGuest, State::GuestValid)],
        ),
        (
            "reclaim",
            |r| r.reclaim(PAGE, PageSize::Size4K),
            &[
                (State::Firmware, State::Reclaim),
                (State::Metadata, State::Reclaim),
                (State::Reclaim, State::Reclaim),
                (State::PreGuest, State::GuestInvalid),
                (State::PreSwap, State::GuestInvalid),
            ],
        ),
        (
            "make_hv_fixed",
            |r| r.make_hv_fixed(PAGE),
            &[
                (State::Hypervisor, State::HvFixed),
                (State::Firmware, State::HvFixed),
                (State::HvFixed, State::HvFixed),
            ],
        ),
    ];

    #[test]
    fn each_change_works_from_its_states_and_no_other() {
        for (name, change, allowed) in RULES {
            for (from, entry) in every_state() {
                let fixture = Fixture::new();
                let rmp = fixture.rmp();
                rmp.store(PAGE >> 12, entry);
                let got = change(&rmp);
                let row = format!("{name} from {from:?}");
                match allowed.iter().find(|rule| rule.0 == from) {
                    Some((_, to)) => {
                        assert_eq!(got, Ok(()), "{row}");
                        assert_eq!(rmp.state(PAGE), Some(*to), "{row}");
                    }
                    None => {
                        assert_eq!(got, Err(Refusal::State(from)), "{row}");
                        assert_eq!(rmp.entry(PAGE), Some(entry), "{row}: changed");
                    }
                }
                fixture.assert_unlocked();
            }
        }
    }

    #[test]
    fn addresses_are_checked() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        for pa in [1, 0xfff, 0x80_0000, u64::MAX, u64::MAX - 0xfff] {
            assert_eq!(rmp.make_context(pa), Err(Refusal::Address), "{pa:x}");
            assert_eq!(rmp.reclaim(pa, PageSize::Size2M), Err(Refusal::Address), "{pa:x}");
        }
        assert_eq!(rmp.reclaim(0x1000, PageSize::Size2M), Err(Refusal::Address));
    }

    #[test]
    fn launch_sets_owner_permissions_and_vmsa() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        let pre = Entry::pre_guest(3, 0xffff_ffff_f000);
        rmp.store(PAGE >> 12, pre);
        let wrong_owner = rmp.launch(PAGE, 4, PageSize::Size4K, true, 0);
        assert_eq!(wrong_owner, Err(Refusal::Owner(3)));
        rmp.launch(PAGE, 3, PageSize::Size4K, true, 0x0700).unwrap();
        let entry = rmp.entry(PAGE).unwrap();
        assert!(entry.vmsa() && entry.validated() && !entry.immutable());
        assert_eq!((entry.hi, entry.gpa(), entry.asid()), (0x070f, 0xffff_ffff_f000, 3));
    }

    #[test]
    fn large_pages_change_whole() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        let large = Entry::FIRMWARE.with_page_size(PageSize::Size2M);
        rmp.store_page(512, PageSize::Size2M, large);
        assert_eq!(rmp.reclaim(0x20_1000, PageSize::Size4K), Err(Refusal::Size));
        assert_eq!(rmp.make_context(0x20_0000), Err(Refusal::Size));
        rmp.reclaim(0x20_0000, PageSize::Size2M).unwrap();
        assert_eq!(rmp.state(0x3f_f000), Some(State::Reclaim));
    }

    #[test]
    fn initialise_clears_and_protects() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        rmp.store(7, Entry::CONTEXT);
        rmp.initialise();
        assert_eq!(rmp.state(0x7000), Some(State::Hypervisor));
        assert_eq!(rmp.state(0x60_0000), Some(State::RmpTable));
        let end = rmp.geometry().end() + 1;
        assert!(end % (2 << 20) != 0, "there is something beside the table");
        for beside in [end, 0x7f_f000] {
            assert_eq!(rmp.state(beside), Some(State::HvFixed), "{beside:#x}");
            assert_eq!(rmp.make_hv_fixed(beside), Ok(()), "{beside:#x}, which Linux lists");
        }
        let table_pages =
            (0x60_0000..0x80_0000).step_by(0x1000).filter(|pa| rmp.geometry().holds(*pa));
        assert_eq!(rmp.load(0x600).subpages(), table_pages.count() as u64 - 1);
        assert_eq!(rmp.load(0).subpages(), 0);
        assert_eq!(rmp.make_hv_fixed(0x60_0000), Ok(()), "the table's own pages are passed over");
        assert_eq!(rmp.state(0x60_0000), Some(State::RmpTable));
        assert_eq!(rmp.make_hv_fixed(0xfd_0000_0000), Ok(()), "so is what has no entry");
        rmp.release_table();
        assert_eq!(rmp.state(0x60_0000), Some(State::Hypervisor));
        assert_eq!([0x600, 0x7ff].map(|index| rmp.load(index)), [Entry::ZERO; 2]);
        fixture.assert_unlocked();
    }
}
