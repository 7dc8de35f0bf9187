// SPDX-License-Identifier: GPL-2.0
//! VMRUN, #VMEXIT and instructions inside, on a CPU made of a few cells and without TCG: what TCG
//! would write to the VMCB the tests write there.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use link::{Bound, Report};
use rmp::{Code, RmpUpdate};

use super::access::{Access, Verdict};
use super::inside::{gives_up, Inside, Unhandled};
use super::layout::{exit, fault, int_ctl, save, vmcb, C_BIT};
use super::vmsa::{Fpu, Registers, Vmsa};
use super::walk::{Nested, Paging, Unmapped};
use super::{Action, Border, Layer};
use crate::acpi::Memory;
use crate::cpu::{Cpu, Outcome, Reg};
use crate::insn::Kind;
use crate::model::Model;
use crate::testing::{machine, BASE};
use crate::variant::Checks;
use crate::writable::Alias;

const VMCB: u64 = 0x10_0000;
const VMSA: u64 = 0x10_1000;
const HOST: u64 = 0x10_2000;
/// Nested tables: four levels from here on, and the guest's page 0 at PAGE.
const NESTED: u64 = 0x11_0000;
const PAGE: u64 = 0x12_0000;
const ASID: u32 = 5;

struct Fake {
    index: usize,
    registers: Cell<Registers>,
    rax: Cell<u64>,
    paging: Cell<Paging>,
    loaded: Cell<u64>,
    /// RIP, as far as it has moved on.
    skipped: Cell<u64>,
    cr2: Cell<u64>,
    long_code: Cell<bool>,
    stack_base: Cell<u64>,
}

const NO_REGISTERS: Registers =
    Registers { gpr: [0; 16], xcr0: 7, pkru: 0, pat: 0x66, dr: [0; 4], fpu: Fpu::INITIAL };

impl Fake {
    fn new(index: usize) -> Fake {
        let paging = Paging { cr0: 1, cr3: 0, cr4: 0, efer: 0 };
        Fake {
            index,
            registers: Cell::new(NO_REGISTERS),
            rax: Cell::new(VMCB),
            paging: Cell::new(paging),
            loaded: Cell::new(0),
            skipped: Cell::new(0),
            cr2: Cell::new(0),
            long_code: Cell::new(false),
            stack_base: Cell::new(0),
        }
    }
}

impl Memory for Fake {
    fn read(&self, _: u64, _: &mut [u8]) -> bool {
        false
    }

    fn write(&self, _: u64, _: &[u8]) -> bool {
        false
    }
}

impl Cpu for Fake {
    fn index(&self) -> usize {
        self.index
    }

    fn get(&self, reg: Reg) -> u64 {
        match reg {
            Reg::Rax => self.rax.get(),
            Reg::Efer => 0x1d01,
            Reg::Cr0 => 1,
            Reg::Cs => 0x10,
            Reg::Rcx => self.gpr(1),
            Reg::Rdx => self.gpr(2),
            Reg::Rbx => self.gpr(3),
        }
    }

    fn read_virtual(&self, _: u64, _: &mut [u8; 16]) -> bool {
        false
    }

    fn write_virtual(&self, _: u64, _: &[u8; 16]) -> bool {
        false
    }

    fn pc(&self) -> u64 {
        0
    }

    fn flush_translations(&self) {}

    fn flush_all_translations(&self) {}

    fn flush_translations_of(&self, _: usize) {}

    fn protect(&self, _: Alias, _: u64) {}
}

impl Border for Fake {
    fn host_area(&self) -> u64 {
        HOST
    }

    fn registers(&self) -> Registers {
        self.registers.get()
    }

    fn set_registers(&self, registers: &Registers, debug: bool) {
        let dr = if debug { registers.dr } else { self.registers.get().dr };
        self.registers.set(Registers { dr, ..*registers });
    }

    fn vmload(&self, pa: u64) {
        self.loaded.set(pa);
    }

    fn vmsave(&self, _: u64) {}
}

