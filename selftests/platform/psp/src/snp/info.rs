// SPDX-License-Identifier: GPL-2.0
//! What the platform says about itself.

use zerocopy::IntoBytes;

use super::abi;
use crate::call::{must_be_zero, Call, Fact};
use crate::{Psp, Status};

pub(super) const X86_SNP_SHUTDOWN: u32 = 1 << 1;
const RAPL_DIS: u32 = 1 << 2;
pub(super) const CIPHERTEXT_HIDING: u32 = 1 << 3;
const VERIFY_MITIGATION: u32 = 1 << 13;

/// Mitigations that the model knows (it has nothing to mitigate; the numbers are arbitrary).
const MITIGATIONS: u64 = 0b11;

/// In INIT the page must be Firmware; success leaves it Reclaim, so the caller needs
/// no PAGE_RECLAIM, and failure leaves it Firmware (sev-dev.c relies on both).
pub(crate) fn platform_status(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::PlatformStatus = call.request();
    let pa = call.address(request.address);
    let place = call.output_in_page(pa, size_of::<abi::PlatformStatusAnswer>() as u64)?;
    let snp = &psp.snp;
    let flags = u32::from(snp.mask_chip_id)
        | (u32::from(snp.mask_chip_key) << 1)
        | (u32::from(snp.vlek.is_some()) << 2)
        | (u32::from(psp.firmware.current.api.has_feature_info()) << 3)
        | (u32::from(snp.running.as_ref().is_some_and(|r| r.rapl_disabled)) << 4)
        | (u32::from(features(psp) & CIPHERTEXT_HIDING != 0) << 5)
        | (u32::from(snp.running.as_ref().is_some_and(|r| r.ciphertext_hiding)) << 6);
    let guests = snp.running.as_ref().map_or(0, |running| running.guests.len());
    let answer = abi::PlatformStatusAnswer {
        api_major: psp.firmware.current.api.major,
        api_minor: psp.firmware.current.api.minor,
        state: snp.running.is_some().into(),
        // Alias check complete: the BIOS has verified that no two addresses reach the same memory,
        // which holds for RAM that is one file.
        rmp_flags: u8::from(snp.running.is_some()) | (1 << 1),
        build: u32::from(psp.firmware.current.api.build).into(),
        flags: flags.into(),
        guest_count: (guests as u32).into(),
        current_tcb: psp.firmware.current.tcb.into(),
        reported_tcb: psp.reported_tcb().into(),
    };
    call.write(place, answer.as_bytes());
    if let Some(rmp) = &call.rmp {
        let page = pa & !0xfff;
        rmp.hand_back(page).map_err(|refusal| call.refused(page, refusal))?;
    }
    Ok(())
}

/// CPUID Fn8000_0024. Only sub-leaf 0 exists.
pub(crate) fn feature_info(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if !psp.firmware.current.api.has_feature_info() {
        return Err(Status::InvalidCommand);
    }
    let request: abi::FeatureInfo = call.request();
    call.whole(request.length)?;
    if request.ecx_in != 0 {
        return Err(Status::InvalidParam);
    }
    let address = call.address(request.address);
    let place = call.output_in_page(address, size_of::<abi::FeatureInfoAnswer>() as u64)?;
    let zero = 0.into();
    let answer =
        abi::FeatureInfoAnswer { eax: zero, ebx: zero, ecx: features(psp).into(), edx: zero };
    call.write(place, answer.as_bytes());
    Ok(())
}

/// ECX of sub-leaf 0: what the model does, and no more.
pub(super) fn features(psp: &Psp) -> u32 {
    if !psp.firmware.current.api.has_feature_info() {
        return 0;
    }
    let x86 = if psp.config.x86_shutdown { X86_SNP_SHUTDOWN } else { 0 };
    x86 | RAPL_DIS | CIPHERTEXT_HIDING | VERIFY_MITIGATION
}

/// Status of the mitigations (subcommand 0), or the verification of one (1).
pub(crate) fn verify_mitigation(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    const DST_EN: u32 = 1;
    if features(psp) & VERIFY_MITIGATION == 0 {
        return Err(Status::InvalidCommand);
    }
    call.rmp()?;
    let request: abi::VerifyMitigation = call.request();
    call.whole(request.length)?;
    must_be_zero(&request.reserved)?;
    must_be_zero(&request.reserved2)?;
    must_be_zero(&request.reserved3)?;
    let vector = request.vector.get();
    // A source is for mitigations that take an argument; the model has none.
    if request.flags != DST_EN {
        return Err(Status::InvalidParam);
    }
    let address = call.address(request.dst);
    let place = call.output_in_page(address, size_of::<abi::VerifyMitigationAnswer>() as u64)?;
    let failure = match request.subcommand.get() {
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
    let answer = abi::VerifyMitigationAnswer {
        verified: psp.snp.mitigations_verified.into(),
        supported: MITIGATIONS.into(),
        failure: failure.into(),
    };
    call.write(place, answer.as_bytes());
    Ok(())
}
