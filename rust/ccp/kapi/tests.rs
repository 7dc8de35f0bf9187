// SPDX-License-Identifier: GPL-2.0

//! The exports where there is no PSP: what is refused before anybody looks for one, and the answer
//! to everything else.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_kapi)]
mod suite {
    use super::super::*;
    use crate::{
        pages::leaked,
        platform::Failure,
        platform_access::LIMIT,
        sys::{
            cc,
            said, //
        },
        tee::BUFFER_LIMIT,
        testing::{
            check,
            compound, //
        },
    };

    const NO_PSP: c_int = -19;
    const INVALID: c_int = -22;
    const BAD_FILE: c_int = -9;
    /// What an error of firmware's is before a call.
    const BEFORE: c_int = 0x55;

    #[test]
    fn a_result_is_an_errno_and_a_status() -> Result {
        let failure = |fw_error| Failure {
            errno: EIO,
            fw_error,
        };
        for (result, errno, status) in [
            (Ok(()), 0, 0),
            (Err(failure(Some(3))), -5, 3),
            (Err(failure(Some(-1))), -5, -1),
            // Firmware was not asked.
            (Err(failure(None)), -5, BEFORE),
        ] {
            let mut fw_error = BEFORE;
            // SAFETY: NULL, and an integer.
            let returned = unsafe {
                (
                    finish(result, ptr::null_mut()),
                    finish(result, &raw mut fw_error),
                )
            };
            check!(returned == (errno, errno) && fw_error == status, "{status}");
        }
        Ok(())
    }

    #[test]
    fn nothing_is_initialised() -> Result {
        let mut args = c::sev_platform_init_args {
            error: BEFORE,
            probe: true,
            max_snp_asid: 0,
        };
        for probe in [true, false] {
            args.probe = probe;
            // SAFETY: NULL, and a structure.
            let returned = unsafe {
                (
                    sev_platform_init(ptr::null_mut()),
                    sev_platform_init(&raw mut args),
                )
            };
            check!(
                returned == (INVALID, NO_PSP) && args.error == BEFORE,
                "{probe}"
            );
        }
        sev_platform_shutdown();
        check!(!slot::is_attached());
        check!(sev_get_snp_policy_bits() == 0 && sev_firmware_supported_vm_types() == 0);
        check!(!sev_is_snp_ciphertext_hiding_supported());
        Ok(())
    }

    #[test]
    fn commands_that_are_not_issued() -> Result {
        let mut data = [0_u8; 512];
        let null = ptr::null_mut();
        let buffer: *mut c_void = data.as_mut_ptr().cast();
        // INIT, SHUTDOWN, PLATFORM_STATUS, DF_FLUSH, LAUNCH_START by the SEV ABI; whether they
        // have a buffer.
        for (command, with, without) in [
            (0x001, &["command-reserved"][..], &["command-buffer"][..]),
            (0x002, &["command-buffer"], &["command-reserved"]),
            (0x004, &[], &["command-buffer"]),
            (0x00a, &["command-buffer"], &[]),
            (0x030, &[], &["command-buffer"]),
            (0x0fff, &["command-unknown"], &["command-unknown"]),
            (0x1_0004, &["command-unknown"], &["command-unknown"]),
            (-1, &["command-unknown"], &["command-unknown"]),
        ] {
            for (buffer, lines) in [(buffer, with), (null, without)] {
                let mut error = BEFORE;
                said::forget();
                // SAFETY: The buffer is longer than that of any command, and has no addresses.
                let returned = unsafe { sev_do_cmd(command, buffer, &raw mut error) };
                check!(said::only(lines), "{command:#x} {}", buffer.is_null());
                let expected = if lines.is_empty() { NO_PSP } else { INVALID };
                check!(
                    returned == expected && error == BEFORE,
                    "{command:#x} {}",
                    buffer.is_null()
                );
            }
        }
        Ok(())
    }

    #[test]
    fn the_exports_of_one_command() -> Result {
        said::forget();
        let mut data = [0_u64; 64];
        let buffer = data.as_mut_ptr();
        let null = ptr::null_mut();
        // SAFETY: The buffer is longer than that of any command, and has no addresses.
        let returned = unsafe {
            [
                sev_platform_status(buffer.cast(), null),
                sev_guest_activate(buffer.cast(), null),
                sev_guest_deactivate(buffer.cast(), null),
                sev_guest_decommission(buffer.cast(), null),
                sev_guest_df_flush(null),
            ]
        };
        check!(returned == [NO_PSP; 5] && said::only(&[]));
        Ok(())
    }

