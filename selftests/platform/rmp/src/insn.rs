// SPDX-License-Identifier: GPL-2.0
//! RMPUPDATE, PSMASH and RMPREAD. Whether they raise #UD or #GP (SNP off, CPL not 0) is for the
//! caller to decide; these are the rules behind that gate.

use crate::{Entry, PageSize, Rmp, State, Table, MAX_ASID, MAX_GPA, PAGES_PER_2M, VMPL0_ALL};

/// What the instruction leaves in EAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// Done.
    Success = 0,
    /// An operand is malformed, or the address is not covered.
    FailInput = 1,
    /// The entry is immutable or locked (firmware's, HV-Fixed, the table's own).
    FailPermission = 2,
    /// Another processor works on the entry (PSMASH: Linux retries).
    FailInUse = 3,
    /// A 4 KiB and a 2 MiB page overlap, or RMPUPDATE met a concurrent change (Linux retries).
    FailOverlap = 4,
}

/// RMPUPDATE's 16 bytes of input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RmpUpdate {
    /// Guest physical address.
    pub gpa: u64,
    /// Bit 0 of byte 8.
    pub assigned: bool,
    /// Bit 0 of byte 9: 2 MiB.
    pub large: bool,
    /// Bit 0 of byte 10.
    pub immutable: bool,
    /// Bytes 12 to 15.
    pub asid: u32,
}

impl RmpUpdate {
    /// From memory; none if a reserved bit is set. The region's status is ignored, so that what
    /// RMPREAD gave can be given back.
    pub fn from_bytes(bytes: &[u8; 16]) -> Option<RmpUpdate> {
        let (gpa, rest) = bytes.split_at(8);
        if rest[0] | rest[2] > 1 || rest[1] > 3 || rest[3] != 0 {
            return None;
        }
        Some(RmpUpdate {
            gpa: u64::from_le_bytes(gpa.try_into().ok()?),
            assigned: rest[0] == 1,
            large: rest[1] & 1 == 1,
            immutable: rest[2] == 1,
            asid: u32::from_le_bytes(rest[4..].try_into().ok()?),
        })
    }

    /// Bytes of the page that it is about.
    pub fn bytes(&self) -> u64 {
        self.size().bytes()
    }

    fn size(&self) -> PageSize {
        if self.large {
            PageSize::Size2M
        } else {
            PageSize::Size4K
        }
    }

    /// The entry to store, if the operand is well formed. An unassigned page with an owner, an
    /// address or `immutable` is refused (model choice: Linux never asks for one).
    fn entry(&self) -> Option<Entry> {
        if !self.assigned {
            let plain = self.gpa == 0 && self.asid == 0 && !self.immutable;
            return plain.then_some(Entry::ZERO);
        }
        if self.asid > MAX_ASID || self.gpa >= MAX_GPA || self.gpa % self.size().bytes() != 0 {
            return None;
        }
        Some(
            Entry::ZERO
                .with_assigned(true)
                .with_immutable(self.immutable)
                .with_page_size(self.size())
                .with_asid(self.asid)
                .with_gpa(self.gpa)
                .with_permissions(VMPL0_ALL),
        )
    }
}

/// RMPREAD's 16 bytes of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmpRead {
    /// Guest physical address.
    pub gpa: u64,
    /// Owned by guest or firmware.
    pub assigned: bool,
    /// Part of a 2 MiB page.
    pub large: bool,
    /// Some page of the 2 MiB region is assigned.
    pub region_in_use: bool,
    /// RMPUPDATE would fail.
    pub immutable: bool,
    /// Owner, 0 for firmware.
    pub asid: u32,
}

impl RmpRead {
    /// As the instruction stores it (`struct rmpentry` of arch/x86/virt/svm/sev.c).
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.gpa.to_le_bytes());
        bytes[8] = self.assigned.into();
        bytes[9] = u8::from(self.large) | (u8::from(self.region_in_use) << 1);
        bytes[10] = self.immutable.into();
        bytes[12..].copy_from_slice(&self.asid.to_le_bytes());
        bytes
    }
}

