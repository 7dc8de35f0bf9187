// SPDX-License-Identifier: GPL-2.0
//! Instructions inside a guest, above all an SEV-ES or SNP one, that TCG does not know, or knows
//! too little of.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rmp::{Adjust, Denied, Guest, GuestCode, PageSize, Place};

use super::cpu::Running;
use super::layout::{exit, fault, vmcb};
use super::walk::{Lost, Nested, Paging};
use super::{Action, Layer, Wrong, VECTOR_VC};
use crate::cpu::{Cpu, Reg};
use crate::insn::Kind;
use crate::model::Model;

const MSR_EFER: u32 = 0xc000_0080;
const MSR_GHCB: u32 = 0xc001_0130;
const MSR_SEV_STATUS: u32 = 0xc001_0131;
/// SEV_STATUS: SEV.
const STATUS_SEV: u64 = 1;
/// SEV_STATUS: SEV and SEV-ES; the VMSA's features follow.
const STATUS_SEV_ES: u64 = 3;
const STATUS_FEATURES: u32 = 2;

/// RFLAGS.
const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const ZF: u64 = 1 << 6;

/// A CPU inside a guest.
pub trait Inside: Cpu {
    /// A general purpose register by number.
    fn gpr(&self, number: u8) -> u64;
    /// CR0, CR4 or CR8.
    fn control(&self, number: u8) -> u64;
    /// CR8 is the virtual interrupt controller's, and writing it is not intercepted.
    fn writes_virtual_tpr(&self) -> bool;
    /// RSP.
    fn set_rsp(&self, value: u64);
    /// RIP, between blocks.
    fn rip(&self) -> u64;
    /// CR2.
    fn set_cr2(&self, value: u64);
    /// Moves RIP on by so many bytes, between blocks.
    fn skip(&self, bytes: u64);
    /// The guest's translation.
    fn paging(&self) -> Paging;
    /// The current code segment is a 64-bit one.
    fn long_code(&self) -> bool;
    /// Base of SS.
    fn stack_base(&self) -> u64;
}

/// A page that PVALIDATE or RMPADJUST names.
struct Operand {
    guest: Guest,
    place: Place,
    size: PageSize,
}

impl Layer {
    /// The guest on `cpu` is about to execute an instruction of this kind and length.
    pub fn instruction(
        &self,
        model: &Model<'_>,
        cpu: &impl Inside,
        kind: Kind,
        length: u8,
        detail: u8,
    ) -> Action {
        let me = self.cpu(cpu.index());
        me.vmgexit.set(None);
        let Some(running) = me.running.get() else {
            return match (kind, detail >> 4) {
                (Kind::Rdmsr, _) if me.sev.get().is_some() => sev_status(cpu),
                (Kind::MovToCr, 8) if cpu.cpl() == 0 && cpu.writes_virtual_tpr() => {
                    Action::WriteCr8 { value: cpu.gpr(detail & 0xf) }
                }
                _ => Action::Native,
            };
        };
        match kind {
            Kind::Vmgexit => {
                me.vmgexit.set(Some(length.into()));
                if let Some(Unhandled { code, valid }) = gives_up(model, &running) {
                    let events = me.events.get();
                    let nested = Nested { ram: &model.ram, cr3: running.nested_cr3 };
                    let last = events.iter().find(|event| event.vmsa == running.vmsa);
                    let byte = |n| cpu.paging().byte(nested, last?.rip.wrapping_add(n));
                    model.log.note(format_args!(
                        "CPU {}: the guest with VMSA {:#x} says that it cannot handle #VC {code:#x}; valid in its GHCB {valid:x?}, \
                         code at its last event {:x?}, behind {events:x?}",
                        cpu.index(),
                        running.vmsa,
                        [0, 1, 2, 3].map(byte),
                    ));
                }
                Action::Native
            }
            Kind::Rdmsr => rdmsr(model, cpu, &running),
            Kind::Wrmsr => wrmsr(model, cpu, &running),
            Kind::MovToCr => self.mov_to_cr(model, cpu, &running, detail),
            Kind::Pvalidate if running.snp() => self.pvalidate(model, cpu, &running),
            Kind::Rmpadjust if running.snp() => self.rmpadjust(model, cpu, &running),
            _ => Action::Native,
        }
    }

