// SPDX-License-Identifier: GPL-2.0
//! Finds out where QEMU keeps what it keeps, by running its own functions on a made-up CPU: what
//! changes is where the function writes, and what comes back is where it reads.
//!
//! This happens in a child process. A QEMU that is different enough for a function to crash there
//! is refused with a sentence, like one whose functions give no clear answer.

use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{io, slice};

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::ffi::{Env, Functions};
use super::kept_tlb;
use super::layout::{At, Layout, ASSUMED, PLACES};

/// Bytes before and behind the start of the made-up `CPUX86State`. It is part of `X86CPU`, whose
/// other fields some functions look at.
const AROUND: usize = 0x10000;
const WORDS: usize = AROUND / 4;

/// A place that has been found, or why not.
type Found = Result<usize, &'static str>;

/// Finds all places.
///
/// # Safety
///
/// The functions must be QEMU's, and no CPU may run yet.
pub unsafe fn layout(f: &Functions) -> Result<Layout, String> {
    const NOT_UNDERSTOOD: &str = "this build of QEMU is not understood";
    let (mut ours, theirs) = pipe().map_err(|error| format!("no pipe: {error}"))?;
    // SAFETY: the child runs functions that take no lock of other threads' (QEMU has started no CPU
    // yet), writes to the pipe and ends without any exit handler.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(format!("no child: {}", io::Error::last_os_error()));
    }
    if child == 0 {
        // SAFETY: the caller's promise.
        let found = unsafe { find(f) };
        tell(&theirs, found);
    }
    drop(theirs);
    let said = listen(&mut ours);
    // SAFETY: waits for the child from above.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    match said.split_first() {
        Some((0, bytes)) if bytes.len() == size_of::<Layout>() => {
            let mut layout = [0; PLACES];
            for (place, word) in layout.iter_mut().zip(bytes.chunks_exact(8)) {
                *place = word.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte));
            }
            Ok(layout)
        }
        Some((1, text)) => Err(format!("{NOT_UNDERSTOOD}: {}", String::from_utf8_lossy(text))),
        _ => Err(format!("{NOT_UNDERSTOOD}: one of its functions crashed when it was tried out")),
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: an array of two, as pipe2() wants.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: two new descriptors that nobody else knows.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The child's last words.
fn tell(pipe: &OwnedFd, found: Result<Layout, String>) -> ! {
    let (kind, bytes) = match found {
        Ok(layout) => (0, layout.iter().flat_map(|place| place.to_le_bytes()).collect()),
        Err(text) => (1, text.into_bytes()),
    };
    let all = [&[kind][..], &bytes].concat();
    // SAFETY: initialised bytes. Nothing of QEMU's must be run at the end of this process.
    unsafe {
        libc::write(pipe.as_raw_fd(), all.as_ptr().cast(), all.len());
        libc::_exit(0)
    }
}

fn listen(pipe: &mut OwnedFd) -> Vec<u8> {
    let mut all = vec![0; 4096];
    // SAFETY: room for as many bytes. The writer writes once, less than a pipe's atomic size.
    let count = unsafe { libc::read(pipe.as_raw_fd(), all.as_mut_ptr().cast(), all.len()) };
    all.truncate(usize::try_from(count).unwrap_or(0));
    all
}

/// `X86CPU` of a made-up CPU.
struct Fake(Vec<u32>);

impl Fake {
    /// Each word of the state is made from its number.
    fn new(word: impl Fn(u32) -> u32) -> Fake {
        let before = std::iter::repeat_n(0, WORDS);
        Fake(before.chain((0..WORDS as u32).map(word)).collect())
    }

    fn zero() -> Fake {
        Fake::new(|_| 0)
    }

    fn set(mut self, at: usize, value: u32) -> Fake {
        self.0[WORDS + at / 4] = value;
        self
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the words' own bytes.
        unsafe { slice::from_raw_parts(self.0[WORDS..].as_ptr().cast(), AROUND) }
    }

    /// Calls a function with the state.
    fn after<T>(&mut self, call: impl FnOnce(*mut Env) -> T) -> T {
        call(self.0[WORDS..].as_mut_ptr().cast())
    }

    /// What the function has written: offset and new byte.
    fn written(mut self, call: impl FnOnce(*mut Env)) -> Written {
        let before = self.bytes().to_vec();
        self.after(call);
        let now = self.bytes().to_vec();
        let changed = (0..now.len()).filter(|at| before[*at] != now[*at]).collect();
        Written { now, changed }
    }
}

struct Written {
    now: Vec<u8>,
    changed: Vec<usize>,
}

impl Written {
    /// Where this value has been written: the one place where it stands and a byte has changed.
    fn place(&self, value: &[u8], what: &'static str) -> Found {
        let stands = |at: &usize| self.now[*at..].starts_with(value);
        let changed =
            |at: &usize| self.changed.iter().any(|c| (*at..*at + value.len()).contains(c));
        only((0..self.now.len()).filter(stands).filter(changed), what)
    }

