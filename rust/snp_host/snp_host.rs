// SPDX-License-Identifier: GPL-2.0

//! The part of SEV-SNP that must outlive `ccp.ko` while SNP is enabled on this host: the CPU
//! hotplug window, and the preparation of CPUs and RMP, which needs an open window.
//!
//! `SYSCFG.SNP_EN`, once written, stays until reset or until firmware clears it. A CPU that runs
//! without SNP_EN bypasses the RMP checks of all others, so no CPU may come or go meanwhile.
//! Neither the kernel's disable counter nor `SNP_EN` itself can tell a reload of `ccp` from a
//! kexec; this module can, because it cannot be unloaded while `SNP_EN` is set.
//!
//! | file | what it has |
//! |---|---|
//! | `host.rs`, `exports.c` | the functions of `include/linux/snp_host.h`; the hotplug window |
//! | `window.rs` | its state machine; pure |
//! | `unfit.rs` | why this kernel is no SNP host |
//! | `prepare.rs` | `snp_prepare()`, `snp_shutdown()`: their order, which is pure; their steps |
//! | `owed.rs` | the PSPs that owe an answer to a command |
//! | `preflight.rs` | the registers that firmware compares between CPUs |
//! | `compare.rs` | the comparison; pure |
//! | `syscfg.rs` | SNP_EN and EFER.SVME of all CPUs |
//! | `rmp.rs` | the RMP as memory: finds, clears, scans it |
//! | `entry.rs` | the owner of a page |
//! | `rmp_table.rs` | the layout of the RMP, and its checks; pure |

#![deny(unsafe_code)]

use kernel::prelude::*;
use sys::{
    hotplug::CpuVetoRegistration,
    notifier::Notifier,
    sysfs, //
};

mod compare;
mod entry;
mod host;
mod owed;
mod preflight;
mod prepare;
mod rmp;
mod rmp_table;
#[path = "../sys/mod.rs"]
mod sys;
mod syscfg;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;
mod unfit;
mod window;

/// `/sys/kernel/snp_host`: what holds the window open, since when, and where `SNP_EN` is set.
static FILES: [sysfs::File; 4] = [
    sysfs::File::new(c"state", 0o444, host::show_state),
    sysfs::File::new(c"reason", 0o444, host::show_reason),
    sysfs::File::new(c"open_seconds", 0o444, host::show_open_seconds),
    // Interrupts every CPU.
    sysfs::File::new(c"snp_en_cpus", 0o400, host::show_snp_en_cpus),
];

/// The module. Fields are dropped in this order.
#[pin_data]
struct SnpHostModule {
    directory: sysfs::Directory,
    #[pin]
    sleep: Notifier<host::Vetoes>,
    cpus: CpuVetoRegistration,
    host: host::Registration,
}

impl kernel::InPlaceModule for SnpHostModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: {
                // SAFETY: A module is initialised once, and this comes before all else.
                #[allow(unsafe_code)]
                unsafe {
                    host::init_lock()
                };
            },
            // Steps that may fail come first: module init cannot fail any more once the window is
            // open. Until then the vetoes let everything pass and the files return ENODEV.
            cpus: CpuVetoRegistration::new::<host::Vetoes>(c"snp_host")?,
            sleep <- Notifier::register(host::Vetoes),
            directory: sysfs::Directory::in_kernel(c"snp_host", &FILES)?,
            host: host::Registration::new(module, unfit::reason())?,
        })
    }
}

module! {
    type: SnpHostModule,
    name: "snp_host",
    authors: ["The ccp-rs developers"],
    description: "CPU hotplug window, CPUs and RMP of an AMD SEV-SNP host",
    license: "GPL",
}
