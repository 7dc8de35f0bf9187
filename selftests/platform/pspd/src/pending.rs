// SPDX-License-Identifier: GPL-2.0
//! The command that is being executed.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The command that has not been answered, if there is one.
#[derive(Default)]
pub struct Pending(Mutex<Option<Unanswered>>);

struct Unanswered {
    command: String,
    since: Instant,
    /// Nobody works on it any more. An answer interrupts if this says so.
    silent: Option<bool>,
}

impl Pending {
    pub fn begin(&self, command: String) {
        *self.lock() = Some(Unanswered { command, since: Instant::now(), silent: None });
    }

    /// There will be no answer. `interrupt`: with one there would be an interrupt.
    pub fn fall_silent(&self, interrupt: bool) {
        if let Some(pending) = self.lock().as_mut() {
            pending.silent = Some(interrupt);
        }
    }

    pub fn end(&self) {
        *self.lock() = None;
    }

    /// Ends a silent command, and says its name and whether it wants an interrupt.
    pub fn take_silent(&self) -> Option<(String, bool)> {
        let mut pending = self.lock();
        let interrupt = pending.as_ref()?.silent?;
        pending.take().map(|pending| (pending.command, interrupt))
    }

    pub fn describe(&self) -> String {
        let pending = self.lock();
        pending.as_ref().map_or_else(String::new, |pending| {
            format!("{} {}", pending.command, pending.since.elapsed().as_millis())
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Unanswered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
