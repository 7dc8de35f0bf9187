// SPDX-License-Identifier: GPL-2.0
//! IGVM files: what is to be launched, page by page.

use igvm::snp_defs::SevVmsa;
use igvm::{
    IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision,
};
use igvm_defs::{
    IgvmPageDataFlags, IgvmPageDataType, IgvmPlatformType, IGVM_VHS_SUPPORTED_PLATFORM,
    PAGE_SIZE_4K,
};
use zerocopy::AsBytes;

use crate::guest::{self, at};
use crate::{option, Result};

/// The one platform of the files.
const MASK: u32 = 1;
/// Bit 17 must be one; SMT is allowed.
pub const POLICY: u64 = 0x30000;
const PAGE: usize = PAGE_SIZE_4K as usize;
/// VMSAs that a file may have.
const MAX_VMSAS: u16 = 16;

/// What a page is, with the number that firmware has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal = 1,
    Vmsa = 2,
    Zero = 3,
    Unmeasured = 4,
    Secrets = 5,
    Cpuid = 6,
}

/// A page that is launched.
#[derive(Clone, Debug)]
pub struct Page {
    pub kind: Kind,
    pub gpa: u64,
    /// 4096 bytes.
    pub data: Vec<u8>,
}

/// What a file says.
pub struct Image {
    pub policy: u64,
    /// In the order of their launch.
    pub pages: Vec<Page>,
    /// Guest physical addresses of pages that are shared.
    pub shared: Vec<u64>,
}

/// Reads a file.
pub fn read(file: &str) -> Result<Image> {
    let binary = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let file = IgvmFile::new_from_binary(&binary, Some(igvm::IsolationType::Snp))?;
    let mut image = Image { policy: POLICY, pages: Vec::new(), shared: Vec::new() };
    for header in file.initializations() {
        if let IgvmInitializationHeader::GuestPolicy { policy, .. } = header {
            image.policy = *policy;
        }
    }
    for header in file.directives() {
        match header {
            IgvmDirectiveHeader::PageData { gpa, flags, .. } if flags.shared() => {
                image.shared.push(*gpa);
            }
            IgvmDirectiveHeader::PageData { gpa, flags, data_type, data, .. } => {
                let kind = match *data_type {
                    IgvmPageDataType::SECRETS => Kind::Secrets,
                    IgvmPageDataType::CPUID_DATA => Kind::Cpuid,
                    IgvmPageDataType::NORMAL if flags.unmeasured() => Kind::Unmeasured,
                    IgvmPageDataType::NORMAL if data.is_empty() => Kind::Zero,
                    IgvmPageDataType::NORMAL => Kind::Normal,
                    other => return Err(format!("a page of the type {other:?}").into()),
                };
                image.pages.push(page(kind, *gpa, data));
            }
            IgvmDirectiveHeader::SnpVpContext { gpa, vmsa, .. } => {
                image.pages.push(page(Kind::Vmsa, *gpa, vmsa.as_bytes()));
            }
            other => return Err(format!("the launcher cannot do this:\n{other}").into()),
        }
    }
    Ok(image)
}

fn page(kind: Kind, gpa: u64, data: &[u8]) -> Page {
    let mut data = data.to_vec();
    data.resize(PAGE, 0);
    Page { kind, gpa, data }
}

/// The number of this CPU's C-bit; 51, which EPYC hosts have, on a CPU without SEV.
fn c_bit() -> u32 {
    use std::arch::x86_64::__cpuid;
    const SEV: u32 = 1 << 1;
    // SAFETY: Every CPU with 64-bit mode has CPUID, and these leaves answer something.
    let (highest, leaf) = unsafe { (__cpuid(0x8000_0000).eax, __cpuid(0x8000_001f)) };
    match highest {
        0x8000_001f.. if leaf.eax & SEV != 0 => leaf.ebx & 0x3f,
        _ => 51,
    }
}

