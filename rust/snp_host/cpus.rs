// SPDX-License-Identifier: GPL-2.0

//! What the registers of all CPUs say, and the three rounds that write them.
//!
//! One round is one interrupt for each CPU, however many registers it reads or writes.

use crate::{
    sys::{
        hotplug::CpusRead,
        msr::Msr,
        percpu::{
            CpuList,
            PerCpu, //
        },
    },
    window::SnpEn,
};
use kernel::{
    bindings,
    cpu::CpuId,
    cpumask::CpumaskVar,
    prelude::*, //
};

const SNP_EN: u64 = 1 << bindings::MSR_AMD64_SYSCFG_SNP_EN_BIT;
const VMPL_EN: u64 = 1 << bindings::MSR_AMD64_SYSCFG_SNP_VMPL_EN_BIT;
const MFDM: u64 = 1 << bindings::MSR_AMD64_SYSCFG_MFDM_BIT;

/// What one round brought: for each CPU that is online, what its registers said.
pub(crate) struct Round<T> {
    values: PerCpu<T>,
    present: CpumaskVar,
}

impl<T: Send> Round<T> {
    /// Asks every online CPU; see [`PerCpu::collect`] for what `read` must not do.
    pub(crate) fn ask(read: impl Fn() -> T + Sync) -> Result<Self> {
        let cpus = CpusRead::lock();
        Ok(Self {
            values: PerCpu::collect(&cpus, read)?,
            present: CpumaskVar::try_clone(cpus.present())?,
        })
    }
}

impl<T> Round<T> {
    /// The values by CPU number.
    pub(crate) fn values(&self) -> &[Option<T>] {
        self.values.as_slice()
    }

    /// The CPUs whose values pass the test.
    pub(crate) fn with<'a>(
        &'a self,
        test: impl Fn(&T) -> bool + 'a,
    ) -> CpuList<impl Fn(CpuId) -> bool + 'a> {
        CpuList::new(move |cpu| self.values.get(cpu).is_some_and(&test))
    }

    /// The present CPUs whose values were not seen to pass the test; those that are offline are among them.
    pub(crate) fn without<'a>(
        &'a self,
        test: impl Fn(&T) -> bool + 'a,
    ) -> CpuList<impl Fn(CpuId) -> bool + 'a> {
        CpuList::new(move |cpu| self.present.test(cpu) && !self.values.get(cpu).is_some_and(&test))
    }
}

/// A register of one CPU; [`None`] if the CPU does not have it.
pub(crate) type Register = Option<u64>;

/// SYSCFG of all CPUs.
pub(crate) type Syscfg = Round<Register>;

/// What a CPU says, SYSCFG among it.
pub(crate) trait SaysSyscfg: Send {
    fn syscfg(&self) -> Register;

    /// A CPU without that register has no SNP_EN.
    fn has_snp_en(&self) -> bool {
        self.syscfg().is_some_and(|value| value & SNP_EN != 0)
    }
}

impl SaysSyscfg for Register {
    fn syscfg(&self) -> Register {
        *self
    }
}

/// Proof that a round has found SNP_EN on no CPU. It stays true while [`crate::host`] is locked: nothing but
/// a prepare under that lock sets SNP_EN.
pub(crate) struct NoSnpEn(());

impl<T: SaysSyscfg> Round<T> {
    /// Where SNP_EN is set.
    pub(crate) fn snp_en(&self) -> SnpEn {
        if self.with(T::has_snp_en).is_empty() {
            SnpEn::Nowhere
        } else if self.without(T::has_snp_en).is_empty() {
            SnpEn::Everywhere
        } else {
            SnpEn::Somewhere
        }
    }

    pub(crate) fn no_snp_en(&self) -> Option<NoSnpEn> {
        (self.snp_en() == SnpEn::Nowhere).then_some(NoSnpEn(()))
    }
}

impl Syscfg {
    /// Reads it.
    pub(crate) fn read() -> Result<Self> {
        Self::ask(syscfg)
    }
}

