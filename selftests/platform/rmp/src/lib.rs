// SPDX-License-Identifier: GPL-2.0
//! The reverse map table (RMP) of SEV-SNP, as the hardware keeps it in guest RAM.
//!
//! Both halves of the software platform use this crate: the CPU model executes RMPUPDATE, PSMASH
//! and RMPREAD with it, the PSP model makes the changes that only firmware can make. There is no
//! I/O here. Whoever owns the memory implements [`Table`].
//!
//! Read in this order: [`Entry`] (16 raw bytes), [`State`] (what they mean), [`Geometry`] (where
//! an entry lies), [`Rmp`] (lookup and locking), then the rules in `insn` and `firmware`.
//!
//! A page is given to a guest, without any machine:
//!
//! ```
//! use rmp::{Code, Geometry, MemoryTable, Rmp, RmpUpdate, State};
//! use std::sync::atomic::{AtomicU64, AtomicU8};
//!
//! // An RMP at 2 MiB that is large enough for 4 MiB of memory.
//! let (start, bytes) = (2 << 20, rmp::BOOKKEEPING_BYTES + 1024 * rmp::ENTRY_BYTES);
//! let geometry = Geometry::new(start, start + bytes - 1).unwrap();
//! let words: Vec<_> = (0..2048).map(|_| AtomicU64::new(0)).collect();
//! let locks = [AtomicU8::new(0)];
//! let start = geometry.entry_address(0);
//! let rmp = Rmp::new(geometry, MemoryTable { words: &words, start, locks: &locks });
//!
//! let (gpa, asid) = (0x5000, 1);
//! let private = RmpUpdate { gpa, assigned: true, large: false, immutable: false, asid };
//! assert_eq!(rmp.rmpupdate(0x1000, &private), Code::Success);
//! assert_eq!(rmp.state(0x1000), Some(State::GuestInvalid));
//! // 2 MiB at a time do not fit over it.
//! let large = RmpUpdate { large: true, gpa: 0, ..private };
//! assert_eq!(rmp.rmpupdate(0, &large), Code::FailOverlap);
//! ```
//!
//! Sources: the raw layout is `struct rmpentry_raw` of arch/x86/virt/svm/sev.c (Zen 3 and Zen 4);
//! the page states are those that AMD's Apache-2.0 `sev-tool` lists; instruction results are the
//! AMD64 manual's as far as Linux depends on them. Where a source is silent the comment says
//! "model choice".

mod entry;
mod firmware;
mod geometry;
mod guest;
mod insn;
mod state;
mod table;

pub use entry::{Entry, PageSize, MAX_ASID, MAX_GPA, VMPL0_ALL};
pub use firmware::Refusal;
pub use geometry::{
    Geometry, GeometryError, BOOKKEEPING_BYTES, CFG_SEGMENTED, CFG_SHIFT, ENTRY_BYTES,
    PAGES_PER_2M, SEGMENT_TABLE_BYTES,
};
pub use guest::{npf, permission, Adjust, Denied, Guest, GuestCode, Place};
pub use insn::{Code, RmpRead, RmpUpdate};
pub use state::State;
pub use table::{MemoryTable, Rmp, Table};
