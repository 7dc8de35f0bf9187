// SPDX-License-Identifier: GPL-2.0

//! Compiles the driver's files as they are; the tests are in them.

#![cfg(test)]
// The driver uses some items that no test does.
#![allow(dead_code)]

#[path = "../../../rust/snp_host/compare.rs"]
mod compare;
#[path = "../../../rust/snp_host/prepare.rs"]
mod prepare;
#[path = "../../../rust/snp_host/rmp_table.rs"]
mod rmp_table;
#[path = "../../../rust/snp_host/window.rs"]
mod window;

/// What `rust/sys` has of it for the kernel.
mod sys {
    pub mod bindings {
        #![allow(non_camel_case_types)]
        include!(concat!(env!("OUT_DIR"), "/snp_host.rs"));
    }
}
