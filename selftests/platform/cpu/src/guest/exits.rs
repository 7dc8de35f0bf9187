// SPDX-License-Identifier: GPL-2.0
//! Which exits of an SEV-ES or SNP guest reach the hypervisor, and which the guest as #VC.
//!
//! Automatic exits tell the hypervisor all it needs; all others would need registers that it must
//! not see, so the guest is asked first. Sources: the cases that KVM handles for such guests
//! (arch/x86/kvm/svm: `sev_handle_vmgexit` against `svm_exit_handlers`, and what
//! `svm_skip_emulated_instruction` leaves to the processor); public notes on AMD's manual, section
//! 15.35.

use super::layout::{exit, fault};

/// What becomes of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// To the hypervisor, with this code; RIP moves on by so many bytes.
    Automatic {
        /// Exit code.
        code: u64,
        /// Bytes of the instruction that is over.
        advance: u64,
    },
    /// #VC with the exit code as its error code.
    Reflected(u32),
}

/// Bytes of HLT and PAUSE.
const HLT_BYTES: u64 = 1;
const PAUSE_BYTES: u64 = 2;

/// `vmgexit` is the length of the VMGEXIT that the guest is at, if it is at one: TCG takes it for
/// VMMCALL.
pub fn disposition(code: u64, info_1: u64, vmgexit: Option<u64>) -> Disposition {
    let automatic = |advance| Disposition::Automatic { code, advance };
    match code {
        exit::VMMCALL => match vmgexit {
            Some(advance) => Disposition::Automatic { code: exit::VMGEXIT, advance },
            None => Disposition::Reflected(code as u32),
        },
        exit::HLT => automatic(HLT_BYTES),
        exit::PAUSE => automatic(PAUSE_BYTES),
        exit::NPF if info_1 & fault::RESERVED != 0 => Disposition::Reflected(code as u32),
        exit::EXCEPTION_MC
        | exit::INTR..=exit::VINTR
        | exit::SHUTDOWN
        | exit::EFER_WRITE_TRAP..=exit::CR15_WRITE_TRAP
        | exit::BUS_LOCK
        | exit::NPF => automatic(0),
        _ => Disposition::Reflected(code as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits() {
        let host = |code, advance| Disposition::Automatic { code, advance };
        let guest = Disposition::Reflected;
        let rows = [
            ("INTR", 0x60, 0, None, host(0x60, 0)),
            ("NMI", 0x61, 0, None, host(0x61, 0)),
            ("VINTR", 0x64, 0, None, host(0x64, 0)),
            ("HLT", 0x78, 0, None, host(0x78, 1)),
            ("PAUSE", 0x77, 0, None, host(0x77, 2)),
            ("SHUTDOWN", 0x7f, 0, None, host(0x7f, 0)),
            ("EFER trap", 0x8f, 0, None, host(0x8f, 0)),
            ("CR8 trap", 0x98, 0, None, host(0x98, 0)),
            ("page not there", 0x400, 1 << 32 | 4, None, host(0x400, 0)),
            ("device", 0x400, 1 << 32 | 0xd, None, guest(0x400)),
            ("VMGEXIT", 0x81, 0, Some(4), host(0x403, 4)),
            ("VMMCALL", 0x81, 0, None, guest(0x81)),
            ("CPUID", 0x72, 0, None, guest(0x72)),
            ("IOIO", 0x7b, 0, None, guest(0x7b)),
            ("MSR", 0x7c, 1, None, guest(0x7c)),
            ("DR7", 0x27, 0, None, guest(0x27)),
            ("#AC", 0x51, 0, None, guest(0x51)),
        ];
        for (name, code, info_1, vmgexit, expected) in rows {
            assert_eq!(disposition(code, info_1, vmgexit), expected, "{name}");
        }
    }
}
