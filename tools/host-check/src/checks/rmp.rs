// SPDX-License-Identifier: GPL-2.0

//! The RMP: whether the BIOS has set memory aside for it, where, and whether it covers all RAM.
//!
//! Format: arch/x86/virt/svm/sev.c; 16 KiB of book-keeping, then 16 bytes for each page.

use super::{
    cpu::Cpu,
    registers::{RMP_BASE, RMP_CFG, RMP_END},
};
use crate::{
    host::{Host, Why},
    report::Report,
};
use std::ops::RangeInclusive;

const BOOK_KEEPING: u64 = 16 << 10;
const ENTRY: u64 = 16;
const PAGE: u64 = 4096;
/// The manual leaves it to firmware; all hosts that are known to work keep to it.
const ALIGNMENT: u64 = 1 << 20;
/// Bits 51 to 13 of the registers (`RMP_ADDR_MASK` of the kernel).
const ADDRESS: u64 = ((1 << 52) - 1) & !0x1fff;
const SEGMENTED: u64 = 1;
const BIOS: &str = "switch SNP and its memory coverage on in the BIOS set-up; update the BIOS if that does not help";

type Range = RangeInclusive<u64>;

/// Everything about it.
pub fn check(host: &Host, cpu: &Cpu, report: &mut Report) {
    if !cpu.has_snp() {
        return;
    }
    // The first one that is online; registers.rs has looked whether all have the same.
    let Some(first) = host.cpus("online").ok().and_then(|cpus| cpus.first().copied()) else {
        return;
    };
    let read = |number| host.msr(first, number).map(Option::unwrap_or_default);
    let config = if cpu.has_segmented_rmp() { read(RMP_CFG) } else { Ok(0) };
    let (base, end, config) = match (read(RMP_BASE), read(RMP_END), config) {
        (Ok(base), Ok(end), Ok(config)) => (base, end, config),
        (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => {
            let todo = if why == Why::Missing { "modprobe msr" } else { why.todo() };
            return report.unknown("rmp", "RMP_BASE and RMP_END cannot be read", todo);
        }
    };
    let memory = memory(host);
    if config & SEGMENTED != 0 {
        return segmented(host, base, config, &memory, report);
    }
    let Some(table) = table(base, end) else {
        return report.no(
            "rmp",
            format!("the BIOS has reserved no memory for the RMP (RMP_BASE {base:#x}, RMP_END {end:#x})"),
            BIOS,
        );
    };
    report.ok(
        "rmp",
        format!("{} MiB at {:#x}-{:#x}", size(&table) >> 20, table.start(), table.end()),
    );
    if base % ALIGNMENT == 0 && (end + 1) % ALIGNMENT == 0 {
        report.ok("rmp-aligned", "it begins and ends at multiples of 1 MiB");
    } else {
        report.no(
            "rmp-aligned",
            format!("{base:#x}-{end:#x} does not begin and end at multiples of 1 MiB; firmware may refuse SNP_INIT"),
            "update the BIOS",
        );
    }
    let memory = match memory {
        Ok(memory) => memory,
        Err((text, todo)) => return report.unknown("rmp-coverage", text, todo),
    };
    coverage(&table, &memory, report);
    outside(&[table], &memory, report);
}

/// A contiguous RMP, if there is room for entries.
fn table(base: u64, end: u64) -> Option<Range> {
    (base & ADDRESS != 0 && end > base && end - base + 1 > BOOK_KEEPING).then_some(base..=end)
}

fn size(range: &Range) -> u64 {
    range.end() - range.start() + 1
}

/// The first address without an entry.
fn covered(table: &Range) -> u64 {
    (size(table) - BOOK_KEEPING) / ENTRY * PAGE
}

fn coverage(table: &Range, memory: &[Range], report: &mut Report) {
    // It has to cover itself, too.
    let end = memory.iter().map(|range| *range.end()).chain([*table.end()]).max().unwrap_or(0);
    if covered(table) > end {
        report.ok("rmp-coverage", format!("memory up to {:#x}, all there is", covered(table)));
    } else {
        report.no(
            "rmp-coverage",
            format!(
                "it covers memory up to {:#x}, and there is some up to {:#x}",
                covered(table),
                end + 1
            ),
            BIOS,
        );
    }
}

/// Whether the RMP lies outside of the memory that the kernel hands out.
fn outside(tables: &[Range], memory: &[Range], report: &mut Report) {
    let inside = tables.iter().find(|table| {
        memory.iter().any(|range| range.start() <= table.end() && table.start() <= range.end())
    });
    match inside {
        None => report.ok("rmp-reserved", "it lies in reserved memory"),
        Some(table) => report.no(
            "rmp-reserved",
            format!("{:#x}-{:#x} is memory that the kernel hands out", table.start(), table.end()),
            "update the BIOS",
        ),
    }
}

/// The ranges of RAM that the kernel uses or the BIOS has announced; or why not, and what to do.
fn memory(host: &Host) -> Result<Vec<Range>, (String, &'static str)> {
    let text = host.read("/proc/iomem").map_err(|why| (why.of("/proc/iomem"), why.todo()))?;
    let mut ranges = iomem(&text);
    // Who is not root sees zeros.
    if ranges.iter().all(|range| *range.end() == 0) {
        return Err((
            "/proc/iomem has no addresses for this user".into(),
            "run host-check as root",
        ));
    }
    ranges.extend(host.list("/sys/firmware/memmap").iter().filter_map(|entry| {
        let read = |file| host.read(&format!("/sys/firmware/memmap/{entry}/{file}")).ok();
        let number = |file| u64::from_str_radix(read(file)?.trim_start_matches("0x"), 16).ok();
        (read("type")? == "System RAM").then_some(number("start")?..=number("end")?)
    }));
    Ok(ranges)
}

/// Those that /proc/iomem calls RAM. What is indented lies in one of them.
fn iomem(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let (range, kind) = line.split_once(" : ")?;
            let (start, end) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            (kind == "System RAM").then_some(number(start)?..=number(end)?)
        })
        .collect()
}

