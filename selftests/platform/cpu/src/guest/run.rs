// SPDX-License-Identifier: GPL-2.0
//! VMRUN and #VMEXIT.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use link::{Bound, SNP_EN};

use super::access;
use super::cpu::Running;
use super::exits::{disposition, Disposition};
use super::inside::Inside;
use super::layout::{exit, feature, int_ctl, int_state, misc, misc_2, save, vmcb};
use super::sev;
use super::vmsa::{Fpu, Registers, Vmsa};
use super::{Layer, Wrong};
use crate::cpu::{Cpu, Outcome, Reg};
use crate::cpuid::{ASIDS, MIN_SEV_ASID};
use crate::insn::Kind;
use crate::kept::Whose;
use crate::model::Model;
use crate::ram::Ram;
use crate::svm;

/// Bytes of VMRUN without prefixes.
pub const VMRUN_BYTES: u64 = 3;
/// EFER.SVME.
const SVME: u64 = 1 << 12;
/// RFLAGS.IF.
const IF: u64 = 1 << 9;
/// TLB_CONTROL in [`vmcb::ASID`]: 0 flushes nothing.
const TLB_CONTROL: u32 = 32;
/// VMPLs.
const VMPLS: u8 = 4;
/// XCR0: x87, SSE, AVX, PKRU.
const XCR0: u64 = 0x207;
/// EVENT_INJ: an event is being delivered; its type; that of INT instructions.
const EVENT_VALID: u64 = 1 << 31;
const EVENT_TYPE: u64 = 7 << 8;
const EVENT_INT: u64 = 4 << 8;

/// A CPU at the border: host state apart from what TCG's VMRUN and #VMEXIT do not switch.
pub trait Border: Cpu {
    /// The page for the host's state.
    fn host_area(&self) -> u64;
    /// The registers that VMRUN and #VMEXIT leave to the model.
    fn registers(&self) -> Registers;
    /// Changes them, DR0 to DR3 only if `debug`.
    fn set_registers(&self, registers: &Registers, debug: bool);
    /// VMLOAD.
    fn vmload(&self, pa: u64);
    /// VMSAVE.
    fn vmsave(&self, pa: u64);
}

impl Running {
    /// An SNP guest.
    pub fn snp(&self) -> bool {
        self.features & feature::SNP != 0
    }

    fn debug_swap(&self) -> bool {
        self.features & feature::DEBUG_SWAP != 0
    }
}

/// Kinds of guests by what their ASIDs are.
#[derive(Clone, Copy)]
enum Kinds {
    Sev,
    SevEs,
    Snp,
}

/// A guest with encrypted memory has an ASID from its kind's range (CPUID 8000001F) that firmware
/// has bound to such a guest (ACTIVATE), and not taken back: otherwise there is no key. That VMRUN
/// refuses it is a model choice.
fn check_asid(model: &Model<'_>, asid: u32, kind: Kinds) -> Result<(), Wrong> {
    let (range, bound) = match kind {
        Kinds::Sev => (MIN_SEV_ASID..ASIDS + 1, Bound::Sev),
        Kinds::SevEs => (1..MIN_SEV_ASID, Bound::Sev),
        Kinds::Snp => (1..MIN_SEV_ASID, Bound::Snp),
    };
    if range.contains(&asid) && model.link.bound(asid) == bound {
        Ok(())
    } else {
        Err(Wrong::Asid(asid))
    }
}

/// A field of the VMCB. VMCBs whose address VMRUN accepted, and that hold no RAM, are refused
/// before (`svm::encrypted`).
fn field(ram: &Ram, vmcb: u64, offset: u64) -> &AtomicU64 {
    static NOWHERE: AtomicU64 = AtomicU64::new(0);
    ram.word(vmcb + offset).unwrap_or(&NOWHERE)
}

