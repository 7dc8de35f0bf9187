// SPDX-License-Identifier: GPL-2.0

//! The abstractions of `rust/sys` that this crate uses.

#[path = "../sys/bindings.rs"]
pub(crate) mod bindings;
#[path = "../sys/caller_memory.rs"]
pub(crate) mod caller_memory;
#[path = "../sys/cc.rs"]
pub mod cc;
#[path = "../sys/completion.rs"]
pub(crate) mod completion;
// What snp_host alone asks of it.
#[expect(dead_code)]
#[path = "../sys/cpu.rs"]
pub(crate) mod cpu;
#[path = "../sys/crash.rs"]
pub(crate) mod crash;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "../sys/fake_io.rs"]
pub(crate) mod fake_io;
#[path = "../sys/hotplug.rs"]
pub mod hotplug;
#[path = "../sys/iomem.rs"]
pub mod iomem;
// What snp_host alone asks of it.
#[expect(dead_code)]
#[path = "../sys/iommu.rs"]
pub(crate) mod iommu;
#[path = "../sys/killable_mutex.rs"]
pub(crate) mod killable_mutex;
#[path = "../sys/mem_encrypt.rs"]
pub(crate) mod mem_encrypt;
#[path = "../sys/misc_device.rs"]
pub mod misc_device;
#[path = "../sys/msr.rs"]
pub mod msr;
#[path = "../sys/pages.rs"]
pub(crate) mod pages;
#[path = "../sys/params.rs"]
pub(crate) mod params;
#[path = "../sys/pci_adapter.rs"]
pub mod pci_adapter;
#[path = "../sys/pci_bar.rs"]
pub mod pci_bar;
#[path = "../sys/pci_msi.rs"]
pub mod pci_msi;
#[path = "../sys/percpu.rs"]
pub mod percpu;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "../sys/physical.rs"]
pub(crate) mod physical;
#[path = "../sys/rmp.rs"]
pub(crate) mod rmp;
#[path = "../sys/snp_host.rs"]
pub mod snp_host;
#[path = "../sys/sysfs.rs"]
pub mod sysfs;
