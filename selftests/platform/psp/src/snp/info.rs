// SPDX-License-Identifier: GPL-2.0
//! What the platform says about itself.

use crate::call::{Call, Fact};
use crate::{Psp, Status};

pub(super) const X86_SNP_SHUTDOWN: u32 = 1 << 1;
const RAPL_DIS: u32 = 1 << 2;
pub(super) const CIPHERTEXT_HIDING: u32 = 1 << 3;
const VERIFY_MITIGATION: u32 = 1 << 13;

/// Mitigations that the model knows (it has nothing to mitigate; the numbers are arbitrary).
const MITIGATIONS: u64 = 0b11;

/// `{address}`. In INIT the page must be Firmware; success leaves it Reclaim, so the caller needs
/// no PAGE_RECLAIM, and failure leaves it Firmware (sev-dev.c relies on both).
pub(crate) fn platform_status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let pa = call.pa(0);
    let place = call.output_in_page(pa, 32)?;
    let snp = &psp.snp;
    let flags = u32::from(snp.mask_chip_id)
        | (u32::from(snp.mask_chip_key) << 1)
        | (u32::from(snp.vlek.is_some()) << 2)
        | (u32::from(psp.config.has_feature_info()) << 3)
        | (u32::from(snp.running.as_ref().is_some_and(|r| r.rapl_disabled)) << 4)
        | (u32::from(features(psp) & CIPHERTEXT_HIDING != 0) << 5)
        | (u32::from(snp.running.as_ref().is_some_and(|r| r.ciphertext_hiding)) << 6);
    let guests = snp.running.as_ref().map_or(0, |running| running.guests.len());
    let mut out = [0; 32];
    out[0] = psp.config.api.major;
    out[1] = psp.config.api.minor;
    out[2] = snp.running.is_some().into();
    // Bit 1, alias check complete: the BIOS has verified that no two addresses reach the same
    // memory, which holds for RAM that is one file.
    out[3] = u8::from(snp.running.is_some()) | (1 << 1);
    out[4..8].copy_from_slice(&u32::from(psp.config.api.build).to_le_bytes());
    out[8..12].copy_from_slice(&flags.to_le_bytes());
    out[12..16].copy_from_slice(&(guests as u32).to_le_bytes());
    out[16..24].copy_from_slice(&snp.current_tcb.to_le_bytes());
    out[24..32].copy_from_slice(&snp.reported_tcb().to_le_bytes());
    call.write(place, &out);
    if let Some(rmp) = &call.rmp {
        let page = pa & !0xfff;
        rmp.hand_back(page).map_err(|refusal| call.refused(page, refusal))?;
    }
    Ok(())
}

/// `{length, ecx_in, address}`: CPUID Fn8000_0024. Only sub-leaf 0 exists.
pub(crate) fn feature_info(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if !psp.config.has_feature_info() {
        return Err(Status::InvalidCommand);
    }
    if call.u32(0) != call.buffer.len() as u32 {
        return Err(Status::InvalidLen);
    }
    if call.u32(4) != 0 {
        return Err(Status::InvalidParam);
    }
    let place = call.output_in_page(call.pa(8), 16)?;
    let mut out = [0; 16];
    out[8..12].copy_from_slice(&features(psp).to_le_bytes());
    call.write(place, &out);
    Ok(())
}

/// ECX of sub-leaf 0: what the model does, and no more.
pub(super) fn features(psp: &Psp) -> u32 {
    if !psp.config.has_feature_info() {
        return 0;
    }
    let x86 = if psp.config.x86_shutdown { X86_SNP_SHUTDOWN } else { 0 };
    x86 | RAPL_DIS | CIPHERTEXT_HIDING | VERIFY_MITIGATION
}

/// `{length, subcommand u16, reserved, vector, flags {0 dst_en, 1 src_en}, reserved, src, dst}`.
/// The answer is `{verified u64, supported u64, failure u32}`.
pub(crate) fn verify_mitigation(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    const DST_EN: u32 = 1;
    if features(psp) & VERIFY_MITIGATION == 0 {
        return Err(Status::InvalidCommand);
    }
    call.rmp()?;
    if call.u32(0) != call.buffer.len() as u32 {
        return Err(Status::InvalidLen);
    }
    call.reserved(6..8)?;
    call.reserved(20..24)?;
    call.reserved(40..64)?;
    let (subcommand, vector, flags) =
        (u16::from_le_bytes(call.array(4)), call.u64(8), call.u32(16));
    // A source is for mitigations that take an argument; the model has none.
    if flags != DST_EN {
        return Err(Status::InvalidParam);
    }
    let place = call.output_in_page(call.pa(32), 20)?;
    let failure = match subcommand {
        0 => 0u32,
        1 if vector.count_ones() != 1 => return Err(Status::InvalidParam),
        1 if vector & MITIGATIONS == 0 => 1,
        1 => {
            psp.snp.mitigations_verified |= vector;
            0
        }
        _ => return Err(Status::InvalidParam),
    };
    call.fact("mitigation", Fact::Number(vector));
    let mut out = [0; 20];
    out[..8].copy_from_slice(&psp.snp.mitigations_verified.to_le_bytes());
    out[8..16].copy_from_slice(&MITIGATIONS.to_le_bytes());
    out[16..].copy_from_slice(&failure.to_le_bytes());
    call.write(place, &out);
    Ok(())
}
