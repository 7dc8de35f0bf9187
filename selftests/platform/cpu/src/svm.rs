// SPDX-License-Identifier: GPL-2.0
//! VMRUN: what is asked of every VMCB, and what becomes of SEV-ES and SNP guests if they are not to
//! run (`guest=off`; else [`crate::guest`]).
//!
//! TCG implements SVM, so a guest without SEV-ES runs as it does without this plugin. TCG would
//! also run an SEV-ES guest, with a register state that KVM never wrote: such a VMRUN is refused
//! in the way that processors refuse a VMCB they cannot run.
//!
//! VMCB layout: `struct vmcb_control_area` in arch/x86/include/asm/svm.h.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use link::{Report, SNP_EN};

use crate::cpu::{Cpu, Fault, Outcome};
use crate::model::Model;
use crate::ram::Ram;
use crate::variant::Checks;
use crate::watch::RMP_FAULT;

const EXIT_CODE: u64 = 0x70;
const EXIT_INFO_1: u64 = 0x78;
const EXIT_INFO_2: u64 = 0x80;
const EXIT_INT_INFO: u64 = 0x88;
const MISC_CTL: u64 = 0x90;
/// Bit 2 of the quadword at 90h: SEV-ES.
const SEV_ES: u64 = 1 << 2;
/// VMEXIT_NPF.
const VMEXIT_NPF: u64 = 0x400;
/// VMEXIT_INVALID, "invalid guest state in VMCB".
const VMEXIT_INVALID: u64 = u64::MAX;

/// What VMRUN comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmrun {
    /// TCG runs the guest, or raises the fault.
    Native,
    /// The VMCB holds a VMEXIT_INVALID; go on after VMRUN.
    NotModelled,
}

/// Whether this is the VMCB of a guest with encrypted registers.
pub fn encrypted(ram: &Ram, vmcb: u64) -> bool {
    let control = if vmcb % 4096 == 0 { ram.word(vmcb + MISC_CTL) } else { None };
    control.is_some_and(|control| control.load(Relaxed) & SEV_ES != 0)
}

/// VMRUN with RAX = `vmcb`.
pub fn vmrun(ram: &Ram, vmcb: u64) -> Vmrun {
    if !encrypted(ram, vmcb) {
        return Vmrun::Native;
    }
    refuse(ram, vmcb, VMEXIT_INVALID);
    Vmrun::NotModelled
}

impl Model<'_> {
    /// The pages that VMRUN and #VMEXIT write to must be the host's: the VMCB, else #GP (notes),
    /// and the one for the host's state. What a processor does about the latter no public source
    /// says (it is checked when VM_HSAVE_PA is written), so it is reported, and the guest runs.
    pub fn refuses_vmcb(&self, cpu: &impl Cpu, vmcb: u64) -> Option<Outcome> {
        let here = self.link_cpu(cpu);
        let checked = self.checks != Checks::Off && here.syscfg.load(Acquire) & SNP_EN != 0;
        let foreign = |pa| checked && self.assigned(pa);
        let area = here.hsave_pa.load(Relaxed);
        if area == 0 || foreign(area) {
            self.report(cpu.index(), Report::HostArea, || (cpu.pc(), area));
        }
        if !foreign(vmcb) {
            return None;
        }
        self.report(cpu.index(), Report::ForeignVmcb, || (cpu.pc(), vmcb));
        (self.checks == Checks::Enforce).then(|| self.fault(Fault::Vmcb))
    }

    /// VMRUN has accepted these pages; there may be no VMSA (0). On processors of Zen 3 and Zen 4 a
    /// page in use that starts 2 MiB keeps the RMP from changing for all of these, which
    /// `snp_safe_alloc_page` of arch/x86/kvm/svm/sev.c avoids.
    pub fn enters(&self, cpu: usize, vmcb: u64, vmsa: u64) {
        const ALIGNMENT: u64 = 2 << 20;
        let aligned = [vmcb, vmsa].into_iter().find(|page| *page != 0 && page % ALIGNMENT == 0);
        let snp = self.link.cpu[cpu].syscfg.load(Acquire) & SNP_EN != 0;
        if let (Some(page), true) = (aligned, snp && self.checks != Checks::Off) {
            self.report(cpu, Report::AlignedInUse, || (0, page));
        }
        self.activity[cpu].run(vmcb, vmsa);
    }

    /// #VMEXIT has given them free.
    pub fn leaves(&self, cpu: usize) {
        self.activity[cpu].run(0, 0);
    }

    /// Whether a guest that runs on a CPU, except for `but`, has its VMCB or VMSA in these pages.
    pub fn in_use(&self, pages: Range<u64>, but: Option<usize>) -> bool {
        let mut cpus = self.activity.iter().enumerate();
        cpus.any(|(cpu, activity)| Some(cpu) != but && activity.uses(&pages))
    }

    /// TCG has written what the hypervisor is to be told. Of the RMP it knows nothing.
    pub fn complete_nested_fault(&self, cpu: usize) {
        let activity = &self.activity[cpu];
        let field = |offset| self.ram.word(activity.vmcb() + offset);
        let (Some(code), Some(info_1)) = (field(EXIT_CODE), field(EXIT_INFO_1)) else { return };
        if activity.take_nested_refused() && code.load(Relaxed) == VMEXIT_NPF {
            info_1.fetch_or(RMP_FAULT.into(), Relaxed);
        }
    }
}

/// Fills in the VMCB as a processor does that refuses to run it.
pub fn refuse(ram: &Ram, vmcb: u64, code: u64) {
    // KVM looks at the interrupt information on every exit: none was being delivered.
    for (field, value) in
        [(EXIT_INFO_1, 0), (EXIT_INFO_2, 0), (EXIT_INT_INFO, 0), (EXIT_CODE, code)]
    {
        if let Some(word) = ram.word(vmcb + field) {
            word.store(value, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VMCB: u64 = 0x3000;

    fn prepared(misc_ctl: u64) -> Ram {
        let ram = Ram::for_test(0x10_0000, 0x10_0000);
        ram.word(VMCB + MISC_CTL).unwrap().store(misc_ctl, Relaxed);
        ram.word(VMCB + EXIT_INT_INFO).unwrap().store(0x8000_0b0e, Relaxed);
        ram
    }

    fn field(ram: &Ram, offset: u64) -> u64 {
        ram.word(VMCB + offset).unwrap().load(Relaxed)
    }

    #[test]
    fn guests_without_encrypted_state_are_tcgs() {
        for control in [0, 1, 3] {
            let ram = prepared(control);
            assert_eq!(vmrun(&ram, VMCB), Vmrun::Native, "misc_ctl {control}");
            assert_eq!(field(&ram, EXIT_CODE), 0, "misc_ctl {control}");
        }
    }

    #[test]
    fn guests_with_encrypted_state_are_refused_cleanly() {
        let ram = prepared(7);
        assert_eq!(vmrun(&ram, VMCB), Vmrun::NotModelled);
        assert_eq!(field(&ram, EXIT_CODE), u64::MAX);
        assert_eq!(field(&ram, EXIT_INT_INFO), 0);
    }

    #[test]
    fn bad_addresses_are_left_to_tcgs_checks() {
        let ram = prepared(7);
        for address in [VMCB + 8, 0x10_0000, u64::MAX - 4095] {
            assert_eq!(vmrun(&ram, address), Vmrun::Native, "{address:#x}");
        }
    }
}
