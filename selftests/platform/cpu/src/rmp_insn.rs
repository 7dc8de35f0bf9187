// SPDX-License-Identifier: GPL-2.0
//! RMPUPDATE, PSMASH and RMPREAD as instructions: who may execute them, where operands lie. What
//! they do to the table is the `rmp` crate's.

use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use link::SNP_EN;
use rmp::{Code, RmpUpdate};

use crate::cpu::{Cpu, Fault, Outcome, Reg};
use crate::model::Model;
use crate::variant::Checks;

/// EFER bit 10: long mode is active.
const EFER_LMA: u64 = 1 << 10;

/// Without SNP or outside long mode: #UD, which TCG, not knowing the opcode, raises by itself.
/// Otherwise #GP(0) unless CPL is 0. That #UD has precedence is a model choice.
fn gate(model: &Model, cpu: &impl Cpu) -> Option<Outcome> {
    let snp = model.link_cpu(cpu).syscfg.load(Acquire) & SNP_EN != 0;
    if !snp || cpu.get(Reg::Efer) & EFER_LMA == 0 {
        return Some(Outcome::Native);
    }
    (cpu.cpl() != 0).then(|| model.fault(Fault::Privilege))
}

fn done(code: u32) -> Outcome {
    Outcome::retire([(Reg::Rax, code.into())])
}

impl Model<'_> {
    /// RMPUPDATE or PSMASH has answered this. What guests have left in TLBs is not used any more
    /// (see [`crate::kept`]); those that run are looked for after it, so each guest is of one kind
    /// or the other.
    fn rmp_changed(&self, code: Code) {
        if code == Code::Success {
            self.rmp_changes.fetch_add(1, SeqCst);
        }
    }
}

/// RAX: address of the page. RCX: address of the new entry.
pub fn rmpupdate(model: &Model, cpu: &impl Cpu) -> Outcome {
    if let Some(outcome) = gate(model, cpu) {
        return outcome;
    }
    let mut bytes = [0; 16];
    if !cpu.read_virtual(cpu.get(Reg::Rcx), &mut bytes) {
        return model.fault(Fault::Operand);
    }
    let pa = cpu.get(Reg::Rax);
    let code = match RmpUpdate::from_bytes(&bytes) {
        // A refusal that a test has asked for.
        Some(_) if model.link.no_rmpupdate.holds(pa) => Code::FailPermission,
        // Pages of a running VMSA are in use until #VMEXIT.
        Some(new) if model.in_use(pa..pa.saturating_add(new.bytes()), None) => Code::FailInUse,
        Some(new) => {
            // The same, for the next page: its entry becomes immutable, which RMPUPDATE refuses.
            if new.assigned && model.link.take_refusal() {
                model.rmp.fix(pa);
            }
            let code = model.rmp.rmpupdate(pa, &new);
            model.rmp_changed(code);
            if model.checks != Checks::Off && code == Code::Success && new.assigned {
                model.given_away(cpu, pa, new.bytes());
            }
            code
        }
        None => Code::FailInput,
    };
    model.link_cpu(cpu).rmpupdate.fetch_add(1, Release);
    model.stats.rmpupdate(code);
    done(code as u32)
}

/// RAX: address of the 2 MiB page.
pub fn psmash(model: &Model, cpu: &impl Cpu) -> Outcome {
    if let Some(outcome) = gate(model, cpu) {
        return outcome;
    }
    let pa = cpu.get(Reg::Rax);
    let code =
        if model.link.no_psmash.holds(pa) { Code::FailPermission } else { model.rmp.psmash(pa) };
    model.rmp_changed(code);
    model.link_cpu(cpu).psmash.fetch_add(1, Release);
    model.stats.psmash(code);
    done(code as u32)
}

/// RAX: address of the page. RCX: where the entry goes.
pub fn rmpread(model: &Model, cpu: &impl Cpu) -> Outcome {
    if !model.rmpread {
        return Outcome::Native;
    }
    if let Some(outcome) = gate(model, cpu) {
        return outcome;
    }
    let code = match model.rmp.rmpread(cpu.get(Reg::Rax)) {
        Ok(entry) if !cpu.write_virtual(cpu.get(Reg::Rcx), &entry.to_bytes()) => {
            return model.fault(Fault::Operand);
        }
        Ok(_) => Code::Success,
        Err(code) => code,
    };
    model.stats.rmpread(code);
    done(code as u32)
}
