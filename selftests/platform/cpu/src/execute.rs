// SPDX-License-Identifier: GPL-2.0
//! One instruction in, its outcome out.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use link::SNP_EN;

use crate::acpi::{self, NotPatched};
use crate::cpu::{Cpu, Fault, Outcome, Reg};
use crate::cpuid::{self, ENCRYPTED_MEMORY};
use crate::insn::Kind;
use crate::model::Model;
use crate::msr::{self, Msr, Written};
use crate::rmp_insn;
use crate::svm::{self, Vmrun};
use crate::variant::Pin;

impl Model<'_> {
    /// Executes `kind` on `cpu`.
    pub fn execute(&self, kind: Kind, cpu: &impl Cpu) -> Outcome {
        match kind {
            Kind::Cpuid => self.cpuid(cpu),
            Kind::Rdmsr => self.rdmsr(cpu),
            Kind::Wrmsr => self.wrmsr(cpu),
            Kind::Wbinvd => self.wbinvd(cpu),
            Kind::Wbnoinvd => self.wbnoinvd(cpu),
            Kind::Vmrun => self.vmrun(cpu),
            Kind::Rmpupdate => rmp_insn::rmpupdate(self, cpu),
            Kind::Psmash => rmp_insn::psmash(self, cpu),
            Kind::Rmpread => rmp_insn::rmpread(self, cpu),
            Kind::Vmgexit | Kind::Pvalidate | Kind::Rmpadjust | Kind::MovToCr | Kind::Invlpga => {
                Outcome::Native
            }
        }
    }

    fn cpuid(&self, cpu: &impl Cpu) -> Outcome {
        let number = cpu.get(Reg::Rax) as u32;
        let Some(leaf) = cpuid::leaf(number, self.rmpread, self.segments) else {
            return Outcome::Native;
        };
        // A kernel asks for this leaf before it looks at ACPI; a BIOS has no use for it.
        if number == ENCRYPTED_MEMORY && cpu.cpl() == 0 {
            self.patch_acpi(cpu);
            self.pin();
        }
        self.stats.cpuid();
        Outcome::retire([
            (Reg::Rax, leaf.eax.into()),
            (Reg::Rbx, leaf.ebx.into()),
            (Reg::Rcx, leaf.ecx.into()),
            (Reg::Rdx, leaf.edx.into()),
        ])
    }

    fn patch_acpi(&self, cpu: &impl Cpu) {
        if self.acpi_patched.swap(true, Acquire) {
            return;
        }
        // With UEFI they may be anywhere below 4 GiB. Its own programs, which ask as well, run in
        // the lower half of addresses.
        let in_upper_half = cpu.pc() >> 63 != 0;
        let result = match acpi::patch(cpu, acpi::BIOS_AREA) {
            Err(NotPatched::NoRsdp) if in_upper_half => {
                acpi::patch(cpu, acpi::BIOS_AREA.end..self.ram.low())
            }
            result => result,
        };
        match result {
            Ok(registers) => {
                self.iommu.store(registers, Release);
                self.link.iommu_snp.store(1, Release);
                self.log
                    .note(format_args!("ACPI: the IOMMU announces SNP, CPUs can be plugged in"));
            }
            Err(error) => {
                self.log.note(format_args!(
                    "ACPI: tables not patched, the IOMMU will not announce SNP: {error}"
                ));
                // The tables may not be there yet.
                let too_early = error == NotPatched::NoRsdp && !in_upper_half;
                self.acpi_patched.store(!too_early, Release);
            }
        }
    }

    /// The BIOS is done with the MSRs: those that are to be wrong become so.
    fn pin(&self) {
        if self.pinned.swap(true, AcqRel) {
            return;
        }
        for pin in &self.pins {
            for (index, cpu) in self.link.cpu.iter().enumerate() {
                let (Some(value), Some(place)) = (pin.value, msr::place(pin.msr, cpu)) else {
                    continue;
                };
                if pin.cpu.unwrap_or(index) == index {
                    place.store(value, Release);
                }
            }
        }
    }

    /// What is wrong with an MSR of `cpu`.
    fn pin_of(&self, number: u32, cpu: &impl Cpu) -> Option<&Pin> {
        let mine = |pin: &&Pin| pin.msr == number && pin.cpu.unwrap_or(cpu.index()) == cpu.index();
        self.pinned.load(Acquire).then(|| self.pins.iter().find(mine))?
    }

    fn rdmsr(&self, cpu: &impl Cpu) -> Outcome {
        let Some((number, msr)) = self.privileged_msr(cpu) else {
            return Outcome::Native;
        };
        let value = match self.pin_of(number, cpu) {
            Some(Pin { value: None, .. }) => return self.fault(Fault::Msr),
            Some(_) => msr::place(number, self.link_cpu(cpu)).map(|place| place.load(Acquire)),
            None => msr::read(number, self.link_cpu(cpu)),
        };
        let Some(value) = value else {
            return Outcome::Native;
        };
        self.stats.rdmsr(msr);
        Outcome::retire([(Reg::Rax, value & 0xffff_ffff), (Reg::Rdx, value >> 32)])
    }

    fn wrmsr(&self, cpu: &impl Cpu) -> Outcome {
        let Some((number, msr)) = self.privileged_msr(cpu) else {
            return Outcome::Native;
        };
        let value = (cpu.get(Reg::Rdx) << 32) | (cpu.get(Reg::Rax) & 0xffff_ffff);
        let written = match self.pin_of(number, cpu) {
            Some(Pin { value: None, .. }) => Written::Fault,
            Some(_) => Written::Ignored,
            None => msr::write(number, value, self.link_cpu(cpu), |pa| self.assigned(pa)),
        };
        self.stats.wrmsr(msr, written);
        if msr == Msr::Syscfg && written == Written::Done && value & SNP_EN != 0 {
            // From here on writes are looked at, and what is in the TLB was not.
            cpu.flush_translations();
        }
        match written {
            Written::Native => Outcome::Native,
            Written::Done | Written::Ignored => Outcome::retire([]),
            Written::Fault => self.fault(Fault::Msr),
        }
    }

    /// The MSR in ECX if it is one of ours. TCG raises the #GP of unprivileged accesses.
    fn privileged_msr(&self, cpu: &impl Cpu) -> Option<(u32, Msr)> {
        let number = cpu.get(Reg::Rcx) as u32;
        Some((number, Msr::from_number(number)?)).filter(|_| cpu.cpl() == 0)
    }

    /// TCG has no caches to write back; the models want to know that software did it.
    fn wbinvd(&self, cpu: &impl Cpu) -> Outcome {
        if cpu.cpl() == 0 {
            // First: this one comes behind what firmware has done.
            if self.pages_were_taken() {
                cpu.flush_all_translations();
            }
            if self.writes_back(cpu.index()) {
                cpu.flush_translations();
            }
            self.stats.wbinvd();
        }
        Outcome::Native
    }

    /// Nobody's debts are paid by it.
    fn wbnoinvd(&self, cpu: &impl Cpu) -> Outcome {
        if cpu.cpl() == 0 {
            self.stats.wbnoinvd();
        }
        Outcome::Native
    }

    fn vmrun(&self, cpu: &impl Cpu) -> Outcome {
        const SVME: u64 = 1 << 12;
        // TCG raises the exceptions.
        if cpu.cpl() != 0 || cpu.get(Reg::Efer) & SVME == 0 {
            return Outcome::Native;
        }
        let vmcb = cpu.get(Reg::Rax);
        if let Some(outcome) = self.refuses_vmcb(cpu, vmcb) {
            return outcome;
        }
        match svm::vmrun(&self.ram, vmcb) {
            Vmrun::Native => {
                self.stats.vmrun();
                if vmcb % 4096 == 0 {
                    self.enters(cpu.index(), vmcb, 0);
                }
                Outcome::Native
            }
            Vmrun::NotModelled => {
                if self.stats.vmrun_not_modelled() {
                    self.log.note(format_args!(
                        "guest execution: not modelled; VMRUN of an SEV-ES or SNP guest ends with \
                         VMEXIT_INVALID"
                    ));
                }
                Outcome::retire([])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use link::Report;
    use rmp::{Entry, State};

    use super::*;
    use crate::testing::{machine, Fake, BASE};
    use crate::variant::Checks;
    use crate::writable::{Alias, Held};

    /// RMPUPDATE's operand: guest 5's page at GPA 7000h, immutable.
    const PRE_GUEST: [u8; 16] = [0, 0x70, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 5, 0, 0, 0];
    const PAGE: u64 = 0x4000;

    fn eax(value: u64) -> Outcome {
        Outcome::retire([(Reg::Rax, value)])
    }

    #[test]
    fn registers_are_numbered_in_order() {
        for (number, (reg, name)) in Reg::ALL.iter().enumerate() {
            assert_eq!(*reg as usize, number, "{name}");
        }
    }

    #[test]
    fn rmp_instructions_are_undefined_without_snp() {
        let model = machine(false);
        for kind in [Kind::Rmpupdate, Kind::Psmash, Kind::Rmpread] {
            let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(PRE_GUEST);
            assert_eq!(model.execute(kind, &cpu), Outcome::Native, "{kind:?}");
        }
        assert_eq!(model.rmp.state(PAGE), Some(State::Hypervisor));
    }

    #[test]
    fn rmp_instructions_are_the_kernels() {
        let model = machine(true);
        for kind in [Kind::Rmpupdate, Kind::Psmash, Kind::Rmpread] {
            let cpu = Fake::new(&[(Reg::Rax, PAGE), (Reg::Cs, 0x33)]).with_operand(PRE_GUEST);
            assert_eq!(model.execute(kind, &cpu), Outcome::GeneralProtection, "{kind:?}");
        }
        assert_eq!(model.rmp.state(PAGE), Some(State::Hypervisor));
    }

    #[test]
    fn rmpupdate_changes_the_table_in_ram() {
        let model = machine(true);
        let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(PRE_GUEST);
        assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(0));
        assert_eq!(model.rmp.state(PAGE), Some(State::PreGuest));
        let raw = model.ram.word(BASE + 0x4000 + (PAGE >> 12) * 16).unwrap();
        assert_eq!(raw.load(Relaxed), Entry::pre_guest(5, 0x7000).lo);
        // Now immutable: FAIL_PERMISSION. A reserved byte: FAIL_INPUT. Not mapped: #GP.
        assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(2));
        let mut reserved = PRE_GUEST;
        reserved[11] = 1;
        let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(reserved);
        assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(1));
        let unmapped = Fake::new(&[(Reg::Rax, PAGE)]);
        assert_eq!(model.execute(Kind::Rmpupdate, &unmapped), Outcome::GeneralProtection);
        assert_eq!(model.link_cpu(&cpu).rmpupdate.load(Relaxed), 3, "those that were executed");
    }

    #[test]
    fn pages_that_are_to_be_refused_are_so_for_good() {
        let model = machine(true);
        model.link.refuse_rmpupdate.store(2, Relaxed);
        let give = |page: u64| Fake::new(&[(Reg::Rax, page)]).with_operand(PRE_GUEST);
        let share = Fake::new(&[(Reg::Rax, PAGE)]).with_operand([0; 16]);
        assert_eq!(model.execute(Kind::Rmpupdate, &share), eax(0), "gives nothing away");
        for page in [PAGE, PAGE + 0x1000] {
            assert_eq!(model.execute(Kind::Rmpupdate, &give(page)), eax(2));
            assert_eq!(model.rmp.state(page), Some(State::HvFixed));
        }
        assert_eq!(model.execute(Kind::Rmpupdate, &give(PAGE + 0x2000)), eax(0));
        assert_eq!(model.execute(Kind::Rmpupdate, &give(PAGE)), eax(2), "still");
    }

    #[test]
    fn ranges_are_refused_as_long_as_they_are_to_be() {
        let model = machine(true);
        let update = |page: u64| Fake::new(&[(Reg::Rax, page)]).with_operand(PRE_GUEST);
        model.link.no_rmpupdate.set(PAGE, 0x1000);
        assert_eq!(model.execute(Kind::Rmpupdate, &update(PAGE)), eax(2));
        assert_eq!(model.rmp.state(PAGE), Some(State::Hypervisor), "nothing has happened to it");
        assert_eq!(model.execute(Kind::Rmpupdate, &update(PAGE + 0x1000)), eax(0));
        model.link.no_rmpupdate.set(0, 0);
        assert_eq!(model.execute(Kind::Rmpupdate, &update(PAGE)), eax(0));
        let psmash = Fake::new(&[(Reg::Rax, 0)]);
        assert_eq!(model.execute(Kind::Psmash, &psmash), eax(1), "no 2 MiB page");
        model.link.no_psmash.set(0, 0x20_0000);
        assert_eq!(model.execute(Kind::Psmash, &psmash), eax(2));
    }

    /// Writable translations of a page that is given away must be looked up anew; of one that comes
    /// back, none exists.
    #[test]
    fn translations_are_dropped_when_a_page_is_given_away() {
        let mut model = machine(true);
        use Checks::{Enforce, Off};
        const SHARED: [u8; 16] = [0; 16];
        const RECLAIM: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let by = |cpu| Alias { cpu, va: 0xffff_8880_0000_4000, mmus: 1 };
        let own = vec![(by(1), PAGE)];
        let rows = [
            (Enforce, RECLAIM, Held::Nowhere, vec![], 0, vec![]),
            (Enforce, RECLAIM, Held::By(by(1)), vec![], 0, own.clone()),
            (Enforce, RECLAIM, Held::By(by(1)), vec![0, 1], 10, own),
            (Enforce, RECLAIM, Held::By(by(0)), vec![], 100, vec![]),
            (Enforce, RECLAIM, Held::Anyhow, vec![0], 100, vec![]),
            (Enforce, SHARED, Held::Anyhow, vec![0], 0, vec![]),
            (Off, RECLAIM, Held::Anyhow, vec![0], 0, vec![]),
        ];
        for (checks, operand, held, guests, flushes, protected) in rows {
            model.checks = checks;
            model.writable.note(&model.ram, PAGE, held, false);
            guests.iter().for_each(|cpu| model.enters(*cpu, 0x6000 + 0x1000 * *cpu as u64, 0));
            let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(operand);
            assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(0));
            let row = format!("{checks:?} {operand:?} {held:?} {guests:?}");
            assert_eq!(cpu.flushes.get(), flushes, "{row}");
            assert_eq!(*cpu.protected.borrow(), protected, "{row}");
            guests.into_iter().for_each(|cpu| model.leaves(cpu));
            model.writable.take(&model.ram, PAGE, 0x1000);
        }
    }

    /// What guests have left in TLBs depends on it.
    #[test]
    fn changes_of_the_rmp_are_counted() {
        const LARGE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 5, 0, 0, 0];
        let model = machine(true);
        let update = |page, operand| {
            let cpu = Fake::new(&[(Reg::Rax, page)]).with_operand(operand);
            model.execute(Kind::Rmpupdate, &cpu)
        };
        let psmash = || model.execute(Kind::Psmash, &Fake::new(&[(Reg::Rax, 0)]));
        let changes = || model.rmp_changes.load(Relaxed);
        assert_eq!((psmash(), changes()), (eax(1), 0), "refused");
        assert_eq!((update(0, LARGE), changes()), (eax(0), 1));
        assert_eq!((psmash(), changes()), (eax(0), 2));
        assert_eq!((update(PAGE, [0; 16]), changes()), (eax(0), 3), "back to the host");
        assert_eq!((update(PAGE, PRE_GUEST), changes()), (eax(0), 4));
        assert_eq!((update(PAGE, PRE_GUEST), changes()), (eax(2), 4), "refused");
    }

    #[test]
    fn a_page_that_a_guest_runs_with_is_in_use() {
        let model = machine(true);
        model.enters(0, PAGE, 0);
        let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(PRE_GUEST);
        assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(3));
        model.leaves(0);
        assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(0));
    }

    #[test]
    fn a_region_that_another_processor_works_on_is_busy() {
        let model = machine(true);
        model.link.rmp_locks[0].store(1, Relaxed);
        let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(PRE_GUEST);
        assert_eq!(model.execute(Kind::Rmpupdate, &cpu), eax(4));
        assert_eq!(model.execute(Kind::Psmash, &Fake::new(&[(Reg::Rax, 0)])), eax(3));
    }

    #[test]
    fn rmpread_gives_the_architectural_view() {
        let mut model = machine(true);
        let update = Fake::new(&[(Reg::Rax, PAGE)]).with_operand(PRE_GUEST);
        assert_eq!(model.execute(Kind::Rmpupdate, &update), eax(0));
        let cpu = Fake::new(&[(Reg::Rax, PAGE)]).with_operand([0xff; 16]);
        assert_eq!(model.execute(Kind::Rmpread, &cpu), eax(0));
        let expected = [0, 0x70, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0, 5, 0, 0, 0];
        assert_eq!(cpu.operand.get(), Some(expected));
        model.rmpread = false;
        assert_eq!(model.execute(Kind::Rmpread, &cpu), Outcome::Native);
    }

    #[test]
    fn syscfg_reads_what_was_written_on_this_cpu() {
        let model = machine(false);
        let syscfg = [(Reg::Rcx, 0xffff_ffff_c001_0010)];
        let written = [(Reg::Rcx, 0xc001_0010), (Reg::Rax, 0xffff_ffff_0388_0000)];
        let writer = Fake::new(&written);
        assert_eq!(model.execute(Kind::Wrmsr, &writer), Outcome::retire([]));
        assert_eq!(writer.flushes.get(), 1);
        let value = Outcome::retire([(Reg::Rax, 0x0388_0000), (Reg::Rdx, 0)]);
        assert_eq!(model.execute(Kind::Rdmsr, &Fake::new(&syscfg)), value);
        assert_eq!(model.link.cpu[0].syscfg.load(Relaxed), 0x0080_0000, "CPU 0 has its own");
    }

    /// From the kernel's first look at CPUID on, and until a reset.
    #[test]
    fn pinned_msrs_differ_and_stay_so() {
        let mut model = machine(false);
        let pin = |cpu, name, value| Pin { cpu, msr: msr::number(name).unwrap(), value };
        model.pins = vec![
            pin(Some(1), "SYSCFG", Some(0x0300_0000)),
            pin(None, "MTRR_DEF_TYPE", Some(0xc06)),
            pin(Some(1), "TOP_MEM2", None),
        ];
        let rdmsr = |number| model.execute(Kind::Rdmsr, &Fake::new(&[(Reg::Rcx, number)]));
        let (syscfg, mtrr, top_mem2) = (0xc001_0010, 0x2ff, 0xc001_001d);
        let value = |value| Outcome::retire([(Reg::Rax, value), (Reg::Rdx, 0)]);
        assert_eq!([rdmsr(syscfg), rdmsr(mtrr)], [value(0x0080_0000), Outcome::Native]);
        model.execute(Kind::Cpuid, &Fake::new(&[(Reg::Rax, 0x8000_001f)]));
        assert_eq!([rdmsr(syscfg), rdmsr(mtrr)], [value(0x0300_0000), value(0xc06)]);
        assert_eq!(rdmsr(top_mem2), Outcome::GeneralProtection);
        for (number, outcome) in [
            (syscfg, Outcome::retire([])),
            (mtrr, Outcome::retire([])),
            (top_mem2, Outcome::GeneralProtection),
        ] {
            let write = Fake::new(&[(Reg::Rcx, number), (Reg::Rax, 0)]);
            assert_eq!(model.execute(Kind::Wrmsr, &write), outcome, "{number:#x}");
        }
        assert_eq!([rdmsr(syscfg), rdmsr(mtrr)], [value(0x0300_0000), value(0xc06)]);
        assert_eq!(model.link.cpu[0].syscfg.load(Relaxed), 0x0080_0000, "CPU 0 is as it was");
        // Firmware is not bound by it.
        model.link.cpu[1].syscfg.store(0, Relaxed);
        assert_eq!(rdmsr(syscfg), value(0));
        model.reset();
        model.reset();
        assert_eq!([rdmsr(syscfg), rdmsr(mtrr)], [value(0x0080_0000), Outcome::Native]);
    }

    #[test]
    fn msrs_at_the_wrong_place_are_tcgs() {
        let model = machine(false);
        for registers in [
            &[(Reg::Rcx, 0xc001_0010), (Reg::Cs, 0x33)][..], // user mode
            &[(Reg::Rcx, 0xc001_0131)],                      // SEV_STATUS: 0 on a host
            &[(Reg::Rcx, 0xc000_0080)],                      // EFER
        ] {
            assert_eq!(model.execute(Kind::Rdmsr, &Fake::new(registers)), Outcome::Native);
            assert_eq!(model.execute(Kind::Wrmsr, &Fake::new(registers)), Outcome::Native);
        }
    }

    #[test]
    fn real_mode_has_no_privilege_level() {
        // CS holds a segment number whose low bits say nothing.
        let bios = Fake::new(&[(Reg::Cr0, 0x10), (Reg::Cs, 0xf003), (Reg::Rcx, 0xc001_0010)]);
        assert_ne!(machine(false).execute(Kind::Rdmsr, &bios), Outcome::Native);
    }

    #[test]
    fn cpuid_answers_everybody_and_looks_for_the_iommu_once_per_kernel_call() {
        let model = machine(false);
        let leaf = (Reg::Rax, 0x8000_001f);
        let user = Fake::new(&[leaf, (Reg::Cs, 0x33)]);
        let expected = Outcome::retire([
            (Reg::Rax, 0x20_043b),
            // The C-bit is bit 51, and 5 bits of addresses are lost.
            (Reg::Rbx, 4 << 12 | 5 << 6 | 51),
            (Reg::Rcx, 100),
            (Reg::Rdx, 50),
        ]);
        assert_eq!(model.execute(Kind::Cpuid, &user), expected);
        assert_eq!(user.bios_reads.get(), 0);
        let kernel = Fake::new(&[leaf]);
        assert_eq!(model.execute(Kind::Cpuid, &kernel), expected);
        assert_eq!(kernel.bios_reads.get(), 1, "no RSDP: nothing else to read");
        assert!(!model.acpi_patched.load(Relaxed), "to be tried again");
        kernel.pc.set(0xffff_ffff_8100_0000);
        assert_eq!(model.execute(Kind::Cpuid, &kernel), expected);
        let chunks = (model.ram.low() - (1 << 20)) / (128 << 10);
        assert_eq!(u64::from(kernel.bios_reads.get()), 1 + 1 + chunks, "everywhere");
        assert!(model.acpi_patched.load(Relaxed), "for good");
        assert_eq!(model.link.iommu_snp.load(Relaxed), 0);
    }

    #[test]
    fn cache_writebacks_are_counted_per_cpu() {
        let model = machine(false);
        for (kind, cs, count) in
            [(Kind::Wbinvd, 0x10, 1), (Kind::Wbinvd, 0x33, 1), (Kind::Wbnoinvd, 0x10, 1)]
        {
            let cpu = Fake::new(&[(Reg::Cs, cs)]);
            assert_eq!(model.execute(kind, &cpu), Outcome::Native);
            let counts = [0, 1].map(|n| model.link.cpu[n].wbinvd.load(Relaxed));
            assert_eq!(counts, [0, count], "{kind:?} {cs:#x}");
        }
    }

    /// A WBINVD behind SNP_INIT does not count for the time before, however late the CPUs notice.
    #[test]
    fn snp_init_is_noticed_before_a_write_back() {
        let model = machine(true);
        model.stores_to(1, BASE);
        model.link.pages_taken.fetch_add(1, Relaxed);
        let cpu = Fake::new(&[]);
        model.execute(Kind::Wbinvd, &cpu);
        let stale = &model.link.cpu[1].reports[Report::StaleCache as usize];
        assert_eq!(stale.count.load(Relaxed), 1);
        assert_eq!(cpu.flushes.get(), 101, "all TLBs for firmware's pages, its own for the RMP");
    }

    #[test]
    fn vmrun_of_an_es_guest_is_skipped_only_where_vmrun_is_legal() {
        let model = machine(true);
        model.ram.word(0x3090).unwrap().store(6, Relaxed);
        let rax = (Reg::Rax, 0x3000);
        for registers in [&[rax, (Reg::Cs, 0x33)], &[rax, (Reg::Efer, 0xd01)]] {
            assert_eq!(model.execute(Kind::Vmrun, &Fake::new(registers)), Outcome::Native);
        }
        assert_eq!(model.execute(Kind::Vmrun, &Fake::new(&[rax])), Outcome::retire([]));
        assert_eq!(model.ram.word(0x3070).unwrap().load(Relaxed), u64::MAX);
        let plain = Fake::new(&[(Reg::Rax, 0x8000)]);
        assert_eq!(model.execute(Kind::Vmrun, &plain), Outcome::Native);
    }

    #[test]
    fn reset_clears_snp_but_power_on_keeps_the_preset() {
        let model = machine(true);
        let some = machine(false);
        Model { snp_en: 0b10, ..some }.add_cpu(1);
        assert_eq!(some.link.cpu[1].syscfg.load(Relaxed), 0x0388_0000);
        assert_eq!(some.link.cpu[0].syscfg.load(Relaxed), 0x0080_0000);
        model.reset();
        assert_eq!(model.link.cpu[1].syscfg.load(Relaxed), 0x0388_0000);
        model.reset();
        assert_eq!(model.link.cpu[1].syscfg.load(Relaxed), 0x0080_0000);
    }
}
