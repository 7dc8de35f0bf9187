// SPDX-License-Identifier: GPL-2.0
//! Guests whose registers are encrypted (SEV-ES, SEV-SNP): VMRUN, #VMEXIT and what is new inside.
//! For those of which only the memory is encrypted there is [`sev`].
//!
//! TCG runs the guest; this layer stands at its borders. Before TCG's VMRUN it takes the registers
//! from the VMSA ([`vmsa`]). When TCG is about to exit, it decides who gets to hear of it
//! ([`exits`]): the guest, as #VC, and then it does not exit at all; or the hypervisor, and then
//! the layer puts the registers back right behind TCG's #VMEXIT. Inside the guest it executes what
//! TCG does not know ([`inside`]) and checks each translation against the RMP ([`access`]).
//!
//! What it cannot do right ends the guest: VMRUN ends with VMEXIT_INVALID, the VMSA stays as it
//! was, and the log says why.

pub mod access;
mod cpu;
mod exits;
pub mod inside;
pub mod layout;
mod run;
mod sev;
mod stats;
#[cfg(test)]
mod tests;
pub mod vmsa;
pub mod walk;

use std::fmt;

use link::MAX_CPUS;

use crate::model::Model;
pub use cpu::{GuestCpu, Running};
pub use layout::exit;
pub use run::{Border, VMRUN_BYTES};
use stats::Stats;

/// #VC, "VMM communication".
pub const VECTOR_VC: i32 = 29;

/// Why a guest cannot run (on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    VmsaAddress(u64),
    VmsaOwner(u64),
    VmsaBusy(u64),
    Features(u64),
    Vmpl(u8),
    Xcr0(u64),
    Mxcsr(u32),
    NoNestedPaging,
    NoLbr,
    Asid(u32),
    IntCtl(u64),
    NoHostArea(u64),
    NoTrap(u64),
    Legacy(u64),
    Stack(u64),
    Vectoring(u32),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::VmsaAddress(pa) => write!(f, "there is no page for a VMSA at {pa:#x}"),
            Wrong::VmsaOwner(pa) => {
                write!(f, "the RMP does not know {pa:#x} as a validated VMSA of this guest")
            }
            Wrong::VmsaBusy(pa) => write!(f, "another CPU runs the VMSA at {pa:#x}"),
            Wrong::Features(features) => {
                write!(f, "SEV_FEATURES {features:#x}: only SNP and DebugSwap are modelled")
            }
            Wrong::Vmpl(vmpl) => write!(f, "there is no VMPL {vmpl}"),
            Wrong::Xcr0(xcr0) => write!(f, "XCR0 {xcr0:#x}: x87, SSE, AVX and PKRU are modelled"),
            Wrong::Mxcsr(mxcsr) => write!(f, "reserved bits in MXCSR {mxcsr:#x}"),
            Wrong::NoNestedPaging => f.write_str("nested paging is off"),
            Wrong::NoLbr => f.write_str("LBR virtualisation is off"),
            Wrong::Asid(asid) => write!(f, "firmware has not bound ASID {asid} to such a guest"),
            Wrong::IntCtl(int_ctl) => {
                write!(f, "INT_CTL {int_ctl:#x} lets the guest keep interrupts from the host")
            }
            Wrong::NoHostArea(pa) => write!(f, "VM_HSAVE_PA {pa:#x} is no page of RAM"),
            Wrong::NoTrap(number) => {
                write!(f, "a write to CR{number} that the hypervisor does not trap")
            }
            Wrong::Legacy(va) => {
                write!(f, "{va:#x} would be translated by two-level paging, which has no C-bit")
            }
            Wrong::Vectoring(code) => {
                write!(f, "#VC {code:#x} while another event was being delivered")
            }
            Wrong::Stack(sp) => write!(f, "#VC's error code does not fit at {sp:#x}"),
        }
    }
}

/// The layer for all CPUs of the machine.
pub struct Layer {
    cpus: [GuestCpu; MAX_CPUS],
    /// What happened.
    pub stats: Stats,
}

impl Layer {
    /// No guest runs.
    pub fn new() -> Layer {
        Layer { cpus: [const { GuestCpu::new() }; MAX_CPUS], stats: Stats::new() }
    }

    /// What is known of the guest on one CPU.
    pub fn cpu(&self, index: usize) -> &GuestCpu {
        &self.cpus[index]
    }

    /// Says why a guest ends.
    pub fn end(&self, model: &Model<'_>, index: usize, wrong: Wrong) {
        self.stats.ended();
        model.log.note(format_args!("guest on CPU {index} ends with VMEXIT_INVALID: {wrong}"));
    }
}

/// What becomes of an instruction inside the guest. Plain data: what carries it out leaves by
/// `longjmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// TCG executes it.
    Native,
    /// Executed: RAX, RDX and the arithmetic flags change, if given; go on behind it.
    Retire {
        /// New RAX.
        rax: Option<u64>,
        /// New RDX.
        rdx: Option<u64>,
        /// New OF, SF, ZF, AF, PF and CF, where RFLAGS has them.
        flags: Option<u64>,
        /// Translations may have changed on all CPUs.
        flush: bool,
    },
    /// #GP(0).
    GeneralProtection,
    /// #PF with this address and error code.
    PageFault(u64, u32),
    /// An exit at the instruction.
    Exit {
        /// Exit code, and EXIT_INFO_1; EXIT_INFO_2 is in the VMCB already.
        code: u64,
        /// EXIT_INFO_1.
        info_1: u64,
    },
    /// Write to the control register, then exit behind the instruction.
    TrapCr {
        /// 0, 4 or 8.
        number: u8,
        /// What is written.
        value: u64,
    },
    /// Write to CR8, and go on behind the instruction. TCG's own write wants a lock that it does
    /// not take.
    WriteCr8 {
        /// What is written.
        value: u64,
    },
    /// Execute WRMSR, then exit behind it.
    TrapEfer {
        /// What is written.
        value: u64,
    },
}

impl Action {
    fn done() -> Action {
        Action::Retire { rax: None, rdx: None, flags: None, flush: false }
    }
}