    /// The one run of exactly this many bytes that have become zero.
    fn zeroes(&self, length: usize, what: &'static str) -> Found {
        let is = |at: usize| self.changed.contains(&at) && self.now[at] == 0;
        let starts = self.changed.iter().copied().filter(|at| *at == 0 || !is(at - 1));
        let long = |at: &usize| (*at..*at + length).all(is) && !is(at + length);
        only(starts.filter(long), what)
    }
}

fn only(mut places: impl Iterator<Item = usize>, what: &'static str) -> Found {
    match (places.next(), places.next()) {
        (Some(at), None) => Ok(at),
        _ => Err(what),
    }
}

/// The place of what a function has returned, if each word of the state is its number in `bits`.
fn read_from(value: u64, bits: u32, what: &'static str) -> Found {
    let (low, high) = (value as u32, (value >> 32) as u32);
    let word = low & !bits;
    let whole = low & bits == bits && (high == 0 || high == (word + 1) | bits);
    if whole && word != 0 && (word as usize) < WORDS {
        Ok(word as usize * 4)
    } else {
        Err(what)
    }
}

/// # Safety
///
/// As for [`layout`].
unsafe fn find(f: &Functions) -> Result<Layout, String> {
    let mut layout = [0; PLACES];
    for (at, place) in ASSUMED {
        layout[at as usize] = place;
    }
    let mut put = |at: At, found: Found| -> Result<usize, String> {
        let place = found.map_err(|what| format!("{what} does not show where {at:?} is"))?;
        layout[at as usize] = place;
        Ok(place)
    };
    // SAFETY: each function gets a state that is large enough, and of which it only reads and
    // writes fields: nothing in these states makes it raise an exception, which would leave by
    // longjmp. What crashes all the same ends the child.
    unsafe {
        let control = Fake::zero().written(|env| (f.helper_fldcw)(env, 0x1b5e));
        let fpuc = put(At::Fpuc, control.place(&[0x5e, 0x1b], "helper_fldcw"))?;
        let push = Fake::zero().written(|env| (f.helper_fpush)(env));
        put(At::Fpstt, push.place(&[7, 0, 0, 0], "helper_fpush"))?;
        let clear = Fake::new(|_| u32::MAX).written(|env| (f.helper_fclex)(env));
        put(At::Fpus, clear.place(&[0x00, 0x7f], "helper_fclex"))?;
        let init = Fake::new(|_| u32::MAX).written(|env| (f.helper_fninit)(env));
        put(At::Fptags, init.place(&[1; 8], "helper_fninit"))?;
        let pointers = put(At::Fpip, init.zeroes(16, "helper_fninit"))?;
        put(At::Fpdp, Ok(pointers + 8))?;
        // The selectors of the two pointers follow it.
        put(At::Fpop, init.zeroes(4, "helper_fninit").map(|selectors| selectors - 2))?;
        let one = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f];
        let load = Fake::zero().written(|env| (f.helper_fld1_ST0)(env));
        put(At::Fpregs, load.place(&one, "helper_fld1_ST0"))?;
        if init.now[fpuc..fpuc + 2] != [0x7f, 0x03] {
            return Err("helper_fninit does not agree with helper_fldcw".to_owned());
        }
        let mxcsr = Fake::zero().written(|env| (f.helper_ldmxcsr)(env, 0x1f85));
        put(At::Mxcsr, mxcsr.place(&0x1f85u32.to_le_bytes(), "helper_ldmxcsr"))?;

        // CR4.PKE and CR4.OSXSAVE are set, whichever word CR4 is.
        const PKE: u32 = 1 << 22;
        const OSXSAVE: u32 = 1 << 18;
        let pkru = Fake::new(|n| n | PKE).after(|env| (f.helper_rdpkru)(env, 0));
        put(At::Pkru, read_from(pkru, PKE, "helper_rdpkru"))?;
        let xcr0 = Fake::new(|n| n | OSXSAVE).after(|env| (f.helper_xgetbv)(env, 0));
        let xcr0 = put(At::Xcr0, read_from(xcr0, OSXSAVE, "helper_xgetbv"))?;
        let dr = Fake::new(|n| n).after(|env| (f.helper_get_dr)(env, 0));
        put(At::Dr, read_from(dr, 0, "helper_get_dr"))?;
        for (at, msr) in [(At::VmHsave, 0xc001_0117), (At::Pat, 0x277), (At::Efer, 0xc000_0080)] {
            // ECX is the second register.
            let mut fake = Fake::new(|n| n).set(8, msr);
            fake.after(|env| (f.helper_rdmsr)(env));
            let words = &fake.0[WORDS..];
            let value = u64::from(words[0]) | u64::from(words[4]) << 32;
            put(at, read_from(value, 0, "helper_rdmsr"))?;
        }

        let gif = Fake::zero().written(|env| (f.helper_stgi)(env));
        let hflags2 = put(At::Hflags2, gif.place(&[1, 0, 0, 0], "helper_stgi"))?;
        // AVX is not enabled any more.
        let sync = Fake::new(|_| u32::MAX).set(xcr0, 0);
        let sync = sync.written(|env| (f.cpu_sync_avx_hflag)(env));
        put(At::Hflags, sync.place(&[0xff, 0xff, 0xff, 0xef], "cpu_sync_avx_hflag"))?;
        const VINTR: u32 = 1 << 3;
        let cr8 = Fake::zero().set(hflags2, VINTR).written(|env| (f.helper_write_crN)(env, 8, 5));
        put(At::IntCtl, cr8.place(&[5, 0, 0, 0], "helper_write_crN"))?;
        // No processor has CR1, and nobody looks at what it is to be.
        let cr1 = Fake::zero().written(|env| (f.helper_write_crN)(env, 1, 0x1234_5678_9abc));
        let value = 0x1234_5678_9abcu64.to_le_bytes();
        put(At::Cr, cr1.place(&value, "helper_write_crN").map(|place| place - 8))?;

        let code = slice::from_raw_parts(f.x86_cpu_do_interrupt.cast(), CODE_BYTES);
        let [index, code, is_int] = interrupt_fields(code).map_err(str::to_owned)?;
        let clear = slice::from_raw_parts(f.cpu_clear_ignne.cast(), CODE_BYTES);
        let env = ignne_field(clear).and_then(|place| place.checked_sub(hflags2).ok_or(IGNNE));
        let env = put(At::Env, env)?;
        let flush = slice::from_raw_parts(f.tcg_flush_jmp_cache as *const u8, CODE_BYTES);
        let cache = put(At::JumpCache, jump_cache_field(flush))?;
        let tlb = tlb(f, cache);
        put(At::Tlb, tlb.map(|[start, _]| start))?;
        put(At::TlbEnd, tlb.map(|[_, end]| end))?;
        let inside = |place: usize| place.checked_sub(env).ok_or(INTERRUPT);
        put(At::ExceptionIndex, Ok(index))?;
        put(At::ErrorCode, inside(code))?;
        put(At::ExceptionIsInt, inside(is_int))?;
    }
    Ok(layout)
}

