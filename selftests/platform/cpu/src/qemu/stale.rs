// SPDX-License-Identifier: GPL-2.0
//! The repair of a race in QEMU 11.1 by which a CPU executes a breakpoint that is gone.
//!
//! A store to a page with translated code throws the blocks of that place away, and then stores. A
//! CPU that translates in between makes a block of the old bytes, and that one stays: the store is
//! under way, and asks nobody again. The thread of the storing CPU has to lose its processor just
//! there, so it is a busy machine on which that happens.
//!
//! Linux puts a breakpoint over each instruction that it changes. Its last store takes the
//! breakpoint away, and a block of before that raises a #BP which the kernel does not know any more
//! ("Oops: int3"), each time that a CPU comes there. So a #BP is delivered only if there is a
//! breakpoint. If not, all blocks are thrown away, and the CPU goes on with what is there. (A
//! processor that fetches an instruction late does the same.)
//!
//! Guests are left out: KVM may be delivering a #BP to them that is not of their code.

use super::env;
use super::ffi::{CpuState, Functions};

/// The longest instruction, in bytes.
const LONGEST: u64 = 15;
const PAGE: u64 = 0x1000;

/// The vector of #BP.
pub const VECTOR_BP: i32 = 3;

/// Whether a #BP, which is about to be delivered, is for a breakpoint that is gone. Then the CPU is
/// to go on at its RIP instead, where it finds a new block.
///
/// # Safety
///
/// In the hook of `do_interrupt`, with its argument and the CPU's HFLAGS and RIP.
pub unsafe fn is_gone(f: &Functions, cpu: *mut CpuState, hflags: u32, rip: u64) -> bool {
    // SAFETY: a CPU of this QEMU, on its thread (caller).
    let is_int = unsafe { env::EXCEPTION_IS_INT.get(env::of(cpu)) } != 0;
    if !is_int || hflags & (env::HF_CS64 | env::HF_GUEST) != env::HF_CS64 {
        return false;
    }
    let mut bytes = [0u8; LONGEST as usize];
    let length = LONGEST.min(PAGE - rip % PAGE) as usize;
    // SAFETY: as above; the buffer has room for that.
    let read =
        unsafe { (f.cpu_memory_rw_debug)(cpu, rip, bytes.as_mut_ptr().cast(), length, false) };
    if read != 0 || is_breakpoint(&bytes[..length]) {
        return false;
    }
    // SAFETY: as above. It is done before the next block is executed.
    unsafe { (f.queue_tb_flush)(cpu) };
    true
}

/// Whether an instruction is INT3, or INT 3.
fn is_breakpoint(bytes: &[u8]) -> bool {
    let is_prefix = |byte: &u8| {
        let segment = matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65);
        segment || matches!(byte, 0x40..=0x4f | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
    };
    let prefixes = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    match bytes[prefixes..] {
        // What is on the next page nobody has looked at.
        [] | [0xcd] => true,
        [0xcc, ..] => true,
        [first, second, ..] => (first, second) == (0xcd, 3),
        [_] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakpoints_are_told_from_other_instructions() {
        let rows: [(&[u8], bool); 12] = [
            (&[0xcc, 0x90], true),
            (&[0xcc], true),
            (&[0xcd, 0x03, 0x90], true),
            (&[0xf3, 0x48, 0xcc], true),
            (&[0x66, 0xcd, 0x03], true),
            (&[0xcd], true),
            (&[0x48], true),
            (&[0xcd, 0x80, 0xcc], false),
            (&[0x90, 0xcc], false),
            (&[0x0f, 0x1f, 0x44, 0x00, 0x00], false),
            (&[0xe9, 0xcc, 0xcc, 0xcc, 0xcc], false),
            (&[0xc3], false),
        ];
        for (bytes, is) in rows {
            assert_eq!(is_breakpoint(bytes), is, "{bytes:x?}");
        }
    }
}
