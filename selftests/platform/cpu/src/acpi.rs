// SPDX-License-Identifier: GPL-2.0
//! What the platform's firmware says otherwise than QEMU's: ACPI tables are patched in memory.
//!
//! * IVRS: the IOMMU has SNP, and the page requests of EPYC. QEMU's `amd-iommu` has no such
//!   properties. Linux believes what this table says about the IOMMU (drivers/iommu/amd/init.c,
//!   `early_iommu_features_init`). The kernel then remarks that IVRS and the register differ, which
//!   is harmless.
//! * MADT and FADT: CPUs that are not there yet can be plugged in later. QEMU lists them as not
//!   enabled, and Linux believes that under a hypervisor only; on a real machine it wants the flag
//!   "online capable", which exists since ACPI 6.3 (arch/x86/kernel/acpi/boot.c).
//!
//! Sources: include/acpi/actbl.h (RSDP, RSDT, XSDT, FADT), actbl2.h (IVRS, MADT), and `struct
//! ivhd_header`, `FEATURE_SNP`, `FEATURE_EPHSUP` and `FEATURE_GIOSUP` of drivers/iommu/amd.

use std::fmt;
use std::ops::Range;

/// Physical memory as the processor sees it.
pub trait Memory {
    /// Reads; false outside memory.
    fn read(&self, pa: u64, bytes: &mut [u8]) -> bool;
    /// Writes; false outside memory.
    fn write(&self, pa: u64, bytes: &[u8]) -> bool;
}

/// Why there is nothing to patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPatched {
    /// No RSDP: firmware has not built its tables yet, or they are elsewhere.
    NoRsdp,
    /// The machine has no AMD IOMMU.
    NoIvrs,
    /// A table is longer or shorter than anything plausible, or lies outside memory.
    Malformed,
    /// IVRS has no block with an image of the feature register.
    NoFeatures,
    /// There is no list of the CPUs.
    NoMadt,
    /// There is no table with the version of ACPI.
    NoFadt,
}

impl fmt::Display for NotPatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotPatched::NoRsdp => "found no RSDP in memory",
            NotPatched::NoIvrs => "found no ACPI table IVRS; is there an amd-iommu?",
            NotPatched::Malformed => "an ACPI table has an impossible length or address",
            NotPatched::NoFeatures => "IVRS has no IVHD block of type 11h or 40h",
            NotPatched::NoMadt => "found no ACPI table APIC (MADT)",
            NotPatched::NoFadt => "found no ACPI table FACP (FADT)",
        })
    }
}

/// Bit 63 of the extended feature register: the IOMMU keeps to the RMP.
const EFR_SNP: u64 = 1 << 63;
/// Bits 48 and 50 of it: I/O by guest addresses and enhanced page request handling. Without one of
/// them Linux does not program the PPR log that it has allocated (`amd_iommu_gt_ppr_supported()`).
/// It takes the log's pages back in `amd_iommu_snp_disable()` all the same, which fails if they
/// begin a 2 MiB region and firmware never had them.
const EFR_PPR: u64 = 1 << 48 | 1 << 50;

const HEADER: usize = 36;
const REVISION: usize = 8;
const CHECKSUM: usize = 9;
/// IVRS: IVinfo and 8 reserved bytes follow the header.
const IVRS_BLOCKS: usize = 48;
/// IVHD: where the address of the IOMMU's registers is.
const IVHD_REGISTERS: usize = 8;
/// IVHD types 11h and 40h: where the image of the feature register is.
const IVHD_EFR: usize = 24;
/// A table beyond this is rubbish, not a table.
const LONGEST: usize = 1 << 20;

/// MADT: the APIC's address and flags follow the header.
const MADT_ENTRIES: usize = 44;
/// The first version of ACPI with the flag "online capable", as major and minor revision of FADT.
const ONLINE_CAPABLE_SINCE: [u8; 2] = [6, 3];
const FADT_MINOR_REVISION: usize = 131;
const LAPIC_ENABLED: u8 = 1 << 0;
const LAPIC_ONLINE_CAPABLE: u8 = 1 << 1;

