// SPDX-License-Identifier: GPL-2.0

//! Whether anybody uses SVM, the CPUs' virtualization.
//!
//! C header: `arch/x86/include/asm/msr-index.h`

use super::{
    hotplug::CpusRead,
    msr::Msr,
    percpu::cpus_where, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// Whether SVM is enabled (EFER.SVME) on any online CPU. It then expects its host save area to stay
/// where `VM_HSAVE_PA` says.
///
/// # Errors
///
/// [`ENOMEM`].
pub(crate) fn is_in_use() -> Result<bool> {
    let svme = u64::from(bindings::EFER_SVME);
    let users = cpus_where(&CpusRead::lock(), || {
        Msr::EFER.read().is_ok_and(|efer| efer & svme != 0)
    })?;
    Ok(users.weight() != 0)
}
