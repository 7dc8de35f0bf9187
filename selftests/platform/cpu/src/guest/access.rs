// SPDX-License-Identifier: GPL-2.0
//! Nested paging of an SNP guest: each translation that TCG makes is checked against the RMP, and
//! the fault that comes of it gets the bits that only SEV knows.

use rmp::{permission, Denied, Guest, Place};

use super::cpu::Running;
use super::layout::{fault, C_BIT};
use super::walk::{Nested, Paging, Unmapped};
use super::Layer;
use crate::model::Model;

/// What TCG translates for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Fetch,
}

impl Access {
    fn bits(self) -> u64 {
        match self {
            Access::Read => 0,
            Access::Write => fault::WRITE,
            Access::Fetch => fault::FETCH,
        }
    }

    /// The permission that it takes. Which of the two for a fetch depends on CPL, which nested
    /// paging does not know here; RMPADJUST gives both or none in practice (model choice).
    fn needs(self) -> u8 {
        match self {
            Access::Read => permission::READ,
            Access::Write => permission::WRITE,
            Access::Fetch => permission::EXECUTE_USER | permission::EXECUTE_SUPERVISOR,
        }
    }
}

/// What becomes of a translation of nested paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// TCG goes on.
    Pass,
    /// TCG goes on, and must not keep more rights than these for this page.
    Limit {
        /// May be written.
        write: bool,
        /// May be executed.
        execute: bool,
    },
    /// A fault with these bits in the low half of its error code.
    Deny(u32),
}

impl Layer {
    /// TCG wants to translate `gpa`, with the C-bit if the guest set it.
    pub fn translate(
        &self,
        model: &Model<'_>,
        index: usize,
        paging: Paging,
        gpa: u64,
        access: Access,
    ) -> Verdict {
        let me = self.cpu(index);
        me.denied.set(None);
        let Some(running) = me.running.get().filter(Running::snp) else {
            return Verdict::Pass;
        };
        let nested = Nested { ram: &model.ram, cr3: running.nested_cr3 };
        let fault = (fault::PRESENT | fault::USER | access.bits()) as u32;
        let mapped = match nested.find(gpa) {
            Ok(mapped) => mapped,
            // No translation: that fault is TCG's.
            Err(Unmapped::Fault) => return Verdict::Pass,
            Err(Unmapped::Reserved) => return Verdict::Deny(fault | fault::RESERVED as u32),
        };
        let plain = gpa & !C_BIT;
        let mut private = gpa & C_BIT != 0 || !paging.on() || access == Access::Fetch;
        if !private && model.rmp.shared_access(mapped.pa).is_err() {
            private = paging.is_table(nested, me.address.get(), plain);
        }
        let result = if private {
            let place = Place { pa: mapped.pa, gpa: plain, mapped: mapped.size };
            let guest = Guest { asid: running.asid, vmpl: running.vmpl };
            model.rmp.private_access(guest, place)
        } else {
            model.rmp.shared_access(mapped.pa).map(|()| permission::ALL)
        };
        let denied = match result {
            Ok(permission::ALL) => return Verdict::Pass,
            Ok(allowed) if allowed & access.needs() == access.needs() => {
                let execute = Access::Fetch.needs();
                return Verdict::Limit {
                    write: allowed & permission::WRITE != 0,
                    execute: allowed & execute == execute,
                };
            }
            Ok(_) => Denied::Fault(rmp::npf::RMP | rmp::npf::VMPL),
            Err(denied) => denied,
        };
        me.denied.set(Some(denied));
        Verdict::Deny(fault)
    }
}

/// A nested page fault as TCG reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub info_1: u64,
    pub gpa: u64,
}

impl Fault {
    /// With what the RMP had against it, and whether the access was private; none if it is for the
    /// guest (#VC, page not validated).
    pub fn complete(self, paging: &Paging, denied: Option<Denied>) -> Option<Fault> {
        let bits = match denied {
            Some(Denied::NotValidated) => return None,
            Some(Denied::Fault(bits)) => bits,
            None => 0,
        };
        let private = self.gpa & C_BIT != 0
            || !paging.on()
            || self.info_1 & (fault::TABLE | fault::FETCH | fault::ENCRYPTED) != 0;
        let encrypted = if private { fault::ENCRYPTED } else { 0 };
        Some(Fault { info_1: self.info_1 | bits | encrypted, gpa: self.gpa & !C_BIT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_get_their_bits() {
        let off = Paging { cr0: 1, cr3: 0, cr4: 0, efer: 0 };
        let on = Paging { cr0: 0x8000_0001, ..off };
        let rmp = Some(Denied::Fault(rmp::npf::RMP));
        const FINAL: u64 = fault::FINAL | fault::USER;
        let rows = [
            ("shared", on, FINAL, 0x5000, None, Some((FINAL, 0x5000))),
            ("C-bit", on, FINAL, 0x5000 | C_BIT, None, Some((FINAL | 1 << 34, 0x5000))),
            ("no paging", off, FINAL, 0x5000, None, Some((FINAL | 1 << 34, 0x5000))),
            ("fetch", on, FINAL | 0x10, 0x5000, None, Some((FINAL | 0x10 | 1 << 34, 0x5000))),
            ("table", on, 1 << 33 | 4, 0x5000, None, Some((3 << 33 | 4, 0x5000))),
            ("RMP", on, FINAL | 1, 0x5000, rmp, Some((FINAL | 1 | 1 << 31, 0x5000))),
            ("not valid", on, FINAL, 0x5000, Some(Denied::NotValidated), None),
        ];
        for (name, paging, info_1, gpa, denied, expected) in rows {
            let complete = Fault { info_1, gpa }.complete(&paging, denied);
            assert_eq!(complete.map(|f| (f.info_1, f.gpa)), expected, "{name}");
        }
    }
}
