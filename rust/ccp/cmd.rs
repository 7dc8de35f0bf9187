// SPDX-License-Identifier: GPL-2.0

//! Commands, and the one way in which they get to firmware.
//!
//! The driver issues the commands of `rust/wire/command.rs` itself ([`Channel::issue`]). INIT,
//! SNP_INIT and SNP_INIT_EX take a proof besides and are in `cmd/init.rs`. Commands that KVM passes
//! through come as bytes and go through `cmd/relay.rs`. All of them end in [`Channel::run`].

use kernel::{
    device::Device,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};
use zerocopy::Immutable;

use crate::{
    error::Dead,
    mailbox::{
        NotIdle,
        Transport,
        Wait, //
    },
    pages::{
        Address,
        FwPages,
        HvPages,
        Reclaimer,
        Spa, //
    },
    state,
    sys::{
        log,
        pages::Gfp,
        snp_host::{
            Host,
            NoSnpEn,
            SnpEnabled, //
        },
        trace, //
    },
    wire::{
        command::{
            MAX_LEN,
            SNP_PAGE_RECLAIM, //
        },
        snp::PageReclaim,
        Command,
        CommandInfo,
        StartCommand,
        Status, //
    },
};

mod init;
mod record;
mod relay;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

pub(crate) use crate::error::CmdError;

use record::Record;

/// A command buffer.
pub(crate) trait Request: FromBytes + IntoBytes + Immutable {}

impl<R: FromBytes + IntoBytes + Immutable> Request for R {}

/// The kind of page that firmware stores an answer in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageKind {
    /// A page of the host's.
    Lent,
    /// A page in the Firmware state.
    Assigned,
}

/// State of SNP firmware. Outside of UNINIT all CPUs have SNP_EN.
pub(crate) enum Snp {
    /// UNINIT.
    Down,
    /// INIT, by a start of ours.
    Up(SnpEnabled),
    /// INIT, but not usable.
    Stale {
        enabled: SnpEnabled,
        /// Guests that were there when this driver came, whose contexts it does not know.
        guests: u32,
    },
}

/// Proof that legacy INIT is allowed now. Firmware refuses INIT on CPUs with SNP_EN as long as SNP
/// firmware is not initialised.
#[allow(dead_code, reason = "a proof is held, not read")]
pub(crate) enum InitProof {
    /// SNP is up.
    SnpIsUp(SnpIsUp),
    /// SNP_EN is set on no CPU.
    NoSnpEn(NoSnpEn),
}

/// Proof that SNP firmware is in the INIT state. The proof holds for as long as the command lock is
/// held and nobody stops SNP.
#[derive(Clone, Copy)]
pub(crate) struct SnpIsUp(());

/// The way to firmware: the mailbox, the pages that hold command buffers, and the state of SNP
/// firmware, which decides what kind of page firmware may write to.
pub(crate) struct Channel<T> {
    transport: T,
    dev: ARef<Device>,
    host: &'static dyn Host,
    /// The panic path polls, and neither allocates nor records anything.
    wait: Wait,
    /// The page that holds the command buffer of the command in flight. Absent after the page was
    /// lost to firmware; then the next command gets a new page.
    buffer: Option<HvPages>,
    /// The same for SNP_PAGE_RECLAIM, which is issued while another command is being finished.
    reclaim_buffer: Option<HvPages>,
    /// In the INIT state SNP firmware writes only to pages in the Firmware state.
    snp: Snp,
    /// The state of SNP firmware, and more, for the panic path.
    record: Arc<Record>,
    /// See [`Self::take_reset_sign`].
    reset_sign: Option<ResetSign>,
    /// See [`Self::take_platform_command`].
    platform_command: bool,
    /// Firmware was replaced and does not work: it refuses all commands but that of another image
    /// (RESTORE_REQUIRED), also SNP_PAGE_RECLAIM. Pages that it was given would be lost.
    unusable: bool,
}

/// A sign that firmware was reset, and is not in the state any more that the driver has brought it
/// to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ResetSign {
    /// Firmware has answered INVALID_PLATFORM_STATE. There may be other reasons for that.
    Answer,
    /// The interrupt registers have lost their values.
    Registers,
}

