// SPDX-License-Identifier: GPL-2.0
//! What the PSP does beside SEV, each through registers of its own: messages of platform access,
//! and its doorbell.
//!
//! A thread of its own, as these do not wait for a SEV command.
//!
//! Source: drivers/crypto/ccp/{platform-access.c,hsti.c} and include/linux/psp-platform-access.h of
//! Linux 7.3. Which status a bad message gets is a model choice.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::fault::{Action, Faults};
use crate::memory::Memory;
use crate::registers::Registers;
use crate::trace::Trace;

/// Platform access: what the platform says about its security.
const HSTI_QUERY: u8 = 0x14;
/// A message that nobody knows, or with a buffer of the wrong size.
const INVALID: u16 = 6;

/// Something other than a SEV command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A message of platform access, and where its buffer is.
    Message { number: u8, buffer: u64 },
    /// The doorbell was rung for this.
    Doorbell { number: u8 },
}

/// Names of requests for faults and the trace. The numbers are above those of SEV commands.
const NAMES: &[(u32, &str)] =
    &[(0x1_0000 + HSTI_QUERY as u32, "HSTI_QUERY"), (0x2_0000, "DOORBELL")];

/// The number of a request with this name.
pub fn by_name(name: &str) -> Option<u32> {
    NAMES.iter().find(|row| row.1 == name).map(|row| row.0)
}

/// Whether this is such a number.
pub fn is_service(id: u32) -> bool {
    id >= 0x1_0000
}

impl Request {
    fn id(self) -> u32 {
        match self {
            Request::Message { number, .. } => 0x1_0000 + u32::from(number),
            Request::Doorbell { .. } => 0x2_0000,
        }
    }
}

pub struct Services {
    pub registers: Arc<Registers>,
    pub memory: Arc<Memory>,
    pub faults: Arc<Mutex<Faults>>,
    pub trace: Arc<Trace>,
    /// What HSTI_QUERY answers.
    pub hsti: u32,
}

impl Services {
    /// Runs until the server ends.
    pub fn run(self, requests: &Receiver<Request>) {
        for request in requests {
            self.serve(request);
        }
    }

    fn serve(&self, request: Request) {
        let struck =
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(request.id());
        let mut status = None;
        for (action, _) in &struck {
            match action {
                Action::Silent => {
                    self.note(request, "no answer");
                    return;
                }
                Action::Status(code) => status = Some(*code),
                Action::Delay(time) => thread::sleep(*time),
                _ => {}
            }
        }
        let status = status.unwrap_or_else(|| self.execute(request));
        for (action, _) in &struck {
            if let Action::Late(time) = action {
                thread::sleep(*time);
            }
        }
        self.note(request, &format!("{status:#x}"));
        match request {
            Request::Message { .. } => self.registers.complete_message(status),
            Request::Doorbell { .. } => self.registers.complete_doorbell(status),
        }
    }

    fn note(&self, request: Request, answer: &str) {
        let name = NAMES.iter().find(|row| row.0 == request.id()).map_or("?", |row| row.1);
        self.trace.event("service", &[("text", name.into()), ("answer", answer.into())]);
    }

    fn execute(&self, request: Request) -> u16 {
        match request {
            Request::Message { number: HSTI_QUERY, buffer } => self.hsti(buffer),
            Request::Message { .. } => INVALID,
            // What the messages mean is not public.
            Request::Doorbell { .. } => 0,
        }
    }

    /// The buffer: its size, a status, and the answer.
    fn hsti(&self, buffer: u64) -> u16 {
        let mut size = [0; 4];
        self.memory.read(buffer, &mut size);
        if u32::from_le_bytes(size) != 12 {
            return INVALID;
        }
        self.memory.write(buffer + 4, &[0; 4]);
        self.memory.write(buffer + 8, &self.hsti.to_le_bytes());
        0
    }
}
