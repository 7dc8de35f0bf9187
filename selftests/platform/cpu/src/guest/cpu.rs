// SPDX-License-Identifier: GPL-2.0
//! What is known of the guest that a CPU runs.

use std::cell::Cell;

use rmp::Denied;

/// A guest between VMRUN and #VMEXIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Where its VMCB is.
    pub vmcb: u64,
    /// Where its VMSA is.
    pub vmsa: u64,
    /// The root of nested paging.
    pub nested_cr3: u64,
    /// SEV_FEATURES; none but SNP guests have any.
    pub features: u64,
    /// Address space identifier.
    pub asid: u32,
    /// The VMPL of the VMSA.
    pub vmpl: u8,
    /// The host's PAT, which no save area holds.
    pub host_pat: u64,
}

/// An event that was to be delivered to a guest's vCPU, which is the one with this VMSA, and the
/// RIP that it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub vmsa: u64,
    pub vector: i32,
    pub rip: u64,
}

/// Only the thread of the CPU uses it.
pub struct GuestCpu {
    /// The guest that runs.
    pub running: Cell<Option<Running>>,
    /// Or the VMCB of an SEV guest without encrypted registers.
    pub sev: Cell<Option<u64>>,
    /// The length of the VMGEXIT that comes next.
    pub vmgexit: Cell<Option<u64>>,
    /// #VC is on its way into the guest, with this error code.
    pub vc: Cell<Option<u32>>,
    /// The virtual address that TCG translates.
    pub address: Cell<u64>,
    /// What the RMP had against the translation that failed last.
    pub denied: Cell<Option<Denied>>,
    /// The events before, the latest first, of all vCPUs that this CPU has run.
    pub events: Cell<[Event; 6]>,
}

// SAFETY: QEMU runs callbacks of one CPU on its thread, and `guest` hands a GuestCpu only to
// callbacks of its CPU.
unsafe impl Sync for GuestCpu {}

impl GuestCpu {
    /// No guest.
    pub const fn new() -> GuestCpu {
        GuestCpu {
            running: Cell::new(None),
            sev: Cell::new(None),
            vmgexit: Cell::new(None),
            vc: Cell::new(None),
            address: Cell::new(0),
            denied: Cell::new(None),
            events: Cell::new([Event { vmsa: 0, vector: 0, rip: 0 }; 6]),
        }
    }

    /// The guest has left: what was known of its last instruction is over. (A #VC that the layer
    /// has just decided on is not.)
    pub fn forget(&self) {
        self.vmgexit.set(None);
        self.denied.set(None);
    }

    /// Notes an event.
    pub fn event(&self, vector: i32, rip: u64) {
        let mut events = self.events.get();
        events.rotate_right(1);
        let vmsa = self.running.get().map_or(0, |running| running.vmsa);
        events[0] = Event { vmsa, vector, rip };
        self.events.set(events);
    }
}