    #[test]
    fn a_file_is_the_permission() -> Result {
        let mut file = core::mem::MaybeUninit::<bindings::file>::zeroed();
        // SAFETY: NULL, and a file that is none of /dev/sev.
        let returned = unsafe {
            [
                sev_issue_cmd_external_user(ptr::null_mut(), 4, ptr::null_mut(), ptr::null_mut()),
                sev_issue_cmd_external_user(file.as_mut_ptr(), 4, ptr::null_mut(), ptr::null_mut()),
            ]
        };
        check!(returned == [BAD_FILE; 2]);
        Ok(())
    }

    #[test]
    fn pages_for_firmware() -> Result {
        check!(snp_alloc_firmware_page(bindings::GFP_KERNEL).is_null());
        said::forget();
        snp_free_firmware_page(ptr::null_mut());
        check!(said::only(&[]));
        let pages = compound(2)?;
        snp_free_firmware_page(pages.bytes().as_ptr().cast_mut().cast());
        check!(said::only(&["page-without-psp"]));

        // Nobody can take them back.
        let before = leaked();
        // SAFETY: The pages are this test's.
        let returned = unsafe {
            [
                snp_reclaim_pages(pages.phys() as c_ulong, 2, false),
                // The address may be in the middle of a page.
                snp_reclaim_pages(pages.phys() as c_ulong + 0x2fff, 1, false),
            ]
        };
        check!(returned == [NO_PSP; 2] && leaked() == before + 3);
        // SAFETY: There are no such pages.
        let returned = unsafe { snp_reclaim_pages(c_ulong::MAX, 2, false) };
        check!(returned == INVALID && leaked() == before + 3);
        Ok(())
    }

    #[test]
    fn blobs_of_user_space() -> Result {
        for (address, len) in [(0, 1), (0x1000, 0), (0x1000, 0x4001)] {
            let blob = psp_copy_user_blob(address, len);
            check!(blob as isize == INVALID as isize, "{address} {len}");
        }
        // There is no such memory.
        for len in [1, 0x4000] {
            let blob = psp_copy_user_blob(1 << 62, len);
            check!(blob as isize == -14, "{len}");
        }
        Ok(())
    }

    #[test]
    fn services_of_a_psp() -> Result {
        let mut buffer = KVVec::from_elem(0, LIMIT, GFP_KERNEL)?;
        let (data, null) = (buffer.as_mut_ptr().cast::<c_void>(), ptr::null_mut());
        let (mut status, mut result) = (7_u32, 7_u32);
        let at: *mut u32 = &raw mut status;
        // SAFETY: NULL, or valid; what is too long is not read.
        let returned = unsafe {
            [
                c::psp_check_tee_status(),
                c::psp_tee_process_cmd(1, null, 1, at),
                c::psp_tee_process_cmd(1, data, 0, at),
                c::psp_tee_process_cmd(1, data, BUFFER_LIMIT + 1, at),
                c::psp_tee_process_cmd(1, data, 16, ptr::null_mut()),
                c::psp_check_platform_access_status(),
                c::psp_ring_platform_doorbell(1, &raw mut result),
                c::psp_ring_platform_doorbell(1, ptr::null_mut()),
            ]
        };
        check!(
            returned == [NO_PSP, INVALID, INVALID, INVALID, INVALID, NO_PSP, NO_PSP, NO_PSP],
            "{returned:?}"
        );
        check!(status == 7 && result == 7);
        for (refusal, stored) in [(0, 7), (3, 3)] {
            let mut result = 7_u32;
            // SAFETY: NULL, and valid.
            unsafe {
                services::store(refusal, ptr::null_mut());
                services::store(refusal, &raw mut result);
            }
            check!(result == stored, "{refusal}");
        }
        for len in [1, BUFFER_LIMIT] {
            status = 7;
            // SAFETY: Valid.
            let returned = unsafe { c::psp_tee_process_cmd(1, data, len, &raw mut status) };
            check!(returned == NO_PSP && status == 0, "{len}");
        }
        // CAST: Small.
        for (size, expected) in [
            (0, NO_PSP),
            (16, NO_PSP),
            (LIMIT as u32, NO_PSP),
            (LIMIT as u32 + 1, INVALID),
            (u32::MAX, INVALID),
        ] {
            buffer[..4].copy_from_slice(&size.to_le_bytes());
            let message = buffer.as_mut_ptr().cast();
            // SAFETY: As long as it says, or too long.
            let returned = unsafe { c::psp_send_platform_access_msg(1, message) };
            check!(returned == expected, "{size:#x}");
        }
        // SAFETY: NULL is allowed.
        check!(unsafe { c::psp_send_platform_access_msg(1, ptr::null_mut()) } == INVALID);
        Ok(())
    }

