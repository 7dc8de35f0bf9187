// SPDX-License-Identifier: GPL-2.0

//! `--load`: loads the modules, launches one guest, unloads, and packs what was seen into one
//! archive for a report. Afterwards the same modules are loaded as before.

use crate::{
    checks,
    host::Host,
    mask,
    report::{Report, Verdict},
};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

/// What holds ccp; the last is the first to go.
const MODULES: [&str; 5] = ["snp_host", "ccp", "amdtee", "ccp_crypto", "kvm_amd"];
/// Starting a guest takes seconds. It is ended after that.
const PATIENCE: Duration = Duration::from_secs(120);
const MSR: &str = "/dev/cpu/0/msr";
const EVENTS: &str = "/sys/kernel/tracing/instances/host-check";
/// Files of the drivers and of the kernel that go into the archive as they are.
const FILES: [&str; 13] = [
    "/proc/sys/kernel/osrelease",
    "/proc/version",
    "/sys/devices/system/cpu/present",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/smt/control",
    "/sys/kernel/snp_host/state",
    "/sys/kernel/snp_host/reason",
    "/sys/kernel/snp_host/open_seconds",
    "/sys/kernel/snp_host/snp_en_cpus",
    "/sys/kernel/ccp/lost_pages",
    "/sys/kernel/debug/ccp/state",
    "/sys/module/kvm_amd/parameters/sev",
    "/sys/module/kvm_amd/parameters/sev_snp",
];

/// What is to be done.
pub struct Options {
    /// Without a question.
    pub yes: bool,
    /// Where the archive goes.
    pub out: Option<PathBuf>,
}

/// What was done, and where it is written down.
struct Run {
    host: Host,
    directory: PathBuf,
    steps: Vec<String>,
    failed: bool,
    /// Whether it has mounted tracefs.
    mounted: bool,
    begun: Instant,
}

/// Does all of that; returns the exit status.
pub fn run(options: &Options) -> io::Result<u8> {
    let host = Host::at("/");
    if let Some(why) = obstacle(&host) {
        eprintln!("host-check: {why}");
        return Ok(2);
    }
    if !options.yes && !confirmed()? {
        eprintln!("host-check: nothing was done");
        return Ok(2);
    }
    let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let directory =
        std::env::temp_dir().join(format!("host-check-{seconds}-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let mut run = Run {
        host,
        directory,
        steps: Vec::new(),
        failed: false,
        mounted: false,
        begun: Instant::now(),
    };
    let loaded = run.all();
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("host-check-{seconds}.tar.gz")));
    let packed = run.pack(&out);
    fs::remove_dir_all(&run.directory)?;
    print!("{}", loaded.text());
    println!("{}", run.steps.join("\n"));
    packed?;
    println!("archive for a report: {}", out.display());
    Ok(if run.failed { 1 } else { loaded.status() })
}

/// Why it cannot be done.
fn obstacle(host: &Host) -> Option<String> {
    if host.read("/proc/self/status").is_ok_and(|text| !text.contains("\nUid:\t0\t0\t")) {
        return Some("--load needs root".into());
    }
    let users = host.read("/sys/module/kvm_amd/refcnt").unwrap_or_default();
    (!matches!(users.as_str(), "" | "0")).then(|| {
        format!("kvm_amd has {users} users: end all guests, and whatever else uses /dev/kvm")
    })
}

