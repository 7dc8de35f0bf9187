// SPDX-License-Identifier: GPL-2.0
//! A CPU needs a translation, to execute, read or write: QEMU makes one, and what the RMP says of
//! it ([`crate::watch`] for hosts and guests without SNP, [`crate::guest::access`] for SNP guests)
//! is done to it.
//!
//! QEMU asks for three kinds. A virtual address; in the course of that, with nested paging, the
//! guest's physical addresses that the walk comes across and leads to; and in the course of either
//! the physical addresses of page tables, each time as if the table were to be written. The inner
//! ones are probes: a fault there is returned, and raised by the outermost.

use crate::activity::Activity;
use crate::guest::access::{Access, Verdict as GuestVerdict};
use crate::guest::inside::Inside;
use crate::guest::layout::fault;
use crate::guest::walk::{Nested, Unmapped, RESERVED};
use crate::guest::Layer;
use crate::insn::RESET_VECTOR;
use crate::model::Model;
use crate::qemu::ffi::{CpuWork, Functions};
use crate::qemu::tlb::{self, Request};
use crate::qemu::vcpu::{Slot, Vcpu};
use crate::qemu::{env, fatal};
use crate::watch::{Need, Translation, Verdict, Who, RMP_FAULT};
use crate::writable::Held;

/// A CPU that translates.
pub struct Translator<'a> {
    /// What a CPU does once it has written to the IOMMU's registers.
    pub after_iommu: CpuWork,
    pub f: &'a Functions,
    pub model: &'a Model<'static>,
    pub guest: Option<&'a Layer>,
    pub index: usize,
    pub slot: &'a Slot,
}

