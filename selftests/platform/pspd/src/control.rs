// SPDX-License-Identifier: GPL-2.0
//! Orders while the machine runs: faults for the next case, marks in the trace, questions.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io, thread};

use crate::fault::{Fault, Faults};
use crate::interrupt::Interrupts;
use crate::mailbox::Request;
use crate::pending::Pending;
use crate::registers::Registers;
use crate::services;
use crate::trace::Trace;

pub const HELP: &str = "\
Take orders on this Unix socket while the machine runs

One order per line, one line as answer: 'ok', 'ok ANSWER' or 'error REASON'.

  fault [SPEC]…  these faults instead of all earlier ones; occurrences are counted from here
  clear          no faults; registers that read all ones answer again, and so does a silent command, with
                 RESOURCE_LIMIT (with 6 that of another mailbox), and the TEE goes on with its ring
  reset WHAT     the host is not told that it happened: 'registers' has the values of power-on again,
                 'firmware' is in its first state, or both with 'function'
  mark TEXT      write {\"event\":\"mark\",\"text\":TEXT} into the trace, with counts
  refuse-rmpupdate N   make the pages HV-Fixed that the next N RMPUPDATEs would give away, instead
                 of all earlier ones
  no-rmpupdate START LENGTH, no-psmash START LENGTH
                 refuse the instruction there (FAIL_PERMISSION), instead of anywhere else
  no-completion-wait on|off   the IOMMU does not say any more that it has executed a command
  pending        the command without an answer and the milliseconds since its doorbell, or nothing";

/// What orders act on.
#[derive(Clone)]
pub struct Control {
    pub faults: Arc<Mutex<Faults>>,
    pub pending: Arc<Pending>,
    pub registers: Arc<Registers>,
    pub interrupts: Arc<Interrupts>,
    pub worker: Sender<Request>,
    pub services: Sender<services::Request>,
    pub link: Arc<link::Mapping>,
    pub trace: Arc<Trace>,
}

impl Control {
    /// Listens on `path`, each client in a thread of its own.
    pub fn listen(self, path: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(path)?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let control = self.clone();
                thread::spawn(move || control.serve(&client));
            }
        });
        Ok(())
    }

    fn serve(&self, client: &UnixStream) {
        let mut answers = client;
        for line in BufReader::new(client).lines().map_while(Result::ok) {
            let answer = match self.obey(&line) {
                Ok(answer) if answer.is_empty() => "ok\n".to_owned(),
                Ok(answer) => format!("ok {answer}\n"),
                Err(reason) => format!("error {reason}\n"),
            };
            // A client that does not wait for the answer does not want it.
            if answers.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn obey(&self, line: &str) -> Result<String, String> {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (order, rest.trim()) {
            ("fault", specs) => {
                let faults: Result<Vec<Fault>, String> =
                    specs.split_whitespace().map(str::parse).collect();
                let faults = Faults::new(faults?);
                if faults.dead_on_arrival() {
                    self.registers.vanish();
                }
                self.replace(faults);
                Ok(String::new())
            }
            ("clear", "") => {
                self.replace(Faults::default());
                self.registers.come_back();
                self.answer_the_silent();
                self.serve_again(services::Request::Clear)?;
                Ok(String::new())
            }
            ("reset", what @ ("registers" | "firmware" | "function")) => {
                if what != "firmware" {
                    self.registers.reset();
                    self.serve_again(services::Request::Reset)?;
                }
                if what != "registers" {
                    self.worker.send(Request::Reset).map_err(|error| error.to_string())?;
                }
                Ok(String::new())
            }
            ("mark", text) => {
                self.mark(text);
                Ok(String::new())
            }
            ("refuse-rmpupdate", count) => {
                let count = count.parse().map_err(|_| format!("'{count}' is no number"))?;
                self.link.refuse_rmpupdate.store(count, Ordering::Release);
                Ok(String::new())
            }
            ("no-rmpupdate", range) => refuse(&self.link.no_rmpupdate, range),
            ("no-psmash", range) => refuse(&self.link.no_psmash, range),
            ("no-completion-wait", switch @ ("on" | "off")) => {
                self.link.no_completion_wait.store((switch == "on").into(), Ordering::Release);
                Ok(String::new())
            }
            ("pending", "") => Ok(self.pending.describe()),
            _ => Err(format!("'{line}' is no order; see --help")),
        }
    }

    fn answer_the_silent(&self) {
        if let Some((command, interrupt)) = self.pending.take_silent() {
            self.trace.event("late answer", &[("text", command.into())]);
            if self.registers.complete(psp::Status::ResourceLimit.code(), interrupt) {
                self.interrupts.raise();
            }
        }
    }

    fn serve_again(&self, request: services::Request) -> Result<(), String> {
        self.services.send(request).map_err(|error| error.to_string())
    }

    /// Register accesses belong to what was before the mark; what CPUs have executed is counted
    /// from power-on.
    fn mark(&self, text: &str) {
        let (reads, writes) = self.registers.take_accesses();
        self.trace.mark(text, reads, writes, &self.link.executed());
    }

    fn replace(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }
}

/// A socket left by a server that was killed would make the listener fail.
pub fn remove_stale_socket(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path)
            .map_err(|error| format!("cannot remove the old {}: {error}", path.display())),
        Ok(_) => Err(format!("{} exists and is no socket; name another path", path.display())),
        Err(error) => Err(format!("cannot look at {}: {error}", path.display())),
    }
}

/// Takes "START LENGTH", each decimal or 0x….
fn refuse(place: &link::Range, range: &str) -> Result<String, String> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let parsed =
        range.split_once(' ').and_then(|(start, length)| Some((number(start)?, number(length)?)));
    let (start, length) = parsed.ok_or_else(|| format!("'{range}' is no START LENGTH"))?;
    place.set(start, length);
    Ok(String::new())
}