/// Bytes of a function, as far as they matter.
const CODE_BYTES: usize = 160;
const INTERRUPT: &str = "x86_cpu_do_interrupt";
const IGNNE: &str = "cpu_clear_ignne";

fn decode(code: &[u8]) -> Vec<Instruction> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.can_decode() {
        all.push(decoder.decode());
    }
    all
}

/// `x86_cpu_do_interrupt` hands `exception_index`, the error code and whether it is that of an INT
/// instruction to another function, which by the ABI are in ESI, ECX and EDX. Here from the start
/// of `CPUState`.
fn interrupt_fields(code: &[u8]) -> Result<[usize; 3], &'static str> {
    let all = decode(code);
    let loaded = |register| {
        let load = all.iter().find(|i| {
            i.mnemonic() == Mnemonic::Mov
                && i.op0_register() == register
                && i.op1_kind() == OpKind::Memory
        });
        load.map(|i| i.memory_displacement64() as usize).ok_or(INTERRUPT)
    };
    Ok([loaded(Register::ESI)?, loaded(Register::ECX)?, loaded(Register::EDX)?])
}

/// `cpu_clear_ignne` is AND DWORD PTR [CPUState + Env + HFLAGS2], ~80h.
pub fn ignne_field(code: &[u8]) -> Found {
    const NOT_IGNNE: u32 = !(1 << 7);
    let and = decode(code).into_iter().find(|i| {
        i.mnemonic() == Mnemonic::And
            && i.op0_kind() == OpKind::Memory
            && i.op1_kind() == OpKind::Immediate32
            && i.immediate32() == NOT_IGNNE
    });
    and.map(|i| i.memory_displacement64() as usize).ok_or(IGNNE)
}

/// `tcg_flush_jmp_cache` reads `tb_jmp_cache` first.
fn jump_cache_field(code: &[u8]) -> Found {
    let load = decode(code).into_iter().find(|i| {
        i.mnemonic() == Mnemonic::Mov
            && i.op1_kind() == OpKind::Memory
            && i.memory_base() == Register::RDI
    });
    load.map(|i| i.memory_displacement64() as usize).ok_or("tcg_flush_jmp_cache")
}

