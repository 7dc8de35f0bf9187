// SPDX-License-Identifier: GPL-2.0

//! A firmware and a host that follow a script.

use core::sync::atomic::{
    AtomicBool,
    AtomicI32,
    AtomicU32,
    AtomicU64,
    AtomicUsize,
    Ordering::Relaxed, //
};

use kernel::prelude::*;

use crate::{
    error::{
        CmdError,
        Dead, //
    },
    mailbox::{
        NotIdle,
        Transport,
        Wait, //
    },
    pages::Address,
    sys::{
        bindings::{
            snp_host_close,
            snp_host_keep, //
        },
        mem_encrypt::sme_mask,
        pages::Pages,
        physical::Physical,
        rmp::{
            Frames,
            Rmp, //
        },
        snp_host::Host,
    },
    wire::{
        CommandId,
        CommandInfo,
        Status, //
    },
};

/// A command as firmware gets it.
pub(crate) struct Call {
    pub(crate) command: &'static CommandInfo,
    pub(crate) spa: u64,
    pub(crate) wait: Wait,
    memory: Physical,
}

impl Call {
    /// Whether it is this command.
    pub(crate) fn is(&self, id: CommandId) -> bool {
        self.command.id == id
    }

    /// The command buffer.
    pub(crate) fn buffer<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        self.memory.with(self.spa, self.command.len.into(), f)
    }

    /// The field of the command buffer at `offset`.
    pub(crate) fn field<T: FromBytes>(&self, offset: u16) -> Result<T> {
        self.buffer(|bytes| {
            let bytes = bytes.get(usize::from(offset)..).ok_or(EINVAL)?;
            Ok(T::read_from_prefix(bytes).map_err(|_| EINVAL)?.0)
        })
    }

    /// Sets the field of the command buffer at `offset`.
    pub(crate) fn set_field<T: IntoBytes + zerocopy::Immutable>(&self, offset: u16, value: T) {
        self.buffer(|bytes| {
            if let Some(bytes) = bytes.get_mut(usize::from(offset)..) {
                // A field that does not fit stays as it is, and the test fails by that.
                let _ = value.write_to_prefix(bytes);
            }
        });
    }

    /// Memory behind an address in the command buffer.
    pub(crate) fn memory(&self) -> &Physical {
        &self.memory
    }
}

/// Firmware that answers as `script` says.
pub(crate) struct Scripted<F> {
    script: F,
    dead: Option<Dead>,
    /// Registers have lost their values.
    pub(crate) reset: bool,
    busy: Option<NotIdle>,
}

impl<F> Scripted<F>
where
    F: FnMut(&Call) -> Result<Status, CmdError>,
{
    pub(crate) fn new(script: F) -> Self {
        Self {
            script,
            dead: None,
            reset: false,
            busy: None,
        }
    }

    /// The same, but firmware is still at work on what somebody else has asked it.
    pub(crate) fn busy(self, why: NotIdle) -> Self {
        Self {
            busy: Some(why),
            ..self
        }
    }
}

impl<F> Transport for Scripted<F>
where
    F: FnMut(&Call) -> Result<Status, CmdError>,
{
    #[allow(unsafe_code)]
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
        wait: Wait,
    ) -> Result<Status, CmdError> {
        if let Some(why) = self.dead {
            return Err(CmdError::Dead(why));
        }
        let call = Call {
            command,
            spa: buffer.raw(),
            wait,
            // SAFETY: The script gets the addresses that the code under test puts into commands,
            // and uses them while it executes one.
            memory: unsafe { Physical::access() },
        };
        let answer = (self.script)(&call);
        if let Err(CmdError::Died(why)) = answer {
            self.dead = Some(why);
        }
        answer
    }

    fn dead(&self) -> Option<Dead> {
        self.dead
    }

    fn take_reset(&mut self) -> bool {
        core::mem::take(&mut self.reset)
    }

    fn poll_idle(&self, _ms: u32) -> Result<(), NotIdle> {
        self.busy.map_or(Ok(()), Err)
    }
}

/// The answer of firmware that does not answer.
pub(crate) fn silence(command: &CommandInfo) -> Result<Status, CmdError> {
    Err(CmdError::Died(Dead::Silent {
        command: command.name,
        secs: 0,
    }))
}

