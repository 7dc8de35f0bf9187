// SPDX-License-Identifier: GPL-2.0
//! Firmware uses memory that is its own, and notices who else does.

use rmp::{RmpUpdate, State};

use super::lab::*;
use crate::{Config, Status};

const OVERWRITTEN: &str = "memory of firmware overwritten";
const CAME_BACK: &str = "page named after it came back";

/// Commands after which every kind of memory has been written to.
const MANY: usize = 60;

fn reports(outcome: &crate::Outcome) -> Vec<(&'static str, u64)> {
    outcome.reports.iter().map(|report| (report.what, report.address)).collect()
}

fn status(lab: &mut Lab) -> crate::Outcome {
    lab.ok("PLATFORM_STATUS", &buf(12))
}

/// SEV-ES without SNP.
fn sev(seed: u64) -> Lab {
    let mut lab = Lab::with(Config { seed, ..Config::MILAN });
    lab.ok("INIT", &buf(20).u32(0, 1).u64(8, TMR).u32(16, 1 << 20));
    lab
}

fn used(lab: &Lab) -> Vec<u64> {
    let pages = (TMR..TMR + (1 << 20)).step_by(0x1000);
    pages.filter(|page| lab.machine.peek(*page, 0x1000) != [0; 0x1000]).collect()
}

#[test]
fn the_tmr_is_used_from_init_to_shutdown_and_the_same_for_the_same_seed() {
    let run = |seed| {
        let mut lab = sev(seed);
        for _ in 0..MANY {
            assert_eq!(reports(&status(&mut lab)), []);
        }
        let pages = used(&lab);
        assert!((5..MANY).contains(&pages.len()), "{} pages", pages.len());
        lab.ok("SHUTDOWN", &buf(0));
        // It is the host's again.
        lab.machine.poke(TMR, &vec![0; 1 << 20]);
        for _ in 0..MANY {
            assert_eq!(reports(&status(&mut lab)), []);
        }
        assert_eq!(used(&lab), [0; 0], "after SHUTDOWN");
        pages
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Whoever frees a TMR too early is found when somebody else writes there.
#[test]
fn a_write_to_the_tmr_is_reported_once() {
    let mut lab = sev(0);
    while used(&lab).is_empty() {
        status(&mut lab);
    }
    let page = used(&lab)[0];
    lab.machine.poke(page + 0x123, &[lab.machine.peek(page + 0x123, 1)[0] ^ 1]);
    assert_eq!(reports(&status(&mut lab)), [(OVERWRITTEN, page)]);
    assert!(reports(&status(&mut lab)).is_empty());
}

/// The host may read it at any time, and what it finds is what commands have left. A command that
/// changes the identity is no mistake of the host's.
#[test]
fn the_nv_area_is_written_with_what_it_holds() {
    let mut lab = Lab::new();
    lab.ok("INIT_EX", &buf(36).u32(0, 36).u64(24, NV).u32(32, 0x8000));
    for command in ["PDH_GEN", "PEK_GEN"] {
        assert_eq!(reports(&lab.ok(command, &buf(0))), [], "{command}");
        let left = lab.machine.peek(NV, 0x8000);
        for _ in 0..MANY {
            assert_eq!(reports(&status(&mut lab)), [], "{command}");
        }
        assert!(lab.machine.peek(NV, 0x8000) == left, "{command}");
    }
    // Somebody else has it now, who suffers, and is reported once for each page.
    lab.machine.poke(NV, &[0xaa; 0x8000]);
    let mut said = Vec::new();
    for _ in 0..MANY {
        said.extend(reports(&status(&mut lab)));
    }
    said.sort_unstable();
    let all: Vec<_> = (NV..NV + 0x8000).step_by(0x1000).map(|page| (OVERWRITTEN, page)).collect();
    assert_eq!(said, all);
    let spoilt = |page: u64| lab.machine.peek(page, 0x1000) != [0xaa; 0x1000];
    assert!((NV..NV + 0x8000).step_by(0x1000).any(spoilt));
    lab.ok("SHUTDOWN", &buf(0));
    lab.machine.poke(NV, &[0; 0x8000]);
    for _ in 0..MANY {
        assert_eq!(reports(&status(&mut lab)), []);
    }
    assert_eq!(lab.machine.peek(NV, 0x8000), [0; 0x8000]);
}

#[test]
fn contexts_are_used_until_they_are_firmwares_no_more() {
    let mut lab = Lab::context();
    let used = |lab: &Lab| lab.machine.peek(GCTX, 0x1000) != [0; 0x1000];
    for _ in 0..MANY {
        assert_eq!(reports(&status(&mut lab)), []);
    }
    assert!(used(&lab));
    lab.ok("SNP_DECOMMISSION", &buf(8).u64(0, GCTX));
    lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, GCTX));
    lab.machine.poke(GCTX, &[0; 0x1000]);
    for _ in 0..MANY {
        assert_eq!(reports(&status(&mut lab)), []);
    }
    assert!(!used(&lab));
}

