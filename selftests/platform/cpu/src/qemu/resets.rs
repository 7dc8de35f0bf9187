// SPDX-License-Identifier: GPL-2.0
//! How often QEMU has gone through TLBs to have writes to a page looked at.
//!
//! It does so when a page gets code, in the TLB that each CPU has at that moment. One that has been
//! put aside ([`super::kept_tlb`]) is not among them. To make up for that each time it is taken
//! back costs more than all else that it takes, and nearly never there is anything to make up for.
//!
//! QEMU tells nobody. So a jump stands at the start of `tlb_reset_dirty`, to a function that counts
//! and goes on behind the jump. A build in which the function begins otherwise is left as it is;
//! then nothing is known.

use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::OnceLock;
use std::{mem, slice};

use super::code;
use super::ffi::{CpuState, Functions};

/// `tlb_reset_dirty`: CPU, start and length of the host's addresses.
type Reset = unsafe extern "C" fn(*mut CpuState, usize, usize);

/// The start of the function. It can be executed anywhere, and leaves RAX alone, which is nobody's.
const START: [u8; 15] = [
    0xf3, 0x0f, 0x1e, 0xfa, // endbr64
    0x41, 0x55, // push r13
    0x49, 0x89, 0xd2, // mov r10, rdx
    0x49, 0x89, 0xfb, // mov r11, rdi
    0x49, 0x89, 0xf1, // mov r9, rsi
];

/// QEMU's function, by way of a copy of its start.
static ORIGINAL: OnceLock<Reset> = OnceLock::new();
static BEGUN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// A moment at which nobody was at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

/// Now; none if somebody may be at it. Whoever begins later makes it differ from the next one.
pub fn now() -> Option<Moment> {
    ORIGINAL.get()?;
    let done = DONE.load(SeqCst);
    (BEGUN.load(SeqCst) == done).then_some(Moment(done))
}

/// QEMU's function, uncounted.
///
/// # Safety
///
/// As for QEMU's function.
pub unsafe fn reset(f: &Functions, cpu: *mut CpuState, start: usize, length: usize) {
    let reset = ORIGINAL.get().copied().unwrap_or(f.tlb_reset_dirty);
    // SAFETY: the caller's promise.
    unsafe { reset(cpu, start, length) }
}

unsafe extern "C" fn on_reset(cpu: *mut CpuState, start: usize, length: usize) {
    BEGUN.fetch_add(1, SeqCst);
    if let Some(original) = ORIGINAL.get() {
        // SAFETY: what QEMU has given.
        unsafe { original(cpu, start, length) };
    }
    DONE.fetch_add(1, SeqCst);
}

/// Counts from now on, if the function is as it is known.
///
/// # Safety
///
/// No CPU may run yet.
pub unsafe fn install(f: &Functions) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { redirect(f.tlb_reset_dirty as *mut c_void) }
        .map_err(|error| format!("tlb_reset_dirty() cannot be changed: {error}"))
}

/// # Safety
///
/// `function` must be code that nobody executes meanwhile.
unsafe fn redirect(function: *mut c_void) -> std::io::Result<()> {
    let jump =
        |movabs: [u8; 2], to: usize, jmp: &[u8]| [&movabs[..], &to.to_le_bytes(), jmp].concat();
    // SAFETY: a function has this many bytes, or other functions behind it.
    let start = unsafe { slice::from_raw_parts(function.cast::<u8>(), START.len()) };
    let copy = code::pages();
    if start != START || copy.is_null() {
        return Ok(());
    }
    // MOVABS RAX; JMP RAX, and the same with R11.
    let back = jump([0x48, 0xb8], function.addr() + START.len(), &[0xff, 0xe0]);
    let hook: Reset = on_reset;
    let there = jump([0x49, 0xbb], hook as usize, &[0x41, 0xff, 0xe3]);
    // SAFETY: pages of our own; then the bytes that have been compared.
    unsafe {
        code::write(copy, &[&START[..], &back].concat())?;
        // SAFETY: now the function, by its type.
        let _ = ORIGINAL.set(mem::transmute::<*mut c_void, Reset>(copy));
        code::write(function, &there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function with that start, which then stores its arguments at the first of them.
    #[test]
    fn calls_are_counted_and_carried_out() {
        const REST: [u8; 14] = [
            0x41, 0x5d, // pop r13
            0x4d, 0x89, 0x0b, // mov [r11], r9
            0x4d, 0x89, 0x53, 0x08, // mov [r11+8], r10
            0xc3, 0xcc, 0xcc, 0xcc, 0xcc, // ret
        ];
        let function = code::pages();
        assert_eq!(now(), None, "nobody counts");
        let mut seen = [0u64; 2];
        // SAFETY: pages of the test's own, and a function of this type in them.
        unsafe {
            let call = mem::transmute::<*mut c_void, Reset>(function);
            code::write(function, &[&[0x90], &START[1..], &REST].concat()).unwrap();
            redirect(function).unwrap();
            assert_eq!(now(), None, "it begins otherwise");
            code::write(function, &[&START[..], &REST].concat()).unwrap();
            redirect(function).unwrap();
            let before = now().expect("nobody is at it");
            call(seen.as_mut_ptr().cast(), 0x1234, 0x5678);
            assert_eq!(seen, [0x1234, 0x5678]);
            assert_ne!(now(), Some(before));
            assert_eq!(now(), now());
            let before = now();
            ORIGINAL.get().unwrap()(seen.as_mut_ptr().cast(), 1, 2);
            assert_eq!((seen, now()), ([1, 2], before), "uncounted");
        }
        BEGUN.fetch_add(1, SeqCst);
        assert_eq!(now(), None, "somebody is at it");
        DONE.fetch_add(1, SeqCst);
    }
}