/// What happened to firmware and host, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Firmware got a command.
    Command(CommandId),
    Open,
    Prepare,
    /// With a value of `enum snp_host_close`.
    Close(u32),
    /// With a value of `enum snp_host_keep`.
    Keep(u32),
}

/// SNP is off, or firmware refused SNP_INIT.
pub(crate) const CLOSE_SNP_OFF: Event = Event::Close(snp_host_close::SNP_HOST_CLOSE_SNP_OFF.0);
pub(crate) const CLOSE_INIT_REFUSED: Event =
    Event::Close(snp_host_close::SNP_HOST_CLOSE_INIT_REFUSED.0);

impl Event {
    const NONE: u32 = u32::MAX;

    fn encode(self) -> u32 {
        match self {
            Event::Command(id) => id.raw().into(),
            Event::Open => 1 << 16,
            Event::Prepare => 2 << 16,
            Event::Close(why) => 3 << 16 | why,
            Event::Keep(why) => 4 << 16 | why,
        }
    }
}

/// Counts down to failures.
pub(crate) struct FailAt {
    good: AtomicUsize,
    bad: AtomicUsize,
}

impl FailAt {
    pub(super) const fn never() -> Self {
        Self {
            good: AtomicUsize::new(0),
            bad: AtomicUsize::new(0),
        }
    }

    /// From the call number `n` (from 0) on, `times` calls fail.
    pub(crate) fn set(&self, n: usize, times: usize) {
        self.good.store(n, Relaxed);
        self.bad.store(times, Relaxed);
    }

    pub(super) fn call(&self) -> Result {
        let less = |left: usize| left.checked_sub(1);
        if self.good.fetch_update(Relaxed, Relaxed, less).is_ok() {
            return Ok(());
        }
        match self.bad.fetch_update(Relaxed, Relaxed, less) {
            Ok(_) => Err(EFAULT),
            Err(_) => Ok(()),
        }
    }
}

/// An SNP host that follows a script. Static, because the proofs of `sys/snp_host.rs` refer to
/// their host; a test has one of its own.
pub(crate) struct FakeHost {
    events: [AtomicU32; 64],
    count: AtomicUsize,
    /// It is no SNP host.
    pub(crate) unfit: AtomicBool,
    /// What `snp_en_cpus()` says.
    pub(crate) snp_en: AtomicU32,
    /// Why it cannot say that: 0 or an errno.
    pub(crate) snp_en_unseen: AtomicI32,
    /// What these return: 0 or an errno.
    pub(crate) open: AtomicI32,
    pub(crate) prepare: AtomicI32,
    pub(crate) close: AtomicI32,
    /// Which page does not become firmware's.
    pub(crate) private_fails: FailAt,
    /// Which page does not become shared again.
    pub(crate) shared_fails: FailAt,
    /// How often pages of the IOMMU were to be taken back, and how that ends: 0 or an errno.
    iommu_asked: AtomicUsize,
    pub(crate) iommu: AtomicI32,
    /// Pages in the Firmware state.
    assigned: AtomicI32,
    /// The address of the last page that came into that state, if it still is; else 0.
    last_assigned: AtomicU64,
    /// Caches may hold lines of what firmware has changed: WBINVD comes before whatever relies on
    /// their being clean.
    pub(crate) cached: AtomicBool,
    /// The address of the pages that were flushed last, alone.
    pub(crate) flushed: AtomicU64,
}

/// The CPUs of a [`FakeHost`].
pub(crate) const CPUS: u32 = 2;

impl FakeHost {
    pub(crate) const fn new() -> Self {
        Self {
            events: [const { AtomicU32::new(Event::NONE) }; 64],
            count: AtomicUsize::new(0),
            unfit: AtomicBool::new(false),
            snp_en: AtomicU32::new(0),
            snp_en_unseen: AtomicI32::new(0),
            open: AtomicI32::new(0),
            prepare: AtomicI32::new(0),
            close: AtomicI32::new(0),
            private_fails: FailAt::never(),
            shared_fails: FailAt::never(),
            iommu_asked: AtomicUsize::new(0),
            iommu: AtomicI32::new(0),
            assigned: AtomicI32::new(0),
            last_assigned: AtomicU64::new(0),
            cached: AtomicBool::new(true),
            flushed: AtomicU64::new(0),
        }
    }