impl<T: Table> Rmp<T> {
    /// RMPUPDATE: gives the page at `pa` to a guest, to firmware or back to the hypervisor.
    /// Validated is cleared and VMPL0 alone gets access.
    pub fn rmpupdate(&self, pa: u64, new: &RmpUpdate) -> Code {
        let size = new.size();
        let Some(index) = self.aligned_index(pa, size) else {
            return Code::FailInput;
        };
        let Some(_locked) = self.try_lock(index) else {
            return Code::FailOverlap;
        };
        let pages = size.bytes() >> 12;
        for index in index..index + pages {
            let old = self.load(index);
            if old.immutable() || old.locked() {
                return Code::FailPermission;
            }
            if old.assigned() && old.page_size() != size {
                return Code::FailOverlap;
            }
        }
        let Some(entry) = new.entry() else {
            return Code::FailInput;
        };
        self.store_page(index, size, entry);
        Code::Success
    }

    /// Not an instruction: makes an unassigned page HV-Fixed, as firmware does with memory that the
    /// BIOS has reserved. RMPUPDATE refuses it from then on.
    pub fn fix(&self, pa: u64) {
        let Some(index) = self.aligned_index(pa, PageSize::Size4K) else { return };
        let Some(_locked) = self.try_lock(index) else { return };
        if State::of(self.load(index)) == State::Hypervisor {
            self.store(index, Entry::HV_FIXED);
        }
    }

    /// PSMASH: splits the 2 MiB page at `pa` into 512 pages of 4 KiB with consecutive GPAs; all
    /// other fields, Validated among them, stay.
    pub fn psmash(&self, pa: u64) -> Code {
        let Some(index) = self.aligned_index(pa, PageSize::Size2M) else {
            return Code::FailInput;
        };
        let Some(_locked) = self.try_lock(index) else {
            return Code::FailInUse;
        };
        let head = self.load(index);
        if head.immutable() || head.locked() {
            return Code::FailPermission;
        }
        if !head.assigned() || head.page_size() != PageSize::Size2M {
            return Code::FailInput;
        }
        for index in index..index + PAGES_PER_2M {
            let small = self.load(index).with_page_size(PageSize::Size4K);
            self.store(index, small);
        }
        Code::Success
    }

    /// RMPREAD: the architectural view of an entry.
    pub fn rmpread(&self, pa: u64) -> Result<RmpRead, Code> {
        let index = self.aligned_index(pa, PageSize::Size4K).ok_or(Code::FailInput)?;
        let entry = self.load(index);
        Ok(RmpRead {
            gpa: entry.gpa(),
            assigned: entry.assigned(),
            large: entry.page_size() == PageSize::Size2M,
            region_in_use: self.region_in_use(pa),
            immutable: entry.immutable(),
            asid: entry.asid(),
        })
    }

    /// Index of an aligned page that is covered to its end.
    fn aligned_index(&self, pa: u64, size: PageSize) -> Option<u64> {
        if pa % size.bytes() != 0 {
            return None;
        }
        self.geometry().index(pa.checked_add(size.bytes() - 1)?)?;
        self.geometry().index(pa)
    }

