// SPDX-License-Identifier: GPL-2.0

//! What this machine says of itself: files, MSRs, the kernel's log, programs. Nothing here changes
//! anything.

use std::{
    cell::OnceCell,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const O_NONBLOCK: i32 = 0o4000;

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not there.
    Missing,
    /// Not for this user, or not in a kernel that is locked down.
    Denied,
    /// Something else.
    Failed(String),
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::Missing,
            ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Why {
    /// In words, of this thing.
    pub fn of(&self, what: &str) -> String {
        match self {
            Self::Missing => format!("{what} is not there"),
            Self::Denied => format!("{what} may not be read by this user"),
            Self::Failed(why) => format!("{what} cannot be read: {why}"),
        }
    }

    /// What to do about it.
    pub fn todo(&self) -> &'static str {
        match self {
            Self::Denied => "run host-check as root",
            Self::Missing | Self::Failed(_) => "",
        }
    }
}

/// A message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its level: 3 is an error, 4 a warning.
    pub level: u8,
    /// What it says, without its time.
    pub text: String,
}

/// This machine, or for tests a directory that has its files.
pub struct Host {
    root: PathBuf,
    log: OnceCell<Result<Vec<Message>, Why>>,
}

impl Host {
    /// The machine whose files are below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), log: OnceCell::new() }
    }

    /// The kernel's release.
    pub fn release(&self) -> Result<String, Why> {
        self.read("/proc/sys/kernel/osrelease")
    }

    /// Where that file is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether it is there.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's bytes.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, Why> {
        Ok(fs::read(self.path(path))?)
    }

    /// A file's text, without white space at its ends.
    pub fn read(&self, path: &str) -> Result<String, Why> {
        Ok(String::from_utf8_lossy(&self.bytes(path)?).trim().to_owned())
    }

    /// The names in a directory.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The name of what a link leads to.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(Path::file_name(&target)?.to_string_lossy().into_owned())
    }

    /// The CPUs of one of /sys/devices/system/cpu's lists.
    pub fn cpus(&self, list: &str) -> Result<Vec<usize>, Why> {
        let text = self.read(&format!("/sys/devices/system/cpu/{list}"))?;
        parse_list(&text).ok_or_else(|| Why::Failed(format!("it says {text:?}")))
    }

    /// An MSR of a CPU; [`None`] if the CPU does not have it.
    pub fn msr(&self, cpu: usize, number: u32) -> Result<Option<u64>, Why> {
        let file = File::open(self.path(&format!("/dev/cpu/{cpu}/msr")))?;
        let mut value = [0; 8];
        match file.read_exact_at(&mut value, u64::from(number)) {
            Ok(()) => Ok(Some(u64::from_le_bytes(value))),
            // The kernel says EIO where RDMSR raises #GP.
            Err(error) if error.raw_os_error() == Some(5) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The kernel's own messages since it was started, as far as it still has them, without their
    /// times.
    pub fn log(&self) -> Result<&[Message], Why> {
        self.log.get_or_init(|| self.read_log()).as_deref().map_err(Clone::clone)
    }

    fn read_log(&self) -> Result<Vec<Message>, Why> {
        let mut file =
            OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(self.path("/dev/kmsg"))?;
        let (mut record, mut lines) = (vec![0; 8192], Vec::new());
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => lines.extend(message(&String::from_utf8_lossy(&record[..length]))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The oldest one was dropped meanwhile.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(lines)
    }

    /// What a program makes of its input, if it succeeds.
    pub fn filter(&self, program: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Why> {
        // Of somebody who is not root it often has no /sbin.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // A program that does not want it all is no failure of ours.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        })?;
        if !output.status.success() {
            return Err(Why::Failed(format!("{program} ended with {}", output.status)));
        }
        Ok(output.stdout)
    }

    /// What a program prints, if it succeeds.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, Why> {
        Ok(String::from_utf8_lossy(&self.filter(program, arguments, &[])?).into_owned())
    }
}

/// The text of a record of /dev/kmsg, if it is the kernel's own:
/// "PRIORITY,SEQUENCE,TIME,FLAGS;TEXT\n KEY=VALUE". Others may write what they want there.
fn message(record: &str) -> Option<Message> {
    let (head, text) = record.split_once(';')?;
    let priority: u16 = head.split(',').next()?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default().to_owned();
    (priority >> 3 == 0).then_some(Message { level: priority as u8, text })
}

/// Numbers of a list such as "0-3,5".
pub fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut out = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        out.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(out)
}

/// The other way.
pub fn print_list(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let words = parts.iter().map(|&(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(",")
}

/// A machine made of files, for tests.
#[cfg(test)]
pub struct Fake(PathBuf);

#[cfg(test)]
impl Fake {
    /// One that has these files: name, contents. What begins with an arrow is a link to there.
    pub fn with(files: &[(&str, &str)]) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root =
            std::env::temp_dir().join(format!("host-check-test-{}-{number}", std::process::id()));
        for (name, contents) in files {
            let path = root.join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match contents.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => fs::write(path, contents).unwrap(),
            }
        }
        Self(root)
    }

    /// It.
    pub fn host(&self) -> Host {
        Host::at(&self.0)
    }
}

#[cfg(test)]
impl Drop for Fake {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!(parse_list("x"), None);
        assert_eq!(print_list(&[0, 1, 2, 5]), "0-2,5");
        assert_eq!(print_list(&[]), "");
    }

    #[test]
    fn only_the_kernel_speaks() {
        let text = "ccp: text".to_owned();
        assert_eq!(
            message("4,12,3456,-;ccp: text\n SUBSYSTEM=pci\n"),
            Some(Message { level: 4, text })
        );
        assert_eq!(message("12,13,3456,-;ccp: forged\n"), None);
        assert_eq!(message("nonsense"), None);
    }
}
