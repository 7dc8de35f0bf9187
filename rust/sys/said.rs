// SPDX-License-Identifier: GPL-2.0

//! Lines of the kernel's log, for tests: their codes, and the words of the last one.

use core::sync::atomic::AtomicU8;

use kernel::{
    fmt::{
        self,
        Write, //
    },
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// More lines than a test waits for, and more bytes than a line has.
const LINES: usize = 32;
const BYTES: usize = 512;

static CODES: [Atomic<u64>; LINES] = [const { Atomic::new(0) }; LINES];
/// How many there were; those that [`CODES`] has no room for count as well.
static COUNT: Atomic<usize> = Atomic::new(0);
static LAST: [AtomicU8; BYTES] = [const { AtomicU8::new(0) }; BYTES];

/// A number instead of a code (FNV-1a).
fn number(code: &str) -> u64 {
    code.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Text {
    bytes: [u8; BYTES],
    len: usize,
}

impl Text {
    fn of(words: fmt::Arguments<'_>) -> Self {
        let mut text = Self {
            bytes: [0; BYTES],
            len: 0,
        };
        let _ = text.write_fmt(words);
        text
    }
}

impl Write for Text {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        for byte in words.bytes() {
            *self.bytes.get_mut(self.len).ok_or(fmt::Error)? = byte;
            self.len = self.len.wrapping_add(1);
        }
        Ok(())
    }
}

/// A line is written.
pub fn note(code: &str, words: fmt::Arguments<'_>) {
    if let Some(slot) = CODES.get(COUNT.fetch_add(1, Relaxed)) {
        slot.store(number(code), Relaxed);
    }
    for (slot, byte) in LAST.iter().zip(Text::of(words).bytes) {
        slot.store(byte, core::sync::atomic::Ordering::Relaxed);
    }
}

/// Lines that were written before do not matter.
pub fn forget() {
    COUNT.store(0, Relaxed);
}

/// Whether these lines have been written since this was asked last, in this order, and no others.
pub fn only(codes: &[&str]) -> bool {
    let count = COUNT.xchg(0, Relaxed);
    let written = CODES.iter().map(|code| code.load(Relaxed)).take(count);
    count <= LINES && written.eq(codes.iter().map(|code| number(code)))
}

/// Whether the line that was written last has these words.
pub fn with(words: fmt::Arguments<'_>) -> bool {
    let mut line = [0; BYTES];
    for (byte, slot) in line.iter_mut().zip(&LAST) {
        *byte = slot.load(core::sync::atomic::Ordering::Relaxed);
    }
    let words = Text::of(words);
    let words = words.bytes.get(..words.len).unwrap_or_default();
    line.windows(words.len()).any(|part| part == words)
}
