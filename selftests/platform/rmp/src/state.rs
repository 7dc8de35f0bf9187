// SPDX-License-Identifier: GPL-2.0
//! Page states: what the bits of an entry mean together.

use crate::Entry;

/// The state of a page, as the firmware ABI names it. "Default" (not covered by the table) has no
/// entry and therefore no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The hypervisor's ordinary memory.
    Hypervisor,
    /// The hypervisor's for good: RMPUPDATE fails with FAIL_PERMISSION, host writes work.
    ///
    /// The encoding is not public. Visible behaviour is unassigned and refused by RMPUPDATE
    /// (AMDSEV issue 245), so this is unassigned with `immutable` set (model choice).
    HvFixed,
    /// One of the table's own pages after SNP_INIT (locked, immutable, assigned).
    RmpTable,
    /// Firmware may write it; the hypervisor may not.
    Firmware,
    /// Given back by firmware; RMPUPDATE may now take it.
    Reclaim,
    /// A guest context.
    Context,
    /// Metadata of swapped pages.
    Metadata,
    /// Assigned to a guest, waiting for LAUNCH_UPDATE.
    PreGuest,
    /// A guest's page, waiting for SWAP_OUT.
    PreSwap,
    /// A guest's page that it has not validated.
    GuestInvalid,
    /// A guest's page that it has validated.
    GuestValid,
}

impl State {
    /// Every state, in the order of their discussion in the ABI.
    pub const ALL: [State; 11] = [
        State::Hypervisor,
        State::HvFixed,
        State::RmpTable,
        State::Firmware,
        State::Reclaim,
        State::Context,
        State::Metadata,
        State::PreGuest,
        State::PreSwap,
        State::GuestInvalid,
        State::GuestValid,
    ];

    /// The state that `entry` encodes. Every bit pattern has one.
    pub const fn of(entry: Entry) -> State {
        let owned_by_guest = entry.asid() != 0;
        match (entry.assigned(), entry.immutable(), owned_by_guest) {
            (false, false, _) => State::Hypervisor,
            (false, true, _) => State::HvFixed,
            (true, true, false) if entry.locked() => State::RmpTable,
            (true, true, false) if entry.vmsa() => State::Context,
            (true, true, false) if entry.gpa() != 0 => State::Metadata,
            (true, true, false) => State::Firmware,
            (true, false, false) => State::Reclaim,
            (true, true, true) if entry.validated() => State::PreSwap,
            (true, true, true) => State::PreGuest,
            (true, false, true) if entry.validated() => State::GuestValid,
            (true, false, true) => State::GuestInvalid,
        }
    }

    /// The name used in traces and reports.
    pub const fn name(self) -> &'static str {
        match self {
            State::Hypervisor => "hypervisor",
            State::HvFixed => "hv-fixed",
            State::RmpTable => "rmp-table",
            State::Firmware => "firmware",
            State::Reclaim => "reclaim",
            State::Context => "context",
            State::Metadata => "metadata",
            State::PreGuest => "pre-guest",
            State::PreSwap => "pre-swap",
            State::GuestInvalid => "guest-invalid",
            State::GuestValid => "guest-valid",
        }
    }
}

impl Entry {
    /// A page of firmware.
    pub const FIRMWARE: Entry = Entry::ZERO.with_assigned(true).with_immutable(true);
    /// A page that firmware has given back.
    pub const RECLAIM: Entry = Entry::ZERO.with_assigned(true);
    /// A guest context.
    pub const CONTEXT: Entry = Entry::FIRMWARE.with_vmsa(true);
    /// A page that stays with the hypervisor.
    pub const HV_FIXED: Entry = Entry::ZERO.with_immutable(true);
    /// A page of the table itself (dump of a real machine: AMDSEV issue 245).
    pub const RMP_TABLE: Entry = Entry::FIRMWARE.with_locked(true);

    /// A page waiting for LAUNCH_UPDATE.
    pub const fn pre_guest(asid: u32, gpa: u64) -> Entry {
        Entry::FIRMWARE.with_asid(asid).with_gpa(gpa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_abi_table_classifies() {
        let guest = Entry::ZERO.with_assigned(true).with_asid(3).with_gpa(0x5000);
        let rows: &[(State, Entry)] = &[
            (State::Hypervisor, Entry::ZERO),
            (State::HvFixed, Entry::HV_FIXED),
            (State::RmpTable, Entry::RMP_TABLE),
            (State::Firmware, Entry::FIRMWARE),
            (State::Reclaim, Entry::RECLAIM),
            (State::Context, Entry::CONTEXT),
            (State::Metadata, Entry::FIRMWARE.with_gpa(0x7000)),
            (State::PreGuest, Entry::pre_guest(3, 0x5000)),
            (State::PreGuest, Entry::pre_guest(3, 0)),
            (State::PreSwap, guest.with_immutable(true).with_validated(true)),
            (State::GuestInvalid, guest),
            (State::GuestValid, guest.with_validated(true)),
            (State::GuestValid, guest.with_validated(true).with_vmsa(true)),
        ];
        for (state, entry) in rows {
            assert_eq!(State::of(*entry), *state, "{entry:x?}");
        }
        for state in State::ALL {
            assert!(rows.iter().any(|row| row.0 == state), "no row for {state:?}");
        }
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = State::ALL.iter().map(|s| s.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), State::ALL.len());
    }
}
