// SPDX-License-Identifier: GPL-2.0
//! The machine as the model sees it: QEMU's memory, and the CPU model's shared page.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use psp::{CpuRegisters, Platform};
use rmp::Entry;

use crate::memory::Memory;

pub struct Machine {
    pub memory: Arc<Memory>,
    pub link: Arc<link::Mapping>,
}

impl rmp::Table for Machine {
    fn load(&self, at: u64) -> Entry {
        let lo = self.memory.load(at);
        Entry { lo, hi: self.memory.load(at + 8) }
    }

    fn store(&self, at: u64, entry: Entry) {
        self.memory.store(at + 8, entry.hi);
        self.memory.store(at, entry.lo);
    }

    fn try_lock(&self, region: u64) -> bool {
        let lock = &self.link.rmp_locks[region as usize % link::RMP_LOCKS];
        lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn unlock(&self, region: u64) {
        self.link.rmp_locks[region as usize % link::RMP_LOCKS].store(0, Ordering::Release);
    }
}

impl Platform for Machine {
    fn is_ram(&self, pa: u64, len: u64) -> bool {
        self.memory.is_ram(pa, len)
    }

    fn read(&self, pa: u64, bytes: &mut [u8]) {
        self.memory.read(pa, bytes);
    }

    fn write(&self, pa: u64, bytes: &[u8]) {
        self.memory.write(pa, bytes);
    }

    fn cpus(&self) -> Vec<CpuRegisters> {
        let registers = |cpu: &link::Cpu| CpuRegisters {
            syscfg: cpu.syscfg.load(Ordering::Acquire),
            hsave_pa: cpu.hsave_pa.load(Ordering::Acquire),
            hwcr: cpu.hwcr.load(Ordering::Acquire),
            rmp_base: cpu.rmp_base.load(Ordering::Acquire),
            rmp_end: cpu.rmp_end.load(Ordering::Acquire),
            rmp_cfg: cpu.rmp_cfg.load(Ordering::Acquire),
            memory_types: link::CONFIG_MSRS
                .iter()
                .zip(&cpu.config)
                .map(|(msr, value)| (msr.1, value.load(Ordering::Acquire)))
                .collect(),
            wbinvd: cpu.wbinvd.load(Ordering::Acquire),
        };
        self.link.present().map(registers).collect()
    }

    fn clear_snp_en(&self) {
        for cpu in self.link.present() {
            cpu.syscfg.fetch_and(!link::SNP_EN, Ordering::AcqRel);
        }
    }

    fn iommu_snp(&self) -> bool {
        self.link.iommu_snp.load(Ordering::Acquire) != 0
    }

    fn iommu_pages(&self) -> Vec<u64> {
        let pages = |buffer: &link::IommuBuffer| {
            let base = buffer.base.load(Ordering::Acquire);
            let len = if base == 0 { 0 } else { buffer.len.load(Ordering::Acquire) };
            (base..base + len).step_by(0x1000)
        };
        self.link.iommu.iter().flat_map(pages).collect()
    }

    fn set_asid(&self, asid: u32, snp: Option<bool>) {
        self.link.bind(
            asid,
            match snp {
                Some(true) => link::Bound::Snp,
                Some(false) => link::Bound::Sev,
                None => link::Bound::Free,
            },
        );
    }

    fn set_snp_active(&self, active: bool) {
        self.link.snp_active.store(active.into(), Ordering::Release);
        if active {
            // SNP_INIT has made pages firmware's.
            self.link.pages_taken.fetch_add(1, Ordering::AcqRel);
        }
    }
}
