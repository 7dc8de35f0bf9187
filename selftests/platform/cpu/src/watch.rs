// SPDX-License-Identifier: GPL-2.0
//! What the RMP has against a translation, and what becomes of it.
//!
//! A processor checks writes of a host, and of guests without SNP, against the RMP when it
//! translates the address: the page must be the host's, a mapping of 2 MiB or more must not cover
//! any other, and so must the pages in which the processor finds page tables. So does the model:
//! QEMU asks for a translation when a page is not in a CPU's TLB, and what comes back is looked at
//! here. A page that may not be written enters the TLB as read-only, so that QEMU asks again when
//! somebody writes. TLBs are emptied when SNP_EN is set and when firmware gives pages away
//! (SNP_INIT); when RMPUPDATE does, they lose what [`crate::writable`] knows of.
//!
//! What breaks a rule is reported, and with `rmp=enforce` refused: #PF, for guests #VMEXIT(NPF),
//! with the RMP bit. With `rmp=report` it is carried out; then a CPU's writes to one page are seen
//! once between two flushes.
//!
//! Rules: public notes on the AMD64 manual, volume 2, section 15.36 ("RMP and VMPL access checks");
//! adjust_direct_map() in arch/x86/virt/svm/sev.c and X86_PF_RMP in arch/x86/mm/fault.c say what
//! Linux makes of them.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use link::Report;

use crate::cpu::Cpu;
use crate::model::Model;
use crate::variant::Checks;
use crate::writable::Held;

/// X86_PF_RMP, in a page fault's error code and in a nested page fault's.
pub const RMP_FAULT: u32 = 1 << 31;

/// Who translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The host.
    Host,
    /// A guest without SNP, by the host's nested tables.
    Guest,
}

/// What a translation is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Not for a write, but it would allow for one.
    Read,
    /// A write.
    Write,
    /// To find the next page table, or the entry, in this page.
    Table,
}

/// A translation that enters a CPU's TLB.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// Physical address of the 4 KiB that it is needed for.
    pub page: u64,
    /// What it is needed for.
    pub need: Need,
    /// The page tables map 2 MiB or more at once.
    pub large: bool,
    /// Whose tables.
    pub who: Who,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Pass,
    /// It must not allow for writing.
    ReadOnly,
    /// Neither, and the access is a fault.
    Refuse,
}

