// SPDX-License-Identifier: GPL-2.0

//! The file of `init_ex_path`, in which firmware's persistent state is under INIT_EX.
//!
//! File systems can be slow, or hang. So the file is never touched under the command lock: what may
//! start legacy SEV [reads](read) it before, and what has changed the state [submits](submit) it
//! under the lock and [writes](write_submitted) it afterwards. Whoever changed the state returns
//! when the file has it, or an attempt has failed. A failure is no failure of the command, which
//! firmware has carried out; it is logged, and made good with the next change or when the PSP is
//! unbound.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    nv::{
        Contents,
        LEN, //
    },
    sys::{
        log,
        nv_file,
        params, //
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
        pub(super) unsafe(uninit) static UNWRITTEN: Mutex<super::Unwritten> = super::Unwritten::NONE;
    }

    kernel::sync::global_lock! {
        // SAFETY: As above.
        pub(super) unsafe(uninit) static WRITER: Mutex<()> = ();
    }

    /// Makes the locks usable.
    ///
    /// # Safety
    ///
    /// To be called once, before the driver is registered.
    pub(crate) unsafe fn init() {
        // SAFETY: Called once, and before anything else in this file.
        unsafe {
            UNWRITTEN.init();
            WRITER.init();
        }
    }
}
pub(crate) use lock::init;
use lock::{
    UNWRITTEN,
    WRITER, //
};

/// Contents that the file does not have yet.
struct Unwritten {
    /// The newest.
    submitted: Option<Arc<Contents>>,
    /// Those that could not be written.
    failed: Option<Arc<Contents>>,
}

impl Unwritten {
    const NONE: Self = Self {
        submitted: None,
        failed: None,
    };

    /// What is to be written now. It takes the place of anything that could not be written.
    fn take(&mut self) -> Option<Arc<Contents>> {
        let newest = self.submitted.take()?;
        self.failed = None;
        Some(newest)
    }

    /// Has what could not be written written again, unless there is something newer.
    fn retry(&mut self) {
        if let Some(failed) = self.failed.take() {
            self.submitted.get_or_insert(failed);
        }
    }
}

/// Reads the file. Sleeps; not to be called under the command lock.
///
/// # Errors
///
/// [`EINVAL`] if the file is none that firmware has written; what the file system says. It has been
/// logged.
pub(crate) fn read() -> Result<Arc<Contents>> {
    let path = params::init_ex_path().ok_or(ENOENT)?;
    let name = path.to_str().unwrap_or("the file");
    let mut bytes = KVVec::from_elem(0, LEN, GFP_KERNEL)?;
    match nv_file::read(path, &mut bytes) {
        Ok(LEN) => Contents::new(bytes),
        Ok(0) => Contents::blank(),
        Err(err) if err == ENOENT => {
            log::notice!(
                "nv-new",
                "init_ex_path: {name} does not exist and will be made: SEV gets new keys"
            );
            Contents::blank()
        }
        Ok(len) => {
            log::err!(
                "nv-wrong-size",
                "SEV stays off: init_ex_path names {name}, which has {len} bytes, and firmware's state has {LEN}; name another file, or remove this one to give SEV new keys"
            );
            Err(EINVAL)
        }
        Err(err) => {
            log::err!(
                "nv-unreadable",
                "SEV stays off: {name} of init_ex_path cannot be read ({err:?}): it has to be a regular file of {LEN} bytes, or absent"
            );
            Err(err)
        }
    }
}

/// Notes what the file is to have. Under the command lock, so that the newest come last.
pub(crate) fn submit(contents: Arc<Contents>) {
    UNWRITTEN.lock().submitted = Some(contents);
}

/// Writes what was submitted last, if nobody has. Sleeps; not to be called under the command lock.
pub(crate) fn write_submitted() {
    // Waits for whoever writes older contents.
    let writer = WRITER.lock();
    let newest = UNWRITTEN.lock().take();
    if let Some(contents) = newest {
        write(contents);
    }
    drop(writer);
}

/// Tries once more to write what could not be written. Sleeps; not to be called under the command
/// lock.
pub(crate) fn retry() {
    UNWRITTEN.lock().retry();
    write_submitted();
}

fn write(contents: Arc<Contents>) {
    let Some(path) = params::init_ex_path() else {
        return;
    };
    if let Err(err) = nv_file::write(path, contents.bytes()) {
        log::err!(
            "nv-unwritten",
            "{} of init_ex_path cannot be written ({err:?}): SEV's newest keys are lost with the power, unless a later attempt succeeds; there is one with the next change and one when the PSP is unbound",
            path.to_str().unwrap_or("the file")
        );
        UNWRITTEN.lock().failed = Some(contents);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
