// SPDX-License-Identifier: GPL-2.0

//! `/dev/sfs`: the requests of `include/uapi/linux/psp-sfs.h`, errno and the order of checks as in
//! the in-tree driver.
//!
//! No lock is held while user memory is touched or a file is read.

use kernel::{
    firmware::Firmware,
    fs::File,
    ioctl::_IOWR,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

use crate::{
    services::{
        self,
        Services, //
    },
    sfs::{
        Answer,
        Sfs, //
    },
    sys::{
        bindings as c,
        contents::Contents,
        log,
        misc_device::FileOperations, //
    },
};

// CAST: Constants of the header.
const VERSIONS: u32 = _IOWR::<c::sfs_user_get_fw_versions>(c::SFS_IOC_TYPE as u32, 1);
const UPDATE: u32 = _IOWR::<c::sfs_user_update_package>(c::SFS_IOC_TYPE as u32, 2);

/// Bytes of a page of versions, and of a package's name.
const PAGE: usize = c::TEE_EXT_CMD_BUFFER_SIZE as usize;
const NAME: usize = c::PAYLOAD_NAME_SIZE as usize;
/// The directory of packages below those of firmware.
const DIRECTORY: &[u8] = b"amd/";

#[allow(
    unsafe_code,
    reason = "a lock in a static has to be initialised by hand"
)]
mod lock {
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `super::Record::init()` initialises it before the driver is registered.
        pub(super) unsafe(uninit) static NODE: Mutex<super::State> = super::State::NONE;
    }
}
use lock::NODE;

static FILE_OPERATIONS: FileOperations = FileOperations::new();

/// The node exists while a PSP with SFS is bound.
struct State {
    psps: usize,
    node: Option<Pin<KBox<MiscDeviceRegistration<SfsFile>>>>,
}

impl State {
    const NONE: Self = Self {
        psps: 0,
        node: None,
    };
}

/// The node, as long as the module is loaded.
pub(crate) struct Record(#[expect(dead_code, reason = "dropped")] Contents<NODE>);

impl Record {
    /// Makes this file usable.
    ///
    /// # Safety
    ///
    /// To be called once, before the driver is registered.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn init() -> Self {
        // SAFETY: By the caller's promise.
        Self(unsafe { Contents::init(&NODE, || State::NONE) })
    }
}

/// A PSP with SFS is bound.
pub(crate) struct Node(());

impl Node {
    /// # Errors
    ///
    /// What registering `/dev/sfs` returns.
    pub(crate) fn new() -> Result<Self> {
        let mut state = NODE.lock();
        if state.node.is_none() {
            let options = MiscDeviceOptions { name: c"sfs" };
            let node = KBox::pin_init(FILE_OPERATIONS.register(options), GFP_KERNEL)?;
            state.node = Some(node);
        }
        state.psps = state.psps.saturating_add(1);
        Ok(Self(()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut state = NODE.lock();
        state.psps = state.psps.saturating_sub(1);
        if state.psps == 0 {
            state.node = None;
        }
    }
}

/// An open `/dev/sfs`. It has no state of its own.
pub(crate) struct SfsFile;

#[vtable]
impl MiscDevice for SfsFile {
    type Ptr = ();

    fn open(_file: &File, _node: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(())
    }

    fn ioctl(_this: (), _file: &File, ioctl: u32, arg: usize) -> Result<isize> {
        let psp = services::master()?;
        psp.need_sfs()?;
        match ioctl {
            VERSIONS => versions(&psp, arg),
            UPDATE => update(&psp, arg),
            _ => Err(EINVAL),
        }
    }
}

fn versions(psp: &Services, arg: usize) -> Result<isize> {
    let mut page = KVec::from_elem(0, PAGE, GFP_KERNEL)?;
    let answer = psp.sfs(|sfs, mailbox| sfs.versions(mailbox, &mut page))?;
    put(arg, &page)?;
    finish(arg, PAGE, &answer)
}

fn update(psp: &Services, arg: usize) -> Result<isize> {
    let mut name = [0; DIRECTORY.len() + NAME];
    let (directory, rest) = name.split_at_mut(DIRECTORY.len());
    directory.copy_from_slice(DIRECTORY);
    UserSlice::new(UserPtr::from_addr(arg), NAME)
        .reader()
        .read_slice(rest)?;
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| EINVAL)?;
    let package = package(name)?;
    let answer = psp.sfs(|sfs, mailbox| sfs.update(mailbox, package.data()))?;
    finish(arg, NAME, &answer)
}

/// The file of that name.
///
/// # Errors
///
/// [`ENOENT`] if it cannot be read, [`E2BIG`] if it is too large.
fn package(name: &CStr) -> Result<Firmware> {
    let state = NODE.lock();
    let node = state.node.as_ref().ok_or(ENODEV)?;
    let dev = kernel::sync::aref::ARef::from(node.device());
    drop(state);
    let package = Firmware::request_nowarn(name, &dev).map_err(|err| {
        log::warn!(
            "sfs-package-unreadable",
            "SFS: the package {name} cannot be read ({err:?}); it belongs below /lib/firmware"
        );
        ENOENT
    })?;
    if Sfs::size_with(package.size()).is_err() {
        log::warn!(
            "sfs-package-too-long",
            "SFS: the package {name} has {} bytes, which do not fit the request of 2 MiB",
            package.size()
        );
        return Err(E2BIG);
    }
    Ok(package)
}

/// Writes the statuses behind the structure's first `offset` bytes, also if the PSP has refused.
fn finish(arg: usize, offset: usize, answer: &Answer) -> Result<isize> {
    let statuses = [answer.status, answer.extended_status];
    put(arg.wrapping_add(offset), statuses.as_bytes())?;
    answer.result.map(|()| 0)
}

fn put(address: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
}