    /// TCG has delivered an event to the guest. #VC lacks its error code: TCG's table of vectors
    /// that have one is older.
    pub fn delivered(&self, model: &Model<'_>, cpu: &impl Inside, vector: i32) -> Action {
        const PE: u64 = 1;
        let me = self.cpu(cpu.index());
        let (Some(code), Some(running)) = (me.vc.take(), me.running.get()) else {
            return Action::Native;
        };
        let paging = cpu.paging();
        // Another event came first, and the guest will be here again. Real mode has no error codes.
        if vector != VECTOR_VC || paging.cr0 & PE == 0 {
            return Action::Native;
        }
        // The frame that TCG has just pushed lies in the same page (in 64-bit mode because stacks
        // are aligned to 16 bytes), so it is mapped, writable and validated.
        // Code of 64 bits has no base of SS, whatever the register holds.
        let (bytes, base) = if cpu.long_code() { (8, 0) } else { (4, cpu.stack_base()) };
        let sp = cpu.gpr(4).wrapping_sub(bytes);
        let nested = Nested { ram: &model.ram, cr3: running.nested_cr3 };
        let word = paging
            .walk(nested, base.wrapping_add(sp))
            .ok()
            .and_then(|target| nested.walk(target.gpa))
            .and_then(|mapped| Some((model.ram.word(mapped.pa & !7)?, mapped.pa & 7)));
        match word {
            Some((word, 0)) if bytes == 8 => word.store(code.into(), Relaxed),
            Some((word, at @ (0 | 4))) if bytes == 4 => {
                let mask = 0xffff_ffff << (at * 8);
                let value = u64::from(code) << (at * 8);
                // The rest of the word is the guest's, and nobody else's at this moment.
                word.store(word.load(Relaxed) & !mask | value, Relaxed);
            }
            _ => return self.wrong(model, cpu, Wrong::Stack(sp)),
        }
        cpu.set_rsp(sp);
        Action::Native
    }

    fn mov_to_cr(
        &self,
        model: &Model<'_>,
        cpu: &impl Inside,
        running: &Running,
        detail: u8,
    ) -> Action {
        let (number, from) = (detail >> 4, detail & 0xf);
        if ![0, 4, 8].contains(&number) || cpu.cpl() != 0 {
            return Action::Native;
        }
        let value = cpu.gpr(from);
        let value = if cpu.long_code() { value } else { value & 0xffff_ffff };
        // A write that changes nothing is not worth an exit (model choice): OVMF's #VC handler
        // restores all three registers each time, and would exit six times for one #VC.
        let changes = value != cpu.control(number);
        let trapped = trapped(model, running, exit::CR0_WRITE_TRAP + u64::from(number));
        match (number, changes, trapped) {
            (_, true, true) => Action::TrapCr { number, value },
            // TCG's own write asserts that a lock is held, and it is not.
            (8, false, _) => Action::done(),
            (8, true, false) => self.wrong(model, cpu, Wrong::NoTrap(8)),
            _ => Action::Native,
        }
    }

    /// RAX: virtual address. ECX: size. EDX: validate or rescind.
    fn pvalidate(&self, model: &Model<'_>, cpu: &impl Inside, running: &Running) -> Action {
        let operand = match self.operand(model, cpu, running) {
            Ok(operand) => operand,
            Err(action) => return action,
        };
        let validate = cpu.get(Reg::Rdx) & 1 != 0;
        let Operand { guest, place, size } = operand;
        match model.rmp.pvalidate(guest, place, size, validate) {
            Ok((code, changed)) => {
                // Linux takes CF for "nothing changed" before it looks at EAX.
                let idle = code == GuestCode::Success && !changed;
                finished(code, if idle { CF } else { 0 }, changed && !validate)
            }
            Err(denied) => self.operand_denied(model, running, place, denied),
        }
    }

