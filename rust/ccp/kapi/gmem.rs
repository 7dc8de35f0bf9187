// SPDX-License-Identifier: GPL-2.0

//! What guest_memfd's hooks in kvm-amd call (gmem: guest memory): the C functions of
//! `include/linux/snp_gmem.h`, exported by `rust/shim/exports.c`.

#![allow(unsafe_code, reason = "the seam to C: numbers come in as they are")]

use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    gmem::{
        make_private,
        make_shared,
        max_level,
        Contents,
        LaunchPage,
        Private,
        Vmsa, //
    },
    platform::{
        slot,
        Failure, //
    },
    stopped_cpus,
    sys::{
        bindings as c,
        caller_memory::CallerMemory,
        guest_rmp::Level,
        rmp::Frames,
        snp_host::KERNEL, //
    },
    uapi,
};

/// # Errors
///
/// [`EINVAL`] if there are no such frames.
fn frames(memory: &CallerMemory, pfn: u64, count: u64) -> Result<Frames> {
    let page = PAGE_SIZE as u64;
    let start = pfn.checked_mul(page).ok_or(EINVAL)?;
    memory.frames(start, count.checked_mul(page).ok_or(EINVAL)?)
}

/// Makes pages a guest's.
///
/// # Safety
///
/// The pages are the caller's to give away.
#[no_mangle]
unsafe extern "C" fn snp_gmem_make_private(
    pfn: u64,
    gfn: u64,
    npages: u64,
    level: c_int,
    asid: u32,
) -> c_int {
    // SAFETY: By the caller's promise.
    let memory = unsafe { CallerMemory::trust() };
    let result = Level::from_raw(level).ok_or(EINVAL).and_then(|level| {
        let frames = frames(&memory, pfn, npages)?;
        make_private(&KERNEL, &Private::new(frames, gfn, level, asid)?)
    });
    result.map_or_else(Error::to_errno, |()| 0)
}

/// Makes pages the host's; returns how many are lost.
///
/// # Safety
///
/// The pages are the caller's.
#[no_mangle]
unsafe extern "C" fn snp_gmem_make_shared(pfn: u64, npages: u64) -> u64 {
    // SAFETY: By the caller's promise.
    let memory = unsafe { CallerMemory::trust() };
    // There are no pages where there are no frames.
    frames(&memory, pfn, npages).map_or(0, |frames| make_shared(&KERNEL, frames) as u64)
}

/// The largest level at which a private page may be mapped.
#[no_mangle]
extern "C" fn snp_gmem_max_level(pfn: u64) -> c_int {
    // SAFETY: The frame is only looked up.
    let memory = unsafe { CallerMemory::trust() };
    let level = frames(&memory, pfn, 1).map_or(Level::Size4K, |frame| max_level(&KERNEL, frame));
    // CAST: A small constant.
    level.raw() as c_int
}

/// A CPU is being stopped.
#[no_mangle]
extern "C" fn snp_gmem_cpu_stopped() {
    stopped_cpus::hold();
}

/// Launches a page.
///
/// # Safety
///
/// `sev` is NULL or a valid file, `page` valid, its page the caller's to give away, its source
/// pinned, its context the guest's. `fw_error` is NULL or valid for writing.
#[no_mangle]
unsafe extern "C" fn snp_gmem_launch(
    sev: *mut bindings::file,
    page: *const c::snp_gmem_launch,
    fw_error: *mut c_int,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe {
        launch(sev, &*page, fw_error, |memory| match (*page).source_pfn {
            u64::MAX => Ok(Contents::InPlace),
            pfn => Ok(Contents::CopyOf(frames(memory, pfn, 1)?)),
        })
    }
}

/// Launches a page with a VMSA that user space has made.
///
/// # Safety
///
/// As [`snp_gmem_launch`].
#[no_mangle]
unsafe extern "C" fn snp_gmem_launch_vmsa(
    sev: *mut bindings::file,
    page: *const c::snp_gmem_launch,
    sev_features: u64,
    fw_error: *mut c_int,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe {
        launch(sev, &*page, fw_error, |memory| {
            if (*page).type_ != c::SNP_PAGE_TYPE_VMSA {
                return Err(EINVAL);
            }
            let source = frames(memory, (*page).source_pfn, 1)?;
            let vmsa = Vmsa::check(sev_features, |copy| memory.read(source.phys(), copy))?;
            Ok(Contents::Vmsa(vmsa))
        })
    }
}

/// # Safety
///
/// As [`snp_gmem_launch`].
unsafe fn launch(
    sev: *mut bindings::file,
    page: &c::snp_gmem_launch,
    fw_error: *mut c_int,
    contents: impl FnOnce(&CallerMemory) -> Result<Contents>,
) -> c_int {
    // SAFETY: Not NULL, hence valid.
    if sev.is_null() || !uapi::is_sev_file(unsafe { (*sev).f_op }) {
        return EBADF.to_errno();
    }
    // SAFETY: By the caller's promise.
    let memory = unsafe { CallerMemory::trust() };
    let prepared = frames(&memory, page.pfn, 1).and_then(|frame| {
        LaunchPage::new(
            page.gctx_paddr,
            frame,
            page.gfn,
            page.asid,
            page.type_,
            contents(&memory)?,
        )
    });
    let result = prepared
        .map_err(Failure::from)
        .and_then(|page| slot::lock()?.launch_page(&KERNEL, &page, &memory));
    let Err(failure) = result else { return 0 };
    if let (Some(status), false) = (failure.fw_error, fw_error.is_null()) {
        // SAFETY: Not NULL, so valid for writing.
        unsafe { fw_error.write(status) };
    }
    failure.errno.to_errno()
}

c::same_prototypes! {
    snp_gmem_make_private(_, _, _, _, _);
    snp_gmem_make_shared(_, _);
    snp_gmem_max_level(_);
    snp_gmem_cpu_stopped();
    snp_gmem_launch(_, _, _);
    snp_gmem_launch_vmsa(_, _, _, _);
}
