// SPDX-License-Identifier: GPL-2.0

//! The functions that other kernel modules import from a module named `ccp`.
//!
//! Names and prototypes are those of `include/linux/psp-sev.h`, `psp-tee.h`,
//! `psp-platform-access.h` and `ccp.h`, which `same_prototypes!` compares. `rust/shim/exports.c`
//! has the `EXPORT_SYMBOL` lines, which the kernel has no Rust form of.
//!
//! Any module may call the functions at any time after this one was loaded; with no PSP attached
//! they return -ENODEV. They sleep, and take the command lock.
//!
//! The driver does not serve the crypto engine. Its functions return the errors of the in-tree
//! driver on a machine without that hardware, so that `ccp-crypto.ko` finds its symbols and
//! declines to load.

#![allow(unsafe_code, reason = "the seam to C: pointers come in as they are")]

use core::{
    ptr,
    slice, //
};

use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    mitigations,
    pages::{
        Leaked,
        DROPPED, //
    },
    platform::{
        leave::Leaving,
        slot,
        Failure, //
    },
    sys::{
        bindings as c,
        caller_memory::CallerMemory,
        log,
        pages::Gfp, //
    },
    uapi,
    wire::{
        CommandId,
        Relayed, //
    }, //
};

mod gmem;
mod guests;
mod services;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

/// Converts to what C returns, and stores firmware's status where C wants it.
///
/// # Safety
///
/// `fw_error` is NULL or valid for writing.
unsafe fn finish(result: Result<(), Failure>, fw_error: *mut c_int) -> c_int {
    let (errno, status) = match result {
        Ok(()) => (0, Some(0)),
        Err(failure) => (failure.errno.to_errno(), failure.fw_error),
    };
    if let (Some(status), false) = (status, fw_error.is_null()) {
        // SAFETY: Not NULL, so valid for writing.
        unsafe { fw_error.write(status) };
    }
    errno
}

/// Starts SNP and SEV.
///
/// # Safety
///
/// `args` is NULL or valid for reading and writing.
#[no_mangle]
unsafe extern "C" fn sev_platform_init(args: *mut c::sev_platform_init_args) -> c_int {
    // SAFETY: NULL or valid, by the caller's promise.
    let Some(args) = (unsafe { args.as_mut() }) else {
        return EINVAL.to_errno();
    };
    // Legacy SEV starts later where kvm-amd is not being loaded: somebody makes a VM, and can be
    // killed while others make theirs.
    let locked = match args.probe {
        true => slot::lock_to_start(),
        false => slot::lock_killable(),
    };
    let result = match locked {
        Ok(mut platform) => {
            let result = platform.init(args.probe, args.max_snp_asid);
            let has_files = platform.has_verify_mitigation();
            drop(platform);
            mitigations::update_if_needed(has_files);
            result
        }
        Err(err) => Err(err.into()),
    };
    // SAFETY: A field of a valid structure.
    unsafe { finish(result, &raw mut args.error) }
}

/// Stops SEV and SNP.
#[no_mangle]
extern "C" fn sev_platform_shutdown() {
    // Without a platform there is nothing to stop.
    if let Ok(mut platform) = slot::lock() {
        platform.shutdown(Leaving::KvmGone);
    }
    mitigations::update();
}

