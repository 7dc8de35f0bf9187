// SPDX-License-Identifier: GPL-2.0

//! Compiles golden/golden.c against the kernel's psp-sev.h, runs it, and leaves its output where
//! the tests include it.

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
    // Whatever CCP_KERNEL says: the formats are firmware's, and older kernels know less of them.
    let release = fs::read_to_string(cache.join("kernel-release"))
        .expect("no kernel has been chosen yet; run 'make setup' first");
    let include = cache.join(format!("linux-{}/src/include", release.trim()));
    let header = include.join("linux/psp-sev.h");
    assert!(
        header.exists(),
        "{} is missing; run 'make setup'",
        header.display()
    );

    // What the header does not say, the in-tree driver's own tables do.
    let driver = include.join("../drivers/crypto/ccp/sev-dev.c");
    let uapi = include.join("uapi/linux/psp-sev.h");
    let [driver_text, header_text, uapi_text] = [&driver, &header, &uapi]
        .map(|path| fs::read_to_string(path).expect("the source can be read"));
    let structures = header_text + &uapi_text;

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let commands = out.join("commands.inc");
    fs::write(&commands, facts(&driver_text, &structures)).expect("commands.inc can be written");
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
        .arg(format!("-DCOMMANDS_INC=\"{}\"", commands.display()))
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
    fs::write(out.join("sev-dev.c"), driver_text).expect("sev-dev.c can be written");

    println!("cargo:rerun-if-env-changed=CCP_CACHE");
    println!("cargo:rerun-if-changed={}", driver.display());
    println!("cargo:rerun-if-changed=golden");
    println!("cargo:rerun-if-changed={}", header.display());
}

/// For golden.c: each command's structure, the pairs behind which firmware writes, and the 64-bit
/// fields.
fn facts(driver: &str, structures: &str) -> String {
    let mut out = String::new();
    let lengths = function(driver, "static int sev_cmd_buffer_len(");
    for line in lengths.lines() {
        let Some((command, ty)) =
            between(line, "case SEV_CMD_", ":").zip(between(line, "return sizeof(struct ", ")"))
        else {
            continue;
        };
        out += &format!("CMD({command}, {ty});\n");
        let start = format!("struct {ty} {{");
        let body = between(structures, &start, "}").expect("the headers have every structure");
        for field in body
            .lines()
            .filter_map(|line| between(line.trim_start(), "u64 ", ";"))
        {
            if !field.contains([':', '[']) {
                out += &format!("WIDE({command}, {ty}, {field});\n");
            }
        }
    }
    let fields = function(driver, "static void snp_populate_cmd_buf_desc_list(");
    for case in fields.split("break;") {
        let Some((command, ty)) = between(case, "case SEV_CMD_", ":").zip(between(
            case,
            "\t\tstruct ",
            " *data = cmd_buf",
        )) else {
            continue;
        };
        let addresses = case
            .lines()
            .filter_map(|line| between(line, "paddr_ptr = &data->", ";"));
        let lengths = case
            .lines()
            .filter_map(|line| between(line, "].len = data->", ";"));
        for (address, len) in addresses.zip(lengths) {
            out += &format!("FIELD({command}, {ty}, {address}, {len});\n");
        }
    }
    out
}

/// The text of a function.
fn function<'a>(source: &'a str, signature: &str) -> &'a str {
    between(source, signature, "\n}\n").unwrap_or_else(|| panic!("sev-dev.c has no {signature}"))
}

/// What stands between the first `before` and the `after` that follows it.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
