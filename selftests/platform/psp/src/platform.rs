// SPDX-License-Identifier: GPL-2.0
//! What firmware sees of the machine.

/// Registers of one CPU, as firmware finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuRegisters {
    /// MSR C0010010.
    pub syscfg: u64,
    /// MSR C0010117.
    pub hsave_pa: u64,
    /// MSR C0010015.
    pub hwcr: u64,
    /// MSR C0010132.
    pub rmp_base: u64,
    /// MSR C0010133.
    pub rmp_end: u64,
    /// MSR C0010136.
    pub rmp_cfg: u64,
    /// MSRs that say what memory is where (MTRRs, IORRs, TOP_MEM), by name.
    pub memory_types: Vec<(&'static str, u64)>,
    /// WBINVDs this CPU has executed so far.
    pub wbinvd: u64,
}

impl CpuRegisters {
    /// SYSCFG bit 19, MtrrFixDramModEn.
    pub const fn mfdm(&self) -> bool {
        self.syscfg & (1 << 19) != 0
    }

    /// SYSCFG bit 24, SecureNestedPagingEn.
    pub const fn snp_en(&self) -> bool {
        self.syscfg & (1 << 24) != 0
    }

    /// SYSCFG bit 23, MemEncryptionModEn, and 25, VMPL_EN.
    pub const fn encryption_and_vmpls(&self) -> u64 {
        self.syscfg & (1 << 23 | 1 << 25)
    }

    /// HWCR bit 0, SmmLock.
    pub const fn smm_lock(&self) -> bool {
        self.hwcr & 1 != 0
    }
}

/// The machine around the firmware. The supertrait reaches the RMP's entries.
pub trait Platform: rmp::Table {
    /// Whether all of `len` bytes from `pa` on are RAM.
    fn is_ram(&self, pa: u64, len: u64) -> bool;
    /// Reads RAM. The caller has asked [`Platform::is_ram`].
    fn read(&self, pa: u64, bytes: &mut [u8]);
    /// Writes RAM. The caller has asked [`Platform::is_ram`].
    fn write(&self, pa: u64, bytes: &[u8]);
    /// All CPUs of the machine.
    fn cpus(&self) -> Vec<CpuRegisters>;
    /// Clears SYSCFG.SNP_EN on every CPU. SNP must not be active any more.
    fn clear_snp_en(&self);
    /// Whether the IOMMU enforces SNP.
    fn iommu_snp(&self) -> bool;
    /// What the IOMMU writes to by itself: addresses of the 4 KiB pages of its event log, PPR log
    /// and completion-wait semaphore.
    fn iommu_pages(&self) -> Vec<u64>;
    /// An ASID has been bound to a guest, with SNP or without, or to nobody any more: the CPUs run
    /// no guest with an ASID that is not its own.
    fn set_asid(&self, asid: u32, snp: Option<bool>);
    /// SNP is active (SNP_INIT has succeeded), or is not any more (firmware clears SNP_EN).
    fn set_snp_active(&self, active: bool);
}
