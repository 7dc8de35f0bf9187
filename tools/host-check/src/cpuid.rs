// SPDX-License-Identifier: GPL-2.0

//! CPUID, on a CPU of the caller's choice.

use std::arch::x86_64::{CpuidResult, __cpuid};

/// Room for 8192 CPUs, as many as Debian's kernel takes.
const WORDS: usize = 128;

extern "C" {
    fn sched_setaffinity(pid: i32, size: usize, mask: *const u64) -> i32;
}

/// What `read` finds on this CPU; [`None`] if no program may run there.
pub fn on_cpu<T>(cpu: usize, read: impl FnOnce() -> T + Send) -> Option<T>
where
    T: Send,
{
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let mut mask = [0u64; WORDS];
                *mask.get_mut(cpu / 64)? |= 1 << (cpu % 64);
                // SAFETY: The mask is as long as it is said to be, and is read only. 0 is this
                // thread, which ends.
                let result = unsafe { sched_setaffinity(0, size_of_val(&mask), mask.as_ptr()) };
                (result == 0).then(read)
            })
            .join()
            .ok()?
    })
}

/// A leaf of the CPU that runs this; zeros if it has none of that number.
pub fn leaf(number: u32) -> CpuidResult {
    // SAFETY: Each x86-64 CPU has CPUID, and it changes nothing but its four registers.
    let highest = unsafe { __cpuid(number & 0x8000_0000) }.eax;
    if number > highest {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    // SAFETY: As above.
    unsafe { __cpuid(number) }
}

/// Text in registers.
pub fn text(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_owned()
}

/// The vendor.
pub fn vendor() -> String {
    let leaf = leaf(0);
    text(&[leaf.ebx, leaf.edx, leaf.ecx])
}

/// The processor's name.
pub fn brand() -> String {
    let leaves = [0x8000_0002, 0x8000_0003, 0x8000_0004].map(leaf);
    text(&leaves.map(|l| [l.eax, l.ebx, l.ecx, l.edx]).concat())
}