/// Where a BIOS puts the RSDP.
pub const BIOS_AREA: Range<u64> = 0xe_0000..0x10_0000;
/// How much is read at once of a range in which RSDPs are looked for.
const CHUNK: usize = 0x2_0000;

/// Patches all of them, of each RSDP in a range: firmware may have left an older copy of its
/// tables. Doing it again changes nothing. Returns the address of the IOMMU's registers (QEMU's
/// machine has one IOMMU).
pub fn patch(memory: &impl Memory, range: Range<u64>) -> Result<u64, NotPatched> {
    let mut result = Err(NotPatched::NoRsdp);
    for root in find_roots(memory, range)? {
        let patched = root.patch(memory);
        result = result.or(patched);
    }
    result
}

/// Sets these bits in every feature image of IVRS, and finds the IOMMU's registers.
fn announce_snp(table: &mut [u8]) -> Result<u64, NotPatched> {
    let mut registers = None;
    let mut at = IVRS_BLOCKS;
    while let Some(block) = table.get_mut(at..).filter(|rest| rest.len() >= 4) {
        let length = usize::from(u16::from_le_bytes([block[2], block[3]]));
        if length < 4 || length > block.len() {
            return Err(NotPatched::Malformed);
        }
        if matches!(block[0], 0x11 | 0x40) && length >= IVHD_EFR + 8 {
            let features = quadword(block, IVHD_EFR) | EFR_SNP | EFR_PPR;
            block[IVHD_EFR..IVHD_EFR + 8].copy_from_slice(&features.to_le_bytes());
            registers = Some(quadword(block, IVHD_REGISTERS));
        }
        at += length;
    }
    registers.ok_or(NotPatched::NoFeatures)
}

/// Marks every CPU of the MADT that is not enabled as online capable.
fn announce_cpus(table: &mut [u8]) -> Result<(), NotPatched> {
    let mut at = MADT_ENTRIES;
    while let Some(entry) = table.get_mut(at..).filter(|rest| rest.len() >= 2) {
        let length = usize::from(entry[1]);
        if length < 2 || length > entry.len() {
            return Err(NotPatched::Malformed);
        }
        // Local APIC and local x2APIC: where their flags are.
        let flags = match (entry[0], length) {
            (0, 8..) => &mut entry[4],
            (9, 16..) => &mut entry[8],
            _ => {
                at += length;
                continue;
            }
        };
        if *flags & LAPIC_ENABLED == 0 {
            *flags |= LAPIC_ONLINE_CAPABLE;
        }
        at += length;
    }
    Ok(())
}

/// Raises the version that FADT states to the one that has the flag.
fn raise_version(table: &mut [u8]) -> Result<(), NotPatched> {
    let minor = *table.get(FADT_MINOR_REVISION).ok_or(NotPatched::Malformed)?;
    let [major, minor] = [table[REVISION], minor].max(ONLINE_CAPABLE_SINCE);
    (table[REVISION], table[FADT_MINOR_REVISION]) = (major, minor);
    Ok(())
}

/// The table that lists all others.
struct Root {
    address: u64,
    /// Of an entry: 8 in an XSDT, 4 in an RSDT.
    entry_bytes: usize,
}

impl Root {
    /// What an RSDP points to.
    fn of(rsdp: &[u8]) -> Root {
        match quadword(rsdp, 24) {
            xsdt if rsdp[15] >= 2 && xsdt != 0 => Root { address: xsdt, entry_bytes: 8 },
            _ => {
                let rsdt = u32::from_le_bytes([rsdp[16], rsdp[17], rsdp[18], rsdp[19]]);
                Root { address: rsdt.into(), entry_bytes: 4 }
            }
        }
    }

    fn patch(&self, memory: &impl Memory) -> Result<u64, NotPatched> {
        let registers = self.patch_table(memory, b"IVRS", NotPatched::NoIvrs, announce_snp)?;
        self.patch_table(memory, b"APIC", NotPatched::NoMadt, announce_cpus)?;
        self.patch_table(memory, b"FACP", NotPatched::NoFadt, raise_version)?;
        Ok(registers)
    }