    /// Numbers are checked first; then there is no RMP.
    #[test]
    fn memory_of_guests_without_an_rmp() -> Result {
        if cc::is_snp_host() {
            return Ok(());
        }
        let pages = compound(9)?;
        let (pfn, small, large) = (pages.phys() >> 12, 1, 2);
        for (pfn, gfn, npages, level, asid, expected) in [
            (pfn, 1, 1, small, 1, NO_PSP),
            (pfn, 512, 512, large, 1, NO_PSP),
            (pfn, 512, 512, 0, 1, INVALID),
            (pfn, 512, 512, 3, 1, INVALID),
            (pfn, 1, 512, large, 1, INVALID),
            (pfn, 512, 511, large, 1, INVALID),
            (pfn, 1, 0, small, 1, INVALID),
            (pfn, 1, 1, small, 0, INVALID),
            (u64::MAX, 1, 1, small, 1, INVALID),
            (pfn, 1, u64::MAX, small, 1, INVALID),
        ] {
            // SAFETY: The pages are this test's, or there are none.
            let returned = unsafe { c::snp_gmem_make_private(pfn, gfn, npages, level, asid) };
            check!(
                returned == expected,
                "{gfn} {npages} {level} {asid}: {returned}"
            );
        }
        // SAFETY: As above.
        let shared = unsafe {
            [
                c::snp_gmem_make_shared(pfn, 512),
                c::snp_gmem_make_shared(u64::MAX, 1),
            ]
        };
        // SAFETY: A number.
        check!(shared == [0, 0] && unsafe { c::snp_gmem_max_level(pfn) } == small);
        Ok(())
    }

    #[test]
    fn a_launch_needs_a_file_of_dev_sev() -> Result {
        let page = c::snp_gmem_launch {
            gctx_paddr: 0,
            pfn: 0,
            gfn: 1,
            source_pfn: u64::MAX,
            asid: 1,
            type_: 1,
        };
        let mut file = core::mem::MaybeUninit::<bindings::file>::zeroed();
        for file in [ptr::null_mut(), file.as_mut_ptr()] {
            let mut error = BEFORE;
            // SAFETY: NULL, or a file that is none of /dev/sev.
            let returned = unsafe {
                [
                    c::snp_gmem_launch(file, &raw const page, &raw mut error),
                    c::snp_gmem_launch_vmsa(file, &raw const page, 0, &raw mut error),
                ]
            };
            check!(returned == [BAD_FILE; 2] && error == BEFORE);
        }
        Ok(())
    }

    /// Who knows all guests registers once.
    #[test]
    fn kvm_registers() -> Result {
        static OPS: c::snp_guests_ops = c::snp_guests_ops { ask_all: None };
        static OTHER: c::snp_guests_ops = c::snp_guests_ops { ask_all: None };
        // SAFETY: NULL, or static.
        let returned = unsafe {
            c::snp_guests_unregister(ptr::null());
            let returned = [
                c::snp_guests_register(ptr::null()),
                c::snp_guests_register(&raw const OPS),
                c::snp_guests_register(&raw const OTHER),
            ];
            c::snp_guests_unregister(&raw const OPS);
            let again = c::snp_guests_register(&raw const OTHER);
            c::snp_guests_unregister(&raw const OTHER);
            (returned, again)
        };
        check!(returned == ([INVALID, 0, -16], 0), "{returned:?}");
        Ok(())
    }
}
