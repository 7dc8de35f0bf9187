// SPDX-License-Identifier: GPL-2.0
//! Calls in random order with random arguments, on VMs and vCPUs. KVM may refuse any of them; the
//! host must stay well. The same seed is the same calls.

use kvm_bindings::{
    kvm_mp_state, KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED,
    KVM_X86_SNP_VM,
};
use kvm_ioctls::VcpuFd;

use crate::guest::at;
use crate::image::{self, Kind, Page};
use crate::vm::{set_registers, vcpu_command, VcpuState, Vm, GET_VCPU_STATE, SET_VCPU_STATE};
use crate::Result;

/// Calls on one VM.
const CALLS: u64 = 40;
const KINDS: [Kind; 6] =
    [Kind::Normal, Kind::Vmsa, Kind::Zero, Kind::Unmeasured, Kind::Secrets, Kind::Cpuid];
const PAGES: [u64; 8] = [0, at::PML4, at::CODE, at::VMSA, 0x30000, 0x31000, 0x1ff000, 0x200000];

/// Xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }
}

/// Makes `calls` calls. Prints "@random CALLS SUCCEEDED LAUNCHED".
pub fn calls(file: &str, calls: &str, seed: &str) -> Result<()> {
    let image = image::read(file)?;
    let vmsa = image.pages.iter().find(|page| page.kind == Kind::Vmsa).ok_or("no VMSA")?;
    let (calls, mut random): (u64, _) = (calls.parse()?, Random(seed.parse::<u64>()? | 1));
    let (mut done, mut succeeded, mut launched) = (0, 0, 0);
    while done < calls {
        let vm = Vm::new(KVM_X86_SNP_VM)?;
        let mut vcpus = Vec::new();
        // Most begin as a launch does, or all would end early.
        if random.next() % 4 != 0 {
            if random.next() % 2 == 0 {
                let _ = vm.enable_direct_vmsa();
            }
            vcpus.extend(vm.vcpu(0).ok());
            let _ = vm.start(image.policy);
        }
        for _ in 0..CALLS {
            succeeded += u64::from(call(&vm, &mut vcpus, vmsa, &mut random));
        }
        launched += u64::from(vm.finish().is_ok());
        done += CALLS;
    }
    println!("@random {done} {succeeded} {launched}");
    Ok(())
}

/// One call; whether it succeeded.
fn call(vm: &Vm, vcpus: &mut Vec<VcpuFd>, vmsa: &Page, random: &mut Random) -> bool {
    let gpa = random.of(&PAGES);
    match random.next() % 16 {
        0 => vm.vcpu(random.next() % 4).map(|vcpu| vcpus.push(vcpu)).is_ok(),
        1 => vm.start(random.of(&[image::POLICY, 0, 1 << 63])).is_ok(),
        2 => vm.finish().is_ok(),
        3 => vm.enable_direct_vmsa().is_ok(),
        4 => vm.give_back(gpa).is_ok(),
        5 => vm.set_private(gpa, 4096, random.next() % 2 == 0).is_ok(),
        6..=9 => {
            if gpa < crate::guest::MEMORY {
                vm.write(gpa, &vmsa.data);
            }
            let len = random.of(&[4096, 4096, 4096, 0, 8192, 100]);
            vm.update(random.of(&KINDS), gpa, len).is_ok()
        }
        n => {
            let number = random.next() as usize;
            let count = vcpus.len().max(1);
            let Some(vcpu) = vcpus.get_mut(number % count) else { return false };
            match n {
                10 | 11 => {
                    let mut state = VcpuState {
                        valid_fields: random.of(&[0, 1, 1, 2, 3, 4]),
                        vmsa_gpa: gpa,
                        ghcb_gpa: random.next(),
                        ..Default::default()
                    };
                    vcpu_command(vcpu, random.of(&[SET_VCPU_STATE, GET_VCPU_STATE]), &mut state)
                        .is_ok()
                }
                12 => {
                    let states =
                        [KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_HALTED];
                    vcpu.set_mp_state(kvm_mp_state { mp_state: random.of(&states) }).is_ok()
                }
                13 => set_registers(vcpu, 0).is_ok(),
                14 => number % 2 == 0 && vcpus.pop().is_some(),
                _ => {
                    // Into KVM, and out again before a guest is entered.
                    vcpu.set_kvm_immediate_exit(1);
                    vcpu.run().is_ok()
                }
            }
        }
    }
}
