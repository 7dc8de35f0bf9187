// SPDX-License-Identifier: GPL-2.0
//! Launches an image, runs it until the boot vCPU has ended, and says what was seen.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_SYSTEM_EVENT_SEV_TERM, KVM_X86_SNP_VM};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::guest::{at, MAX_VCPUS};
use crate::image::{self, Kind};
use crate::vm::{
    set_registers, vcpu_command, VcpuState, Vm, GET_VCPU_STATE, SET_VCPU_STATE, VMSA_VALID,
};
use crate::{digest, option, Result};

/// How long a guest may take.
const PATIENCE: Duration = Duration::from_secs(100);
const STEP: Duration = Duration::from_millis(100);

/// `--vcpus`: how many vCPUs there are before the launch. `--late`: how many more come after it.
/// `--no-vmsa`: VMSAs of the image are left out, and KVM makes one for each vCPU. `--direct`: the
/// VMSAs of the image are bound to the first vCPUs, in their order. `--wait`: the guest runs in
/// circles until there is such a file. `--pause`: waits for a line before this step, of `start`,
/// `page-N`, `finish`, `run`, `end`.
pub fn run(file: &str, options: &[&str]) -> Result<()> {
    let pause = |step: &str| {
        if options.windows(2).any(|words| words == ["--pause", step]) {
            println!("@paused {step}");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
    };
    // With the VM it loses all of its pages.
    let vm = Vm::new(KVM_X86_SNP_VM)?;
    let result = launch_and_run(&vm, file, options, pause);
    if let Err(error) = &result {
        println!("@stopped {error}");
    }
    pause("end");
    result
}

fn launch_and_run(vm: &Vm, file: &str, options: &[&str], pause: impl Fn(&str)) -> Result<()> {
    let (early, late) =
        (option(options, "--vcpus")?.unwrap_or(1u64), option(options, "--late")?.unwrap_or(0u64));
    if early + late > MAX_VCPUS {
        return Err(format!("the guest has room for {MAX_VCPUS} vCPUs").into());
    }
    let mut image = image::read(file)?;
    if options.contains(&"--no-vmsa") {
        image.pages.retain(|page| page.kind != Kind::Vmsa);
    }
    let own_vmsa = image.pages.iter().any(|page| page.kind == Kind::Vmsa);
    println!("@digest {}", digest::hex(&digest::of(&image.pages)));

    let begin = Instant::now();
    let direct = options.contains(&"--direct");
    if direct {
        vm.enable_direct_vmsa()?;
    }
    let mut vcpus = Vec::new();
    for number in 0..early {
        let vcpu = vm.vcpu(number)?;
        if !own_vmsa {
            set_registers(&vcpu, number)?;
        }
        vcpus.push(vcpu);
    }
    pause("start");
    vm.launch_in_steps(&image, |number| pause(&format!("page-{number}")))?;
    let mut bound = 1;
    if direct {
        let vmsas = image.pages.iter().filter(|page| page.kind == Kind::Vmsa);
        bound = 0;
        for (vcpu, vmsa) in vcpus.iter().zip(vmsas) {
            let state =
                VcpuState { valid_fields: VMSA_VALID, vmsa_gpa: vmsa.gpa, ..Default::default() };
            vcpu_command(vcpu, SET_VCPU_STATE, &mut state.clone())?;
            let mut found = VcpuState::default();
            vcpu_command(vcpu, GET_VCPU_STATE, &mut found)?;
            if found != state {
                return Err(format!("bound {state:?}, and KVM says {found:?}").into());
            }
            bound += 1;
        }
    }
    pause("finish");
    vm.finish()?;
    println!("@took {}", begin.elapsed().as_micros());
    if options.contains(&"--finish-twice") {
        match vm.finish() {
            Ok(()) => println!("@finish-twice 0"),
            Err(refused) => println!("@finish-twice {}", refused.errno),
        }
    }
    for number in early..early + late {
        vcpus.push(vm.vcpu(number)?);
    }
    // How many the boot vCPU has to start.
    let started = if own_vmsa { early + late } else { 1 };
    vm.write(at::REPORT + 8, &u64::to_le_bytes(bound));
    println!("@launched {early} {late}");

    pause("run");
    let wait: Option<String> = option(options, "--wait")?;
    let go = || {
        if let Some(file) = &wait {
            while vm.read(at::REPORT + at::MARKS as u64) == 0 {
                std::thread::sleep(STEP);
            }
            println!("@running");
            while !Path::new(file).exists() {
                std::thread::sleep(STEP);
            }
        }
        vm.write(at::REPORT, &started.to_le_bytes());
    };
    let marked = run_until_the_end(vm, vcpus, go, if own_vmsa { started } else { early })?;
    println!("@ran {}", marked.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
    Ok(())
}

/// Runs all vCPUs, has them `go`, and waits until the boot vCPU has ended and `expected` of them
/// have said that they run, it has failed, or patience ends. Which have.
fn run_until_the_end(
    vm: &Vm,
    vcpus: Vec<VcpuFd>,
    go: impl FnOnce(),
    expected: u64,
) -> Result<Vec<u64>> {
    let (ended, end) = mpsc::channel();
    let count = vcpus.len() as u64;
    for (number, vcpu) in vcpus.into_iter().enumerate() {
        let ended = ended.clone();
        // vCPUs that nobody starts wait in the kernel until this process ends.
        std::thread::spawn(move || {
            let why = run_vcpu(vcpu);
            let _ = ended.send((number, why));
        });
    }
    go();
    let marked = || {
        let marks = at::REPORT + at::MARKS as u64;
        (0..count).filter(|n| vm.read(marks + n) == 1).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    let (mut boot_ended, mut boot_failed) = (false, false);
    while Instant::now() < deadline {
        if let Ok((number, why)) = end.recv_timeout(STEP) {
            println!("@vcpu {number} {why}");
            boot_ended |= number == 0;
            boot_failed |= number == 0 && why.starts_with("failed");
        }
        if boot_failed || boot_ended && marked().len() as u64 >= expected {
            break;
        }
    }
    Ok(marked())
}

/// Runs a vCPU until it ends, and says how.
pub fn run_vcpu(mut vcpu: VcpuFd) -> String {
    loop {
        match vcpu.run() {
            // A vCPU that waits to be started.
            Err(error) if [libc::EAGAIN, libc::EINTR].contains(&error.errno()) => {}
            Err(error) => return format!("failed {}", error.errno()),
            Ok(VcpuExit::Hlt) => return "hlt".into(),
            Ok(VcpuExit::Shutdown) => return "shutdown".into(),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SEV_TERM, data)) => {
                let reason = data.first().copied().unwrap_or(0);
                return format!("terminated {}:{:#x}", reason >> 12 & 0xf, reason >> 16 & 0xff);
            }
            Ok(other) => return format!("exit {other:?}"),
        }
    }
}
