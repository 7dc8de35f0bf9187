// SPDX-License-Identifier: GPL-2.0

//! The abstractions of `rust/sys` that this crate uses.

#[path = "../sys/bindings.rs"]
pub(crate) mod bindings;
#[path = "../sys/cc.rs"]
pub mod cc;
// What ccp alone asks of it.
#[expect(dead_code)]
#[path = "../sys/cpu.rs"]
pub(crate) mod cpu;
#[path = "../sys/cpuid.rs"]
pub mod cpuid;
// The panic notifier in it is for ccp.
#[expect(dead_code)]
#[path = "../sys/crash.rs"]
pub(crate) mod crash;
#[path = "../sys/hotplug.rs"]
pub mod hotplug;
#[path = "../sys/iomem.rs"]
pub mod iomem;
// What ccp alone asks of it.
#[expect(dead_code)]
#[path = "../sys/iommu.rs"]
pub(crate) mod iommu;
#[path = "../sys/memremap.rs"]
pub mod memremap;
#[path = "../sys/module_pin.rs"]
pub mod module_pin;
#[path = "../sys/msr.rs"]
pub mod msr;
#[path = "../sys/percpu.rs"]
pub mod percpu;
#[path = "../sys/rmpread.rs"]
pub mod rmpread;
#[path = "../sys/sched.rs"]
pub mod sched;
#[path = "../sys/sleep.rs"]
pub mod sleep;
#[path = "../sys/sysfs.rs"]
pub mod sysfs;
#[path = "../sys/workers.rs"]
pub mod workers;
