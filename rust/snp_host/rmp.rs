// SPDX-License-Identifier: GPL-2.0

//! The RMP as memory: finds, checks, clears and scans it.
//!
//! The kernel maps the RMP at boot (`snp_rmptable_init()`) for `rmp_make_private()`,
//! `rmp_make_shared()`, `psmash()` and `snp_lookup_rmpentry()`. A module has no access to that
//! mapping, so this module finds the table itself. The checks here are stricter: the kernel
//! compares the ends of table and RAM, this module every range of RAM.
//!
//! Reading the RMP is allowed at any time: CPUs check writes only.

use crate::{
    rmp_table::{
        self,
        Layout,
        Range,
        Registers,
        Segment,
        TableError,
        SEGMENTS, //
    },
    sys::{
        cpu,
        errno::EOPNOTSUPP,
        iomem,
        memremap::Mapping,
        msr::Msr,
        rmpread::rmpread,
        sched::cond_resched,
        workers::on_several, //
    },
    window::{
        Rmp,
        SnpEn, //
    },
};
use kernel::{
    alloc::AllocError,
    bindings, fmt,
    page::PAGE_SIZE,
    prelude::*,
    sizes::SZ_4M,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

/// How much of the table a CPU maps and processes before it lets others run. Clearing that much
/// takes about a millisecond.
const PIECE: u64 = SZ_4M as u64;

/// The most CPUs that help: fewer than that use the whole memory bandwidth of a socket.
const HELPERS: usize = 31;

/// Proof that no CPU enforces the RMP, so that writing to it does not fault. It holds for as long
/// as [`crate::host`] is locked: only a prepare under that lock sets SNP_EN.
pub(crate) struct NotEnforced(());

impl NotEnforced {
    /// The proof, if SNP_EN was read as clear on all CPUs.
    pub(crate) fn check(snp_en: SnpEn) -> Option<Self> {
        (snp_en == SnpEn::Nowhere).then_some(Self(()))
    }
}

/// Why the RMP cannot be used.
pub(crate) enum RmpError {
    /// The table does not pass the checks.
    Table(TableError),
    /// The table could not be read.
    Kernel(Error),
}

impl fmt::Display for RmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(err) => core::fmt::Display::fmt(err, f),
            Self::Kernel(err) => write!(f, "the RMP cannot be read ({err:?})"),
        }
    }
}

impl From<TableError> for RmpError {
    fn from(err: TableError) -> Self {
        Self::Table(err)
    }
}

impl From<Error> for RmpError {
    fn from(err: Error) -> Self {
        Self::Kernel(err)
    }
}

impl From<AllocError> for RmpError {
    fn from(err: AllocError) -> Self {
        Self::Kernel(err.into())
    }
}

impl From<RmpError> for Error {
    fn from(err: RmpError) -> Self {
        match err {
            RmpError::Table(_) => EOPNOTSUPP,
            RmpError::Kernel(err) => err,
        }
    }
}

/// The registers of this CPU that describe the table.
fn registers() -> Result<Registers> {
    Ok(Registers {
        base: Msr::new(bindings::MSR_AMD64_RMP_BASE).read()?,
        end: Msr::new(bindings::MSR_AMD64_RMP_END).read()?,
        cfg: match cpu::has_segmented_rmp() {
            true => Msr::new(bindings::MSR_AMD64_RMP_CFG).read()?,
            false => 0,
        },
        cpuid: cpu::rmp_segments(),
    })
}

/// Whether the BIOS has reserved memory for the RMP.
pub(crate) fn is_reserved() -> bool {
    registers().is_ok_and(|registers| registers.layout().is_ok())
}

/// The RMP, wherever its parts are.
pub(crate) struct Table {
    bookkeeping: Range,
    /// The parts without entries: the bookkeeping and, if there are segments, their descriptors.
    own: KVec<Range>,
    segments: KVec<Segment>,
    /// See [`rmp_table::off_mib`].
    pub(crate) off_mib: Option<TableError>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self
            .segments
            .iter()
            .map(|segment| segment.covers.end())
            .max();
        f.write_fmt(fmt!(
            "at {:#x}, {} KiB of entries in {} piece(s), for the memory below {:#x}",
            self.bookkeeping.start,
            self.entries_len() / 1024,
            self.segments.len(),
            end.unwrap_or(0)
        ))
    }
}

impl Table {
    /// Finds the table by the registers of this CPU, which the preflight compares with the others',
    /// and checks it.
    pub(crate) fn find() -> Result<Self, RmpError> {
        let registers = registers()?;
        let layout = registers.layout()?;
        let mut found = Self {
            bookkeeping: registers.bookkeeping(),
            own: KVec::new(),
            segments: KVec::new(),
            off_mib: rmp_table::off_mib(registers.bookkeeping(), layout),
        };
        found.own.push(found.bookkeeping, GFP_KERNEL)?;
        match layout {
            Layout::Contiguous(segment) => {
                rmp_table::check_covers_itself(segment)?;
                found.segments.push(segment, GFP_KERNEL)?;
            }
            Layout::Segmented {
                table,
                shift,
                count,
            } => {
                found.own.push(table, GFP_KERNEL)?;
                let table = Mapping::new(table.start, SEGMENTS * size_of::<u64>())?;
                for (index, descriptor) in table.words().take(count).enumerate() {
                    if let Some(segment) = rmp_table::segment(index, descriptor, shift) {
                        found.segments.push(segment, GFP_KERNEL)?;
                    }
                }
            }
        }
        rmp_table::check(&found.own, &found.segments)?;
        found.check_ram()?;
        Ok(found)
    }

