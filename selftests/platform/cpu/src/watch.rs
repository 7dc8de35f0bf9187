// SPDX-License-Identifier: GPL-2.0
//! What software must not do on an SNP host, and TCG lets it do. It is carried out, and reported.
//!
//! A processor checks a write against the RMP when it translates the address. So does the model: QEMU asks
//! for a translation when a page is not in a CPU's TLB, and what comes back is looked at here. A page that
//! may not be written enters the TLB as read-only, so that QEMU asks again when somebody writes. TLBs are
//! emptied when SNP_EN is set and, with `rmp_check=on`, when RMPUPDATE gives a page away. Between two of
//! these a CPU's writes to one page are seen once.
//!
//! Rules: public notes on the AMD64 manual, volume 2, section 15.36 ("RMP and VMPL access checks");
//! adjust_direct_map() in arch/x86/virt/svm/sev.c says what Linux makes of them.

use std::sync::atomic::Ordering::Acquire;

use link::{Report, SNP_EN};
use rmp::PAGES_PER_2M;

use crate::model::Model;

/// A translation that enters a CPU's TLB.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// Physical address of the 4 KiB that it is needed for.
    pub page: u64,
    /// It was needed for a write. Otherwise it only allows for one.
    pub write: bool,
    /// The page tables map 2 MiB or more at once.
    pub large: bool,
}

impl Model<'_> {
    fn snp_active(&self) -> bool {
        self.link.snp_active.load(Acquire) != 0
    }

    fn snp_en(&self, cpu: usize) -> bool {
        self.link.cpu[cpu].syscfg.load(Acquire) & SNP_EN != 0
    }

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

    /// Looks at a writable translation; false if it is to enter the TLB as read-only.
    pub fn translated(&self, cpu: usize, new: Translation, pc: impl FnOnce() -> u64) -> bool {
        let Some(mistake) = self.mistake(cpu, new) else {
            return true;
        };
        if new.write {
            self.report(cpu, mistake, || (pc(), new.page));
        }
        new.write
    }

    /// What a write through the translation is, if it is a mistake.
    fn mistake(&self, cpu: usize, new: Translation) -> Option<Report> {
        let geometry = self.rmp.geometry();
        if geometry.holds(new.page) {
            return Some(Report::RmpWrite);
        }
        // A CPU without SNP_EN checks nothing, which runs() reports.
        if !self.rmp_check || !self.snp_en(cpu) {
            return None;
        }
        let assigned = |pa| self.rmp.entry(pa).is_some_and(|entry| entry.assigned());
        if assigned(new.page) {
            return Some(Report::ForeignWrite);
        }
        let first = (new.page >> 12) / PAGES_PER_2M * PAGES_PER_2M;
        let mut region = first..first + PAGES_PER_2M;
        (new.large && region.any(|page| assigned(page << 12))).then_some(Report::LargeWrite)
    }

    fn report(&self, cpu: usize, report: Report, at: impl FnOnce() -> (u64, u64)) {
        let mut first = (0, 0);
        let new = self.link.report(cpu, report, || {
            first = at();
            first
        });
        if new {
            let (pc, address) = first;
            let name = report.name();
            self.log.note(format_args!("report {name} cpu {cpu} pc {pc:#x} address {address:#x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use rmp::RmpUpdate;

    use super::*;
    use crate::model::tests::{machine, BASE};

    const PAGE: u64 = 0x4000;

    fn reports(model: &Model<'_>, cpu: usize) -> [u64; Report::ALL.len()] {
        model.link.cpu[cpu].reports.each_ref().map(|report| report.count.load(Relaxed))
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
        assert_eq!((reports(&model, 0), reports(&model, 1)), ([0; 4], [2, 0, 0, 0]));
        assert_eq!(model.link.cpu[1].reports[0].pc.load(Relaxed), 0x1234);
    }

    /// What, SNP_EN, SNP active, rmp_check, translation, whether it stays writable, report.
    type Row = (&'static str, [bool; 3], Translation, bool, Option<Report>);

    #[test]
    fn writes_are_reported_by_their_page() {
        let at = |page, write, large| Translation { page, write, large };
        let (table, foreign, near, far) = (BASE, PAGE, PAGE + 0x1000, 0x20_0000 + 0x8_0000);
        let [on, off] = [[true, true, true], [true, true, false]];
        let rows: &[Row] = &[
            ("the table", off, at(table, true, false), true, Some(Report::RmpWrite)),
            ("the table, for reading", off, at(table, false, false), false, None),
            (
                "firmware is up",
                [false, true, false],
                at(table, true, false),
                true,
                Some(Report::RmpWrite),
            ),
            (
                "SNP_EN alone",
                [true, false, false],
                at(table, true, false),
                true,
                Some(Report::RmpWrite),
            ),
            ("a guest's page", on, at(foreign, true, false), true, Some(Report::ForeignWrite)),
            ("a guest's page, for reading", on, at(foreign, false, true), false, None),
            ("a guest's page, not looked at", off, at(foreign, true, false), true, None),
            ("its neighbour", on, at(near, true, false), true, None),
            ("its neighbour, 2 MiB", on, at(near, true, true), true, Some(Report::LargeWrite)),
            ("its neighbour, 2 MiB, for reading", on, at(near, false, true), false, None),
            ("another region", on, at(far, true, true), true, None),
            (
                "not checked without SNP_EN",
                [false, true, true],
                at(foreign, true, true),
                true,
                None,
            ),
        ];
        for (what, [snp_en, active, rmp_check], translation, writable, report) in rows {
            let mut model = machine(true);
            model.rmp_check = *rmp_check;
            let guest = RmpUpdate { assigned: true, asid: 5, ..RmpUpdate::default() };
            model.rmp.rmpupdate(PAGE, &guest);
            if !snp_en {
                model.link.cpu[1].syscfg.store(0, Relaxed);
            }
            model.link.snp_active.store(u32::from(*active), Relaxed);
            assert_eq!(model.watches(1), *snp_en || *active, "{what}");
            assert_eq!(model.translated(1, *translation, || 7), *writable, "{what}");
            let expected = Report::ALL.map(|kind| u64::from(Some(kind) == *report));
            assert_eq!(reports(&model, 1), expected, "{what}");
        }
    }
}