    /// Number of entries per state over the whole table, in the order of [`State::ALL`].
    pub fn census(&self) -> [(State, u64); State::ALL.len()] {
        let mut census = State::ALL.map(|state| (state, 0));
        for index in self.geometry().indices() {
            let state = State::of(self.load(index));
            if let Some(row) = census.iter_mut().find(|row| row.0 == state) {
                row.1 += 1;
            }
        }
        census
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::Fixture;

    const SHARED: RmpUpdate =
        RmpUpdate { gpa: 0, assigned: false, large: false, immutable: false, asid: 0 };
    const SHARED_2M: RmpUpdate = RmpUpdate { large: true, ..SHARED };
    const FIRMWARE: RmpUpdate = RmpUpdate { assigned: true, immutable: true, ..SHARED };
    const GUEST: RmpUpdate = RmpUpdate { assigned: true, gpa: 0x5000, asid: 3, ..SHARED };
    const GUEST_2M: RmpUpdate = RmpUpdate { large: true, gpa: 0x40_0000, ..GUEST };

    #[test]
    fn rmpupdate_inputs() {
        let rows: &[(&str, u64, RmpUpdate, Code)] = &[
            ("firmware page", 0x1000, FIRMWARE, Code::Success),
            ("guest page", 0x1000, GUEST, Code::Success),
            ("shared stays shared", 0x1000, SHARED, Code::Success),
            ("guest 2M", 0x20_0000, GUEST_2M, Code::Success),
            ("misaligned", 0x1008, SHARED, Code::FailInput),
            ("2M misaligned", 0x20_1000, GUEST_2M, Code::FailInput),
            (
                "2M gpa misaligned",
                0x20_0000,
                RmpUpdate { gpa: 0x1000, ..GUEST_2M },
                Code::FailInput,
            ),
            ("not covered", 0x80_0000, SHARED, Code::FailInput),
            ("end of address space", !0xfff, SHARED, Code::FailInput),
            ("asid too large", 0, RmpUpdate { asid: 1024, ..GUEST }, Code::FailInput),
            ("gpa too large", 0, RmpUpdate { gpa: MAX_GPA, ..GUEST }, Code::FailInput),
            ("gpa misaligned", 0, RmpUpdate { gpa: 0x5008, ..GUEST }, Code::FailInput),
            ("shared with asid", 0, RmpUpdate { asid: 1, ..SHARED }, Code::FailInput),
            ("shared immutable", 0, RmpUpdate { immutable: true, ..SHARED }, Code::FailInput),
        ];
        for (name, pa, new, code) in rows {
            let fixture = Fixture::new();
            let rmp = fixture.rmp();
            assert_eq!(rmp.rmpupdate(*pa, new), *code, "{name}");
            fixture.assert_unlocked();
        }
    }

    #[test]
    fn rmpupdate_needs_a_mutable_entry() {
        let large = Entry::RECLAIM.with_page_size(PageSize::Size2M);
        let rows: &[(&str, Entry, RmpUpdate, Code)] = &[
            ("firmware", Entry::FIRMWARE, SHARED, Code::FailPermission),
            ("context", Entry::CONTEXT, SHARED, Code::FailPermission),
            ("pre-guest", Entry::pre_guest(3, 0x5000), SHARED, Code::FailPermission),
            ("hv-fixed", Entry::HV_FIXED, FIRMWARE, Code::FailPermission),
            ("the table", Entry::RMP_TABLE, SHARED, Code::FailPermission),
            ("locked", Entry::ZERO.with_locked(true), SHARED, Code::FailPermission),
            ("reclaim", Entry::RECLAIM, SHARED, Code::Success),
            ("guest page", Entry::RECLAIM.with_asid(3), SHARED, Code::Success),
            ("4K into 2M", large, SHARED, Code::FailOverlap),
            ("2M over 4K", Entry::RECLAIM, SHARED_2M, Code::FailOverlap),
            ("2M over 2M", large, SHARED_2M, Code::Success),
        ];
        for (name, old, new, code) in rows {
            let fixture = Fixture::new();
            let rmp = fixture.rmp();
            rmp.store(512, *old);
            assert_eq!(rmp.rmpupdate(0x20_0000, new), *code, "{name}");
            let left = rmp.entry(0x20_0000).unwrap();
            if *code == Code::Success {
                assert_eq!(left, Entry::ZERO, "{name}");
            } else {
                assert_eq!(left, *old, "{name}: changed");
            }
            fixture.assert_unlocked();
        }
    }

    #[test]
    fn rmpupdate_drops_validated_and_upper_permissions() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        let old = Entry::RECLAIM.with_asid(3).with_validated(true).with_vmsa(true);
        rmp.store(1, old.with_permissions(0x0f0f_0f0f));
        assert_eq!(rmp.rmpupdate(0x1000, &GUEST), Code::Success);
        let entry = rmp.entry(0x1000).unwrap();
        assert_eq!(State::of(entry), State::GuestInvalid);
        assert_eq!((entry.vmsa(), entry.hi), (false, VMPL0_ALL));
    }