/// The status says that the page is not firmware's; that it once was makes it a defect of the host.
#[test]
fn a_page_that_came_back_is_not_named_again() {
    let mut lab = Lab::context();
    let gctx = buf(8).u64(0, GCTX);
    lab.ok("SNP_DECOMMISSION", &gctx);
    lab.ok("SNP_PAGE_RECLAIM", &gctx);
    assert_eq!(lab.machine.rmp().rmpupdate(GCTX, &RmpUpdate::default()), rmp::Code::Success);
    for (command, buffer, expected) in [
        ("SNP_DECOMMISSION", gctx.clone(), Status::InvalidGuest),
        ("SNP_LAUNCH_START", buf(48).u64(0, GCTX).u64(8, 0x30000), Status::InvalidGuest),
        ("SNP_PAGE_RECLAIM", gctx.clone(), Status::InvalidPageState),
        ("SNP_GUEST_STATUS", buf(16).u64(0, GCTX).u64(8, OUT), Status::InvalidGuest),
    ] {
        let outcome = lab.run(command, &buffer);
        assert_eq!(outcome.status, expected, "{command}");
        assert_eq!(reports(&outcome), [(CAME_BACK, GCTX)], "{command}");
    }
    // One that never was firmware's is refused, and that is all.
    let outcome = lab.run("SNP_DECOMMISSION", &buf(8).u64(0, PAGE));
    assert_eq!((outcome.status, reports(&outcome)), (Status::InvalidGuest, vec![]));
    // Given to firmware again, it is as good as any other.
    lab.firmware(GCTX, 1);
    assert_eq!(reports(&lab.ok("SNP_GCTX_CREATE", &gctx)), []);
    lab.ok("SNP_DECOMMISSION", &gctx);
    assert_eq!(lab.machine.state(GCTX), Some(State::Firmware));
    assert_eq!(reports(&lab.run("SNP_DECOMMISSION", &gctx)), []);
}

/// A launch that is refused, whose page comes back and is assigned once more for another attempt.
#[test]
fn a_page_that_is_assigned_again_is_no_longer_one_that_came_back() {
    let mut lab = Lab::context();
    let update = buf(32).u64(0, GCTX).u32(8, 2).u64(16, PAGE);
    for _ in 0..2 {
        lab.pre_guest(PAGE, 3, 0x8000);
        let outcome = lab.run("SNP_LAUNCH_UPDATE", &update);
        assert_eq!((outcome.status, reports(&outcome)), (Status::InvalidGuestState, vec![]));
        lab.ok("SNP_PAGE_RECLAIM", &buf(8).u64(0, PAGE));
    }
    assert_eq!(lab.machine.rmp().rmpupdate(PAGE, &RmpUpdate::default()), rmp::Code::Success);
    assert_eq!(reports(&lab.run("SNP_LAUNCH_UPDATE", &update)), [(CAME_BACK, PAGE)]);
}
