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
#[path = "../sys/cpu.rs"]
pub(crate) mod cpu;
#[path = "../sys/crash.rs"]
pub(crate) mod crash;
#[path = "../sys/iomem.rs"]
pub(crate) mod iomem;
#[path = "../sys/iommu.rs"]
pub(crate) mod iommu;
#[path = "../sys/mem_encrypt.rs"]
pub(crate) mod mem_encrypt;
#[path = "../sys/misc_device.rs"]
pub mod misc_device;
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
#[path = "../sys/rmp.rs"]
pub(crate) mod rmp;
#[path = "../sys/snp_host.rs"]
pub mod snp_host;