    #[test]
    fn a_concurrent_change_is_reported_not_waited_for() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        let _held = rmp.try_lock(512).unwrap();
        assert_eq!(rmp.rmpupdate(0x20_0000, &SHARED), Code::FailOverlap);
        assert_eq!(rmp.psmash(0x20_0000), Code::FailInUse);
        assert_eq!(rmp.rmpupdate(0x40_0000, &SHARED), Code::Success);
    }

    #[test]
    fn psmash_keeps_everything_but_the_size() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        assert_eq!(rmp.rmpupdate(0x20_0000, &GUEST_2M), Code::Success);
        for index in 512..1024 {
            let entry = rmp.load(index).with_validated(true);
            rmp.store(index, entry);
        }
        assert_eq!(rmp.psmash(0x20_0000), Code::Success);
        let last = rmp.entry(0x3f_f000).unwrap();
        assert_eq!((last.gpa(), last.asid(), last.validated()), (0x5f_f000, 3, true));
        assert_eq!(last.page_size(), PageSize::Size4K);
        assert_eq!(rmp.psmash(0x20_0000), Code::FailInput, "already 4K");
        assert_eq!(rmp.psmash(0x20_1000), Code::FailInput, "misaligned");
        assert_eq!(rmp.psmash(0x80_0000), Code::FailInput, "not covered");
        rmp.store(1024, Entry::FIRMWARE.with_page_size(PageSize::Size2M));
        assert_eq!(rmp.psmash(0x40_0000), Code::FailPermission, "immutable");
    }

    #[test]
    fn rmpread_shows_the_architectural_fields() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        assert_eq!(
            rmp.rmpupdate(0x20_3000, &RmpUpdate { immutable: true, ..GUEST }),
            Code::Success
        );
        let mut bytes = rmp.rmpread(0x20_3000).unwrap().to_bytes();
        assert_eq!(bytes, [0, 0x50, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0, 3, 0, 0, 0]);
        bytes = rmp.rmpread(0x20_4000).unwrap().to_bytes();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rmp.rmpread(0x20_3001), Err(Code::FailInput));
        assert_eq!(rmp.rmpread(0x80_0000), Err(Code::FailInput));
    }

    #[test]
    fn operands_with_reserved_bits_are_refused() {
        let good = [0, 0x50, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 3, 0, 0, 0];
        let want =
            RmpUpdate { gpa: 0x5000, assigned: true, large: false, immutable: true, asid: 3 };
        assert_eq!(RmpUpdate::from_bytes(&good), Some(want));
        for (at, bit) in [(8, 2), (9, 4), (10, 2), (11, 1)] {
            let mut bad = good;
            bad[at] |= bit;
            assert_eq!(RmpUpdate::from_bytes(&bad), None, "byte {at}");
        }
    }

    /// Whatever the page is, its own entry is no malformed operand.
    #[test]
    fn rmpupdate_takes_what_rmpread_gave() {
        let rows = [
            (Entry::ZERO, Code::Success),
            (Entry::RECLAIM, Code::Success),
            (Entry::RECLAIM.with_asid(3).with_gpa(0x5000).with_validated(true), Code::Success),
            (Entry::FIRMWARE, Code::FailPermission),
            (Entry::pre_guest(3, 0x5000), Code::FailPermission),
            (Entry::HV_FIXED, Code::FailPermission),
            (Entry::RMP_TABLE, Code::FailPermission),
        ];
        for (entry, code) in rows {
            let fixture = Fixture::new();
            let rmp = fixture.rmp();
            rmp.store(515, Entry::RECLAIM);
            rmp.store(514, entry);
            let read = rmp.rmpread(0x20_2000).unwrap();
            assert!(read.region_in_use, "{entry:x?}");
            let update = RmpUpdate::from_bytes(&read.to_bytes()).unwrap();
            assert_eq!(rmp.rmpupdate(0x20_2000, &update), code, "{entry:x?}");
            if code == Code::Success {
                assert_eq!(rmp.rmpread(0x20_2000), Ok(read), "{entry:x?}");
            }
        }
    }

    #[test]
    fn census_counts_every_entry() {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        rmp.store(1, Entry::FIRMWARE);
        rmp.store(2, Entry::CONTEXT);
        let census = rmp.census();
        let count = |state| census.iter().find(|row| row.0 == state).unwrap().1;
        assert_eq!(census.iter().map(|row| row.1).sum::<u64>(), rmp.geometry().entries());
        assert_eq!((count(State::Firmware), count(State::Context)), (1, 1));
    }
}
