// SPDX-License-Identifier: GPL-2.0

//! `/sys/firmware/sev/vulnerabilities`: which of its vulnerabilities SNP firmware has mitigated.
//! The files are there while kvm-amd uses SNP, if firmware can say so.
//!
//! # Locking
//!
//! The lock here is held while files come and go. It comes before the command lock. Readers of the
//! files take that one, so nobody holds it who removes the files: that waits for readers.

use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::{
    platform::slot,
    sys::{
        contents::Contents,
        log,
        sysfs::{
            Directory,
            File, //
        }, //
    },
};

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::init()` initialises it before the driver is registered.
        pub(super) unsafe(uninit) static FILES: Mutex<Option<super::Files>> = None;
    }
}
use lock::FILES;

/// Whether the files are there, for those who do not want to wait for the lock.
static THERE: Atomic<bool> = Atomic::new(false);

static ATTRIBUTES: [File; 2] = [
    File::new(c"supported_mitigations", 0o400, || {
        CString::try_from_fmt(fmt!("{:#x}", { query()?.supported }))
    }),
    File::writable(
        c"verified_mitigations",
        0o600,
        || CString::try_from_fmt(fmt!("{:#x}", { query()?.verified })),
        verify,
    ),
];

/// The directories. Fields are dropped in this order.
struct Files {
    _vulnerabilities: Directory,
    _sev: Directory,
}

fn query() -> Result<crate::wire::snp::Mitigations> {
    slot::lock_killable()?
        .verify_mitigation(None)
        .map_err(|failure| failure.errno)
}

/// Has firmware verify one mitigation.
///
/// # Errors
///
/// [`EINVAL`] if `mitigation` is not one bit, or firmware says that this one is not in place.
fn verify(mitigation: u64) -> Result {
    if !mitigation.is_power_of_two() {
        return Err(EINVAL);
    }
    let answer = slot::lock_killable()?
        .verify_mitigation(Some(mitigation))
        .map_err(|failure| failure.errno)?;
    match answer.failure {
        0 => Ok(()),
        failure => {
            log::err!(
                "mitigation-refused",
                "firmware does not confirm the mitigation {mitigation:#x} (failure status {failure:#x}); supported_mitigations has those that it knows, AMD's security bulletin says what else this one needs"
            );
            Err(EINVAL)
        }
    }
}

/// The files, as long as the module is loaded.
pub(crate) struct Record(#[expect(dead_code, reason = "dropped")] Contents<FILES>);

impl Record {
    /// Makes this file usable.
    ///
    /// # Safety
    ///
    /// To be called once, before anything else here.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn init() -> Self {
        // SAFETY: By the caller's promise.
        Self(unsafe { Contents::init(&FILES, || None) })
    }
}

/// Makes the files, or removes them and waits for their readers, as the state of SNP wants it. To
/// be called when that has changed. Without memory there are no files: nothing else depends on
/// them.
pub(crate) fn update() {
    let mut files = FILES.lock();
    let wanted = slot::lock().is_ok_and(|platform| platform.has_verify_mitigation());
    if !wanted {
        *files = None;
    } else if files.is_none() {
        let made = Directory::in_firmware(c"sev", &[]).and_then(|sev| {
            Ok(Files {
                _vulnerabilities: sev.inside(c"vulnerabilities", &ATTRIBUTES)?,
                _sev: sev,
            })
        });
        *files = made.ok();
    }
    THERE.store(files.is_some(), Relaxed);
}

/// As [`update`], for a caller who has seen under the command lock whether files are `wanted`. Many
/// make VMs at once: while nothing changes they do not wait for each other here.
pub(crate) fn update_if_needed(wanted: bool) {
    if THERE.load(Relaxed) != wanted {
        update();
    }
}
