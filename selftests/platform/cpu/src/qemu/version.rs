// SPDX-License-Identifier: GPL-2.0
//! Is this the QEMU that the plugin was made for?

use std::ffi::{c_char, CStr};
use std::fmt;
use std::ptr;

use super::ffi::{self, Functions, Info, API_VERSION};

/// The series whose internals the plugin can find its way in (see README.md, "Another QEMU").
const SERIES: [i64; 2] = [11, 1];

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
        let [major, minor] = SERIES;
        match self {
            Unsuitable::Missing(name) => write!(
                f,
                "this program does not export {name}: it must be a QEMU {major}.{minor} \
                 built with loadable modules, such as Debian's"
            ),
            Unsuitable::Release([x, y, z], package) => write!(
                f,
                "this is QEMU {x}.{y}.{z} {package}, and only QEMU {major}.{minor} has been checked: \
                 the plugin uses internals that change between series; see 'Another QEMU' in selftests/platform/cpu/README.md"
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

/// What a QEMU says about itself.
struct Identity {
    release: [i64; 3],
    package: String,
    api: (i32, i32),
    target: String,
    system: bool,
    max_cpus: i32,
}

impl Identity {
    fn check(&self) -> Result<(), Unsuitable> {
        let (min, cur) = self.api;
        if self.release[..2] != SERIES {
            return Err(Unsuitable::Release(self.release, self.package.clone()));
        }
        if min > API_VERSION || cur != API_VERSION {
            return Err(Unsuitable::Api(min, cur));
        }
        if self.target != "x86_64" || !self.system {
            return Err(Unsuitable::Target(self.target.clone()));
        }
        if !usize::try_from(self.max_cpus).is_ok_and(|n| n <= link::MAX_CPUS) {
            return Err(Unsuitable::Cpus(self.max_cpus));
        }
        Ok(())
    }
}

/// A QEMU that passed the checks.
pub struct Checked {
    /// Its functions.
    pub functions: Functions,
    /// What the distributor calls this build, for the log.
    pub package: String,
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
    let identity = Identity {
        release: [triple.major, triple.minor, triple.micro],
        // SAFETY: a string by QAPI's rules.
        package: unsafe { text(version.package) },
        api: (info.version_min, info.version_cur),
        // SAFETY: a string constant of QEMU.
        target: unsafe { text(info.target_name) },
        system: info.system_emulation,
        max_cpus: info.max_vcpus,
    };
    identity.check()?;
    // SAFETY: the release is the one that the declarations were made for.
    let functions = unsafe { Functions::load() }.map_err(Unsuitable::Missing)?;
    Ok(Checked { functions, package: identity.package })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Identity {
        Identity {
            release: [11, 1, 3],
            package: "Debian 1:11.1.3+ds-1~bpo13+1".to_owned(),
            api: (7, 7),
            target: "x86_64".to_owned(),
            system: true,
            max_cpus: 4,
        }
    }

    #[test]
    fn the_supported_one_is_taken_and_others_are_refused_in_a_sentence() {
        assert!(debian().check().is_ok());
        assert!(Identity { release: [11, 1, 9], ..debian() }.check().is_ok());
        let rows = [
            (Identity { release: [11, 2, 3], ..debian() }, "this is QEMU 11.2.3 Debian"),
            (Identity { release: [12, 1, 3], ..debian() }, "only QEMU 11.1 has been checked"),
            (Identity { api: (8, 9), ..debian() }, "API version 8 to 9"),
            (Identity { api: (7, 8), ..debian() }, "API version 7 to 8"),
            (Identity { target: "aarch64".to_owned(), ..debian() }, "emulator for aarch64"),
            (Identity { system: false, ..debian() }, "qemu-system-x86_64 is needed"),
            (Identity { max_cpus: 65, ..debian() }, "65 CPUs, the model has room for 64"),
        ];
        for (identity, expected) in rows {
            let sentence = identity.check().unwrap_err().to_string();
            assert!(sentence.contains(expected), "{sentence}\nlacks: {expected}");
        }
    }

    /// This process is not a QEMU.
    #[test]
    fn another_program_is_refused() {
        assert!(ffi::query_version().is_none());
        // SAFETY: none of the functions that are found is called.
        let missing = unsafe { Functions::load() }.err();
        assert_eq!(missing, Some("qemu_plugin_register_vcpu_init_cb"));
    }
}
