// SPDX-License-Identifier: GPL-2.0
//! Which instructions of a block the plugin wants to be called for, and how the callback gets to
//! know which one it is.

use std::ffi::c_void;
use std::{ptr, slice};

use crate::insn::{self, Insn, Kind, RESET_VECTOR};
use crate::qemu::ffi::{self, Functions, Tb, VcpuCallback};

/// The longest instruction.
const LONGEST: usize = 15;

/// Has `callback` called before each instruction of a block that the model executes itself. Without
/// `guests` that leaves out the instructions that only guests need.
///
/// # Safety
///
/// To be called in the translation callback of `tb`. QEMU calls `callback` from generated code,
/// with the CPU's number and what [`What`] is packed into.
pub unsafe fn watch(f: &Functions, tb: *mut Tb, guests: bool, callback: VcpuCallback) {
    // SAFETY: tb is valid during this callback, and so are its instructions, of which there are
    // this many. insn_data writes at most as many bytes as it is told.
    unsafe {
        let count = (f.api.qemu_plugin_tb_n_insns)(tb);
        if !worth_decoding(f, tb, count) {
            return;
        }
        for n in 0..count {
            let insn = (f.api.qemu_plugin_tb_get_insn)(tb, n);
            let address = (f.api.qemu_plugin_insn_vaddr)(insn);
            let mut bytes = [0u8; LONGEST];
            let length = (f.api.qemu_plugin_insn_data)(insn, bytes.as_mut_ptr().cast(), LONGEST);
            let decoded = insn::decode(&bytes[..length.min(LONGEST)])
                .filter(|insn| guests || !insn.kind.only_in_guests());
            let what = match decoded {
                Some(insn) => What::Execute(insn, length as u8),
                None if n == 0 && address == RESET_VECTOR => What::Reset,
                None => continue,
            };
            (f.api.qemu_plugin_register_vcpu_insn_exec_cb)(
                insn,
                callback,
                ffi::CB_RW_REGS_PC,
                what.to_userdata(),
            );
        }
    }
}

/// Whether a block has anything in it that looks like an instruction for the model. To ask QEMU for
/// the bytes of each instruction takes longer than to look at all of them where they are, and
/// nearly all blocks have nothing.
///
/// # Safety
///
/// `tb` is being translated and has `count` instructions.
unsafe fn worth_decoding(f: &Functions, tb: *mut Tb, count: usize) -> bool {
    const PAGE: u64 = 0x1000;
    if count == 0 {
        return false;
    }
    // SAFETY: two of the block's instructions.
    let (first, start, size) = unsafe {
        let first = (f.api.qemu_plugin_tb_get_insn)(tb, 0);
        let last = (f.api.qemu_plugin_tb_get_insn)(tb, count - 1);
        let start = (f.api.qemu_plugin_insn_vaddr)(first);
        let end = (f.api.qemu_plugin_insn_vaddr)(last)
            .wrapping_add((f.api.qemu_plugin_insn_size)(last) as u64);
        (first, start, end.wrapping_sub(start))
    };
    // The page behind may lie anywhere.
    if start == RESET_VECTOR || start % PAGE + size > PAGE {
        return true;
    }
    // SAFETY: as above.
    let code = unsafe { (f.api.qemu_plugin_insn_haddr)(first) };
    if code.is_null() {
        return true;
    }
    // SAFETY: QEMU translates from there, and the page is RAM or ROM of the machine, which stays
    // mapped. Should a CPU write to it meanwhile, QEMU throws the block away: it watches pages with
    // code in them.
    let code = unsafe { slice::from_raw_parts(code.cast::<u8>(), size as usize) };
    insn::may_contain(code)
}

/// Why an instruction's callback is there. It fits into the pointer that QEMU keeps for the
/// callback, so that translating again (and again) allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An instruction of the model's, with its length.
    Execute(Insn, u8),
    /// The reset vector.
    Reset,
}

impl What {
    /// Byte 0: the length, byte 1: the kind, byte 2: its detail. No instruction has length 0.
    fn to_userdata(self) -> *mut c_void {
        ptr::without_provenance_mut(match self {
            What::Execute(Insn { kind, detail }, length) => {
                usize::from(length) | ((kind as usize) << 8) | (usize::from(detail) << 16)
            }
            What::Reset => 0,
        })
    }

    /// What [`What::to_userdata`] has made.
    pub fn from_userdata(userdata: *mut c_void) -> Option<What> {
        let number = userdata.addr();
        match (number & 0xff, number >> 8 & 0xff) {
            (0, _) => Some(What::Reset),
            (length, kind) => {
                let insn = Insn { kind: *Kind::ALL.get(kind)?, detail: (number >> 16) as u8 };
                Some(What::Execute(insn, u8::try_from(length).ok()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userdata_comes_back() {
        for kind in Kind::ALL {
            for (length, detail) in [(2, 0), (4, 0x8f), (15, 0x40)] {
                let what = What::Execute(Insn { kind, detail }, length);
                assert_eq!(What::from_userdata(what.to_userdata()), Some(what));
            }
        }
        assert_eq!(What::from_userdata(What::Reset.to_userdata()), Some(What::Reset));
        assert_eq!(What::from_userdata(ptr::without_provenance_mut(0xff02)), None);
    }
}
