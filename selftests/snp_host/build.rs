// SPDX-License-Identifier: GPL-2.0

//! Has bindgen read the reasons of a held window from include/linux/snp_host.h, as the kernel build
//! does (Kbuild).

use std::{env, path::PathBuf, process::Command};

const HEADER: &str = "../../include/linux/snp_host.h";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let status = Command::new("bindgen")
        .args([HEADER, "--newtype-enum", "snp_host_.*"])
        .args(["--allowlist-type", "snp_host_keep", "--output"])
        .arg(out.join("snp_host.rs"))
        // What the kernel's <linux/types.h> has of it.
        .args([
            "--",
            "-Du64=unsigned long long",
            "-Du32=unsigned int",
            "-Dsize_t=unsigned long",
        ])
        .status()
        .expect("bindgen runs");
    assert!(status.success(), "bindgen cannot read {HEADER}");
    println!("cargo:rerun-if-changed={HEADER}");
}
