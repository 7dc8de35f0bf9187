// SPDX-License-Identifier: GPL-2.0
//! The SNP CPU model: a TCG plugin that gives an unmodified kernel a CPU with SEV-SNP.
//!
//! QEMU translates guest code; the plugin has itself called before the few instructions that an
//! SNP host needs and TCG does not know (or answers differently), executes them by the rules of
//! this crate and continues after them. README.md says what is modelled, and from which source.
//!
//! From the outside in:
//!
//! * `plugin`: what QEMU calls. `fill`: the same for translations. `qemu`: what the plugin calls in
//!   QEMU, all `unsafe` to do with it. Only these three know that QEMU exists.
//! * `model`: one instruction in, its outcome out; tested without QEMU. It uses `insn` (which
//!   instructions), `cpuid`, `msr`, `rmp_insn` and `svm` (their rules).
//! * `acpi`: the firmware tables that announce the IOMMU and CPUs to come. `iommu`: the pages that
//!   it writes to. `ram`: guest memory.
//! * `watch`: which translations the RMP forbids, and what is reported or refused.
//! * `args` and `stats`, `log`: what comes in at load and goes out at exit.

mod acpi;
mod args;
mod cpuid;
mod fill;
mod guest;
mod insn;
mod iommu;
mod log;
mod model;
mod msr;
mod plugin;
mod qemu;
mod ram;
mod rmp_insn;
mod stats;
mod svm;
mod watch;