    /// RAX: virtual address. ECX: size. RDX: VMPL, permissions, VMSA.
    fn rmpadjust(&self, model: &Model<'_>, cpu: &impl Inside, running: &Running) -> Action {
        let operand = match self.operand(model, cpu, running) {
            Ok(operand) => operand,
            Err(action) => return action,
        };
        let Some(adjust) = Adjust::from_rdx(cpu.get(Reg::Rdx)) else {
            return finished(GuestCode::FailInput, 0, false);
        };
        let Operand { guest, place, size } = operand;
        match model.rmp.rmpadjust(guest, place, size, adjust) {
            Ok(code) => finished(code, 0, code == GuestCode::Success),
            Err(denied) => self.operand_denied(model, running, place, denied),
        }
    }

    /// Whether the mapping has the C-bit does not matter (model choice: nobody does it without).
    fn operand(
        &self,
        model: &Model<'_>,
        cpu: &impl Inside,
        running: &Running,
    ) -> Result<Operand, Action> {
        if cpu.cpl() != 0 {
            return Err(Action::GeneralProtection);
        }
        let size = match cpu.get(Reg::Rcx) as u32 {
            0 => PageSize::Size4K,
            1 => PageSize::Size2M,
            _ => return Err(finished(GuestCode::FailInput, 0, false)),
        };
        let va = cpu.get(Reg::Rax);
        // The offset in a 4 KiB page does not matter: OVMF asks with the address of some data of
        // its own whether it runs at VMPL0.
        let va = if cpu.long_code() { va } else { va & 0xffff_ffff } & !0xfff;
        if va % size.bytes() != 0 {
            return Err(finished(GuestCode::FailInput, 0, false));
        }
        let nested = Nested { ram: &model.ram, cr3: running.nested_cr3 };
        let exit_at = |gpa, info_1| {
            store(model, running, vmcb::EXIT_INFO_2, gpa);
            Action::Exit { code: exit::NPF, info_1: info_1 | fault::USER | fault::ENCRYPTED }
        };
        let target = cpu.paging().walk(nested, va).map_err(|lost| match lost {
            Lost::NotPresent => Action::PageFault(va, 0),
            Lost::Table(gpa) => exit_at(gpa, fault::TABLE),
            Lost::Legacy => self.wrong(model, cpu, Wrong::Legacy(va)),
        })?;
        let mapped = nested.walk(target.gpa).ok_or_else(|| exit_at(target.gpa, fault::FINAL))?;
        let place = Place { pa: mapped.pa, gpa: target.gpa, mapped: mapped.size };
        let guest = Guest { asid: running.asid, vmpl: running.vmpl };
        self.cpu(cpu.index()).address.set(va);
        Ok(Operand { guest, place, size })
    }

    fn operand_denied(
        &self,
        model: &Model<'_>,
        running: &Running,
        place: Place,
        denied: Denied,
    ) -> Action {
        let info_1 = fault::PRESENT | fault::USER | fault::FINAL | fault::ENCRYPTED;
        store(model, running, vmcb::EXIT_INFO_2, place.gpa);
        match denied {
            Denied::Fault(bits) => Action::Exit { code: exit::NPF, info_1: info_1 | bits },
            Denied::NotValidated => Action::Exit { code: exit::PAGE_NOT_VALIDATED, info_1: 0 },
        }
    }

    fn wrong(&self, model: &Model<'_>, cpu: &impl Cpu, wrong: Wrong) -> Action {
        self.end(model, cpu.index(), wrong);
        Action::Exit { code: exit::INVALID, info_1: 0 }
    }
}

fn store(model: &Model<'_>, running: &Running, offset: u64, value: u64) {
    if let Some(word) = model.ram.word(running.vmcb + offset) {
        word.store(value, Release);
    }
}

fn load(model: &Model<'_>, running: &Running, offset: u64) -> u64 {
    model.ram.word(running.vmcb + offset).map_or(0, |word| word.load(Acquire))
}

/// Whether the hypervisor wants to know of the write that has this exit code.
fn trapped(model: &Model<'_>, running: &Running, code: u64) -> bool {
    load(model, running, vmcb::INTERCEPTS_10) >> (code - exit::VMRUN) & 1 != 0
}