impl Inside for Fake {
    fn gpr(&self, number: u8) -> u64 {
        self.registers.get().gpr[usize::from(number)]
    }

    fn control(&self, _: u8) -> u64 {
        0x11
    }

    fn writes_virtual_tpr(&self) -> bool {
        true
    }

    fn set_rsp(&self, value: u64) {
        let mut registers = self.registers.get();
        registers.gpr[4] = value;
        self.registers.set(registers);
    }

    fn set_cr2(&self, value: u64) {
        self.cr2.set(value);
    }

    fn rip(&self) -> u64 {
        0x1234
    }

    fn skip(&self, bytes: u64) {
        self.skipped.set(bytes);
    }

    fn paging(&self) -> Paging {
        self.paging.get()
    }

    fn long_code(&self) -> bool {
        self.long_code.get()
    }

    fn stack_base(&self) -> u64 {
        self.stack_base.get()
    }
}

fn put(model: &Model<'_>, pa: u64, value: u64) {
    model.ram.word(pa).unwrap().store(value, Relaxed);
}

fn get(model: &Model<'_>, pa: u64) -> u64 {
    model.ram.word(pa).unwrap().load(Relaxed)
}

/// A page of the guest's, validated.
fn give(model: &Model<'_>, pa: u64, gpa: u64) {
    let new = RmpUpdate { gpa, assigned: true, large: false, immutable: false, asid: ASID };
    assert_eq!(model.rmp.rmpupdate(pa, &new), Code::Success);
    let guest = rmp::Guest { asid: ASID, vmpl: 0 };
    let place = rmp::Place { pa, gpa, mapped: rmp::PageSize::Size4K };
    assert!(model.rmp.pvalidate(guest, place, rmp::PageSize::Size4K, true).is_ok());
}

/// An SNP guest that is ready for VMRUN.
fn guest() -> Model<'static> {
    let model = machine(true);
    model.link.bind(ASID, Bound::Snp);
    give(&model, VMSA, 0xffff_ffff_f000);
    give(&model, PAGE, 0);
    let guest = rmp::Guest { asid: ASID, vmpl: 0 };
    let place = rmp::Place { pa: VMSA, gpa: 0xffff_ffff_f000, mapped: rmp::PageSize::Size4K };
    let adjust = rmp::Adjust { vmpl: 1, permissions: 0, vmsa: true };
    assert!(model.rmp.rmpadjust(guest, place, rmp::PageSize::Size4K, adjust).is_ok());
    for (offset, value) in [
        (vmcb::MISC_CTL, 7),
        (vmcb::INT_CTL, int_ctl::V_INTR_MASKING),
        (vmcb::ASID, ASID.into()),
        (vmcb::VMSA, VMSA),
        (vmcb::NESTED_CR3, NESTED),
        (vmcb::MISC_CTL_2, 1),
        (vmcb::INTERCEPTS_10, 1 << (exit::CR0_WRITE_TRAP - exit::VMRUN)),
    ] {
        put(&model, VMCB + offset, value);
    }
    for level in 0..3 {
        put(&model, NESTED + level * 0x1000, (NESTED + (level + 1) * 0x1000) | 7);
    }
    put(&model, NESTED + 0x3000, PAGE | 7);
    for (offset, value) in [
        (save::SEV_FEATURES, 1),
        (save::XCR0, 3),
        (save::MXCSR, 0x1f80),
        (save::RIP, 0x100),
        (save::RFLAGS, 0x202),
        (save::GPRS + 8, 0x1111),
    ] {
        put(&model, VMSA + offset as u64, value);
    }
    for (offset, value) in [(save::GPRS + 8, 0x2222), (save::XCR0, 7)] {
        put(&model, HOST + 0x400 + offset as u64, value);
    }
    model
}

fn entered() -> (Model<'static>, Layer, Fake) {
    let (model, layer, cpu) = (guest(), Layer::new(), Fake::new(0));
    assert_eq!(layer.vmrun(&model, &cpu), Outcome::Native);
    (model, layer, cpu)
}

