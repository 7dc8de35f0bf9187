// SPDX-License-Identifier: GPL-2.0
//! What KVM must not take, each with the errno that it has to answer with. The VM is usable
//! afterwards: the same image is launched in it and runs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use kvm_bindings::{KVM_X86_DEFAULT_VM, KVM_X86_SNP_VM};
use libc::{EINVAL, EIO};

use crate::guest::at;
use crate::image::{self, Image, Kind, Page};
use crate::run::run_vcpu;
use crate::vm::{vcpu_command, Refused, VcpuState, Vm, SET_VCPU_STATE, VMSA_VALID};
use crate::Result;

type Attempt = fn(&Vm, &Image) -> Result<std::result::Result<(), Refused>>;

/// Offsets in a VMSA.
const VMPL: usize = 0xca;
const RESERVED: usize = 0xcc;
const EFER_HIGH: usize = 0xd1;
const SEV_FEATURES: usize = 0x3b0;
const END: usize = 0xfff;

/// Name, errno, and what is tried between LAUNCH_START and the launch of the image.
const REFUSALS: [(&str, i32, Attempt); 11] = [
    ("two-pages", EINVAL, |vm, image| Ok(vm.update(Kind::Vmsa, vmsa(image)?.gpa, 8192))),
    ("half-a-page", EINVAL, |vm, image| Ok(vm.update(Kind::Vmsa, vmsa(image)?.gpa, 2048))),
    ("no-page", EINVAL, |vm, image| Ok(vm.update(Kind::Vmsa, vmsa(image)?.gpa, 0))),
    ("at-2m", EINVAL, |vm, image| {
        vm.write(0, &vmsa(image)?.data);
        Ok(vm.update(Kind::Vmsa, 0, 4096))
    }),
    ("vmpl-1", EINVAL, |vm, image| changed(vm, image, VMPL, 1)),
    ("reserved", EINVAL, |vm, image| changed(vm, image, RESERVED, 1)),
    ("behind-the-end", EINVAL, |vm, image| changed(vm, image, END, 1)),
    ("other-features", EINVAL, |vm, image| changed(vm, image, SEV_FEATURES, 1 | 1 << 5)),
    ("no-svme", EINVAL, |vm, image| changed(vm, image, EFER_HIGH, 5)),
    ("shared-page", EINVAL, |vm, image| {
        vm.write(at::GHCB, &vmsa(image)?.data);
        Ok(vm.update(Kind::Vmsa, at::GHCB, 4096))
    }),
    // The page is somebody's: of the same guest, launched before.
    ("assigned-page", EIO, |vm, image| {
        vm.write(0x30000, &[0; 4096]);
        vm.update(Kind::Normal, 0x30000, 4096)?;
        vm.write(0x30000, &vmsa(image)?.data);
        Ok(vm.update(Kind::Vmsa, 0x30000, 4096))
    }),
];

/// Those that do not come before the launch of the image.
const OTHERS: [&str; 5] =
    ["second-page", "after-finish", "no-snp", "no-boot-vcpu", "changing-source"];

type Change = fn(&mut VcpuState);

/// What is changed in a binding that would be right otherwise.
const BINDINGS: [(&str, Change); 6] = [
    ("bind-unknown-bit", |state| state.valid_fields |= 1 << 2),
    ("bind-padding", |state| state.pad[4] = 1),
    ("bind-misaligned", |state| state.vmsa_gpa += 8),
    ("bind-at-2m", |state| state.vmsa_gpa = 0),
    ("bind-out-of-range", |state| state.vmsa_gpa = 1 << 40),
    ("bind-unpopulated", |state| state.vmsa_gpa = 0x50000),
];

/// What is refused of the mode in which VMSAs are bound, and of binding.
const DIRECT: [&str; 6] = [
    "direct-after-vcpu",
    "direct-no-snp",
    "bind-without-the-mode",
    "bind-before-start",
    "bind-after-finish",
    "bind-no-snp",
];

pub fn names() -> Vec<&'static str> {
    let bindings = BINDINGS.iter().map(|(name, _)| *name);
    REFUSALS.iter().map(|(name, ..)| *name).chain(OTHERS).chain(bindings).chain(DIRECT).collect()
}

/// One of those that have to do with binding.
fn binding(image: &Image, name: &str) -> Result<()> {
    let vm_type = if name.ends_with("no-snp") { KVM_X86_DEFAULT_VM } else { KVM_X86_SNP_VM };
    let vm = Vm::new(vm_type)?;
    let right =
        VcpuState { valid_fields: VMSA_VALID, vmsa_gpa: vmsa(image)?.gpa, ..Default::default() };
    let bind = |vcpu, state: &VcpuState| vcpu_command(vcpu, SET_VCPU_STATE, &mut state.clone());
    match name {
        "direct-no-snp" => {
            said(name, vm.enable_direct_vmsa(), EINVAL);
            return Ok(());
        }
        "bind-no-snp" => {
            said(name, bind(&vm.vcpu(0)?, &right), libc::ENOTTY);
            return Ok(());
        }
        _ => {}
    }
    let direct = !["direct-after-vcpu", "bind-without-the-mode"].contains(&name);
    if direct {
        vm.enable_direct_vmsa()?;
    }
    let boot = vm.vcpu(0)?;
    if name == "direct-after-vcpu" {
        said(name, vm.enable_direct_vmsa(), EINVAL);
    }
    if name == "bind-before-start" {
        said(name, bind(&boot, &right), EINVAL);
    }
    vm.launch_image(image)?;
    if name == "bind-without-the-mode" {
        said(name, bind(&boot, &right), EINVAL);
    }
    if direct {
        bind(&boot, &right)?;
    }
    if let Some((_, change)) = BINDINGS.iter().find(|(known, _)| *known == name) {
        let mut wrong = right.clone();
        change(&mut wrong);
        said(name, bind(&boot, &wrong), EINVAL);
    }
    vm.finish()?;
    if name == "bind-after-finish" {
        said(name, bind(&boot, &right), EINVAL);
    }
    after(&vm, name, boot)
}

