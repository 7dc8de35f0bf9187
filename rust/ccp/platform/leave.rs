// SPDX-License-Identifier: GPL-2.0

//! Leaving SNP, while guests of it may be there.
//!
//! SNP_EN is taken from the CPUs by firmware (X86_SNP_SHUTDOWN in SNP_SHUTDOWN_EX). A CPU without
//! it does not know the instruction RMPUPDATE, with which KVM gives the pages of a guest back when
//! that ends, and takes more for one that runs: an invalid opcode in the kernel. And firmware stops
//! SNP only if no guest has an ASID. [`Leaving::plan`] decides for everybody who ends SNP.

/// On which occasion SNP ends: who may still use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    /// kvm-amd is being unloaded or loaded: KVM has no VM. (A VM holds a reference to the module.)
    KvmGone,
    /// The PSP is unbound or removed, or the machine goes down. KVM does not know, and goes on.
    ///
    /// The PCI core shuts devices down for a restart and for kexec alike, in `device_shutdown()`.
    /// The other CPUs run until `machine_shutdown()`, and KVM switches virtualization off only in
    /// `syscore_shutdown()`, both later. Later than those the kernel calls no module. A reboot
    /// notifier comes even earlier, and nobody asks what it returns: it cannot refuse.
    DeviceGone,
    /// The kernel panics. The other CPUs have been stopped: nobody runs a vCPU or ends a guest.
    Panic,
}

/// How SNP is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// The guests' contexts are taken from firmware first, so that their ASIDs become free.
    pub(super) decommission: bool,
    /// Firmware is asked to clear SNP_EN.
    pub(super) x86: bool,
}

impl Leaving {
    /// How SNP is ended with so many `guests`, by firmware that can clear SNP_EN or not (`x86`).
    ///
    /// With a guest SNP_EN stays set as long as KVM may be at work on that guest, whatever becomes
    /// of the guest in firmware. The guest's memory then stays in the RMP: no other kernel can take
    /// it over.
    ///
    /// A panic decommissions nothing: that obliges every CPU to a WBINVD before the flush that
    /// SNP_SHUTDOWN_EX wants then, and the other CPUs execute nothing any more.
    pub(super) fn plan(self, guests: u32, x86: bool) -> Plan {
        match self {
            Leaving::KvmGone => Plan {
                decommission: guests != 0,
                x86,
            },
            Leaving::DeviceGone => Plan {
                decommission: guests != 0,
                x86: x86 && guests == 0,
            },
            Leaving::Panic => Plan {
                decommission: false,
                x86,
            },
        }
    }
}
