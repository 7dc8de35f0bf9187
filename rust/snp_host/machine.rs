// SPDX-License-Identifier: GPL-2.0

//! The steps of [`prepare`] on the machine that we are on, and the way back.

use crate::{
    cpus::{
        self,
        NoSnpEn, //
    },
    preflight::Look,
    prepare,
    rmp::{
        Table,
        Trouble, //
    },
    sys::{
        cpu,
        hotplug::CpusRead,
        percpu::CpuList, //
    },
    window::SnpEn,
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// Prepares all CPUs. Whatever it fails for has been told; so has what firmware may refuse, which is added to
/// `suspicions`.
pub(crate) fn prepare(suspicions: &mut KVec<CString>) -> Result {
    prepare::run(&mut Machine {
        suspicions,
        clearable: None,
    })
    .inspect_err(|err| {
        if *err == ENOMEM {
            pr_err!("SNP stays off: no memory for preparing the CPUs; try again\n");
        }
    })
}

/// Undoes what preparing did, once firmware has taken SNP_EN back. If that fails it is made up for by the next
/// prepare: nobody enforces the RMP any more.
pub(crate) fn run_down(proof: &NoSnpEn) {
    let cleared = Table::find().and_then(|table| Ok(table.clear(proof)?));
    if let Err(trouble) = cleared {
        pr_warn!("the RMP is not cleared now but when SNP is started again: {trouble}\n");
    }
    // Fails for want of memory only, and then stays on without harm.
    let _ = cpus::clear_mfdm();
}

/// Fails if a present CPU is offline, and tells which.
pub(crate) fn check_all_online() -> Result {
    let cpus = CpusRead::lock();
    let offline = CpuList::new(|cpu| cpus.present().test(cpu) && !cpus.online().test(cpu));
    if offline.is_empty() {
        return Ok(());
    }
    pr_err!(
        "SNP is not enabled: CPUs {offline} are present but offline. A CPU that came online later \
         would run without SNP_EN and bypass the RMP checks of all others. Bring them online \
         (chcpu -e; check for nosmt and maxcpus= on the command line) and try again\n"
    );
    Err(EOPNOTSUPP)
}

struct Machine<'a> {
    suspicions: &'a mut KVec<CString>,
    /// The table and the permission to clear it, if no CPU has SNP_EN.
    clearable: Option<(Table, NoSnpEn)>,
}

impl prepare::Machine for Machine<'_> {
    type Error = Error;

    fn judge(&mut self) -> Result<SnpEn> {
        let look = Look::take()?;
        look.compare(self.suspicions)?;
        let users = look.using_svm();
        if !users.is_empty() {
            pr_err!(
                "SNP stays off: the virtualization of CPUs {users} is in use (EFER.SVME), and their VM_HSAVE_PA \
                 would have to be cleared. Unload what uses it and reload kvm_amd\n"
            );
            return Err(EBUSY);
        }
        let table = Table::find().map_err(|trouble| match trouble {
            Trouble::Error(err) if err == ENOMEM => err,
            _ => {
                pr_err!(
                    "SNP stays off: {trouble}; look for \"SNP memory coverage\" in the BIOS set-up, or for a \
                     newer BIOS\n"
                );
                EOPNOTSUPP
            }
        })?;
        self.clearable = look.no_snp_en().map(|proof| (table, proof));
        Ok(look.snp_en())
    }

    fn clear_rmp(&mut self) -> Result {
        let (table, proof) = self.clearable.as_ref().ok_or(EBUSY)?;
        table.clear(proof)
    }

    fn flush_caches(&mut self) {
        cpu::wbinvd_on_all();
    }

    fn set_mfdm(&mut self) -> Result {
        cpus::set_mfdm()
    }

    fn clear_mfdm(&mut self) {
        // Fails for want of memory only, and then stays on without harm.
        let _ = cpus::clear_mfdm();
    }

    fn set_snp_en(&mut self) -> Result {
        cpus::set_snp_en()
    }

    fn clear_hsave_pa(&mut self) -> Result {
        cpus::clear_hsave_pa()
    }
}
