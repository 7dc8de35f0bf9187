// SPDX-License-Identifier: GPL-2.0

//! Genoa, Bergamo and Siena (Zen 4), PCI device 0x14ca.

use super::Generation;
use crate::regs::RegisterMap;

/// Genoa, Bergamo and Siena (Zen 4), PCI device 0x14ca.
pub(crate) static V4: Generation = Generation {
    name: "pspv4",
    registers: RegisterMap {
        cmdresp: 0x10980,
        cmdbuf_lo: 0x109e0,
        cmdbuf_hi: 0x109e4,
        feature: 0x109fc,
        inten: 0x10690,
        intsts: 0x10694,
    }
    .checked(),
};