/// Issues a command. `data` is its command buffer, of the length that the command has, or NULL.
///
/// # Safety
///
/// `data` is NULL or valid for reading and writing that length; addresses in it name memory of the
/// caller. `psp_ret` is NULL or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_do_cmd(cmd: c_int, data: *mut c_void, psp_ret: *mut c_int) -> c_int {
    let Some(command) = u32::try_from(cmd).ok().and_then(CommandId::lookup) else {
        log::warn!(
            "command-unknown",
            "sev_do_cmd: the driver does not know command {cmd:#x}, it is not issued"
        );
        return EINVAL.to_errno();
    };
    if data.is_null() != (command.len == 0) {
        log::warn!(
            "command-buffer",
            "sev_do_cmd: {} has a command buffer of {} bytes, the caller passed {}",
            command.name,
            command.len,
            if data.is_null() { "none" } else { "one" }
        );
        return EINVAL.to_errno();
    }
    let Some(relayed) = Relayed::new(command) else {
        log::warn!(
            "command-reserved",
            "sev_do_cmd: {} starts, stops or replaces firmware, which is for this driver alone; it is not issued",
            command.name
        );
        return EINVAL.to_errno();
    };
    let buffer = if data.is_null() {
        &mut []
    } else {
        // SAFETY: Valid for the length of this command, by the caller's promise, and the caller's
        // alone during the call.
        unsafe { slice::from_raw_parts_mut(data.cast::<u8>(), command.len.into()) }
    };
    // SAFETY: The addresses in the buffer name the caller's memory, by its promise.
    let memory = unsafe { CallerMemory::trust() };
    let locked = match command.id.needs_sev() {
        true => slot::lock_to_start(),
        false => slot::lock(),
    };
    let result = locked
        .map_err(Failure::from)
        .and_then(|mut platform| platform.relay(relayed, buffer, &memory));
    // SAFETY: By the caller's promise.
    unsafe { finish(result, psp_ret) }
}

/// Issues a command for a file that user space opened: having opened `/dev/sev` is the permission.
///
/// # Safety
///
/// `filep` is NULL or a valid file; otherwise as [`sev_do_cmd`].
#[no_mangle]
unsafe extern "C" fn sev_issue_cmd_external_user(
    filep: *mut bindings::file,
    id: c_uint,
    data: *mut c_void,
    error: *mut c_int,
) -> c_int {
    // SAFETY: Not NULL, hence valid.
    if filep.is_null() || !uapi::is_sev_file(unsafe { (*filep).f_op }) {
        return EBADF.to_errno();
    }
    match c_int::try_from(id) {
        // SAFETY: By the caller's promise.
        Ok(cmd) => unsafe { sev_do_cmd(cmd, data, error) },
        Err(_) => EINVAL.to_errno(),
    }
}

/// Expands to exports that are [`sev_do_cmd`] of one command with its command buffer.
macro_rules! commands_with_buffer {
    ($($command:ident: $export:ident($buffer:ty);)*) => {
        $(
        #[doc = concat!("`", stringify!($command), "`")]
        ///
        /// # Safety
        ///
        /// As [`sev_do_cmd`].
        #[no_mangle]
        unsafe extern "C" fn $export(data: *mut $buffer, error: *mut c_int) -> c_int {
            let command = CommandId::$command.raw();
            // SAFETY: By the caller's promise.
            unsafe { sev_do_cmd(command.into(), data.cast(), error) }
        }
        )*

        c::same_prototypes! { $($export(_, _);)* }
    };
}

commands_with_buffer! {
    PLATFORM_STATUS: sev_platform_status(c::sev_user_data_status);
    ACTIVATE: sev_guest_activate(c::sev_data_activate);
    DEACTIVATE: sev_guest_deactivate(c::sev_data_deactivate);
    DECOMMISSION: sev_guest_decommission(c::sev_data_decommission);
}

/// DF_FLUSH.
///
/// # Safety
///
/// `error` is NULL or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_guest_df_flush(error: *mut c_int) -> c_int {
    let command = CommandId::DF_FLUSH.raw();
    // SAFETY: The command has no buffer; otherwise by the caller's promise.
    unsafe { sev_do_cmd(command.into(), ptr::null_mut(), error) }
}

/// Copies a blob from user space to memory that is physically contiguous. To be freed with
/// `kfree()`.
#[no_mangle]
extern "C" fn psp_copy_user_blob(uaddr: u64, len: u32) -> *mut c_void {
    if uaddr == 0 || len == 0 || len > c::SEV_FW_BLOB_MAX_SIZE {
        return EINVAL.to_errno() as isize as *mut c_void;
    }
    // SAFETY: Takes any user address; the length is small.
    unsafe { bindings::memdup_user(uaddr as *const c_void, len as usize) }
}

