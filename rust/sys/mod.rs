// SPDX-License-Identifier: GPL-2.0

//! What the kernel crate lacks: one abstraction per file, without knowledge of the driver, fit to
//! be sent upstream.
//!
//! Each of the two modules compiles all of it as its own `sys`. That is private there, so the
//! compiler drops the functions that a module does not use (it keeps the methods of traits).

#![allow(unsafe_code)]
// Public as in the kernel crate, and each module uses a part only. `make check` looks for what
// neither of them uses.
#![allow(dead_code, unreachable_pub)]

pub mod bindings;
pub mod caller_memory;
pub mod cc;
#[cfg(CONFIG_KUNIT = "y")]
pub mod check;
pub mod completion;
pub mod contents;
pub mod cpu;
pub mod crash_dump;
pub mod debugfs;
pub mod device_attribute;
pub mod direct_map;
pub mod errno;
#[cfg(CONFIG_KUNIT = "y")]
pub mod fake_cpuid;
#[cfg(CONFIG_KUNIT = "y")]
pub mod fake_io;
#[cfg(CONFIG_KUNIT = "y")]
pub mod fake_sme;
pub mod fw_upload;
pub mod guest_rmp;
pub mod hotplug;
pub mod iomem;
pub mod iommu;
pub mod killable_mutex;
pub mod log;
pub mod mem_encrypt;
pub mod memremap;
pub mod misc_device;
pub mod module_pin;
pub mod msr;
pub mod notifier;
pub mod nv_file;
pub mod pages;
pub mod params;
pub mod pci_adapter;
pub mod pci_bar;
pub mod pci_msi;
pub mod percpu;
#[cfg(CONFIG_KUNIT = "y")]
pub mod physical;
pub mod rmp;
pub mod rmpread;
#[cfg(CONFIG_KUNIT = "y")]
pub mod said;
pub mod sched;
pub mod sleep;
pub mod snp_host;
pub mod sysfs;
pub mod trace;
pub mod volatile;
pub mod workers;
