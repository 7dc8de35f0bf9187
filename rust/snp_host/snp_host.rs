// SPDX-License-Identifier: GPL-2.0

//! skeleton
#[allow(unsafe_code)]
pub mod sys;
use kernel::prelude::*;

struct SnpHost;

impl kernel::Module for SnpHost {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(SnpHost)
    }
}

#[no_mangle]
extern "C" fn snp_host_window_open() -> c_int { ENODEV.to_errno() }
#[no_mangle]
extern "C" fn snp_host_window_verify() -> c_int { ENODEV.to_errno() }
#[no_mangle]
extern "C" fn snp_host_window_close(_why: u32) -> c_int { ENODEV.to_errno() }
#[no_mangle]
extern "C" fn snp_host_window_keep(_why: u32) { }
#[no_mangle]
extern "C" fn snp_host_snp_en_cpus() -> c_int { ENODEV.to_errno() }

module! {
    type: SnpHost,
    name: "snp_host",
    authors: ["The ccp-rs developers"],
    description: "AMD SEV-SNP host state that outlives ccp: the CPU hotplug window",
    license: "GPL",
}
