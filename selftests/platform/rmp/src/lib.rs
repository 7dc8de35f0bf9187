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