impl Layer {
    /// VMRUN on the host, with RAX holding the VMCB's address.
    pub fn vmrun(&self, model: &Model<'_>, cpu: &impl Border) -> Outcome {
        let vmcb = cpu.get(Reg::Rax);
        // TCG raises the exceptions, and runs guests without encrypted registers.
        if cpu.cpl() != 0 || cpu.get(Reg::Efer) & SVME == 0 || !svm::encrypted(&model.ram, vmcb) {
            let sev = Some(vmcb).filter(|vmcb| sev::is_vmcb(&model.ram, *vmcb));
            self.cpu(cpu.index()).sev.set(sev);
            let asid = field(&model.ram, vmcb, vmcb::ASID).load(Acquire) as u32;
            if let (Some(_), Err(wrong)) = (sev, check_asid(model, asid, Kinds::Sev)) {
                self.cpu(cpu.index()).sev.set(None);
                return self.refuse(model, cpu, vmcb, wrong);
            }
            return model.execute(Kind::Vmrun, cpu);
        }
        if let Some(outcome) = model.refuses_vmcb(cpu, vmcb) {
            return outcome;
        }
        match self.enter(model, cpu, vmcb) {
            Ok(()) => Outcome::Native,
            Err(wrong) => self.refuse(model, cpu, vmcb, wrong),
        }
    }

    /// The VMCB says that it cannot be run.
    fn refuse(&self, model: &Model<'_>, cpu: &impl Cpu, vmcb: u64, wrong: Wrong) -> Outcome {
        self.end(model, cpu.index(), wrong);
        let code = if let Wrong::VmsaBusy(_) = wrong { exit::BUSY } else { exit::INVALID };
        svm::refuse(&model.ram, vmcb, code);
        Outcome::retire([])
    }

    /// Whether a guest with encrypted registers runs on the CPU.
    pub fn runs(&self, index: usize) -> bool {
        self.cpu(index).running.get().is_some()
    }

    /// What the translations of the guest on this CPU depend on.
    pub fn whose(&self, model: &Model<'_>, cpu: &impl Inside) -> Option<Whose> {
        let running = self.cpu(cpu.index()).running.get()?;
        let rmp_changes = model.rmp_changes.load(SeqCst);
        Some(Whose { running, paging: cpu.paging(), rmp_changes })
    }

    /// Whether the hypervisor wants VMRUN to flush the TLB of the guest that is about to run.
    pub fn wants_flush(&self, model: &Model<'_>, index: usize) -> bool {
        let running = self.cpu(index).running.get();
        running.is_none_or(|running| {
            field(&model.ram, running.vmcb, vmcb::ASID).load(Relaxed) >> TLB_CONTROL & 0xff != 0
        })
    }

    /// Whether this layer has something to do when the guest on the CPU leaves.
    pub fn has_guest(&self, index: usize) -> bool {
        self.runs(index) || self.cpu(index).sev.get().is_some()
    }

    /// Whether the next event on this CPU may be a #VC of this layer's.
    pub fn expects_delivery(&self, index: usize) -> bool {
        self.cpu(index).vc.get().is_some()
    }

    /// Before TCG's VMRUN of an SEV-ES or SNP guest: loads what the VMSA holds.
    fn enter(&self, model: &Model<'_>, cpu: &impl Border, vmcb: u64) -> Result<(), Wrong> {
        let ram = &model.ram;
        let get = |offset| field(ram, vmcb, offset).load(Acquire);
        if get(vmcb::MISC_CTL) & misc::NESTED_PAGING == 0 {
            return Err(Wrong::NoNestedPaging);
        }
        if get(vmcb::MISC_CTL_2) & misc_2::LBR == 0 {
            return Err(Wrong::NoLbr);
        }
        let int_ctl = get(vmcb::INT_CTL);
        if int_ctl & int_ctl::V_INTR_MASKING == 0 {
            return Err(Wrong::IntCtl(int_ctl));
        }
        let host = cpu.host_area();
        // Its registers would come back from page 0, where nobody has put them.
        if host == 0 || Vmsa::read(ram, host + vmcb::SAVE).is_none() {
            return Err(Wrong::NoHostArea(host));
        }
        let pa = get(vmcb::VMSA);
        let vmsa = Vmsa::read(ram, pa).filter(|_| pa % 4096 == 0).ok_or(Wrong::VmsaAddress(pa))?;
        let running = Running {
            vmcb,
            vmsa: pa,
            nested_cr3: get(vmcb::NESTED_CR3),
            features: vmsa.quad(save::SEV_FEATURES),
            asid: get(vmcb::ASID) as u32,
            vmpl: vmsa.vmpl(),
            host_pat: cpu.registers().pat,
        };
        let registers = vmsa.registers();
        self.check(model, cpu, &running, &registers)?;
        let me = self.cpu(cpu.index());
        model.enters(cpu.index(), vmcb, pa);
        if model.in_use(pa..pa + 1, Some(cpu.index())) {
            model.leaves(cpu.index());
            return Err(Wrong::VmsaBusy(pa));
        }
        vmsa.to_vmcb(ram, vmcb);
        cpu.vmload(vmcb);
        cpu.set_registers(&registers, running.debug_swap());
        me.running.set(Some(running));
        self.stats.entered();
        Ok(())
    }

