// SPDX-License-Identifier: GPL-2.0
//! What a running SNP guest meets: the check of each access that goes through nested paging, and
//! PVALIDATE and RMPADJUST behind the same check.
//!
//! Sources: the bits of a nested page fault and what the hypervisor does about them are
//! `PFERR_GUEST_*` in arch/x86/include/asm/kvm_host.h and `sev_handle_rmp_fault` in
//! arch/x86/kvm/svm/sev.c; the instructions' results are arch/x86/include/asm/sev.h (`pvalidate`,
//! `rmpadjust`) and coco/sev/core.c, which uses them. Where those are silent the comment says
//! "model choice".

use crate::{Entry, PageSize, Rmp, Table, PAGES_PER_2M};

/// Bits of a nested page fault's error code (`PFERR_GUEST_*`).
pub mod npf {
    /// The access broke a rule of the RMP.
    pub const RMP: u64 = 1 << 31;
    /// The sizes of the mapping, the entry and the operand do not fit.
    pub const SIZE: u64 = 1 << 35;
    /// The VMPL has no permission.
    pub const VMPL: u64 = 1 << 36;
}

/// Permissions that RMPADJUST gives, the byte of one VMPL in [`Entry::hi`].
pub mod permission {
    /// Read.
    pub const READ: u8 = 1 << 0;
    /// Write.
    pub const WRITE: u8 = 1 << 1;
    /// Execute at CPL 3.
    pub const EXECUTE_USER: u8 = 1 << 2;
    /// Execute at other CPLs.
    pub const EXECUTE_SUPERVISOR: u8 = 1 << 3;
    /// All that are modelled.
    pub const ALL: u8 = 0x0f;
}

/// VMPLs that a guest has.
const VMPLS: u8 = 4;

/// The guest that makes an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its ASID.
    pub asid: u32,
    /// The VMPL that runs, below 4.
    pub vmpl: u8,
}

/// Where an access goes, after nested paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// System physical address.
    pub pa: u64,
    /// Guest physical address, without the C-bit.
    pub gpa: u64,
    /// Size of the nested mapping.
    pub mapped: PageSize,
}

/// Why an access is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A nested page fault with these bits, for the hypervisor.
    Fault(u64),
    /// #VC with PAGE_NOT_VALIDATED, for the guest.
    NotValidated,
}

/// What PVALIDATE and RMPADJUST leave in EAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum GuestCode {
    /// Done.
    Success = 0,
    /// An operand is malformed.
    FailInput = 1,
    /// The VMPL may not do this.
    FailPermission = 2,
    /// A 2 MiB operand for pages of 4 KiB.
    FailSizeMismatch = 6,
}

/// RMPADJUST's operand in RDX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjust {
    /// The VMPL whose permissions change.
    pub vmpl: u8,
    /// Its new permissions.
    pub permissions: u8,
    /// The page is a VMSA.
    pub vmsa: bool,
}

impl Adjust {
    /// From the register; none if a reserved bit is set or there is no such VMPL.
    pub fn from_rdx(rdx: u64) -> Option<Adjust> {
        let (vmpl, permissions, vmsa) = (rdx as u8, (rdx >> 8) as u8, (rdx >> 16) & 1 == 1);
        let legal = rdx >> 17 == 0 && vmpl < VMPLS && permissions & !permission::ALL == 0;
        legal.then_some(Adjust { vmpl, permissions, vmsa })
    }
}

impl Entry {
    /// Permissions of one VMPL.
    pub const fn vmpl_permissions(self, vmpl: u8) -> u8 {
        (self.hi >> (vmpl as u32 * 8)) as u8
    }

    const fn with_vmpl_permissions(self, vmpl: u8, permissions: u8) -> Entry {
        let shift = vmpl as u32 * 8;
        self.with_permissions((self.hi & !(0xff << shift)) | ((permissions as u64) << shift))
    }
}

impl<T: Table> Rmp<T> {
    /// A shared access (C=0): the page must not be assigned to anybody.
    pub fn shared_access(&self, pa: u64) -> Result<(), Denied> {
        match self.entry(pa) {
            Some(entry) if entry.assigned() => Err(Denied::Fault(npf::RMP)),
            _ => Ok(()),
        }
    }

    /// A private access (C=1, instruction fetch, page table walk): what the guest's VMPL may do
    /// with the page.
    pub fn private_access(&self, guest: Guest, place: Place) -> Result<u8, Denied> {
        let entry = self.owned(guest, place)?;
        if entry.page_size() > place.mapped {
            return Err(Denied::Fault(npf::RMP | npf::SIZE));
        }
        if !entry.validated() {
            return Err(Denied::NotValidated);
        }
        let allowed = entry.vmpl_permissions(guest.vmpl);
        // A VMSA is written by VMRUN and #VMEXIT alone (model choice: reading it is allowed).
        Ok(if entry.vmsa() { allowed & !permission::WRITE } else { allowed })
    }