/// From where to where `tlb_init` fills in a CPU's TLB; `cache` is where the pointer to the cache
/// of blocks is. `tlb_flush` must take the mark of [`kept_tlb`] away, and empty the cache, which
/// must not be larger than those are that `kept_tlb` makes.
///
/// # Safety
///
/// As for [`layout`].
unsafe fn tlb(f: &Functions, cache: usize) -> Result<[usize; 2], &'static str> {
    const OTHER: u8 = 0xa5;
    const WORD: usize = size_of::<u64>();
    let other = u64::from_ne_bytes([OTHER; WORD]);
    let mut cpu = vec![other; AROUND / WORD];
    // SAFETY: more than a CPU has before the end of its TLB.
    let range = unsafe {
        (f.tlb_init)(cpu.as_mut_ptr().cast());
        let bytes = slice::from_raw_parts(cpu.as_ptr().cast::<u8>(), AROUND);
        let changed = |byte: &u8| *byte != OTHER;
        let start = bytes.iter().position(changed).ok_or("tlb_init")?;
        let end = bytes.iter().rposition(changed).ok_or("tlb_init")? + 1;
        let aligned = start % WORD == 0 && end % WORD == 0 && cache % WORD == 0;
        if !aligned || (start..end).contains(&cache) || cache >= AROUND {
            return Err("tlb_init");
        }
        [start, end]
    };
    let mut blocks = vec![other; 2 * kept_tlb::JUMP_CACHE_BYTES / WORD];
    cpu[cache / WORD] = blocks.as_mut_ptr() as u64;
    let flags = &mut cpu[range[0] / WORD];
    if *flags != 0 {
        return Err("tlb_init");
    }
    // The upper half, behind the lock.
    *flags = u64::from(kept_tlb::MARK) << u32::BITS;
    // SAFETY: a CPU with an empty TLB, of which a part is said to be not empty.
    unsafe { (f.tlb_flush)(cpu.as_mut_ptr().cast()) };
    let emptied = blocks.iter().rposition(|word| *word != other).unwrap_or(usize::MAX);
    if cpu[range[0] / WORD] == 0 && emptied < kept_tlb::JUMP_CACHE_BYTES / WORD {
        Ok(range)
    } else {
        Err("tlb_flush")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_where_it_was_written_alone() {
        let fake = Fake::zero().set(0x40, 7);
        let written = fake.written(|env| {
            // SAFETY: within the state.
            unsafe { env.byte_add(0x100).cast::<u32>().write(7) }
        });
        assert_eq!(written.place(&[7, 0, 0, 0], "f"), Ok(0x100));
        assert_eq!(written.place(&[8], "f"), Err("f"));
        let twice = Fake::zero().written(|env| {
            for at in [0x100, 0x200] {
                // SAFETY: within the state.
                unsafe { env.byte_add(at).cast::<u32>().write(7) }
            }
        });
        assert_eq!(twice.place(&[7, 0, 0, 0], "f"), Err("f"), "which one?");
        let zeroes = Fake::new(|_| u32::MAX).written(|env| {
            // SAFETY: within the state.
            unsafe {
                env.byte_add(0x100).cast::<[u16; 3]>().write([0, 0, 7]);
                env.byte_add(0x200).cast::<u16>().write(0);
            }
        });
        assert_eq!(zeroes.zeroes(4, "f"), Ok(0x100));
        assert_eq!(zeroes.zeroes(2, "f"), Ok(0x200));
    }

    #[test]
    fn a_value_says_where_it_was_read() {
        let bit = 1 << 22;
        assert_eq!(read_from(0x40_0bc8, bit, "f"), Ok(0x2f20));
        assert_eq!(read_from(0x40_0bc9_0040_0bc8, bit, "f"), Ok(0x2f20));
        for strange in [0x40_0bca_0040_0bc8, 0x0bc8, 0x40_0000, 0x41_0bc8] {
            assert_eq!(read_from(strange, bit, "f"), Err("f"), "{strange:#x}");
        }
    }

    #[test]
    fn code_is_read() {
        // cpu_clear_ignne of a build, from its AND on; below, MOV ESI, ECX and EDX of
        // x86_cpu_do_interrupt.
        let and = [0x90, 0x81, 0xa0, 0xa4, 0x41, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(ignne_field(&and), Ok(0x41a4));
        let mut other = and;
        other[7] = 0x3f;
        assert_eq!(ignne_field(&other), Err(IGNNE));
        let loads = [
            0x8b, 0xb5, 0xc0, 0x02, 0x00, 0x00, 0x8b, 0x88, 0xf0, 0x74, 0x00, 0x00, 0x8b, 0x90,
            0xf4, 0x74, 0x00, 0x00,
        ];
        assert_eq!(interrupt_fields(&loads), Ok([0x2c0, 0x74f0, 0x74f4]));
        assert_eq!(interrupt_fields(&loads[..12]), Err(INTERRUPT));
    }
}
