// SPDX-License-Identifier: GPL-2.0

//! The whole of the platform: what stands in command buffers, and how long firmware may take.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_platform)]
#[allow(unsafe_code, reason = "the macro's, and the licence of a C caller")]
mod suite {
    use super::super::*;
    use crate::{
        nv::Contents,
        pages::HvPages,
        platform::testing::*,
        sys::{
            caller_memory::CallerMemory,
            errno::ENODATA,
            fake_sme::Sme,
            pages::Gfp, //
        },
        testing::compound,
        wire::{
            snp::SnpConfig,
            Relayed, //
        }, //
    };
    use core::cell::Cell;

    /// Where addresses stand in command buffers, by the firmware ABI.
    const ADDRESSES: [(CommandId, &[u16]); 19] = [
        (CommandId::INIT, &[8]),
        (CommandId::PLATFORM_STATUS, &[]),
        (CommandId::PEK_CSR, &[0]),
        (CommandId::PEK_CERT_IMPORT, &[0, 16]),
        (CommandId::PDH_CERT_EXPORT, &[0, 16]),
        (CommandId::DOWNLOAD_FIRMWARE, &[0]),
        (CommandId::GET_ID, &[0]),
        (CommandId::LAUNCH_MEASURE, &[8]),
        (CommandId::SNP_PLATFORM_STATUS, &[0]),
        (CommandId::SNP_INIT_EX, &[8]),
        (CommandId::SNP_SHUTDOWN_EX, &[]),
        (CommandId::SNP_DECOMMISSION, &[0]),
        (CommandId::SNP_GCTX_CREATE, &[0]),
        (CommandId::SNP_PAGE_RECLAIM, &[0]),
        (CommandId::SNP_CONFIG, &[]),
        (CommandId::SNP_COMMIT, &[]),
        (CommandId::SNP_VLEK_LOAD, &[8]),
        (CommandId::SNP_FEATURE_INFO, &[8]),
        (CommandId::LAUNCH_UPDATE_DATA, &[8]),
    ];

    /// The only ones without encryption bit: the TMR, and pages to reclaim.
    const PLAIN: [CommandId; 2] = [CommandId::INIT, CommandId::SNP_PAGE_RECLAIM];

