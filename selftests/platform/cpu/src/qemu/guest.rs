// SPDX-License-Identifier: GPL-2.0
//! A CPU of QEMU's at the border of a guest, and inside.

use super::env;
use super::vcpu::Vcpu;
use crate::cpu::Cpu;
use crate::guest::inside::Inside;
use crate::guest::vmsa::{Fpu, Registers};
use crate::guest::walk::Paging;
use crate::guest::{exit, Action, Border};

const RAX: usize = 0;
const RDX: usize = 2;
const RSP: usize = 4;
const VECTOR_PF: i32 = 14;
const CR2: usize = 2;
/// helper_vmload and helper_vmsave: the address has 64 bits.
const ADDRESS_64: i32 = 2;
/// OF, SF, ZF, AF, PF, CF.
const ARITHMETIC: u64 = 0x8d5;
/// FPUS without the top of the stack.
const TOP_SHIFT: u32 = 11;
const TOP: u16 = 7 << TOP_SHIFT;
/// SVM exit code of an intercepted write to CR8.
const INTERCEPT_CR8_WRITE: u32 = 0x18;
/// INT_CTL: V_TPR as CR8 writes it.
const V_TPR: u32 = 0xf;

/// Vector registers as QEMU has them, from their halves.
fn vectors(fpu: &Fpu, mut old: [[u8; 64]; 16]) -> [[u8; 64]; 16] {
    for (n, register) in old.iter_mut().enumerate() {
        register[..16].copy_from_slice(&fpu.xmm[n]);
        register[16..32].copy_from_slice(&fpu.ymm[n]);
    }
    old
}

fn half(vectors: &[[u8; 64]; 16], from: usize) -> [[u8; 16]; 16] {
    let mut halves = [[0; 16]; 16];
    for (half, vector) in halves.iter_mut().zip(vectors) {
        half.copy_from_slice(&vector[from..from + 16]);
    }
    halves
}

