// SPDX-License-Identifier: GPL-2.0

//! Command buffers and the memory behind them, against a firmware and an RMP that follow a script.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_commands)]
#[allow(unsafe_code, reason = "the macro's, and the licence of a C caller")]
mod suite {
    use super::super::*;
    use crate::{
        pages::leaked,
        sys::{
            caller_memory::CallerMemory,
            pages::Pages,
            rmp::Frames,
            said,
            snp_host::HotplugWindow, //
        },
        testing::{
            check,
            compound,
            device, //
            script::{
                silence,
                Call,
                FakeHost,
                Scripted, //
            },
        },
        wire::{
            command::{
                self,
                TABLE, //
            },
            sev,
            CommandId,
            FwBuffer,
            Relayed,
            Target, //
        },
    };
    use core::cell::{
        Cell,
        RefCell, //
    };

    const PAGE: usize = 4096;
    /// What a caller's memory holds before a command, and what firmware writes.
    const BEFORE: u8 = 0xa5;
    const WRITTEN: u8 = 0x3c;
    /// The length that firmware says it needs.
    const NEEDED: u32 = 0x4567;

    /// What firmware writes behind the n-th field.
    const fn written(n: usize) -> u8 {
        WRITTEN + n as u8
    }

    /// Where in a block of two pages the memory behind the n-th field lies: it begins in the middle
    /// of a page, ends in the middle of the next, and no two are alike.
    const fn place(n: usize) -> (usize, usize) {
        (0x123 + 0x40 * n, 0x1001 + 0x10 * n)
    }

    fn channel<F>(
        dev: &ARef<Device>,
        host: &'static FakeHost,
        snp_init: bool,
        script: F,
    ) -> Result<Channel<Scripted<F>>>
    where
        F: FnMut(&Call) -> Result<Status, CmdError>,
    {
        let mut channel = Channel::new(dev.clone(), Scripted::new(script), host)?;
        if snp_init {
            let enabled = HotplugWindow::open(host)?.prepare()?;
            channel.snp = Snp::Up(enabled);
        }
        Ok(channel)
    }