/// Makes a file with the guest of `guest.rs`.
pub fn make(file: &str, options: &[&str]) -> Result<()> {
    let c_bit = 1u64 << option(options, "--c-bit")?.unwrap_or_else(c_bit);
    let mut pages = tables(c_bit);
    pages.push((at::CODE, guest::code().to_vec()));
    pages.push((at::STACK, Vec::new()));
    pages.push((at::TEMPLATE, vmsa(guest::ap_entry()).as_bytes().to_vec()));
    let mut directives: Vec<_> = pages
        .into_iter()
        .map(|(gpa, data)| data_page(gpa, IgvmPageDataFlags::new(), data))
        .collect();
    for gpa in [at::GHCB, at::REPORT] {
        let flags = IgvmPageDataFlags::new().with_shared(true);
        directives.push(data_page(gpa, flags, Vec::new()));
    }
    let vmsas = match options.contains(&"--no-vmsa") {
        true => 0,
        false => option(options, "--vmsas")?.unwrap_or(1u16),
    };
    if vmsas > MAX_VMSAS {
        return Err(format!("there is room for {MAX_VMSAS} VMSAs").into());
    }
    for vp_index in 0..vmsas {
        let mut registers = vmsa(if vp_index == 0 { at::CODE } else { guest::ap_entry() });
        registers.rdi = vp_index.into();
        directives.push(IgvmDirectiveHeader::SnpVpContext {
            gpa: match vp_index {
                0 => at::VMSA,
                _ => at::MORE_VMSAS + u64::from(vp_index) * PAGE as u64,
            },
            compatibility_mask: MASK,
            vp_index,
            vmsa: Box::new(registers),
        });
    }
    let platform = IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
        compatibility_mask: MASK,
        highest_vtl: 0,
        platform_type: IgvmPlatformType::SEV_SNP,
        platform_version: igvm_defs::IGVM_SEV_SNP_PLATFORM_VERSION,
        shared_gpa_boundary: 0,
    });
    let policy = IgvmInitializationHeader::GuestPolicy { policy: POLICY, compatibility_mask: MASK };
    let igvm = IgvmFile::new(IgvmRevision::V1, vec![platform], vec![policy], directives)?;
    let mut binary = Vec::new();
    igvm.serialize(&mut binary)?;
    std::fs::write(file, binary).map_err(|error| format!("{file}: {error}").into())
}

fn data_page(gpa: u64, flags: IgvmPageDataFlags, mut data: Vec<u8>) -> IgvmDirectiveHeader {
    if !data.is_empty() {
        data.resize(PAGE, 0);
    }
    IgvmDirectiveHeader::PageData {
        gpa,
        compatibility_mask: MASK,
        flags,
        data_type: IgvmPageDataType::NORMAL,
        data,
    }
}

/// One page table for 2 MiB: the lower half private, the upper half the same pages shared. And the
/// tables for segments and exceptions.
fn tables(c_bit: u64) -> Vec<(u64, Vec<u8>)> {
    const PRESENT_WRITABLE: u64 = 3;
    let entry = |address| address | PRESENT_WRITABLE | c_bit;
    let bytes = |words: Vec<u64>| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let private = (0..at::ALIAS).step_by(PAGE).map(entry);
    let shared = (0..at::ALIAS).step_by(PAGE).map(|address| address | PRESENT_WRITABLE);
    let mut descriptors = vec![0u64; 512];
    // Code, 64 bits, selector 8.
    descriptors[1] = 0x00af_9b00_0000_ffff;
    // #VC, vector 29: a gate of the IDT, which begins at word 32.
    let handler = guest::exception_entry();
    descriptors[32 + 2 * 29] =
        (handler & 0xffff) | 8 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
    vec![
        (at::PML4, bytes(vec![entry(at::PDPT)])),
        (at::PDPT, bytes(vec![entry(at::PD)])),
        (at::PD, bytes(vec![entry(at::PT)])),
        (at::PT, bytes(private.chain(shared).collect())),
        (at::TABLES, bytes(descriptors)),
    ]
}

/// The registers of a vCPU that begins at `rip` in the guest's address space.
pub fn vmsa(rip: u64) -> SevVmsa {
    let mut vmsa: SevVmsa = zerocopy::FromZeroes::new_zeroed();
    for (selector, number, attributes) in
        [(&mut vmsa.cs, 8, 0xa9b), (&mut vmsa.ss, 0, 0xc93), (&mut vmsa.ds, 0, 0xc93)]
    {
        selector.selector = number;
        selector.attrib = attributes;
        selector.limit = !0;
    }
    vmsa.es = vmsa.ds;
    vmsa.fs = vmsa.ds;
    vmsa.gs = vmsa.ds;
    vmsa.ldtr.attrib = 0x82;
    vmsa.tr.attrib = 0x8b;
    vmsa.gdtr.base = at::TABLES;
    vmsa.gdtr.limit = 15;
    vmsa.idtr.base = at::TABLES + 32 * 8;
    vmsa.idtr.limit = 30 * 16 - 1;
    vmsa.efer = 0x1500; // SVME, LMA, LME
    vmsa.cr0 = 0x8000_0011; // PG, ET, PE
    vmsa.cr3 = at::PML4;
    vmsa.cr4 = 0x220; // OSFXSR, PAE
    vmsa.dr6 = 0xffff_0ff0;
    vmsa.dr7 = 0x400;
    vmsa.rflags = 2;
    vmsa.rip = rip;
    vmsa.rsp = at::STACK + PAGE as u64;
    vmsa.pat = 0x0007_0406_0007_0406;
    vmsa.sev_features = igvm::snp_defs::SevFeatures::new().with_snp(true);
    vmsa.xcr0 = 1;
    vmsa.mxcsr = 0x1f80;
    vmsa.x87_fcw = 0x37f;
    vmsa
}
