// SPDX-License-Identifier: GPL-2.0

//! `/dev/sev`: the requests of `include/uapi/linux/psp-sev.h`.
//!
//! [`Caller::issue`] is the list of requests. The file must be writable for those that change the
//! platform ([`Caller::check_writable`]), and for SEV_PDH_CERT_EXPORT if that has to start legacy
//! SEV ([`Platform::pdh_cert_export`](crate::platform::Platform::pdh_cert_export)).
//!
//! Requests, structures, errno and the order of checks are those of the in-tree driver, so that
//! existing tools notice no difference. Three things differ: the command lock is never held while
//! user memory is touched; a buffer for GET_ID2 may be of any size, but firmware gets no more than
//! it can fill; 32-bit programs are served as well.

use crate::{
    pages::HvPages,
    platform::{
        requests::Exported,
        slot,
        Failure, //
    },
    sys::{
        bindings as c,
        log,
        misc_device::FileOperations,
        pages::Gfp, //
    },
    wire::snp::SnpConfig, //
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
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// The answer to SEV_GET_ID: the IDs of two sockets.
// CAST: 128.
const TWO_IDS: u32 = size_of::<c::sev_user_data_get_id>() as u32;

/// The wrapped hashstick of SNP_VLEK_LOAD.
// CAST: 432.
const HASHSTICK_LEN: u32 = size_of::<c::sev_user_data_snp_wrapped_vlek_hashstick>() as u32;

/// The one ioctl.
const SEV_ISSUE_CMD: u32 = _IOWR::<c::sev_issue_cmd>(c::SEV_IOC_TYPE as u32, 0);

/// Memory of the caller.
struct UserBuffer {
    address: u64,
    len: u32,
}

static FILE_OPERATIONS: FileOperations = FileOperations::new();

/// Whether a file with these operations is an open `/dev/sev`.
pub(crate) fn is_sev_file(f_op: *const bindings::file_operations) -> bool {
    FILE_OPERATIONS.are(f_op)
}

/// `/dev/sev`.
pub(crate) fn node() -> impl PinInit<MiscDeviceRegistration<SevFile>, Error> {
    FILE_OPERATIONS.register(MiscDeviceOptions { name: c"sev" })
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
        // Without a PSP the answer is ENODEV, whatever the request is. What is refused without
        // asking firmware does not wait for a command.
        if !slot::is_attached() {
            return Err(ENODEV);
        }
        if ioctl != SEV_ISSUE_CMD {
            return Err(EINVAL);
        }
        let arg = arg as u64;
        let mut issue: c::sev_issue_cmd = get(arg)?;
        if issue.cmd > c::SEV_MAX {
            return Err(EINVAL);
        }

        let access = file.flags() & flags::O_ACCMODE;
        let caller = Caller {
            data: issue.data,
            writable: access == flags::O_WRONLY || access == flags::O_RDWR,
        };
        let done = caller.issue(issue.cmd);
        // Without a status of firmware the field keeps the caller's value.
        match done {
            Ok(()) => issue.error = 0,
            // CAST: SEV_RET_NO_FW_CALL is -1.
            Err(failure) => issue.error = failure.fw_error.map_or(issue.error, |e| e as u32),
        }
        put(arg, &issue)?;
        done.map(|()| 0).map_err(|failure| failure.errno)
    }
}

/// The caller of the ioctl.
struct Caller {
    /// The user address of the request's own structure.
    data: u64,
    /// The file is open for writing.
    writable: bool,
}

impl Caller {
    fn issue(&self, cmd: u32) -> Result<(), Failure> {
        match cmd {
            c::SEV_FACTORY_RESET => {
                self.check_writable()?;
                slot::lock_killable()?.factory_reset()
            }
            c::SEV_PLATFORM_STATUS => {
                let status = slot::lock_killable()?.platform_status()?;
                put(self.data, &status).map_err(Failure::after_success)
            }
            c::SEV_PEK_GEN => {
                self.check_writable()?;
                slot::lock_killable_to_start()?.pek_gen()
            }
            c::SEV_PEK_CSR => self.pek_csr(),
            c::SEV_PDH_GEN => {
                self.check_writable()?;
                slot::lock_killable_to_start()?.pdh_gen()
            }
            c::SEV_PDH_CERT_EXPORT => self.pdh_cert_export(),
            c::SEV_PEK_CERT_IMPORT => self.pek_cert_import(),
            c::SEV_GET_ID => self.get_id(),
            c::SEV_GET_ID2 => self.get_id2(),
            c::SNP_PLATFORM_STATUS => {
                self.check_pointer()?;
                let status = slot::lock_killable()?.snp_platform_status()?;
                put(self.data, &status).map_err(Failure::after_success)
            }
            c::SNP_COMMIT => {
                // A commit cannot be undone.
                self.check_writable()?;
                slot::lock_killable()?.commit()
            }
            c::SNP_SET_CONFIG => {
                self.check_may_change_snp()?;
                let config: SnpConfig = get(self.data)?;
                slot::lock_killable()?.set_config(config)
            }
            c::SNP_VLEK_LOAD => self.vlek_load(),
            _ => Err(EINVAL.into()),
        }
    }