fn confirmed() -> io::Result<bool> {
    print!(
        "This reloads ccp and kvm_amd, which initialises SNP and launches one small guest. While SNP is initialised\n\
         no CPU can go or come, and the machine cannot be suspended; where firmware cannot end SNP, until it is\n\
         restarted. Go on (yes/no)? "
    );
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

impl Run {
    /// Every step; what host-check finds with all loaded.
    fn all(&mut self) -> Report {
        let before: Vec<&str> =
            MODULES.into_iter().filter(|name| is_loaded(&self.host, name)).collect();
        self.report("1-before");
        for module in MODULES.into_iter().rev().filter(|module| before.contains(module)) {
            self.unload(module);
        }
        let had_msr = self.host.has(MSR);
        self.program("load msr", "modprobe", &["msr"]);
        self.program("load ccp", "modprobe", &["ccp"]);
        self.trace();
        self.program("load kvm_amd", "modprobe", &["kvm_amd"]);
        let report = self.report("2-loaded");
        self.launch(&report);
        self.states("loaded");
        self.report("3-after-guest");
        self.unload("kvm_amd");
        // The kernel drops the events of a module that goes.
        self.save_trace();
        self.unload("ccp");
        // It stays while SNP_EN is set.
        if is_loaded(&self.host, "snp_host") {
            self.states("unloaded");
            let held = self.host.read("/sys/kernel/snp_host/reason").unwrap_or_default();
            let gone = self.call("rmmod", &["snp_host"]).is_ok();
            self.note(&format!("unload snp_host: {}", if gone { "done" } else { &held }));
        }
        self.report("4-unloaded");
        for module in before {
            self.program(&format!("load {module} as before"), "modprobe", &[module]);
        }
        if !had_msr {
            self.program("unload msr", "rmmod", &["msr"]);
        }
        report
    }

    fn note(&mut self, text: &str) {
        let line = format!("{:7.1} s  {text}", self.begun.elapsed().as_secs_f64());
        self.steps.push(line);
    }

    /// A program, for `PATIENCE` at most; what it has printed.
    fn call(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let output = self.directory.join("output");
        let file = fs::File::create(&output).map_err(|error| error.to_string())?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let begun = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break Some(status),
                // Loading may wait for firmware for minutes, and cannot be ended.
                None if begun.elapsed() > PATIENCE
                    && program != "modprobe"
                    && program != "rmmod" =>
                {
                    break None
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        if status.is_none() {
            _ = child.kill();
            _ = child.wait();
        }
        let said = fs::read_to_string(&output).unwrap_or_default().trim().to_owned();
        _ = fs::remove_file(&output);
        match status {
            Some(status) if status.success() => Ok(said),
            Some(status) => Err(format!("{status}: {said}")),
            None => Err(format!("no end within {} s: {said}", PATIENCE.as_secs())),
        }
    }

    /// A step that is to succeed.
    fn program(&mut self, what: &str, program: &str, arguments: &[&str]) -> Option<String> {
        let result = self.call(program, arguments);
        match &result {
            Ok(_) => self.note(&format!("{what}: done")),
            Err(why) => {
                self.failed = true;
                self.note(&format!("{what}: FAILED, {why}"));
            }
        }
        result.ok()
    }

    fn unload(&mut self, module: &str) {
        if is_loaded(&self.host, module) && module != "snp_host" {
            self.program(&format!("unload {module}"), "rmmod", &[module]);
        }
    }

    /// What host-check finds now; also into the archive.
    fn report(&mut self, name: &str) -> Report {
        let report = checks::run(&Host::at("/"));
        self.write(&format!("{name}.json"), &report.json());
        self.write(&format!("{name}.txt"), &report.text());
        let wrong = report.findings.iter().filter(|finding| finding.verdict != Verdict::Ok).count();
        self.note(&format!(
            "host-check {name}: status {}, {wrong} lines are not OK",
            report.status()
        ));
        report
    }

    /// One guest, page by page.
    fn launch(&mut self, report: &Report) {
        if report
            .findings
            .iter()
            .any(|finding| finding.name == "kvm-snp" && finding.verdict == Verdict::Ok)
        {
            let launcher = launcher(&std::env::current_exe().unwrap_or_default());
            let image = self.directory.join("guest.igvm");
            let image = image.to_string_lossy();
            let c_bit = checks::c_bit().to_string();
            let program = launcher.to_string_lossy().into_owned();
            let made = self
                .program(
                    "make a guest",
                    &program,
                    &["make", &image, "--no-vmsa", "--c-bit", &c_bit],
                )
                .is_some();
            if made {
                if let Some(said) =
                    self.program("launch and run a guest", &program, &["run", &image, "--no-vmsa"])
                {
                    self.write("guest.txt", &said);
                }
            }
            _ = fs::remove_file(&*image);
        } else {
            self.failed = true;
            self.note("launch a guest: left out, KVM makes no SNP guests");
        }
    }

    /// Has the driver's trace events written down, in an instance of its own.
    fn trace(&mut self) {
        if !Path::new("/sys/kernel/tracing/events").exists() {
            self.mounted =
                self.call("mount", &["-t", "tracefs", "tracefs", "/sys/kernel/tracing"]).is_ok();
        }
        if !Path::new("/sys/kernel/tracing/events/ccp").exists() {
            return self.note("trace: this driver has no trace events");
        }
        let on = fs::create_dir(EVENTS).and_then(|()| {
            fs::write(format!("{EVENTS}/buffer_size_kb"), "4096")?;
            fs::write(format!("{EVENTS}/events/ccp/enable"), "1")?;
            fs::write(format!("{EVENTS}/events/snp_host/enable"), "1")
        });
        self.note(&format!(
            "trace: {}",
            on.map_or_else(|error| error.to_string(), |()| "on".into())
        ));
    }

    fn save_trace(&mut self) {
        if let Ok(text) = fs::read_to_string(format!("{EVENTS}/trace")) {
            self.write("trace.txt", &text);
        }
        _ = fs::remove_dir(EVENTS);
        if self.mounted {
            _ = self.call("umount", &["/sys/kernel/tracing"]);
        }
    }

    /// What the drivers say of themselves.
    fn states(&mut self, name: &str) {
        let mut text = String::new();
        for path in FILES {
            if let Ok(contents) = self.host.read(path) {
                text += &format!("{path}:\n{}\n\n", mask::line(&contents));
            }
        }
        self.write(&format!("states-{name}.txt"), &text);
    }

    fn write(&self, name: &str, text: &str) {
        if let Err(error) = fs::write(self.directory.join(name), text) {
            eprintln!("host-check: {name}: {error}");
        }
    }

    fn pack(&mut self, out: &Path) -> io::Result<()> {
        let host = Host::at("/");
        let log = host.log().map(mask::log).unwrap_or_else(|why| why.of("the kernel's log"));
        self.write("log.txt", &log);
        self.write(
            "command-line.txt",
            &mask::command_line(&host.read("/proc/cmdline").unwrap_or_default()),
        );
        self.write("steps.txt", &(self.steps.join("\n") + "\n"));
        let directory = self.directory.to_string_lossy().into_owned();
        let packed =
            Command::new("tar").args(["-czf"]).arg(out).args(["-C", &directory, "."]).status()?;
        if packed.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("tar ended with {packed}")))
        }
    }
}

fn is_loaded(host: &Host, module: &str) -> bool {
    // What is built in has a directory, too, but nobody counts its users.
    host.has(&format!("/sys/module/{module}/refcnt"))
}

/// The launcher beside `own`, which is this program, or where packages have it, or in the path.
fn launcher(own: &Path) -> PathBuf {
    let places = ["launcher", "../lib/ccp-rs-tools/launcher"];
    let beside = own.parent().and_then(|directory| {
        places.iter().map(|place| directory.join(place)).find(|place| place.exists())
    });
    beside.unwrap_or_else(|| "launcher".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_is_found_where_packages_and_builds_have_it() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("host-check-{}", std::process::id()));
        let own = root.join("sbin/host-check");
        assert_eq!(launcher(&own), Path::new("launcher"));
        for place in ["lib/ccp-rs-tools/launcher", "sbin/launcher"] {
            let file = root.join(place);
            fs::create_dir_all(file.parent().unwrap_or(&root))?;
            fs::create_dir_all(root.join("sbin"))?;
            fs::write(&file, "")?;
            assert_eq!(launcher(&own).canonicalize()?, file.canonicalize()?);
        }
        fs::remove_dir_all(root)
    }
}
