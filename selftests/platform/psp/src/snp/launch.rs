// SPDX-License-Identifier: GPL-2.0
//! SNP_LAUNCH_START, SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH.

use rmp::PageSize;
use zerocopy::{FromBytes, IntoBytes};

use super::abi;
use super::digest::{LaunchDigest, PageInfo, PageType};
use super::guest::{Guest, State};
use super::launch_abi::{CpuidTable, IdAuth, IdBlock, Vmsa};
use super::{cpuid, id_block, secrets, POLICY_DEBUG};
use crate::call::{must_be_zero, Call, Fact};
use crate::{Config, Psp, Status};

const POLICY_SMT: u64 = 1 << 16;
const POLICY_MUST_BE_ONE: u64 = 1 << 17;
const POLICY_MIGRATE_MA: u64 = 1 << 18;
const POLICY_SINGLE_SOCKET: u64 = 1 << 20;
const POLICY_RAPL_DIS: u64 = 1 << 23;
const POLICY_CIPHERTEXT_HIDING: u64 = 1 << 24;
/// From 1.58 on (sev_get_snp_policy_bits(), sev-dev.c).
const POLICY_PAGE_SWAP_DISABLE: u64 = 1 << 25;
/// CXL_ALLOW (21) and MEM_AES_256_XTS (22) are not among the features that the model advertises.
const POLICY_KNOWN: u64 = 0xffff
    | POLICY_SMT
    | POLICY_MUST_BE_ONE
    | POLICY_MIGRATE_MA
    | POLICY_DEBUG
    | POLICY_SINGLE_SOCKET
    | POLICY_RAPL_DIS
    | POLICY_CIPHERTEXT_HIDING;

/// SEV_FEATURES (`SVM_SEV_FEAT_*` in asm/svm.h).
const FEATURE_SNP: u64 = 1 << 0;
const FEATURE_SECURE_TSC: u64 = 1 << 9;

/// Migration agents and migration images are not modelled: asking for one is INVALID_PARAM.
pub(crate) fn start(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::LaunchStart = call.request();
    let (gctx, policy) = (call.address(request.gctx), request.policy.get());
    call.fact("policy", Fact::Number(policy));
    let may = policy_allows(psp, policy)?;
    let known = POLICY_KNOWN
        | if psp.firmware.current.api.has_page_swap_disable() {
            POLICY_PAGE_SWAP_DISABLE
        } else {
            0
        };
    let (tcb, mitigations) = (psp.firmware.current.tcb, psp.snp.mitigations_verified);
    let guest = psp.guest(call, gctx)?;
    if guest.state != State::Init {
        return Err(Status::InvalidGuestState);
    }
    if request.flags != 0 || policy & !known != 0 || policy & POLICY_MUST_BE_ONE == 0 {
        return Err(Status::InvalidParam);
    }
    if !may {
        return Err(Status::PolicyFailure);
    }
    guest.state = State::Launch;
    guest.policy = policy;
    guest.digest = LaunchDigest::START;
    guest.tsc_khz = request.desired_tsc_khz.get();
    guest.gosvw = request.gosvw;
    guest.launch_tcb = tcb;
    guest.launch_mitigations = mitigations;
    Ok(())
}

/// Whether the platform is what the guest's owner asks for.
fn policy_allows(psp: &mut Psp, policy: u64) -> Result<bool, Status> {
    let (api, smt) = (psp.firmware.current.api, psp.config.smt);
    let running = psp.running()?;
    let wanted = ((policy >> 8) as u8, policy as u8);
    Ok(wanted <= (api.major, api.minor)
        && (policy & POLICY_SMT != 0 || !smt)
        && (policy & POLICY_RAPL_DIS == 0 || running.rapl_disabled)
        && (policy & POLICY_CIPHERTEXT_HIDING == 0 || running.ciphertext_hiding))
}

/// A page of the guest is measured and becomes its own. On any failure it stays Pre-Guest.
pub(crate) fn update(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    let request: abi::LaunchUpdate = call.request();
    let (gctx, pa) = (call.address(request.gctx), call.address(request.address));
    let flags = request.flags.get();
    call.fact("page", Fact::Address(pa));
    let config = psp.config.clone();
    let guest = psp.guest(call, gctx)?;
    if guest.state != State::Launch {
        return Err(Status::InvalidGuestState);
    }
    if guest.asid == 0 {
        return Err(Status::Inactive);
    }
    let page_type = well_formed(&request)?;
    let size = if flags & 1 == 0 { PageSize::Size4K } else { PageSize::Size2M };
    call.fact("page_type", Fact::Word(page_type.name()));

    let checked = call.rmp()?.pre_guest(pa, guest.asid, size);
    let gpa = checked.map_err(|refusal| call.refused(pa, refusal))?.gpa();
    call.fact("gpa", Fact::Address(gpa));
    let given = call.read(pa, size.bytes())?;
    let content = match content(&config, guest, page_type, size, given)? {
        Content::Good(content) => content,
        Content::Corrected(content) => {
            // The host may tell the guest's owner what would have been taken.
            call.platform.write(pa, &content);
            return Err(Status::InvalidParam);
        }
    };
    let [vmpl1, vmpl2, vmpl3] = request.vmpl_perms;
    let upper = u64::from(u32::from_le_bytes([0, vmpl1, vmpl2, vmpl3]));
    let vmsa = (page_type == PageType::Vmsa).then(|| Vmsa::ref_from_bytes(&content).ok()).flatten();
    let launched = call.rmp()?.launch(pa, guest.asid, size, vmsa.is_some(), upper);
    launched.map_err(|refusal| call.refused(pa, refusal))?;
    if let Some(vmsa) = vmsa {
        guest.secure_tsc |= vmsa.sev_features.get() & FEATURE_SECURE_TSC != 0;
        if let Some(oddity) = odd(vmsa) {
            call.report(oddity, pa);
        }
    }
    // Not encrypted: the model keeps plain text. The page is the command's own, it was Pre-Guest.
    call.platform.write(pa, &content);
    measure(guest, page_type, request.vmpl_perms, gpa, &content);
    let digest = guest.digest.bytes().to_vec();
    call.fact("digest", Fact::Bytes(digest));
    Ok(())
}

