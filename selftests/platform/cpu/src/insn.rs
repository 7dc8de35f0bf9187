// SPDX-License-Identifier: GPL-2.0
//! Which instructions the model looks at.

/// Where a processor starts after power-on and reset.
pub const RESET_VECTOR: u64 = 0xffff_fff0;

/// An instruction that the plugin wants to be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// CPUID.
    Cpuid,
    /// RDMSR.
    Rdmsr,
    /// WRMSR.
    Wrmsr,
    /// WBINVD.
    Wbinvd,
    /// WBNOINVD.
    Wbnoinvd,
    /// VMRUN.
    Vmrun,
    /// RMPUPDATE.
    Rmpupdate,
    /// PSMASH.
    Psmash,
    /// RMPREAD.
    Rmpread,
    /// VMGEXIT.
    Vmgexit,
    /// PVALIDATE.
    Pvalidate,
    /// RMPADJUST.
    Rmpadjust,
    /// MOV to a control register.
    MovToCr,
    /// INVLPGA.
    Invlpga,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 14] = [
        Kind::Cpuid,
        Kind::Rdmsr,
        Kind::Wrmsr,
        Kind::Wbinvd,
        Kind::Wbnoinvd,
        Kind::Vmrun,
        Kind::Rmpupdate,
        Kind::Psmash,
        Kind::Rmpread,
        Kind::Vmgexit,
        Kind::Pvalidate,
        Kind::Rmpadjust,
        Kind::MovToCr,
        Kind::Invlpga,
    ];

    /// Whether only SEV-ES and SNP guests need the model for it.
    pub fn only_in_guests(self) -> bool {
        matches!(
            self,
            Kind::Vmgexit | Kind::Pvalidate | Kind::Rmpadjust | Kind::MovToCr | Kind::Invlpga
        )
    }
}

/// An instruction that the model looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Which one.
    pub kind: Kind,
    /// Operands of [`Kind::MovToCr`]: the control register's number in the upper half, that of the
    /// general purpose register in the lower one. 0 for all others.
    pub detail: u8,
}

/// Decodes the bytes of one whole instruction; none if the model has nothing to do with it.
///
/// Encodings of the RMP instructions: the `.byte` sequences in arch/x86/virt/svm/sev.c, which has
/// them because older assemblers do not know the names.
pub fn decode(bytes: &[u8]) -> Option<Insn> {
    let (mut repeat, mut rex) = (0, 0);
    let mut rest = bytes;
    while let [prefix, tail @ ..] = rest {
        match prefix {
            0xf2 | 0xf3 => repeat = *prefix,
            // operand size, address size, segments, REX
            0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
            0x40..=0x4f => rex = *prefix,
            _ => break,
        }
        rest = tail;
    }
    let kind = match (repeat, rest) {
        (_, [0x0f, 0xa2]) => Some(Kind::Cpuid),
        (_, [0x0f, 0x32]) => Some(Kind::Rdmsr),
        (_, [0x0f, 0x30]) => Some(Kind::Wrmsr),
        (0xf3, [0x0f, 0x09]) => Some(Kind::Wbnoinvd),
        (_, [0x0f, 0x09]) => Some(Kind::Wbinvd),
        (_, [0x0f, 0x01, 0xd8]) => Some(Kind::Vmrun),
        (_, [0x0f, 0x01, 0xdf]) => Some(Kind::Invlpga),
        (0xf2, [0x0f, 0x01, 0xfe]) => Some(Kind::Rmpupdate),
        (0xf3, [0x0f, 0x01, 0xff]) => Some(Kind::Psmash),
        (0xf2, [0x0f, 0x01, 0xfd]) => Some(Kind::Rmpread),
        (0xf2 | 0xf3, [0x0f, 0x01, 0xd9]) => Some(Kind::Vmgexit),
        (0xf2, [0x0f, 0x01, 0xff]) => Some(Kind::Pvalidate),
        (0xf3, [0x0f, 0x01, 0xfe]) => Some(Kind::Rmpadjust),
        (_, [0x0f, 0x22, modrm]) => return Some(mov_to_cr(rex, *modrm)),
        _ => None,
    };
    kind.map(|kind| Insn { kind, detail: 0 })
}

