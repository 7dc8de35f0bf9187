// SPDX-License-Identifier: GPL-2.0
//! `pspd scan`: what is in the RMP.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use link::Report;
use rmp::{Entry, Geometry, Rmp, State};
use serde_json::{json, Map, Value};

use crate::cli::Scan;
use crate::memory::Memory;

/// The memory that the table is in. Reading needs no locks.
struct RamTable(Memory);

impl rmp::Table for RamTable {
    fn load(&self, at: u64) -> Entry {
        let lo = self.0.load(at);
        Entry { lo, hi: self.0.load(at + 8) }
    }

    fn store(&self, _at: u64, _entry: Entry) {
        unreachable!("a scan changes nothing");
    }

    fn try_lock(&self, _region: u64) -> bool {
        unreachable!("a scan locks nothing");
    }

    fn unlock(&self, _region: u64) {
        unreachable!("a scan locks nothing");
    }
}

pub fn run(options: &Scan) -> Result<(), String> {
    let link = link::Mapping::open(&options.link).map_err(|error| error.to_string())?;
    let ram = File::options().read(true).write(true).open(&options.ram);
    let ram = ram.map_err(|error| format!("cannot open {}: {error}", options.ram.display()))?;
    let (low, cpu) = (link.low.load(Ordering::Acquire), &link.cpu[0]);
    if low == 0 {
        return Err("the link page has no RAM: has the machine been started?".to_owned());
    }
    let memory = Memory::default();
    map(&memory, ram, low)
        .map_err(|error| format!("cannot map {}: {error}", options.ram.display()))?;
    let register = |register: &AtomicU64| register.load(Ordering::Acquire);
    let word = |pa| memory.is_ram(pa, 8).then(|| memory.load(pa));
    let registers = [&cpu.rmp_base, &cpu.rmp_end, &cpu.rmp_cfg].map(register);
    let geometry = match Geometry::from_registers(registers[0], registers[1], registers[2], word) {
        Ok(geometry) => geometry,
        Err(error) => {
            let mut without = machine(&link);
            without["no_rmp"] = format!("CPU 0's registers describe no RMP: {error}").into();
            println!("{without}");
            return Ok(());
        }
    };
    let outside = |range: &Range<u64>| !memory.is_ram(range.start, range.end - range.start);
    if let Some(range) = geometry.ranges().find(outside) {
        return Err(format!("{:#x} to {:#x} of the RMP are no RAM", range.start, range.end));
    }
    println!("{}", report(&link, &Rmp::new(geometry, RamTable(memory))));
    Ok(())
}

/// The first `low` bytes of RAM are at address 0, the others from 4 GiB up.
fn map(memory: &Memory, ram: File, low: u64) -> io::Result<()> {
    let bytes = ram.metadata()?.len();
    memory.map(0, ram.try_clone()?, 0, low)?;
    if bytes > low {
        memory.map(4 << 30, ram, low, bytes - low)?;
    }
    Ok(())
}

/// `assigned` leaves out the table's own pages: they are assigned while SNP is enabled, and
/// nobody forgot them. `nonzero` counts every entry that is not all zero.
fn report(link: &link::Link, rmp: &Rmp<RamTable>) -> Value {
    let mut states = Map::new();
    let mut assigned = 0;
    for (state, count) in rmp.census() {
        states.insert(state.name().into(), count.into());
        if !matches!(state, State::Hypervisor | State::HvFixed | State::RmpTable) {
            assigned += count;
        }
    }
    let nonzero = rmp.geometry().indices().filter(|index| rmp.load(*index) != Entry::ZERO).count();
    let mut found = machine(link);
    found["rmp_base"] = format!("{:#x}", rmp.geometry().base()).into();
    found["rmp_end"] = format!("{:#x}", rmp.geometry().end()).into();
    found["entries"] = rmp.geometry().entries().into();
    found["assigned"] = assigned.into();
    found["nonzero"] = nonzero.into();
    found["states"] = states.into();
    found
}

/// What there is without an RMP, too; nothing is assigned in none.
fn machine(link: &link::Link) -> Value {
    let snp_en = |cpu: &link::Cpu| cpu.syscfg.load(Ordering::Acquire) & link::SNP_EN != 0;
    let cpus = link.cpu.iter().enumerate();
    let cpus = cpus.filter(|(_, cpu)| cpu.present.load(Ordering::Acquire) != 0);
    json!({
        "assigned": 0,
        "nonzero": 0,
        "cpus": link.present().count(),
        "cpus_with_snp_en": cpus.filter(|(_, cpu)| snp_en(cpu)).map(|(n, _)| n).collect::<Vec<_>>(),
        "iommu_buffers": iommu_buffers(link),
        "reports": reports(link),
    })
}

/// Where the IOMMU's logs and its semaphore are, as the CPU model has seen its registers.
fn iommu_buffers(link: &link::Link) -> Vec<String> {
    let bases = link.iommu.iter().map(|buffer| buffer.base.load(Ordering::Acquire));
    bases.filter(|base| *base != 0).map(|base| format!("{base:#x}")).collect()
}

/// What the CPU model has seen software do wrong.
fn reports(link: &link::Link) -> Vec<Value> {
    let cpus = link.cpu.iter().enumerate();
    let each = cpus.flat_map(|(cpu, registers)| {
        Report::ALL
            .into_iter()
            .map(move |report| (cpu, report, &registers.reports[report as usize]))
    });
    each.filter(|row| row.2.count.load(Ordering::Acquire) != 0)
        .map(|(cpu, report, seen)| {
            json!({
                "cpu": cpu,
                "report": report.name(),
                "count": seen.count.load(Ordering::Acquire),
                "pc": format!("{:#x}", seen.pc.load(Ordering::Acquire)),
                "address": format!("{:#x}", seen.address.load(Ordering::Acquire)),
            })
        })
        .collect()
}
