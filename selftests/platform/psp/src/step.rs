// SPDX-License-Identifier: GPL-2.0
//! The execution of one command.

use std::collections::BTreeSet;

use rmp::{Rmp, State};

use crate::call::{Call, Fact};
use crate::command::{self, Command};
use crate::{Platform, Psp, Report, Status};

/// What a command did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Where the command buffer is, without the C-bit.
    pub buffer: u64,
    /// The command buffer as it was read; empty for commands without one.
    pub input: Vec<u8>,
    /// The command buffer as it was written back, if it changed.
    pub output: Option<Vec<u8>>,
    /// What else is worth a line in a trace.
    pub facts: Vec<(&'static str, Fact)>,
    /// What the host has done wrong, whatever the status is.
    pub reports: Vec<Report>,
}

impl Psp {
    /// Executes command `id` with the buffer at `buffer`.
    pub fn step(&mut self, platform: &dyn Platform, id: u32, buffer: u64) -> Outcome {
        if self.snp.running.is_none() {
            self.owned.forget();
        }
        let rmp = self.snp.geometry().map(|geometry| Rmp::new(geometry, platform));
        let mut call = Call::new(platform, rmp, self.config.c_bit);
        let buffer = buffer & !(1 << self.config.c_bit);
        self.look_after(&mut call);
        let (status, input, output) = match command::find(id) {
            Some(_) if self.firmware.unusable && !command::restores(id) => {
                (Status::RestoreRequired, Vec::new(), None)
            }
            Some(command) => self.run(command, &mut call, buffer),
            None => (Status::InvalidCommand, Vec::new(), None),
        };
        self.use_own(&mut call, status);
        Outcome { status, buffer, input, output, facts: call.facts, reports: call.reports }
    }

    /// Whether somebody else has written to memory of firmware's.
    fn look_after(&mut self, call: &mut Call<'_>) {
        let own: BTreeSet<u64> = self.own_areas().into_iter().flatten().collect();
        for page in self.owned.overwritten(call.platform, |page| own.contains(&page)) {
            call.report("memory of firmware overwritten", page);
        }
    }

    /// Writes to it. A command that has failed because of a page that had come back was told about
    /// memory which its issuer has no more.
    fn use_own(&mut self, call: &mut Call<'_>, status: Status) {
        let named = |fact: &(&str, Fact)| match fact {
            ("page" | "gctx", Fact::Address(page)) => Some(*page),
            _ => None,
        };
        let pages: BTreeSet<u64> = call.facts.iter().filter_map(named).collect();
        let geometry = self.snp.geometry();
        let rmp = geometry.map(|geometry| Rmp::new(geometry, call.platform));
        let assigned = |page| {
            let state = rmp.as_ref().and_then(|rmp| rmp.state(page));
            state.is_some_and(|state| !matches!(state, State::Hypervisor | State::Reclaim))
        };
        for page in pages {
            if status == Status::Success || assigned(page) {
                self.owned.given_again(page);
            } else if self.owned.is_back(page) {
                call.report("page named after it came back", page);
            }
        }
        for page in std::mem::take(&mut call.reclaimed) {
            self.owned.came_back(page);
        }
        let areas = self.own_areas();
        self.owned.keeps(call.platform, self.sev.nv_pages());
        self.owned.scribble(call.platform, rmp.as_ref(), self.config.seed, &areas);
    }

    fn run(
        &mut self,
        command: &Command,
        call: &mut Call<'_>,
        buffer: u64,
    ) -> (Status, Vec<u8>, Option<Vec<u8>>) {
        let input = match command.len {
            0 => Vec::new(),
            len => match call.read(buffer, len.into()) {
                Ok(bytes) => bytes,
                Err(status) => return (status, Vec::new(), None),
            },
        };
        // The buffer of a command that answers in it must be writable before anything happens:
        // a command has no effect that its issuer cannot learn of.
        let output = match command.answers.then(|| call.output(buffer, command.len.into())) {
            Some(Err(status)) => return (status, input, None),
            Some(Ok(output)) => Some(output),
            None => None,
        };
        call.buffer.clone_from(&input);
        let status = match (command.run)(self, call) {
            Ok(()) => Status::Success,
            Err(status) => status,
        };
        if call.buffer == input {
            return (status, input, None);
        }
        // Written back even after an error: length queries depend on it.
        let answer = std::mem::take(&mut call.buffer);
        match output {
            Some(output) => call.write(output, &answer),
            None => unreachable!("{} changes its buffer, the table says otherwise", command.name),
        }
        (status, input, Some(answer))
    }

    /// Flips a bit of a guest's launch digest: for tests which must show that a wrong digest is
    /// noticed. `buffer` is that of the launch command about to be executed.
    pub fn corrupt_launch_digest(&mut self, platform: &dyn Platform, buffer: u64) {
        let mask = !(1 << self.config.c_bit);
        let mut gctx = [0; 8];
        if platform.is_ram(buffer & mask, 8) {
            platform.read(buffer & mask, &mut gctx);
            self.snp.corrupt_launch_digest(u64::from_le_bytes(gctx) & mask);
        }
    }
}
