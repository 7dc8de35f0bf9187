// SPDX-License-Identifier: GPL-2.0
//! Which build of QEMU is this? Two builds of one release may differ in where things are.

use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::mem::size_of;
use std::slice;

use super::layout::{At, Layout, PLACES};

/// Builds that have been tried: the GNU build-id, what it is, and where things are there. All of
/// them agree so far.
const KNOWN: [(&str, &str); 3] = [
    ("fc693c98cb6d8b9e45f9a391a4a94a17863053a5", "Debian 1:11.1.3+ds-1~bpo13+1"),
    ("19082c1198d23ae45c6960a77fdc889301dfb4de", "Debian 1:11.1.3+ds-1"),
    ("b0f3e97c18ff312481093882331034da9614c096", "Debian 1:11.1.2+ds-3"),
];
const KNOWN_LAYOUT: [(At, usize); PLACES] = [
    (At::Env, 0x4070),
    (At::ExceptionIndex, 0x2c0),
    (At::JumpCache, 0x210),
    (At::Tlb, 0x2f0),
    (At::TlbEnd, 0x4040),
    (At::Regs, 0),
    (At::Eip, 0x100),
    (At::Hflags, 0x130),
    (At::Hflags2, 0x134),
    (At::SsBase, 0x170),
    (At::Cr, 0x228),
    (At::Efer, 0x2d8),
    (At::Fpstt, 0x2e0),
    (At::Fpus, 0x2e4),
    (At::Fpuc, 0x2e6),
    (At::Fptags, 0x2e8),
    (At::Fpregs, 0x2f0),
    (At::Fpop, 0x370),
    (At::Fpip, 0x378),
    (At::Fpdp, 0x380),
    (At::Mxcsr, 0x3b0),
    (At::Xmm, 0x3c0),
    (At::VmHsave, 0x2ca8),
    (At::Xcr0, 0x2d70),
    (At::Pat, 0x2f08),
    (At::Pkru, 0x2f20),
    (At::ErrorCode, 0x3480),
    (At::ExceptionIsInt, 0x3484),
    (At::Dr, 0x3490),
    (At::IntCtl, 0x3530),
];

/// What is to be said of the build with this id, in which things have been found there. `Err` if it
/// is known, and they should be elsewhere: then the way of finding them is wrong.
pub fn judge(id: &str, found: &Layout) -> Result<String, String> {
    let Some((_, name)) = KNOWN.iter().find(|known| known.0 == id) else {
        return Ok(format!(
            "build {id}, not one that was tried; its functions show where things are"
        ));
    };
    match KNOWN_LAYOUT.into_iter().find(|(at, place)| found[*at as usize] != *place) {
        None => Ok(format!("build {id}, known as {name}")),
        Some((at, place)) => Err(format!(
            "build {id} is known to have {at:?} at {place:#x}, and its functions show {:#x}",
            found[at as usize]
        )),
    }
}

/// The GNU build-id of the program that runs, in hexadecimal digits.
pub fn id() -> Option<String> {
    let mut id = None;
    // SAFETY: the callback has the type that is wanted, and the pointer is its own.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut id).cast()) };
    id
}

/// The first object is the program.
unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, id: *mut c_void) -> c_int {
    // SAFETY: the loader's description, and what id() has given.
    unsafe {
        let (info, id) = (&*info, &mut *id.cast::<Option<String>>());
        let headers = slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
            let start = (info.dlpi_addr + header.p_vaddr) as *const u8;
            *id = build_id(slice::from_raw_parts(start, header.p_memsz as usize));
            if id.is_some() {
                break;
            }
        }
    }
    1
}

/// The build-id among notes.
fn build_id(mut notes: &[u8]) -> Option<String> {
    const HEADER: usize = 3 * size_of::<u32>();
    const TYPE: u32 = 3;
    while let Some((header, rest)) = notes.split_at_checked(HEADER) {
        let mut words = header
            .chunks_exact(4)
            .map(|word| word.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte)));
        let (name, length, kind) = (words.next()?, words.next()?, words.next()?);
        let (name, rest) = rest.split_at_checked((name as usize).next_multiple_of(4))?;
        let (bytes, rest) = rest.split_at_checked((length as usize).next_multiple_of(4))?;
        if kind == TYPE && name.starts_with(b"GNU\0") {
            let mut text = String::new();
            for byte in &bytes[..length as usize] {
                write!(text, "{byte:02x}").ok()?;
            }
            return Some(text);
        }
        notes = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut layout = [0; PLACES];
        for (at, place) in KNOWN_LAYOUT {
            layout[at as usize] = place;
        }
        layout
    }

    #[test]
    fn known_builds_must_be_as_they_are_known() {
        let (id, name) = KNOWN[2];
        assert!(judge(id, &layout()).unwrap().contains(name));
        let mut other = layout();
        other[At::Efer as usize] += 8;
        assert!(judge(id, &other)
            .unwrap_err()
            .contains("Efer at 0x2d8, and its functions show 0x2e0"));
        assert!(judge("00", &other).unwrap().contains("not one that was tried"));
    }

    #[test]
    fn every_place_is_known_once() {
        for (n, (at, _)) in KNOWN_LAYOUT.iter().enumerate() {
            assert_eq!(*at as usize, n);
        }
    }

    #[test]
    fn the_id_is_found_among_notes() {
        let other = [4, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, b'G', b'N', b'U', 0, 1, 2, 3, 0];
        let id = [4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0, 0xab, 0x01, 0, 0];
        assert_eq!(build_id(&[other, id].concat()).as_deref(), Some("ab01"));
        assert_eq!(build_id(&other), None);
        assert_eq!(build_id(&id[..18]), None);
    }
}