    fn patch_table<T>(
        &self,
        memory: &impl Memory,
        signature: &[u8; 4],
        missing: NotPatched,
        change: impl FnOnce(&mut [u8]) -> Result<T, NotPatched>,
    ) -> Result<T, NotPatched> {
        let (address, mut table) = self.find(memory, signature)?.ok_or(missing)?;
        let found = change(&mut table)?;
        table[CHECKSUM] = 0;
        table[CHECKSUM] = sum(&table).wrapping_neg();
        if memory.write(address, &table) {
            Ok(found)
        } else {
            Err(NotPatched::Malformed)
        }
    }

    fn find(
        &self,
        memory: &impl Memory,
        signature: &[u8; 4],
    ) -> Result<Option<(u64, Vec<u8>)>, NotPatched> {
        let root = read_table(memory, self.address)?;
        for entry in root[HEADER..].chunks_exact(self.entry_bytes) {
            let mut address = [0; 8];
            address[..self.entry_bytes].copy_from_slice(entry);
            let address = u64::from_le_bytes(address);
            let mut found = [0; 4];
            if memory.read(address, &mut found) && found == *signature {
                return Ok(Some((address, read_table(memory, address)?)));
            }
        }
        Ok(None)
    }
}

/// What every RSDP in a range of whole chunks points to. It is aligned to 16 bytes; no firmware of
/// QEMU's has one that spans the end of a chunk.
fn find_roots(memory: &impl Memory, range: Range<u64>) -> Result<Vec<Root>, NotPatched> {
    let mut roots = Vec::new();
    let mut area = vec![0; CHUNK];
    let chunks = (range.end - range.start) / CHUNK as u64;
    for start in (0..chunks).map(|n| range.start + n * CHUNK as u64) {
        if !memory.read(start, &mut area) {
            return Err(NotPatched::Malformed);
        }
        let places = (0..area.len() - HEADER).step_by(16).map(|at| &area[at..at + HEADER]);
        let found = places.filter(|rsdp| rsdp.starts_with(b"RSD PTR ") && sum(&rsdp[..20]) == 0);
        roots.extend(found.map(Root::of));
    }
    Ok(roots)
}

fn read_table(memory: &impl Memory, address: u64) -> Result<Vec<u8>, NotPatched> {
    let mut header = [0; HEADER];
    if !memory.read(address, &mut header) {
        return Err(NotPatched::Malformed);
    }
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if !(HEADER..=LONGEST).contains(&length) {
        return Err(NotPatched::Malformed);
    }
    let mut table = vec![0; length];
    if memory.read(address, &mut table) {
        Ok(table)
    } else {
        Err(NotPatched::Malformed)
    }
}

