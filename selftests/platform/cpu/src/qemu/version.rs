// SPDX-License-Identifier: GPL-2.0
//! Is this the QEMU that the plugin was made for?

use std::ffi::{c_char, CStr};
use std::fmt;
use std::ptr;

use super::ffi::{self, Functions, Info, API_VERSION};

/// The release whose internals the plugin knows (see README.md, "Another QEMU").
const SUPPORTED: [i64; 3] = [11, 1, 3];

/// Why the plugin does not load.
#[derive(Debug)]
pub enum Unsuitable {
    /// Another program, or a build that exports too little.
    Missing(&'static str),
    /// Another release.
    Release([i64; 3], String),
    /// A release that says it is the right one and speaks another API.
    Api(i32, i32),
    /// An emulator for something else.
    Target(String),
    /// More CPUs than the link page has room for.
    Cpus(i32),
}

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, micro] = SUPPORTED;
        match self {
            Unsuitable::Missing(name) => write!(
                f,
                "this program does not export {name}: it must be a QEMU {major}.{minor}.{micro} \
                 built with loadable modules, such as Debian's"
            ),
            Unsuitable::Release([x, y, z], package) => write!(
                f,
                "this is QEMU {x}.{y}.{z} {package}, and only QEMU {major}.{minor}.{micro} has been \
                 checked: the plugin uses internals that change between releases; see 'Another \
                 QEMU' in selftests/platform/cpu/README.md"
            ),
            Unsuitable::Api(min, cur) => write!(
                f,
                "this QEMU takes plugins of API version {min} to {cur}, version {API_VERSION} and \
                 no newer one is needed"
            ),
            Unsuitable::Target(name) => {
                write!(f, "this is an emulator for {name}, qemu-system-x86_64 is needed")
            }
            Unsuitable::Cpus(n) => {
                write!(f, "-smp allows for {n} CPUs, the model has room for {}", link::MAX_CPUS)
            }
        }
    }
}

/// A QEMU that passed the checks.
pub struct Checked {
    /// Its functions.
    pub functions: Functions,
    /// What it calls itself, for the log.
    pub name: String,
}

/// Checks release, API and target, and finds every function that is used.
///
/// # Safety
///
/// `info` must be what QEMU hands to `qemu_plugin_install`, during that call.
pub unsafe fn check(info: &Info) -> Result<Checked, Unsuitable> {
    let query = ffi::query_version().ok_or(Unsuitable::Missing("qmp_query_version"))?;
    // SAFETY: it allocates and fills in a structure and needs nothing to be initialised; the
    // argument for errors may be null. The few bytes stay allocated, once per process.
    let version = unsafe { &*query(ptr::null_mut()) };
    // SAFETY: not null by QAPI's rules, filled in by the same call.
    let triple = unsafe { &*version.qemu };
    let release = [triple.major, triple.minor, triple.micro];
    // SAFETY: a string by QAPI's rules.
    let package = unsafe { text(version.package) };
    if release != SUPPORTED {
        return Err(Unsuitable::Release(release, package));
    }
    if info.version_min > API_VERSION || info.version_cur != API_VERSION {
        return Err(Unsuitable::Api(info.version_min, info.version_cur));
    }
    // SAFETY: a string constant of QEMU.
    let target = unsafe { text(info.target_name) };
    if target != "x86_64" || !info.system_emulation {
        return Err(Unsuitable::Target(target));
    }
    if !usize::try_from(info.max_vcpus).is_ok_and(|n| n <= link::MAX_CPUS) {
        return Err(Unsuitable::Cpus(info.max_vcpus));
    }
    // SAFETY: the release is the one that the declarations were made for.
    let functions = unsafe { Functions::load() }.map_err(Unsuitable::Missing)?;
    Ok(Checked { functions, name: format!("QEMU 11.1.3 {package}") })
}

/// # Safety
///
/// Null, or a terminated string.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
