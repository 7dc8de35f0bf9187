// SPDX-License-Identifier: GPL-2.0
//! The SNP CPU model: a TCG plugin that gives an unmodified kernel a CPU with SEV-SNP.
//!
//! QEMU translates guest code; the plugin has itself called before the few instructions that an
//! SNP host needs and TCG does not know (or answers differently), executes them by the rules of
//! this crate and continues after them. README.md says what is modelled, and from which source.
//!
//! From the outside in:
//!
//! * `load`: what QEMU calls first; `plugin`: what it calls from then on. `translate`: which
//!   instructions it calls for. `fill`: what it calls for translations. `qemu`: what is called in
//!   QEMU, all `unsafe` to do with it. Only these know that QEMU exists.
//! * `execute`: one instruction in, its outcome out; tested without QEMU. It uses `insn` (which
//!   instructions), `cpuid`, `msr`, `rmp_insn` and `svm` (their rules). `guest`: SEV guests.
//! * `watch`: which translations the RMP forbids, and what is reported or refused.
//! * `writable`: what has to leave TLBs when a page is given away. `kept`: what stays in them over
//!   VMRUN and #VMEXIT.
//! * `caches`: what has not been written back when it should have been.
//! * `model`: the state of all CPUs, which those rules are about; `cpu`: what a rule sees of the
//!   CPU that executes; `activity`: what goes on on each; `variant`: what differs between machines.
//! * `acpi`: the firmware tables that announce the IOMMU and CPUs to come. `iommu`: the pages that
//!   it writes to. `ram`: guest memory.
//! * `args` and `stats`, `log`: what comes in at load and goes out at exit.

mod acpi;
mod activity;
mod args;
mod caches;
mod cpu;
mod cpuid;
mod execute;
mod fill;
mod guest;
mod insn;
mod iommu;
mod kept;
mod load;
mod log;
mod model;
mod msr;
mod plugin;
mod qemu;
mod ram;
mod rmp_insn;
mod stats;
mod svm;
#[cfg(test)]
mod testing;
mod translate;
mod variant;
mod watch;
mod writable;
