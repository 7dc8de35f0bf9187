// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space.
//!
//! QEMU takes identity, BAR types and capabilities from here; it emulates BAR addresses, the
//! command register and the MSI(-X) tables itself, so what it writes is merely stored.

use crate::cli::Irq;
use crate::generation::Generation;

pub const SIZE: usize = 0x1000;

/// BAR 2: 64-bit, registers.
pub const BAR2_SIZE: u64 = 1 << 20;
/// BAR 5: 32-bit, MSI-X table and pending bits.
pub const BAR5_SIZE: u64 = 8 << 10;

const VECTORS: u16 = 2;

const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAP_PM: u8 = 0x01;
const CAP_MSI: u8 = 0x05;
const CAP_MSIX: u8 = 0x11;
const CAP_EXP: u8 = 0x10;

/// Power management control and status, of which the lowest two bits are the power state.
const PMCSR: usize = 0x44;
const PM_STATE: u8 = 3;
const D0: u8 = 0;
const D3HOT: u8 = 3;

const BAR_MEM_64: u32 = 0x4;

pub struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
}

impl ConfigSpace {
    pub fn new(generation: Generation, irq: Irq) -> ConfigSpace {
        let mut config = ConfigSpace { bytes: Box::new([0; SIZE]) };
        config.put16(0x00, 0x1022);
        config.put16(0x02, generation.device_id());
        config.bytes[0x0b] = 0x10; // class 1080: encryption controller
        config.bytes[0x0a] = 0x80;
        config.put16(0x2c, 0x1022);
        config.put16(0x2e, generation.device_id());
        config.put32(0x18, BAR_MEM_64); // BAR 2 and 3
        config.put16(0x06, STATUS_CAPABILITIES);
        config.bytes[0x34] = 0x40;
        config.capability(0x40, CAP_PM, 0x50, &[0x03, 0, 0, 0, 0, 0]);
        // PCI Express endpoint, version 2.
        let after = if irq == Irq::None { 0 } else { 0xa0 };
        config.capability(0x50, CAP_EXP, after, &[0x02, 0x00]);
        match irq {
            Irq::Msix => {
                config.capability(0xa0, CAP_MSIX, 0, &[]);
                config.put16(0xa2, VECTORS - 1);
                config.put32(0xa4, 5); // table at 0 of BAR 5
                config.put32(0xa8, 0x1000 | 5); // pending bits at 0x1000
            }
            Irq::Msi => {
                config.capability(0xa0, CAP_MSI, 0, &[]);
                config.put16(0xa2, 0x0080); // 64-bit address, one vector
            }
            Irq::None => {}
        }
        config
    }

    /// Number of vectors of the capability.
    pub const fn vectors(irq: Irq) -> u32 {
        match irq {
            Irq::Msix => VECTORS as u32,
            Irq::Msi => 1,
            Irq::None => 0,
        }
    }

    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (n, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(offset as usize + n).copied().unwrap_or(0xff);
        }
    }

    /// Says whether this resets the function: it comes back from D3hot, and has no No_Soft_Reset.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        let asleep = self.bytes[PMCSR] & PM_STATE == D3HOT;
        for (n, byte) in data.iter().enumerate() {
            if let Some(place) = self.bytes.get_mut(offset as usize + n) {
                *place = *byte;
            }
        }
        asleep && self.bytes[PMCSR] & PM_STATE == D0
    }

    fn capability(&mut self, at: usize, id: u8, next: u8, body: &[u8]) {
        self.bytes[at] = id;
        self.bytes[at + 1] = next;
        self.bytes[at + 2..at + 2 + body.len()].copy_from_slice(body);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(config: &ConfigSpace) -> Vec<u8> {
        let mut found = Vec::new();
        let mut at = config.bytes[0x34] as usize;
        while at != 0 && found.len() < 10 {
            found.push(config.bytes[at]);
            at = config.bytes[at + 1] as usize;
        }
        found
    }

    #[test]
    fn the_interrupt_capability_is_the_one_asked_for() {
        let rows = [
            (Irq::Msix, vec![CAP_PM, CAP_EXP, CAP_MSIX]),
            (Irq::Msi, vec![CAP_PM, CAP_EXP, CAP_MSI]),
            (Irq::None, vec![CAP_PM, CAP_EXP]),
        ];
        for (irq, expected) in rows {
            assert_eq!(
                capabilities(&ConfigSpace::new(Generation::Id1486, irq)),
                expected,
                "{irq:?}"
            );
        }
    }

    #[test]
    fn coming_back_from_d3hot_is_a_reset() {
        let mut config = ConfigSpace::new(Generation::Id1486, Irq::Msix);
        assert_eq!(
            [0, 3, 3, 0, 0].map(|state| config.write(0x44, &[state, 0])),
            [false, false, false, true, false]
        );
        assert!(!config.write(0x44, &[3]) && !config.write(0x04, &[6]) && config.write(0x44, &[0]));
    }

    #[test]
    fn accesses_beyond_the_end_are_harmless() {
        let mut config = ConfigSpace::new(Generation::Id14ca, Irq::Msix);
        let mut data = [0; 4];
        config.read(0, &mut data);
        assert_eq!(data, [0x22, 0x10, 0xca, 0x14]);
        config.read(0xffe, &mut data);
        assert_eq!(data[2..], [0xff, 0xff]);
        config.write(0xffe, &[1, 2, 3, 4]);
    }
}