    /// Size of all entries in bytes.
    fn entries_len(&self) -> u64 {
        let bytes = self.segments.iter().map(|segment| segment.entries.len);
        bytes.fold(0, u64::saturating_add)
    }

    fn check_ram(&self) -> Result<(), RmpError> {
        let mut bad = None;
        let walked = iomem::walk(iomem::SYSTEM_RAM, |ram| {
            let ram = Range {
                start: ram.start,
                len: ram.end.saturating_sub(ram.start).saturating_add(1),
            };
            rmp_table::check_ram(&self.own, &self.segments, ram).map_err(|found| {
                bad = Some(found);
                EINVAL
            })
        });
        match bad {
            Some(err) => Err(err.into()),
            None => Ok(walked?),
        }
    }

    /// Sets bookkeeping and entries to zero, with several CPUs, and logs how long that took.
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if the memory cannot be mapped; part of the table may have been cleared.
    pub(crate) fn clear(&self, _not_enforced: &NotEnforced) -> Result {
        let start = Instant::<Monotonic>::now();
        zero(self.bookkeeping)?;
        self.on_pieces(|piece| zero(piece.entries))?;
        pr_info!(
            "RMP cleared: {} MiB in {} ms\n",
            self.entries_len().div_ceil(1 << 20),
            start.elapsed().as_millis(),
        );
        Ok(())
    }

    /// Whether an entry is not zero.
    ///
    /// CPUs with RMPREAD have no documented format of raw entries, so RMPREAD reads them. The
    /// instruction is undefined unless every CPU has SNP_EN. Otherwise this reads raw words: an
    /// entry that has not changed since the RMP was cleared is zero in any format.
    pub(crate) fn scan(&self, snp_en: SnpEn) -> Rmp {
        let rmpread = cpu::has_rmpread() && snp_en == SnpEn::Everywhere;
        let looked = self.on_pieces(|piece| {
            let zero = match rmpread {
                true => is_unassigned(piece.covers)?,
                false => mapped(piece.entries)?.words().all(|word| word == 0),
            };
            if zero {
                Ok(())
            } else {
                Err(EEXIST)
            }
        });
        match looked {
            Ok(()) => Rmp::Zero,
            Err(err) if err == EEXIST => Rmp::NotZero,
            Err(_) => Rmp::Unreadable,
        }
    }

    /// Maps all entries for reading.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn map(&self) -> Result<Mapped> {
        let mut parts = KVec::with_capacity(self.segments.len(), GFP_KERNEL)?;
        for segment in &self.segments {
            parts.push((*segment, mapped(segment.entries)?), GFP_KERNEL)?;
        }
        Ok(Mapped(parts))
    }

    /// Calls `work` with every piece of the entries, on several CPUs, until it fails.
    fn on_pieces(&self, work: impl Fn(Segment) -> Result + Sync) -> Result {
        let next = Atomic::<u64>::new(0);
        let errno = Atomic::<i32>::new(0);
        on_several(c"snp_host", HELPERS, || {
            while errno.load(Relaxed) == 0 {
                let n = next.fetch_add(1, Relaxed);
                let Some(piece) = rmp_table::piece(&self.segments, PIECE, n) else {
                    break;
                };
                if let Err(err) = work(piece) {
                    errno.store(err.to_errno(), Relaxed);
                }
                cond_resched();
            }
        });
        kernel::error::to_result(errno.load(Relaxed))
    }
}

/// The entries, mapped for reading.
pub(crate) struct Mapped(KVec<(Segment, Mapping)>);

impl Mapped {
    /// The lower half of the entry of the page with this number, if it has one.
    pub(crate) fn low(&self, pfn: u64) -> Option<u64> {
        self.0.iter().find_map(|(segment, mapping)| {
            let word = rmp_table::low_word(*segment, pfn)?;
            mapping.word(usize::try_from(word).ok()?)
        })
    }
}

fn mapped(range: Range) -> Result<Mapping> {
    Mapping::new(range.start, usize::try_from(range.len)?)
}

/// Clears a part of the table while no CPU has SNP_EN.
#[allow(unsafe_code)]
fn zero(range: Range) -> Result {
    let mapping = mapped(range)?;
    // SAFETY: `Table::find()` has made sure that the kernel does not use this memory, and the
    // caller, `Table::clear()`, has proof that no CPU enforces the RMP.
    unsafe { mapping.zero() };
    Ok(())
}

/// Whether RMPREAD finds nothing in the entries of this memory. SNP_EN must be set on every CPU.
#[allow(unsafe_code)]
fn is_unassigned(memory: Range) -> Result<bool> {
    let pages = memory.len / PAGE_SIZE as u64;
    for page in 0..pages {
        let page = page
            .checked_mul(PAGE_SIZE as u64)
            .and_then(|offset| offset.checked_add(memory.start))
            .ok_or(EOVERFLOW)?;
        // SAFETY: `scan()` has checked that the instruction exists and that SNP_EN is set, which
        // nothing clears while `crate::host` is locked.
        if unsafe { rmpread(page) }? != [0, 0] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
