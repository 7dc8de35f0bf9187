// SPDX-License-Identifier: GPL-2.0
//! SNP_INIT, SNP_INIT_EX, SNP_SHUTDOWN, SNP_SHUTDOWN_EX, SNP_DF_FLUSH.

use std::collections::BTreeMap;

use rmp::{Geometry, Rmp, State, CFG_SEGMENTED};
use zerocopy::FromBytes;

use super::{abi, info, Running};
use crate::call::{must_be_zero, Call, Fact};
use crate::{CpuRegisters, Psp, Status};

const INIT_RMP: u32 = 1 << 0;
const LIST_PADDR_EN: u32 = 1 << 1;
const RAPL_DIS: u32 = 1 << 2;
const CIPHERTEXT_HIDING_EN: u32 = 1 << 3;

const IOMMU_SNP_SHUTDOWN: u32 = 1 << 0;
const X86_SNP_SHUTDOWN: u32 = 1 << 1;

/// A run of pages that is to become HV-Fixed.
struct Range {
    base: u64,
    pages: u64,
}

/// SNP_INIT: as INIT_EX with INIT_RMP and nothing else.
pub(crate) fn init(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    start(psp, call, INIT_RMP, &[], 0)
}

/// SNP_INIT_EX: the flags, the HV-Fixed list and the split of the ASIDs are the host's.
pub(crate) fn init_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    if !psp.firmware.current.api.has_init_ex() {
        return Err(Status::InvalidCommand);
    }
    let request: abi::InitEx = call.request();
    must_be_zero(&request.reserved)?;
    must_be_zero(&request.reserved2)?;
    let flags = request.flags.get();
    let list = call.address(request.list);
    let ranges = if flags & LIST_PADDR_EN != 0 { ranges(call, list)? } else { Vec::new() };
    start(psp, call, flags, &ranges, request.max_snp_asid.get().into())
}

/// The list page at `pa`.
fn ranges(call: &mut Call<'_>, pa: u64) -> Result<Vec<Range>, Status> {
    if pa % 0x1000 != 0 {
        return Err(Status::InvalidAddress);
    }
    let page = call.read(pa, 0x1000)?;
    let parsed = abi::RangeList::read_from_prefix(&page).ok();
    let (list, rest) = parsed.ok_or(Status::InvalidParam)?;
    let all = rest.chunks_exact(size_of::<abi::Range>());
    let count = list.count.get() as usize;
    if count > all.len() || list.reserved != 0 {
        return Err(Status::InvalidParam);
    }
    let range = |bytes: &[u8]| {
        let range = abi::Range::read_from_bytes(bytes).map_err(|_| Status::InvalidParam)?;
        let base = range.base.get();
        if base % 0x1000 != 0 || range.reserved != 0 {
            return Err(Status::InvalidParam);
        }
        Ok(Range { base, pages: range.page_count.get().into() })
    };
    all.take(count).map(range).collect()
}

fn start(
    psp: &mut Psp,
    call: &mut Call<'_>,
    flags: u32,
    ranges: &[Range],
    max_snp_asid: u32,
) -> Result<(), Status> {
    if psp.snp.running.is_some() || psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    // SEV-TIO (bit 4) is not modelled and not advertised, so asking for it is an error.
    if flags & !(INIT_RMP | LIST_PADDR_EN | RAPL_DIS | CIPHERTEXT_HIDING_EN) != 0 {
        return Err(Status::InvalidParam);
    }
    let hiding = flags & CIPHERTEXT_HIDING_EN != 0;
    let limit = psp.config.min_sev_asid - 1;
    if hiding && info::features(psp) & info::CIPHERTEXT_HIDING == 0 {
        return Err(Status::InvalidParam);
    }
    let max_asid = match (hiding, max_snp_asid) {
        (true, 1..) if max_snp_asid <= limit => max_snp_asid,
        (false, 0) => limit,
        _ => return Err(Status::InvalidParam),
    };
    let geometry = check_machine(psp, call)?;
    if flags & INIT_RMP == 0 && !psp.snp.rmp_initialised {
        return Err(Status::RmpInitRequired);
    }
    let rmp = Rmp::new(geometry.clone(), call.platform);
    fix_pages(call, &rmp, ranges, flags & INIT_RMP != 0)?;
    let iommu_pages = call.platform.iommu_pages();
    call.fact("iommu", Fact::Text(runs(&iommu_pages)));
    for page in &iommu_pages {
        rmp.take(*page).map_err(|refusal| call.refused(*page, refusal))?;
    }

    call.platform.set_snp_active(true);
    psp.snp.rmp_initialised = true;
    psp.snp.running = Some(Running {
        geometry,
        max_asid,
        ciphertext_hiding: hiding,
        rapl_disabled: flags & RAPL_DIS != 0,
        iommu_pages,
        guests: BTreeMap::new(),
        serial: 0,
    });
    psp.asids.initialised(call.platform, true);
    Ok(())
}

