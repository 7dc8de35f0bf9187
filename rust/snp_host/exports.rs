// SPDX-License-Identifier: GPL-2.0

//! The C functions of `include/linux/snp_host.h`, exported by `exports.c`.

#![allow(unsafe_code)] // ABI seam: `no_mangle` counts as unsafe.

use crate::{
    host::{
        with_host,
        SnpHost, //
    },
    owed,
    sys::bindings::{
        same_prototypes,
        snp_host_close,
        snp_host_keep, //
    },
    syscfg::{
        has_snp_en,
        Syscfg, //
    },
};
use kernel::prelude::*;

fn errno(result: Result) -> c_int {
    result.map_or_else(|err| err.to_errno(), |()| 0)
}

#[no_mangle]
extern "C" fn snp_host_window_open() -> c_int {
    errno(with_host(SnpHost::open))
}

#[no_mangle]
extern "C" fn snp_host_prepare() -> c_int {
    errno(with_host(SnpHost::prepare))
}

#[no_mangle]
extern "C" fn snp_host_window_close(why: snp_host_close) -> c_int {
    errno(match why {
        snp_host_close::SNP_HOST_CLOSE_SNP_OFF => with_host(SnpHost::close_snp_off),
        snp_host_close::SNP_HOST_CLOSE_INIT_REFUSED => with_host(SnpHost::close_init_refused),
        _ => Err(EINVAL),
    })
}

#[no_mangle]
extern "C" fn snp_host_window_keep(why: snp_host_keep) {
    // The only error is that the module is being set up or torn down, when nobody can call this.
    let _ = with_host(|host| {
        host.keep(why);
        Ok(())
    });
}

#[no_mangle]
extern "C" fn snp_host_snp_en_cpus() -> c_int {
    match Syscfg::read() {
        Ok(syscfg) => {
            let cpus = syscfg.as_slice().iter().flatten();
            // CAST: There are fewer CPUs than that.
            cpus.filter(|value| has_snp_en(value)).count() as c_int
        }
        Err(err) => err.to_errno(),
    }
}

#[no_mangle]
extern "C" fn snp_host_psp_owes(psp: u64, command: u32) -> c_int {
    errno(owed::record(psp, command))
}

#[no_mangle]
extern "C" fn snp_host_psp_owed(psp: u64) -> u32 {
    owed::command(psp).unwrap_or(0)
}

#[no_mangle]
extern "C" fn snp_host_psp_answered(psp: u64) {
    owed::forget(psp);
}

same_prototypes! {
    snp_host_window_open();
    snp_host_prepare();
    snp_host_window_close(_);
    snp_host_window_keep(_);
    snp_host_snp_en_cpus();
    snp_host_psp_owes(_, _);
    snp_host_psp_owed(_);
    snp_host_psp_answered(_);
}