/// TCG is about to leave the guest with this, and does so unless it becomes #VC: whether it does.
fn leave(model: &Model<'_>, layer: &Layer, cpu: &Fake, code: u64, info_1: u64) -> bool {
    put(model, VMCB + vmcb::EXIT_CODE, code);
    put(model, VMCB + vmcb::EXIT_INFO_1, info_1);
    let leaves = !layer.exit(model, cpu);
    if leaves {
        layer.leave(model, cpu);
        model.leaves(cpu.index);
    }
    leaves
}

#[test]
fn vmrun_loads_the_vmsa() {
    let (model, _, cpu) = entered();
    assert_eq!(cpu.registers().gpr[1], 0x1111);
    assert_eq!((cpu.registers().xcr0, cpu.loaded.get()), (3, VMCB));
    assert_eq!(get(&model, VMCB + 0x578), 0x100, "RIP for TCG");
}

#[test]
fn translations_are_of_a_guest_with_its_registers_and_the_rmp() {
    let (model, layer, cpu) = entered();
    let whose = || layer.whose(&model, &cpu);
    let first = whose();
    assert!(first.is_some() && whose() == first);
    let paging = cpu.paging.get();
    cpu.paging.set(Paging { cr3: 0x1000, ..paging });
    assert_ne!(whose(), first);
    cpu.paging.set(paging);
    assert_eq!(whose(), first);
    model.rmp_changes.fetch_add(1, Relaxed);
    assert_ne!(whose(), first);
    leave(&model, &layer, &cpu, exit::HLT, 0);
    assert_eq!(whose(), None);
}

#[test]
fn a_hypervisor_can_ask_for_a_flush() {
    let (model, layer, _) = entered();
    for (control, wants) in [(0, false), (1, true), (3, true), (7, true)] {
        put(&model, VMCB + vmcb::ASID, u64::from(ASID) | control << 32);
        assert_eq!(layer.wants_flush(&model, 0), wants, "TLB_CONTROL {control}");
    }
}

#[test]
fn exits_save_the_guest_and_give_the_host_its_registers() {
    let (model, layer, cpu) = entered();
    let mut registers = cpu.registers();
    registers.gpr[1] = 0x3333;
    cpu.registers.set(registers);
    assert!(leave(&model, &layer, &cpu, exit::HLT, 0));
    let vmsa = Vmsa::read(&model.ram, VMSA).unwrap();
    assert_eq!((vmsa.registers().gpr[1], cpu.skipped.get()), (0x3333, 1));
    assert_eq!(get(&model, VMCB + vmcb::INT_STATE), 2, "interrupts are on");
    let host = cpu.registers();
    assert_eq!((host.gpr[1], host.xcr0, host.pat), (0x2222, 7, 0x66));
    assert_eq!(cpu.loaded.get(), HOST);
    // Another exit, of a guest that is not the layer's, changes nothing.
    cpu.loaded.set(0);
    leave(&model, &layer, &cpu, exit::HLT, 0);
    assert_eq!(cpu.loaded.get(), 0);
}

#[test]
fn what_the_hypervisor_must_not_handle_becomes_vc() {
    let (model, layer, cpu) = entered();
    assert!(!leave(&model, &layer, &cpu, 0x72, 0));
    assert!(layer.expects_delivery(0) && layer.runs(0));
    // Delivered: the error code goes below the frame, on the guest's page 0.
    cpu.set_rsp(0x804);
    assert_eq!(layer.delivered(&model, &cpu, 29), Action::Native);
    assert_eq!((cpu.gpr(4), get(&model, PAGE + 0x800)), (0x800, 0x72));
    assert!(!layer.expects_delivery(0));
}