/// SYSCFG of this CPU.
pub(crate) fn syscfg() -> Register {
    Msr::AMD64_SYSCFG.read().ok()
}

/// Fails if a present CPU was not seen to pass the test after it was written, and tells which.
fn check(round: &Syscfg, what: &str, test: impl Fn(&Register) -> bool) -> Result {
    let missing = round.without(test);
    if missing.is_empty() {
        return Ok(());
    }
    pr_err!(
        "SNP stays off: {what} on CPUs {missing} after it was written. They would bypass the RMP checks of \
         all others, or firmware refuses them. Reboot; if it happens again, look for SNP settings in the \
         BIOS\n"
    );
    Err(EIO)
}

/// Changes SYSCFG on every CPU and reads it back. Whether the write had an effect is for the reading to say:
/// the CPU ignores it while SNP_EN is set.
#[allow(unsafe_code)]
fn change_syscfg(set: u64, clear: u64) -> Result<Syscfg> {
    Syscfg::ask(|| {
        let syscfg = Msr::AMD64_SYSCFG;
        let value = (syscfg.read().ok()? | set) & !clear;
        // SAFETY: Of the bits that the callers below change, MFDM makes visible what kind of memory the
        // fixed MTRRs say, and changes none. SNP_EN makes this CPU fault where the RMP forbids a write: with a
        // table that was just cleared nowhere, with one that another CPU enforces already where that faults,
        // too. A fault stops the writer and gives memory to nobody. VMPL_EN adds levels for SNP guests.
        let _ = unsafe { syscfg.write(value) };
        syscfg.read().ok()
    })
}

/// Sets MFDM on every CPU.
///
/// # Errors
///
/// [`EIO`] if it is missing on a CPU, which has been told; [`ENOMEM`].
pub(crate) fn set_mfdm() -> Result {
    let round = change_syscfg(MFDM, 0)?;
    check(&round, "SYSCFG.MFDM is missing", |syscfg| {
        syscfg.is_some_and(|value| value & MFDM != 0)
    })
}

/// Clears MFDM on every CPU that lets it.
///
/// # Errors
///
/// [`ENOMEM`].
pub(crate) fn clear_mfdm() -> Result {
    change_syscfg(0, MFDM).map(|_| ())
}

/// Sets SNP_EN and VMPL_EN on every CPU.
///
/// # Errors
///
/// [`EIO`] if one is missing on a CPU, which has been told; [`ENOMEM`].
pub(crate) fn set_snp_en() -> Result {
    let round = change_syscfg(SNP_EN | VMPL_EN, 0)?;
    check(&round, "SYSCFG.SNP_EN or VMPL_EN is missing", |syscfg| {
        syscfg.is_some_and(|value| value & (SNP_EN | VMPL_EN) == SNP_EN | VMPL_EN)
    })
}

/// Sets VM_HSAVE_PA to zero on every CPU, except where SVM has just been enabled.
///
/// # Errors
///
/// [`EIO`] if it is not zero on a CPU, which has been told; [`ENOMEM`].
#[allow(unsafe_code)]
pub(crate) fn clear_hsave_pa() -> Result {
    let round = Syscfg::ask(|| {
        let hsave_pa = Msr::VM_HSAVE_PA;
        if !uses_svm(&efer()) {
            // SAFETY: SVM is off on this CPU, so there is nobody whose state is or will be saved there:
            // whoever switches it on sets the register first. This is an interrupt, nobody does so meanwhile.
            let _ = unsafe { hsave_pa.write(0) };
        }
        hsave_pa.read().ok()
    })?;
    check(&round, "VM_HSAVE_PA is not zero", |value| *value == Some(0))
}

/// EFER of this CPU.
pub(crate) fn efer() -> Register {
    Msr::new(bindings::MSR_EFER).read().ok()
}

/// Whether EFER has SVM switched on, which then expects the host save area to stay where VM_HSAVE_PA says.
pub(crate) fn uses_svm(efer: &Register) -> bool {
    efer.is_some_and(|value| value & u64::from(bindings::EFER_SVME) != 0)
}
