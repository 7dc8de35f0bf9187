// SPDX-License-Identifier: GPL-2.0

//! Rome and Milan (Zen 2, Zen 3), PCI device 0x1486.

use super::Generation;
use crate::regs::RegisterMap;

/// Rome and Milan (Zen 2, Zen 3), PCI device 0x1486.
pub(crate) static V2: Generation = Generation {
    name: "pspv2",
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