fn vmsa(image: &Image) -> Result<&Page> {
    let vmsa = image.pages.iter().find(|page| page.kind == Kind::Vmsa);
    Ok(vmsa.ok_or("the image has no VMSA")?)
}

fn changed(
    vm: &Vm,
    image: &Image,
    offset: usize,
    value: u8,
) -> Result<std::result::Result<(), Refused>> {
    let mut page = vmsa(image)?.clone();
    assert_ne!(page.data[offset], value);
    page.data[offset] = value;
    vm.write(page.gpa, &page.data);
    Ok(vm.update(Kind::Vmsa, page.gpa, 4096))
}

/// Tries one, and then launches and runs the image. Prints "@refusal NAME ERRNO EXPECTED" and
/// "@after NAME END", how the boot vCPU has ended.
pub fn refusal(file: &str, name: &str) -> Result<()> {
    let image = image::read(file)?;
    if DIRECT.contains(&name) || BINDINGS.iter().any(|(known, _)| *known == name) {
        return binding(&image, name);
    }
    match name {
        "changing-source" => return changing_source(&image),
        "no-snp" => {
            let vm = Vm::new(KVM_X86_DEFAULT_VM)?;
            // All commands of SEV are refused.
            said(name, vm.update(Kind::Vmsa, at::VMSA, 4096), EINVAL);
            return Ok(());
        }
        "no-boot-vcpu" => {
            let vm = Vm::new(KVM_X86_SNP_VM)?;
            let _other = vm.vcpu(1)?;
            vm.launch_image(&image)?;
            said(name, vm.finish(), EINVAL);
            let boot = vm.vcpu(0)?;
            vm.finish()?;
            return after(&vm, name, boot);
        }
        _ => {}
    }
    let vm = Vm::new(KVM_X86_SNP_VM)?;
    let boot = vm.vcpu(0)?;
    for gpa in &image.shared {
        vm.set_private(*gpa, 4096, false)?;
    }
    vm.start(image.policy)?;
    if let Some((_, errno, attempt)) = REFUSALS.iter().find(|(known, ..)| *known == name) {
        said(name, attempt(&vm, &image)?, *errno);
    }
    image.pages.iter().try_for_each(|page| vm.launch(page))?;
    if name == "second-page" {
        vm.write(0x30000, &vmsa(&image)?.data);
        said(name, vm.update(Kind::Vmsa, 0x30000, 4096), EINVAL);
    }
    vm.write(0, &vec![0; crate::guest::MEMORY as usize]);
    vm.finish()?;
    if name == "after-finish" {
        vm.write(0x30000, &vmsa(&image)?.data);
        said(name, vm.update(Kind::Vmsa, 0x30000, 4096), EINVAL);
    }
    after(&vm, name, boot)
}

/// Another thread changes the VMPL in the source all the time. What is launched has the one that
/// was checked: either the call is refused, or the digest is that of VMPL 0. Goes on until both
/// have been seen. Prints "@changing REFUSED LAUNCHED", and how often.
fn changing_source(image: &Image) -> Result<()> {
    const VMS: usize = 200;
    let page = vmsa(image)?;
    let (mut refused, mut launched) = (0, 0);
    for _ in 0..VMS {
        if refused > 0 && launched > 0 {
            break;
        }
        let vm = Vm::new(KVM_X86_SNP_VM)?;
        let _boot = vm.vcpu(0)?;
        let others = image.pages.iter().filter(|page| page.kind != Kind::Vmsa).cloned().collect();
        let others = Image { pages: others, shared: image.shared.clone(), ..*image };
        vm.launch_image(&others)?;
        vm.write(page.gpa, &page.data);
        let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                for vmpl in [1u8, 0].iter().cycle().take_while(|_| !stop.load(Relaxed)) {
                    vm.write(page.gpa + VMPL as u64, &[*vmpl]);
                    begun.store(true, Relaxed);
                }
            });
            while !begun.load(Relaxed) {
                std::thread::yield_now();
            }
            let result = vm.update(Kind::Vmsa, page.gpa, 4096);
            stop.store(true, Relaxed);
            result
        });
        match result {
            Ok(()) => {
                vm.finish()?;
                launched += 1;
            }
            Err(error) if error.errno == EINVAL => refused += 1,
            // The page is one that cannot hold a VMSA.
            Err(error) if error.errno == libc::EAGAIN => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("@changing {refused} {launched}");
    Ok(())
}

fn said(name: &str, result: std::result::Result<(), Refused>, expected: i32) {
    println!("@refusal {name} {} {expected}", result.map_or_else(|refused| refused.errno, |()| 0));
}

fn after(vm: &Vm, name: &str, boot: kvm_ioctls::VcpuFd) -> Result<()> {
    vm.write(at::REPORT, &1u64.to_le_bytes());
    vm.write(at::REPORT + 8, &1u64.to_le_bytes());
    println!("@after {name} {}", run_vcpu(boot));
    Ok(())
}