    fn pek_csr(&self) -> Result<(), Failure> {
        self.check_writable()?;
        let mut user: c::sev_user_data_pek_csr = get(self.data)?;
        let target = UserBuffer::new(user.address, user.length);
        let len = target.wanted().map(within_limit).transpose()?;
        let csr = slot::lock_killable_to_start()?.pek_csr(len)?;
        [user.length] = csr.len;
        put(self.data, &user).map_err(Failure::after_success)?;
        copy_out(&csr, [target.address])
    }

    fn pdh_cert_export(&self) -> Result<(), Failure> {
        let mut user: c::sev_user_data_pdh_cert_export = get(self.data)?;
        let pdh = UserBuffer::new(user.pdh_cert_address, user.pdh_cert_len);
        let chain = UserBuffer::new(user.cert_chain_address, user.cert_chain_len);
        let len = match (pdh.wanted(), chain.wanted()) {
            (Some(pdh), Some(chain)) => Some([within_limit(pdh)?, within_limit(chain)?]),
            _ => None,
        };
        let certs = slot::lock_killable_to_start()?.pdh_cert_export(len, self.writable)?;
        [user.pdh_cert_len, user.cert_chain_len] = certs.len;
        put(self.data, &user).map_err(Failure::after_success)?;
        copy_out(&certs, [pdh.address, chain.address])
    }

    fn pek_cert_import(&self) -> Result<(), Failure> {
        self.check_writable()?;
        let user: c::sev_user_data_pek_cert_import = get(self.data)?;
        let (pek_len, oca_len) = (user.pek_cert_len, user.oca_cert_len);
        let pek = UserBuffer::new(user.pek_cert_address, pek_len);
        let oca = UserBuffer::new(user.oca_cert_address, oca_len);
        let (pek, oca) = (pek.contents()?, oca.contents()?);
        slot::lock_killable_to_start()?.cert_import(pek, pek_len, oca, oca_len)
    }

    fn get_id(&self) -> Result<(), Failure> {
        kernel::do_once_lite! { log::warn!("get-id", "SEV_GET_ID is deprecated, use SEV_GET_ID2") };
        self.check_get_id()?;
        let id = slot::lock_killable()?.get_id(Some(TWO_IDS))?;
        copy_out(&id, [self.data])
    }

    fn get_id2(&self) -> Result<(), Failure> {
        self.check_get_id()?;
        let mut user: c::sev_user_data_get_id2 = get(self.data)?;
        let target = UserBuffer::new(user.address, user.length);
        let len = target.wanted();
        let len = len.map(|len| len.min(c::SEV_FW_BLOB_MAX_SIZE));
        let id = slot::lock_killable()?.get_id(len)?;
        [user.length] = id.len;
        put(self.data, &user).map_err(Failure::after_success)?;
        copy_out(&id, [target.address])
    }

    fn vlek_load(&self) -> Result<(), Failure> {
        self.check_may_change_snp()?;
        let user: c::sev_user_data_snp_vlek_load = get(self.data)?;
        if user.len as usize != size_of_val(&user) || user.vlek_wrapped_version != 0 {
            return Err(EINVAL.into());
        }
        let hashstick = UserBuffer::new(user.vlek_wrapped_address, HASHSTICK_LEN);
        let hashstick = hashstick.contents()?;
        slot::lock_killable()?.vlek_load(hashstick, user.rsvd)
    }

    fn check_writable(&self) -> Result {
        self.writable.then_some(()).ok_or(EPERM)
    }

    fn check_get_id(&self) -> Result {
        let has_get_id = slot::lock_killable()?.has_get_id();
        has_get_id.then_some(()).ok_or(ENOTSUPP)
    }

    fn check_pointer(&self) -> Result {
        (self.data != 0).then_some(()).ok_or(EINVAL)
    }

    fn check_may_change_snp(&self) -> Result {
        self.check_pointer()?;
        self.check_writable()?;
        slot::lock_killable()?.need_snp()
    }
}

/// The length of a blob that firmware is to fill.
fn within_limit(len: u32) -> Result<u32> {
    (len <= c::SEV_FW_BLOB_MAX_SIZE)
        .then_some(len)
        .ok_or(EFAULT)
}

impl UserBuffer {
    fn new(address: u64, len: u32) -> Self {
        Self { address, len }
    }

    /// How many bytes the caller wants; [`None`] if it queries the length.
    fn wanted(&self) -> Option<u32> {
        (self.address != 0 && self.len != 0).then_some(self.len)
    }

    /// A copy of the contents.
    fn contents(&self) -> Result<HvPages> {
        let len = self.wanted().ok_or(EINVAL)?;
        if len > c::SEV_FW_BLOB_MAX_SIZE {
            return Err(EINVAL);
        }
        let mut pages = HvPages::for_len(Gfp::KERNEL_ACCOUNT, len as usize)?;
        let target = pages.bytes_mut().get_mut(..len as usize).ok_or(EINVAL)?;
        user(self.address, target.len())
            .reader()
            .read_slice(target)?;
        Ok(pages)
    }
}

/// Copies the buffers that firmware has filled to the caller, unless firmware refused the command.
fn copy_out<const N: usize>(exported: &Exported<N>, targets: [u64; N]) -> Result<(), Failure> {
    exported.result?;
    for (n, target) in targets.into_iter().enumerate() {
        if let Some(bytes) = exported.bytes(n) {
            user(target, bytes.len())
                .writer()
                .write_slice(bytes)
                .map_err(Failure::after_success)?;
        }
    }
    Ok(())
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

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