/// Whether code may contain one of [`Kind`]'s instructions. It also does if such bytes are part of
/// another one.
pub fn may_contain(code: &[u8]) -> bool {
    code.windows(2).any(|pair| matches!(pair, [0x0f, 0x01 | 0x09 | 0x22 | 0x30 | 0x32 | 0xa2]))
}

/// The register form whatever the two upper bits of `modrm` say.
fn mov_to_cr(rex: u8, modrm: u8) -> Insn {
    const REX_R: u8 = 1 << 2;
    const REX_B: u8 = 1 << 0;
    let high = |bit| if rex & bit != 0 { 8 } else { 0 };
    let (cr, gpr) = ((modrm >> 3 & 7) | high(REX_R), (modrm & 7) | high(REX_B));
    Insn { kind: Kind::MovToCr, detail: cr << 4 | gpr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_in_order() {
        for (number, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number);
        }
    }

    #[test]
    fn encodings() {
        let rows: &[(&[u8], Option<Kind>)] = &[
            (&[0x0f, 0xa2], Some(Kind::Cpuid)),
            (&[0x66, 0x0f, 0xa2], Some(Kind::Cpuid)),
            (&[0x0f, 0x32], Some(Kind::Rdmsr)),
            (&[0x48, 0x0f, 0x30], Some(Kind::Wrmsr)),
            (&[0x0f, 0x09], Some(Kind::Wbinvd)),
            (&[0xf2, 0x0f, 0x09], Some(Kind::Wbinvd)),
            (&[0xf3, 0x0f, 0x09], Some(Kind::Wbnoinvd)),
            (&[0x0f, 0x01, 0xd8], Some(Kind::Vmrun)),
            (&[0x0f, 0x01, 0xdf], Some(Kind::Invlpga)),
            (&[0xf2, 0x0f, 0x01, 0xfe], Some(Kind::Rmpupdate)),
            (&[0xf3, 0x0f, 0x01, 0xff], Some(Kind::Psmash)),
            (&[0xf2, 0x0f, 0x01, 0xfd], Some(Kind::Rmpread)),
            (&[0xf3, 0x0f, 0x01, 0xfe], Some(Kind::Rmpadjust)),
            (&[0xf2, 0x0f, 0x01, 0xff], Some(Kind::Pvalidate)),
            (&[0xf3, 0x0f, 0x01, 0xd9], Some(Kind::Vmgexit)),
            // A guest instruction with a neighbouring encoding: RMPQUERY.
            (&[0xf3, 0x0f, 0x01, 0xfd], None),
            // INVLPGB, VMMCALL, SYSCALL, a LOCK prefix (#UD), rubbish.
            (&[0x0f, 0x01, 0xfe], None),
            (&[0x0f, 0x01, 0xd9], None),
            (&[0x0f, 0x05], None),
            (&[0xf0, 0x0f, 0xa2], None),
            (&[0x0f], None),
            (&[0x66], None),
            (&[], None),
        ];
        for (bytes, kind) in rows {
            assert_eq!(decode(bytes).map(|insn| insn.kind), *kind, "{bytes:02x?}");
            assert!(kind.is_none() || may_contain(bytes), "{bytes:02x?}");
        }
    }

    #[test]
    fn control_registers() {
        let rows: &[(&[u8], u8)] = &[
            (&[0x0f, 0x22, 0xc0], 0x00),
            (&[0x0f, 0x22, 0xe3], 0x43),
            (&[0x44, 0x0f, 0x22, 0xc1], 0x81),
            (&[0x45, 0x0f, 0x22, 0xc7], 0x8f),
            (&[0x41, 0x0f, 0x22, 0x18], 0x38),
        ];
        for (bytes, detail) in rows {
            let expected = Insn { kind: Kind::MovToCr, detail: *detail };
            assert_eq!(decode(bytes), Some(expected), "{bytes:02x?}");
            assert!(may_contain(bytes), "{bytes:02x?}");
        }
    }
}
