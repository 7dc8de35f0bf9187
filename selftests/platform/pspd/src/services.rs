// SPDX-License-Identifier: GPL-2.0
//! What the PSP does beside SEV, each through registers of its own: messages of platform access,
//! and its doorbell; its own mailbox, and the ring of the TEE.
//!
//! A thread of its own, as these do not wait for a SEV command.
//!
//! Source: drivers/crypto/ccp/{platform-access.c,hsti.c,psp-dev.h} and
//! include/linux/psp-platform-access.h of Linux 7.3. Which status a bad message gets is a model
//! choice.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use psp::{Platform, Sfs, Tee};

use crate::fault::{Action, Faults};
use crate::machine::Machine;
use crate::registers::Registers;
use crate::trace::Trace;

/// Platform access: what the platform says about its security.
const HSTI_QUERY: u8 = 0x14;
/// The PSP's own mailbox.
const RING_INIT: u8 = 1;
const RING_DESTROY: u8 = 2;
const EXTENDED: u8 = 14;
/// A message that nobody knows, or with a buffer of the wrong size.
const INVALID: u16 = 6;

/// Something other than a SEV command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A message of platform access, and where its buffer is.
    Message { number: u8, buffer: u64 },
    /// The doorbell was rung for this.
    Doorbell { number: u8 },
    /// A command of the PSP's own mailbox, and where its buffer is.
    Mailbox { number: u8, buffer: u64 },
    /// The ring has commands up to here.
    Ring { end: u32 },
    /// What has not been answered is answered now.
    Clear,
    /// The function was reset.
    Reset,
}

/// Numbers of requests, above those of SEV commands.
const MESSAGE: u32 = 0x1_0000;
const DOORBELL: u32 = 0x2_0000;
const MAILBOX: u32 = 0x3_0000;
const EXTENDED_REQUEST: u32 = 0x4_0000;
const TEE_COMMAND: u32 = 0x5_0000;

/// Names of requests for faults and the trace.
const NAMES: &[(u32, &str)] = &[
    (MESSAGE + HSTI_QUERY as u32, "HSTI_QUERY"),
    (DOORBELL, "DOORBELL"),
    (MAILBOX + RING_INIT as u32, "TEE_RING_INIT"),
    (MAILBOX + RING_DESTROY as u32, "TEE_RING_DESTROY"),
    (EXTENDED_REQUEST + 1, "SFS_GET_FW_VERSIONS"),
    (EXTENDED_REQUEST + 2, "SFS_UPDATE"),
    (TEE_COMMAND + 1, "TEE_LOAD_TA"),
    (TEE_COMMAND + 2, "TEE_UNLOAD_TA"),
    (TEE_COMMAND + 3, "TEE_OPEN_SESSION"),
    (TEE_COMMAND + 4, "TEE_CLOSE_SESSION"),
    (TEE_COMMAND + 5, "TEE_INVOKE_CMD"),
    (TEE_COMMAND + 6, "TEE_MAP_SHARED_MEM"),
    (TEE_COMMAND + 7, "TEE_UNMAP_SHARED_MEM"),
];

/// The number of a request with this name.
pub fn by_name(name: &str) -> Option<u32> {
    NAMES.iter().find(|row| row.1 == name).map(|row| row.0)
}

/// Whether this is such a number.
pub fn is_service(id: u32) -> bool {
    id >= MESSAGE
}

pub struct Services {
    pub registers: Arc<Registers>,
    pub machine: Machine,
    pub faults: Arc<Mutex<Faults>>,
    pub trace: Arc<Trace>,
    /// What HSTI_QUERY answers.
    pub hsti: u32,
    pub sfs: Sfs,
    pub tee: Tee,
    /// What has not been answered.
    pub silent: Vec<Request>,
    /// The commands of the ring up to here are not read: one of them got no answer.
    pub stuck: Option<u32>,
}

/// What is to go wrong with a request.
#[derive(Default)]
struct Wrong {
    silent: bool,
    status: Option<u16>,
    late: Duration,
}

impl Services {
    /// Runs until the server ends.
    pub fn run(mut self, requests: &Receiver<Request>) {
        for request in requests {
            match request {
                Request::Ring { end } => self.ring(end),
                Request::Clear => self.clear(),
                Request::Reset => {
                    self.tee.destroy_ring();
                    (self.silent, self.stuck) = (Vec::new(), None);
                }
                request => self.serve(request),
            }
        }
    }

