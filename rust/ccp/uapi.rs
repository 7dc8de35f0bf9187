// SPDX-License-Identifier: GPL-2.0

//! `/dev/sev`: the requests of `include/uapi/linux/psp-sev.h`.
//!
//! Requests, structures, errno and the order of checks are those of the in-tree driver, so that
//! existing tools notice no difference. What is different: the command lock is never held while user
//! memory is touched; a buffer for GET_ID2 may be of any size, but firmware is given no more than it
//! can fill; 32-bit programs are served as well.

use crate::{
    pages::HvPages,
    platform::{
        slot,
        Exported,
        Failure, //
    },
    sys::{
        misc_device::FileOperations,
        pages::Gfp, //
    },
    wire::snp::{
        SnpConfig,
        VLEK_HASHSTICK_LEN, //
    },
};
use kernel::{
    bindings,
    fs::{
        file::flags,
        File, //
    },
    ioctl::_IOWR,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use zerocopy_derive::{
    Immutable,
    KnownLayout, //
};

/// Largest certificate or other blob that goes to or comes from firmware.
const BLOB_MAX: u32 = 0x4000;

/// What SEV_GET_ID gives: the IDs of two sockets, 64 bytes each.
const TWO_IDS: u32 = 128;

/// The one ioctl.
const SEV_ISSUE_CMD: u32 = _IOWR::<IssueCmd>(b'S' as u32, 0);

/// The number of requests.
const SEV_MAX: u32 = 13;

/// `struct sev_issue_cmd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct IssueCmd {
    cmd: u32,
    data: u64,
    error: u32,
}

/// A buffer and its length: `struct sev_user_data_pek_csr` and `..._get_id2`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct UserBuffer {
    address: u64,
    len: u32,
}

/// Two of them: `struct sev_user_data_pdh_cert_export` and `..._pek_cert_import`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct UserBuffers {
    first: UserBuffer,
    second: UserBuffer,
}

/// `struct sev_user_data_snp_vlek_load`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct VlekLoad {
    len: u32,
    version: u8,
    reserved: [u8; 3],
    address: u64,
}

static FILE_OPERATIONS: FileOperations = FileOperations::unknown();

/// Whether a file with these operations is an open `/dev/sev`.
pub(crate) fn is_sev_file(f_op: *const bindings::file_operations) -> bool {
    FILE_OPERATIONS.are(f_op)
}

/// Makes the files of `node` known to [`is_sev_file`].
pub(crate) fn registered(node: &MiscDeviceRegistration<SevFile>) {
    FILE_OPERATIONS.remember(node);
}

/// An open `/dev/sev`. It has no state of its own.
pub(crate) struct SevFile;

#[vtable]
impl MiscDevice for SevFile {
    type Ptr = ();

    fn open(_file: &File, _node: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(())
    }

    fn ioctl(_this: (), file: &File, ioctl: u32, arg: usize) -> Result<isize> {
        // Nothing else is looked at without a PSP.
        slot::with_killable(|_| Ok::<_, Error>(()))?;
        if ioctl != SEV_ISSUE_CMD {
            return Err(EINVAL);
        }
        let arg = arg as u64;
        let mut issue: IssueCmd = get(arg)?;
        if issue.cmd >= SEV_MAX {
            return Err(EINVAL);
        }

        let access = file.flags() & flags::O_ACCMODE;
        let caller = Caller {
            data: issue.data,
            writable: access == flags::O_WRONLY || access == flags::O_RDWR,
        };
        let done = caller.issue(issue.cmd);
        // Without a status of the firmware, what the caller put there is handed back.
        match done {
            Ok(()) => issue.error = 0,
            // CAST: SEV_RET_NO_FW_CALL is -1.
            Err(failure) => issue.error = failure.fw_error.map_or(issue.error, |e| e as u32),
        }
        put(arg, &issue)?;
        done.map(|()| 0).map_err(|failure| failure.errno)
    }
}

/// Who asks, and for what.
struct Caller {
    /// The user address of the request's own structure.
    data: u64,
    /// The file is open for writing.
    writable: bool,
}

impl Caller {
    fn issue(&self, cmd: u32) -> Result<(), Failure> {
        match cmd {
            0 => {
                self.must_write()?;
                slot::with_killable(|platform| platform.factory_reset())
            }
            1 => {
                let status = slot::with_killable(|platform| platform.platform_status())?;
                put(self.data, &status).map_err(after_firmware)
            }
            2 => {
                self.must_write()?;
                slot::with_killable(|platform| platform.pek_gen())
            }
            3 => self.pek_csr(),
            4 => {
                self.must_write()?;
                slot::with_killable(|platform| platform.pdh_gen())
            }
            5 => self.pdh_cert_export(),
            6 => self.pek_cert_import(),
            7 => self.get_id(),
            8 => self.get_id2(),
            9 => {
                self.must_point()?;
                let status = slot::with_killable(|platform| platform.snp_platform_status())?;
                put(self.data, &status).map_err(after_firmware)
            }
            10 => {
                // Nothing takes it back.
                self.must_write()?;
                slot::with_killable(|platform| platform.commit())
            }
            11 => {
                self.must_be_able_to_change_snp()?;
                let config: SnpConfig = get(self.data)?;
                slot::with_killable(|platform| platform.set_config(config))
            }
            12 => self.vlek_load(),
            _ => Err(EINVAL.into()),
        }
    }

