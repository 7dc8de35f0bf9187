// SPDX-License-Identifier: GPL-2.0

//! Compiles golden/golden.c against the kernel's psp-sev.h, runs it, and leaves its output where the
//! tests include it.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    let cache = env::var_os("CCP_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let base = env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .unwrap_or_else(|| {
                    PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache")
                });
            base.join("ccp-rs")
        });
    let release = fs::read_to_string(cache.join("kernel-release"))
        .expect("no kernel has been chosen yet; run 'make setup' first");
    let include = cache.join(format!("linux-{}/src/include", release.trim()));
    let header = include.join("linux/psp-sev.h");
    assert!(
        header.exists(),
        "{} is missing; run 'make setup'",
        header.display()
    );

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let program = out.join("golden");
    let status = Command::new("gcc")
        .args([
            "-std=gnu11",
            "-Wall",
            "-Werror",
            "-Igolden/include",
            "-idirafter",
        ])
        .arg(&include)
        // By its full name: the C library brings an older linux/psp-sev.h of its own.
        .arg(format!("-DPSP_SEV_H=\"{}\"", header.display()))
        .args(["golden/golden.c", "-o"])
        .arg(&program)
        .status()
        .expect("gcc runs");
    assert!(
        status.success(),
        "golden.c does not compile against {}",
        header.display()
    );
    let output = Command::new(&program).output().expect("golden runs");
    assert!(output.status.success(), "golden failed");
    fs::write(out.join("golden.txt"), output.stdout).expect("golden.txt can be written");

    // What the header does not say, the in-tree driver's own tables do.
    let driver = include.join("../drivers/crypto/ccp/sev-dev.c");
    fs::copy(&driver, out.join("sev-dev.c")).expect("sev-dev.c can be copied");

    println!("cargo:rerun-if-env-changed=CCP_CACHE");
    println!("cargo:rerun-if-changed={}", driver.display());
    println!("cargo:rerun-if-changed=golden");
    println!("cargo:rerun-if-changed={}", header.display());
}