    fn check(
        &self,
        model: &Model<'_>,
        cpu: &impl Cpu,
        running: &Running,
        registers: &Registers,
    ) -> Result<(), Wrong> {
        if running.features & !(feature::SNP | feature::DEBUG_SWAP) != 0 {
            return Err(Wrong::Features(running.features));
        }
        if running.vmpl >= VMPLS {
            return Err(Wrong::Vmpl(running.vmpl));
        }
        let Registers { xcr0, fpu, .. } = registers;
        if xcr0 & !XCR0 != 0 || xcr0 & 1 == 0 || xcr0 & 6 == 4 {
            return Err(Wrong::Xcr0(*xcr0));
        }
        if fpu.mxcsr >> 16 != 0 {
            return Err(Wrong::Mxcsr(fpu.mxcsr));
        }
        let snp_en = model.link_cpu(cpu).syscfg.load(Acquire) & SNP_EN != 0;
        let owned = model.rmp.entry(running.vmsa).is_some_and(|entry| {
            let vmsa = entry.assigned() && entry.vmsa() && entry.validated() && !entry.immutable();
            vmsa && entry.asid() == running.asid
        });
        if running.snp() && !(snp_en && owned) {
            return Err(Wrong::VmsaOwner(running.vmsa));
        }
        check_asid(model, running.asid, if running.snp() { Kinds::Snp } else { Kinds::SevEs })
    }

    /// TCG is about to carry out a #VMEXIT, and the guest's registers are still in place. True: the
    /// exit is the guest's own affair, and it gets #VC instead. False: the hypervisor gets it, with
    /// everything that TCG does not know of it.
    pub fn exit(&self, model: &Model<'_>, cpu: &impl Inside) -> bool {
        let me = self.cpu(cpu.index());
        // A #VC whose delivery faulted: KVM drops it, and the guest will be at the instruction
        // again.
        me.vc.set(None);
        let reflected = me.running.get().and_then(|running| self.complete(model, cpu, &running));
        me.vc.set(reflected);
        me.forget();
        reflected.is_some()
    }

    /// An event is to be delivered to the guest on `cpu`. Only for the log, if the guest shuts
    /// down.
    pub fn event(&self, cpu: &impl Inside, vector: i32) {
        self.cpu(cpu.index()).event(vector, cpu.rip());
    }

