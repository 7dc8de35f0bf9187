// SPDX-License-Identifier: GPL-2.0
//! TLBs that outlive VMRUN and #VMEXIT.
//!
//! A processor's entries have an ASID, so host and guest find theirs again. QEMU's have none, and
//! VMRUN and #VMEXIT empty the TLB: after each exit both sides would have to translate all that
//! they touch anew. Here the TLB of the host is put aside while a guest runs, and that of the guest
//! while the host does. What comes back is what was put aside, or, if it may not be used any more,
//! an empty one.
//!
//! It may be used if it is the same guest with the same registers that say how it translates, the
//! hypervisor has not asked VMRUN for a flush, no entry of the RMP has changed, and nobody has
//! emptied this CPU's TLB meanwhile, whatever for. (An address space that loads CR3 empties what is
//! its own, and not what has been put aside.)
//!
//! That is for SEV-ES and SNP guests; VMRUN of another one empties the TLB, and so drops what a
//! guest has left.

use std::cell::Cell;

use crate::guest::walk::Paging;
use crate::guest::Running;

/// Whose TLB has been put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Host,
    Guest,
}

/// The TLB of a CPU, and two that have been put aside, which are empty if nothing has.
pub trait Tlbs {
    /// Exchanges the CPU's with one of them.
    fn exchange(&self, side: Side);
    /// Empties the CPU's.
    fn empty(&self);
    /// Empties one of the others.
    fn empty_aside(&self, side: Side);
    /// The CPU's has a mark from now on, until somebody empties it.
    fn mark(&self);
    /// Whether it has.
    fn is_marked(&self) -> bool;
}

/// What the translations of a guest depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The guest, its VMSA and its nested tables.
    pub running: Running,
    /// Its registers.
    pub paging: Paging,
    /// How often an entry of the RMP has changed.
    pub rmp_changes: u64,
}

/// What has been put aside on a CPU. Only the thread of the CPU uses it.
pub struct Kept {
    host: Cell<bool>,
    guest: Cell<Option<Whose>>,
    /// Nobody has emptied the TLB of the side that has just left.
    undisturbed: Cell<bool>,
    /// Changes of the RMP when the guest came: what it translates before one in the middle does not
    /// outlive the exit.
    rmp_changes: Cell<u64>,
}

impl Kept {
    /// Nothing.
    pub const fn new() -> Kept {
        Kept {
            host: Cell::new(false),
            guest: Cell::new(None),
            undisturbed: Cell::new(false),
            rmp_changes: Cell::new(0),
        }
    }

    /// Before VMRUN. If that fails, the host goes on with an empty TLB.
    pub fn host_leaves(&self, tlbs: &impl Tlbs) {
        self.undisturbed.set(tlbs.is_marked());
        if self.host.replace(true) {
            tlbs.empty_aside(Side::Host);
        }
        tlbs.exchange(Side::Host);
    }

    /// After VMRUN, unless it was left by an exception or exit. Says whether the guest finds what
    /// it has left, which it does not if the hypervisor wants a flush.
    pub fn guest_comes(&self, tlbs: &impl Tlbs, whose: Whose, flush: bool) -> bool {
        self.rmp_changes.set(whose.rmp_changes);
        let usable = self.guest.get() == Some(whose) && self.undisturbed.get() && !flush;
        if usable {
            self.guest.set(None);
            // VMRUN may have delivered an interrupt.
            tlbs.empty();
            tlbs.exchange(Side::Guest);
        } else {
            self.forget_guest(tlbs);
        }
        tlbs.mark();
        usable
    }

    /// Before #VMEXIT.
    pub fn guest_leaves(&self, tlbs: &impl Tlbs, whose: Whose) {
        self.undisturbed.set(tlbs.is_marked());
        self.forget_guest(tlbs);
        tlbs.exchange(Side::Guest);
        let rmp_changes = self.rmp_changes.get();
        self.guest.set(Some(Whose { rmp_changes, ..whose }));
    }

