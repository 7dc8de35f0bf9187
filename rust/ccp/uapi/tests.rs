// SPDX-License-Identifier: GPL-2.0

//! Requests where there is no PSP: what is refused before anybody looks for one, and in which
//! order. With a PSP `selftests/test_ioctl.py` compares with the in-tree driver.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_uapi)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::{
        cmd::CmdError,
        sys::said,
        testing::check,
        wire::Status, //
    };

    /// Nobody has memory there.
    const NOWHERE: u64 = 1 << 62;

    fn errno(result: Result<(), Failure>) -> Result<Error> {
        let failure = result.err().ok_or(EINVAL)?;
        // Firmware was not asked.
        check!(failure.fw_error.is_none());
        Ok(failure.errno)
    }

    #[test]
    fn requests_are_checked_in_this_order() -> Result {
        if slot::is_attached() {
            return Ok(());
        }
        // The request; what a caller gets who may only read; and one who may write, without
        // memory and with an address that is nobody's.
        for (cmd, reader, null, nowhere) in [
            (c::SEV_FACTORY_RESET, EPERM, ENODEV, ENODEV),
            (c::SEV_PLATFORM_STATUS, ENODEV, ENODEV, ENODEV),
            (c::SEV_PEK_GEN, EPERM, ENODEV, ENODEV),
            (c::SEV_PEK_CSR, EPERM, EFAULT, EFAULT),
            (c::SEV_PDH_GEN, EPERM, ENODEV, ENODEV),
            (c::SEV_PDH_CERT_EXPORT, EFAULT, EFAULT, EFAULT),
            (c::SEV_PEK_CERT_IMPORT, EPERM, EFAULT, EFAULT),
            (c::SEV_GET_ID, ENODEV, ENODEV, ENODEV),
            (c::SEV_GET_ID2, ENODEV, ENODEV, ENODEV),
            (c::SNP_PLATFORM_STATUS, ENODEV, EINVAL, ENODEV),
            (c::SNP_COMMIT, EPERM, ENODEV, ENODEV),
            (c::SNP_SET_CONFIG, EPERM, EINVAL, ENODEV),
            (c::SNP_VLEK_LOAD, EPERM, EINVAL, ENODEV),
            (c::SEV_MAX, EINVAL, EINVAL, EINVAL),
            (u32::MAX, EINVAL, EINVAL, EINVAL),
        ] {
            for (data, writable, expected) in [
                (NOWHERE, false, reader),
                (0, true, null),
                (NOWHERE, true, nowhere),
            ] {
                let caller = Caller { data, writable };
                check!(
                    errno(caller.issue(cmd))? == expected,
                    "{cmd} {data:#x} {writable}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_buffer_has_an_address_and_a_length() -> Result {
        for (address, len, wanted) in [(0, 0, None), (0, 1, None), (1, 0, None), (1, 2, Some(2))] {
            check!(UserBuffer::new(address, len).wanted() == wanted);
        }
        let most = 16 << 10;
        check!(within_limit(0) == Ok(0) && within_limit(most) == Ok(most));
        check!(within_limit(most + 1) == Err(EFAULT) && within_limit(u32::MAX) == Err(EFAULT));
        for (address, len, errno) in [
            (0, 1, EINVAL),
            (NOWHERE, 0, EINVAL),
            (NOWHERE, 1, EFAULT),
            (NOWHERE, most, EFAULT),
            (NOWHERE, most + 1, EINVAL),
            (NOWHERE, u32::MAX, EINVAL),
        ] {
            let contents = UserBuffer::new(address, len).contents();
            check!(contents.err() == Some(errno), "{address:#x} {len}");
        }
        Ok(())
    }

    /// What firmware refused is not copied, and a copy that fails comes after firmware's success.
    #[test]
    fn only_answers_are_copied() -> Result {
        let pages = || Ok::<_, Error>([Some(HvPages::zeroed(Gfp::KERNEL, 0)?)]);
        let refused = CmdError::Firmware(Status::INVALID_LEN);
        for (result, data, errno, status) in [
            (Err(refused), pages()?, refused.errno(), refused.psp_ret()),
            (Ok(()), pages()?, EFAULT, Some(0)),
        ] {
            let exported = Exported {
                result: result.map_err(Failure::from),
                len: [8],
                data,
            };
            let failure = copy_out(&exported, [NOWHERE]).err().ok_or(EINVAL)?;
            check!(
                failure.errno == errno && failure.fw_error == status,
                "{errno:?}"
            );
        }
        let nothing = Exported {
            result: Ok(()),
            len: [8],
            data: [None],
        };
        check!(copy_out(&nothing, [NOWHERE]).is_ok());
        Ok(())
    }

    #[test]
    fn a_file_of_somebody_else_is_none_of_dev_sev() -> Result {
        said::forget();
        check!(!is_sev_file(core::ptr::null()));
        let other = bindings::file_operations::default();
        check!(!is_sev_file(&raw const other));
        check!(said::only(&[]));
        Ok(())
    }
}
