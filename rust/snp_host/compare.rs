// SPDX-License-Identifier: GPL-2.0

//! Compares registers between CPUs.
//!
//! Pure: no `kernel::`, no I/O; the tests at the end run on the build machine.

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
mod tests {
    use super::*;

    const fn register(bits: u64) -> Register {
        Register {
            name: "",
            msr: 0,
            bits,
            rule: Rule::Warn,
        }
    }

    /// What the kernel's side has more of is not looked at.
    struct Seen(Values<3>);

    impl AsRef<Values<3>> for Seen {
        fn as_ref(&self) -> &Values<3> {
            &self.0
        }
    }

    /// All of a register, a field of it, a single bit.
    const TABLE: [Register; 3] = [register(!0), register(0xff00), register(1 << 63)];

    /// Register; CPU and value; another CPU and value.
    type Row = (usize, (usize, u64), (usize, u64));

    fn all(cpus: &[Option<Seen>]) -> Vec<Row> {
        differences(&TABLE, cpus)
            .map(|d| (d.index, d.first, d.other))
            .collect()
    }

    fn same(value: u64) -> Option<Seen> {
        Some(Seen([Some(value); 3]))
    }

    #[test]
    fn equal_cpus_do_not_differ() {
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[same(7)]), []);
        assert_eq!(all(&[same(7), same(7), same(7)]), []);
        assert_eq!(all(&[Some(Seen([None; 3])), Some(Seen([None; 3]))]), []);
    }

    #[test]
    fn only_the_bits_that_count_are_compared() {
        assert_eq!(all(&[same(0x1), same(0x2)]), [(0, (0, 1), (1, 2))]);
        assert_eq!(
            all(&[same(0x100), same(0x3ff)]),
            [(0, (0, 0x100), (1, 0x3ff)), (1, (0, 1), (1, 3))]
        );
        assert_eq!(
            all(&[same(1 << 63), same(0)]),
            [(0, (0, 1 << 63), (1, 0)), (2, (0, 1), (1, 0))]
        );
    }

    #[test]
    fn cpus_without_the_register_or_not_asked_are_left_out() {
        let cpus = [
            None,
            Some(Seen([None; 3])),
            same(5),
            None,
            same(5),
            same(6),
            same(5),
            same(9),
        ];
        assert_eq!(all(&cpus), [(0, (2, 5), (5, 6))]);
        let difference = differences(&TABLE, &cpus).next().unwrap();
        let differ: Vec<usize> = (0..10)
            .filter(|&cpu| {
                let seen = cpus.get(cpu).and_then(Option::as_ref);
                seen.is_some_and(|seen| difference.concerns(&seen.0))
            })
            .collect();
        assert_eq!(differ, [5, 7]);
    }

    #[test]
    fn one_register_at_a_time() {
        let mut odd = [Some(5); 3];
        for register in 0..3 {
            odd[register] = Some(!0);
            let found = all(&[same(5), Some(Seen(odd))]);
            assert_eq!(found.len(), register + 1, "{found:?}");
        }
        odd = [Some(5), None, None];
        assert_eq!(all(&[same(5), Some(Seen(odd))]), []);
    }
}
