// SPDX-License-Identifier: GPL-2.0

//! Turin (Zen 5) and later, PCI devices 0x156e and 0x17d8.

use super::Generation;
use crate::regs::RegisterMap;

/// Turin (Zen 5) and later, PCI devices 0x156e and 0x17d8.
pub(crate) static V6: Generation = Generation {
    name: "pspv6",
    registers: RegisterMap {
        cmdresp: 0x10980,
        cmdbuf_lo: 0x109e0,
        cmdbuf_hi: 0x109e4,
        feature: 0x109fc,
        inten: 0x10510,
        intsts: 0x10514,
    }
    .checked(),
};
