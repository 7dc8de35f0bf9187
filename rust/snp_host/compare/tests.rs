// SPDX-License-Identifier: GPL-2.0

//! Registers that are equal, that differ, and that some CPUs do not have.

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
