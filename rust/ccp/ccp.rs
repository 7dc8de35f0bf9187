// SPDX-License-Identifier: GPL-2.0

//! Driver for the AMD Secure Processor (PSP) on hosts with SEV, SEV-ES and SEV-SNP.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod sys;

use kernel::prelude::*;

struct Ccp;

impl kernel::Module for Ccp {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        sys::snp_host::NoSnpEn::measure()?;
        Ok(Ccp)
    }
}

module! {
    type: Ccp,
    name: "ccp",
    authors: ["The ccp-rs developers"],
    description: "AMD Secure Processor driver (SEV, SEV-ES, SEV-SNP)",
    license: "GPL",
}
