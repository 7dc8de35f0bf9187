// SPDX-License-Identifier: GPL-2.0
//! The eventfds that QEMU gives for the device's vectors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Eventfds by (IRQ index, vector).
#[derive(Default)]
pub struct Interrupts(Mutex<BTreeMap<(u32, u32), File>>);

impl Interrupts {
    /// SET_IRQS: `fds` for the vectors from `start` on; a vector without one is switched off.
    pub fn set(&self, index: u32, start: u32, count: u32, fds: Vec<File>) {
        let mut vectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count == 0 {
            vectors.retain(|key, _| key.0 != index);
        }
        let mut fds = fds.into_iter();
        for vector in (start..).take(count as usize) {
            match fds.next() {
                Some(fd) => vectors.insert((index, vector), fd),
                None => vectors.remove(&(index, vector)),
            };
        }
    }

    /// Raises vector 0 of whatever kind is set up. Without one nothing happens, as on a function
    /// whose interrupts the driver has not enabled.
    pub fn raise(&self) -> bool {
        let vectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, mut eventfd)) = vectors.iter().find(|(key, _)| key.1 == 0) else {
            return false;
        };
        // A full counter means that an interrupt is pending anyway.
        let _ = eventfd.write(&1u64.to_ne_bytes());
        true
    }
}
