// SPDX-License-Identifier: GPL-2.0
//! Which instructions the model looks at.

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
    /// WBINVD or WBNOINVD; nothing distinguishes them here.
    Wbinvd,
    /// VMRUN.
    Vmrun,
    /// RMPUPDATE.
    Rmpupdate,
    /// PSMASH.
    Psmash,
    /// RMPREAD.
    Rmpread,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 8] = [
        Kind::Cpuid,
        Kind::Rdmsr,
        Kind::Wrmsr,
        Kind::Wbinvd,
        Kind::Vmrun,
        Kind::Rmpupdate,
        Kind::Psmash,
        Kind::Rmpread,
    ];
}

/// Decodes the bytes of one whole instruction; none if the model has nothing to do with it.
///
/// Encodings of the RMP instructions: the `.byte` sequences in arch/x86/virt/svm/sev.c, which has
/// them because older assemblers do not know the names.
pub fn decode(bytes: &[u8]) -> Option<Kind> {
    let mut repeat = 0;
    let mut rest = bytes;
    while let [prefix, tail @ ..] = rest {
        match prefix {
            0xf2 | 0xf3 => repeat = *prefix,
            // operand size, address size, segments, REX
            0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64 | 0x65 => {}
            _ => break,
        }
        rest = tail;
    }
    match (repeat, rest) {
        (_, [0x0f, 0xa2]) => Some(Kind::Cpuid),
        (_, [0x0f, 0x32]) => Some(Kind::Rdmsr),
        (_, [0x0f, 0x30]) => Some(Kind::Wrmsr),
        (_, [0x0f, 0x09]) => Some(Kind::Wbinvd),
        (_, [0x0f, 0x01, 0xd8]) => Some(Kind::Vmrun),
        (0xf2, [0x0f, 0x01, 0xfe]) => Some(Kind::Rmpupdate),
        (0xf3, [0x0f, 0x01, 0xff]) => Some(Kind::Psmash),
        (0xf2, [0x0f, 0x01, 0xfd]) => Some(Kind::Rmpread),
        _ => None,
    }
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
            (&[0xf3, 0x0f, 0x09], Some(Kind::Wbinvd)),
            (&[0x0f, 0x01, 0xd8], Some(Kind::Vmrun)),
            (&[0xf2, 0x0f, 0x01, 0xfe], Some(Kind::Rmpupdate)),
            (&[0xf3, 0x0f, 0x01, 0xff], Some(Kind::Psmash)),
            (&[0xf2, 0x0f, 0x01, 0xfd], Some(Kind::Rmpread)),
            // Guest instructions with neighbouring encodings: RMPADJUST, PVALIDATE, RMPQUERY.
            (&[0xf3, 0x0f, 0x01, 0xfe], None),
            (&[0xf2, 0x0f, 0x01, 0xff], None),
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
            assert_eq!(decode(bytes), *kind, "{bytes:02x?}");
        }
    }
}