    /// Notes an event.
    pub(crate) fn note(&self, event: Event) {
        let n = self.count.fetch_add(1, Relaxed);
        if let Some(slot) = self.events.get(n) {
            slot.store(event.encode(), Relaxed);
        }
    }

    /// Whether exactly these events were noted since the last call. Prints what was noted if not.
    pub(crate) fn saw(&self, expected: &[Event]) -> bool {
        let count = self.count.swap(0, Relaxed);
        let same = count == expected.len()
            && expected
                .iter()
                .zip(&self.events)
                .all(|(event, slot)| event.encode() == slot.load(Relaxed));
        if !same {
            for slot in self.events.iter().take(count) {
                pr_err!("noted {:#x}\n", slot.load(Relaxed));
            }
            for event in expected {
                pr_err!("expected {:#x}\n", event.encode());
            }
        }
        same
    }

    /// What was noted so far is of no interest.
    pub(crate) fn forget_events(&self) {
        self.count.store(0, Relaxed);
    }

    /// Pages that are firmware's now.
    pub(crate) fn assigned(&self) -> i32 {
        self.assigned.load(Relaxed)
    }

    /// Whether the page at this address (with or without encryption bit) is the last one that
    /// became firmware's.
    pub(crate) fn is_assigned(&self, address: u64) -> bool {
        self.last_assigned.load(Relaxed) == address & !sme_mask()
    }

    /// How often pages of the IOMMU were to be taken back since this was asked last.
    pub(crate) fn iommu_asked(&self) -> usize {
        self.iommu_asked.swap(0, Relaxed)
    }

    /// The RMP is cleared.
    pub(crate) fn forget(&self) {
        self.assigned.store(0, Relaxed);
    }
}

fn scripted(errno: &AtomicI32) -> Result {
    kernel::error::to_result(errno.load(Relaxed))
}

impl Rmp for FakeHost {
    fn is_assigned(&self, _frame: Frames) -> bool {
        // It knows how many, not which.
        self.assigned() > 0
    }

    fn make_firmware(&self, frame: Frames) -> Result {
        self.private_fails.call()?;
        self.last_assigned.store(frame.phys(), Relaxed);
        self.assigned.fetch_add(1, Relaxed);
        Ok(())
    }

    fn make_shared(&self, _frame: Frames) -> Result {
        self.shared_fails.call()?;
        self.last_assigned.store(0, Relaxed);
        self.assigned.fetch_sub(1, Relaxed);
        Ok(())
    }
}

impl Host for FakeHost {
    fn is_snp_host(&self) -> bool {
        !self.unfit.load(Relaxed)
    }

    fn window_open(&self) -> Result {
        self.note(Event::Open);
        scripted(&self.open)
    }

    fn prepare(&self) -> Result {
        self.note(Event::Prepare);
        scripted(&self.prepare)?;
        self.snp_en.store(CPUS, Relaxed);
        Ok(())
    }

    fn window_close(&self, why: snp_host_close) -> Result {
        self.note(Event::Close(why.0));
        scripted(&self.close)?;
        // As snp_host does, it believes only what it sees.
        let off = why == snp_host_close::SNP_HOST_CLOSE_SNP_OFF;
        match self.snp_en.load(Relaxed) {
            1.. if off => Err(EBUSY),
            _ => Ok(()),
        }
    }

    fn window_keep(&self, why: snp_host_keep) {
        self.note(Event::Keep(why.0));
    }

    fn snp_en_cpus(&self) -> Result<u32> {
        scripted(&self.snp_en_unseen)?;
        Ok(self.snp_en.load(Relaxed))
    }

    fn online_cpus(&self) -> u32 {
        CPUS
    }

    fn snp_en_here(&self) -> bool {
        self.snp_en.load(Relaxed) != 0
    }

    fn wbinvd_on_all(&self) {
        self.cached.store(false, Relaxed);
    }

    fn wbinvd_here(&self) {
        self.cached.store(false, Relaxed);
    }

    fn clflush(&self, pages: &Pages) {
        self.flushed.store(pages.phys(), Relaxed);
    }

    fn take_iommu_pages_back(&self) -> Result {
        self.iommu_asked.fetch_add(1, Relaxed);
        scripted(&self.iommu)
    }
}