impl<T: Transport> Channel<T> {
    /// A channel through `transport` on `host`, with its buffers allocated. SNP firmware is taken
    /// to be in the UNINIT state.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn new(dev: ARef<Device>, transport: T, host: &'static dyn Host) -> Result<Self> {
        Ok(Self {
            transport,
            dev,
            host,
            wait: Wait::Interrupt,
            buffer: Some(HvPages::zeroed(Gfp::KERNEL, 0)?),
            reclaim_buffer: Some(HvPages::zeroed(Gfp::KERNEL, 0)?),
            snp: Snp::Down,
            reset_sign: None,
            platform_command: false,
            unusable: false,
            record: Arc::new(Record::new()?, GFP_KERNEL)?,
        })
    }

    /// The same firmware through another `transport`, with buffers of its own: for the panic path.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn for_panic<P: Transport>(&self, transport: P) -> Result<Channel<P>> {
        let mut channel = Channel::new(self.dev.clone(), transport, self.host)?;
        channel.record = self.record.clone();
        channel.wait = Wait::Poll;
        Ok(channel)
    }

    /// What firmware was asked to do, for the panic path.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Waits for firmware's answer to the last command, whoever issued it; see
    /// [`Transport::poll_idle`].
    ///
    /// # Errors
    ///
    /// See [`NotIdle`].
    pub(crate) fn poll_idle(&self, ms: u32) -> Result<(), NotIdle> {
        self.transport.poll_idle(ms)
    }

    /// The PSP's device, for messages.
    pub(crate) fn dev(&self) -> &Device {
        &self.dev
    }

    /// The machine, which snp_host prepares for SNP.
    pub(crate) fn host(&self) -> &'static dyn Host {
        self.host
    }

    /// Why no command can be issued any more, if so.
    pub(crate) fn dead(&self) -> Option<Dead> {
        self.transport.dead()
    }

    /// Whoever lends pages checks this first: pages that are lent to a dead mailbox never come
    /// back, although firmware does not even get their address.
    ///
    /// # Errors
    ///
    /// [`CmdError::Dead`]; RESTORE_REQUIRED if firmware is [unusable](Self::set_unusable).
    pub(crate) fn alive(&self) -> Result<(), CmdError> {
        match self.transport.dead() {
            Some(why) => Err(CmdError::Dead(why)),
            None if self.unusable => Err(CmdError::Firmware(Status::RESTORE_REQUIRED)),
            None => Ok(()),
        }
    }

    /// Whether firmware was replaced and does not work: then it is asked nothing any more. Returns
    /// what was set before.
    pub(crate) fn set_unusable(&mut self, unusable: bool) -> bool {
        core::mem::replace(&mut self.unusable, unusable)
    }

    /// Whether SNP firmware is in the INIT state.
    pub(crate) fn snp_init(&self) -> bool {
        !matches!(self.snp, Snp::Down)
    }

    /// The state of SNP firmware.
    pub(crate) fn snp(&self) -> &Snp {
        &self.snp
    }

    fn set_snp(&mut self, snp: Snp) {
        self.snp = snp;
        self.record.set_snp(self.snp_init());
    }

    /// The kind of page that firmware writes to now.
    pub(crate) fn page_kind(&self) -> PageKind {
        match self.snp_init() {
            true => PageKind::Assigned,
            false => PageKind::Lent,
        }
    }

    /// The strongest sign of a reset since the last call.
    pub(crate) fn take_reset_sign(&mut self) -> Option<ResetSign> {
        let answer = self.reset_sign.take();
        match self.transport.take_reset() {
            true => Some(ResetSign::Registers),
            false => answer,
        }
    }

    /// Whether firmware was given a command since the last call that may change its persistent
    /// state.
    pub(crate) fn take_platform_command(&mut self) -> bool {
        core::mem::take(&mut self.platform_command)
    }

    /// Gives pages to firmware to write to: in the Firmware state if SNP firmware is initialised.
    ///
    /// # Errors
    ///
    /// As [`Self::alive`] and [`HvPages::into_firmware`].
    pub(crate) fn give(&mut self, pages: HvPages) -> Result<FwPages, CmdError> {
        self.give_as(self.page_kind(), pages)
    }

    fn give_as(&mut self, kind: PageKind, pages: HvPages) -> Result<FwPages, CmdError> {
        self.alive()?;
        match kind {
            PageKind::Assigned => pages.into_firmware(self).map_err(CmdError::Transport),
            PageKind::Lent => Ok(pages.lend()),
        }
    }

    /// Lends pages to firmware for the time of `command`, which gets their addresses.
    ///
    /// # Errors
    ///
    /// As [`Self::alive`] and `command`. Pages are lost if the mailbox has died, which has been
    /// logged: firmware may still read them.
    pub(crate) fn lending<R, const N: usize>(
        &mut self,
        pages: [HvPages; N],
        command: impl FnOnce(&mut Self, [Address; N]) -> Result<R, CmdError>,
    ) -> Result<R, CmdError> {
        self.alive()?;
        let pages = pages.map(HvPages::lend);
        let addresses = pages.each_ref().map(|pages| pages.spa().encrypted());
        let result = command(self, addresses);
        for pages in pages {
            let _ = pages.take_back(self);
        }
        result
    }

    /// Issues a command of the driver's own. Afterwards `request` holds what firmware left in the
    /// command buffer, also if firmware refused the command: so it answers a query for a length.
    ///
    /// # Errors
    ///
    /// See [`CmdError`]. Nothing has been logged, except for the death of the mailbox.
    pub(crate) fn issue<R: Request>(
        &mut self,
        command: Command<R>,
        request: &mut R,
    ) -> Result<(), CmdError> {
        self.run_request(command.info(), request)
    }

    /// Issues a command that starts firmware. `cmd/init.rs` alone calls this, with the proof that
    /// the command is allowed now.
    fn issue_start<R: Request>(
        &mut self,
        command: StartCommand<R>,
        request: &mut R,
    ) -> Result<(), CmdError> {
        self.run_request(command.info(), request)
    }

    /// Issues a command whose failure nobody expects, and logs a failure.
    ///
    /// # Errors
    ///
    /// See [`CmdError`].
    pub(crate) fn require<R: Request>(
        &mut self,
        command: Command<R>,
        request: &mut R,
    ) -> Result<(), CmdError> {
        let info = command.info();
        self.issue(command, request)
            .inspect_err(|err| self.report(info, *err))
    }

    fn run_request<R: Request>(
        &mut self,
        command: &'static CommandInfo,
        request: &mut R,
    ) -> Result<(), CmdError> {
        // As bytes, so that one function serves all commands.
        let mut bytes = [0; MAX_LEN];
        let bytes = bytes.get_mut(..size_of::<R>()).ok_or(EINVAL)?;
        bytes.copy_from_slice(request.as_bytes());
        let result = self.run(command, bytes);
        if let Ok(answer) = R::read_from_bytes(bytes) {
            *request = answer;
        }
        result
    }

    /// Gives firmware a page of this kind for an answer, calls `command` with its address, and
    /// returns a copy of the answer.
    ///
    /// # Errors
    ///
    /// As [`Self::give`] and `command`; if the page cannot be taken back.
    pub(crate) fn answer_in_page<A: FromBytes>(
        &mut self,
        kind: PageKind,
        command: impl FnOnce(&mut Self, Address) -> Result<(), CmdError>,
    ) -> Result<A, CmdError> {
        let page = HvPages::zeroed(Gfp::KERNEL_ACCOUNT, 0)?;
        let page = self.give_as(kind, page)?;
        let result = command(self, page.spa().encrypted());
        let page = match page.take_back(self) {
            Ok(page) => page,
            Err(_) => return Err(CmdError::losing(&result)),
        };
        result?;
        match A::read_from_prefix(page.bytes()) {
            Ok((answer, _)) => Ok(answer),
            Err(_) => Err(EINVAL.into()),
        }
    }

    /// Logs a failure.
    pub(crate) fn report(&self, command: &CommandInfo, err: CmdError) {
        match err {
            // The mailbox has said so.
            CmdError::Died(_) => {}
            err => log::err!(
                self.dev,
                "command-failed",
                "{} failed: {}",
                command.name,
                err.of(command.id)
            ),
        }
    }

    /// Issues a command with `data` as its command buffer and copies the buffer back, also if
    /// firmware refused the command.
    fn run(&mut self, command: &'static CommandInfo, data: &mut [u8]) -> Result<(), CmdError> {
        self.alive()?;
        if data.len() != usize::from(command.len) {
            return Err(EINVAL.into());
        }
        if data.is_empty() {
            return status_to_result(self.execute(command, Address::NONE)?);
        }

        let assign = command.writes_buffer && self.snp_init() && command.id.is_legacy();
        let buffer = filled(self.buffer.take(), data, self.wait)?;
        let buffer = if assign {
            buffer.into_firmware(self)?
        } else {
            buffer.lend()
        };
        let status = self.execute(command, buffer.spa().encrypted());
        if self.wait == Wait::Poll && self.dead().is_some() {
            // The panic path does not record the pages that it loses: recording takes a lock and
            // memory.
            core::mem::forget(buffer);
            return status_to_result(status?);
        }
        let buffer = buffer.take_back(self);
        let status = status?;
        let buffer = buffer.map_err(|_| CmdError::Lost(status))?;
        if let Some(answer) = buffer.bytes().get(..data.len()) {
            data.copy_from_slice(answer);
        }
        self.buffer = Some(buffer);
        status_to_result(status)
    }

    /// Has firmware execute a command, and keeps the record for the panic path. The answer may be a
    /// [sign of a reset](Self::take_reset_sign).
    fn execute(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
    ) -> Result<Status, CmdError> {
        self.record.asked(command);
        self.platform_command |= command.id.is_for_sev_platform();
        let status = match self.wait {
            Wait::Interrupt => self.execute_traced(command, buffer),
            // In a panic the clock cannot be read: a stopped CPU may be setting it.
            Wait::Poll => self.transport.execute(command, buffer, self.wait),
        }?;
        self.record.answered(command, status);
        if status == Status::INVALID_PLATFORM_STATE {
            self.reset_sign = Some(ResetSign::Answer);
        }
        Ok(status)
    }

    fn execute_traced(
        &mut self,
        command: &'static CommandInfo,
        buffer: Address,
    ) -> Result<Status, CmdError> {
        let (id, name) = (command.id.raw(), command.name);
        trace::command_start(id, name, buffer.raw());
        state::issued(command);
        let start = Instant::<Monotonic>::now();
        let answer = self.transport.execute(command, buffer, Wait::Interrupt);
        state::ended(command, answer);
        // CAST: Not negative.
        let us = start.elapsed().as_micros_ceil() as u64;
        let (error, status) = traced(answer);
        trace::command_done(id, name, error, status, us);
        answer
    }
}

