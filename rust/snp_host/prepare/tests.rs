// SPDX-License-Identifier: GPL-2.0

//! Machines in which one step after the other fails.

use super::*;
use Step::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Preflight,
    ClearRmp,
    Wbinvd,
    On(Write),
}

const SET_MFDM: Step = On(Write::SetMfdm);
const CLEAR_MFDM: Step = On(Write::ClearMfdm);
const SET_SNP_EN: Step = On(Write::SetSnpEn);
const CLEAR_HSAVE_PA: Step = On(Write::ClearHsavePa);

/// Notes the steps; one of them fails.
struct Fake {
    snp_en: SnpEn,
    fails: Option<Step>,
    steps: Vec<Step>,
}

impl Fake {
    fn new(snp_en: SnpEn, fails: Option<Step>) -> Self {
        Self {
            snp_en,
            fails,
            steps: Vec::new(),
        }
    }

    fn note(&mut self, step: Step) -> Result<(), Step> {
        self.steps.push(step);
        match self.fails {
            Some(fails) if fails == step => Err(step),
            _ => Ok(()),
        }
    }
}

impl Machine for Fake {
    type Error = Step;

    fn preflight(&mut self) -> Result<SnpEn, Step> {
        self.note(Preflight).map(|()| self.snp_en)
    }
    fn clear_rmp(&mut self) -> Result<(), Step> {
        self.note(ClearRmp)
    }
    fn wbinvd_on_all_cpus(&mut self) {
        self.steps.push(Wbinvd);
    }
    fn on_each_cpu(&mut self, write: Write) -> Result<(), Step> {
        self.note(On(write))
    }
}

fn steps(snp_en: SnpEn, fails: Option<Step>) -> Vec<Step> {
    let mut machine = Fake::new(snp_en, fails);
    assert_eq!(snp_prepare(&mut machine).err(), fails);
    machine.steps
}

#[test]
fn every_cpu_is_written_whatever_it_has() {
    let rounds = [Wbinvd, SET_MFDM, SET_SNP_EN, CLEAR_HSAVE_PA];
    assert_eq!(
        steps(SnpEn::Nowhere, None),
        [[Preflight, ClearRmp].as_slice(), &rounds].concat()
    );
    for snp_en in [SnpEn::Somewhere, SnpEn::Everywhere] {
        assert_eq!(
            steps(snp_en, None),
            [[Preflight].as_slice(), &rounds].concat()
        );
    }
}

#[test]
fn the_rmp_is_cleared_only_while_no_cpu_enforces_it() {
    for fails in [None, Some(SET_MFDM), Some(SET_SNP_EN), Some(CLEAR_HSAVE_PA)] {
        assert!(steps(SnpEn::Nowhere, fails).contains(&ClearRmp));
        assert!(!steps(SnpEn::Somewhere, fails).contains(&ClearRmp));
        assert!(!steps(SnpEn::Everywhere, fails).contains(&ClearRmp));
    }
}

#[test]
fn nothing_comes_after_a_step_that_failed() {
    assert_eq!(steps(SnpEn::Nowhere, Some(Preflight)), [Preflight]);
    assert_eq!(steps(SnpEn::Nowhere, Some(ClearRmp)), [Preflight, ClearRmp]);
    assert_eq!(
        steps(SnpEn::Nowhere, Some(SET_SNP_EN)),
        [Preflight, ClearRmp, Wbinvd, SET_MFDM, SET_SNP_EN]
    );
    assert_eq!(
        steps(SnpEn::Nowhere, Some(CLEAR_HSAVE_PA)),
        [
            Preflight,
            ClearRmp,
            Wbinvd,
            SET_MFDM,
            SET_SNP_EN,
            CLEAR_HSAVE_PA
        ]
    );
}

#[test]
fn a_shutdown_takes_both_steps_back_and_says_what_failed() {
    for fails in [None, Some(ClearRmp), Some(CLEAR_MFDM)] {
        let mut machine = Fake::new(SnpEn::Nowhere, fails);
        let result = snp_shutdown(&mut machine);
        assert_eq!(result.err(), fails.filter(|step| *step == ClearRmp));
        assert_eq!(machine.steps, [ClearRmp, CLEAR_MFDM]);
    }
}

#[test]
fn mfdm_that_does_not_stick_is_taken_back_before_snp_en() {
    assert_eq!(
        steps(SnpEn::Nowhere, Some(SET_MFDM)),
        [Preflight, ClearRmp, Wbinvd, SET_MFDM, CLEAR_MFDM]
    );
}
