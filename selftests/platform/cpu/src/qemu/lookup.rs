// SPDX-License-Identifier: GPL-2.0
//! Three instructions of QEMU 11.1 that cost more than all others.
//!
//! After an indirect jump, a return among them, translated code asks `helper_lookup_tb_ptr()` for
//! the next block (accel/tcg/cpu-exec.c). Debian's compiler copies the structure with address and
//! flags that it looks for by one load of 16 bytes, directly behind the stores of 8, 4 and 4 bytes
//! that fill them in. A processor does not forward several stores to one load: it waits until they
//! have left its buffer. Only a look-up that goes on elsewhere reads the copy, which is made each
//! time.
//!
//! Here the same bytes are stored from the registers that hold them. Code that looks otherwise is
//! left as it is.

use std::slice;

use super::code;
use super::ffi::Functions;

/// How far into the function the instructions are looked for.
const FUNCTION_BYTES: usize = 256;

/// With what is between them, that they are known by.
const SLOW: [u8; 44] = [
    0x4c, 0x89, 0x34, 0x24, // mov [rsp], r14
    0x48, 0x8b, 0x74, 0x24, 0x10, // mov rsi, [rsp+10h]
    0x8b, 0x7c, 0x24, 0x08, // mov edi, [rsp+8]
    0x89, 0x54, 0x24, 0x0c, // mov [rsp+0ch], edx
    0x8d, 0x48, 0xfa, // lea ecx, [rax-6]
    0x4c, 0x89, 0xf0, // mov rax, r14
    0x66, 0x0f, 0x6f, 0x04, 0x24, // movdqa xmm0, [rsp]
    0x48, 0xd3, 0xe8, // shr rax, cl
    0x48, 0x89, 0x74, 0x24, 0x30, // mov [rsp+30h], rsi
    0x4c, 0x31, 0xf0, // xor rax, r14
    0x0f, 0x29, 0x44, 0x24, 0x20, // movaps [rsp+20h], xmm0
];
/// The same without XMM0. The word at RSP+0Ch has no other reader.
const QUICK: [u8; 44] = [
    0x4c, 0x89, 0x34, 0x24, // mov [rsp], r14
    0x48, 0x8b, 0x74, 0x24, 0x10, // mov rsi, [rsp+10h]
    0x8b, 0x7c, 0x24, 0x08, // mov edi, [rsp+8]
    0x89, 0x54, 0x24, 0x2c, // mov [rsp+2ch], edx
    0x8d, 0x48, 0xfa, // lea ecx, [rax-6]
    0x4c, 0x89, 0xf0, // mov rax, r14
    0x4c, 0x89, 0x74, 0x24, 0x20, // mov [rsp+20h], r14
    0x48, 0xd3, 0xe8, // shr rax, cl
    0x48, 0x89, 0x74, 0x24, 0x30, // mov [rsp+30h], rsi
    0x4c, 0x31, 0xf0, // xor rax, r14
    0x89, 0x7c, 0x24, 0x28, 0x90, // mov [rsp+28h], edi; nop
];

/// Makes `helper_lookup_tb_ptr()` of the QEMU that runs quicker, if it is as it is known.
///
/// # Safety
///
/// No CPU may run yet.
pub unsafe fn install(f: &Functions) -> Result<(), String> {
    // SAFETY: the program is larger than this behind any of its functions.
    let bytes = unsafe { slice::from_raw_parts(f.helper_lookup_tb_ptr.cast(), FUNCTION_BYTES) };
    let Some(place) = find(bytes) else { return Ok(()) };
    let place = f.helper_lookup_tb_ptr.wrapping_byte_add(place);
    // SAFETY: as many bytes as have been compared; nobody executes them (caller).
    unsafe { code::write(place, &QUICK) }
        .map_err(|error| format!("helper_lookup_tb_ptr() cannot be changed: {error}"))
}

/// Where they begin, if they are there once.
fn find(bytes: &[u8]) -> Option<usize> {
    let mut places = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(&SLOW));
    places.next().filter(|_| places.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::arch::asm;

    use super::*;

    #[test]
    fn they_are_found_where_they_are_alone() {
        let mut bytes = [0x90; FUNCTION_BYTES];
        bytes[110..][..SLOW.len()].copy_from_slice(&SLOW);
        assert_eq!(find(&bytes), Some(110));
        bytes[10..][..SLOW.len()].copy_from_slice(&SLOW);
        assert_eq!(find(&bytes), None);
        bytes[10] = 0x90;
        bytes[111] = 0x90;
        assert_eq!(find(&bytes), None);
    }

    /// The stack, RAX and RCX behind the instructions. Before, RSP+8 and RSP+10h have flags and
    /// code segment, RAX the number of an address's bits within a page.
    fn behind(instructions: &[u8], address: u64) -> ([u64; 7], u64, u64) {
        /// JMP R8.
        const BACK: [u8; 3] = [0x41, 0xff, 0xe0];
        #[repr(align(16))]
        struct Stack([u64; 7]);

        let mut stack = Stack([1, 0xaaaa_aaaa_1234_5678, 0x9abc, 4, 5, 6, 7]);
        let code = code::pages();
        let (mut rax, mut rcx) = (12u64, 0u64);
        // SAFETY: memory of the test's own, and instructions that read and write what `stack` has.
        unsafe {
            code::write(code, instructions).expect("a page of the test's own");
            code::write(code.wrapping_byte_add(instructions.len()), &BACK).expect("likewise");
            asm!(
                "mov r9, rsp", "mov rsp, r10", "lea r8, [rip + 2f]", "jmp r11", "2:", "mov rsp, r9",
                in("r10") stack.0.as_mut_ptr(), in("r11") code, in("r14") address,
                inout("rax") rax, inout("rcx") rcx, in("rdx") 0xcccc_cccc_0bad_cafe_u64,
                out("rsi") _, out("rdi") _, out("r8") _, out("r9") _, out("xmm0") _,
            );
        }
        // What nobody reads any more.
        stack.0[1] &= 0xffff_ffff;
        (stack.0, rax, rcx)
    }

    #[test]
    fn they_do_the_same() {
        for address in [0, 0xffff_ffff_8123_4567] {
            let quick = behind(&QUICK, address);
            assert_eq!(behind(&SLOW, address), quick);
            assert_eq!(quick.0[4..], [address, 0x0bad_cafe_1234_5678, 0x9abc]);
        }
    }
}
