// SPDX-License-Identifier: GPL-2.0
//! Faults on purpose: which command misbehaves when, and how.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use psp::Status;

use crate::services;

pub const HELP: &str = "\
Make a command misbehave: COMMAND[@N][xM]:ACTION, may be repeated

COMMAND is a name such as SNP_INIT_EX, an id such as 0x85, or * for any; start:allones is a
device that never answers on the bus. HSTI_QUERY and DOORBELL of platform access,
SFS_GET_FW_VERSIONS and SFS_UPDATE, TEE_RING_INIT, TEE_RING_DESTROY, and of the ring TEE_LOAD_TA,
TEE_UNLOAD_TA, TEE_OPEN_SESSION, TEE_CLOSE_SESSION, TEE_INVOKE_CMD, TEE_MAP_SHARED_MEM and
TEE_UNMAP_SHARED_MEM take the first four actions.
Without @ and x every occurrence is meant; @N means the Nth only (from 1), xM the first M,
@NxM the M from the Nth on.

ACTION is one of
  status=CODE   answer with this status (name or 16-bit number), execute nothing
  delay=MS      wait, then execute and answer
  late=MS       execute at once, answer after the time
  silent        do not answer, execute nothing, until the order 'clear'
  no-irq        answer without the interrupt
  partial       execute, but only the first half of everything written to memory arrives
  garbage       execute, then report 0xffffffff as length (GET_ID, PEK_CSR, PDH_CERT_EXPORT)
  flip-digest   make the guest's launch digest wrong first (SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH)
  allones       no answer, and all registers read 0xffffffff from then on
  gone          the device disappears: pspd ends its connection to QEMU

Several faults may meet at one command, for instance late=MS with status=CODE.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A code, not a [`Status`]: silicon has been seen to answer with codes that no ABI assigns.
    Status(u16),
    Delay(Duration),
    Late(Duration),
    Silent,
    NoInterrupt,
    Partial,
    Garbage,
    FlipDigest,
    AllOnes,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// Before the first command.
    Start,
    Any,
    Id(u32),
}

/// One `--fault`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    text: String,
    which: Which,
    first: u64,
    /// None: without end.
    count: Option<u64>,
    action: Action,
}

/// Commands that report lengths, and where in their buffers.
const LENGTHS: &[(&str, &[usize])] =
    &[("GET_ID", &[8]), ("PEK_CSR", &[8]), ("PDH_CERT_EXPORT", &[8, 24])];

/// The offsets of the length fields of command `id`.
pub fn length_fields(id: u32) -> &'static [usize] {
    let name = psp::name(id);
    LENGTHS.iter().find(|row| Some(row.0) == name).map_or(&[], |row| row.1)
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let (target, action) =
            text.split_once(':').ok_or("write COMMAND:ACTION, e.g. SNP_INIT_EX:status=3")?;
        let (target, count) = match target.rsplit_once('x') {
            // The x of 0x85 is not a count.
            Some((head, number)) if head != "0" && !number.is_empty() && is_number(number) => {
                (head, Some(positive(number)?))
            }
            _ => (target, None),
        };
        let (command, first) = match target.split_once('@') {
            Some((command, number)) => (command, Some(positive(number)?)),
            None => (target, None),
        };
        let fault = Fault {
            text: text.to_owned(),
            which: which(command)?,
            first: first.unwrap_or(1),
            count: count.or(first.map(|_| 1)),
            action: action.parse()?,
        };
        fault.check()?;
        Ok(fault)
    }
}