/// A page for firmware to write to: NULL if there is none.
#[no_mangle]
extern "C" fn snp_alloc_firmware_page(mask: bindings::gfp_t) -> *mut c_void {
    slot::lock()
        .and_then(|mut platform| platform.alloc_firmware_page(Gfp::from_raw(mask)))
        .unwrap_or(ptr::null_mut())
}

/// Frees such a page. NULL is allowed.
#[no_mangle]
extern "C" fn snp_free_firmware_page(addr: *mut c_void) {
    if addr.is_null() {
        return;
    }
    match slot::lock() {
        Ok(mut platform) => platform.free_firmware_page(addr as usize),
        // The page's owner went away with the platform, and kept the page from the allocator.
        Err(_) => {
            log::warn!(
                "page-without-psp",
                "snp_free_firmware_page: no PSP is attached, the page stays with firmware"
            );
        }
    }
}

/// Takes pages back from firmware.
///
/// `locked` says that the caller holds the command lock. Nobody outside of the driver can.
///
/// # Safety
///
/// The pages are the caller's, who does not touch them during the call.
#[no_mangle]
unsafe extern "C" fn snp_reclaim_pages(paddr: c_ulong, npages: c_uint, _locked: bool) -> c_int {
    // SAFETY: By the caller's promise.
    let memory = unsafe { CallerMemory::trust() };
    let page = PAGE_SIZE as u64;
    let start = paddr as u64 & !(page - 1);
    let Ok(frames) = memory.frames(start, u64::from(npages) * page) else {
        return EINVAL.to_errno();
    };
    let result = match slot::lock() {
        Ok(mut platform) => platform.reclaim(frames),
        Err(err) => {
            // Without a PSP there is nobody to ask.
            Leaked::foreign(frames, &DROPPED);
            Err(err)
        }
    };
    match result {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// Whether ciphertext hiding can be asked for.
#[no_mangle]
extern "C" fn sev_is_snp_ciphertext_hiding_supported() -> bool {
    slot::lock().is_ok_and(|platform| platform.has_ciphertext_hiding())
}

/// Guest-policy bits that firmware knows.
#[no_mangle]
extern "C" fn sev_get_snp_policy_bits() -> u64 {
    slot::lock().map_or(0, |platform| platform.snp_policy_bits())
}

/// Bit mask of the VM types that firmware supports.
#[no_mangle]
extern "C" fn sev_firmware_supported_vm_types() -> c_int {
    slot::lock().map_or(0, |mut platform| platform.vm_types())
}

/// Expands to exports of hardware that the driver does not serve.
macro_rules! not_served {
    ($($export:ident($($argument:ty),*) -> $returned:ty { $error:expr })*) => {
        $(
        /// Not served.
        #[no_mangle]
        extern "C" fn $export($(_: $argument),*) -> $returned {
            $error
        }
        )*

        c::same_prototypes! { $($export($($argument),*);)* }
    };
}

not_served! {
    ccp_present() -> c_int { ENODEV.to_errno() }
    ccp_version() -> c_uint { 0 }
    ccp_enqueue_cmd(*mut c::ccp_cmd) -> c_int { ENODEV.to_errno() }
}

c::same_prototypes! {
    sev_platform_init(_);
    sev_platform_shutdown();
    sev_do_cmd(_, _, _);
    sev_issue_cmd_external_user(_, _, _, _);
    sev_guest_df_flush(_);
    psp_copy_user_blob(_, _);
    snp_alloc_firmware_page(_);
    snp_free_firmware_page(_);
    snp_reclaim_pages(_, _, _);
    sev_is_snp_ciphertext_hiding_supported();
    sev_get_snp_policy_bits();
    sev_firmware_supported_vm_types();
}
