// SPDX-License-Identifier: GPL-2.0
//! What caches may hold. TCG has none: this is book-keeping of who would have to write back and
//! forget what, for the mistakes that a processor answers with corruption alone.
//!
//! Software clears the RMP, and then firmware fills it in. A CPU that has not executed WBINVD in
//! between may write its old lines over firmware's, or see them instead (`snp_prepare` in
//! arch/x86/virt/svm/sev.c and `__sev_snp_init_locked` in sev-dev.c do it on all CPUs). What is
//! owed between two owners of an ASID is firmware's to ask for (the `psp` crate), by the counts of
//! WBINVDs. WBNOINVD pays none of that: it leaves the lines.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use link::Report;

use crate::model::Model;

impl Model<'_> {
    /// A CPU gets a translation to write to this page. Before SNP is active nothing keeps it from
    /// writing to the RMP.
    pub fn stores_to(&self, cpu: usize, page: u64) {
        if !self.snp_active() && self.rmp.geometry().holds(page) {
            self.link.rmp_written.fetch_add(1, AcqRel);
            self.activity[cpu].set_rmp_writable();
        }
    }

    /// A CPU executes WBINVD. True if it may write to the RMP by what is in its TLB, which must be
    /// emptied so that it is noticed.
    pub fn writes_back(&self, cpu: usize) -> bool {
        let here = &self.link.cpu[cpu];
        here.rmp_flushed.store(self.link.rmp_written.load(Acquire), Release);
        here.wbinvd.fetch_add(1, Release);
        self.activity[cpu].take_rmp_writable()
    }

    /// A CPU whose caches are empty.
    pub fn has_empty_caches(&self, cpu: &link::Cpu) {
        cpu.rmp_flushed.store(self.link.rmp_written.load(Acquire), Release);
    }

    /// Firmware has initialised the RMP: reports every CPU whose caches know it as it was before.
    pub fn judge_caches(&self) {
        let written = self.link.rmp_written.load(Acquire);
        for (index, cpu) in self.link.cpu.iter().enumerate() {
            let present = cpu.present.load(Acquire) != 0;
            if present && cpu.rmp_flushed.swap(written, AcqRel) != written {
                self.report(index, Report::StaleCache, || (0, self.rmp.geometry().base()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::testing::{machine, BASE};

    fn stale(model: &Model<'_>) -> [u64; 2] {
        [0, 1]
            .map(|cpu| model.link.cpu[cpu].reports[Report::StaleCache as usize].count.load(Relaxed))
    }

    /// SNP_INIT, as the model notices it.
    fn initialise(model: &Model<'_>) {
        model.link.pages_taken.fetch_add(1, Relaxed);
        assert!(model.pages_were_taken());
    }

    #[test]
    fn every_cpu_must_write_back_between_the_clearing_of_the_rmp_and_snp_init() {
        let rows: [(&str, &[usize], [u64; 2]); 4] = [
            ("nobody", &[], [1, 1]),
            ("the one that has written", &[0], [0, 1]),
            ("the other", &[1], [1, 0]),
            ("all", &[1, 0], [0, 0]),
        ];
        for (who, cpus, expected) in rows {
            let model = machine(false);
            model.stores_to(0, BASE + 0x4000);
            for cpu in cpus {
                assert_eq!(model.writes_back(*cpu), *cpu == 0, "{who}");
            }
            initialise(&model);
            assert_eq!(stale(&model), expected, "{who}");
            initialise(&model);
            assert_eq!(stale(&model), expected, "{who}: it is done");
        }
    }

    #[test]
    fn a_write_behind_the_write_back_counts() {
        let model = machine(false);
        for page in [BASE, BASE + 0x1000] {
            model.stores_to(0, page);
            model.writes_back(0);
            model.writes_back(1);
        }
        model.stores_to(1, BASE);
        model.writes_back(1);
        initialise(&model);
        assert_eq!(stale(&model), [1, 0]);
    }

    #[test]
    fn writes_elsewhere_or_without_any_owe_nothing() {
        let model = machine(false);
        model.stores_to(0, 0x4000);
        initialise(&model);
        assert_eq!(stale(&model), [0, 0]);
    }

    /// It was not there when others wrote; a reset empties caches as well.
    #[test]
    fn a_cpu_that_comes_later_owes_nothing() {
        let model = machine(false);
        model.stores_to(0, BASE);
        model.writes_back(0);
        model.add_cpu(1);
        initialise(&model);
        assert_eq!(stale(&model), [0, 0]);
        model.stores_to(0, BASE);
        model.reset();
        model.reset();
        initialise(&model);
        assert_eq!(stale(&model), [0, 0]);
    }
}