/// Errno and status in the trace: one of them is 0.
fn traced(answer: Result<Status, CmdError>) -> (c_int, u16) {
    match answer {
        Ok(status) => (0, status.raw()),
        Err(err) => (err.errno().to_errno(), 0),
    }
}

/// A page that starts with `data`: `page` if firmware has not kept it, else a new one.
fn filled(page: Option<HvPages>, data: &[u8], wait: Wait) -> Result<HvPages, CmdError> {
    let mut page = match page {
        Some(page) => page,
        // The panic path allocates nothing.
        None if wait == Wait::Poll => return Err(ENOMEM.into()),
        None => HvPages::zeroed(Gfp::KERNEL, 0)?,
    };
    page.put(0, data)?;
    Ok(page)
}

fn status_to_result(status: Status) -> Result<(), CmdError> {
    if status.is_success() {
        Ok(())
    } else {
        Err(CmdError::Firmware(status))
    }
}

impl<T: Transport> Reclaimer for Channel<T> {
    type Refusal = CmdError;
    type Rmp = dyn Host;

    fn rmp(&self) -> &(dyn Host + 'static) {
        self.host
    }

    fn is_dead(&self) -> bool {
        self.transport.dead().is_some()
    }

    fn page_reclaim(&mut self, page: Spa) -> Result<(), CmdError> {
        self.alive()?;
        let request = PageReclaim {
            paddr: page.plain(),
        };
        let info = SNP_PAGE_RECLAIM.info();
        let buffer = filled(self.reclaim_buffer.take(), request.as_bytes(), self.wait)?.lend();
        let status = self.execute(info, buffer.spa().encrypted());
        // Fails only if the mailbox has just died.
        self.reclaim_buffer = buffer.take_back(self).ok();
        status_to_result(status?)
    }
}