/// A segmented RMP: its table lies in memory that no program may read, so the kernel's words have
/// to do.
fn segmented(
    host: &Host,
    base: u64,
    config: u64,
    memory: &Result<Vec<Range>, (String, &'static str)>,
    report: &mut Report,
) {
    if base & ADDRESS == 0 {
        return report.no("rmp", "the BIOS has reserved no memory for the RMP (RMP_BASE 0)", BIOS);
    }
    let gib = 1u64 << ((config >> 8 & 0x3f).saturating_sub(30));
    report.ok("rmp", format!("in segments for {gib} GiB each, their table at {base:#x}"));
    let segments: Vec<(Range, Range)> = host
        .log()
        .map(|log| log.iter().filter_map(|line| segment(&line.text)).collect())
        .unwrap_or_default();
    if segments.is_empty() {
        return report.unknown(
            "rmp-coverage",
            "the kernel's log does not have the segments any more, and no program may read their table",
            "journalctl -k -b | grep 'RMP segment'",
        );
    }
    let memory = match memory {
        Ok(memory) => memory,
        Err((text, todo)) => return report.unknown("rmp-coverage", text.clone(), *todo),
    };
    let covers: Vec<&Range> = segments.iter().map(|(_, covers)| covers).collect();
    match memory.iter().find_map(|range| gap(range, &covers)) {
        None => report.ok("rmp-coverage", format!("{} segments cover all memory", segments.len())),
        Some(address) => {
            report.no("rmp-coverage", format!("no segment covers the memory at {address:#x}"), BIOS)
        }
    }
    let tables: Vec<Range> = segments.iter().map(|(table, _)| table.clone()).collect();
    outside(&tables, memory, report);
}

/// "SEV-SNP: RMP segment N physical address [A - B] covering [C - D]".
fn segment(line: &str) -> Option<(Range, Range)> {
    let rest = line.strip_prefix("SEV-SNP: RMP segment ")?;
    let range = |text: &str| {
        let (start, end) = text.split_once(" - ")?;
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some(number(start)?..=number(end)?)
    };
    let mut brackets = rest.split('[').skip(1).filter_map(|part| range(part.split_once(']')?.0));
    Some((brackets.next()?, brackets.next()?))
}

/// The first address of a range that none of the others has.
fn gap(range: &Range, covers: &[&Range]) -> Option<u64> {
    let mut at = *range.start();
    while at <= *range.end() {
        let Some(next) = covers.iter().find(|covers| covers.contains(&at)) else {
            return Some(at);
        };
        at = next.end() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    const MIB: u64 = 1 << 20;

    fn judged(table: &Range, memory: &[Range]) -> Vec<(&'static str, Verdict)> {
        let mut report = Report::default();
        coverage(table, memory, &mut report);
        outside(std::slice::from_ref(table), memory, &mut report);
        report.findings.iter().map(|finding| (finding.name, finding.verdict)).collect()
    }

    #[test]
    fn a_table_needs_room_for_entries() {
        assert_eq!(table(0, 0), None);
        assert_eq!(table(0, 0x1fff), None);
        assert_eq!(table(MIB, 0), None);
        assert_eq!(table(MIB, MIB + BOOK_KEEPING - 1), None);
        assert_eq!(table(MIB, MIB + BOOK_KEEPING), Some(MIB..=MIB + BOOK_KEEPING));
    }

    /// One byte less of the table is one page less of memory.
    #[test]
    fn the_last_page_counts() {
        let base = 512 * MIB;
        let end = 1024 * MIB; // of memory
        let last = base + BOOK_KEEPING + end / PAGE * ENTRY - 1;
        let memory = [0x1000..=base - 1, 768 * MIB..=end - 1];
        assert_eq!(judged(&(base..=last), &memory)[0], ("rmp-coverage", Verdict::Ok));
        assert_eq!(judged(&(base..=last - 1), &memory)[0], ("rmp-coverage", Verdict::No));
    }

    /// The first byte that has no entry is one too many.
    #[test]
    fn nor_may_there_be_a_byte_more() {
        let table = 512 * MIB..=520 * MIB - 1;
        let end = covered(&table);
        assert_eq!(judged(&table, &[0x1000..=end - 1])[0], ("rmp-coverage", Verdict::Ok));
        assert_eq!(judged(&table, &[0x1000..=end])[0], ("rmp-coverage", Verdict::No));
    }

    #[test]
    fn it_covers_itself() {
        let table = 1024 * MIB..=1026 * MIB - 1;
        assert_eq!(judged(&table, &[0x1000..=MIB])[0], ("rmp-coverage", Verdict::No));
    }

    #[test]
    fn it_lies_outside_of_memory() {
        let table = 512 * MIB..=520 * MIB - 1;
        assert_eq!(judged(&table, &[MIB..=512 * MIB - 1, 520 * MIB..=600 * MIB])[1].1, Verdict::Ok);
        assert_eq!(judged(&table, &[MIB..=512 * MIB])[1].1, Verdict::No);
        assert_eq!(judged(&table, &[520 * MIB - 1..=600 * MIB])[1].1, Verdict::No);
    }

    #[test]
    fn ram_of_iomem() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n  00001000-00001fff : Kernel code";
        assert_eq!(iomem(text), [0x1000..=0x9fbff]);
    }

    #[test]
    fn segments_of_the_log() {
        let line = "SEV-SNP: RMP segment 1 physical address [0x38100000 - 0x384fffff] covering \
                    [0x40000000 - 0x7fffffff]";
        assert_eq!(segment(line), Some((0x3810_0000..=0x384f_ffff, 0x4000_0000..=0x7fff_ffff)));
        assert_eq!(segment("SEV-SNP: RMP segment 1 mapped size (0x1) reduced to 0x1"), None);
        let (low, high) = (0..=0x3fff_ffff, 0x4000_0000..=0x7fff_ffff);
        assert_eq!(gap(&(0x1000..=0x7fff_ffff), &[&high, &low]), None);
        assert_eq!(gap(&(0x1000..=0x7fff_ffff), &[&low]), Some(0x4000_0000));
        assert_eq!(gap(&(0x1000..=0x8000_0000), &[&low, &high]), Some(0x8000_0000));
    }
}