/// The base of SS counts for handlers of 32 bits only.
#[test]
fn the_error_code_lies_below_the_frame() {
    for (long, sp, base, code_at) in [(false, 0x804, 0x100, 0x900), (true, 0x808, 0x100, 0x800)] {
        let (model, layer, cpu) = entered();
        cpu.long_code.set(long);
        cpu.stack_base.set(base);
        assert!(!leave(&model, &layer, &cpu, 0x72, 0));
        cpu.set_rsp(sp);
        assert_eq!(layer.delivered(&model, &cpu, 29), Action::Native);
        assert_eq!((cpu.gpr(4), get(&model, PAGE + code_at)), (0x800, 0x72), "64 bits: {long}");
    }
}

#[test]
fn a_vc_that_cannot_be_delivered_is_dropped() {
    let (model, layer, cpu) = entered();
    assert!(!leave(&model, &layer, &cpu, 0x72, 0));
    assert!(leave(&model, &layer, &cpu, exit::NPF, fault::FINAL), "no page for the frame");
    assert!(!layer.expects_delivery(0));
}

#[test]
fn int_instructions_that_fault_are_executed_again() {
    for (event, left) in [(0x8000_0403, 0), (0x8000_0020, 0x8000_0020)] {
        let (model, layer, cpu) = entered();
        put(&model, VMCB + vmcb::EVENT_INJ, event);
        assert!(leave(&model, &layer, &cpu, exit::NPF, fault::FINAL));
        assert_eq!(get(&model, VMCB + vmcb::EVENT_INJ), left, "{event:#x}");
    }
}

#[test]
fn the_last_events_are_kept() {
    let (_, layer, cpu) = entered();
    for vector in 0..9 {
        layer.event(&cpu, vector);
    }
    let events = layer.cpu(0).events.get().map(|event| (event.vmsa, event.vector, event.rip));
    assert_eq!(events, [8, 7, 6, 5, 4, 3].map(|vector| (VMSA, vector, 0x1234)));
}

#[test]
fn a_page_that_is_not_validated_is_named_in_cr2() {
    let (model, layer, cpu) = entered();
    layer.cpu(0).address.set(0x7123);
    layer.cpu(0).denied.set(Some(rmp::Denied::NotValidated));
    assert!(!leave(&model, &layer, &cpu, exit::NPF, fault::FINAL));
    assert_eq!(cpu.cr2.get(), 0x7123);
    cpu.set_rsp(0x804);
    assert_eq!(layer.delivered(&model, &cpu, 29), Action::Native);
    assert_eq!(get(&model, PAGE + 0x800), 0x404);
}

#[test]
fn no_vc_while_another_event_is_delivered() {
    let (model, layer, cpu) = entered();
    put(&model, VMCB + vmcb::EVENT_INJ, 0x8000_0020);
    assert!(leave(&model, &layer, &cpu, 0x72, 0));
    assert_eq!(get(&model, VMCB + vmcb::EXIT_CODE), exit::INVALID);
    assert_eq!(get(&model, VMSA + save::GPRS as u64 + 8), 0x1111, "the VMSA stays");
}

#[test]
fn vmsas_that_cannot_be_run_are_refused() {
    let rows = [
        ("no nested paging", VMCB + vmcb::MISC_CTL, 6),
        ("no LBR virtualisation", VMCB + vmcb::MISC_CTL_2, 0),
        ("interrupts for the guest", VMCB + vmcb::INT_CTL, 0x3000201 & !int_ctl::V_INTR_MASKING),
        ("no VMSA", VMCB + vmcb::VMSA, u64::MAX),
        ("another guest's", VMCB + vmcb::ASID, 6),
        ("a plain page", VMCB + vmcb::VMSA, PAGE),
        ("a feature", VMSA + save::SEV_FEATURES as u64, 3),
        ("XCR0", VMSA + save::XCR0 as u64, 5),
        ("MXCSR", VMSA + save::MXCSR as u64, 1 << 16),
    ];
    for (name, address, value) in rows {
        let (model, layer, cpu) = (guest(), Layer::new(), Fake::new(0));
        // What makes a plain page look like a VMSA, apart from the RMP.
        put(&model, PAGE + save::SEV_FEATURES as u64, 1);
        put(&model, PAGE + save::XCR0 as u64, 3);
        put(&model, address, value);
        assert_eq!(layer.vmrun(&model, &cpu), Outcome::retire([]), "{name}");
        assert_eq!(get(&model, VMCB + vmcb::EXIT_CODE), exit::INVALID, "{name}");
        assert_eq!(cpu.registers(), NO_REGISTERS, "{name}");
    }
}

