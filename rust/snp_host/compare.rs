// SPDX-License-Identifier: GPL-2.0

//! Compares registers between CPUs.
//!
//! Pure: no `kernel::`, no I/O; the tests (`compare/tests.rs`) run on the build machine.

/// What follows if CPUs differ in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// SNP cannot work, and is not started.
    Refuse,
    /// Firmware may refuse SNP_INIT: a warning now, and another one if firmware does refuse.
    Warn,
    /// A notice only: preparing writes the register on every CPU and reads it back.
    Repair,
}

/// A register, or some bits of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register {
    /// The name in manuals and kernel.
    pub(crate) name: &'static str,
    /// The number of the MSR.
    pub(crate) msr: u32,
    /// The bits that are compared.
    pub(crate) bits: u64,
    /// What a difference means.
    pub(crate) rule: Rule,
}

impl Register {
    /// The value of these bits in `raw`.
    fn value(&self, raw: u64) -> u64 {
        (raw & self.bits)
            .checked_shr(self.bits.trailing_zeros())
            .unwrap_or(0)
    }
}

/// The raw value of each register of the table on one CPU, [`None`] if the CPU does not have it.
pub(crate) type Values<const N: usize> = [Option<u64>; N];

/// A register that is not the same on all CPUs that have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference<'a> {
    pub(crate) register: &'a Register,
    /// The register's place in the table.
    index: usize,
    /// The first CPU that has the register, and the value there.
    pub(crate) first: (usize, u64),
    /// The first CPU with another value, and that value.
    pub(crate) other: (usize, u64),
}

impl Difference<'_> {
    /// Whether a CPU with these values has the register, but not the value of the first CPU.
    pub(crate) fn concerns<const N: usize>(&self, values: &Values<N>) -> bool {
        value(self.register, self.index, values).is_some_and(|value| value != self.first.1)
    }
}

/// Compares the CPUs, register by register in the order of the table. [`None`] stands for a CPU
/// that was offline.
pub(crate) fn differences<'a, const N: usize>(
    table: &'a [Register; N],
    cpus: &'a [Option<impl AsRef<Values<N>>>],
) -> impl Iterator<Item = Difference<'a>> + 'a {
    table.iter().enumerate().filter_map(|(index, register)| {
        let mut values = cpus.iter().enumerate().filter_map(|(cpu, values)| {
            Some((cpu, value(register, index, values.as_ref()?.as_ref())?))
        });
        let first = values.next()?;
        let other = values.find(|(_, value)| *value != first.1)?;
        Some(Difference {
            register,
            index,
            first,
            other,
        })
    })
}

/// The value of one register on one CPU; [`None`] if the CPU does not have it.
fn value<const N: usize>(register: &Register, index: usize, values: &Values<N>) -> Option<u64> {
    let raw = (*values.get(index)?)?;
    Some(register.value(raw))
}

#[cfg(test)]
#[path = "compare/tests.rs"]
mod tests;