    fn pek_csr(&self) -> Result<(), Failure> {
        self.must_write()?;
        let mut user: UserBuffer = get(self.data)?;
        let csr = slot::with_killable({
            let len = user.wanted().map(within_limit).transpose()?;
            move |platform| platform.pek_csr(len)
        })?;
        let target = user.address;
        [user.len] = csr.len;
        put(self.data, &user).map_err(after_firmware)?;
        hand_out(&csr, [target])
    }

    fn pdh_cert_export(&self) -> Result<(), Failure> {
        let mut user: UserBuffers = get(self.data)?;
        let len = match (user.first.wanted(), user.second.wanted()) {
            (Some(pdh), Some(chain)) => Some([within_limit(pdh)?, within_limit(chain)?]),
            _ => None,
        };
        let certs = slot::with_killable(|platform| platform.pdh_cert_export(len, self.writable))?;
        let targets = [user.first.address, user.second.address];
        [user.first.len, user.second.len] = certs.len;
        put(self.data, &user).map_err(after_firmware)?;
        hand_out(&certs, targets)
    }

    fn pek_cert_import(&self) -> Result<(), Failure> {
        self.must_write()?;
        let user: UserBuffers = get(self.data)?;
        let pek = user.first.contents()?;
        let oca = user.second.contents()?;
        slot::with_killable(|platform| {
            platform.cert_import(pek, user.first.len, oca, user.second.len)
        })
    }

    fn get_id(&self) -> Result<(), Failure> {
        kernel::pr_warn_once!("SEV_GET_ID is deprecated, use SEV_GET_ID2\n");
        self.firmware_must_have_get_id()?;
        let id = slot::with_killable(|platform| platform.get_id(Some(TWO_IDS)))?;
        hand_out(&id, [self.data])
    }

    fn get_id2(&self) -> Result<(), Failure> {
        self.firmware_must_have_get_id()?;
        let mut user: UserBuffer = get(self.data)?;
        let target = user.address;
        let len = user.wanted().map(|len| len.min(BLOB_MAX));
        let id = slot::with_killable(|platform| platform.get_id(len))?;
        [user.len] = id.len;
        put(self.data, &user).map_err(after_firmware)?;
        hand_out(&id, [target])
    }

    fn vlek_load(&self) -> Result<(), Failure> {
        self.must_be_able_to_change_snp()?;
        let user: VlekLoad = get(self.data)?;
        if user.len as usize != size_of::<VlekLoad>() || user.version != 0 {
            return Err(EINVAL.into());
        }
        let hashstick = UserBuffer {
            address: user.address,
            // CAST: 432.
            len: VLEK_HASHSTICK_LEN as u32,
        };
        let hashstick = hashstick.contents()?;
        slot::with_killable(|platform| platform.vlek_load(hashstick, user.reserved))
    }

    fn must_write(&self) -> Result {
        self.writable.then_some(()).ok_or(EPERM)
    }

    fn firmware_must_have_get_id(&self) -> Result {
        slot::with_killable(|platform| platform.has_get_id().then_some(()).ok_or(ENOTSUPP))
    }

    fn must_point(&self) -> Result {
        (self.data != 0).then_some(()).ok_or(EINVAL)
    }

    fn must_be_able_to_change_snp(&self) -> Result {
        self.must_point()?;
        self.must_write()?;
        slot::with_killable(|platform| platform.is_snp_up().then_some(()).ok_or(ENODEV))
    }
}

/// The length of a blob that firmware is to fill.
fn within_limit(len: u32) -> Result<u32> {
    (len <= BLOB_MAX).then_some(len).ok_or(EFAULT)
}

impl UserBuffer {
    /// How many bytes the caller wants; [`None`] for a question after the length.
    fn wanted(&self) -> Option<u32> {
        let (address, len) = (self.address, self.len);
        (address != 0 && len != 0).then_some(len)
    }

    /// What is in it.
    fn contents(&self) -> Result<HvPages> {
        let (address, len) = (self.address, self.len);
        if address == 0 || len == 0 || len > BLOB_MAX {
            return Err(EINVAL);
        }
        let mut pages = HvPages::for_len(Gfp::KERNEL_ACCOUNT, len as usize)?;
        let target = pages.bytes_mut().get_mut(..len as usize).ok_or(EINVAL)?;
        user(address, target.len()).reader().read_slice(target)?;
        Ok(pages)
    }
}

/// Copies what firmware filled to where the caller wants it, unless it refused.
fn hand_out<const N: usize>(exported: &Exported<N>, targets: [u64; N]) -> Result<(), Failure> {
    exported.result?;
    for (n, target) in targets.into_iter().enumerate() {
        if let Some(bytes) = exported.bytes(n) {
            user(target, bytes.len())
                .writer()
                .write_slice(bytes)
                .map_err(after_firmware)?;
        }
    }
    Ok(())
}

/// An error of ours after firmware was content.
fn after_firmware(errno: Error) -> Failure {
    Failure {
        errno,
        fw_error: Some(0),
    }
}

fn user(address: u64, len: usize) -> UserSlice {
    // CAST: Both have 64 bits.
    UserSlice::new(UserPtr::from_addr(address as usize), len)
}

/// Reads a structure from user space.
fn get<T: FromBytes + IntoBytes>(address: u64) -> Result<T> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    user(address, bytes.len()).reader().read_slice(bytes)?;
    Ok(value)
}

/// Writes a structure to user space.
fn put<T: IntoBytes + zerocopy::Immutable>(address: u64, value: &T) -> Result {
    let bytes = value.as_bytes();
    user(address, bytes.len()).writer().write_slice(bytes)
}
