// SPDX-License-Identifier: GPL-2.0

//! Preparing all CPUs for SNP, from top to bottom: the order, why each step is where it is, and
//! what undoes it.
//!
//! [`snp_prepare`] and [`snp_shutdown`] have the names of their counterparts in
//! arch/x86/virt/svm/sev.c. Three things differ from those:
//!
//! * Nothing is written before the preflight has found CPUs and RMP fit for SNP.
//! * Every prepare writes every CPU, where the kernel skips all CPUs if the one that runs it has
//!   SNP_EN. CPUs ignore writes to SYSCFG while SNP_EN is set, so the writes change nothing on CPUs
//!   that are prepared.
//! * Every write is read back.
//!
//! The caller holds the hotplug window open, which proves that every present CPU is online and
//! stays so (`snp_host_window_open()`).
//!
//! The order is pure: no `kernel::`, no I/O. The tests (`prepare/tests.rs`) run it on the build
//! machine and let every step fail. Below it, [`cpus`] takes the steps on the CPUs of this machine.

use crate::window::SnpEn;

/// Prepares all CPUs for SNP_INIT.
///
/// After an error SNP_EN may be set on none, some or all CPUs. The effects of the other steps do no
/// harm, and the next prepare takes all steps again.
pub(crate) fn snp_prepare<M: Machine>(machine: &mut M) -> Result<(), M::Error> {
    // If SNP cannot work here, all registers stay as the BIOS left them.
    let snp_en = machine.preflight()?;

    // CPUs would enforce the entries of an earlier kernel as soon as SNP_EN is set. On a CPU that
    // has SNP_EN already a write to the RMP faults, so the RMP is cleared only while no CPU has
    // SNP_EN.
    if snp_en == SnpEn::Nowhere {
        machine.clear_rmp()?;
    }

    // Firmware and CPUs read the RMP from memory, not from the caches.
    machine.wbinvd_on_all_cpus();

    // MtrrFixDramModEn is not shared between the threads of a core, so it must be set on all CPUs
    // before SNP_EN is set on any. A failure is undone where SNP_EN is not set; a CPU that has it
    // from an earlier prepare ignores the write.
    if let Err(err) = machine.on_each_cpu(Write::SetMfdm) {
        let _ = machine.on_each_cpu(Write::ClearMfdm);
        return Err(err);
    }

    // From here on the way back leads through firmware (X86_SNP_SHUTDOWN) or a reset.
    machine.on_each_cpu(Write::SetSnpEn)?;

    // SNP_INIT requires VM_HSAVE_PA to be zero on all CPUs. KVM sets it anew when it enables SVM.
    machine.on_each_cpu(Write::ClearHsavePa)
}

/// Undoes [`snp_prepare`], once firmware has cleared SNP_EN on every CPU.
///
/// A failure of the first step does not keep the second from being taken.
///
/// # Errors
///
/// The RMP could not be cleared. No CPU enforces it any more, and the next prepare clears it.
pub(crate) fn snp_shutdown<M: Machine>(machine: &mut M) -> Result<(), M::Error> {
    // Before MFDM, as the kernel does it, and before the hotplug window closes.
    let cleared = machine.clear_rmp();
    // An MFDM that stays set does no harm.
    let _ = machine.on_each_cpu(Write::ClearMfdm);
    cleared
}

/// A write to one register of every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// SYSCFG.MFDM = 1.
    SetMfdm,
    /// SYSCFG.MFDM = 0.
    ClearMfdm,
    /// SYSCFG.SNP_EN = 1, SYSCFG.VMPL_EN = 1.
    SetSnpEn,
    /// VM_HSAVE_PA = 0.
    ClearHsavePa,
}

/// The CPUs and the RMP. [`cpus::AllCpus`] is this machine; tests have another one.
pub(crate) trait Machine {
    /// Why a step failed.
    type Error;

    /// Checks all CPUs and the RMP, and returns where SNP_EN is set. Fails if SNP cannot work with
    /// them. Writes nothing.
    fn preflight(&mut self) -> Result<SnpEn, Self::Error>;

    /// Sets bookkeeping and entries of the RMP to zero.
    fn clear_rmp(&mut self) -> Result<(), Self::Error>;