/// Pages in short: address and length of each run.
fn runs(pages: &[u64]) -> String {
    let runs = pages.chunk_by(|page, next| page + 0x1000 == *next);
    let text = runs.map(|run| format!("{:#x}+{:#x}", run[0], run.len() << 12));
    text.collect::<Vec<_>>().join(" ")
}

/// The settings that firmware verifies on every CPU and in the IOMMU: those that snp_prepare() of
/// arch/x86/virt/svm/sev.c makes, and those that a BIOS must have made alike on all CPUs. (That
/// memory types are compared is known from INVALID_CONFIG reports; which of the MSRs are is a model
/// choice.) The trace says which one was wrong.
fn check_machine(psp: &Psp, call: &mut Call<'_>) -> Result<Geometry, Status> {
    let cpus = call.platform.cpus();
    let complaint = if psp.config.checks { complaint(call, &cpus) } else { None };
    let word = |pa| {
        let mut bytes = [0; 8];
        call.platform.is_ram(pa, 8).then(|| call.platform.read(pa, &mut bytes))?;
        Some(u64::from_le_bytes(bytes))
    };
    let geometry = match (complaint, cpus.first()) {
        (None, Some(cpu)) => {
            let is_ram = |range: std::ops::Range<u64>| {
                call.platform.is_ram(range.start, range.end - range.start)
            };
            Geometry::from_registers(cpu.rmp_base, cpu.rmp_end, cpu.rmp_cfg, word)
                .ok()
                .filter(|geometry| geometry.ranges().all(is_ram))
        }
        _ => None,
    };
    geometry.ok_or_else(|| {
        call.fact("wrong", Fact::Word(complaint.unwrap_or("RMP_BASE/RMP_END describe no RAM")));
        Status::InvalidConfig
    })
}

