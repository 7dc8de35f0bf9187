// SPDX-License-Identifier: GPL-2.0
//! A machine and a CPU for tests, made of tables.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use link::{Link, MAX_CPUS};
use rmp::{Geometry, MemoryTable, Rmp};

use crate::acpi;
use crate::activity::Activity;
use crate::cpu::{Cpu, Reg};
use crate::log::Log;
use crate::model::Model;
use crate::ram::Ram;
use crate::stats::Stats;
use crate::variant::Checks;
use crate::writable::{Alias, Writable};

pub const BASE: u64 = 0x20_0000;
const BYTES: u64 = 16 * 1024 + 2 * 512 * 16;
const RAM: u64 = 0x40_0000;

/// The CPU with number 1.
pub struct Fake {
    pub registers: RefCell<HashMap<usize, u64>>,
    pub operand: Cell<Option<[u8; 16]>>,
    pub bios_reads: Cell<u32>,
    pub pc: Cell<u64>,
    /// TLB flushes of this CPU, plus 10 for each of another one, plus 100 for each of all.
    pub flushes: Cell<u32>,
    /// Translations that have become read-only, and of which page.
    pub protected: RefCell<Vec<(Alias, u64)>>,
}

impl Fake {
    pub fn new(registers: &[(Reg, u64)]) -> Fake {
        let kernel = [(Reg::Cr0, 0x8005_0033), (Reg::Cs, 0x10), (Reg::Efer, 0x1d01)];
        let all = kernel.iter().chain(registers).map(|(reg, value)| (*reg as usize, *value));
        Fake {
            registers: RefCell::new(all.collect()),
            operand: Cell::new(None),
            bios_reads: Cell::new(0),
            pc: Cell::new(0x7777),
            flushes: Cell::new(0),
            protected: RefCell::default(),
        }
    }

    pub fn with_operand(self, operand: [u8; 16]) -> Fake {
        self.operand.set(Some(operand));
        self
    }
}

impl acpi::Memory for Fake {
    fn read(&self, _: u64, _: &mut [u8]) -> bool {
        self.bios_reads.set(self.bios_reads.get() + 1);
        true // zeroes: no RSDP
    }

    fn write(&self, _: u64, _: &[u8]) -> bool {
        false
    }
}

impl Cpu for Fake {
    fn index(&self) -> usize {
        1
    }

    fn get(&self, reg: Reg) -> u64 {
        *self.registers.borrow().get(&(reg as usize)).unwrap_or(&0)
    }

    fn read_virtual(&self, _: u64, bytes: &mut [u8; 16]) -> bool {
        self.operand.get().map(|operand| *bytes = operand).is_some()
    }

    fn write_virtual(&self, _: u64, bytes: &[u8; 16]) -> bool {
        self.operand.replace(Some(*bytes)).is_some()
    }

    fn pc(&self) -> u64 {
        self.pc.get()
    }

    fn flush_translations(&self) {
        self.flushes.set(self.flushes.get() + 1);
    }

    fn flush_all_translations(&self) {
        self.flushes.set(self.flushes.get() + 100);
    }

    fn flush_translations_of(&self, cpu: usize) {
        assert_ne!(cpu, self.index());
        self.flushes.set(self.flushes.get() + 10);
    }

    fn protect(&self, alias: Alias, page: u64) {
        assert_eq!(alias.cpu, self.index());
        self.protected.borrow_mut().push((alias, page));
    }
}

pub fn machine(snp_en: bool) -> Model<'static> {
    // SAFETY: a Link consists of atomics; all-zero bytes are a value of each.
    let link: &'static Link = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    let ram = Ram::for_test(RAM, RAM);
    let geometry = Geometry::new(BASE, BASE + BYTES - 1).unwrap();
    link.low.store(RAM, Relaxed);
    let words = ram.slice(0, RAM).unwrap();
    let rmp = Rmp::new(geometry, MemoryTable { words, start: 0, locks: &link.rmp_locks });
    let model = Model {
        link,
        writable: Writable::new(&ram),
        ram,
        rmp,
        rmpread: true,
        snp_en: if snp_en { u64::MAX } else { 0 },
        segments: None,
        pins: Vec::new(),
        pinned: AtomicBool::new(false),
        checks: Checks::Off,
        pages_taken: AtomicU64::new(0),
        rmp_changes: AtomicU64::new(0),
        activity: [const { Activity::new() }; MAX_CPUS],
        acpi_patched: AtomicBool::new(false),
        iommu: AtomicU64::new(0),
        exclusion_base: AtomicU64::new(0),
        exclusion_base_at: AtomicU64::new(0),
        command_buffer: AtomicU64::new(0),
        stats: Stats::default(),
        log: Log::new(None),
    };
    model.add_cpu(0);
    model.add_cpu(1);
    model
}