    /// The commands that other modules may issue.
    fn relayed() -> impl Iterator<Item = &'static CommandInfo> {
        TABLE.iter().filter(|row| Relayed::new(row).is_some())
    }

    fn relay(
        channel: &mut Channel<impl Transport>,
        command: &'static CommandInfo,
        data: &mut [u8],
        memory: &CallerMemory,
    ) -> Result<(), CmdError> {
        let command = Relayed::new(command).ok_or(CmdError::Transport(EPERM))?;
        channel.relay(command, data, memory)
    }

    fn caller() -> CallerMemory {
        // SAFETY: The addresses in the command buffers of this file are those of pages that its
        // `Caller`s own.
        unsafe { CallerMemory::trust() }
    }

    /// Whether an outcome is this status of firmware's.
    fn refused(result: Result<(), CmdError>, status: Status) -> bool {
        matches!(result, Err(err) if err.is(status))
    }

    /// A caller's command buffer, with memory behind each field that firmware writes through.
    struct Caller {
        command: &'static CommandInfo,
        data: [u8; MAX_LEN],
        memory: KVec<Pages>,
    }

    impl Caller {
        fn new(command: &'static CommandInfo) -> Result<Self> {
            let mut caller = Self {
                command,
                data: [0x77; MAX_LEN],
                memory: KVec::new(),
            };
            for &field in command.pages {
                // Nobody names a page here.
                caller.put(field, &0_u64.to_le_bytes())?;
            }
            for (n, field) in command.fw_buffers.iter().enumerate() {
                let mut pages = compound(1)?;
                pages.bytes_mut().fill(BEFORE);
                let (offset, len) = place(n);
                let address = pages.phys() + offset as u64;
                caller.put(field.address, &address.to_le_bytes())?;
                caller.put(field.len, &(len as u32).to_le_bytes())?;
                caller.memory.push(pages, GFP_KERNEL)?;
            }
            Ok(caller)
        }

        fn put(&mut self, offset: u16, bytes: &[u8]) -> Result {
            let target = self.data.get_mut(usize::from(offset)..).ok_or(EINVAL)?;
            target
                .get_mut(..bytes.len())
                .ok_or(EINVAL)?
                .copy_from_slice(bytes);
            Ok(())
        }

        fn buffer(&mut self) -> &mut [u8] {
            let (data, _) = self.data.split_at_mut(self.command.len.into());
            data
        }

        /// Whether the memory behind the n-th field holds `inside(n)` where firmware may write, and
        /// is untouched around it, for every one.
        fn memory_holds(&self, inside: impl Fn(usize) -> u8) -> bool {
            self.memory.iter().enumerate().all(|(n, pages)| {
                let (offset, len) = place(n);
                pages.bytes().iter().enumerate().all(|(at, byte)| {
                    let may = (offset..offset + len).contains(&at);
                    *byte == if may { inside(n) } else { BEFORE }
                })
            })
        }

        fn memory_is_untouched(&self) -> bool {
            self.memory_holds(|_| BEFORE)
        }
    }

    /// The legacy commands with memory that firmware writes through the command buffer.
    fn with_buffers() -> impl Iterator<Item = &'static CommandInfo> {
        TABLE
            .iter()
            .filter(|command| !command.fw_buffers.is_empty())
    }

    /// What firmware does that accepts a command: writes all it may write.
    fn fill(call: &Call) -> Result<(), Error> {
        for (n, field) in call.command.fw_buffers.iter().enumerate() {
            let address: u64 = call.field(field.address)?;
            let len: u32 = call.field(field.len)?;
            if len != 0 {
                call.memory()
                    .with(address, len as usize, |bytes| bytes.fill(written(n)));
            }
        }
        Ok(())
    }

    /// Pages that are firmware's while it works on `command`, apart from the command buffer.
    fn given(command: &CommandInfo) -> i32 {
        2 * command.fw_buffers.len() as i32
    }

    /// Pages that are lost if the `stuck`th of those, from 0, cannot be taken back; the command
    /// buffer comes first. A block of the driver's own is lost as a whole.
    fn lost_with(command: &CommandInfo, stuck: i32) -> usize {
        let Ok(stuck) = usize::try_from(stuck - i32::from(command.writes_buffer)) else {
            return 1;
        };
        match command.fw_buffers.get(stuck / 2).map(|field| field.target) {
            Some(Target::GuestPages) => 2 - stuck % 2,
            _ => 2,
        }
    }

    #[test]
    fn a_request_comes_back_as_firmware_left_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for status in [Status::SUCCESS, Status::INVALID_LEN, Status::new(0x9000)] {
            for snp_init in [false, true] {
                let script = |call: &Call| {
                    if call.is(CommandId::GET_ID) {
                        call.set_field(8, 0x1234_u32);
                        Ok(status)
                    } else {
                        Ok(Status::SUCCESS)
                    }
                };
                let mut channel = channel(&dev, &HOST, snp_init, script)?;
                let mut request = sev::OutBuffer {
                    address: zerocopy::transmute!(0x1000_u64),
                    len: 64,
                };
                let result = channel.issue(command::GET_ID, &mut request);
                check!(result.is_ok() == status.is_success(), "{:?}", status);
                check!(
                    status.is_success() || refused(result, status),
                    "{:?}",
                    status
                );
                let (address, len) = (request.address, request.len);
                check!(address.raw() == 0x1000 && len == 0x1234, "{:?}", status);
                check!(HOST.assigned() == 0, "{:?}", status);
            }
        }
        Ok(())
    }

    #[test]
    fn without_snp_every_command_passes_as_it_is() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in relayed() {
            for status in [Status::SUCCESS, Status::INVALID_PARAM] {
                let mut caller = Caller::new(command)?;
                let mut before = [0; MAX_LEN];
                let before = before.get_mut(..command.len.into()).ok_or(EINVAL)?;
                before.copy_from_slice(caller.buffer());
                let same = Cell::new(false);
                let calls = Cell::new(0);
                {
                    let script = |call: &Call| {
                        calls.set(calls.get() + 1);
                        same.set(
                            call.buffer(|bytes| *bytes == *before) && call.wait == Wait::Interrupt,
                        );
                        call.buffer(|bytes| bytes.fill(WRITTEN));
                        check_none_assigned(&HOST)?;
                        Ok(status)
                    };
                    let mut channel = channel(&dev, &HOST, false, script)?;
                    let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                    check!(result.is_ok() == status.is_success(), "{}", command.name);
                    check!(
                        status.is_success() || refused(result, status),
                        "{}",
                        command.name
                    );
                }
                check!(same.get() && calls.get() == 1, "{}", command.name);
                check!(
                    caller.buffer().iter().all(|byte| *byte == WRITTEN),
                    "{}",
                    command.name
                );
            }
        }
        Ok(())
    }

    fn check_none_assigned(host: &FakeHost) -> Result<(), CmdError> {
        match host.assigned() {
            0 => Ok(()),
            _ => Err(CmdError::Transport(EPERM)),
        }
    }

    #[test]
    fn with_snp_firmware_owns_what_it_writes_and_nothing_else() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in relayed() {
            for status in [Status::SUCCESS, Status::INVALID_PARAM] {
                let mut caller = Caller::new(command)?;
                let owned = Cell::new(-1);
                let addresses_ok = Cell::new(true);
                let expected: [Option<u64>; 2] =
                    [0, 1].map(|n| caller.memory.get(n).map(Pages::phys));
                {
                    let script = |call: &Call| {
                        if call.is(CommandId::SNP_PAGE_RECLAIM) && !call.is(command.id) {
                            return Ok(Status::SUCCESS);
                        }
                        owned.set(HOST.assigned());
                        let fields = call.command.fw_buffers.iter().zip(expected);
                        for (n, (field, own)) in fields.enumerate() {
                            let (offset, len) = place(n);
                            let address: u64 =
                                call.field(field.address).map_err(CmdError::Transport)?;
                            let own = own.map(|own| own + offset as u64);
                            let is_own = own == Some(address);
                            let guest = field.target == Target::GuestPages;
                            addresses_ok.set(addresses_ok.get() && is_own == guest);
                            if !guest {
                                // A page of its own, and nothing of an earlier owner in it.
                                let clean = address % PAGE as u64 == 0
                                    && call.memory().is_filled(address, len, 0);
                                addresses_ok.set(addresses_ok.get() && clean);
                            }
                        }
                        fill(call).map_err(CmdError::Transport)?;
                        for field in call.command.fw_buffers {
                            call.set_field(field.len, NEEDED);
                        }
                        Ok(status)
                    };
                    let mut channel = channel(&dev, &HOST, true, script)?;
                    let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                    check!(
                        result.is_ok() == status.is_success(),
                        "{} {:?}",
                        command.name,
                        result
                    );
                }
                // Command buffers of SNP commands are none of firmware's.
                let legacy = !command.name.starts_with("SNP_");
                let buffer = i32::from(command.writes_buffer && legacy);
                check!(
                    owned.get() == given(command) + buffer,
                    "{} {}",
                    command.name,
                    owned.get()
                );
                check!(addresses_ok.get(), "{}", command.name);
                check!(HOST.assigned() == 0, "{}", command.name);
                // What firmware wrote arrives even if it refused: lengths are asked for in that
                // way.
                check!(caller.memory_holds(written), "{} {}", command.name, status);
                for (n, (field, own)) in command.fw_buffers.iter().zip(expected).enumerate() {
                    let (offset, _) = place(n);
                    let len = caller.data.get(field.len.into()..).ok_or(EINVAL)?;
                    let len = len.first_chunk().copied().map(u32::from_le_bytes);
                    check!(len == Some(NEEDED), "{}", command.name);
                    let data = caller.data.get(field.address.into()..).ok_or(EINVAL)?;
                    let address = data.first_chunk().copied().map(u64::from_le_bytes);
                    check!(
                        address == own.map(|own| own + offset as u64),
                        "{}",
                        command.name
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_field_of_length_zero_is_left_alone() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in with_buffers() {
            let mut caller = Caller::new(command)?;
            for field in command.fw_buffers {
                caller.put(field.len, &[0; 4])?;
            }
            let buffer = i32::from(command.writes_buffer);
            let script = |call: &Call| match HOST.assigned() {
                n if n == buffer || call.is(CommandId::SNP_PAGE_RECLAIM) => Ok(Status::SUCCESS),
                _ => Err(CmdError::Transport(EPERM)),
            };
            let mut channel = channel(&dev, &HOST, true, script)?;
            check!(
                relay(&mut channel, command, caller.buffer(), &self::caller()).is_ok(),
                "{}",
                command.name
            );
            check!(caller.memory_is_untouched(), "{}", command.name);
        }
        Ok(())
    }

    #[test]
    fn memory_that_cannot_be_given_stops_the_command() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in with_buffers() {
            let buffer = i32::from(command.writes_buffer);
            for page in 0..given(command) + buffer {
                let mut caller = Caller::new(command)?;
                let before = caller.data;
                let leaked_before = leaked();
                let issued = Cell::new(false);
                // For pages of the driver's own it tries others, and keeps those that were refused.
                let field = command.fw_buffers.get(page as usize / 2);
                let (refused, kept) = match field.map(|field| field.target) {
                    Some(Target::GuestPages) => (EFAULT, 0),
                    Some(Target::Bounce) => (EIO, 3 * 2),
                    None => (EIO, 3),
                };
                {
                    let script = |call: &Call| {
                        issued.set(issued.get() || !call.is(CommandId::SNP_PAGE_RECLAIM));
                        Ok(Status::SUCCESS)
                    };
                    let mut channel = channel(&dev, &HOST, true, script)?;
                    HOST.private_fails.set(page as usize, usize::MAX);
                    let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                    let errno = result.map_err(CmdError::errno).err();
                    check!(errno == Some(refused), "{} {}", command.name, page);
                    HOST.private_fails.set(0, 0);
                }
                check!(!issued.get(), "{} {}", command.name, page);
                check!(HOST.assigned() == 0, "{} {}", command.name, page);
                check!(
                    leaked() - leaked_before == kept,
                    "{} {}",
                    command.name,
                    page
                );
                check!(caller.data == before, "{} {}", command.name, page);
                check!(caller.memory_is_untouched(), "{} {}", command.name, page);
            }
        }
        Ok(())
    }

    #[test]
    fn what_firmware_keeps_is_lost_with_its_status() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in with_buffers() {
            let pages = given(command) + i32::from(command.writes_buffer);
            for stuck in 0..pages {
                for status in [Status::SUCCESS, Status::INVALID_PARAM] {
                    let mut caller = Caller::new(command)?;
                    let before = caller.data;
                    let reclaims = Cell::new(0);
                    {
                        let script = |call: &Call| {
                            if !call.is(CommandId::SNP_PAGE_RECLAIM) {
                                return Ok(status);
                            }
                            reclaims.set(reclaims.get() + 1);
                            Ok(if reclaims.get() == stuck + 1 {
                                Status::INVALID_PAGE_STATE
                            } else {
                                Status::SUCCESS
                            })
                        };
                        let mut channel = channel(&dev, &HOST, true, script)?;
                        let lost_before = leaked();
                        let assigned_before = HOST.assigned();
                        let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                        let said =
                            matches!(result, Err(CmdError::Lost(answer)) if answer == status);
                        check!(said, "{} {}", command.name, stuck);
                        let lost = leaked() - lost_before;
                        check!(
                            lost == lost_with(command, stuck),
                            "{} {}: {}",
                            command.name,
                            stuck,
                            lost
                        );
                        check!(HOST.assigned() > assigned_before);
                    }
                    // The caller's addresses, whatever happened.
                    check!(caller.data == before, "{} {}", command.name, stuck);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn after_silence_nothing_is_given_back_and_nothing_more_given() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in relayed() {
            for snp_init in [false, true] {
                let mut caller = Caller::new(command)?;
                let before = caller.data;
                let calls = Cell::new(0);
                let script = |call: &Call| {
                    calls.set(calls.get() + 1);
                    fill(call).map_err(CmdError::Transport)?;
                    silence(call.command)
                };
                // Without SNP, firmware has the caller's own memory.
                let script = |call: &Call| {
                    if snp_init {
                        script(call)
                    } else {
                        silence(call.command)
                    }
                };
                let mut channel = channel(&dev, &HOST, snp_init, script)?;
                let leaked_before = leaked();
                let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                check!(matches!(result, Err(CmdError::Died(_))), "{}", command.name);
                let buffer = usize::from(command.len != 0);
                // What stands in for the caller's memory, or that memory itself.
                let gone = given(command) as usize;
                check!(
                    leaked() - leaked_before == gone + buffer,
                    "{} {}",
                    command.name,
                    leaked() - leaked_before
                );
                check!(caller.data == before, "{}", command.name);
                // What was bounced is not copied: firmware may still be writing it.
                let bounced = |field: &FwBuffer| field.target == Target::Bounce;
                if command.fw_buffers.iter().all(bounced) {
                    check!(caller.memory_is_untouched(), "{}", command.name);
                }

                let leaked_before = leaked();
                let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                check!(matches!(result, Err(CmdError::Dead(_))), "{}", command.name);
                let refused = channel.give(HvPages::zeroed(Gfp::KERNEL, 0)?);
                check!(
                    matches!(refused, Err(CmdError::Dead(_))),
                    "{}",
                    command.name
                );
                let mut asked = false;
                let pages = [0, 1].map(|order| HvPages::zeroed(Gfp::KERNEL, order));
                let [first, second] = pages;
                let refused = channel.lending([first?, second?], |_, _| {
                    asked = true;
                    Ok(())
                });
                check!(
                    matches!(refused, Err(CmdError::Dead(_))) && !asked,
                    "{}",
                    command.name
                );
                check!(leaked() == leaked_before, "{}", command.name);
            }
        }
        Ok(())
    }

    #[test]
    fn a_lost_command_buffer_is_replaced() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let buffer = Cell::new(0);
        let keeps = Cell::new(true);
        let script = |call: &Call| {
            if !call.is(CommandId::SNP_PAGE_RECLAIM) {
                buffer.set(call.spa);
                call.set_field(0, 1_u8);
                return Ok(Status::SUCCESS);
            }
            Ok(if keeps.get() {
                Status::INVALID_PAGE_STATE
            } else {
                Status::SUCCESS
            })
        };
        let mut channel = channel(&dev, &HOST, true, script)?;
        let one_page = |page: &Option<HvPages>| page.as_ref().is_some_and(|page| page.count() == 1);
        check!(one_page(&channel.buffer) && one_page(&channel.reclaim_buffer));
        let mut status = sev::PlatformStatus::default();
        let result = channel.issue(command::PLATFORM_STATUS, &mut status);
        check!(matches!(result, Err(CmdError::Lost(Status::SUCCESS))));
        let lost = buffer.get();
        keeps.set(false);

        // Nothing is allocated while the machine panics.
        channel.wait = Wait::Poll;
        let result = channel.issue(command::PLATFORM_STATUS, &mut status);
        check!(matches!(result, Err(CmdError::Transport(err)) if err == ENOMEM));
        check!(buffer.get() == lost);
        channel.wait = Wait::Interrupt;

        for _ in 0..2 {
            let result = channel.issue(command::PLATFORM_STATUS, &mut status);
            check!(result.is_ok());
            check!(buffer.get() != lost);
            check!(status.api_major == 1);
            check!(one_page(&channel.buffer) && one_page(&channel.reclaim_buffer));
        }
        let kept = buffer.get();
        channel.wait = Wait::Poll;
        check!(channel.issue(command::PLATFORM_STATUS, &mut status).is_ok());
        check!(buffer.get() == kept);
        Ok(())
    }

    #[test]
    fn a_buffer_of_another_length_is_not_issued() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let calls = Cell::new(0);
        let script = |_: &Call| {
            calls.set(calls.get() + 1);
            Ok(Status::SUCCESS)
        };
        let mut channel = channel(&dev, &HOST, false, script)?;
        for command in relayed() {
            let mut data = [0; 69];
            for len in [command.len + 1, command.len.saturating_sub(1)] {
                if len == command.len {
                    continue;
                }
                let data = data.get_mut(..len.into()).ok_or(EINVAL)?;
                let result = relay(&mut channel, command, data, &caller());
                let refused = matches!(result, Err(CmdError::Transport(err)) if err == EINVAL);
                check!(refused, "{} {}", command.name, len);
            }
        }
        check!(calls.get() == 0);
        Ok(())
    }

    #[test]
    fn memory_that_an_unanswered_command_names_is_kept() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        type Outcome = fn(&CommandInfo) -> Result<Status, CmdError>;
        let outcomes: [Outcome; 3] = [
            |_| Ok(Status::SUCCESS),
            |_| Ok(Status::INVALID_PARAM),
            silence,
        ];
        for (command, snp_init) in relayed().flat_map(|row| [(row, false), (row, true)]) {
            for (n, outcome) in outcomes.iter().enumerate() {
                let mut caller = Caller::new(command)?;
                for &field in command.pages {
                    let pages = Pages::zeroed(Gfp::KERNEL, 0)?;
                    // Whether bit 0 is set or not.
                    caller.put(field, &(pages.phys() | 1).to_le_bytes())?;
                    caller.memory.push(pages, GFP_KERNEL)?;
                }
                let before = leaked();
                let script = |call: &Call| match call.is(CommandId::SNP_PAGE_RECLAIM) {
                    true if command.id != call.command.id => Ok(Status::SUCCESS),
                    _ => outcome(call.command),
                };
                let mut channel = channel(&dev, &HOST, snp_init, script)?;
                let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                let silent = n == 2;
                check!(
                    matches!(result, Err(CmdError::Died(_))) == silent,
                    "{}",
                    command.name
                );
                // The command buffer is lost as well; what is behind a field of the table, or
                // stands in for it, has two pages.
                let buffer = usize::from(command.len != 0);
                let named = 2 * command.fw_buffers.len() + command.pages.len();
                let lost = if silent { buffer + named } else { 0 };
                check!(leaked() == before + lost, "{} {}", command.name, n);
                // A dead mailbox costs nothing.
                let _ = relay(&mut channel, command, caller.buffer(), &self::caller());
                check!(leaked() == before + lost, "{} {}", command.name, n);
            }
        }
        Ok(())
    }

    #[test]
    fn the_record_is_right_while_a_command_is_in_flight() -> Result {
        let record = Record::new()?;
        check!(!record.snp());
        for init in [CommandId::SNP_INIT, CommandId::SNP_INIT_EX] {
            record.asked(init.row());
            check!(record.snp() && record.command() == init.row().name);
            record.answered(init.row(), Status::INVALID_CONFIG);
            check!(!record.snp());
            record.asked(init.row());
            record.answered(init.row(), Status::SUCCESS);
            check!(record.snp());
            // No other command changes it, whatever firmware says.
            for row in TABLE {
                let shutdown = row.id == CommandId::SNP_SHUTDOWN_EX;
                record.asked(row);
                check!(record.snp() && record.command() == row.name, "{}", row.name);
                if !row.id.initialises_snp() {
                    record.answered(row, Status::INVALID_PARAM);
                    check!(record.snp(), "{}", row.name);
                }
                record.answered(row, Status::SUCCESS);
                check!(record.snp() != shutdown, "{}", row.name);
                record.set_snp(true);
            }
            record.set_snp(false);
        }
        Ok(())
    }

    /// Nor is anything behind an address of 0, or of no length.
    #[test]
    fn memory_that_an_unanswered_command_does_not_name_is_not_lost() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for command in with_buffers() {
            // The relay asks for nothing else.
            check!(command.id.is_legacy(), "{}", command.name);
            for (named, len, lost) in [(false, 1_u32, 0), (true, 0, 0), (true, 1, 1)] {
                let mut caller = Caller::new(command)?;
                for field in command.fw_buffers {
                    if !named {
                        caller.put(field.address, &[0; 8])?;
                    }
                    caller.put(field.len, &len.to_le_bytes())?;
                }
                let mut channel = channel(&dev, &HOST, false, |call: &Call| silence(call.command))?;
                let before = leaked();
                let result = relay(&mut channel, command, caller.buffer(), &self::caller());
                check!(matches!(result, Err(CmdError::Died(_))), "{}", command.name);
                let lost = 1 + lost * command.fw_buffers.len();
                check!(
                    leaked() == before + lost,
                    "{} {} {}",
                    command.name,
                    named,
                    len
                );
            }
        }
        Ok(())
    }

    /// The panic path reads it while firmware is at work.
    #[test]
    fn a_command_is_on_record_before_firmware_gets_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let record = RefCell::new(None::<Arc<Record>>);
        let right = Cell::new(false);
        let script = |call: &Call| {
            let record = record.borrow();
            right.set(record.as_ref().is_some_and(|record| {
                record.command() == call.command.name
                    && record.snp() == call.command.id.initialises_snp()
            }));
            Ok(Status::SUCCESS)
        };
        for wait in [Wait::Interrupt, Wait::Poll] {
            let mut channel = channel(&dev, &HOST, false, script)?;
            channel.wait = wait;
            *record.borrow_mut() = Some(channel.record().clone());
            for row in TABLE {
                channel.record().set_snp(false);
                let mut data = [0; MAX_LEN];
                let data = data.get_mut(..row.len.into()).ok_or(EINVAL)?;
                right.set(false);
                check!(
                    channel.run(row, data).is_ok() && right.get(),
                    "{}",
                    row.name
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_platform_command_is_known_until_somebody_asks() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let status = Cell::new(Status::SUCCESS);
        let mut channel = channel(&dev, &HOST, false, |_: &Call| Ok(status.get()))?;
        check!(!channel.take_platform_command());
        check!(!channel
            .for_panic(Scripted::new(|_: &Call| Ok(Status::SUCCESS)))?
            .take_platform_command());
        for row in TABLE {
            for answer in [Status::SUCCESS, Status::INVALID_PARAM] {
                let mut data = [0; MAX_LEN];
                let data = data.get_mut(..row.len.into()).ok_or(EINVAL)?;
                status.set(answer);
                check!(
                    channel.run(row, data).is_ok() == answer.is_success(),
                    "{}",
                    row.name
                );
                // By the ABI's numbers: those of the platform come before those of guests.
                let platform = row.id.raw() < 0x20;
                check!(channel.take_platform_command() == platform, "{}", row.name);
                check!(!channel.take_platform_command(), "{}", row.name);
            }
        }
        Ok(())
    }

    /// What the panic path loses is on no list: that takes a lock, and memory.
    #[test]
    fn what_a_panic_loses_is_not_counted() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        for (wait, lost) in [(Wait::Interrupt, 1), (Wait::Poll, 0)] {
            for snp_init in [false, true] {
                let before = leaked();
                let mut channel =
                    channel(&dev, &HOST, snp_init, |call: &Call| silence(call.command))?;
                channel.wait = wait;
                let mut status = sev::PlatformStatus::default();
                let result = channel.issue(command::PLATFORM_STATUS, &mut status);
                check!(matches!(result, Err(CmdError::Died(_))), "{:?}", wait);
                check!(leaked() == before + lost, "{:?} {}", wait, snp_init);
                check!(channel.buffer.is_none(), "{:?}", wait);
            }
        }
        Ok(())
    }

    #[test]
    fn a_trace_has_an_errno_or_a_status() -> Result {
        let silent = Dead::Gone { command: "INIT" };
        for (answer, expected) in [
            (Ok(Status::SUCCESS), (0, 0)),
            (Ok(Status::INVALID_LEN), (0, 4)),
            (Err(CmdError::Died(silent)), (-110, 0)),
            (Err(CmdError::Dead(silent)), (-16, 0)),
        ] {
            check!(traced(answer) == expected, "{:?}", answer);
        }
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let buffer = Cell::new(0);
        let script = |call: &Call| {
            buffer.set(call.spa);
            Ok(Status::INVALID_LEN)
        };
        // In a panic nothing is traced.
        for (wait, count) in [(Wait::Interrupt, 2), (Wait::Poll, 0)] {
            let mut channel = channel(&dev, &HOST, false, script)?;
            channel.wait = wait;
            said::forget();
            let mut status = sev::PlatformStatus::default();
            let result = channel.issue(command::PLATFORM_STATUS, &mut status);
            check!(refused(result, Status::INVALID_LEN));
            check!(said::traced(
                [
                    fmt!("start 0x4 PLATFORM_STATUS {:#x}", buffer.get()),
                    fmt!("done 0x4 PLATFORM_STATUS 0 0x4"),
                ]
                .get(..count)
                .unwrap_or_default()
            ));
        }
        Ok(())
    }

    #[test]
    fn a_sign_of_a_reset_stays_until_somebody_asks() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        let mut answers = [Status::INVALID_PLATFORM_STATE, Status::SUCCESS].into_iter();
        let script = |_: &Call| -> Result<Status, CmdError> {
            Ok(answers.next().unwrap_or(Status::INVALID_PARAM))
        };
        let mut channel = channel(&dev, &HOST, false, script)?;
        for sign in [Some(ResetSign::Answer), None] {
            let _ = channel.issue(command::DF_FLUSH, &mut ());
            let _ = channel.issue(command::DF_FLUSH, &mut ());
            check!(channel.take_reset_sign() == sign);
        }
        Ok(())
    }

    #[test]
    fn the_record_begins_with_nothing() -> Result {
        let record = Record::new()?;
        check!(!record.snp() && !record.x86_snp_shutdown());
        check!(record.guests() == 0 && record.pages() == 0);
        check!(record.command() == "a command");
        Ok(())
    }

    #[test]
    fn the_record_has_the_tmr_as_it_is() -> Result {
        let record = Record::new()?;
        check!(record.sev_areas().next().is_none());
        for order in [0, 1, 9] {
            let pages = Pages::zeroed(Gfp::KERNEL, order)?;
            let frames = Frames::of(&pages);
            record.set_tmr(Some(frames));
            let found = record.sev_areas().next().ok_or(ENOENT)?;
            check!(found.phys() == frames.phys() && found.count() == frames.count());
            record.set_tmr(None);
            check!(record.sev_areas().next().is_none());
        }
        Ok(())
    }
}
