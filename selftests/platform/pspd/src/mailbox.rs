// SPDX-License-Identifier: GPL-2.0
//! The worker that executes commands.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, thread};

use psp::{CpuRegisters, Fact, Outcome, Platform, Psp};
use rmp::Entry;

use crate::fault::{self, Action, Faults};
use crate::interrupt::Interrupts;
use crate::machine::Machine;
use crate::pending::Pending;
use crate::registers::{Doorbell, Registers};
use crate::trace::{command_name, Began, Trace};

/// What the server passes on.
pub enum Request {
    Command(Doorbell),
    Reset,
}

pub struct Worker {
    pub psp: Psp,
    pub machine: Machine,
    pub registers: Arc<Registers>,
    pub interrupts: Arc<Interrupts>,
    pub faults: Arc<Mutex<Faults>>,
    pub pending: Arc<Pending>,
    pub trace: Arc<Trace>,
    pub dump_pages: Option<PathBuf>,
}

impl Worker {
    /// Runs until the server ends.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let mut n = 0;
        for request in requests {
            match request {
                Request::Reset => {
                    self.psp.reset();
                    self.pending.end();
                    self.trace.event("reset", &[]);
                }
                Request::Command(bell) => {
                    n += 1;
                    self.command(n, &bell);
                }
            }
        }
    }

    fn command(&mut self, n: u64, bell: &Doorbell) {
        let began = Began { t_us: self.trace.now(), n, executed: self.machine.link.executed() };
        if bell.overrun {
            self.trace.event("doorbell while busy", &[("id", bell.command.into())]);
        }
        self.pending.begin(command_name(bell.command));
        let struck = self.strike(bell.command);
        let (actions, texts): (Vec<Action>, Vec<String>) = struck.into_iter().unzip();
        for action in &actions {
            match action {
                Action::Delay(time) => thread::sleep(*time),
                Action::FlipDigest => self.psp.corrupt_launch_digest(&self.machine, bell.buffer),
                _ => {}
            }
        }
        if let Some(end) = actions.iter().find_map(no_answer) {
            self.fall_silent(bell, end, &texts);
            return;
        }
        let forced = actions.iter().find_map(|action| match action {
            Action::Status(code) => Some(*code),
            _ => None,
        });
        let (code, outcome) = match forced {
            Some(code) => (code, None),
            None => {
                let outcome = self.execute(bell, &actions);
                (outcome.status.code(), Some(outcome))
            }
        };
        for action in &actions {
            if let Action::Late(time) = action {
                thread::sleep(*time);
            }
        }
        if let (Some(dir), Some(outcome)) = (&self.dump_pages, &outcome) {
            dump_page(dir, n, outcome, &self.machine);
        }
        // The trace comes first: whoever sees the answer finds the line.
        self.trace.command(&began, bell, code, outcome.as_ref(), &texts);
        if let Some(outcome) = &outcome {
            self.report(bell, outcome);
        }
        self.pending.end();
        let due = self.registers.complete(code, bell.interrupt);
        if due && !actions.contains(&Action::NoInterrupt) && !self.interrupts.raise() {
            self.trace.event("interrupt not set up", &[]);
        }
    }

    /// What the host has done wrong, an event each.
    fn report(&self, bell: &Doorbell, outcome: &Outcome) {
        for report in &outcome.reports {
            let facts = [
                ("command", command_name(bell.command).into()),
                ("address", format!("{:#x}", report.address).into()),
            ];
            self.trace.event(report.what, &facts);
        }
    }

    fn fall_silent(&self, bell: &Doorbell, end: &str, faults: &[String]) {
        let facts = [("cmd", command_name(bell.command).into()), ("fault", faults.into())];
        self.trace.event(end, &facts);
        match end {
            "device gone" => std::process::exit(0),
            "all ones" => self.registers.vanish(),
            _ => {}
        }
        self.pending.fall_silent(bell.interrupt);
    }

    fn strike(&self, id: u32) -> Vec<(Action, String)> {
        // Orders may replace the faults at any time, but not in the middle of a command.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(id)
    }

    fn execute(&mut self, bell: &Doorbell, actions: &[Action]) -> Outcome {
        let outcome = if actions.contains(&Action::Partial) {
            self.psp.step(&HalfWritten(&self.machine), bell.command, bell.buffer)
        } else {
            self.psp.step(&self.machine, bell.command, bell.buffer)
        };
        if actions.contains(&Action::Garbage) && !outcome.input.is_empty() {
            for at in fault::length_fields(bell.command) {
                self.machine.write(outcome.buffer + *at as u64, &[0xff; 4]);
            }
        }
        outcome
    }
}

/// The event that stands for a command which gets no answer.
fn no_answer(action: &Action) -> Option<&'static str> {
    match action {
        Action::Silent => Some("no answer"),
        Action::AllOnes => Some("all ones"),
        Action::Gone => Some("device gone"),
        _ => None,
    }
}

/// Writes the page that a successful SNP_LAUNCH_UPDATE measured (the model does not encrypt).
fn dump_page(dir: &Path, n: u64, outcome: &Outcome, machine: &Machine) {
    let fact = |name| outcome.facts.iter().find(|fact| fact.0 == name).map(|fact| &fact.1);
    let facts = (fact("page"), fact("page_type"), fact("gpa"), fact("digest"));
    if let (Some(Fact::Address(page)), Some(Fact::Word(kind)), Some(Fact::Address(gpa)), Some(_)) =
        facts
    {
        let mut bytes = [0; 4096];
        machine.read(*page, &mut bytes);
        let path = dir.join(format!("{n:06}-{kind}-{gpa:x}"));
        if let Err(error) = fs::write(&path, bytes) {
            eprintln!("pspd: cannot write {}: {error}", path.display());
        }
    }
}

/// The machine, if only half of what firmware writes arrives.
struct HalfWritten<'a>(&'a Machine);

impl rmp::Table for HalfWritten<'_> {
    fn load(&self, at: u64) -> Entry {
        self.0.load(at)
    }

    fn store(&self, at: u64, entry: Entry) {
        self.0.store(at, entry);
    }

    fn try_lock(&self, region: u64) -> bool {
        self.0.try_lock(region)
    }

    fn unlock(&self, region: u64) {
        self.0.unlock(region);
    }
}

impl Platform for HalfWritten<'_> {
    fn is_ram(&self, pa: u64, len: u64) -> bool {
        self.0.is_ram(pa, len)
    }

    fn read(&self, pa: u64, bytes: &mut [u8]) {
        self.0.read(pa, bytes);
    }

    fn write(&self, pa: u64, bytes: &[u8]) {
        self.0.write(pa, &bytes[..bytes.len() / 2]);
    }

    fn cpus(&self) -> Vec<CpuRegisters> {
        self.0.cpus()
    }

    fn clear_snp_en(&self) {
        self.0.clear_snp_en();
    }

    fn iommu_snp(&self) -> bool {
        self.0.iommu_snp()
    }

    fn iommu_pages(&self) -> Vec<u64> {
        self.0.iommu_pages()
    }

    fn set_asid(&self, asid: u32, snp: Option<bool>) {
        self.0.set_asid(asid, snp);
    }

    fn set_snp_active(&self, active: bool) {
        self.0.set_snp_active(active);
    }
}
