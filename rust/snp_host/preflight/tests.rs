// SPDX-License-Identifier: GPL-2.0

//! CPUs of which one differs from the others in one register: what is said, and what comes of it.

use kernel::macros::kunit_tests;

#[kunit_tests(snp_host_preflight)]
#[allow(unsafe_code)] // The macro's; there is none here.
mod suite {
    use super::super::*;
    use crate::sys::{
        check::check,
        hotplug::CpusRead,
        said, //
    };

    /// CPUs that have 0 in all registers, except that CPU 0 has !0 in the one with this name.
    fn cpus(different: &str) -> Result<Preflight> {
        let cpus = PerCpu::collect(|| {
            let first = CpuId::current().as_u32() == 0;
            let value = |register: &Register| match first && register.name == different {
                true => !0,
                false => 0,
            };
            Registers {
                table: TABLE.each_ref().map(|register| Some(value(register))),
                syscfg: Some(0),
                efer: Some(0),
            }
        })?;
        Ok(Preflight(cpus))
    }

    #[test]
    fn a_difference_is_refused_repaired_or_told() -> Result {
        if CpusRead::lock().online().weight() < 2 {
            return Ok(());
        }
        for (name, value, said, result, warnings) in [
            ("none", 0u64, &[][..], Ok(()), 0),
            ("RMP_BASE", !0, &["cpus-unequal"], Err(EOPNOTSUPP), 0),
            ("RMP_END", !0, &["cpus-unequal"], Err(EOPNOTSUPP), 0),
            ("SYSCFG.MFDM", 1, &["cpus-repaired"], Ok(()), 0),
            ("TOM2", !0, &["cpus-differ"], Ok(()), 1),
            ("HWCR.SMMLOCK", 1, &["cpus-differ"], Ok(()), 1),
        ] {
            let mut found = KVec::new();
            said::forget();
            check!(cpus(name)?.compare(&mut found) == result, "{}", name);
            check!(said::only(said) && found.len() == warnings, "{}", name);
            let told = said::with(fmt!("{name} is {value:#x} on CPU 0, but not on CPUs 1"));
            check!(said.is_empty() || told, "{}", name);
        }
        Ok(())
    }

    #[test]
    fn the_registers_of_this_machine_are_those_of_its_cpus() -> Result {
        let read = Preflight::read()?;
        let snp_en = syscfg::Syscfg::read()?.snp_en();
        check!(read.snp_en() == snp_en);
        let svm = syscfg::efer();
        check!(syscfg::uses_svm(&svm) || read.using_svm().is_empty());
        for cpu in read.0.as_slice().iter().flatten() {
            let index = TABLE.iter().position(|register| register.name == "TOM2");
            let tom2 = index.and_then(|index| cpu.table.get(index)).ok_or(EINVAL)?;
            check!(*tom2 == Msr::new(bindings::MSR_K8_TOP_MEM2).read().ok());
            check!(cpu.efer.is_some() && cpu.syscfg == syscfg::syscfg());
        }
        Ok(())
    }

    #[test]
    fn where_svm_is_used_is_told_from_efer() -> Result {
        for (efer, used) in [(None, false), (Some(0), false), (Some(!0), true)] {
            let cpus = PerCpu::collect(|| Registers {
                table: [None; COUNT],
                syscfg: None,
                efer,
            })?;
            let cpus = Preflight(cpus);
            check!(cpus.using_svm().is_empty() != used && cpus.snp_en() == SnpEn::Nowhere);
        }
        Ok(())
    }
}
