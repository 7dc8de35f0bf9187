// SPDX-License-Identifier: GPL-2.0

//! Driver for the AMD Secure Processor (PSP) on hosts with SEV, SEV-ES and SEV-SNP.
//!
//! From the device to its users:
//!
//! | file | what it has |
//! |---|---|
//! | `driver.rs`, `irq.rs` | probe and unbind of PCI functions, generations, the interrupt |
//! | `psps.rs` | all PSPs of the system, and which is the master |
//! | `regs.rs`, `mailbox.rs` | registers; one command from doorbell to status |
//! | `services.rs` | what a PSP does beside SEV, each by itself |
//! | `platform_access.rs` | messages for what concerns the platform, and a doorbell |
//! | `psp_mailbox.rs` | the PSP's own mailbox |
//! | `tee.rs` | applications that run on the PSP |
//! | `sfs.rs`, `sfs_uapi.rs` | firmware of others that is replaced; `/dev/sfs` |
//! | `hv_fixed.rs` | memory that other firmware than SEV's uses |
//! | `cmd.rs`, `error.rs`, `rust/wire` | commands as types; their buffers; why they fail |
//! | `pages.rs` | who owns a page: this driver or firmware |
//! | `platform.rs` | the state of firmware, behind the command lock |
//! | `nv.rs`, `nv_file.rs` | firmware's persistent state in a file |
//! | `uapi.rs` | `/dev/sev` |
//! | `mitigations.rs` | `/sys/firmware/sev/vulnerabilities` |
//! | `kapi.rs` | the functions that kvm-amd and others import |
//! | `gmem.rs` | memory of SNP guests, for a kvm-amd with hooks |
//! | `state.rs` | what is known of firmware, in words, without asking it |
//! | `guests.rs` | what KVM is asked about all guests |
//! | `hot_load.rs` | firmware that is replaced while it runs |
//! | `stopped_cpus.rs` | CPUs that a panic with SNP guests stops |

#![deny(unsafe_code)]

use kernel::{
    driver::Registration,
    prelude::*,
    str::CString, //
};
use sys::{
    debugfs,
    log,
    sysfs, //
};

mod cmd;
mod display;
mod driver;
mod error;
mod gmem;
mod guests;
mod hot_load;
mod hv_fixed;
mod irq;
mod kapi;
mod lent;
mod mailbox;
mod mitigations;
mod nv;
mod nv_file;
mod pages;
mod platform;
mod platform_access;
mod psp_mailbox;
mod psps;
mod regs;
mod services;
mod sfs;
mod sfs_uapi;
mod state;
mod stopped_cpus;
#[path = "../sys/mod.rs"]
mod sys;
mod tee;
#[cfg(CONFIG_KUNIT = "y")]
mod testing;
mod uapi;
#[path = "../wire/mod.rs"]
mod wire;

/// `/sys/kernel/ccp`: how many pages have been lost to firmware since the module was loaded.
static FILES: [sysfs::File; 1] = [sysfs::File::new(c"lost_pages", 0o444, show_lost_pages)];

fn show_lost_pages() -> Result<CString> {
    CString::try_from_fmt(fmt!("{}", pages::leaked()))
}

/// The module. Fields are dropped in this order.
#[pin_data]
struct Ccp {
    directory: sysfs::Directory,
    #[pin]
    driver: Registration<sys::pci_adapter::Adapter<driver::PspDriver>>,
    files: debugfs::Directory,
    mitigations: mitigations::Record,
    hv_fixed: hv_fixed::Record,
    services: services::Record,
    sfs_node: sfs_uapi::Record,
    lost: pages::Record,
    known: state::Record,
}

impl kernel::InPlaceModule for Ccp {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: {
                // SAFETY: A module is initialised once, and no device is bound before the driver is
                // registered.
                #[allow(unsafe_code)]
                unsafe {
                    platform::slot::init();
                    nv_file::init();
                    psps::init();
                    guests::init();
                }
            },
            #[allow(unsafe_code)]
            // SAFETY: As above.
            lost: unsafe { pages::Record::init() },
            #[allow(unsafe_code)]
            // SAFETY: As above.
            hv_fixed: unsafe { hv_fixed::Record::init() },
            #[allow(unsafe_code)]
            // SAFETY: As above.
            services: unsafe { services::Record::init() },
            #[allow(unsafe_code)]
            // SAFETY: As above.
            sfs_node: unsafe { sfs_uapi::Record::init() },
            #[allow(unsafe_code)]
            // SAFETY: As above.
            mitigations: unsafe { mitigations::Record::init() },
            #[allow(unsafe_code)]
            // SAFETY: As above.
            known: unsafe { state::Record::init() },
            directory: sysfs::Directory::in_kernel(c"ccp", &FILES)?,
            files: debugfs::Directory::new(c"ccp")
                .acts::<guests::Refresh>(c"refresh_guests")
                .shows::<state::File>(c"state"),
            driver <- Registration::new(c"ccp", module),
            _: {
                psps::complete();
                if sys::params::tio() {
                    log::warn!(
                        "tio",
                        "tio=1 has no effect: this driver has no SEV-TIO, all else works"
                    );
                }
            },
        })
    }
}

module! {
    type: Ccp,
    name: "ccp",
    authors: ["The ccp-rs developers"],
    description: "AMD Secure Processor driver (SEV, SEV-ES, SEV-SNP)",
    license: "GPL",
    // For initramfs generators: what platform/identify.rs asks for on the first four generations.
    firmware: [
        "amd/amd_sev_fam17h_model0xh.sbin",
        "amd/amd_sev_fam17h_model3xh.sbin",
        "amd/amd_sev_fam19h_model0xh.sbin",
        "amd/amd_sev_fam19h_model1xh.sbin",
    ],
}