    /// The entry if it gives the page to this guest at this address.
    fn owned(&self, guest: Guest, place: Place) -> Result<Entry, Denied> {
        self.entry(place.pa)
            .filter(|entry| entry.assigned() && entry.asid() == guest.asid)
            .filter(|entry| entry.gpa() == place.gpa & !0xfff)
            .ok_or(Denied::Fault(npf::RMP))
    }

    /// The entry, and the size in which it may be changed. The smaller one of operand and mapping
    /// must not be below the entry's, else the hypervisor has to split the entry; a 2 MiB operand
    /// needs a page that is 2 MiB everywhere.
    fn sized(&self, guest: Guest, place: Place, size: PageSize) -> Result<Option<Entry>, Denied> {
        let entry = self.owned(guest, place)?;
        if entry.page_size() > size.min(place.mapped) {
            return Err(Denied::Fault(npf::RMP | npf::SIZE));
        }
        Ok((size <= entry.page_size()).then_some(entry))
    }

    /// PVALIDATE; with success comes whether anything changed (else CF is set).
    pub fn pvalidate(
        &self,
        guest: Guest,
        place: Place,
        size: PageSize,
        validate: bool,
    ) -> Result<(GuestCode, bool), Denied> {
        let index = self.guest_index(place.pa, size)?;
        let _locked = self.lock(index);
        let Some(entry) = self.sized(guest, place, size)? else {
            return Ok((GuestCode::FailSizeMismatch, false));
        };
        let changes = entry.validated() != validate;
        if changes {
            self.update(index, size, |entry| entry.with_validated(validate));
        }
        Ok((GuestCode::Success, changes))
    }

    /// RMPADJUST. Permissions can be given only to a VMPL below the one that runs, and only those
    /// that it has itself.
    pub fn rmpadjust(
        &self,
        guest: Guest,
        place: Place,
        size: PageSize,
        adjust: Adjust,
    ) -> Result<GuestCode, Denied> {
        let index = self.guest_index(place.pa, size)?;
        let _locked = self.lock(index);
        let Some(entry) = self.sized(guest, place, size)? else {
            return Ok(GuestCode::FailSizeMismatch);
        };
        if !entry.validated() {
            return Err(Denied::NotValidated);
        }
        let own = entry.vmpl_permissions(guest.vmpl);
        let vmsa_changes = adjust.vmsa != entry.vmsa();
        if adjust.vmpl <= guest.vmpl
            || adjust.permissions & !own != 0
            || (vmsa_changes && guest.vmpl != 0)
        {
            return Ok(GuestCode::FailPermission);
        }
        self.update(index, size, |entry| {
            entry.with_vmpl_permissions(adjust.vmpl, adjust.permissions).with_vmsa(adjust.vmsa)
        });
        Ok(GuestCode::Success)
    }

    fn guest_index(&self, pa: u64, size: PageSize) -> Result<u64, Denied> {
        self.geometry().index(pa & !(size.bytes() - 1)).ok_or(Denied::Fault(npf::RMP))
    }

