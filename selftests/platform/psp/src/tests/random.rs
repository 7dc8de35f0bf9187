// SPDX-License-Identifier: GPL-2.0
//! Random sequences of commands, RMPUPDATEs and WBINVDs. What must hold after every step:
//! firmware wrote only where it may and kept no lock (`Lab::run_at`), contexts in the RMP are the
//! guests it knows, no ASID has two owners, and the table's own pages stay protected.

use std::collections::BTreeSet;

use rmp::{RmpUpdate, State};

use super::lab::*;
use crate::command::{self, COMMANDS};

/// Half of all commands are these.
const GUEST: &[&str] = &[
    "SNP_GCTX_CREATE",
    "SNP_LAUNCH_START",
    "SNP_ACTIVATE",
    "SNP_LAUNCH_UPDATE",
    "SNP_DF_FLUSH",
    "SNP_PAGE_RECLAIM",
];

/// xorshift64*: enough for a test, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// One of few pages, so that commands meet each other's.
    fn page(&mut self) -> u64 {
        match self.below(12) {
            0 => self.pick(&[0, RMP_BASE, COVERED, RAM, !0xfff, TMR]),
            n => GCTX + ((n % 6) << 12),
        }
    }

    /// A buffer that is often right. `guests` are the contexts there are.
    fn buffer(&mut self, name: &str, len: usize, guests: &[u64]) -> Buf {
        let known = !guests.is_empty() && self.below(4) != 0;
        let a = if known { self.pick(guests) } else { self.page() };
        let (b, c) = (self.page(), self.page());
        let asid = self.below(3) as u32;
        let mut buffer = match name {
            "INIT" => buf(20).u32(0, self.below(2) as u32).u64(8, TMR).u32(16, 2 << 20),
            "SNP_INIT_EX" => buf(64).u32(0, self.pick(&[0, 1])),
            "SNP_SHUTDOWN_EX" => buf(8).u32(0, 8).u32(4, self.below(4) as u32),
            "SNP_ACTIVATE" => buf(12).u64(0, a).u32(8, asid),
            "SNP_LAUNCH_START" => buf(48).u64(0, a).u64(8, self.pick(&[0x30000, 0xb0000])),
            "SNP_LAUNCH_UPDATE" => buf(32).u64(0, a).u32(8, (self.below(8) as u32) << 1).u64(16, b),
            "SNP_FEATURE_INFO" => buf(16).u32(0, 16).u64(8, a),
            "GET_ID" | "PEK_CSR" => buf(12).u64(0, a).u32(8, 4096),
            _ if len >= 24 => buf(len).u64(0, a).u64(8, b).u64(16, c),
            _ if len >= 16 => buf(len).u64(0, a).u64(8, b),
            _ if len >= 8 => buf(len).u64(0, a),
            "SNP_COMMIT" => buf(4).u32(0, 4),
            _ => buf(len),
        };
        if len > 0 && self.below(10) == 0 {
            let at = self.below(len as u64) as usize;
            buffer.0[at] = self.next() as u8;
        }
        buffer
    }
}

fn invariants(lab: &Lab, step: &str) {
    let Some(running) = &lab.psp.snp.running else {
        return;
    };
    let rmp = lab.machine.rmp();
    let contexts: BTreeSet<u64> = (GCTX..PAGE)
        .step_by(0x1000)
        .chain([0, TMR, RMP_BASE, COVERED])
        .filter(|page| rmp.state(*page) == Some(State::Context))
        .collect();
    let guests: BTreeSet<u64> = running.guests.keys().copied().collect();
    assert_eq!(contexts, guests, "{step}: contexts in the RMP and guests");
    let asids: Vec<u32> = running.guests.values().map(|g| g.asid).filter(|a| *a != 0).collect();
    let unique: BTreeSet<u32> = asids.iter().copied().collect();
    assert_eq!(asids.len(), unique.len(), "{step}: an ASID has two owners: {asids:?}");
    assert_eq!(rmp.state(RMP_BASE), Some(State::RmpTable), "{step}: the table");
    assert_eq!(rmp.state(RMP_END), Some(State::RmpTable), "{step}: the table");
}

#[test]
fn nothing_breaks() {
    let mut statuses = BTreeSet::new();
    for seed in 1..=16u64 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut lab = Lab::snp();
        for n in 0..1500 {
            let step = match random.below(10) {
                0 => {
                    lab.machine.wbinvd();
                    "WBINVD".to_owned()
                }
                1..=3 => {
                    let asid = 1 + random.below(2) as u32;
                    let update = random.pick(&[
                        RmpUpdate::default(),
                        RmpUpdate { assigned: true, immutable: true, ..RmpUpdate::default() },
                        RmpUpdate {
                            assigned: true,
                            immutable: true,
                            asid,
                            gpa: 0x8000,
                            large: false,
                        },
                    ]);
                    let page = random.page();
                    format!("RMPUPDATE {page:#x}: {:?}", lab.machine.rmp().rmpupdate(page, &update))
                }
                _ => {
                    let command = match random.below(2) {
                        0 => &COMMANDS[random.below(COMMANDS.len() as u64) as usize],
                        _ => command::find(Lab::id(random.pick(GUEST))).unwrap(),
                    };
                    // What ends a guest or the platform comes seldom, or nothing gets far.
                    let end = command.name.contains("SHUTDOWN") || command.name.contains("DECOMM");
                    if end && random.below(4) != 0 {
                        continue;
                    }
                    let running = lab.psp.snp.running.as_ref();
                    let guests: Vec<u64> =
                        running.map_or(Vec::new(), |r| r.guests.keys().copied().collect());
                    let buffer = random.buffer(command.name, command.len as usize, &guests);
                    let status = lab.run(command.name, &buffer).status;
                    statuses.insert((command.name, status.code()));
                    if lab.psp.snp.running.is_none() {
                        lab.prepare();
                    }
                    format!("{}: {status}", command.name)
                }
            };
            invariants(&lab, &format!("seed {seed}, step {n}: {step}"));
        }
    }
    // The sequences must get somewhere, or the test shows nothing.
    for name in [
        "SNP_GCTX_CREATE",
        "SNP_LAUNCH_START",
        "SNP_ACTIVATE",
        "SNP_LAUNCH_UPDATE",
        "SNP_DECOMMISSION",
        "SNP_SHUTDOWN_EX",
        "SNP_INIT_EX",
        "SNP_PAGE_RECLAIM",
    ] {
        assert!(statuses.contains(&(name, 0)), "{name} never succeeded");
        assert!(statuses.iter().any(|row| row.0 == name && row.1 != 0), "{name} never failed");
    }
}