    /// After #VMEXIT. Says whether the host finds what it has left.
    pub fn host_comes(&self, tlbs: &impl Tlbs) -> bool {
        let left = self.host.replace(false);
        let usable = left && self.undisturbed.get();
        if usable {
            tlbs.empty();
            tlbs.exchange(Side::Host);
        } else if left {
            tlbs.empty_aside(Side::Host);
        }
        tlbs.mark();
        usable
    }

    /// What a guest has left must not be used (INVLPGA).
    pub fn forget_guest(&self, tlbs: &impl Tlbs) {
        if self.guest.take().is_some() {
            tlbs.empty_aside(Side::Guest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// TLBs as lists of what they translate. The CPU's, the host's, the guest's.
    #[derive(Default)]
    struct Lists {
        lists: RefCell<[Vec<&'static str>; 3]>,
        marks: Cell<[bool; 3]>,
    }

    impl Lists {
        fn flush(&self, which: usize) {
            self.lists.borrow_mut()[which].clear();
            let mut marks = self.marks.get();
            marks[which] = false;
            self.marks.set(marks);
        }

        fn fill(&self, page: &'static str) {
            self.lists.borrow_mut()[0].push(page);
        }

        fn now(&self) -> Vec<&'static str> {
            self.lists.borrow()[0].clone()
        }
    }

    impl Tlbs for Lists {
        fn exchange(&self, side: Side) {
            self.lists.borrow_mut().swap(0, side as usize + 1);
            let mut marks = self.marks.get();
            marks.swap(0, side as usize + 1);
            self.marks.set(marks);
        }

        fn empty(&self) {
            self.flush(0);
        }

        fn empty_aside(&self, side: Side) {
            self.flush(side as usize + 1);
        }

        fn mark(&self) {
            let [_, host, guest] = self.marks.get();
            self.marks.set([true, host, guest]);
        }

        fn is_marked(&self) -> bool {
            self.marks.get()[0]
        }
    }

    const PAGING: Paging = Paging { cr0: 0x8000_0001, cr3: 0x1000, cr4: 0x20, efer: 0x500 };
    const RUNNING: Running = Running {
        vmcb: 0x1000,
        vmsa: 0x2000,
        nested_cr3: 0x3000,
        features: 1,
        asid: 1,
        vmpl: 0,
        host_pat: 0,
    };
    const WHOSE: Whose = Whose { running: RUNNING, paging: PAGING, rmp_changes: 5 };

    /// VMRUN as QEMU has it: what is in the TLB goes.
    fn vmrun(kept: &Kept, tlbs: &Lists, whose: Whose) -> bool {
        kept.host_leaves(tlbs);
        tlbs.flush(0);
        tlbs.fill("stack of an interrupt");
        kept.guest_comes(tlbs, whose, false)
    }

    fn vmexit(kept: &Kept, tlbs: &Lists, whose: Whose) -> bool {
        kept.guest_leaves(tlbs, whose);
        tlbs.flush(0);
        kept.host_comes(tlbs)
    }

    /// A host that has been through a VMRUN and #VMEXIT.
    fn machine() -> (Kept, Lists) {
        let (kept, tlbs) = (Kept::new(), Lists::default());
        tlbs.fill("host");
        assert!(!vmrun(&kept, &tlbs, WHOSE), "nothing has been left");
        assert_eq!(tlbs.now(), ["stack of an interrupt"]);
        tlbs.fill("guest");
        assert!(vmexit(&kept, &tlbs, WHOSE));
        assert_eq!(tlbs.now(), ["host"]);
        (kept, tlbs)
    }

    #[test]
    fn both_find_what_they_have_left_and_nothing_else() {
        let (kept, tlbs) = machine();
        for _ in 0..3 {
            assert!(vmrun(&kept, &tlbs, WHOSE));
            assert_eq!(tlbs.now(), ["stack of an interrupt", "guest"]);
            assert!(vmexit(&kept, &tlbs, WHOSE));
            assert_eq!(tlbs.now(), ["host"]);
        }
    }

    #[test]
    fn a_guest_that_differs_finds_nothing() {
        let running = |running| Whose { running, ..WHOSE };
        let rows: [(&str, Whose, bool); 6] = [
            ("a flush is asked for", WHOSE, true),
            ("the RMP has changed", Whose { rmp_changes: 6, ..WHOSE }, false),
            ("another VMCB", running(Running { vmcb: 0x5000, ..RUNNING }), false),
            ("another ASID", running(Running { asid: 2, ..RUNNING }), false),
            ("other tables", running(Running { nested_cr3: 0, ..RUNNING }), false),
            ("another CR3", Whose { paging: Paging { cr3: 0x2000, ..PAGING }, ..WHOSE }, false),
        ];
        for (what, whose, flush) in rows {
            let (kept, tlbs) = machine();
            kept.host_leaves(&tlbs);
            tlbs.fill("stack of an interrupt");
            assert!(!kept.guest_comes(&tlbs, whose, flush), "{what}");
            assert_eq!(tlbs.now(), ["stack of an interrupt"], "{what}");
            assert!(vmexit(&kept, &tlbs, WHOSE), "{what}");
            assert_eq!(tlbs.now(), ["host"], "{what}: that is the host's still");
            assert!(tlbs.lists.borrow()[1].is_empty(), "{what}");
        }
    }

    #[test]
    fn whoever_empties_the_tlb_empties_what_was_put_aside() {
        let (kept, tlbs) = machine();
        tlbs.flush(0);
        tlbs.fill("host");
        assert!(!vmrun(&kept, &tlbs, WHOSE), "while the host ran");
        assert_eq!(tlbs.now(), ["stack of an interrupt"]);
        tlbs.flush(0);
        tlbs.fill("guest");
        assert!(!vmexit(&kept, &tlbs, WHOSE), "while the guest ran");
        assert!(tlbs.now().is_empty());
        assert!(tlbs.lists.borrow()[1].is_empty());
        assert!(vmrun(&kept, &tlbs, WHOSE), "the guest's is of after that");
        assert_eq!(tlbs.now(), ["guest"]);
    }

    /// The guest goes on with what it has in its TLB, but not over an exit.
    #[test]
    fn a_change_of_the_rmp_while_the_guest_runs_counts() {
        let (kept, tlbs) = machine();
        let later = Whose { rmp_changes: 6, ..WHOSE };
        assert!(vmrun(&kept, &tlbs, WHOSE));
        assert!(vmexit(&kept, &tlbs, later));
        assert!(!vmrun(&kept, &tlbs, later));
        assert!(vmexit(&kept, &tlbs, later));
        assert!(vmrun(&kept, &tlbs, later));
    }

    #[test]
    fn invlpga_is_for_what_the_guest_has_left() {
        let (kept, tlbs) = machine();
        kept.forget_guest(&tlbs);
        assert!(!vmrun(&kept, &tlbs, WHOSE));
        assert_eq!(tlbs.now(), ["stack of an interrupt"]);
    }

    /// VMRUN left by an exception on the host, or by an exit: nobody comes, or only the host does.
    #[test]
    fn a_vmrun_that_fails_leaves_nothing_behind() {
        let (kept, tlbs) = machine();
        kept.host_leaves(&tlbs);
        assert!(tlbs.now().is_empty());
        tlbs.fill("host again");
        assert!(!vmrun(&kept, &tlbs, WHOSE), "the TLB of between has no mark");
        assert!(vmexit(&kept, &tlbs, WHOSE));
        assert_eq!(tlbs.now(), ["host again"]);

        let (kept, tlbs) = machine();
        kept.host_leaves(&tlbs);
        tlbs.flush(0);
        tlbs.fill("guest of an exit in the middle");
        assert!(!vmexit(&kept, &tlbs, WHOSE), "no mark");
        assert!(tlbs.now().is_empty());
        assert!(vmrun(&kept, &tlbs, WHOSE));
        assert_eq!(tlbs.now(), ["guest of an exit in the middle"]);
    }
}