    #[test]
    fn addresses_have_the_encryption_bit() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let _sme = Sme::pretend();
        let plan = Plan::new();
        let seen = [const { Cell::new(false) }; ADDRESSES.len()];
        // The first command with an address that is wrong, or of which the table has nothing.
        let wrong = Cell::new(None);
        let look = |call: &Call| {
            let bit = |address: u64| address & Sme::MASK != 0 && address & !Sme::MASK != 0;
            let row = ADDRESSES.iter().zip(&seen);
            let mut rows = row.filter(|((id, _), _)| call.is(*id));
            let right = match rows.next() {
                None => call.command.len == 0,
                Some(((_, offsets), seen)) => {
                    seen.set(true);
                    let plain = PLAIN.contains(&call.command.id);
                    bit(call.spa)
                        && offsets.iter().all(|&offset| {
                            call.field::<u64>(offset)
                                .is_ok_and(|address| address != 0 && bit(address) != plain)
                        })
                }
            };
            if !right && wrong.get().is_none() {
                wrong.set(Some(call.command.name));
            }
            plan.execute(&HOST, call)
        };
        let (_faux, dev) = device()?;
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(look), &HOST)?);
        let page = || HvPages::zeroed(Gfp::KERNEL, 0);
        check!(p.identify().is_ok());
        check!(p.download(&[0x55; 5000]).is_ok());
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(p.pek_csr(Some(64)).is_ok_and(|csr| csr.result.is_ok()));
        check!(p.get_id(Some(128)).is_ok_and(|id| id.result.is_ok()));
        check!(p
            .pdh_cert_export(Some([64, 5000]), true)
            .is_ok_and(|certs| certs.result.is_ok()));
        check!(p.cert_import(page()?, 16, page()?, 16).is_ok());
        check!(p.vlek_load(page()?, [0; 3]).is_ok());
        let config = SnpConfig::read_from_bytes(&[0; 64]).map_err(|_| EINVAL)?;
        check!(p.set_config(config).is_ok());
        check!(p.commit().is_ok() && p.snp_platform_status().is_ok());
        guest(&mut p)?;
        // Both name two pages at offset 8, and their length at 16.
        for id in [CommandId::LAUNCH_MEASURE, CommandId::LAUNCH_UPDATE_DATA] {
            let mut memory = compound(1)?;
            memory.bytes_mut().fill(0x5a);
            let address = memory.phys() | Sme::MASK;
            let mut data = [0; 20];
            data[8..16].copy_from_slice(&address.to_le_bytes());
            data[16..].copy_from_slice(&8192_u32.to_le_bytes());
            let before = data;
            // SAFETY: The address is that of two pages of this test.
            let caller = unsafe { CallerMemory::trust() };
            let command = Relayed::new(id.row()).ok_or(EPERM)?;
            check!(p.relay(command, &mut data, &caller).is_ok());
            check!(data == before, "{:?}", id);
            // What stood in for them was zeroed; the guest's own stay as they are.
            let bounced = id == CommandId::LAUNCH_MEASURE;
            let filled = if bounced { 0 } else { 0x5a };
            check!(
                memory.bytes().iter().all(|byte| *byte == filled),
                "{:?}",
                id
            );
        }
        p.shutdown(Leaving::DeviceGone);
        HOST.forget();
        p.features.ecx = 0;
        check!(p.init(true, 0).is_ok());
        p.last_shutdown(Scripted::new(look))?.run();
        check!(wrong.get().is_none(), "{:?}", wrong.get());
        let missing = seen.iter().position(|seen| !seen.get());
        check!(missing.is_none(), "{:?}", missing);
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        Ok(())
    }

    /// What a command buffer has besides zeros and addresses: where, and which bytes.
    type Fields = &'static [(usize, &'static [u8])];

    /// Command buffers by the firmware ABI: where addresses are, and all fields that are not zero.
    const BUFFERS: [(CommandId, &[usize], Fields); 14] = [
        (
            CommandId::SNP_INIT_EX,
            &[8],
            &[(0, &[0b1011]), (16, &[0x28])],
        ),
        (CommandId::SNP_SHUTDOWN_EX, &[], &[(0, &[8]), (4, &[0b11])]),
        (CommandId::SNP_FEATURE_INFO, &[8], &[(0, &[16])]),
        (CommandId::SNP_PLATFORM_STATUS, &[0], &[]),
        (CommandId::SNP_COMMIT, &[], &[(0, &[4])]),
        (CommandId::SNP_CONFIG, &[], &[(0, &[7; 64])]),
        (
            CommandId::SNP_VLEK_LOAD,
            &[8],
            &[(0, &[16]), (5, &[1, 2, 3])],
        ),
        (
            CommandId::SNP_VERIFY_MITIGATION,
            &[32],
            &[(0, &[64]), (4, &[1]), (8, &[2]), (16, &[1])],
        ),
        (
            CommandId::INIT_EX,
            &[8, 24],
            &[(0, &[36]), (4, &[1]), (16, &[0, 0, 0x20]), (32, &[0, 0x80])],
        ),
        (CommandId::PEK_CSR, &[0], &[(8, &[64])]),
        (CommandId::GET_ID, &[0], &[(8, &[65])]),
        (
            CommandId::PDH_CERT_EXPORT,
            &[0, 16],
            &[(8, &[66]), (24, &[67])],
        ),
        (
            CommandId::PEK_CERT_IMPORT,
            &[0, 16],
            &[(8, &[68]), (24, &[69])],
        ),
        (CommandId::PLATFORM_STATUS, &[], &[]),
    ];

    #[test]
    fn command_buffers_have_nothing_but_what_is_asked_for() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let seen = [const { Cell::new(false) }; BUFFERS.len()];
        let wrong = Cell::new(None);
        let look = |call: &Call| {
            let mut rows = BUFFERS.iter().zip(&seen);
            if let Some(((_, addresses, fields), seen)) = rows.find(|((id, ..), _)| call.is(*id)) {
                seen.set(true);
                let expected = |at: usize| {
                    let field = fields
                        .iter()
                        .find_map(|(first, bytes)| bytes.get(at.checked_sub(*first)?));
                    field.copied().unwrap_or(0)
                };
                let right = call.buffer(|bytes| {
                    bytes.iter().enumerate().all(|(at, byte)| {
                        let address = addresses
                            .iter()
                            .any(|first| (*first..first + 8).contains(&at));
                        address || *byte == expected(at)
                    })
                });
                if !right && wrong.get().is_none() {
                    wrong.set(Some(call.command.name));
                }
            }
            plan.execute(&HOST, call)
        };
        let (_faux, dev) = device()?;
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(look), &HOST)?);
        let page = || HvPages::zeroed(Gfp::KERNEL, 0);
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::blank());
        check!(p.identify().is_ok() && p.init(true, 0x28).is_ok());
        check!(p.pek_csr(Some(64)).is_ok() && p.get_id(Some(65)).is_ok());
        check!(p.pdh_cert_export(Some([66, 67]), true).is_ok());
        check!(p.cert_import(page()?, 68, page()?, 69).is_ok());
        let config = SnpConfig::read_from_bytes(&[7; 64]).map_err(|_| EINVAL)?;
        check!(p.set_config(config).is_ok() && p.commit().is_ok());
        check!(p.vlek_load(page()?, [1, 2, 3]).is_ok());
        check!(p.verify_mitigation(Some(2)).is_ok());
        p.shutdown(Leaving::KvmGone);
        check!(wrong.get().is_none(), "{:?}", wrong.get());
        let missing = seen.iter().position(|seen| !seen.get());
        check!(missing.is_none(), "{:?}", missing);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn timeouts_of_the_parameters_are_bounded() -> Result {
        for (secs, ms) in [
            (i32::MIN, 1000),
            (-1, 1000),
            (0, 1000),
            (1, 1000),
            (100, 100_000),
            (3600, 3_600_000),
            (3601, 3_600_000),
            (i32::MAX, 3_600_000),
        ] {
            check!(bounded_ms(secs) == ms, "{}", secs);
        }
        Ok(())
    }

    #[test]
    fn time_for_snp_init_grows_with_the_rmp() -> Result {
        const GIB: u64 = 1 << 30;
        // GiB of RAM; milliseconds that firmware takes at worst; the time-out, with the default of
        // 100 s.
        for (gib, worst, ms) in [
            (64, 1_184, 202_368),
            (128, 2_368, 204_736),
            (256, 4_736, 209_472),
            (512, 9_472, 218_944),
            (1024, 18_944, 237_888),
            (2048, 37_888, 275_776),
            (4096, 75_776, 351_552),
            (8192, 151_552, 503_104),
            (16384, 303_104, 806_208),
        ] {
            check!(snp_init_ms(100_000, gib * GIB) == ms, "{}", gib);
            // Even if the administrator has set the shortest time-out.
            check!(snp_init_ms(1_000, gib * GIB) >= 2 * worst, "{}", gib);
            // What is not a whole GiB counts as one.
            check!(snp_init_ms(100_000, gib * GIB - 1) == ms, "{}", gib);
            check!(snp_init_ms(100_000, gib * GIB + 1) > ms, "{}", gib);
        }
        check!(snp_init_ms(100_000, 0) == 200_000);
        check!(snp_init_ms(u32::MAX, u64::MAX) == u32::MAX);
        let environment = PspEnvironment { psp: 0 };
        check!(environment.snp_init_timeout_ms() > 2 * environment.command_timeout_ms());
        Ok(())
    }
}