#[test]
fn a_vmsa_runs_once() {
    let (model, layer, first) = entered();
    let second = Fake::new(1);
    assert_eq!(layer.vmrun(&model, &second), Outcome::retire([]));
    assert_eq!(get(&model, VMCB + vmcb::EXIT_CODE), exit::BUSY);
    leave(&model, &layer, &first, exit::INTR, 0);
    assert_eq!(layer.vmrun(&model, &second), Outcome::Native);
}

#[test]
fn a_state_that_tcg_refuses_changes_no_vmsa() {
    let (model, layer, cpu) = entered();
    put(&model, VMCB + 0x578, 0x9999);
    assert!(leave(&model, &layer, &cpu, exit::INVALID, 0));
    assert_eq!(get(&model, VMSA + save::RIP as u64), 0x100);
    assert_eq!(cpu.registers().gpr[1], 0x2222, "the host's");
}

#[test]
fn nested_faults_tell_what_was_private() {
    let (model, layer, cpu) = entered();
    put(&model, VMCB + vmcb::EXIT_INFO_2, 0x7000 | C_BIT);
    assert!(leave(&model, &layer, &cpu, exit::NPF, fault::FINAL));
    let info = [vmcb::EXIT_INFO_1, vmcb::EXIT_INFO_2].map(|field| get(&model, VMCB + field));
    assert_eq!(info, [fault::FINAL | fault::ENCRYPTED, 0x7000]);
}

/// With such entries KVM marks emulated devices; what is a device's the guest is told (#VC).
#[test]
fn nested_entries_with_reserved_bits_are_faults() {
    let (model, layer, cpu) = entered();
    put(&model, NESTED + 0x3008, 0xf_8000_0000_1000 | 7);
    for (access, bits) in [(Access::Read, 0), (Access::Write, 2), (Access::Fetch, 0x10)] {
        let verdict = layer.translate(&model, 0, cpu.paging(), 0x1000, access);
        assert_eq!(verdict, Verdict::Deny(0xd | bits));
    }
    // And a guest without SNP has the tables that its VMCB names.
    let nested = Nested::of(&model.ram, VMCB).unwrap();
    assert_eq!(nested.find(0x1000), Err(Unmapped::Reserved));
    assert!(!leave(&model, &layer, &cpu, exit::NPF, fault::FINAL | 0xd));
}