impl Model<'_> {
    /// A CPU executes code. While SNP is active that is a mistake without SNP_EN. `pc` says where.
    pub fn runs(&self, cpu: usize, pc: impl FnOnce() -> u64) {
        // SNP_EN first: when firmware ends SNP, it is cleared last.
        if !self.snp_en(cpu) && self.snp_active() {
            self.report(cpu, Report::NoSnpEn, || (pc(), 0));
        }
    }

    /// Whether writable translations of a CPU are to be looked at.
    pub fn watches(&self, cpu: usize) -> bool {
        self.snp_en(cpu) || self.snp_active()
    }

    /// Firmware has given pages away since this was asked last: what is in TLBs was not looked at.
    pub fn pages_were_taken(&self) -> bool {
        let taken = self.link.pages_taken.load(Acquire);
        let noticed = taken != self.pages_taken.load(Relaxed)
            && self.pages_taken.swap(taken, Relaxed) != taken;
        if noticed {
            self.judge_caches();
        }
        noticed
    }

    /// Looks at a writable translation, or at one of a page table.
    pub fn translated(&self, cpu: usize, new: Translation, pc: impl FnOnce() -> u64) -> Verdict {
        let Some(mistake) = self.mistake(cpu, new) else {
            return Verdict::Pass;
        };
        if new.need == Need::Read {
            return Verdict::ReadOnly;
        }
        self.report(cpu, mistake, || (pc(), new.page));
        // Until SNP_INIT the RMP's own pages are the host's. Writing them with SNP_EN set corrupts
        // what is enforced.
        let allowed = mistake == Report::RmpWrite && !self.assigned(new.page);
        if self.checks == Checks::Enforce && self.snp_en(cpu) && !allowed {
            Verdict::Refuse
        } else {
            Verdict::Pass
        }
    }

    /// RMPUPDATE on `cpu` has given pages away: whatever writes to them has to ask again.
    pub fn given_away(&self, cpu: &impl Cpu, pa: u64, bytes: u64) {
        match self.writable.take(&self.ram, pa, bytes) {
            Held::Nowhere => {}
            Held::By(alias) if alias.cpu == cpu.index() => cpu.protect(alias, pa),
            _ => return cpu.flush_all_translations(),
        }
        for (other, activity) in self.activity.iter().enumerate() {
            if other != cpu.index() && activity.runs_guest() {
                cpu.flush_translations_of(other);
            }
        }
    }

    /// Whether a page table must not be in this page.
    pub fn foreign_table(&self, cpu: usize, page: u64) -> bool {
        self.mistake(cpu, Translation { page, need: Need::Table, large: false, who: Who::Host })
            .is_some()
    }

    /// What the access that the translation is for is, if it is a mistake; for [`Need::Read`], what
    /// a write would be.
    fn mistake(&self, cpu: usize, new: Translation) -> Option<Report> {
        let host_data = new.who == Who::Host && new.need != Need::Table;
        if host_data && self.rmp.geometry().holds(new.page) {
            return Some(Report::RmpWrite);
        }
        // A CPU without SNP_EN checks nothing, which runs() reports.
        if self.checks == Checks::Off || !self.snp_en(cpu) {
            return None;
        }
        let assigned = self.assigned(new.page);
        let covers = new.large && self.rmp.region_in_use(new.page);
        if !assigned && !covers {
            return None;
        }
        Some(match (new.who, new.need, assigned) {
            (Who::Guest, _, _) => Report::GuestWrite,
            (Who::Host, Need::Table, _) => Report::TableWalk,
            (Who::Host, _, true) => Report::ForeignWrite,
            (Who::Host, _, false) => Report::LargeWrite,
        })
    }
}

#[cfg(test)]
mod tests {
    use rmp::RmpUpdate;

    use super::*;
    use crate::testing::{machine, BASE};

    const PAGE: u64 = 0x4000;
    const GUEST: RmpUpdate =
        RmpUpdate { gpa: 0, assigned: true, large: false, immutable: false, asid: 5 };