    /// The error code if the exit becomes #VC.
    fn complete(&self, model: &Model<'_>, cpu: &impl Inside, running: &Running) -> Option<u32> {
        let me = self.cpu(cpu.index());
        let field = |offset| field(&model.ram, running.vmcb, offset);
        let mut code = field(vmcb::EXIT_CODE).load(Relaxed);
        if code == exit::INVALID {
            return None;
        }
        if code == exit::NPF {
            let (info_1, info_2) = (field(vmcb::EXIT_INFO_1), field(vmcb::EXIT_INFO_2));
            let fault = access::Fault { info_1: info_1.load(Relaxed), gpa: info_2.load(Relaxed) };
            match fault.complete(&cpu.paging(), me.denied.get()) {
                Some(fault) => {
                    info_1.store(fault.info_1, Relaxed);
                    info_2.store(fault.gpa, Relaxed);
                }
                None => code = exit::PAGE_NOT_VALIDATED,
            }
        }
        let info_1 = field(vmcb::EXIT_INFO_1).load(Relaxed);
        let event = field(vmcb::EVENT_INJ).load(Relaxed);
        let in_delivery = event & EVENT_VALID != 0;
        match disposition(code, info_1, me.vmgexit.get()) {
            Disposition::Automatic { code, advance } => {
                field(vmcb::EXIT_CODE).store(code, Relaxed);
                cpu.skip(advance);
                // RIP is still at the instruction, which will be executed again; the hypervisor
                // could not inject it, because it does not know where the next one is.
                if event & EVENT_TYPE == EVENT_INT {
                    field(vmcb::EVENT_INJ).store(0, Relaxed);
                }
                self.stats.exit(code, in_delivery);
                if code == exit::SHUTDOWN {
                    self.shuts_down(model, cpu.index(), ("VMSA", running.vmsa), cpu.rip());
                }
                None
            }
            Disposition::Reflected(reflected) => {
                self.stats.vc(code);
                if in_delivery {
                    self.end(model, cpu.index(), Wrong::Vectoring(reflected));
                    field(vmcb::EXIT_CODE).store(exit::INVALID, Release);
                    return None;
                }
                if code == exit::PAGE_NOT_VALIDATED {
                    cpu.set_cr2(me.address.get());
                }
                Some(reflected)
            }
        }
    }

    /// Says what came before. The guest is told apart by a page of its own.
    fn shuts_down(&self, model: &Model<'_>, index: usize, (page, pa): (&str, u64), rip: u64) {
        model.log.note(format_args!(
            "CPU {index}: SHUTDOWN of the guest with {page} {pa:#x} at {rip:#x}, behind {:x?}",
            self.cpu(index).events.get()
        ));
    }

    /// After TCG's #VMEXIT: saves what the guest left, and gives the host its registers.
    pub fn leave(&self, model: &Model<'_>, cpu: &impl Border) {
        let me = self.cpu(cpu.index());
        if let Some(vmcb) = me.sev.take() {
            sev::leave(&model.ram, vmcb);
            let field = |offset| field(&model.ram, vmcb, offset).load(Relaxed);
            if field(vmcb::EXIT_CODE) == exit::SHUTDOWN {
                let rip = field(vmcb::SAVE + save::RIP as u64);
                self.shuts_down(model, cpu.index(), ("VMCB", vmcb), rip);
            }
        }
        let Some(running) = me.running.take() else {
            return;
        };
        let code = field(&model.ram, running.vmcb, vmcb::EXIT_CODE).load(Relaxed);
        // TCG refused the state, or the model did: the guest has not run on, its VMSA stays.
        if code != exit::INVALID {
            save(&model.ram, cpu, &running);
        }
        restore_host(&model.ram, cpu, &running);
    }
}

/// What the guest left goes to the VMSA, and whether it takes interrupts to the VMCB.
fn save(ram: &Ram, cpu: &impl Border, running: &Running) {
    let Some(mut vmsa) = Vmsa::read(ram, running.vmsa) else {
        return;
    };
    cpu.vmsave(running.vmcb);
    vmsa.take_from_vmcb(ram, running.vmcb);
    let mut registers = cpu.registers();
    if !running.debug_swap() {
        registers.dr = vmsa.registers().dr;
    }
    vmsa.set_registers(&registers);
    vmsa.write(ram, running.vmsa);
    if vmsa.quad(save::RFLAGS) & IF != 0 {
        let int_state = field(ram, running.vmcb, vmcb::INT_STATE);
        int_state.fetch_or(int_state::INTERRUPT_MASK, Relaxed);
    }
}

/// Everything that TCG's #VMEXIT has not restored comes from the host save area, where KVM has
/// put it (`__svm_sev_es_vcpu_run`, `sev_es_prepare_switch_to_guest`); the FPU is reset.
fn restore_host(ram: &Ram, cpu: &impl Border, running: &Running) {
    let area = cpu.host_area();
    if let Some(host) = Vmsa::read(ram, area + vmcb::SAVE) {
        let registers = Registers { pat: running.host_pat, fpu: Fpu::INITIAL, ..host.registers() };
        cpu.set_registers(&registers, running.debug_swap());
    }
    cpu.vmload(area);
}
