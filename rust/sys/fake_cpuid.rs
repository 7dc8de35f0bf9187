// SPDX-License-Identifier: GPL-2.0

//! A leaf of CPUID, for tests: they run on CPUs without what AMD's have.

use core::arch::x86_64::CpuidResult;

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

static NUMBER: Atomic<u32> = Atomic::new(0);
static REGISTERS: [Atomic<u32>; 4] = [const { Atomic::new(0) }; 4];

/// What the leaf with this number is said to be.
pub(super) fn leaf(number: u32) -> Option<CpuidResult> {
    let [eax, ebx, ecx, edx] = REGISTERS.each_ref().map(|register| register.load(Relaxed));
    (number == NUMBER.load(Relaxed)).then_some(CpuidResult { eax, ebx, ecx, edx })
}

/// The CPUs are said to have this leaf, as long as the value exists.
pub(crate) struct Leaf(());

impl Leaf {
    pub(crate) fn pretend(number: u32, registers: [u32; 4]) -> Self {
        for (register, value) in REGISTERS.iter().zip(registers) {
            register.store(value, Relaxed);
        }
        NUMBER.store(number, Relaxed);
        Self(())
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        NUMBER.store(0, Relaxed);
    }
}