    /// What has been reported of a CPU, and how often.
    fn reports(model: &Model<'_>, cpu: usize) -> Vec<(Report, u64)> {
        let seen = &model.link.cpu[cpu].reports;
        let each = Report::ALL.map(|kind| (kind, seen[kind as usize].count.load(Relaxed)));
        each.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    #[test]
    fn a_cpu_without_snp_en_is_reported_while_snp_is_active() {
        let model = machine(true);
        model.link.cpu[1].syscfg.store(0, Relaxed);
        model.runs(1, || unreachable!("SNP is not active"));
        model.link.snp_active.store(1, Relaxed);
        model.runs(0, || unreachable!("CPU 0 has SNP_EN"));
        model.runs(1, || 0x1234);
        model.runs(1, || unreachable!("only the first time"));
        assert_eq!(reports(&model, 0), []);
        assert_eq!(reports(&model, 1), [(Report::NoSnpEn, 2)]);
        assert_eq!(model.link.cpu[1].reports[0].pc.load(Relaxed), 0x1234);
    }

    /// What, whether the CPU has SNP_EN, translation, report, and what becomes of it with
    /// `enforce`, `report` and `off`.
    type Row = (&'static str, bool, Translation, Option<Report>, [Verdict; 3]);

    #[test]
    fn what_the_rmp_forbids_is_refused_reported_or_let_through() {
        use Need::{Read, Table, Write};
        use Verdict::{Pass, ReadOnly, Refuse};
        use Who::{Guest, Host};
        let at = |page, need, large, who| Translation { page, need, large, who };
        let (foreign, near, far) = (PAGE, PAGE + 0x1000, 0x38_0000);
        let rows: &[Row] = &[
            (
                "a guest's page",
                true,
                at(foreign, Write, false, Host),
                Some(Report::ForeignWrite),
                [Refuse, Pass, Pass],
            ),
            (
                "a guest's page, for reading",
                true,
                at(foreign, Read, true, Host),
                None,
                [ReadOnly, ReadOnly, Pass],
            ),
            ("its neighbour", true, at(near, Write, false, Host), None, [Pass; 3]),
            (
                "its neighbour, 2 MiB",
                true,
                at(near, Write, true, Host),
                Some(Report::LargeWrite),
                [Refuse, Pass, Pass],
            ),
            (
                "its neighbour, 2 MiB, for reading",
                true,
                at(near, Read, true, Host),
                None,
                [ReadOnly, ReadOnly, Pass],
            ),
            (
                "a table in it",
                true,
                at(foreign, Table, false, Host),
                Some(Report::TableWalk),
                [Refuse, Pass, Pass],
            ),
            ("a table elsewhere", true, at(near, Table, false, Host), None, [Pass; 3]),
            (
                "a plain guest's write",
                true,
                at(foreign, Write, false, Guest),
                Some(Report::GuestWrite),
                [Refuse, Pass, Pass],
            ),
            (
                "a plain guest's write, 2 MiB",
                true,
                at(near, Write, true, Guest),
                Some(Report::GuestWrite),
                [Refuse, Pass, Pass],
            ),
            (
                "a plain guest's nested table",
                true,
                at(foreign, Table, false, Guest),
                Some(Report::GuestWrite),
                [Refuse, Pass, Pass],
            ),
            ("another region", true, at(far, Write, true, Host), None, [Pass; 3]),
            ("no SNP_EN", false, at(foreign, Write, true, Host), None, [Pass; 3]),
        ];
        let checks = [Checks::Enforce, Checks::Report, Checks::Off];
        for (what, snp_en, new, report, verdicts) in rows {
            for (checks, verdict) in checks.into_iter().zip(verdicts) {
                let mut model = machine(true);
                model.checks = checks;
                model.rmp.rmpupdate(PAGE, &GUEST);
                if !snp_en {
                    model.link.cpu[1].syscfg.store(0, Relaxed);
                }
                assert_eq!(model.translated(1, *new, || 7), *verdict, "{what}, {checks:?}");
                let said = report.filter(|_| checks != Checks::Off);
                let expected: Vec<_> = said.into_iter().map(|kind| (kind, 1)).collect();
                assert_eq!(reports(&model, 1), expected, "{what}, {checks:?}");
            }
        }
    }

    /// The table is the host's until SNP_INIT, but whoever has set SNP_EN should be done with it.
    #[test]
    fn writes_to_the_table_are_reported_always_and_refused_once_it_is_assigned() {
        use Checks::{Enforce, Off};
        let write = |need| Translation { page: BASE, need, large: false, who: Who::Host };
        let rows = [
            ("SNP_EN alone", [true, false], Enforce, Verdict::Pass),
            ("SNP is up", [true, true], Enforce, Verdict::Refuse),
            ("SNP is up, off", [true, true], Off, Verdict::Pass),
            ("firmware is up, this CPU is not", [false, true], Enforce, Verdict::Pass),
        ];
        for (what, [snp_en, active], checks, verdict) in rows {
            let mut model = machine(true);
            model.checks = checks;
            if active {
                model.rmp.initialise();
                model.link.snp_active.store(1, Relaxed);
            }
            if !snp_en {
                model.link.cpu[1].syscfg.store(0, Relaxed);
            }
            assert!(model.watches(1), "{what}");
            assert_eq!(model.translated(1, write(Need::Read), || 7), Verdict::ReadOnly, "{what}");
            assert_eq!(reports(&model, 1), [], "{what}");
            assert_eq!(model.translated(1, write(Need::Write), || 7), verdict, "{what}");
            assert_eq!(reports(&model, 1), [(Report::RmpWrite, 1)], "{what}");
        }
        let idle = machine(false);
        assert!(!idle.watches(1));
    }

    #[test]
    fn pages_that_firmware_takes_are_noticed_once() {
        let model = machine(true);
        assert!(!model.pages_were_taken());
        model.link.pages_taken.fetch_add(1, Relaxed);
        assert!(model.pages_were_taken());
        assert!(!model.pages_were_taken());
    }
}
