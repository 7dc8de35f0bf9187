// SPDX-License-Identifier: GPL-2.0
//! Every byte without a meaning, in every command buffer that has one: it must be zero. Offsets are
//! those of include/linux/psp-sev.h, first and behind the last.

use super::lab::*;
use crate::endorsement::Vlek;
use crate::{Config, Status};

fn initialised() -> Lab {
    let mut lab = Lab::new();
    lab.ok("INIT", &buf(20));
    lab
}

fn with_page() -> Lab {
    let lab = Lab::launching(0x30000);
    lab.pre_guest(PAGE, 3, 0x8000);
    lab
}

fn with_output() -> Lab {
    let lab = Lab::snp();
    lab.firmware(OUT, 1);
    lab
}

fn with_vlek() -> Lab {
    let lab = Lab::snp();
    let vlek = Vlek { hashstick: [7; 384], tcb: Config::MILAN.tcb };
    lab.machine.poke(PAGE, &vlek.wrap(Config::MILAN.seed, [0; 12]));
    lab
}

#[test]
fn every_reserved_byte_must_be_zero() {
    type Row = (&'static str, fn() -> Lab, Buf, &'static [(usize, usize)]);
    let rows: [Row; 10] = [
        ("INIT", Lab::new, buf(20), &[(4, 8)]),
        ("INIT_EX", Lab::new, buf(36).u32(0, 36).u64(24, NV).u32(32, 0x8000), &[(20, 24)]),
        ("PEK_CERT_IMPORT", initialised, buf(28).u32(8, 0x824).u32(24, 0x824), &[(12, 16)]),
        ("PDH_CERT_EXPORT", initialised, buf(28), &[(12, 16)]),
        ("LAUNCH_START", initialised, buf(36), &[(20, 24)]),
        ("SNP_INIT_EX", Lab::prepared, buf(64).u32(0, 1), &[(4, 8), (18, 64)]),
        (
            "SNP_LAUNCH_UPDATE",
            with_page,
            buf(32).u64(0, GCTX).u32(8, 2).u64(16, PAGE),
            &[(12, 16), (24, 25), (28, 32)],
        ),
        ("SNP_CONFIG", Lab::snp, buf(64), &[(12, 64)]),
        ("SNP_VLEK_LOAD", with_vlek, buf(16).u32(0, 16).u64(8, PAGE), &[(5, 8)]),
        (
            "SNP_VERIFY_MITIGATION",
            with_output,
            buf(64).u32(0, 64).u32(16, 1).u64(32, OUT),
            &[(6, 8), (20, 24), (40, 64)],
        ),
    ];
    for (command, lab, good, reserved) in rows {
        assert_ne!(lab().status(command, &good), Status::InvalidParam, "{command}");
        for at in reserved.iter().flat_map(|(from, end)| *from..*end) {
            for bit in [0x01, 0x80] {
                let status = lab().status(command, &good.clone().u8(at, bit));
                assert_eq!(status, Status::InvalidParam, "{command}: {bit:#x} at {at}");
            }
        }
    }
}