fn complaint(call: &Call<'_>, cpus: &[CpuRegisters]) -> Option<&'static str> {
    let Some(first) = cpus.first() else {
        return Some("no CPU known");
    };
    let differ =
        |value: fn(&CpuRegisters) -> u64| cpus.iter().any(|cpu| value(cpu) != value(first));
    // Processors take multiples of 8 KiB, firmware of 1 MiB (the manual's notes refer to firmware's
    // specification; the tables of real machines are at 1 MiB, AMDSEV issue 245). RMP_END says
    // nothing of segments.
    const ALIGNMENT: u64 = 1 << 20;
    let misplaced = |cpu: &CpuRegisters| {
        let end = if cpu.rmp_cfg & CFG_SEGMENTED == 0 { cpu.rmp_end.wrapping_add(1) } else { 0 };
        cpu.rmp_base % ALIGNMENT != 0 || end % ALIGNMENT != 0
    };
    let rules = [
        (cpus.iter().any(|cpu| !cpu.snp_en()), "SYSCFG.SNP_EN clear"),
        (cpus.iter().any(|cpu| !cpu.mfdm()), "SYSCFG.MFDM clear"),
        (cpus.iter().any(|cpu| cpu.hsave_pa != 0), "VM_HSAVE_PA not 0"),
        (cpus.iter().any(|cpu| !cpu.smm_lock()), "HWCR.SmmLock clear"),
        (!call.platform.iommu_snp(), "IOMMU without SNP"),
        (differ(CpuRegisters::encryption_and_vmpls), "SYSCFG.MEM_ENCRYPT/VMPL_EN differ"),
        (differ(|cpu| cpu.rmp_base) || differ(|cpu| cpu.rmp_end), "RMP_BASE/RMP_END differ"),
        (differ(|cpu| cpu.rmp_cfg), "RMP_CFG differs"),
        (cpus.iter().any(misplaced), "RMP_BASE or RMP_END not at 1 MiB"),
    ];
    let types = |cpu: &CpuRegisters| {
        let differs = |(mine, other): &(&(&str, u64), &(&str, u64))| mine != other;
        first.memory_types.iter().zip(&cpu.memory_types).find(differs).map(|(mine, _)| mine.0)
    };
    let rule = rules.iter().find(|rule| rule.0).map(|rule| rule.1);
    // The name of the MSR.
    rule.or_else(|| cpus.iter().find_map(types))
}

/// Initialises the RMP and makes the listed pages HV-Fixed. They must be Default or Firmware
/// before (INVALID_PAGE_STATE is a model choice), unless INIT_RMP makes all states new. Ranges
/// without entries and the RMP's own pages are tolerated: Linux lists both.
fn fix_pages(
    call: &mut Call<'_>,
    rmp: &Rmp<&dyn crate::Platform>,
    ranges: &[Range],
    init_rmp: bool,
) -> Result<(), Status> {
    let covered = rmp.geometry().covered_bytes();
    let pages = || {
        let within = |range: &Range| {
            let end = range.base.saturating_add(range.pages << 12).min(covered);
            (range.base..end.max(range.base)).step_by(0x1000)
        };
        ranges.iter().flat_map(within)
    };
    if !init_rmp {
        let usable = |page: &u64| {
            let state = rmp.state(*page);
            rmp.geometry().holds(*page)
                || matches!(state, Some(State::Hypervisor | State::Firmware | State::HvFixed))
        };
        if let Some(page) = pages().find(|page| !usable(page)) {
            let state = rmp.state(page).unwrap_or(State::Hypervisor);
            return Err(call.refused(page, rmp::Refusal::State(state)));
        }
    } else {
        rmp.initialise();
    }
    for page in pages() {
        rmp.make_hv_fixed(page).map_err(|refusal| call.refused(page, refusal))?;
    }
    Ok(())
}

/// SNP_SHUTDOWN: as SHUTDOWN_EX without flags.
pub(crate) fn shutdown(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    stop(psp, call, 0)
}

pub(crate) fn shutdown_ex(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    let request: abi::ShutdownEx = call.request();
    call.whole(request.length)?;
    stop(psp, call, request.flags.get())
}

/// * Legacy SEV must have been shut down (Linux' order). Else INVALID_PLATFORM_STATE (model
///   choice).
/// * No guest may have an ASID, and no ASID may want a flush (public reports). Else
///   DFFLUSH_REQUIRED for both (model choice).
/// * Pages of contexts without an ASID become Firmware (model choice).
/// * All else in the RMP stays as it is: with SNP_EN set it stays enforced, and Firmware pages stay
///   so until the next SNP_INIT.
/// * With X86_SNP_SHUTDOWN firmware clears SNP_EN and lets host software write the table again.
/// * With IOMMU_SNP_SHUTDOWN the IOMMU stops checking, and its pages are given back (the comment in
///   __sev_snp_shutdown_locked(), sev-dev.c): as Reclaim, by firmware before 1.53 as Hypervisor.
fn stop(psp: &mut Psp, call: &mut Call<'_>, flags: u32) -> Result<(), Status> {
    let rmp = call.rmp()?;
    if psp.sev.initialised() {
        return Err(Status::InvalidPlatformState);
    }
    let x86 = flags & X86_SNP_SHUTDOWN != 0;
    let features = info::features(psp);
    if flags & !(IOMMU_SNP_SHUTDOWN | X86_SNP_SHUTDOWN) != 0
        || (x86 && features & info::X86_SNP_SHUTDOWN == 0)
    {
        return Err(Status::InvalidParam);
    }
    if psp.asids.needs_flush() || psp.asids.bound() {
        return Err(Status::DfFlushRequired);
    }
    for gctx in psp.running()?.guests.keys() {
        // Nobody but firmware can have changed a Context page, so this does not fail.
        let _ = rmp.drop_context(*gctx);
    }
    let reclaim = psp.firmware.current.api.reclaims_iommu_pages();
    if flags & IOMMU_SNP_SHUTDOWN != 0 {
        for page in &psp.running()?.iommu_pages {
            // Fails only for a page that the RMP has no entry for: the others are Firmware since
            // SNP_INIT.
            let _ = if reclaim { rmp.hand_back(*page) } else { rmp.drop_firmware(*page) };
        }
    }
    if x86 {
        rmp.release_table();
        // In this order: a CPU that runs meanwhile must not look like one without SNP_EN while SNP
        // is active.
        call.platform.set_snp_active(false);
        call.platform.clear_snp_en();
        // The host may write what it likes now, so the next SNP_INIT cannot keep it.
        psp.snp.rmp_initialised = false;
    }
    psp.snp.running = None;
    Ok(())
}

pub(crate) fn df_flush(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    psp.asids.flush(call.platform)
}
