// SPDX-License-Identifier: GPL-2.0

//! How SNP is shut down while there may be SNP guests.
//!
//! Firmware clears SNP_EN on the CPUs (X86_SNP_SHUTDOWN in SNP_SHUTDOWN_EX). A CPU without SNP_EN
//! does not know the instruction RMPUPDATE, which KVM executes to take pages for a guest, and to
//! give them back when the guest ends: an invalid opcode in the kernel. And firmware stops SNP only
//! if no guest has an ASID. [`Leaving::clears_snp_en`] decides for everybody who shuts SNP down.

/// The occasion of the shutdown, which says who may still use SNP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    /// kvm-amd is being unloaded or loaded: KVM has no VM. (A VM holds a reference to the module.)
    KvmGone,
    /// The PSP is unbound or removed, or the machine goes down. KVM does not know, and goes on.
    ///
    /// The PCI core shuts devices down for a restart and for kexec alike, in `device_shutdown()`.
    /// The other CPUs run until `machine_shutdown()`, and KVM disables virtualization only in
    /// `syscore_shutdown()`. Both come later, and after them the kernel calls no module. A reboot
    /// notifier comes even earlier and cannot refuse: the kernel ignores what it returns.
    DeviceGone,
    /// The kernel panics. The other CPUs have been stopped: nobody runs a vCPU or ends a guest.
    Panic,
}

impl Leaving {
    /// Whether SNP_SHUTDOWN_EX clears SNP_EN on all CPUs, with so many `guests` and firmware with
    /// or without X86_SNP_SHUTDOWN. The guests are decommissioned before, which frees their ASIDs.
    ///
    /// SNP_EN stays set as long as KVM may be at work on a guest, even after the guest was
    /// decommissioned. The guest's memory then stays in the RMP, and no other kernel can use it.
    ///
    /// After SNP_DECOMMISSION every CPU has to execute WBINVD before the flush that
    /// SNP_SHUTDOWN_EX demands. In a panic the other CPUs are stopped, so there the guests are
    /// decommissioned only if kvm-amd has these CPUs wait for that (`platform/panic.rs`).
    pub(super) fn clears_snp_en(self, guests: u32, x86_snp_shutdown: bool) -> bool {
        match self {
            Leaving::KvmGone | Leaving::Panic => x86_snp_shutdown,
            Leaving::DeviceGone => x86_snp_shutdown && guests == 0,
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