impl Fault {
    /// An action that a command cannot show would make a test pass for no reason.
    fn check(&self) -> Result<(), String> {
        let id = match self.which {
            Which::Start if self.action == Action::AllOnes => return Ok(()),
            Which::Start => return Err("start goes with allones only".to_owned()),
            Which::Any => return Ok(()),
            Which::Id(id) => id,
        };
        let name = psp::name(id).unwrap_or("this command");
        let answers = matches!(
            self.action,
            Action::Status(_) | Action::Delay(_) | Action::Late(_) | Action::Silent
        );
        if services::is_service(id) && !answers {
            return Err("only status, delay, late and silent go with it".to_owned());
        }
        let launches = matches!(name, "SNP_LAUNCH_UPDATE" | "SNP_LAUNCH_FINISH");
        match self.action {
            Action::Garbage if length_fields(id).is_empty() => {
                Err(format!("{name} reports no length; garbage has no effect on it"))
            }
            Action::FlipDigest if !launches => {
                Err(format!("{name} has no launch digest; flip-digest has no effect on it"))
            }
            _ => Ok(()),
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Action, String> {
        let duration = |ms: &str| {
            let ms = ms.parse().map_err(|_| format!("'{ms}' is no number of milliseconds"))?;
            Ok::<_, String>(Duration::from_millis(ms))
        };
        Ok(match text.split_once('=') {
            Some(("status", code)) => Action::Status(status(code)?),
            Some(("delay", ms)) => Action::Delay(duration(ms)?),
            Some(("late", ms)) => Action::Late(duration(ms)?),
            None if text == "silent" => Action::Silent,
            None if text == "no-irq" => Action::NoInterrupt,
            None if text == "partial" => Action::Partial,
            None if text == "garbage" => Action::Garbage,
            None if text == "flip-digest" => Action::FlipDigest,
            None if text == "allones" => Action::AllOnes,
            None if text == "gone" => Action::Gone,
            _ => return Err(format!("'{text}' is no action; see --help")),
        })
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("'{text}' is no count from 1 on"))
}

/// Decimal, or hexadecimal with 0x.
pub fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn which(command: &str) -> Result<Which, String> {
    match command {
        "*" => return Ok(Which::Any),
        "start" => return Ok(Which::Start),
        _ => {}
    }
    let by_name = || (0..0x800).find(|id| psp::name(*id) == Some(command));
    let id = number(command).or_else(by_name).or_else(|| services::by_name(command));
    id.map(Which::Id).ok_or_else(|| format!("'{command}' is no command; write e.g. SNP_INIT_EX"))
}

fn status(code: &str) -> Result<u16, String> {
    let by_name =
        || (0..=u16::MAX).find(|c| Status::from_code(*c).is_some_and(|s| s.name() == code));
    let by_code = number(code).and_then(|code| code.try_into().ok());
    by_code.or_else(by_name).ok_or_else(|| format!("'{code}' is no status; write a name or a code"))
}

/// All faults of a run, and how often each command has come.
#[derive(Default)]
pub struct Faults {
    faults: Vec<Fault>,
    seen: BTreeMap<u32, u64>,
    total: u64,
}

impl Faults {
    pub fn new(faults: Vec<Fault>) -> Faults {
        Faults { faults, ..Faults::default() }
    }

    /// Whether the device is dead from the beginning.
    pub fn dead_on_arrival(&self) -> bool {
        self.faults.iter().any(|fault| fault.which == Which::Start)
    }

    /// Counts command `id` and says what is to go wrong with it.
    pub fn strike(&mut self, id: u32) -> Vec<(Action, String)> {
        let seen = self.seen.entry(id).or_default();
        *seen += 1;
        self.total += 1;
        let (seen, total) = (*seen, self.total);
        let hit = |fault: &&Fault| {
            let nth = match fault.which {
                Which::Any => total,
                Which::Id(wanted) if wanted == id => seen,
                Which::Id(_) | Which::Start => return false,
            };
            nth >= fault.first && fault.count.is_none_or(|count| nth < fault.first + count)
        };
        self.faults.iter().filter(hit).map(|fault| (fault.action, fault.text.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_parse() {
        let rows: &[(&str, Which, u64, Option<u64>, Action)] = &[
            ("SNP_INIT_EX:status=3", Which::Id(0x85), 1, None, Action::Status(3)),
            ("0x85:status=INVALID_CONFIG", Which::Id(0x85), 1, None, Action::Status(3)),
            ("0x85x2:silent", Which::Id(0x85), 1, Some(2), Action::Silent),
            ("PLATFORM_STATUS@1:silent", Which::Id(4), 1, Some(1), Action::Silent),
            ("PLATFORM_STATUS@2x3:allones", Which::Id(4), 2, Some(3), Action::AllOnes),
            ("INIT_EX:gone", Which::Id(0xd), 1, None, Action::Gone),
            ("*:status=0x9000", Which::Any, 1, None, Action::Status(0x9000)),
            ("start:allones", Which::Start, 1, None, Action::AllOnes),
            ("*:late=20", Which::Any, 1, None, Action::Late(Duration::from_millis(20))),
            ("*@7:delay=5", Which::Any, 7, Some(1), Action::Delay(Duration::from_millis(5))),
            ("GET_ID:garbage", Which::Id(0xc), 1, None, Action::Garbage),
            ("SNP_LAUNCH_FINISH:flip-digest", Which::Id(0xa2), 1, None, Action::FlipDigest),
            ("GET_ID@2:no-irq", Which::Id(0xc), 2, Some(1), Action::NoInterrupt),
            ("GET_ID:partial", Which::Id(0xc), 1, None, Action::Partial),
            ("HSTI_QUERY@1:silent", Which::Id(0x10014), 1, Some(1), Action::Silent),
        ];
        for (text, which, first, count, action) in rows {
            let fault: Fault = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let got = (fault.which, fault.first, fault.count, fault.action);
            assert_eq!(got, (which.clone(), *first, *count, *action), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in [
            "",
            "SNP_INIT_EX",
            "NO_SUCH:silent",
            "*:status=NO_SUCH",
            "*:status=70000",
            "*:explode",
            "start:silent",
            "*@0:silent",
            "*x0:silent",
            "*:delay",
            "*:delay=soon",
            "SHUTDOWN:garbage",
            "HSTI_QUERY:gone",
            "SNP_INIT:flip-digest",
        ] {
            let error = text.parse::<Fault>().expect_err(text);
            assert!(!error.is_empty(), "{text}");
        }
    }

    #[test]
    fn occurrences_are_counted() {
        let parse = |text: &str| text.parse().unwrap();
        let mut faults = Faults::new(vec![parse("0x4@2x2:silent"), parse("*@4:gone")]);
        let mut hits = |id| faults.strike(id).into_iter().map(|hit| hit.0).collect::<Vec<_>>();
        assert_eq!(hits(4), []);
        assert_eq!(hits(5), []);
        assert_eq!(hits(4), [Action::Silent]);
        assert_eq!(hits(4), [Action::Silent, Action::Gone]);
        assert_eq!(hits(4), []);
    }
}