/// A 2 MiB page counts as 512 pages in sequence (model choice; KVM launches none).
fn measure(guest: &mut Guest, page_type: PageType, vmpl_perms: [u8; 3], gpa: u64, content: &[u8]) {
    for (n, content) in content.chunks(0x1000).enumerate() {
        let gpa = gpa + ((n as u64) << 12);
        guest.digest.extend(&PageInfo { page_type, imi: false, vmpl_perms, gpa, content });
    }
}

/// Checks what the request says by itself. An initial migration image is not modelled.
fn well_formed(request: &abi::LaunchUpdate) -> Result<PageType, Status> {
    must_be_zero(&request.reserved)?;
    must_be_zero(&request.reserved2)?;
    must_be_zero(&request.reserved3)?;
    // Read, write, execute user, execute supervisor. The CPU has no supervisor shadow stacks for
    // VMPLs, so their bit is reserved, too.
    if request.vmpl_perms.iter().any(|perms| *perms & !0x0f != 0) {
        return Err(Status::InvalidParam);
    }
    let flags = request.flags.get();
    let page_type = PageType::from_number((flags >> 1) & 7).filter(|_| flags >> 4 == 0);
    page_type.ok_or(Status::InvalidParam)
}

/// What a VMSA has that no SNP guest can run with. What firmware answers is not public, so it takes
/// the page, and the host is reported (model choice).
fn odd(vmsa: &Vmsa) -> Option<&'static str> {
    const EFER_SVME: u64 = 1 << 12;
    [
        (vmsa.sev_features.get() & FEATURE_SNP == 0, "VMSA without SNP in SEV_FEATURES"),
        (vmsa.efer.get() & EFER_SVME == 0, "VMSA without SVME in EFER"),
        (vmsa.vmpl > 3, "VMSA of a VMPL that there is not"),
    ]
    .into_iter()
    .find_map(|(odd, what)| odd.then_some(what))
}

/// What becomes of a launch page.
enum Content {
    /// This, and it is the guest's.
    Good(Vec<u8>),
    /// This is what would have been taken.
    Corrected(Vec<u8>),
}

/// What is in the page then. The host has given `given`.
fn content(
    config: &Config,
    guest: &Guest,
    page_type: PageType,
    size: PageSize,
    given: Vec<u8>,
) -> Result<Content, Status> {
    Ok(Content::Good(match (page_type, size) {
        (PageType::Normal | PageType::Unmeasured, _) => given,
        (PageType::Zero, _) => vec![0; given.len()],
        (_, PageSize::Size2M) => return Err(Status::InvalidPageSize),
        (PageType::Vmsa, _) => given,
        (PageType::Secrets, _) => {
            secrets::page(config.seed, guest.serial, &guest.gosvw).as_bytes().to_vec()
        }
        (PageType::Cpuid, _) => {
            let (table, rest) =
                CpuidTable::read_from_prefix(&given).map_err(|_| Status::InvalidParam)?;
            match cpuid::check(config, &table)? {
                None => given,
                Some(better) => {
                    return Ok(Content::Corrected([better.as_bytes(), rest].concat()));
                }
            }
        }
    }))
}

/// The launch is complete, and what was launched is what the owner has signed, if he has.
pub(crate) fn finish(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    const ID_BLOCK_EN: u64 = 1;
    const AUTH_KEY_EN: u64 = 2;
    const VCEK_DISABLED: u64 = 4;
    let request: abi::LaunchFinish = call.request();
    let (block, auth) = (call.address(request.id_block), call.address(request.id_auth));
    let (gctx, flags) = (call.address(request.gctx), request.flags.get());
    let guest = psp.guest(call, gctx)?;
    if guest.state != State::Launch {
        return Err(Status::InvalidGuestState);
    }
    let digest = *guest.digest.bytes();
    call.fact("digest", Fact::Bytes(digest.to_vec()));
    let known = flags & !(ID_BLOCK_EN | AUTH_KEY_EN | VCEK_DISABLED) == 0;
    if !known || (flags & AUTH_KEY_EN != 0 && flags & ID_BLOCK_EN == 0) {
        return Err(Status::InvalidParam);
    }
    if flags & ID_BLOCK_EN != 0 {
        let (block, auth): (IdBlock, IdAuth) = (call.read_as(block)?, call.read_as(auth)?);
        let author = flags & AUTH_KEY_EN != 0;
        guest.id_block = Some(id_block::check(&block, &auth, author, &digest, guest.policy)?);
    }
    guest.host_data = request.host_data;
    guest.vcek_disabled = flags & VCEK_DISABLED != 0;
    guest.state = State::Running;
    Ok(())
}
