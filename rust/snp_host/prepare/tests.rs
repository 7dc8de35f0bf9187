// SPDX-License-Identifier: GPL-2.0

//! Machines in which one step after the other fails.

use super::*;
use Step::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Judge,
    ClearRmp,
    Flush,
    SetMfdm,
    ClearMfdm,
    SetSnpEn,
    ClearHsavePa,
}

/// Notes the steps; one of them fails.
struct Fake {
    snp_en: SnpEn,
    fails: Option<Step>,
    steps: Vec<Step>,
}

impl Fake {
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

    fn judge(&mut self) -> Result<SnpEn, Step> {
        self.note(Judge).map(|()| self.snp_en)
    }
    fn clear_rmp(&mut self) -> Result<(), Step> {
        self.note(ClearRmp)
    }
    fn flush_caches(&mut self) {
        self.steps.push(Flush);
    }
    fn set_mfdm(&mut self) -> Result<(), Step> {
        self.note(SetMfdm)
    }
    fn clear_mfdm(&mut self) {
        self.steps.push(ClearMfdm);
    }
    fn set_snp_en(&mut self) -> Result<(), Step> {
        self.note(SetSnpEn)
    }
    fn clear_hsave_pa(&mut self) -> Result<(), Step> {
        self.note(ClearHsavePa)
    }
}

fn steps(snp_en: SnpEn, fails: Option<Step>) -> Vec<Step> {
    let mut machine = Fake {
        snp_en,
        fails,
        steps: Vec::new(),
    };
    assert_eq!(run(&mut machine).err(), fails);
    machine.steps
}

#[test]
fn every_cpu_is_written_whatever_it_has() {
    let rounds = [Flush, SetMfdm, SetSnpEn, ClearHsavePa];
    assert_eq!(
        steps(SnpEn::Nowhere, None),
        [[Judge, ClearRmp].as_slice(), &rounds].concat()
    );
    for snp_en in [SnpEn::Somewhere, SnpEn::Everywhere] {
        assert_eq!(steps(snp_en, None), [[Judge].as_slice(), &rounds].concat());
    }
}

#[test]
fn the_rmp_is_cleared_only_while_no_cpu_enforces_it() {
    for fails in [None, Some(SetMfdm), Some(SetSnpEn), Some(ClearHsavePa)] {
        assert!(steps(SnpEn::Nowhere, fails).contains(&ClearRmp));
        assert!(!steps(SnpEn::Somewhere, fails).contains(&ClearRmp));
        assert!(!steps(SnpEn::Everywhere, fails).contains(&ClearRmp));
    }
}

#[test]
fn nothing_comes_after_a_step_that_failed() {
    assert_eq!(steps(SnpEn::Nowhere, Some(Judge)), [Judge]);
    assert_eq!(steps(SnpEn::Nowhere, Some(ClearRmp)), [Judge, ClearRmp]);
    assert_eq!(
        steps(SnpEn::Nowhere, Some(SetSnpEn)),
        [Judge, ClearRmp, Flush, SetMfdm, SetSnpEn]
    );
    assert_eq!(
        steps(SnpEn::Nowhere, Some(ClearHsavePa)),
        [Judge, ClearRmp, Flush, SetMfdm, SetSnpEn, ClearHsavePa]
    );
}

#[test]
fn mfdm_that_does_not_stick_is_taken_back_before_snp_en() {
    assert_eq!(
        steps(SnpEn::Nowhere, Some(SetMfdm)),
        [Judge, ClearRmp, Flush, SetMfdm, ClearMfdm]
    );
}
