// SPDX-License-Identifier: GPL-2.0

//! Lines of the kernel's log, for tests: their codes, and the words of the last one. Events of the
//! trace, whole.

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

static CODES: Numbers = Numbers::none();
static EVENTS: Numbers = Numbers::none();
static LAST: [AtomicU8; BYTES] = [const { AtomicU8::new(0) }; BYTES];

/// A number instead of a text (FNV-1a).
fn number(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Texts, in their order.
struct Numbers {
    numbers: [Atomic<u64>; LINES],
    /// How many there were; those that there is no room for count as well.
    count: Atomic<usize>,
}

impl Numbers {
    const fn none() -> Self {
        Self {
            numbers: [const { Atomic::new(0) }; LINES],
            count: Atomic::new(0),
        }
    }

    fn add(&self, text: &[u8]) {
        if let Some(slot) = self.numbers.get(self.count.fetch_add(1, Relaxed)) {
            slot.store(number(text), Relaxed);
        }
    }

    /// Whether it is these since this was asked last.
    fn only(&self, numbers: impl Iterator<Item = u64>) -> bool {
        let count = self.count.xchg(0, Relaxed);
        let added = self
            .numbers
            .iter()
            .map(|number| number.load(Relaxed))
            .take(count);
        count <= LINES && added.eq(numbers)
    }
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

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
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
    CODES.add(code.as_bytes());
    for (slot, byte) in LAST.iter().zip(Text::of(words).bytes) {
        slot.store(byte, core::sync::atomic::Ordering::Relaxed);
    }
}

/// There is an event for the trace.
pub fn event(words: fmt::Arguments<'_>) {
    EVENTS.add(Text::of(words).bytes());
}

/// Lines and events that were written before do not matter.
pub fn forget() {
    CODES.count.store(0, Relaxed);
    EVENTS.count.store(0, Relaxed);
}

/// Whether these lines have been written since this was asked last, in this order, and no others.
pub fn only(codes: &[&str]) -> bool {
    CODES.only(codes.iter().map(|code| number(code.as_bytes())))
}

/// The same for events.
pub fn traced(events: &[fmt::Arguments<'_>]) -> bool {
    EVENTS.only(events.iter().map(|words| number(Text::of(*words).bytes())))
}

/// Whether the line that was written last has these words.
pub fn with(words: fmt::Arguments<'_>) -> bool {
    let mut line = [0; BYTES];
    for (byte, slot) in line.iter_mut().zip(&LAST) {
        *byte = slot.load(core::sync::atomic::Ordering::Relaxed);
    }
    let words = Text::of(words);
    let words = words.bytes();
    line.windows(words.len()).any(|part| part == words)
}
