// SPDX-License-Identifier: GPL-2.0
//! The file given with `log=`: a note when something happens for the first time, the summary at
//! exit.

use std::fmt;
use std::fs::File;
use std::io::Write;

/// Takes lines from any thread.
pub struct Log(Option<File>);

impl Log {
    /// Without a file, notes go nowhere.
    pub fn new(file: Option<File>) -> Log {
        Log(file)
    }

    /// Writes one line, in one write so that lines of several CPUs do not mix. A log that cannot
    /// be written (disk full) must not stop the machine.
    ///
    /// Not inlined: the text must be gone before a caller leaves by `longjmp`.
    #[inline(never)]
    pub fn note(&self, text: fmt::Arguments<'_>) {
        if let Some(mut file) = self.0.as_ref() {
            let _ = file.write_all(format!("{text}\n").as_bytes());
        }
    }
}
