// SPDX-License-Identifier: GPL-2.0
//! The machine that the tests run commands on, and short ways to say what they do.
//!
//! 20 MiB of RAM. The RMP lies at 8 MiB and covers 16 MiB, so there is RAM without entries.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use rmp::{Code, Entry, Geometry, Rmp, RmpUpdate, State, BOOKKEEPING_BYTES, ENTRY_BYTES};

use crate::command::COMMANDS;
use crate::{Config, CpuRegisters, Outcome, Platform, Psp, Status};

pub(super) const RAM: u64 = 256 << 20;
pub(super) const COVERED: u64 = (RMP_END + 1 - RMP_BASE - BOOKKEEPING_BYTES) / ENTRY_BYTES << 12;
pub(super) const RMP_BASE: u64 = 8 << 20;
pub(super) const RMP_END: u64 = RMP_BASE + (1 << 20) - 1;

/// Where the tests put things.
pub(super) const BUFFER: u64 = 0x1_0000;
/// A command buffer that is a Firmware page once SNP is up.
pub(super) const FW_BUFFER: u64 = 0x1_1000;
pub(super) const LIST: u64 = 0x1_2000;
pub(super) const GCTX: u64 = 0x2_0000;
pub(super) const PAGE: u64 = 0x3_0000;
pub(super) const OUT: u64 = 0x4_0000;
pub(super) const TMR: u64 = 2 << 20;
pub(super) const NV: u64 = 0x5_0000;
pub(super) const C_BIT: u64 = 1 << Config::MILAN.c_bit;

const SNP_EN_AND_MFDM: u64 = 1 << 24 | 1 << 19;

pub(super) struct Machine {
    ram: RefCell<Vec<u8>>,
    pub(super) cpus: RefCell<Vec<CpuRegisters>>,
    pub(super) iommu_snp: Cell<bool>,
    pub(super) iommu_pages: RefCell<Vec<u64>>,
    pub(super) snp_active: Cell<bool>,
    /// Those that are bound, and whether to SNP guests.
    pub(super) asids: RefCell<BTreeMap<u32, bool>>,
    locks: RefCell<BTreeSet<u64>>,
    /// While SNP is up: where firmware's writes are checked against.
    enforced: RefCell<Option<Geometry>>,
    /// States of pages that were written in spite of it.
    violations: RefCell<Vec<(u64, Option<State>)>>,
}

impl rmp::Table for Machine {
    fn load(&self, at: u64) -> Entry {
        Entry { lo: self.word(at), hi: self.word(at + 8) }
    }

    fn store(&self, at: u64, entry: Entry) {
        let at = at as usize;
        let mut ram = self.ram.borrow_mut();
        ram[at..at + 8].copy_from_slice(&entry.lo.to_le_bytes());
        ram[at + 8..at + 16].copy_from_slice(&entry.hi.to_le_bytes());
    }

    fn try_lock(&self, region: u64) -> bool {
        self.locks.borrow_mut().insert(region)
    }

    fn unlock(&self, region: u64) {
        assert!(self.locks.borrow_mut().remove(&region), "unlock of a free region");
    }
}

impl Platform for Machine {
    fn is_ram(&self, pa: u64, len: u64) -> bool {
        pa.checked_add(len).is_some_and(|end| end <= RAM)
    }

    fn read(&self, pa: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.ram.borrow()[pa as usize..pa as usize + bytes.len()]);
    }

    fn write(&self, pa: u64, bytes: &[u8]) {
        if let Some(geometry) = self.enforced.borrow().clone() {
            let rmp = Rmp::new(geometry, self);
            for page in (pa >> 12)..=((pa + bytes.len() as u64 - 1) >> 12) {
                let state = rmp.state(page << 12);
                if !matches!(
                    state,
                    Some(State::Firmware | State::Context | State::PreGuest | State::GuestValid)
                ) {
                    self.violations.borrow_mut().push((page << 12, state));
                }
            }
        }
        self.poke(pa, bytes);
    }

    fn cpus(&self) -> Vec<CpuRegisters> {
        self.cpus.borrow().clone()
    }

    fn clear_snp_en(&self) {
        assert!(!self.snp_active.get(), "CPUs are watched while SNP is active");
        for cpu in self.cpus.borrow_mut().iter_mut() {
            cpu.syscfg &= !(1 << 24);
        }
    }

    fn iommu_snp(&self) -> bool {
        self.iommu_snp.get()
    }

    fn iommu_pages(&self) -> Vec<u64> {
        self.iommu_pages.borrow().clone()
    }

    fn set_asid(&self, asid: u32, snp: Option<bool>) {
        match snp {
            Some(snp) => self.asids.borrow_mut().insert(asid, snp),
            None => self.asids.borrow_mut().remove(&asid),
        };
    }

    fn set_snp_active(&self, active: bool) {
        self.snp_active.set(active);
    }
}