    fn id(&self, request: Request) -> u32 {
        match request {
            Request::Message { number, .. } => MESSAGE + u32::from(number),
            Request::Doorbell { .. } => DOORBELL,
            Request::Mailbox { number: EXTENDED, buffer } => {
                let number = self.sfs.number(&self.machine, buffer);
                EXTENDED_REQUEST + number.unwrap_or(0) % 0x1_0000
            }
            Request::Mailbox { number, .. } => MAILBOX + u32::from(number),
            Request::Ring { .. } | Request::Clear | Request::Reset => TEE_COMMAND,
        }
    }

    /// Counts a request, and waits if that is what is wrong with it.
    fn strike(&self, id: u32) -> Wrong {
        let struck = self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(id);
        let mut wrong = Wrong::default();
        for (action, _) in struck {
            match action {
                Action::Silent => wrong.silent = true,
                Action::Status(code) => wrong.status = Some(code),
                Action::Delay(time) => thread::sleep(time),
                Action::Late(time) => wrong.late = time,
                _ => {}
            }
        }
        wrong
    }

    fn serve(&mut self, request: Request) {
        let id = self.id(request);
        let wrong = self.strike(id);
        if wrong.silent {
            self.note(id, "no answer");
            self.silent.push(request);
            return;
        }
        let status = wrong.status.unwrap_or_else(|| self.execute(request));
        thread::sleep(wrong.late);
        self.note(id, &format!("{status:#x}"));
        self.answer(request, status);
    }

    fn answer(&self, request: Request, status: u16) {
        match request {
            Request::Message { .. } => self.registers.complete_message(status),
            Request::Doorbell { .. } => self.registers.complete_doorbell(status),
            _ => self.registers.complete_mailbox(status),
        }
    }

    /// Reads the ring's commands up to `end`. One that gets no answer keeps those behind it from
    /// being read.
    fn ring(&mut self, end: u32) {
        if self.stuck.is_some() {
            self.stuck = Some(end);
            return;
        }
        while let Some(number) = self.tee.next(&self.machine, end) {
            let id = TEE_COMMAND + number % 0x1_0000;
            let wrong = self.strike(id);
            if wrong.silent {
                self.note(id, "no answer");
                self.stuck = Some(end);
                return;
            }
            thread::sleep(wrong.late);
            // The trace comes first: whoever sees the answer finds the line.
            self.note(id, &wrong.status.map_or("done".to_owned(), |code| format!("{code:#x}")));
            let at = self.tee.step(&self.machine, wrong.status.map(u32::from));
            self.registers.set_rptr(at);
        }
    }

    /// Firmware that was silent goes on.
    fn clear(&mut self) {
        for request in std::mem::take(&mut self.silent) {
            self.note(self.id(request), "late answer");
            self.answer(request, INVALID);
        }
        if let Some(end) = self.stuck.take() {
            self.ring(end);
        }
    }

    fn note(&self, id: u32, answer: &str) {
        let name = NAMES.iter().find(|row| row.0 == id).map_or("?", |row| row.1);
        self.trace.event("service", &[("text", name.into()), ("answer", answer.into())]);
    }

    fn execute(&mut self, request: Request) -> u16 {
        match request {
            Request::Message { number: HSTI_QUERY, buffer } => self.hsti(buffer),
            Request::Mailbox { number: RING_INIT, buffer } => {
                let status = self.tee.init_ring(&self.machine, buffer);
                if status == 0 {
                    self.registers.set_rptr(0);
                }
                status
            }
            Request::Mailbox { number: RING_DESTROY, .. } => {
                self.stuck = None;
                self.tee.destroy_ring()
            }
            Request::Mailbox { number: EXTENDED, buffer } => self.sfs.serve(&self.machine, buffer),
            // What the doorbell's messages mean is not public.
            Request::Doorbell { .. } => 0,
            _ => INVALID,
        }
    }

    /// The buffer: its size, a status, and the answer.
    fn hsti(&self, buffer: u64) -> u16 {
        let mut size = [0; 4];
        self.machine.read(buffer, &mut size);
        if u32::from_le_bytes(size) != 12 {
            return INVALID;
        }
        self.machine.write(buffer + 4, &[0; 4]);
        self.machine.write(buffer + 8, &self.hsti.to_le_bytes());
        0
    }
}