#[test]
fn instructions_inside() {
    let (model, layer, cpu) = entered();
    let run = |kind, gpr: [u64; 3], detail| {
        let mut registers = cpu.registers();
        registers.gpr[..3].copy_from_slice(&gpr);
        cpu.registers.set(registers);
        cpu.rax.set(gpr[0]);
        layer.instruction(&model, &cpu, kind, 4, detail)
    };
    let retired = |rax, rdx, flags, flush| Action::Retire { rax, rdx, flags, flush };
    const ZF_PF: u64 = 0x44;
    let npf = |info_1| Action::Exit { code: exit::NPF, info_1 };
    let rows = [
        ("SEV_STATUS", Kind::Rdmsr, [0, 0xc001_0131, 0], retired(Some(7), Some(0), None, false)),
        ("GHCB is written", Kind::Wrmsr, [0x9000, 0xc001_0130, 1], Action::done()),
        ("and read", Kind::Rdmsr, [0, 0xc001_0130, 0], retired(Some(0x9000), Some(1), None, false)),
        ("another MSR", Kind::Rdmsr, [0, 0x10, 0], Action::Native),
        ("validated", Kind::Pvalidate, [0, 0, 1], retired(Some(0), None, Some(ZF_PF | 1), false)),
        ("rescinded", Kind::Pvalidate, [0, 0, 0], retired(Some(0), None, Some(ZF_PF), true)),
        ("again", Kind::Pvalidate, [0, 0, 1], retired(Some(0), None, Some(ZF_PF), false)),
        ("2 MiB", Kind::Pvalidate, [0, 1, 1], retired(Some(6), None, Some(0x04), false)),
        ("size 2", Kind::Pvalidate, [0, 2, 1], retired(Some(1), None, Some(0), false)),
        (
            "not mapped",
            Kind::Pvalidate,
            [0x5000, 0, 1],
            npf(fault::FINAL | fault::USER | fault::ENCRYPTED),
        ),
        ("VMPL 1", Kind::Rmpadjust, [0x14, 0, 1], retired(Some(0), None, Some(ZF_PF), true)),
        ("VMPL 0", Kind::Rmpadjust, [0, 0, 0], retired(Some(2), None, Some(0), false)),
        ("VMGEXIT", Kind::Vmgexit, [0; 3], Action::Native),
    ];
    for (name, kind, gpr, action) in rows {
        assert_eq!(run(kind, gpr, 0), action, "{name}");
    }
    assert_eq!(get(&model, VMCB + vmcb::EXIT_INFO_2), 0x5000, "of the fault");
    // The VMGEXIT of the last row.
    leave(&model, &layer, &cpu, exit::VMMCALL, 0);
    assert_eq!(get(&model, VMCB + vmcb::EXIT_CODE), exit::VMGEXIT);
    assert_eq!(cpu.skipped.get(), 4);
}

#[test]
fn a_guest_that_gives_up_is_noticed() {
    let (model, layer, _) = entered();
    let running = layer.cpu(0).running.get().unwrap();
    let says = |ghcb, code| {
        put(&model, VMCB + vmcb::GHCB, ghcb);
        put(&model, PAGE + 0x390, code);
        put(&model, PAGE + 0x398, 0x7c);
        put(&model, PAGE + 0x3f8, 0x001c_0002_0000_0000);
        gives_up(&model, &running)
    };
    let valid = [0, 0x001c_0002_0000_0000];
    assert_eq!(says(0, 0x8000_ffff), Some(Unhandled { code: 0x7c, valid }));
    assert_eq!(says(0, 0x72), None, "another request");
    assert_eq!(says(0x4, 0x8000_ffff), None, "a request of the MSR protocol");
    assert_eq!(says(0x5000, 0x8000_ffff), None, "not mapped");
}

#[test]
fn control_registers_are_trapped_when_they_change() {
    let (model, layer, cpu) = entered();
    let write = |value, detail| {
        let mut registers = cpu.registers();
        registers.gpr[3] = value;
        cpu.registers.set(registers);
        layer.instruction(&model, &cpu, Kind::MovToCr, 3, detail)
    };
    assert_eq!(write(0x31, 0x03), Action::TrapCr { number: 0, value: 0x31 });
    assert_eq!(write(0x11, 0x03), Action::Native, "the same");
    assert_eq!(write(0x31, 0x43), Action::Native, "CR4 is not trapped here");
    assert_eq!(write(0x11, 0x83), Action::done(), "CR8, the same");
    let ended = Action::Exit { code: exit::INVALID, info_1: 0 };
    assert_eq!(write(0x31, 0x83), ended, "CR8, which has no other trap");
    leave(&model, &layer, &cpu, exit::INTR, 0);
    assert_eq!(write(0x31, 0x83), Action::WriteCr8 { value: 0x31 }, "of a guest without SEV-ES");
    assert_eq!(write(0x31, 0x43), Action::Native, "CR4 of such a guest");
}