fn finished(code: GuestCode, carry: u64, flush: bool) -> Action {
    let eax = code as u32;
    let zero = if eax == 0 { ZF } else { 0 };
    let parity = if (eax as u8).count_ones() % 2 == 0 { PF } else { 0 };
    Action::Retire { rax: Some(eax.into()), rdx: None, flags: Some(zero | parity | carry), flush }
}

/// The GHCB's register is never intercepted, and SEV_STATUS neither: they are in the processor.
fn rdmsr(model: &Model<'_>, cpu: &impl Cpu, running: &Running) -> Action {
    let value = match cpu.get(Reg::Rcx) as u32 {
        MSR_GHCB => load(model, running, vmcb::GHCB),
        MSR_SEV_STATUS => STATUS_SEV_ES | running.features << STATUS_FEATURES,
        _ => return Action::Native,
    };
    read_msr(cpu, value)
}

/// What a guest says of a #VC that it cannot handle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unhandled {
    /// Its error code.
    pub code: u64,
    /// Which fields of the GHCB are valid. Whether the answer to a request of before is among them,
    /// and what the guest has filled in itself, tells why it gives up.
    pub valid: [u64; 2],
}

/// Whether the guest's GHCB has SVM_VMGEXIT_UNSUPPORTED_EVENT (the kernel's uapi/asm/svm.h) as exit
/// code. Fields are where struct ghcb_save_area has them. KVM ends the guest for it.
pub(super) fn gives_up(model: &Model<'_>, running: &Running) -> Option<Unhandled> {
    const SW_EXIT_CODE: u64 = 0x390;
    const SW_EXIT_INFO_1: u64 = 0x398;
    const VALID_BITMAP: u64 = 0x3f0;
    const UNSUPPORTED_EVENT: u64 = 0x8000_ffff;
    let ghcb = load(model, running, vmcb::GHCB);
    let nested = Nested { ram: &model.ram, cr3: running.nested_cr3 };
    // Otherwise it is a request of the GHCB MSR protocol.
    let page = (ghcb & 0xfff == 0).then_some(ghcb).and_then(|gpa| nested.walk(gpa))?.pa;
    let field = |offset| model.ram.word(page + offset).map_or(0, |word| word.load(Relaxed));
    (field(SW_EXIT_CODE) == UNSUPPORTED_EVENT).then(|| Unhandled {
        code: field(SW_EXIT_INFO_1),
        valid: [field(VALID_BITMAP), field(VALID_BITMAP + 8)],
    })
}

/// RDMSR in an SEV guest.
fn sev_status(cpu: &impl Cpu) -> Action {
    match cpu.get(Reg::Rcx) as u32 {
        MSR_SEV_STATUS => read_msr(cpu, STATUS_SEV),
        _ => Action::Native,
    }
}

/// RDMSR of an MSR with this value.
fn read_msr(cpu: &impl Cpu, value: u64) -> Action {
    if cpu.cpl() != 0 {
        return Action::GeneralProtection;
    }
    Action::Retire {
        rax: Some(value & 0xffff_ffff),
        rdx: Some(value >> 32),
        flags: None,
        flush: false,
    }
}

fn wrmsr(model: &Model<'_>, cpu: &impl Cpu, running: &Running) -> Action {
    let value = (cpu.get(Reg::Rdx) << 32) | (cpu.get(Reg::Rax) & 0xffff_ffff);
    match cpu.get(Reg::Rcx) as u32 {
        MSR_GHCB | MSR_SEV_STATUS if cpu.cpl() != 0 => Action::GeneralProtection,
        MSR_SEV_STATUS => Action::GeneralProtection,
        MSR_GHCB => {
            // VMCB and register are one: nobody looks at the VMCB's field while the guest runs.
            store(model, running, vmcb::GHCB, value);
            Action::done()
        }
        MSR_EFER if cpu.cpl() == 0 && trapped(model, running, exit::EFER_WRITE_TRAP) => {
            Action::TrapEfer { value }
        }
        _ => Action::Native,
    }
}