impl Translator<'_> {
    /// In the place of QEMU's `tlb_fill`. Leaves by `longjmp` if the translation is a fault: no
    /// value with a destructor may be alive, here or in the caller.
    ///
    /// # Safety
    ///
    /// In the hook, with what it was called with, on the thread of this CPU.
    pub unsafe fn translate(&self, request: &Request) -> bool {
        if self.model.pages_were_taken() {
            // Not at once: QEMU relies on the entry that is about to be made.
            self.vcpu().queue_flush_of_all();
        }
        // SAFETY: the caller's promise, for all of this.
        unsafe {
            // SAFETY: a CPU of QEMU's, on its thread.
            let nested = env::HFLAGS2.get(env::of(request.cpu)) & env::HF2_NPT != 0;
            match request.mmu_index {
                tlb::MMU_PHYS_IDX => self.physical(request),
                tlb::MMU_NESTED_IDX if nested && self.runs_snp() => self.snp_guest(request),
                tlb::MMU_NESTED_IDX if nested => self.other_guest(request),
                _ if nested => {
                    if let Some(layer) = self.guest {
                        layer.cpu(self.index).address.set(request.address);
                    }
                    request.fill()
                }
                _ => self.host(request),
            }
        }
    }

    fn runs_snp(&self) -> bool {
        let running = self.guest.and_then(|layer| layer.cpu(self.index).running.get());
        running.is_some_and(|running| running.snp())
    }

    fn activity(&self) -> &Activity {
        &self.model.activity[self.index]
    }

    /// What QEMU does not keep in the CPU's state while a helper translates must not be looked at
    /// (RIP, flags).
    fn vcpu(&self) -> Vcpu<'_> {
        // SAFETY: QEMU translates on the CPU's thread.
        unsafe { Vcpu::outside_block(self.f, self.slot, self.index) }
    }

    /// A page table of the host's, ordinary or nested, or what VMRUN and #VMEXIT save there.
    ///
    /// # Safety
    ///
    /// As for [`Translator::translate`], and so below.
    unsafe fn physical(&self, request: &Request) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            if !request.fill() || !request.is_table() || !self.model.watches(self.index) {
                return true;
            }
            let page = request.address & tlb::PAGE_MASK;
            self.model.writable.note(&self.model.ram, page, Held::Anyhow, false);
            if self.model.foreign_table(self.index, page) {
                self.activity().meet_table(page);
                // The next walk shall come here again. This one goes on: it cannot fail for a
                // host's table in QEMU.
                if let Some(filled) = request.filled(self.f) {
                    filled.ask_again();
                }
            }
            true
        }
    }

    /// Whether the walk that has just succeeded should not have, because of where its tables are.
    fn refuses_walk(&self, who: Who, pc: impl FnOnce() -> u64) -> bool {
        self.activity().foreign_table().is_some_and(|page| {
            let table = Translation { page, need: Need::Table, large: false, who };
            self.model.translated(self.index, table, pc) == Verdict::Refuse
        })
    }

    /// A virtual address of the host's, or of a guest without nested paging.
    unsafe fn host(&self, request: &Request) -> bool {
        self.activity().walk_begins();
        // SAFETY: the caller's promise.
        unsafe {
            if !request.fill() {
                return false;
            }
            if request.access == tlb::FETCH && request.address == RESET_VECTOR {
                let known = request.filled(self.f).is_some_and(|filled| filled.is_plain());
                if !known {
                    fatal(format_args!("CPU {}: its TLB has another layout", self.index));
                }
            }
            let pc = || request.pc(self.f);
            self.model.runs(self.index, pc);
            let (stores, watches) = (request.access == tlb::STORE, self.model.watches(self.index));
            // SAFETY: a CPU of QEMU's, on its thread.
            let shadow = env::HFLAGS.get(env::of(request.cpu)) & env::HF_GUEST != 0;
            if !stores && !watches && !shadow {
                return true;
            }
            let Some(filled) = request.filled(self.f) else { return true };
            if shadow && filled.page() & RESERVED != 0 {
                filled.revoke();
                return self.page_fault(request, fault::RESERVED as u32);
            }
            if stores && self.model.is_iommu(filled.page()) {
                filled.ask_again();
                self.vcpu().queue(self.after_iommu);
                return true;
            }
            if self.model.is_iommu_tails(filled.page()) {
                // Also for a load, whose translation would do for the next store.
                filled.ask_again();
                if stores {
                    self.model.iommu_executes(&self.vcpu());
                }
                return true;
            }
            if stores {
                self.model.stores_to(self.index, filled.page());
            }
            if !watches {
                return true;
            }
            if self.refuses_walk(Who::Host, pc) {
                filled.revoke();
                return self.page_fault(request, RMP_FAULT);
            }
            if !filled.writable() {
                return true;
            }
            let need = if request.access == tlb::STORE { Need::Write } else { Need::Read };
            let (page, large) = (filled.page(), filled.large());
            let held = request.kernel_alias(self.index).map_or(Held::Anyhow, Held::By);
            self.model.writable.note(&self.model.ram, page, held, large);
            let new = Translation { page, need, large, who: Who::Host };
            match self.model.translated(self.index, new, pc) {
                Verdict::Pass => true,
                Verdict::ReadOnly => {
                    filled.protect();
                    true
                }
                // Shadow paging: whether that would be #PF or an exit no public source says (model
                // choice: neither).
                Verdict::Refuse if self.vcpu().in_guest() => true,
                Verdict::Refuse => {
                    filled.protect();
                    self.page_fault(request, RMP_FAULT)
                }
            }
        }
    }

    unsafe fn page_fault(&self, request: &Request, more: u32) -> bool {
        if request.probe {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.vcpu().raise_pf(
                request.address,
                request.fault_code() | more,
                request.return_address,
            )
        }
    }

    /// A physical address of a guest without SNP.
    unsafe fn other_guest(&self, request: &Request) -> bool {
        self.activity().walk_begins();
        self.activity().set_nested_refused(false);
        // SAFETY: the caller's promise.
        unsafe {
            // Before QEMU sets an accessed bit in an entry whose bits are KVM's own.
            let nested = Nested::of(&self.model.ram, self.activity().vmcb());
            let found = nested.map(|nested| nested.find(request.address));
            if found == Some(Err(Unmapped::Reserved)) {
                return self.nested_fault(request, fault::RESERVED as u32);
            }
            if !request.fill() {
                return false;
            }
            if !self.model.watches(self.index) {
                return true;
            }
            let Some(filled) = request.filled(self.f) else { return true };
            if self.refuses_walk(Who::Guest, || 0) {
                filled.revoke();
                return self.refuse_nested(request);
            }
            if !filled.writable() {
                return true;
            }
            // Also where the guest's page tables are, which QEMU asks for as if to write them:
            // those are checked even if they are only read.
            let need = if request.access == tlb::STORE { Need::Write } else { Need::Read };
            let (page, large) = (filled.page(), filled.large());
            let new = Translation { page, need, large, who: Who::Guest };
            match self.model.translated(self.index, new, || 0) {
                Verdict::Pass => true,
                Verdict::ReadOnly => {
                    filled.protect();
                    true
                }
                Verdict::Refuse => {
                    filled.protect();
                    self.refuse_nested(request)
                }
            }
        }
    }

    /// A nested page fault for the RMP's sake.
    unsafe fn refuse_nested(&self, request: &Request) -> bool {
        // The RMP bit comes at #VMEXIT: here it would be taken for a sign.
        self.activity().set_nested_refused(true);
        // SAFETY: the caller's promise.
        unsafe { self.nested_fault(request, 0) }
    }

    unsafe fn nested_fault(&self, request: &Request, more: u32) -> bool {
        // SAFETY: nested paging probes in the course of a guest's walk, and takes false for a fault
        // with this error code, as from QEMU's own function.
        unsafe { env::ERROR_CODE.set(env::of(request.cpu), request.fault_code() | more) };
        !request.probe
    }

    /// A physical address of an SNP guest, with the C-bit if the guest set it.
    unsafe fn snp_guest(&self, request: &Request) -> bool {
        let Some(layer) = self.guest else { return false };
        let access = match request.access {
            tlb::STORE => Access::Write,
            tlb::FETCH => Access::Fetch,
            _ => Access::Read,
        };
        let paging = self.vcpu().paging();
        let verdict = layer.translate(self.model, self.index, paging, request.address, access);
        if let (GuestVerdict::Deny(code), true) = (verdict, request.probe) {
            // SAFETY: as in nested_fault().
            unsafe { env::ERROR_CODE.set(env::of(request.cpu), code) };
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe {
            if !request.fill() {
                return false;
            }
            if let GuestVerdict::Limit { write, execute } = verdict {
                if let Some(filled) = request.filled(self.f) {
                    filled.limit(write, execute);
                }
            }
        }
        true
    }
}
