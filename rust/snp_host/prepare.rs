// SPDX-License-Identifier: GPL-2.0

//! The order in which the CPUs are prepared for SNP.
//!
//! Pure: no `kernel::`, no I/O; the tests (`prepare/tests.rs`) let every step fail. `cpus.rs` and `rmp.rs`
//! have the steps themselves.
//!
//! | step | interrupts for each CPU | why here |
//! |---|---|---|
//! | look and judge | 1 | nothing is written on a machine that is not fit |
//! | clear the RMP | | only with SNP_EN on no CPU: while one enforces the RMP, writing to it faults |
//! | flush the caches | 1 | firmware and CPUs find what was just written |
//! | MFDM | 1 | is not shared by the threads of a core and must be set everywhere before SNP_EN |
//! | SNP_EN, VMPL_EN | 1 | from here on there is no way back but through firmware |
//! | VM_HSAVE_PA = 0 | 1 | firmware wants it at SNP_INIT |
//!
//! (arch/x86/virt/svm/sev.c, `snp_prepare()`, which skips everything if one CPU, the one it runs on, has
//! SNP_EN.) Each write is done on every CPU every time, and is believed when it has been read back. The CPU
//! ignores writes to SYSCFG while SNP_EN is set, so the rounds change nothing on CPUs that are prepared.

use crate::window::SnpEn;

/// The machine, step by step.
pub(crate) trait Machine {
    /// Why a step failed.
    type Error;

    /// Looks at all CPUs and at the RMP. Fails, with nothing changed, if they are not fit for SNP. Returns
    /// where SNP_EN is set.
    fn judge(&mut self) -> Result<SnpEn, Self::Error>;
    /// Sets bookkeeping and entries of the RMP to zero.
    fn clear_rmp(&mut self) -> Result<(), Self::Error>;
    /// WBINVD everywhere.
    fn flush_caches(&mut self);
    /// Sets MFDM everywhere. Fails if it does not read as set on a CPU.
    fn set_mfdm(&mut self) -> Result<(), Self::Error>;
    /// Clears MFDM everywhere, for as far as the CPUs allow it.
    fn clear_mfdm(&mut self);
    /// Sets SNP_EN and VMPL_EN everywhere. Fails if one does not read as set on a CPU.
    fn set_snp_en(&mut self) -> Result<(), Self::Error>;
    /// Clears VM_HSAVE_PA everywhere. Fails if it does not read as zero on a CPU.
    fn clear_hsave_pa(&mut self) -> Result<(), Self::Error>;
}

/// Prepares all CPUs. After an error SNP_EN may be set on none, some or all of them.
pub(crate) fn run<M: Machine>(machine: &mut M) -> Result<(), M::Error> {
    let before = machine.judge()?;
    if before == SnpEn::Nowhere {
        machine.clear_rmp()?;
    }
    machine.flush_caches();
    if let Err(err) = machine.set_mfdm() {
        // Nothing was left behind yet, and nothing is.
        machine.clear_mfdm();
        return Err(err);
    }
    machine.set_snp_en()?;
    machine.clear_hsave_pa()
}

#[cfg(test)]
#[path = "prepare/tests.rs"]
mod tests;
