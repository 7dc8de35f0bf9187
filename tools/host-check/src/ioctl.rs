// SPDX-License-Identifier: GPL-2.0

//! What the PSP's driver and KVM answer: calls that change nothing.

use crate::host::{Host, Why};
use std::{
    ffi::{c_int, c_ulong, c_void},
    fs::File,
    io,
    os::fd::AsRawFd,
};

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

/// include/uapi/linux/psp-sev.h: `_IOWR('S', 0x0, struct sev_issue_cmd)`.
const SEV_ISSUE_CMD: c_ulong =
    3 << 30 | (size_of::<IssueCmd>() as c_ulong) << 16 | (b'S' as c_ulong) << 8;
const SEV_PLATFORM_STATUS: u32 = 1;
const SNP_PLATFORM_STATUS: u32 = 9;
/// include/uapi/linux/kvm.h.
const KVM_CHECK_EXTENSION: c_ulong = 0xae03;
const KVM_CAP_VM_TYPES: c_ulong = 235;

/// `struct sev_issue_cmd`.
#[repr(C, packed)]
struct IssueCmd {
    cmd: u32,
    data: *mut c_void,
    error: u32,
}

/// `struct sev_user_data_status`.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
struct Status {
    api_major: u8,
    api_minor: u8,
    state: u8,
    flags: u32,
    build: u8,
    guest_count: u32,
}

/// `struct sev_user_data_snp_status`.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
struct SnpStatus {
    api_major: u8,
    api_minor: u8,
    state: u8,
    flags: u8,
    build: u32,
    more_flags: u32,
    guest_count: u32,
    current_tcb: u64,
    reported_tcb: u64,
}

/// What firmware says of itself.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// Version of the API, and of the firmware.
    pub version: (u8, u8, u32),
    /// Its state: 0 is not initialised.
    pub state: u8,
    /// Its guests.
    pub guests: u32,
}

/// What SNP firmware says besides.
#[derive(Clone, Debug)]
pub struct Snp {
    /// What legacy SEV says as well.
    pub firmware: Firmware,
    /// Whether it has initialised the RMP.
    pub rmp: bool,
    /// Whether it has looked for memory that appears twice (CPU's physical addresses that are
    /// aliases).
    pub alias_check: bool,
    /// The versions of all its parts, and those that reports have.
    pub tcb: (u64, u64),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The device cannot be opened.
    Device(Why),
    /// The call fails, with this status of firmware's.
    Call(io::Error, u32),
}

/// SEV_PLATFORM_STATUS.
pub fn sev(host: &Host) -> Result<Firmware, NoAnswer> {
    let status: Status = issue(host, SEV_PLATFORM_STATUS)?;
    Ok(Firmware {
        version: (status.api_major, status.api_minor, status.build.into()),
        state: status.state,
        guests: status.guest_count,
    })
}

/// SNP_PLATFORM_STATUS.
pub fn snp(host: &Host) -> Result<Snp, NoAnswer> {
    let status: SnpStatus = issue(host, SNP_PLATFORM_STATUS)?;
    Ok(Snp {
        firmware: Firmware {
            version: (status.api_major, status.api_minor, status.build),
            state: status.state,
            guests: status.guest_count,
        },
        rmp: status.flags & 1 != 0,
        alias_check: status.flags & 2 != 0,
        tcb: (status.current_tcb, status.reported_tcb),
    })
}

/// Has the driver issue a command whose answer is a `T`.
fn issue<T: Answer>(host: &Host, cmd: u32) -> Result<T, NoAnswer> {
    let device =
        File::open(host.path("/dev/sev")).map_err(|error| NoAnswer::Device(error.into()))?;
    let mut answer = T::default();
    let mut request = IssueCmd { cmd, data: (&raw mut answer).cast(), error: 0 };
    // SAFETY: The kernel reads and writes a `struct sev_issue_cmd`, and writes the answer to where
    // that says. Both are as long as the kernel takes them for, and live until the call returns.
    let result = unsafe { ioctl(device.as_raw_fd(), SEV_ISSUE_CMD, &raw mut request) };
    if result < 0 {
        return Err(NoAnswer::Call(io::Error::last_os_error(), request.error));
    }
    Ok(answer)
}

/// A structure that the kernel fills in.
///
/// # Safety
///
/// All bytes are valid for it.
unsafe trait Answer: Default {}
// SAFETY: It has integers alone.
unsafe impl Answer for Status {}
// SAFETY: As above.
unsafe impl Answer for SnpStatus {}

/// The types of VM that KVM makes: bits by KVM_X86_…_VM.
pub fn vm_types(host: &Host) -> Result<u32, Why> {
    let kvm = File::open(host.path("/dev/kvm"))?;
    // SAFETY: This call takes a number, and touches no memory of ours.
    let result = unsafe { ioctl(kvm.as_raw_fd(), KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES) };
    u32::try_from(result).map_err(|_| io::Error::last_os_error().into())
}