impl Vcpu<'_> {
    fn read_fpu(&self) -> Fpu {
        // SAFETY: this CPU's state, on its thread (Vcpu's promise). The helper brings the
        // exception flags, which TCG collects elsewhere, into MXCSR.
        unsafe {
            (self.f.helper_update_mxcsr)(self.env);
            let top = env::FPSTT.get(self.env) as usize & 7;
            let fpregs = env::FPREGS.get(self.env);
            let mut st = [[0; 10]; 8];
            for (n, st) in st.iter_mut().enumerate() {
                st.copy_from_slice(&fpregs[(top + n) & 7][..10]);
            }
            let tags = env::FPTAGS.get(self.env);
            let used = (0..8).filter(|n| tags[*n] == 0).fold(0, |used, n| used | 1 << n);
            let xmm = env::XMM.get(self.env);
            Fpu {
                control: env::FPUC.get(self.env),
                status: env::FPUS.get(self.env) & !TOP | (top as u16) << TOP_SHIFT,
                used,
                opcode: env::FPOP.get(self.env),
                instruction: env::FPIP.get(self.env),
                data: env::FPDP.get(self.env),
                st,
                mxcsr: env::MXCSR.get(self.env),
                xmm: half(&xmm, 0),
                ymm: half(&xmm, 16),
            }
        }
    }

    fn write_fpu(&self, fpu: &Fpu) {
        // SAFETY: as in read_fpu(). The helpers set rounding and exception masks as well; MXCSR
        // has no reserved bits set, with which helper_ldmxcsr would raise an exception
        // (guest::run checks a guest's, the host's is a constant).
        unsafe {
            let top = usize::from(fpu.status >> TOP_SHIFT & 7);
            env::FPSTT.set(self.env, top as u32);
            env::FPUS.set(self.env, fpu.status & !TOP);
            let mut fpregs = env::FPREGS.get(self.env);
            for (n, st) in fpu.st.iter().enumerate() {
                fpregs[(top + n) & 7][..10].copy_from_slice(st);
            }
            env::FPREGS.set(self.env, fpregs);
            let tags = std::array::from_fn(|n| u8::from(fpu.used >> n & 1 == 0));
            env::FPTAGS.set(self.env, tags);
            env::FPOP.set(self.env, fpu.opcode);
            env::FPIP.set(self.env, fpu.instruction);
            env::FPDP.set(self.env, fpu.data);
            env::XMM.set(self.env, vectors(fpu, env::XMM.get(self.env)));
            (self.f.helper_fldcw)(self.env, fpu.control.into());
            (self.f.helper_ldmxcsr)(self.env, fpu.mxcsr);
        }
    }

    /// Calls a helper that takes an address in RAX.
    fn with_rax(
        &self,
        value: u64,
        helper: unsafe extern "C" fn(*mut super::ffi::Env, std::ffi::c_int),
    ) {
        // SAFETY: this CPU's state, on its thread; the address is a page of RAM (callers), so the
        // helper raises nothing.
        unsafe {
            let mut regs = env::REGS.get(self.env);
            let rax = std::mem::replace(&mut regs[RAX], value);
            env::REGS.set(self.env, regs);
            helper(self.env, ADDRESS_64);
            // It has changed no general purpose register.
            regs[RAX] = rax;
            env::REGS.set(self.env, regs);
        }
    }

    /// Leaves the block for this RIP.
    fn goto(self, rip: u64) -> ! {
        // SAFETY: the callback has the flags for it, and the frames that are skipped hold nothing
        // (see Vcpu::retire).
        unsafe { (self.f.api.qemu_plugin_set_pc)(rip) }
    }

    /// Does what the layer has decided on; returns if TCG is to execute the instruction.
    pub fn perform(self, action: Action, length: u64) {
        match action {
            Action::Native => {}
            Action::Retire { rax, rdx, flags, flush } => {
                self.restore();
                // SAFETY: this CPU's state, on its thread. Both kinds of flush only mark or queue
                // work, which is done once the block has been left.
                unsafe {
                    let mut regs = env::REGS.get(self.env);
                    regs[RAX] = rax.unwrap_or(regs[RAX]);
                    regs[RDX] = rdx.unwrap_or(regs[RDX]);
                    env::REGS.set(self.env, regs);
                    if let Some(flags) = flags {
                        let all = self.eflags() & !ARITHMETIC | flags;
                        (self.f.cpu_load_eflags)(self.env, all as i32, 0);
                    }
                    if flush {
                        self.flush_all_translations();
                    }
                    self.goto(env::EIP.get(self.env) + length)
                }
            }
            Action::GeneralProtection => self.raise_gp(),
            Action::PageFault(address, code) => {
                self.set_cr2(address);
                // SAFETY: as in raise_gp().
                unsafe {
                    let ra = self.return_address;
                    (self.f.raise_exception_err_ra)(self.env, VECTOR_PF, code as i32, ra)
                }
            }
            Action::Exit { code, info_1 } => {
                // SAFETY: a guest runs (the layer's promise), so there is a VMCB to write to; the
                // return address lies in the block being executed, or is 0 outside of one.
                unsafe { (self.f.cpu_vmexit)(self.env, code, info_1, self.return_address) }
            }
            Action::TrapCr { number, value } => {
                self.restore();
                // SAFETY: this CPU's state, on its thread. The helper may raise an exception at the
                // instruction, for which RIP is right; then it does not return.
                unsafe {
                    if number == 8 {
                        let int_ctl = env::INT_CTL.get(self.env) & !V_TPR;
                        env::INT_CTL.set(self.env, int_ctl | value as u32 & V_TPR);
                    } else {
                        (self.f.helper_write_crN)(self.env, number.into(), value);
                    }
                }
                self.trap(exit::CR0_WRITE_TRAP + u64::from(number), value, length)
            }
            Action::WriteCr8 { value } => {
                self.restore();
                // SAFETY: this CPU's state, on its thread, which does not hold the lock while it
                // executes a block. With virtual interrupts the helper takes no lock itself and
                // raises nothing.
                unsafe {
                    (self.f.bql_lock_impl)(c"snp_cpu".as_ptr(), 0);
                    (self.f.helper_write_crN)(self.env, 8, value);
                    (self.f.bql_unlock)();
                    self.goto(env::EIP.get(self.env) + length)
                }
            }
            Action::TrapEfer { value } => {
                self.restore();
                // SAFETY: as above.
                unsafe { (self.f.helper_wrmsr)(self.env) };
                self.trap(exit::EFER_WRITE_TRAP, value, length)
            }
        }
    }

    /// An exit behind the instruction.
    fn trap(&self, code: u64, info_1: u64, length: u64) -> ! {
        // SAFETY: as for Action::Exit; RIP is up to date, so nothing is to be restored.
        unsafe {
            env::EIP.set(self.env, env::EIP.get(self.env) + length);
            (self.f.cpu_vmexit)(self.env, code, info_1, 0)
        }
    }
}

