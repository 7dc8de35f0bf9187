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
        sys::said,
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
}