    fn update(&self, index: u64, size: PageSize, change: impl Fn(Entry) -> Entry) {
        let pages = if size == PageSize::Size2M { PAGES_PER_2M } else { 1 };
        for index in index..index + pages {
            self.store(index, change(self.load(index)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::Fixture;
    use crate::{Code, RmpUpdate};

    const GUEST: Guest = Guest { asid: 3, vmpl: 0 };
    const SMALL: Place = Place { pa: 0x1000, gpa: 0x5000, mapped: PageSize::Size4K };
    const LARGE: Place = Place { pa: 0x20_0000, gpa: 0x40_0000, mapped: PageSize::Size2M };
    const RMP_FAULT: Denied = Denied::Fault(npf::RMP);
    const SIZE_FAULT: Denied = Denied::Fault(npf::RMP | npf::SIZE);

    /// A page of 4 KiB and one of 2 MiB, assigned and not validated.
    fn with_guest(test: impl FnOnce(Rmp<crate::MemoryTable<'_>>)) {
        let fixture = Fixture::new();
        let rmp = fixture.rmp();
        for (place, large) in [(SMALL, false), (LARGE, true)] {
            let new =
                RmpUpdate { gpa: place.gpa, assigned: true, large, immutable: false, asid: 3 };
            assert_eq!(rmp.rmpupdate(place.pa, &new), Code::Success);
        }
        test(rmp);
        fixture.assert_unlocked();
    }

    #[test]
    fn private_accesses() {
        with_guest(|rmp| {
            assert_eq!(rmp.private_access(GUEST, SMALL), Err(Denied::NotValidated));
            let size = PageSize::Size4K;
            assert_eq!(rmp.pvalidate(GUEST, SMALL, size, true), Ok((GuestCode::Success, true)));
            assert_eq!(rmp.private_access(GUEST, SMALL), Ok(permission::ALL));
            let rows = [
                ("another guest", Guest { asid: 4, ..GUEST }, SMALL, RMP_FAULT),
                ("another address", GUEST, Place { gpa: 0x6000, ..SMALL }, RMP_FAULT),
                ("a page of the host's", GUEST, Place { pa: 0x2000, ..SMALL }, RMP_FAULT),
                ("beyond the table", GUEST, Place { pa: 1 << 40, ..SMALL }, RMP_FAULT),
                ("mapped in parts", GUEST, Place { mapped: PageSize::Size4K, ..LARGE }, SIZE_FAULT),
            ];
            for (name, guest, place, denied) in rows {
                assert_eq!(rmp.private_access(guest, place), Err(denied), "{name}");
            }
            assert_eq!(rmp.private_access(Guest { vmpl: 1, ..GUEST }, SMALL), Ok(0));
        });
    }

    #[test]
    fn shared_accesses_need_the_hosts_page() {
        with_guest(|rmp| {
            assert_eq!(rmp.shared_access(SMALL.pa), Err(RMP_FAULT));
            assert_eq!(rmp.shared_access(0x2000), Ok(()));
            assert_eq!(rmp.shared_access(1 << 40), Ok(()), "a device");
        });
    }

    #[test]
    fn pvalidate_says_whether_it_changed_anything() {
        with_guest(|rmp| {
            let size = PageSize::Size2M;
            for (validate, changed) in [(true, true), (true, false), (false, true), (false, false)]
            {
                let result = rmp.pvalidate(GUEST, LARGE, size, validate);
                assert_eq!(result, Ok((GuestCode::Success, changed)), "{validate}");
                for page in [0, 0x1000, 0x1f_f000] {
                    let entry = rmp.entry(LARGE.pa + page).unwrap();
                    assert_eq!(entry.validated(), validate, "{page:#x}");
                }
            }
        });
    }

    #[test]
    fn sizes_must_fit() {
        with_guest(|rmp| {
            let (small, large) = (PageSize::Size4K, PageSize::Size2M);
            assert_eq!(rmp.pvalidate(GUEST, LARGE, small, true), Err(SIZE_FAULT));
            let split = Place { mapped: small, ..LARGE };
            assert_eq!(rmp.pvalidate(GUEST, split, large, true), Err(SIZE_FAULT));
            // After the hypervisor's answer to that.
            assert_eq!(rmp.psmash(LARGE.pa), Code::Success);
            let mismatch = Ok((GuestCode::FailSizeMismatch, false));
            assert_eq!(rmp.pvalidate(GUEST, LARGE, large, true), mismatch);
            assert_eq!(rmp.pvalidate(GUEST, split, small, true), Ok((GuestCode::Success, true)));
            assert!(!rmp.entry(LARGE.pa + 0x1000).unwrap().validated());
        });
    }

    #[test]
    fn rmpadjust_gives_what_the_vmpl_has_to_those_below() {
        with_guest(|rmp| {
            let size = PageSize::Size4K;
            let adjust = |vmpl, permissions, vmsa| Adjust { vmpl, permissions, vmsa };
            let run = |guest, adjust| rmp.rmpadjust(guest, SMALL, size, adjust);
            assert_eq!(run(GUEST, adjust(1, 3, false)), Err(Denied::NotValidated));
            rmp.pvalidate(GUEST, SMALL, size, true).unwrap();
            let one = Guest { vmpl: 1, ..GUEST };
            let rows = [
                ("itself", GUEST, adjust(0, 3, false), GuestCode::FailPermission),
                ("one below", GUEST, adjust(1, 3, false), GuestCode::Success),
                ("more than it has", one, adjust(2, 7, false), GuestCode::FailPermission),
                ("no VMSA from VMPL 1", one, adjust(2, 1, true), GuestCode::FailPermission),
                ("what it has", one, adjust(2, 1, false), GuestCode::Success),
                ("a VMSA", GUEST, adjust(1, 0, true), GuestCode::Success),
            ];
            for (name, guest, adjust, code) in rows {
                assert_eq!(run(guest, adjust), Ok(code), "{name}");
            }
            let entry = rmp.entry(SMALL.pa).unwrap();
            assert_eq!((entry.hi, entry.vmsa()), (0x01_00_0f, true));
            let rest = permission::ALL & !permission::WRITE;
            assert_eq!(rmp.private_access(GUEST, SMALL), Ok(rest), "a VMSA is not written");
        });
    }

    #[test]
    fn rmpadjusts_operand() {
        let rows = [
            (0x1_0001, Some(Adjust { vmpl: 1, permissions: 0, vmsa: true })),
            (0x0f03, Some(Adjust { vmpl: 3, permissions: 0x0f, vmsa: false })),
            (4, None),
            (0x1001, None),
            (0x2_0001, None),
        ];
        for (rdx, adjust) in rows {
            assert_eq!(Adjust::from_rdx(rdx), adjust, "{rdx:#x}");
        }
    }
}
