// SPDX-License-Identifier: GPL-2.0

//! Naples (Zen 1), PCI device 0x1456.

use super::Generation;
use crate::regs::RegisterMap;

/// Naples (Zen 1), PCI device 0x1456.
pub(crate) static V1: Generation = Generation {
    name: "pspv1",
    registers: RegisterMap {
        cmdresp: 0x10580,
        cmdbuf_lo: 0x105e0,
        cmdbuf_hi: 0x105e4,
        feature: 0x105fc,
        inten: 0x10610,
        intsts: 0x10614,
    }
    .checked(),
};
