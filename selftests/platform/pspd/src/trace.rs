// SPDX-License-Identifier: GPL-2.0
//! The trace: one JSON object per line, each written at once.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use psp::{Fact, Outcome, Status};
use serde_json::{json, Map, Value};

use crate::registers::Doorbell;

/// What is known of a command when it begins.
pub struct Began {
    pub t_us: u64,
    /// Running number.
    pub n: u64,
    /// By then.
    pub executed: link::Executed,
}

pub struct Trace {
    file: Mutex<File>,
    start: Instant,
}

impl Trace {
    pub fn create(path: &Path) -> io::Result<Trace> {
        Ok(Trace { file: Mutex::new(File::create(path)?), start: Instant::now() })
    }

    /// Microseconds since the trace began.
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// One answered command, and the status code of the answer. Without `outcome` it was not
    /// executed.
    pub fn command(
        &self,
        began: &Began,
        bell: &Doorbell,
        code: u16,
        outcome: Option<&Outcome>,
        fault: &[String],
    ) {
        let mut line = Map::new();
        let name = command_name(bell.command);
        line.insert("t_us".into(), began.t_us.into());
        line.insert("took_us".into(), (self.now() - began.t_us).into());
        line.insert("n".into(), began.n.into());
        line.insert("cmd".into(), name.into());
        line.insert("id".into(), bell.command.into());
        line.insert("buf".into(), hex(outcome.map_or(&[], |outcome| &outcome.input)).into());
        if let Some(outcome) = outcome {
            if let Some(output) = &outcome.output {
                line.insert("out".into(), hex(output).into());
            }
            for (name, fact) in &outcome.facts {
                line.insert((*name).into(), value(fact));
            }
        }
        line.insert("status".into(), code.into());
        line.insert("status_name".into(), status_name(code).into());
        line.insert("ioc".into(), bell.interrupt.into());
        line.insert("mmio_reads".into(), bell.reads.into());
        line.insert("mmio_writes".into(), bell.writes.into());
        executed(&mut line, &began.executed);
        if !fault.is_empty() {
            line.insert("fault".into(), json!(fault));
        }
        self.line(&Value::Object(line));
    }

    /// Something that is known outside happens now. So many `reads` and `writes` of registers came
    /// since the command before.
    pub fn mark(&self, text: &str, reads: u64, writes: u64, by_cpus: &link::Executed) {
        let mut line = Map::new();
        line.insert("t_us".into(), self.now().into());
        line.insert("event".into(), "mark".into());
        line.insert("text".into(), text.into());
        line.insert("mmio_reads".into(), reads.into());
        line.insert("mmio_writes".into(), writes.into());
        executed(&mut line, by_cpus);
        self.line(&Value::Object(line));
    }

    /// Something that is not a command.
    pub fn event(&self, event: &str, facts: &[(&str, Value)]) {
        let mut line = Map::new();
        line.insert("t_us".into(), self.now().into());
        line.insert("event".into(), event.into());
        for (name, fact) in facts {
            line.insert((*name).into(), fact.clone());
        }
        self.line(&Value::Object(line));
    }

    fn line(&self, value: &Value) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("{value}\n").as_bytes()) {
            eprintln!("pspd: cannot write the trace: {error}");
        }
    }
}

fn executed(line: &mut Map<String, Value>, executed: &link::Executed) {
    line.insert("rmpupdate".into(), executed.rmpupdate.into());
    line.insert("psmash".into(), executed.psmash.into());
    line.insert("wbinvd".into(), executed.wbinvd.into());
}

/// The name of a command, or its number if the ABI assigns none.
pub fn command_name(id: u32) -> String {
    psp::name(id).map_or_else(|| format!("{id:#x}"), str::to_owned)
}

/// The name of a status, or its number if the ABI assigns none.
fn status_name(code: u16) -> String {
    Status::from_code(code).map_or_else(|| format!("{code:#x}"), |status| status.name().to_owned())
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Address(address) => format!("{address:#x}").into(),
        Fact::Number(number) => (*number).into(),
        Fact::Bytes(bytes) => hex(bytes).into(),
        Fact::Word(word) => (*word).into(),
        Fact::Text(text) => text.as_str().into(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
