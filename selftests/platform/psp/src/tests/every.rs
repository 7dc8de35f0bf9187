// SPDX-License-Identifier: GPL-2.0
//! What holds for every command.

use super::lab::*;
use crate::command::COMMANDS;
use crate::Status;

type Named = (&'static str, fn() -> Lab);

const LABS: &[Named] = &[
    ("reset", Lab::new),
    ("prepared", Lab::prepared),
    ("SNP", Lab::snp),
    ("launching", || Lab::launching(0x30000)),
];

#[test]
fn a_buffer_outside_ram_is_an_invalid_address() {
    for (state, lab) in LABS {
        for command in COMMANDS.iter().filter(|command| command.len > 0) {
            for at in [RAM, RAM - 1, u64::MAX & !C_BIT] {
                let outcome = lab().run_at(Lab::id(command.name), at, &buf(0));
                assert_eq!(
                    outcome.status,
                    Status::InvalidAddress,
                    "{} at {at:#x}, {state}",
                    command.name
                );
            }
        }
    }
}

#[test]
fn answers_go_to_firmware_pages_only() {
    for command in COMMANDS.iter().filter(|command| command.answers) {
        let mut lab = Lab::snp();
        let mark = buf(command.len as usize).u8(0, 0xa5);
        for at in [BUFFER, 0xf000 + 0xff8, COVERED + 0x1000] {
            lab.machine.poke(at, &mark.0);
            let outcome = lab.run_at(Lab::id(command.name), at, &mark);
            assert_eq!(outcome.status, Status::InvalidPageState, "{} at {at:#x}", command.name);
            assert_eq!(lab.machine.peek(at, mark.0.len()), mark.0, "{} wrote", command.name);
        }
    }
}

#[test]
fn snp_commands_need_snp() {
    // These work before SNP_INIT: Linux issues them there.
    const EARLY: &[&str] = &[
        "SNP_INIT",
        "SNP_INIT_EX",
        "SNP_PLATFORM_STATUS",
        "SNP_FEATURE_INFO",
        "SNP_DOWNLOAD_FIRMWARE_EX",
        "SNP_COMMIT",
    ];
    let snp = |name: &str| name.starts_with("SNP_") && !EARLY.contains(&name);
    for command in COMMANDS.iter().filter(|command| snp(command.name)) {
        let status = Lab::new().status(command.name, &buf(command.len as usize));
        assert_eq!(status, Status::InvalidPlatformState, "{}", command.name);
    }
}

#[test]
fn unknown_and_unmodelled_commands_are_invalid() {
    for id in [0, 0xe, 0x24, 0x70, 0x96, 0xc8, 0xd0, 0xff, 0x7ff, u32::MAX] {
        let outcome = Lab::snp().run_at(id, BUFFER, &buf(64));
        assert_eq!(outcome.status, Status::InvalidCommand, "{id:#x}");
        assert!(outcome.output.is_none());
    }
}

/// Nothing panics, writes where it may not or keeps a lock (`run_at` checks the latter two).
#[test]
fn extreme_buffers_are_survived() {
    for (_, lab) in LABS {
        for command in COMMANDS {
            for fill in [0, 0x01, 0x7f, 0x80, 0xff] {
                let buffer = Buf(vec![fill; command.len as usize]);
                lab().run(command.name, &buffer);
            }
        }
    }
}

#[test]
fn the_c_bit_is_ignored() {
    let mut lab = Lab::snp();
    lab.firmware(GCTX, 1);
    let buffer = buf(8).u64(0, GCTX | C_BIT);
    lab.machine.poke(BUFFER, &buffer.0);
    let outcome = lab.psp.step(&lab.machine, Lab::id("SNP_GCTX_CREATE"), BUFFER | C_BIT);
    assert_eq!(outcome.status, Status::Success);
    assert_eq!(lab.machine.state(GCTX), Some(rmp::State::Context));
}
