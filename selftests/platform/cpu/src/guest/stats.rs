// SPDX-License-Identifier: GPL-2.0
//! Entries, exits and #VCs, counted for the summary at exit.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::kept::Side;

/// Exit codes below this are counted each by itself; and so are those from [`HIGH`] on.
const LOW: usize = 0xa8;
const HIGH: u64 = 0x400;
const CODES: usize = LOW + 8;

/// Counters, for all CPUs together. Nothing depends on their order, so all accesses are relaxed.
pub struct Stats {
    entries: AtomicU64,
    ended: AtomicU64,
    in_delivery: AtomicU64,
    kept: [AtomicU64; 2],
    exits: [AtomicU64; CODES],
    vcs: [AtomicU64; CODES],
}

/// The counter of an exit code. There are no others than these.
fn counter(counters: &[AtomicU64; CODES], code: u64) -> Option<&AtomicU64> {
    let index = match code {
        HIGH.. => LOW + usize::try_from(code - HIGH).ok()?,
        _ => usize::try_from(code).ok().filter(|code| *code < LOW)?,
    };
    counters.get(index)
}

fn code(index: usize) -> usize {
    if index < LOW {
        index
    } else {
        index - LOW + HIGH as usize
    }
}

impl Stats {
    /// Nothing happened.
    pub const fn new() -> Stats {
        Stats {
            entries: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            in_delivery: AtomicU64::new(0),
            kept: [const { AtomicU64::new(0) }; 2],
            exits: [const { AtomicU64::new(0) }; CODES],
            vcs: [const { AtomicU64::new(0) }; CODES],
        }
    }

    /// A guest was entered.
    pub fn entered(&self) {
        self.entries.fetch_add(1, Relaxed);
    }

    /// This side has found its TLB again.
    pub fn kept(&self, side: Side) {
        self.kept[side as usize].fetch_add(1, Relaxed);
    }

    /// A guest was ended by the model.
    pub fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    /// The hypervisor got this exit, in the middle of the delivery of an event or not.
    pub fn exit(&self, code: u64, in_delivery: bool) {
        if in_delivery {
            self.in_delivery.fetch_add(1, Relaxed);
        }
        if let Some(counter) = counter(&self.exits, code) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// A guest got #VC with this error code.
    pub fn vc(&self, code: u64) {
        if let Some(counter) = counter(&self.vcs, code) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

/// One line per counter that is not zero: `count NAME[.CODE] NUMBER`.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("guest_entry", &self.entries),
            ("guest_ended", &self.ended),
            ("guest_exit_in_delivery", &self.in_delivery),
            ("host_tlb_kept", &self.kept[Side::Host as usize]),
            ("guest_tlb_kept", &self.kept[Side::Guest as usize]),
        ] {
            match counter.load(Relaxed) {
                0 => {}
                n => writeln!(f, "count {name} {n}")?,
            }
        }
        for (name, counters) in [("guest_exit", &self.exits), ("guest_vc", &self.vcs)] {
            for (index, counter) in counters.iter().enumerate() {
                match counter.load(Relaxed) {
                    0 => {}
                    n => writeln!(f, "count {name}.{:#x} {n}", code(index))?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_the_codes() {
        let stats = Stats::new();
        stats.entered();
        for code in [0x60, 0x403, 0x403, u64::MAX, 0x300] {
            stats.exit(code, code == 0x60);
        }
        stats.vc(0x72);
        stats.kept(Side::Host);
        stats.kept(Side::Host);
        stats.kept(Side::Guest);
        assert_eq!(
            stats.to_string(),
            "count guest_entry 1\ncount guest_exit_in_delivery 1\ncount host_tlb_kept 2\n\
             count guest_tlb_kept 1\ncount guest_exit.0x60 1\ncount guest_exit.0x403 2\n\
             count guest_vc.0x72 1\n"
        );
    }
}