impl Border for Vcpu<'_> {
    fn host_area(&self) -> u64 {
        // SAFETY: this CPU's state, on its thread.
        unsafe { env::VM_HSAVE.get(self.env) }
    }

    fn registers(&self) -> Registers {
        // SAFETY: as above.
        unsafe {
            Registers {
                gpr: env::REGS.get(self.env),
                xcr0: env::XCR0.get(self.env),
                pkru: env::PKRU.get(self.env),
                pat: env::PAT.get(self.env),
                dr: env::DR.get(self.env),
                fpu: self.read_fpu(),
            }
        }
    }

    fn set_registers(&self, registers: &Registers, debug: bool) {
        // SAFETY: as above. XCR0 has been checked, and QEMU's own flags follow it.
        unsafe {
            let old = env::REGS.get(self.env);
            let mut regs = registers.gpr;
            (regs[RAX], regs[RSP]) = (old[RAX], old[RSP]);
            env::REGS.set(self.env, regs);
            env::XCR0.set(self.env, registers.xcr0);
            (self.f.cpu_sync_bndcs_hflags)(self.env);
            (self.f.cpu_sync_avx_hflag)(self.env);
            env::PKRU.set(self.env, registers.pkru);
            env::PAT.set(self.env, registers.pat);
            if debug {
                env::DR.set(self.env, registers.dr);
            }
        }
        self.write_fpu(&registers.fpu);
    }

    fn vmload(&self, pa: u64) {
        self.with_rax(pa, self.f.helper_vmload);
    }

    fn vmsave(&self, pa: u64) {
        self.with_rax(pa, self.f.helper_vmsave);
    }
}

impl Inside for Vcpu<'_> {
    fn gpr(&self, number: u8) -> u64 {
        // SAFETY: this CPU's state, on its thread.
        unsafe { env::REGS.get(self.env)[usize::from(number & 15)] }
    }

    fn control(&self, number: u8) -> u64 {
        // SAFETY: as above.
        unsafe {
            match number {
                8 => u64::from(env::INT_CTL.get(self.env) & V_TPR),
                _ => env::CR.get(self.env)[usize::from(number)],
            }
        }
    }

    fn writes_virtual_tpr(&self) -> bool {
        // SAFETY: as above; the function only looks.
        unsafe {
            env::HFLAGS2.get(self.env) & env::HF2_VINTR != 0
                && !(self.f.cpu_svm_has_intercept)(self.env, INTERCEPT_CR8_WRITE)
        }
    }

    fn set_rsp(&self, value: u64) {
        // SAFETY: as above.
        unsafe {
            let mut regs = env::REGS.get(self.env);
            regs[RSP] = value;
            env::REGS.set(self.env, regs);
        }
    }

    fn set_cr2(&self, value: u64) {
        // SAFETY: as above.
        unsafe {
            let mut cr = env::CR.get(self.env);
            cr[CR2] = value;
            env::CR.set(self.env, cr);
        }
    }

    fn rip(&self) -> u64 {
        // SAFETY: as above.
        unsafe { env::EIP.get(self.env) }
    }

    fn skip(&self, bytes: u64) {
        // SAFETY: as above. Between blocks nothing else knows RIP.
        unsafe { env::EIP.set(self.env, env::EIP.get(self.env) + bytes) }
    }

    fn paging(&self) -> Paging {
        // SAFETY: as above.
        unsafe {
            let [cr0, _, _, cr3, cr4] = env::CR.get(self.env);
            Paging { cr0, cr3, cr4, efer: env::EFER.get(self.env) }
        }
    }

    fn long_code(&self) -> bool {
        // SAFETY: as above.
        unsafe { env::HFLAGS.get(self.env) & env::HF_CS64 != 0 }
    }

    fn stack_base(&self) -> u64 {
        // SAFETY: as above.
        unsafe { env::SS_BASE.get(self.env) }
    }
}
