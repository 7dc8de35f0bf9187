// SPDX-License-Identifier: GPL-2.0
//! TCB versions: eight security version numbers in a word.

/// Whether no component of `tcb` is above that of `limit`. The layouts of the parts differ only
/// in which byte is which component, so a comparison byte by byte fits all.
pub(crate) fn within(tcb: u64, limit: u64) -> bool {
    tcb.to_le_bytes().iter().zip(limit.to_le_bytes()).all(|(part, limit)| *part <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_counts() {
        let limit = 0xdb14_0000_0000_0004;
        let rows = [
            (limit, true),
            (0, true),
            (0x0014_0000_0000_0004, true),
            (0xdc14_0000_0000_0004, false),
            (0x0015_0000_0000_0000, false),
            (0x0000_0000_0000_0005, false),
            (0x0000_0000_0000_0100, false),
        ];
        for (tcb, expected) in rows {
            assert_eq!(within(tcb, limit), expected, "{tcb:#018x}");
        }
    }
}