    /// Writes all caches back.
    fn wbinvd_on_all_cpus(&mut self);

    /// Takes a write on every CPU, in one round of interrupts, and reads it back. Fails if a CPU
    /// has ignored it, except for [`Write::ClearMfdm`], which a CPU with SNP_EN ignores.
    fn on_each_cpu(&mut self, write: Write) -> Result<(), Self::Error>;
}

#[cfg(not(test))]
pub(crate) mod cpus {
    //! The steps, on the CPUs of this machine.

    use super::{
        Machine,
        Write, //
    };
    use crate::{
        preflight::Preflight,
        rmp::{
            NotEnforced,
            RmpError,
            Table, //
        },
        rmp_table::TableError,
        sys::{
            cpu,
            errno::EOPNOTSUPP,
            hotplug::CpusRead,
            log,
            msr::Msr,
            percpu::{
                CpuList,
                PerCpu, //
            },
            sleep::has_slept,
        },
        syscfg::{
            self,
            Register,
            MFDM,
            SNP_EN,
            SYSCFG,
            VMPL_EN, //
        },
        window::SnpEn,
    };
    use kernel::{
        bindings,
        prelude::*,
        str::CString, //
    };

    /// All CPUs, and the RMP.
    pub(crate) struct AllCpus<'a> {
        not_enforced: Option<NotEnforced>,
        warnings: &'a mut KVec<CString>,
    }

    impl<'a> AllCpus<'a> {
        /// The CPUs, with the proof if they are known to have no SNP_EN. The preflight adds to
        /// `warnings` what firmware may refuse.
        pub(crate) fn new(
            not_enforced: Option<NotEnforced>,
            warnings: &'a mut KVec<CString>,
        ) -> Self {
            Self {
                not_enforced,
                warnings,
            }
        }
    }

    impl Machine for AllCpus<'_> {
        type Error = RmpError;

        fn preflight(&mut self) -> Result<SnpEn, RmpError> {
            // Firmware takes the pages that the IOMMU writes to, as its registers name them. When
            // a machine wakes up amd_iommu_resume() leaves out the log of page requests and the
            // range of completion waits (7.3): those of the kernel that read the image, or none.
            if has_slept() {
                log::err!(
                    "slept",
                    "SNP stays off: the machine has slept, and the kernel has not told the IOMMU \
                     again where it writes to; restart the machine"
                );
                return Err(EOPNOTSUPP.into());
            }
            let cpus = Preflight::read()?;
            cpus.compare(self.warnings)?;
            let users = cpus.using_svm();
            if !users.is_empty() {
                log::err!(
                    "svm-in-use",
                    "SNP stays off: the virtualization of CPUs {users} is in use (EFER.SVME), and \
                     their VM_HSAVE_PA would have to be cleared. Unload what uses it and reload \
                     kvm_amd"
                );
                return Err(EBUSY.into());
            }
            let table = Table::find().map_err(|err| match err {
                RmpError::Kernel(err) if err == ENOMEM => err,
                RmpError::Table(TableError::Gap { .. }) => {
                    log::err!(
                        "rmp-too-small",
                        "SNP stays off: {err}; look for \"SNP memory coverage\" in the BIOS \
                         set-up, or for a newer BIOS"
                    );
                    EOPNOTSUPP
                }
                RmpError::Table(_) => {
                    log::err!(
                        "rmp-misplaced",
                        "SNP stays off: {err}; look for a newer BIOS"
                    );
                    EOPNOTSUPP
                }
                RmpError::Kernel(_) => {
                    log::err!(
                        "rmp-unreadable",
                        "SNP stays off: {err}; look for a newer BIOS"
                    );
                    EOPNOTSUPP
                }
            })?;
            if let Some(err) = table.off_mib.map(RmpError::from) {
                let text = CString::try_from_fmt(fmt!("{err}"))?;
                log::warn!(
                    "rmp-unaligned",
                    "{text}; firmware may refuse SNP_INIT for that",
                    text = &*text
                );
                self.warnings.push(text, GFP_KERNEL)?;
            }
            self.not_enforced = NotEnforced::check(cpus.snp_en());
            Ok(cpus.snp_en())
        }

        fn clear_rmp(&mut self) -> Result<(), RmpError> {
            let not_enforced = self.not_enforced.as_ref().ok_or(EBUSY)?;
            Ok(Table::find()?.clear(not_enforced)?)
        }

        fn wbinvd_on_all_cpus(&mut self) {
            cpu::wbinvd_on_all();
        }

        fn on_each_cpu(&mut self, write: Write) -> Result<(), RmpError> {
            Ok(match write {
                Write::SetMfdm => set_in_syscfg(MFDM, "SYSCFG.MFDM is missing"),
                Write::ClearMfdm => change_syscfg(0, MFDM).map(|_| ()),
                Write::SetSnpEn => {
                    set_in_syscfg(SNP_EN | VMPL_EN, "SYSCFG.SNP_EN or VMPL_EN is missing")
                }
                Write::ClearHsavePa => {
                    let cpus = clear_hsave_pa()?;
                    check(&cpus, "VM_HSAVE_PA is not zero", |hsave_pa| hsave_pa == 0)
                }
            }?)
        }
    }

    /// Sets bits of SYSCFG on every CPU, or fails with `missing` in the log.
    fn set_in_syscfg(bits: u64, missing: &str) -> Result {
        let cpus = change_syscfg(bits, 0)?;
        check(&cpus, missing, |syscfg| syscfg & bits == bits)
    }

    /// Changes SYSCFG on every CPU and reads it back: a CPU may ignore the write.
    #[allow(unsafe_code)]
    fn change_syscfg(set: u64, clear: u64) -> Result<PerCpu<Register>> {
        PerCpu::collect(|| {
            let value = (SYSCFG.read().ok()? | set) & !clear;
            // SAFETY: `on_each_cpu()` changes three bits. MFDM makes the fixed MTRRs show which
            // kind of memory they select, and changes none. VMPL_EN adds privilege levels for SNP
            // guests. SNP_EN makes this CPU fault on writes that the RMP forbids: on none after the
            // table was cleared, and otherwise on those that fault on CPUs with SNP_EN already.
            // Such a fault stops the writer, and gives memory to nobody.
            let _ = unsafe { SYSCFG.write(value) };
            SYSCFG.read().ok()
        })
    }

    /// Sets VM_HSAVE_PA to zero on every CPU and reads it back, except where SVM has just been
    /// enabled.
    #[allow(unsafe_code)]
    fn clear_hsave_pa() -> Result<PerCpu<Register>> {
        PerCpu::collect(|| {
            let hsave_pa = Msr::new(bindings::MSR_VM_HSAVE_PA);
            if !syscfg::uses_svm(&syscfg::efer()) {
                // SAFETY: SVM is off on this CPU, so the CPU saves no host state at that address.
                // KVM sets the register before it uses SVM, and cannot do so during this interrupt.
                let _ = unsafe { hsave_pa.write(0) };
            }
            hsave_pa.read().ok()
        })
    }

    /// Fails if a present CPU does not pass the test after it was written, and logs its number.
    fn check(cpus: &PerCpu<Register>, what: &str, test: impl Fn(u64) -> bool) -> Result {
        let missing = cpus.failing(|register| register.is_some_and(&test));
        if missing.is_empty() {
            return Ok(());
        }
        log::err!(
            "cpus-ignore-write",
            "SNP stays off: {what} on CPUs {missing} after it was written. They would bypass the \
             RMP checks of all others, or firmware refuses them. Reboot; if it happens again, look \
             for SNP settings in the BIOS"
        );
        Err(EIO)
    }

    /// Fails if a present CPU is offline, and logs its number.
    pub(crate) fn check_all_online() -> Result {
        let cpus = CpusRead::lock();
        let offline = CpuList::new(|cpu| cpus.present().test(cpu) && !cpus.online().test(cpu));
        if offline.is_empty() {
            return Ok(());
        }
        log::err!(
            "cpus-offline",
            "SNP is not enabled: CPUs {offline} are present but offline. A CPU that came online \
             later would run without SNP_EN and bypass the RMP checks of all others. Bring them \
             online (chcpu -e; check for nosmt and maxcpus= on the command line) and try again"
        );
        Err(EOPNOTSUPP)
    }
}

#[cfg(test)]
#[path = "prepare/tests.rs"]
mod tests;