impl Machine {
    fn new() -> Machine {
        let cpu = CpuRegisters {
            hwcr: 1,
            rmp_base: RMP_BASE,
            rmp_end: RMP_END,
            memory_types: vec![("MTRR_DEF_TYPE", 0xc00), ("TOP_MEM", RAM)],
            ..CpuRegisters::default()
        };
        Machine {
            ram: RefCell::new(vec![0; RAM as usize]),
            cpus: RefCell::new(vec![cpu; 2]),
            iommu_snp: Cell::new(true),
            iommu_pages: RefCell::default(),
            snp_active: Cell::new(false),
            asids: RefCell::default(),
            locks: RefCell::default(),
            enforced: RefCell::new(None),
            violations: RefCell::default(),
        }
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A write of the host.
    pub(super) fn poke(&self, pa: u64, bytes: &[u8]) {
        self.ram.borrow_mut()[pa as usize..pa as usize + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn peek(&self, pa: u64, len: usize) -> Vec<u8> {
        self.ram.borrow()[pa as usize..pa as usize + len].to_vec()
    }

    pub(super) fn wbinvd(&self) {
        for cpu in self.cpus.borrow_mut().iter_mut() {
            cpu.wbinvd += 1;
        }
    }

    pub(super) fn rmp(&self) -> Rmp<&Machine> {
        let Ok(geometry) = Geometry::new(RMP_BASE, RMP_END) else {
            unreachable!("the test machine's RMP is well formed")
        };
        Rmp::new(geometry, self)
    }

    pub(super) fn state(&self, pa: u64) -> Option<State> {
        self.rmp().state(pa)
    }
}

/// A command buffer in the making.
#[derive(Clone)]
pub(super) struct Buf(pub(super) Vec<u8>);

pub(super) fn buf(len: usize) -> Buf {
    Buf(vec![0; len])
}

impl Buf {
    pub(super) fn u8(mut self, at: usize, value: u8) -> Buf {
        self.0[at] = value;
        self
    }

    pub(super) fn u32(mut self, at: usize, value: u32) -> Buf {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, at: usize, value: u64) -> Buf {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }
}

pub(super) struct Lab {
    pub(super) psp: Psp,
    pub(super) machine: Machine,
}

impl Lab {
    pub(super) fn new() -> Lab {
        Lab::with(Config::MILAN)
    }

    pub(super) fn with(config: Config) -> Lab {
        Lab { psp: Psp::new(config), machine: Machine::new() }
    }

    /// As `snp_prepare` leaves the CPUs.
    pub(super) fn prepared() -> Lab {
        let lab = Lab::new();
        lab.prepare();
        lab
    }

    pub(super) fn prepare(&self) {
        for cpu in self.machine.cpus.borrow_mut().iter_mut() {
            cpu.syscfg |= SNP_EN_AND_MFDM;
        }
        self.machine.wbinvd();
    }

    /// SNP initialised and flushed, as Linux does it; [`FW_BUFFER`] is a Firmware page.
    pub(super) fn snp() -> Lab {
        let mut lab = Lab::prepared();
        lab.ok("SNP_INIT_EX", &buf(64).u32(0, 1));
        lab.machine.wbinvd();
        lab.ok("SNP_DF_FLUSH", &buf(0));
        lab.firmware(FW_BUFFER, 1);
        lab
    }

    /// With a context at [`GCTX`].
    pub(super) fn context() -> Lab {
        let mut lab = Lab::snp();
        lab.firmware(GCTX, 1);
        lab.ok("SNP_GCTX_CREATE", &buf(8).u64(0, GCTX));
        lab
    }

    /// With a guest at [`GCTX`] whose launch has begun with ASID 3.
    pub(super) fn launching(policy: u64) -> Lab {
        let mut lab = Lab::context();
        lab.ok("SNP_LAUNCH_START", &buf(48).u64(0, GCTX).u64(8, policy));
        lab.ok("SNP_ACTIVATE", &buf(12).u64(0, GCTX).u32(8, 3));
        lab
    }

    /// RMPUPDATE to Firmware.
    pub(super) fn firmware(&self, pa: u64, pages: u64) {
        let firmware = RmpUpdate { assigned: true, immutable: true, ..RmpUpdate::default() };
        for page in 0..pages {
            assert_eq!(self.machine.rmp().rmpupdate(pa + (page << 12), &firmware), Code::Success);
        }
    }

    /// INIT for SEV-ES, with a TMR of this size, and the flush without which there is no ASID.
    pub(super) fn start_sev(&mut self, tmr: u32) {
        self.ok("INIT", &buf(20).u32(0, 1).u64(8, TMR).u32(16, tmr));
        self.machine.wbinvd();
        self.ok("DF_FLUSH", &buf(0));
    }

    /// The same while SNP is up.
    pub(super) fn start_sev_beside_snp(&mut self) {
        self.firmware(TMR, 512);
        self.start_sev(2 << 20);
    }

    /// RMPUPDATE to Pre-Guest.
    pub(super) fn pre_guest(&self, pa: u64, asid: u32, gpa: u64) {
        let update = RmpUpdate { assigned: true, immutable: true, asid, gpa, large: false };
        assert_eq!(self.machine.rmp().rmpupdate(pa, &update), Code::Success);
    }

    pub(super) fn id(name: &str) -> u32 {
        (0..0x800).find(|id| crate::name(*id) == Some(name)).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Executes a command with its buffer where such a buffer belongs.
    pub(super) fn run(&mut self, name: &str, buffer: &Buf) -> Outcome {
        let answers = COMMANDS.iter().any(|command| command.name == name && command.answers);
        let at = if answers && self.psp.snp.running.is_some() { FW_BUFFER } else { BUFFER };
        self.run_at(Lab::id(name), at, buffer)
    }

    /// Executes a command, and checks what must hold of every command.
    pub(super) fn run_at(&mut self, id: u32, at: u64, buffer: &Buf) -> Outcome {
        if self.machine.is_ram(at, buffer.0.len() as u64) {
            self.machine.poke(at, &buffer.0);
        }
        *self.machine.enforced.borrow_mut() = self.psp.snp.geometry();
        let outcome = self.psp.step(&self.machine, id, at);
        *self.machine.enforced.borrow_mut() = None;
        let violations = self.machine.violations.take();
        assert!(violations.is_empty(), "{id:#x} wrote pages that it may not: {violations:x?}");
        assert!(self.machine.locks.borrow().is_empty(), "{id:#x} holds RMP locks");
        outcome
    }

    pub(super) fn status(&mut self, name: &str, buffer: &Buf) -> Status {
        self.run(name, buffer).status
    }

    pub(super) fn ok(&mut self, name: &str, buffer: &Buf) -> Outcome {
        let outcome = self.run(name, buffer);
        assert_eq!(outcome.status, Status::Success, "{name}: {:?}", outcome.facts);
        outcome
    }
}

/// A row of a table: what it shows, the machine, the command, and how it must end.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) lab: fn() -> Lab,
    pub(super) command: &'static str,
    pub(super) buffer: Buf,
    pub(super) status: Status,
}

/// Runs every row; says which one failed.
pub(super) fn check(rows: Vec<Row>) {
    for row in rows {
        let mut lab = (row.lab)();
        let outcome = lab.run(row.command, &row.buffer);
        let text = format!("{}: {} ({:x?})", row.command, row.what, outcome.facts);
        assert_eq!(outcome.status, row.status, "{text}");
    }
}