/// The eight bytes at `at`, which the caller knows to be there.
fn quadword(block: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&block[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Fake(RefCell<Vec<u8>>);

    impl Memory for Fake {
        fn read(&self, pa: u64, bytes: &mut [u8]) -> bool {
            let memory = self.0.borrow();
            let Some(found) = memory.get(pa as usize..pa as usize + bytes.len()) else {
                return false;
            };
            bytes.copy_from_slice(found);
            true
        }

        fn write(&self, pa: u64, bytes: &[u8]) -> bool {
            self.0.borrow_mut()[pa as usize..pa as usize + bytes.len()].copy_from_slice(bytes);
            true
        }
    }

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut table = vec![0; HEADER];
        table[..4].copy_from_slice(signature);
        table.extend_from_slice(body);
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        table[CHECKSUM] = sum(&table).wrapping_neg();
        table
    }

    fn ivhd(kind: u8, length: usize, efr: u64) -> Vec<u8> {
        let mut block = vec![0; length];
        block[0] = kind;
        block[2..4].copy_from_slice(&(length as u16).to_le_bytes());
        block[8..16].copy_from_slice(&REGISTERS.to_le_bytes());
        if length >= 32 {
            block[24..32].copy_from_slice(&efr.to_le_bytes());
        }
        block
    }

    /// A MADT with a local APIC, an I/O APIC and a local x2APIC, the CPUs with these flags.
    fn madt(local: u8, x2: u8) -> (u64, Vec<u8>) {
        let mut x2apic = [0; 16];
        (x2apic[0], x2apic[1], x2apic[8]) = (9, 16, x2);
        let mut io_apic = [0xff; 12];
        (io_apic[0], io_apic[1]) = (1, 12);
        let entries = [[0; 8].as_slice(), &[0, 8, 0, 0, local, 0, 0, 0], &io_apic, &x2apic];
        (MADT, table(b"APIC", &entries.concat()))
    }

    fn fadt(major: u8, minor: u8) -> (u64, Vec<u8>) {
        let mut body = [0; 208];
        body[131 - HEADER] = minor;
        let mut table = table(b"FACP", &body);
        table[REVISION] = major;
        table[CHECKSUM] = table[CHECKSUM].wrapping_sub(major);
        (FADT, table)
    }

    const MADT: u64 = 0x1c_0003;
    const FADT: u64 = 0x1d_0000;
    const EFR: u64 = 0x29d7;
    /// SNP, EPH, GIO.
    const WANTED: u64 = 0x8005_0000_0000_0000;
    const REGISTERS: u64 = 0xfed8_0000;
    /// Not aligned to 4 bytes, as in QEMU.
    const IVRS: u64 = 0x1f_0a05;

    fn ivrs(blocks: &[Vec<u8>]) -> Vec<u8> {
        table(b"IVRS", &[vec![0; 12], blocks.concat()].concat())
    }

    /// A machine with an RSDP of the given revision, pointing at a root with `entries`.
    fn machine(revision: u8, entries: &[u64], tables: &[(u64, Vec<u8>)]) -> Fake {
        let mut memory = vec![0; 0x20_0000];
        let mut put =
            |at: u64, bytes: &[u8]| memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
        let mut rsdp = [0; 36];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        rsdp[15] = revision;
        let root: Vec<u8> = if revision >= 2 {
            rsdp[24..32].copy_from_slice(&0x1e_0000u64.to_le_bytes());
            table(b"XSDT", &entries.iter().flat_map(|e| e.to_le_bytes()).collect::<Vec<_>>())
        } else {
            rsdp[16..20].copy_from_slice(&0x1e_0000u32.to_le_bytes());
            table(
                b"RSDT",
                &entries.iter().flat_map(|e| (*e as u32).to_le_bytes()).collect::<Vec<_>>(),
            )
        };
        rsdp[8] = sum(&rsdp[..20]).wrapping_neg();
        // A text that only looks like an RSDP comes first, as it may in a BIOS.
        put(0xe_0040, b"RSD PTR not");
        put(0xf_5a90, &rsdp);
        put(0x1e_0000, &root);
        for (at, bytes) in tables {
            put(*at, bytes);
        }
        Fake(RefCell::new(memory))
    }

    fn efr_at(memory: &Fake, block: usize) -> u64 {
        let at = IVRS as usize + IVRS_BLOCKS + block + IVHD_EFR;
        u64::from_le_bytes(memory.0.borrow()[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn every_feature_image_gets_the_bits_and_the_sum_is_right() {
        let blocks = [ivhd(0x10, 24, 0), ivhd(0x11, 48, EFR), ivhd(0x40, 44, EFR)];
        let length = ivrs(&blocks).len();
        for revision in [0, 2] {
            let tables = [fadt(3, 0), (IVRS, ivrs(&blocks)), madt(1, 1)];
            let memory = machine(revision, &[FADT, IVRS, MADT], &tables);
            for _ in 0..2 {
                assert_eq!(patch(&memory, BIOS_AREA), Ok(REGISTERS));
                assert_eq!(efr_at(&memory, 24), EFR | WANTED, "type 11h, revision {revision}");
                assert_eq!(efr_at(&memory, 72), EFR | WANTED, "type 40h, revision {revision}");
                assert_eq!(sum(&memory.0.borrow()[IVRS as usize..][..length]), 0);
            }
        }
    }

    /// As with UEFI, which also leaves the tables behind that it has made its own from.
    #[test]
    fn every_rsdp_in_memory_counts() {
        let blocks = [ivhd(0x11, 48, EFR)];
        let memory =
            machine(2, &[IVRS, MADT, FADT], &[(IVRS, ivrs(&blocks)), madt(1, 1), fadt(3, 0)]);
        {
            let mut bytes = memory.0.borrow_mut();
            // One without tables before it, then the right one.
            let mut stale = bytes[0xf_5a90..][..36].to_vec();
            bytes[0xf_5a90..][..36].fill(0);
            bytes[0x15_0010..][..36].copy_from_slice(&stale);
            stale[24..32].copy_from_slice(&0x17_0000u64.to_le_bytes());
            bytes[0x12_0000..][..36].copy_from_slice(&stale);
            bytes[0x17_0000..][..36].copy_from_slice(&table(b"XSDT", &[]));
        }
        assert_eq!(patch(&memory, BIOS_AREA), Err(NotPatched::NoRsdp));
        assert_eq!(patch(&memory, 0x10_0000..0x14_0000), Err(NotPatched::NoIvrs));
        assert_eq!(patch(&memory, 0x10_0000..0x18_0000), Ok(REGISTERS));
        assert_eq!(efr_at(&memory, 0), EFR | WANTED);
    }

    #[test]
    fn cpus_that_are_not_there_can_come() {
        let rows = [((0, 0), (2, 2)), ((1, 0), (1, 2)), ((2, 1), (2, 1)), ((3, 3), (3, 3))];
        for ((local, x2), expected) in rows {
            let tables = [(IVRS, ivrs(&[ivhd(0x11, 48, EFR)])), madt(local, x2), fadt(3, 0)];
            let memory = machine(2, &[IVRS, MADT, FADT], &tables);
            patch(&memory, BIOS_AREA).unwrap();
            let memory = memory.0.borrow();
            let table = &memory[MADT as usize..][..tables[1].1.len()];
            assert_eq!((table[48], table[44 + 8 + 12 + 8]), expected);
            assert_eq!(table[44 + 8..][..12], tables[1].1[44 + 8..][..12], "no CPU, not touched");
            assert_eq!(sum(table), 0);
        }
        let rows = [((3, 0), (6, 3)), ((6, 0), (6, 3)), ((6, 5), (6, 5)), ((7, 0), (7, 0))];
        for ((major, minor), expected) in rows {
            let tables = [(IVRS, ivrs(&[ivhd(0x11, 48, EFR)])), madt(1, 1), fadt(major, minor)];
            let memory = machine(2, &[IVRS, MADT, FADT], &tables);
            patch(&memory, BIOS_AREA).unwrap();
            let memory = memory.0.borrow();
            let table = &memory[FADT as usize..][..244];
            assert_eq!((table[8], table[131], sum(table)), (expected.0, expected.1, 0));
        }
    }

    #[test]
    fn what_cannot_be_patched_is_said_and_left_alone() {
        let short = ivhd(0x11, 48, EFR)[..40].to_vec();
        let mut endless = table(b"IVRS", &[0; 12]);
        endless[4..8].fill(0xff);
        let rows: Vec<(NotPatched, Fake)> = vec![
            (NotPatched::NoRsdp, Fake(RefCell::new(vec![0; 0x20_0000]))),
            (NotPatched::NoIvrs, machine(2, &[0x1d_0000], &[(0x1d_0000, table(b"FACP", &[]))])),
            (NotPatched::NoIvrs, machine(0, &[], &[])),
            (NotPatched::NoFeatures, machine(0, &[IVRS], &[(IVRS, ivrs(&[ivhd(0x10, 24, 0)]))])),
            (NotPatched::Malformed, machine(0, &[IVRS], &[(IVRS, ivrs(&[short]))])),
            (NotPatched::Malformed, machine(0, &[IVRS], &[(IVRS, endless)])),
            (NotPatched::Malformed, machine(0, &[IVRS], &[(IVRS, ivrs(&[vec![0x11, 0, 0, 0]]))])),
        ];
        for (n, (expected, memory)) in rows.into_iter().enumerate() {
            let before = memory.0.borrow().clone();
            assert_eq!(patch(&memory, BIOS_AREA), Err(expected), "row {n}");
            assert!(before == *memory.0.borrow(), "row {n} changed memory");
        }
    }
}