/// A guest of which only the memory is encrypted: TCG's own, but for SEV_STATUS and what exits say.
#[test]
fn sev_guests_are_completed_when_they_leave() {
    let (model, layer, cpu) = (guest(), Layer::new(), Fake::new(0));
    let status = |cpu: &Fake| {
        cpu.registers.set(Registers {
            gpr: [0, 0xc001_0131, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ..NO_REGISTERS
        });
        layer.instruction(&model, cpu, Kind::Rdmsr, 2, 0)
    };
    put(&model, VMCB + vmcb::MISC_CTL, 3);
    put(&model, VMCB + vmcb::ASID, 60);
    model.link.bind(60, Bound::Sev);
    assert_eq!(layer.vmrun(&model, &cpu), Outcome::Native);
    assert_eq!(cpu.loaded.get(), 0, "nothing is loaded from a VMSA");
    assert!(layer.has_guest(0) && !layer.runs(0));
    let one = Action::Retire { rax: Some(1), rdx: Some(0), flags: None, flush: false };
    assert_eq!(status(&cpu), one);
    put(&model, VMCB + vmcb::EXIT_INFO_2, 0x7000 | C_BIT);
    assert!(leave(&model, &layer, &cpu, exit::NPF, fault::FINAL));
    assert_eq!(get(&model, VMCB + vmcb::EXIT_INFO_2), 0x7000);
    assert!(!layer.has_guest(0));
    // The next one is not encrypted at all.
    put(&model, VMCB + vmcb::MISC_CTL, 1);
    assert_eq!(layer.vmrun(&model, &cpu), Outcome::Native);
    assert!(!layer.has_guest(0));
    assert_eq!(status(&cpu), Action::Native);
}

/// Of a kind, and with an ASID, that firmware has bound: the SNP guest's is 5, a SEV guest's at
/// least 50.
#[test]
fn asids_are_those_that_firmware_has_bound() {
    let sev = |asid| [(VMCB + vmcb::MISC_CTL, 3), (VMCB + vmcb::ASID, asid)];
    let es = [(VMCB + vmcb::MISC_CTL, 7), (VMSA + save::SEV_FEATURES as u64, 0)];
    let snp = [(VMCB + vmcb::MISC_CTL, 7); 2];
    let rows = [
        ("SNP", snp, ASID, Bound::Snp, true),
        ("SNP, not activated or decommissioned", snp, ASID, Bound::Free, false),
        ("SNP, bound to a guest without", snp, ASID, Bound::Sev, false),
        ("SEV-ES", es, ASID, Bound::Sev, true),
        ("SEV-ES, bound to an SNP guest", es, ASID, Bound::Snp, false),
        ("SEV", sev(60), 60, Bound::Sev, true),
        ("SEV, not activated", sev(60), 60, Bound::Free, false),
        ("SEV, below its range", sev(49), 49, Bound::Sev, false),
        ("SEV, above its range", sev(101), 101, Bound::Sev, false),
    ];
    for (name, fields, asid, bound, runs) in rows {
        let (model, layer, cpu) = (guest(), Layer::new(), Fake::new(0));
        for (address, value) in fields {
            put(&model, address, value);
        }
        model.link.bind(asid, bound);
        let outcome = if runs { Outcome::Native } else { Outcome::retire([]) };
        assert_eq!(layer.vmrun(&model, &cpu), outcome, "{name}");
        assert_eq!(get(&model, VMCB + vmcb::EXIT_CODE) == exit::INVALID, !runs, "{name}");
    }
}

#[test]
fn an_immutable_vmsa_is_firmwares() {
    let (model, layer, cpu) = (guest(), Layer::new(), Fake::new(0));
    let entry = BASE + 0x4000 + (VMSA >> 12) * 16;
    put(&model, entry, get(&model, entry) | 1 << 2);
    assert_eq!(layer.vmrun(&model, &cpu), Outcome::retire([]));
}

fn reported(model: &Model<'_>, report: Report) -> u64 {
    model.link.cpu[0].reports[report as usize].count.load(Relaxed)
}

/// A VMCB that is given away is #GP, and no host area is only reported: all as far as `rmp=` has
/// it.
#[test]
fn pages_that_vmrun_writes_to_are_the_hosts() {
    use Checks::{Enforce, Off};
    let give_away = |model: &Model<'_>, pa| {
        let new = RmpUpdate { gpa: 0, assigned: true, large: false, immutable: false, asid: 0 };
        assert_eq!(model.rmp.rmpupdate(pa, &new), Code::Success);
    };
    let rows = [
        ("all is well", Enforce, HOST, 0, [0, 0], Outcome::Native),
        ("no host area", Enforce, 0, 0, [1, 0], Outcome::Native),
        ("no host area, off", Off, 0, 0, [1, 0], Outcome::Native),
        ("a host area that is given away", Enforce, HOST, HOST, [1, 0], Outcome::Native),
        ("the same, off", Off, HOST, HOST, [0, 0], Outcome::Native),
        ("a VMCB that is given away", Enforce, HOST, VMCB, [0, 1], Outcome::GeneralProtection),
        ("the same, reported", Checks::Report, HOST, VMCB, [0, 1], Outcome::Native),
        ("the same, off", Off, HOST, VMCB, [0, 0], Outcome::Native),
    ];
    for (name, checks, area, given, reports, outcome) in rows {
        for misc_ctl in [1, 7] {
            let (mut model, layer, cpu) = (guest(), Layer::new(), Fake::new(0));
            model.checks = checks;
            put(&model, VMCB + vmcb::MISC_CTL, misc_ctl);
            model.link.cpu[0].hsave_pa.store(area, Relaxed);
            if given != 0 {
                give_away(&model, given);
            }
            assert_eq!(layer.vmrun(&model, &cpu), outcome, "{name}, {misc_ctl}");
            let found = [Report::HostArea, Report::ForeignVmcb].map(|kind| reported(&model, kind));
            assert_eq!(found, reports, "{name}, {misc_ctl}");
        }
    }
}

