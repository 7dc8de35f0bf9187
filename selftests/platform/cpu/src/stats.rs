// SPDX-License-Identifier: GPL-2.0
//! What was emulated, counted for the summary at exit.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rmp::Code;

use crate::cpu::Fault;
use crate::msr::{Msr, Written};

const MSRS: usize = Msr::ALL.len();
const CODES: [&str; 5] = ["success", "fail_input", "fail_permission", "fail_inuse", "fail_overlap"];

/// Counters, for all CPUs together. Nothing depends on their order, so all accesses are relaxed.
#[derive(Default)]
pub struct Stats {
    cpuid: AtomicU64,
    wbinvd: AtomicU64,
    wbnoinvd: AtomicU64,
    vmrun: AtomicU64,
    vmrun_not_modelled: AtomicU64,
    resets: AtomicU64,
    breakpoints_gone: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    rdmsr: [AtomicU64; MSRS],
    wrmsr: [AtomicU64; MSRS],
    wrmsr_ignored: [AtomicU64; MSRS],
    wrmsr_fault: [AtomicU64; MSRS],
    rmpupdate: [AtomicU64; CODES.len()],
    psmash: [AtomicU64; CODES.len()],
    rmpread: [AtomicU64; CODES.len()],
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Relaxed)
}

impl Stats {
    /// A CPUID leaf was answered.
    pub fn cpuid(&self) {
        count(&self.cpuid);
    }

    /// Caches were written back and emptied.
    pub fn wbinvd(&self) {
        count(&self.wbinvd);
    }

    /// Caches were written back.
    pub fn wbnoinvd(&self) {
        count(&self.wbnoinvd);
    }

    /// A guest was left to TCG.
    pub fn vmrun(&self) {
        count(&self.vmrun);
    }

    /// An SEV-ES guest was refused; true the first time.
    pub fn vmrun_not_modelled(&self) -> bool {
        count(&self.vmrun_not_modelled) == 0
    }

    /// The machine was reset; true at power-on.
    pub fn reset(&self) -> bool {
        count(&self.resets) == 0
    }

    /// QEMU was about to execute a breakpoint that is gone.
    pub fn breakpoint_gone(&self) {
        count(&self.breakpoints_gone);
    }

    /// An instruction faulted; true the first time for this reason.
    pub fn fault(&self, fault: Fault) -> bool {
        count(&self.faults[fault as usize]) == 0
    }

    /// RDMSR was answered.
    pub fn rdmsr(&self, msr: Msr) {
        count(&self.rdmsr[msr as usize]);
    }

    /// WRMSR came to this.
    pub fn wrmsr(&self, msr: Msr, written: Written) {
        let counters = match written {
            Written::Native | Written::Done => &self.wrmsr,
            Written::Ignored => &self.wrmsr_ignored,
            Written::Fault => &self.wrmsr_fault,
        };
        count(&counters[msr as usize]);
    }

    /// RMPUPDATE left this code.
    pub fn rmpupdate(&self, code: Code) {
        count(&self.rmpupdate[code as usize]);
    }

    /// PSMASH left this code.
    pub fn psmash(&self, code: Code) {
        count(&self.psmash[code as usize]);
    }

    /// RMPREAD left this code.
    pub fn rmpread(&self, code: Code) {
        count(&self.rmpread[code as usize]);
    }
}

/// One line per counter that is not zero: `count NAME[.DETAIL] NUMBER`.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line =
            |name: &str, detail: &str, counter: &AtomicU64| match (counter.load(Relaxed), detail) {
                (0, _) => Ok(()),
                (n, "") => writeln!(f, "count {name} {n}"),
                (n, _) => writeln!(f, "count {name}.{detail} {n}"),
            };
        line("reset", "", &self.resets)?;
        line("breakpoint_gone", "", &self.breakpoints_gone)?;
        line("cpuid", "", &self.cpuid)?;
        for (msr, _, name) in Msr::ALL {
            line("rdmsr", name, &self.rdmsr[msr as usize])?;
            line("wrmsr", name, &self.wrmsr[msr as usize])?;
            line("wrmsr_ignored", name, &self.wrmsr_ignored[msr as usize])?;
            line("wrmsr_fault", name, &self.wrmsr_fault[msr as usize])?;
        }
        for (n, code) in CODES.iter().enumerate() {
            line("rmpupdate", code, &self.rmpupdate[n])?;
            line("psmash", code, &self.psmash[n])?;
            line("rmpread", code, &self.rmpread[n])?;
        }
        line("wbinvd", "", &self.wbinvd)?;
        line("wbnoinvd", "", &self.wbnoinvd)?;
        line("vmrun", "", &self.vmrun)?;
        line("vmrun_not_modelled", "", &self.vmrun_not_modelled)?;
        for fault in Fault::ALL {
            line("fault", fault.name(), &self.faults[fault as usize])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_happened() {
        let stats = Stats::default();
        assert!(stats.reset());
        assert!(!stats.reset());
        stats.rdmsr(Msr::Syscfg);
        stats.wrmsr(Msr::Syscfg, Written::Ignored);
        stats.rmpupdate(Code::FailOverlap);
        assert!(stats.vmrun_not_modelled());
        assert!(!stats.vmrun_not_modelled());
        assert!(stats.fault(Fault::Operand));
        assert_eq!(
            stats.to_string(),
            "count reset 2\ncount rdmsr.SYSCFG 1\ncount wrmsr_ignored.SYSCFG 1\n\
             count rmpupdate.fail_overlap 1\ncount vmrun_not_modelled 2\ncount fault.operand 1\n"
        );
    }

    #[test]
    fn codes_are_numbered_in_order() {
        let codes = [
            Code::Success,
            Code::FailInput,
            Code::FailPermission,
            Code::FailInUse,
            Code::FailOverlap,
        ];
        for (n, code) in codes.into_iter().enumerate() {
            assert_eq!(code as usize, n);
        }
    }
}