/// From VMRUN to #VMEXIT; RMPUPDATE says so.
#[test]
fn vmcb_and_vmsa_are_in_use_while_the_guest_runs() {
    let (model, layer, cpu) = entered();
    let used = || [VMCB, VMSA, HOST].map(|page| model.in_use(page..page + 0x1000, None));
    assert_eq!(used(), [true, true, false]);
    assert!(model.in_use(0x0..0x20_0000, None) && !model.in_use(0..0x1000, None));
    assert!(!model.in_use(VMSA..VMSA + 1, Some(0)), "the CPU's own");
    leave(&model, &layer, &cpu, exit::INTR, 0);
    assert_eq!(used(), [false; 3]);
}

#[test]
fn pages_in_use_that_start_two_mib_are_reported() {
    let mut model = machine(true);
    model.checks = Checks::Report;
    for (vmcb, vmsa, count) in
        [(0x1000, 0, 0), (0x1000, 0x3000, 0), (0x20_0000, 0, 1), (0x1000, 0x40_0000, 2)]
    {
        model.enters(0, vmcb, vmsa);
        assert_eq!(reported(&model, Report::AlignedInUse), count, "{vmcb:#x} {vmsa:#x}");
    }
    model.link.cpu[0].syscfg.store(0, Relaxed);
    model.enters(0, 0x20_0000, 0);
    assert_eq!(reported(&model, Report::AlignedInUse), 2, "without SNP_EN there is no RMP");
}

/// What the RMP has against a plain guest's access comes to the hypervisor with bit 31.
#[test]
fn nested_faults_of_other_guests_get_the_rmps_bit() {
    for (code, refused, info_1) in
        [(exit::NPF, true, 1 << 31 | 7), (exit::NPF, false, 7), (exit::INTR, true, 7)]
    {
        let model = machine(true);
        model.enters(0, VMCB, 0);
        put(&model, VMCB + vmcb::EXIT_CODE, code);
        put(&model, VMCB + vmcb::EXIT_INFO_1, 7);
        model.activity[0].set_nested_refused(refused);
        model.complete_nested_fault(0);
        assert_eq!(get(&model, VMCB + vmcb::EXIT_INFO_1), info_1, "{code:#x} {refused}");
        assert!(!model.activity[0].take_nested_refused());
    }
}
