// SPDX-License-Identifier: GPL-2.0

//! The platform against a firmware and a host that follow a script: what it asks of them, in which
//! order, when each of them refuses.

use kernel::macros::kunit_tests;

#[kunit_tests(ccp_platform)]
#[allow(unsafe_code, reason = "the macro's, and the licence of a C caller")]
mod suite {
    use super::super::{
        leave::Leaving,
        *, //
    };
    use crate::{
        mailbox::{
            NotIdle,
            Wait, //
        },
        nv::{
            self,
            Contents, //
        },
        pages::{
            leaked,
            Address,
            HvPages, //
        },
        sys::{
            bindings::*,
            caller_memory::CallerMemory,
            direct_map,
            errno::{
                ENODATA,
                EOPNOTSUPP, //
            },
            fake_sme::Sme,
            iomem::MemoryResource,
            mem_encrypt,
            pages::Gfp,
            rmp::Frames,
            said, //
        },
        testing::{
            check,
            compound,
            device,
            script::{
                silence,
                Call,
                Event::{
                    self,
                    *, //
                },
                FakeHost,
                Scripted,
                CLOSE_INIT_REFUSED,
                CLOSE_SNP_OFF,
                CPUS, //
            }, //
        },
        wire::{
            command::TABLE,
            sev::{
                Init,
                InitEx,
                PlatformStatus, //
            },
            snp::{
                Feature,
                FeatureInfo,
                SnpConfig,
                SnpInitEx,
                SnpShutdownEx,
                SnpStatus,
                INIT_CIPHERTEXT_HIDING_EN,
                SHUTDOWN_X86_SNP, //
            },
            status,
            CommandId,
            Relayed,
            Status, //
        },
    };
    use core::{
        cell::{
            Cell,
            RefCell, //
        },
        ops::Range,
        sync::atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
    };
    use kernel::{
        bindings::{
            IORES_DESC_ACPI_NV_STORAGE,
            IORES_DESC_ACPI_TABLES,
            IORES_DESC_NONE,
            IORES_DESC_RESERVED, //
        },
        faux, //
    };

    const SNP_INIT: Event = Command(CommandId::SNP_INIT_EX);
    const SNP_DF_FLUSH: Event = Command(CommandId::SNP_DF_FLUSH);
    const SNP_SHUTDOWN: Event = Command(CommandId::SNP_SHUTDOWN_EX);
    const INIT: Event = Command(CommandId::INIT);
    const DF_FLUSH: Event = Command(CommandId::DF_FLUSH);
    const INIT_EX: Event = Command(CommandId::INIT_EX);
    const SHUTDOWN: Event = Command(CommandId::SHUTDOWN);
    const PEK_GEN: Event = Command(CommandId::PEK_GEN);
    const SNP_STATUS: Event = Command(CommandId::SNP_PLATFORM_STATUS);
    const FEATURE_INFO: Event = Command(CommandId::SNP_FEATURE_INFO);
    const STATUS: Event = Command(CommandId::PLATFORM_STATUS);

    const KEEP_LEGACY: Event = Keep(snp_host_keep::SNP_HOST_KEEP_LEGACY_SHUTDOWN.0);
    const KEEP_REFUSED: Event = Keep(snp_host_keep::SNP_HOST_KEEP_SHUTDOWN_FAILED.0);
    const KEEP_TIMEOUT: Event = Keep(snp_host_keep::SNP_HOST_KEEP_TIMEOUT.0);
    const KEEP_DEAD: Event = Keep(snp_host_keep::SNP_HOST_KEEP_MAILBOX_DEAD.0);
    const KEEP_HWERROR: Event = Keep(snp_host_keep::SNP_HOST_KEEP_HARDWARE_ERROR.0);
    const KEEP_RMP_INIT: Event = Keep(snp_host_keep::SNP_HOST_KEEP_RMP_INIT_FAILED.0);
    const KEEP_RESET: Event = Keep(snp_host_keep::SNP_HOST_KEEP_FIRMWARE_RESET.0);
    const KEEP_UNDECIDED: Event = Keep(snp_host_keep::SNP_HOST_KEEP_UNDECIDED.0);

    /// All that a start does when nobody refuses.
    const SNP_START: [Event; 4] = [Open, Prepare, SNP_INIT, SNP_DF_FLUSH];
    const START: [Event; 6] = [Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, DF_FLUSH];
    /// The same when the last step fails: SEV is taken back, SNP stays.
    const START_WITHOUT_SEV: [Event; 8] = [
        Open,
        Prepare,
        SNP_INIT,
        SNP_DF_FLUSH,
        INIT,
        DF_FLUSH,
        SHUTDOWN,
        SNP_DF_FLUSH,
    ];
    /// All that a stop does with firmware that keeps SNP_EN.
    const STOP: [Event; 3] = [SHUTDOWN, SNP_SHUTDOWN, KEEP_LEGACY];

    /// What firmware does instead of succeeding.
    #[derive(Clone, Copy)]
    enum Fault {
        Refuses(Status),
        Silent,
    }
    use Fault::*;

    /// What takes a WBINVD on all CPUs before it, and what makes a new one necessary.
    const NEED_WBINVD: [CommandId; 5] = [
        CommandId::SNP_INIT,
        CommandId::SNP_INIT_EX,
        CommandId::SNP_DF_FLUSH,
        CommandId::DF_FLUSH,
        CommandId::SNP_SHUTDOWN_EX,
    ];
    const OWE_WBINVD: [CommandId; 6] = [
        CommandId::SNP_INIT,
        CommandId::SNP_INIT_EX,
        CommandId::INIT,
        CommandId::INIT_EX,
        CommandId::SHUTDOWN,
        CommandId::SNP_DECOMMISSION,
    ];

    /// The commands that firmware does not carry out, each the number of times that stands with it.
    struct Plan {
        faults: [Cell<Option<(CommandId, Fault, usize)>>; 2],
        /// SNP_SHUTDOWN_EX with X86_SNP clears SNP_EN.
        clears_snp_en: Cell<bool>,
        reclaims: Cell<usize>,
        /// The state of SNP firmware, and of legacy SEV, as it says it itself.
        snp_init: Cell<bool>,
        sev: Cell<u8>,
        /// The last command was SHUTDOWN.
        stopped_sev: Cell<bool>,
        /// The TMR, or 0.
        tmr: Cell<u64>,
        /// Those that it says it has.
        guests: Cell<u32>,
        /// Those that have an ASID, and whether the ASID of one has to be flushed.
        active: Cell<u32>,
        dirty: Cell<bool>,
        /// Of the last SNP_INIT_EX: flags, and how the ASIDs are split.
        asked_for: Cell<(u32, u16)>,
        /// The NV area, and what firmware found in it.
        nv: Cell<u64>,
        nv_found: Cell<Option<u8>>,
        /// Counts the pages that the panic path would reclaim; the fewest while one was reclaimed.
        on_record: RefCell<Option<KBox<dyn Fn() -> usize>>>,
        least_on_record: Cell<usize>,
    }

    impl Plan {
        fn new() -> Self {
            Self {
                faults: [const { Cell::new(None) }; 2],
                clears_snp_en: Cell::new(true),
                reclaims: Cell::new(0),
                snp_init: Cell::new(false),
                sev: Cell::new(0),
                stopped_sev: Cell::new(false),
                tmr: Cell::new(0),
                guests: Cell::new(0),
                active: Cell::new(0),
                dirty: Cell::new(false),
                asked_for: Cell::new((0, 0)),
                nv: Cell::new(0),
                nv_found: Cell::new(None),
                on_record: RefCell::new(None),
                least_on_record: Cell::new(usize::MAX),
            }
        }

        fn tmr_pages(&self) -> Range<u64> {
            self.tmr.get()..self.tmr.get() + (2 << 20)
        }

        /// Whether legacy SEV is using this page.
        fn is_in_use(&self, page: u64) -> bool {
            let nv = self.nv.get()..self.nv.get() + nv::LEN as u64;
            self.sev.get() != 0 && (self.tmr_pages().contains(&page) || nv.contains(&page))
        }

        fn set(&self, faults: &[(CommandId, Fault, usize)]) {
            for (n, slot) in self.faults.iter().enumerate() {
                slot.set(faults.get(n).copied());
            }
        }

        fn once(&self, id: CommandId, fault: Fault) {
            self.set(&[(id, fault, 1)]);
        }

        fn execute(&self, host: &FakeHost, call: &Call) -> Result<Status, CmdError> {
            if call.is(CommandId::SNP_PAGE_RECLAIM) {
                self.reclaims.set(self.reclaims.get() + 1);
                if let Some(on_record) = &*self.on_record.borrow() {
                    let least = self.least_on_record.get().min(on_record());
                    self.least_on_record.set(least);
                }
                let page = call.field(0).map_err(CmdError::Transport)?;
                // A panic does not ask whether SEV has stopped.
                if call.wait == Wait::Interrupt && self.is_in_use(page) {
                    return Ok(Status::INVALID_PAGE_STATE);
                }
                // The TMR has lines in the caches until WBINVD.
                let cached = self.stopped_sev.get() && host.cached.load(Relaxed);
                let too_early = cached && self.tmr_pages().contains(&page);
                return Ok(match too_early {
                    true => Status::INVALID_PAGE_STATE,
                    false => Status::SUCCESS,
                });
            }
            host.note(Command(call.command.id));
            for slot in &self.faults {
                let Some((id, fault, times)) = slot.get() else {
                    continue;
                };
                if !call.is(id) || times == 0 {
                    continue;
                }
                slot.set(Some((id, fault, times - 1)));
                return match fault {
                    Refuses(status) => Ok(status),
                    Silent => {
                        // Nobody knows what it writes by then, and when.
                        if self.nv.get() != 0 {
                            call.memory()
                                .with(self.nv.get(), 1, |bytes| bytes[0] ^= 0x55);
                        }
                        silence(call.command)
                    }
                };
            }
            if NEED_WBINVD.contains(&call.command.id) && host.cached.load(Relaxed) {
                return Ok(Status::WBINVD_REQUIRED);
            }
            let answer = self.carry_out(host, call).map_err(CmdError::Transport);
            if OWE_WBINVD.contains(&call.command.id) {
                host.cached.store(true, Relaxed);
            }
            self.stopped_sev.set(call.is(CommandId::SHUTDOWN));
            answer
        }

        /// INIT. Firmware writes to the TMR past the caches; under SNP they hold no line of it.
        fn sev_starts(&self, host: &FakeHost, tmr: Address) -> Result {
            let flushed = host.flushed.load(Relaxed);
            let (wanted, snp) = (tmr.raw(), self.snp_init.get());
            check!(
                snp || wanted == 0 || flushed == wanted,
                "{wanted:#x} {flushed:#x}"
            );
            self.sev.set(1);
            self.tmr.set(wanted);
            Ok(())
        }

        fn carry_out(&self, host: &FakeHost, call: &Call) -> Result<Status> {
            match call.command.id {
                CommandId::SNP_INIT | CommandId::SNP_INIT_EX => {
                    self.snp_init.set(true);
                    if call.is(CommandId::SNP_INIT_EX) {
                        let request: SnpInitEx = call.field(0)?;
                        self.asked_for.set((request.flags, request.max_snp_asid));
                    }
                }
                // Other tests issue them without a context.
                CommandId::SNP_GCTX_CREATE if call.field::<u64>(0)? != 0 => {
                    self.active.set(self.active.get() + 1);
                }
                CommandId::SNP_DECOMMISSION if call.field::<u64>(0)? != 0 => {
                    self.active.set(self.active.get().saturating_sub(1));
                    self.dirty.set(true);
                }
                CommandId::SNP_DF_FLUSH => self.dirty.set(false),
                CommandId::SNP_SHUTDOWN_EX => {
                    if self.active.get() != 0 || self.dirty.get() {
                        return Ok(Status::DFFLUSH_REQUIRED);
                    }
                    self.snp_init.set(false);
                    let request: SnpShutdownEx = call.field(0)?;
                    if self.clears_snp_en.get() && request.flags & SHUTDOWN_X86_SNP != 0 {
                        host.snp_en.store(0, Relaxed);
                    }
                }
                CommandId::INIT => {
                    let request: Init = call.field(0)?;
                    self.sev_starts(host, request.tmr_address)?;
                }
                CommandId::INIT_EX => {
                    let request: InitEx = call.field(0)?;
                    let nv = request.nv_address.raw();
                    if request.nv_len as usize != nv::LEN {
                        return Ok(Status::INVALID_PARAM);
                    }
                    self.sev_starts(host, request.tmr_address)?;
                    self.nv.set(nv);
                    call.memory().with(nv, nv::LEN, |bytes| {
                        let same = bytes.iter().all(|byte| *byte == bytes[0]);
                        self.nv_found.set(same.then_some(bytes[0]));
                        if bytes[0] == 0xff {
                            bytes.fill(1);
                        }
                    });
                }
                CommandId::PEK_GEN if self.nv.get() != 0 => {
                    call.memory().with(self.nv.get(), nv::LEN, |bytes| {
                        bytes.iter_mut().for_each(|byte| *byte += 1);
                    });
                }
                CommandId::SHUTDOWN => {
                    self.sev.set(0);
                    self.nv.set(0);
                }
                CommandId::PDH_CERT_EXPORT => {
                    // One byte less than there is room for.
                    for (address, len, byte) in [(0, 8, 0x11), (16, 24, 0x22)] {
                        let wrote = call.field::<u32>(len)?.saturating_sub(1);
                        call.memory()
                            .with(call.field(address)?, wrote as usize, |to| to.fill(byte));
                        call.set_field(len, wrote);
                    }
                }
                CommandId::PLATFORM_STATUS => call.set_field(
                    0,
                    PlatformStatus {
                        api_major: 1,
                        api_minor: 55,
                        state: self.sev.get(),
                        ..PlatformStatus::default()
                    },
                ),
                CommandId::SNP_PLATFORM_STATUS => {
                    let page: u64 = call.field(0)?;
                    if self.snp_init.get() && !host.is_assigned(page) {
                        return Ok(Status::INVALID_PAGE_STATE);
                    }
                    let status = SnpStatus {
                        state: self.snp_init.get().into(),
                        flags: SnpStatus::FLAG_FEATURE_INFO,
                        guest_count: self.guests.get(),
                        ..SnpStatus::default()
                    };
                    call.memory().with(page, size_of::<SnpStatus>(), |bytes| {
                        bytes.copy_from_slice(status.as_bytes());
                    });
                }
                CommandId::SNP_FEATURE_INFO => {
                    let features = FeatureInfo {
                        ecx: Feature::X86Shutdown as u32,
                        ..FeatureInfo::default()
                    };
                    let page = call.field(8)?;
                    call.memory().with(page, size_of::<FeatureInfo>(), |bytes| {
                        bytes.copy_from_slice(features.as_bytes());
                    });
                }
                _ => {}
            }
            Ok(Status::SUCCESS)
        }
    }

    /// A platform that has been identified: API 1.55; `x86`: firmware can clear SNP_EN.
    fn platform<'a>(
        host: &'static FakeHost,
        plan: &'a Plan,
        x86: bool,
    ) -> Result<(faux::Registration, Platform<impl Transport + 'a>)> {
        let (faux, dev) = device()?;
        let transport = Scripted::new(move |call: &Call| plan.execute(host, call));
        let mut platform = Platform::unidentified(Channel::new(dev, transport, host)?);
        platform.api = ApiVersion {
            major: 1,
            minor: 55,
            build: 1,
        };
        platform.features.ecx = if x86 { Feature::X86Shutdown as u32 } else { 0 };
        platform.channel.record().set_x86_snp_shutdown(x86);
        Ok((faux, platform))
    }

    fn errno(result: Result<(), Failure>) -> Option<Error> {
        result.err().map(|failure| failure.errno)
    }

    #[test]
    fn start_and_stop_where_snp_en_stays() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let before = leaked();
        let record = p.channel.record().clone();
        let pages = move || record.sev_areas().map(Frames::count).sum::<usize>();
        plan.on_record.replace(Some(KBox::new(pages, GFP_KERNEL)?));
        for _ in 0..2 {
            check!(p.init(true, 0).is_ok());
            check!(HOST.saw(&START));
            // The TMR is firmware's.
            check!(HOST.assigned() == 512);
            check!(p.is_snp_up());
            // Again changes nothing.
            check!(p.init(true, 0).is_ok() && HOST.saw(&[]));
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&STOP));
            check!(HOST.assigned() == 0);
            // A panic in between would have reclaimed them.
            check!(plan.reclaims.take() == 512 && plan.least_on_record.get() == 512);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[]));
        }
        check!(leaked() == before);
        Ok(())
    }

    #[test]
    fn start_and_stop_where_firmware_clears_snp_en() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        for _ in 0..2 {
            check!(p.init(true, 0).is_ok() && HOST.saw(&START));
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
            check!(HOST.assigned() == 0);
        }
        check!(leaked() == before);
        Ok(())
    }

    #[test]
    fn a_window_that_does_not_open() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // A CPU is offline: no SNP, but SEV.
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, INIT, DF_FLUSH]));
        check!(!p.is_snp_up() && HOST.assigned() == 0);
        p.shutdown(Leaving::KvmGone);
        // Firmware's lines of the TMR are not written over what comes there next.
        check!(HOST.saw(&[SHUTDOWN]) && !HOST.cached.load(Relaxed));

        // Nor do the CPUs fit: the same.
        HOST.open.store(0, Relaxed);
        HOST.prepare.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, Prepare, CLOSE_SNP_OFF, INIT, DF_FLUSH]));
        check!(!p.is_snp_up() && HOST.assigned() == 0);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]));

        HOST.open.store(ENOMEM.to_errno(), Relaxed);
        check!(errno(p.init(true, 0)) == Some(ENOMEM));
        check!(HOST.saw(&[Open]));
        Ok(())
    }

    #[test]
    fn cpus_that_cannot_be_prepared() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // What closing the window answers, and what is said then.
        for (close, keep) in [
            (0, None),
            (EBUSY.to_errno(), None),
            (ENOMEM.to_errno(), Some(KEEP_UNDECIDED)),
        ] {
            HOST.close.store(close, Relaxed);
            HOST.prepare.store(EIO.to_errno(), Relaxed);
            check!(errno(p.init(true, 0)) == Some(EIO), "{}", close);
            match keep {
                Some(keep) => check!(HOST.saw(&[Open, Prepare, CLOSE_SNP_OFF, keep])),
                None => check!(HOST.saw(&[Open, Prepare, CLOSE_SNP_OFF])),
            }
            HOST.prepare.store(0, Relaxed);
        }
        check!(!p.is_snp_up());
        Ok(())
    }

    #[test]
    fn snp_init_refused_with_each_status() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let documented = status::TABLE.iter().map(|row| Status::new(row.code));
        for status in Iterator::chain(documented, [Status::new(0x9000), Status::new(0xffff)]) {
            if status.is_success() {
                continue;
            }
            let verdict = match status {
                Status::HWERROR_PLATFORM | Status::HWERROR_UNSAFE => KEEP_HWERROR,
                Status::RMP_INITIALIZATION_FAILED => KEEP_RMP_INIT,
                _ => CLOSE_INIT_REFUSED,
            };
            plan.once(CommandId::SNP_INIT_EX, Refuses(status));
            said::forget();
            check!(errno(p.init(true, 0)) == Some(EIO), "{}", status);
            check!(said::only(&["snp-init-failed"]), "{}", status);
            check!(HOST.saw(&[Open, Prepare, SNP_INIT, verdict]), "{}", status);
            check!(!p.is_snp_up(), "{}", status);
            HOST.snp_en.store(0, Relaxed);
        }
        // It is as if nothing had been tried.
        said::forget();
        check!(p.init(true, 0).is_ok() && HOST.saw(&START) && said::only(&[]));
        p.shutdown(Leaving::KvmGone);
        Ok(())
    }

    #[test]
    fn sev_is_not_started_beside_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // Firmware refused SNP_INIT earlier, and SNP_EN stayed.
        HOST.snp_en.store(1, Relaxed);
        // As if firmware had been asked.
        said::forget();
        let refused = p.pek_gen();
        check!(said::only(&["sev-beside-snp-en"]));
        check!(said::with(fmt!("then; reload kvm_amd to initialise SNP")));
        check!(matches!(refused, Err(failure) if failure.fw_error == Some(1)));
        check!(errno(refused) == Some(EIO));
        check!(HOST.saw(&[]));
        HOST.snp_en.store(0, Relaxed);
        check!(p.pek_gen().is_ok());
        check!(HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));

        // The advice knows of a refusal, until a start succeeds.
        plan.once(CommandId::SNP_INIT_EX, Refuses(Status::INVALID_CONFIG));
        check!(p.init(true, 0).is_err());
        HOST.snp_en.store(1, Relaxed);
        check!(p.pek_gen().is_err() && said::with(fmt!("then; it refused SNP_INIT, too")));
        check!(p.init(true, 0).is_ok());
        p.shutdown(Leaving::KvmGone);
        HOST.snp_en.store(1, Relaxed);
        check!(p.pek_gen().is_err() && said::with(fmt!("then; reload kvm_amd")));
        HOST.snp_en.store(0, Relaxed);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn snp_df_flush_refused_stops_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        plan.once(CommandId::SNP_DF_FLUSH, Refuses(Status::WBINVD_REQUIRED));
        said::forget();
        check!(errno(p.init(true, 0)) == Some(EIO));
        check!(said::only(&["command-failed"]));
        check!(HOST.saw(&[
            Open,
            Prepare,
            SNP_INIT,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            KEEP_LEGACY
        ]));
        check!(!p.is_snp_up());
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::KvmGone);
        Ok(())
    }

    #[test]
    fn init_refused_leaves_snp_up() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let refused = Refuses(Status::INVALID_PLATFORM_STATE);
        plan.set(&[(CommandId::INIT, refused, 2)]);
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT]));
        check!(p.is_snp_up());
        // What goes wrong then is the error of the first command that needs it.
        let failure = relay(&mut p, CommandId::LAUNCH_START).err().ok_or(EINVAL)?;
        check!(failure.errno == EIO && failure.fw_error == Some(1));
        check!(HOST.saw(&[INIT]) && p.is_snp_up());
        check!(relay(&mut p, CommandId::LAUNCH_START).is_ok());
        check!(HOST.saw(&[INIT, DF_FLUSH, Command(CommandId::LAUNCH_START)]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));

        // Damaged storage of firmware's is made anew by the first attempt, and no third is made.
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        plan.once(CommandId::INIT, Refuses(Status::SECURE_DATA_INVALID));
        said::forget();
        check!(p.init(true, 0).is_ok());
        check!(said::only(&["storage-damaged"]));
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        plan.set(&[(CommandId::INIT, Refuses(Status::SECURE_DATA_INVALID), 2)]);
        said::forget();
        check!(p.init(true, 0).is_ok());
        check!(said::only(&[
            "storage-damaged",
            "command-failed",
            "sev-later"
        ]));
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, INIT]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn init_refused_without_snp_leaves_nothing() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        plan.once(CommandId::INIT, Refuses(Status::HWERROR_PLATFORM));
        said::forget();
        // kvm-amd gives up SEV, and does not ask for the shutdown when it is unloaded.
        let failure = p.init(true, 0).err().ok_or(EINVAL)?;
        check!(failure.errno == EIO && failure.fw_error == Some(0x13));
        check!(HOST.saw(&[Open, INIT]) && said::only(&["command-failed"]));
        check!(!p.is_in_use() && p.tmr.is_none() && !p.sev_on_demand);
        Ok(())
    }

    #[test]
    fn df_flush_refused_stops_sev() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        plan.once(CommandId::DF_FLUSH, Refuses(Status::WBINVD_REQUIRED));
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(HOST.saw(&START_WITHOUT_SEV));
        check!(HOST.assigned() == 0);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]));

        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        Ok(())
    }

    #[test]
    fn sev_that_does_not_stop_keeps_its_memory() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.once(CommandId::SHUTDOWN, Refuses(Status::ACTIVE));
        check!(p.stop_sev().is_err());
        check!(HOST.saw(&[SHUTDOWN]));
        check!(p.sev == Sev::Init && HOST.assigned() == 512);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&STOP));
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn snp_shutdown_that_wants_a_flush() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let flush = Refuses(Status::DFFLUSH_REQUIRED);
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.once(CommandId::SNP_SHUTDOWN_EX, flush);
        said::forget();
        p.shutdown(Leaving::KvmGone);
        check!(said::only(&[]));
        check!(HOST.saw(&[
            SHUTDOWN,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF
        ]));

        // The flush is refused, or does not help: SNP stays up, and the next stop tries again.
        for faults in [
            &[
                (CommandId::SNP_SHUTDOWN_EX, flush, 1),
                (CommandId::SNP_DF_FLUSH, Refuses(Status::INVALID_PARAM), 1),
            ][..],
            &[(CommandId::SNP_SHUTDOWN_EX, flush, 2)][..],
        ] {
            plan.set(&[]);
            check!(p.init(true, 0).is_ok() && HOST.saw(&START));
            check!(p.stop_sev().is_ok());
            check!(HOST.saw(&[SHUTDOWN]));
            plan.set(faults);
            said::forget();
            check!(p.stop_snp(Leaving::KvmGone).is_err());
            check!(said::only(match faults.len() {
                2 => &["command-failed"],
                _ => &["snp-shutdown-guests"],
            }));
            check!(p.is_snp_up());
            match faults.len() {
                2 => check!(HOST.saw(&[SNP_SHUTDOWN, SNP_DF_FLUSH])),
                _ => check!(HOST.saw(&[SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN])),
            }
            check!(p.stop_snp(Leaving::KvmGone).is_ok());
            check!(HOST.saw(&[SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        }
        Ok(())
    }

    #[test]
    fn snp_shutdown_refused_for_good() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.set(&[(
            CommandId::SNP_SHUTDOWN_EX,
            Refuses(Status::INVALID_PARAM),
            usize::MAX,
        )]);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        check!(p.is_snp_up());
        // SEV can be started again beside it.
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        // The device goes.
        said::forget();
        p.abandon_snp();
        check!(HOST.saw(&[KEEP_REFUSED]) && said::only(&["snp-stays"]));
        check!(HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn snp_en_that_stays_after_an_x86_shutdown() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        plan.clears_snp_en.set(false);
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        p.shutdown(Leaving::KvmGone);
        check!(said::only(&["snp-en-stays"]));
        // snp_host does not close the window, and the pages' assignments are not forgotten.
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        check!(HOST.snp_en.load(Relaxed) == CPUS);

        // Nor does it if it cannot see whether a CPU has it.
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        HOST.close.store(ENOMEM.to_errno(), Relaxed);
        said::forget();
        p.shutdown(Leaving::KvmGone);
        check!(said::only(&["snp-en-unseen"]));
        Ok(())
    }

    #[test]
    fn snp_does_not_stop_beside_sev() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let state = Refuses(Status::INVALID_PLATFORM_STATE);
        let other = Refuses(Status::INVALID_PARAM);
        // Whether SEV stops; how SNP_SHUTDOWN_EX is refused; what is told of that.
        for (stops, refusal, line) in [
            (false, state, "snp-shutdown-before-sev"),
            (false, other, "command-failed"),
            (true, state, "command-failed"),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            let shutdown = (CommandId::SHUTDOWN, other, usize::from(!stops));
            plan.set(&[(CommandId::SNP_SHUTDOWN_EX, refusal, 1), shutdown]);
            said::forget();
            p.shutdown(Leaving::KvmGone);
            match stops {
                true => check!(said::only(&[line])),
                false => check!(said::only(&["command-failed", line])),
            }
            check!(said::with(fmt!("SNP_SHUTDOWN_EX failed: ")), "{}", stops);
            check!(p.is_snp_up(), "{}", stops);
            p.shutdown(Leaving::KvmGone);
            HOST.forget_events();
        }
        Ok(())
    }

    #[test]
    fn a_tcb_that_is_not_the_obvious_one_is_told() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (current_tcb, reported_tcb) in [(7, 7), (7, 6), (6, 7)] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            p.snp_status.current_tcb = current_tcb;
            p.snp_status.reported_tcb = reported_tcb;
            said::forget();
            check!(p.init(true, 0).is_ok());
            let same = current_tcb == reported_tcb;
            check!(said::only(if same { &[] } else { &["tcb-older"] }));
            check!(
                same || said::with(fmt!(
                    "have TCB {reported_tcb:#018x}, firmware has {current_tcb:#018x}:"
                ))
            );
            p.shutdown(Leaving::KvmGone);
            HOST.forget_events();
        }
        Ok(())
    }

    #[test]
    fn silence_at_each_command() -> Result {
        static HOST: FakeHost = FakeHost::new();
        // The silent command; what starting does, and what stopping does then.
        let rows: [(CommandId, &[Event], &[Event]); 6] = [
            (
                CommandId::SNP_INIT_EX,
                &[Open, Prepare, SNP_INIT, KEEP_TIMEOUT],
                &[],
            ),
            (
                CommandId::SNP_DF_FLUSH,
                &[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, KEEP_DEAD],
                &[],
            ),
            // Nothing is left for a kvm-amd that offers no SEV.
            (
                CommandId::INIT,
                &[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT, KEEP_DEAD],
                &[],
            ),
            (
                CommandId::DF_FLUSH,
                &[
                    Open,
                    Prepare,
                    SNP_INIT,
                    SNP_DF_FLUSH,
                    INIT,
                    DF_FLUSH,
                    KEEP_DEAD,
                ],
                &[],
            ),
            (CommandId::SHUTDOWN, &START, &[SHUTDOWN, KEEP_DEAD]),
            (
                CommandId::SNP_SHUTDOWN_EX,
                &START,
                &[SHUTDOWN, SNP_SHUTDOWN, KEEP_TIMEOUT],
            ),
        ];
        for (silent, start, stop) in rows {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            plan.once(silent, Silent);
            let starts = !matches!(
                silent,
                CommandId::SNP_INIT_EX
                    | CommandId::SNP_DF_FLUSH
                    | CommandId::INIT
                    | CommandId::DF_FLUSH
            );
            let started = errno(p.init(true, 0));
            check!(started == (!starts).then_some(ETIMEDOUT), "{:?}", silent);
            check!(HOST.saw(start), "{:?}", silent);
            HOST.cached.store(true, Relaxed);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(stop), "{:?}", silent);
            // Nor for one that does not listen any more.
            let stops = silent == CommandId::SNP_SHUTDOWN_EX;
            check!(HOST.cached.load(Relaxed) != stops, "{:?}", silent);
            check!(!p.is_snp_up(), "{:?}", silent);
            // Nobody is prepared for a firmware that does not listen.
            said::forget();
            check!(errno(p.init(true, 0)) == Some(EBUSY), "{:?}", silent);
            check!(said::only(&["start-refused"]), "{:?}", silent);
            check!(p.pek_gen().is_err(), "{:?}", silent);
            check!(HOST.saw(&[]), "{:?}", silent);
        }
        Ok(())
    }

    #[test]
    fn a_bracket_undoes_only_what_it_did() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let refused = Refuses(Status::INVALID_PLATFORM_STATE);

        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        plan.once(CommandId::PEK_GEN, refused);
        check!(errno(p.pek_gen()) == Some(EIO));
        check!(HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        plan.once(CommandId::INIT, refused);
        check!(errno(p.pek_gen()) == Some(EIO) && HOST.saw(&[INIT]));
        plan.once(CommandId::DF_FLUSH, refused);
        check!(errno(p.pek_gen()) == Some(EIO));
        check!(HOST.saw(&[INIT, DF_FLUSH, SHUTDOWN]));

        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        check!(p.is_snp_up());
        check!(p.start_sev().is_ok() && HOST.saw(&[INIT, DF_FLUSH]));
        check!(p.pek_gen().is_ok() && HOST.saw(&[PEK_GEN]));
        plan.once(CommandId::PEK_GEN, refused);
        check!(p.pek_gen().is_err() && HOST.saw(&[PEK_GEN]));
        check!(p.sev == Sev::Init);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        Ok(())
    }

    /// The byte that is everywhere in what the file is to have, if it is to change.
    fn changed(p: &mut Platform<impl Transport>) -> Option<u8> {
        let contents = p.changed_nv()?;
        let bytes = contents.bytes();
        let first = *bytes.first()?;
        (bytes.len() == nv::LEN && bytes.iter().all(|byte| *byte == first)).then_some(first)
    }

    #[test]
    fn the_state_of_firmware_is_in_a_file() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        check!(p.wants_nv_file());
        p.set_nv(Contents::blank());
        check!(!p.wants_nv_file());

        // With SNP the area is firmware's in the RMP: 8 pages, beside the 512 of the TMR.
        check!(p.init(true, 0).is_ok());
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, INIT_EX, DF_FLUSH]));
        check!(HOST.assigned() == 512 + 8);
        check!(plan.nv_found.get() == Some(0xff));
        check!(p
            .channel
            .record()
            .sev_areas()
            .map(Frames::count)
            .eq([512, 8]));
        check!(changed(&mut p) == Some(1) && changed(&mut p).is_none());
        // What changes nothing is not written.
        check!(p.platform_status().is_ok() && changed(&mut p).is_none());
        check!(p.pek_gen().is_ok() && changed(&mut p) == Some(2));
        check!(p.pek_gen().is_ok());
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0 && leaked() == before);
        check!(p.channel.record().sev_areas().next().is_none());
        // The last change was seen before the area went back.
        check!(changed(&mut p) == Some(3));

        // Without SNP, for the time of one command: firmware gets what it left.
        HOST.forget_events();
        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT_EX, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        check!(plan.nv_found.get() == Some(3) && changed(&mut p) == Some(4));
        // Another task may have read the file before firmware changed its state.
        p.set_nv(Contents::blank());
        check!(p.pek_gen().is_ok() && plan.nv_found.get() == Some(4));
        check!(changed(&mut p) == Some(5));
        HOST.forget_events();

        // A factory reset deletes what is in the file, in each state. The area comes back after
        // SHUTDOWN: with SNP firmware lets go of none that it uses.
        for up in ["nothing", "SEV", "SEV and SNP"] {
            match up {
                "SEV" => check!(p.start_sev().is_ok()),
                "SEV and SNP" => check!(p.init(true, 0).is_ok() && HOST.assigned() == 512 + 8),
                _ => {}
            }
            check!(p.factory_reset().is_ok(), "{}", up);
            check!(changed(&mut p) == Some(0xff), "{}", up);
            check!(
                p.start_sev().is_ok() && plan.nv_found.get() == Some(0xff),
                "{}",
                up
            );
            check!(changed(&mut p) == Some(1), "{}", up);
            check!(p.stop_sev().is_ok(), "{}", up);
            check!(HOST.assigned() == 0 && leaked() == before, "{}", up);
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_sev_off() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Err(EACCES));
        // SNP does not need it.
        check!(p.init(true, 0).is_ok() && HOST.saw(&SNP_START));
        check!(p.is_snp_up() && p.wants_nv_file());
        let failure = p.pek_gen().err().ok_or(EINVAL)?;
        check!(failure.errno == EACCES && failure.fw_error == Some(status::NO_FW_CALL));
        check!(HOST.saw(&[]));
        check!(HOST.assigned() == 0);
        // The next attempt reads it again.
        p.set_nv(Contents::copy_of(&[7; nv::LEN]));
        check!(p.pek_gen().is_ok() && HOST.saw(&[INIT_EX, DF_FLUSH, PEK_GEN, SHUTDOWN]));
        check!(plan.nv_found.get() == Some(7) && changed(&mut p) == Some(8));
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn damaged_state_and_an_area_that_firmware_keeps() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::copy_of(&[7; nv::LEN]));
        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        plan.once(CommandId::INIT_EX, Refuses(Status::SECURE_DATA_INVALID));
        check!(p.start_sev().is_ok() && HOST.saw(&[INIT_EX, INIT_EX, DF_FLUSH]));
        // Firmware that does not stop keeps it.
        plan.once(CommandId::SHUTDOWN, Refuses(Status::HWERROR_PLATFORM));
        check!(p.stop_sev().is_err() && HOST.assigned() == 512 + 8);
        check!(p.stop_sev().is_ok() && HOST.assigned() == 0 && leaked() == before);
        // So does one that has not answered, and nobody looks at what it may be writing.
        check!(p.start_sev().is_ok() && changed(&mut p).is_none());
        plan.once(CommandId::PEK_GEN, Silent);
        check!(p.pek_gen().is_err());
        check!(p.changed_nv().is_none());
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 512 + 8);
        HOST.forget_events();
        drop(p);
        check!(leaked() >= before + 512 + 8);
        HOST.forget();
        Ok(())
    }

    #[test]
    fn memory_that_the_rmp_does_not_give_to_firmware() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::copy_of(&[7; nv::LEN]));
        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        // Three blocks are tried. SEV does without the TMR; the panic path knows of none.
        HOST.private_fails.set(0, 3);
        check!(p.start_sev().is_ok() && p.tmr.is_none() && leaked() == before + 3 * 512);
        check!(said::with(fmt!("for SEV-ES (2048 KiB in one piece)")));
        let areas = p.channel.record().sev_areas().map(Frames::count);
        check!(areas.eq([8]) && HOST.saw(&[INIT_EX, DF_FLUSH]));
        check!(p.stop_sev().is_ok() && HOST.saw(&[SHUTDOWN]));
        // Not without the NV area.
        HOST.private_fails.set(512, 3);
        check!(p.start_sev().is_err() && HOST.saw(&[]));
        check!(leaked() == before + 3 * (512 + 8));
        let areas = p.channel.record().sev_areas().map(Frames::count);
        check!(areas.eq([512]) && HOST.assigned() == 512);
        check!(p.start_sev().is_ok() && HOST.saw(&[INIT_EX, DF_FLUSH]));
        let areas = p.channel.record().sev_areas().map(Frames::count);
        check!(areas.eq([512, 8]) && HOST.assigned() == 512 + 8);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0 && leaked() == before + 3 * (512 + 8));
        check!(p.channel.record().sev_areas().next().is_none());
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn the_area_of_firmware_that_a_reset_or_the_end_of_snp_has_made_forget_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::blank());
        // After a reset nothing takes the pages back; the next area has what the last one had.
        check!(p.init(true, 0).is_ok() && changed(&mut p) == Some(1));
        reset(&plan);
        p.after_reset();
        check!(leaked() == before + 512 + 8);
        HOST.forget();
        plan.nv_found.set(None);
        check!(p.init(true, 0).is_ok() && plan.nv_found.get() == Some(1));
        check!(HOST.assigned() == 512 + 8);
        // SEV did not stop, but SNP did, and took SNP_EN with it: there is nothing to reclaim.
        plan.once(CommandId::SHUTDOWN, Refuses(Status::HWERROR_PLATFORM));
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        let reclaimed = plan.reclaims.get();
        check!(p.stop_sev().is_ok() && plan.reclaims.get() == reclaimed);
        check!(leaked() == before + 512 + 8);
        HOST.forget_events();
        Ok(())
    }

    /// A platform whose firmware this driver has not asked anything yet.
    fn unidentified<'a>(
        host: &'static FakeHost,
        plan: &'a Plan,
    ) -> Result<(faux::Registration, Platform<impl Transport + 'a>)> {
        let (faux, dev) = device()?;
        let transport = Scripted::new(move |call: &Call| plan.execute(host, call));
        let platform = Platform::unidentified(Channel::new(dev, transport, host)?);
        Ok((faux, platform))
    }

    #[test]
    fn identifying_firmware_that_nobody_has_started() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        check!(p.identify().is_ok());
        check!(HOST.saw(&[SNP_STATUS, FEATURE_INFO, STATUS]));
        check!(!p.is_in_use() && p.api.at_least((1, 55)) && p.has_x86_snp_shutdown());
        Ok(())
    }

    #[test]
    fn firmware_in_a_state_that_nobody_knows() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        plan.sev.set(3);
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        said::forget();
        check!(matches!(p.identify(), Err(err) if err.errno() == EIO));
        check!(said::only(&["sev-state-unknown"]) && said::with(fmt!("in state 3,")));
        check!(HOST.saw(&[SNP_STATUS, FEATURE_INFO, STATUS]) && !p.is_in_use());
        Ok(())
    }

    #[test]
    fn firmware_that_was_left_initialised_is_started_anew() -> Result {
        static HOST: FakeHost = FakeHost::new();
        // UNINIT, INIT, WORKING.
        for sev in [0, 1, 2] {
            let before = leaked();
            let plan = Plan::new();
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.snp_init.set(true);
            plan.sev.set(sev);
            HOST.snp_en.store(CPUS, Relaxed);
            said::forget();
            check!(p.identify().is_ok(), "{}", sev);
            check!(said::only(&["snp-left-initialised"]));
            check!(HOST.saw(&[SNP_STATUS, Open, SNP_STATUS, FEATURE_INFO, STATUS]));
            check!(p.is_in_use() && !p.is_snp_up() && HOST.assigned() == 0);
            // There may be guests when a VM is being made, but not when kvm-amd is being loaded.
            check!(errno(p.init(false, 0)) == Some(EBUSY) && HOST.saw(&[]));
            check!(said::only(&["start-with-guests"]));
            check!(p.init(true, 0).is_ok(), "{}", sev);
            check!(said::only(&["left-initialised"]));
            let stop = [SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF];
            let stop = stop.get(usize::from(sev == 0)..).ok_or(EINVAL)?;
            let mut events = KVec::new();
            for event in Iterator::chain(stop.iter(), &START) {
                events.push(*event, GFP_KERNEL)?;
            }
            check!(HOST.saw(&events), "{}", sev);
            check!(p.is_snp_up() && p.sev == Sev::Init);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
            check!(HOST.assigned() == 0 && leaked() == before);
        }
        Ok(())
    }

    #[test]
    fn firmware_that_was_left_initialised_and_stays_so() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.snp_en.store(CPUS, Relaxed);
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        plan.snp_init.set(true);
        check!(p.identify().is_ok());
        HOST.forget_events();
        for _ in 0..2 {
            plan.once(CommandId::SNP_SHUTDOWN_EX, Refuses(Status::INVALID_PARAM));
            check!(errno(p.init(true, 0)) == Some(EIO));
            check!(HOST.saw(&[SNP_SHUTDOWN]) && !p.is_snp_up() && p.is_in_use());
        }
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        Ok(())
    }

    #[test]
    fn guests_that_were_left_by_another_keep_snp_en() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (guests, left, end) in [
            (1, Leaving::DeviceGone, &[SNP_SHUTDOWN, KEEP_LEGACY][..]),
            (1, Leaving::KvmGone, &[SNP_SHUTDOWN, CLOSE_SNP_OFF]),
            (0, Leaving::DeviceGone, &[SNP_SHUTDOWN, CLOSE_SNP_OFF]),
        ] {
            HOST.snp_en.store(CPUS, Relaxed);
            let plan = Plan::new();
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.snp_init.set(true);
            plan.guests.set(guests);
            check!(p.identify().is_ok());
            HOST.forget_events();
            p.shutdown(left);
            check!(HOST.saw(end), "{} {:?}", guests, left);
        }
        Ok(())
    }

    #[test]
    fn firmware_that_cannot_be_taken_over() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.snp_en.store(CPUS, Relaxed);
        let silent = CommandId::SNP_PLATFORM_STATUS;
        let refusal = Refuses(Status::INVALID_PAGE_STATE);
        let plan = Plan::new();

        // Nothing happens if another status is refused.
        {
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.once(silent, Refuses(Status::HWERROR_PLATFORM));
            said::forget();
            check!(p.identify().is_err() && HOST.saw(&[SNP_STATUS]));
            check!(said::only(&["command-failed"]));
        }

        // A CPU has no SNP_EN: no page may be given to firmware.
        {
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.once(silent, refusal);
            HOST.snp_en.store(CPUS - 1, Relaxed);
            check!(p.identify().is_err());
            check!(HOST.saw(&[SNP_STATUS, Open, CLOSE_SNP_OFF]));
            check!(said::only(&["snp-left-uneven"]));
            check!(!p.is_in_use());
            HOST.snp_en.store(CPUS, Relaxed);
        }

        // It refuses that page, too; it says that it is not initialised after all; it falls silent.
        for (faults, keep) in [
            (&[(silent, refusal, 2)][..], KEEP_UNDECIDED),
            (&[(silent, refusal, 1)], KEEP_UNDECIDED),
            (&[(silent, refusal, 1), (silent, Silent, 1)], KEEP_TIMEOUT),
        ] {
            let (_faux, mut p) = unidentified(&HOST, &plan)?;
            plan.set(faults);
            said::forget();
            check!(p.identify().is_err());
            // The page for the answer, and that of the command buffer.
            let lines = match keep == KEEP_TIMEOUT {
                true => &["pages-lost", "pages-lost"][..],
                false => &["command-failed"],
            };
            check!(said::only(lines), "{}", faults.len());
            check!(HOST.saw(&[SNP_STATUS, Open, SNP_STATUS, keep]));
            check!(!p.is_in_use() && !p.channel.snp_init());
            // What has not answered keeps its page.
            check!(HOST.assigned() == i32::from(keep == KEEP_TIMEOUT));
        }
        Ok(())
    }

    #[test]
    fn a_start_that_can_be_neither_ended_nor_undone() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let refused = Refuses(Status::INVALID_PARAM);
        plan.set(&[
            (CommandId::SNP_DF_FLUSH, refused, 1),
            (CommandId::SNP_SHUTDOWN_EX, refused, 1),
        ]);
        check!(errno(p.init(true, 0)) == Some(EIO) && !p.is_snp_up());
        check!(HOST.saw(&[Open, Prepare, SNP_INIT, SNP_DF_FLUSH, SNP_SHUTDOWN]));
        // Without the flush no ASID may be used, so it is not taken for started.
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(HOST.saw(&[
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF,
            Open,
            Prepare,
            SNP_INIT,
            SNP_DF_FLUSH,
            INIT,
            DF_FLUSH
        ]));
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();

        // The same for SEV; SNP is not touched.
        plan.set(&[
            (CommandId::DF_FLUSH, refused, 1),
            (CommandId::SHUTDOWN, refused, 1),
        ]);
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(HOST.saw(&START_WITHOUT_SEV));
        check!(p.init(true, 0).is_ok() && p.sev == Sev::Init);
        check!(HOST.saw(&[SHUTDOWN, INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        Ok(())
    }

    /// A command of kvm-amd's.
    fn relay(p: &mut Platform<impl Transport>, id: CommandId) -> Result<(), Failure> {
        let command = Relayed::new(id.row()).ok_or(EPERM)?;
        let mut data = [0; 68];
        let data = data.get_mut(..command.info().len.into()).ok_or(EINVAL)?;
        if matches!(id, CommandId::DF_FLUSH | CommandId::SNP_DF_FLUSH) {
            // As KVM does.
            p.channel.host().wbinvd_on_all();
        }
        // SAFETY: There are no addresses in the buffer.
        p.relay(command, data, &unsafe { CallerMemory::trust() })
    }

    #[test]
    fn sev_starts_with_the_first_command_that_needs_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        let needy = [
            CommandId::LAUNCH_START,
            CommandId::RECEIVE_START,
            CommandId::DF_FLUSH,
        ];
        // Nobody has asked for it.
        for id in needy {
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[Command(id)]));
        }
        for id in needy {
            check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
            check!(p.init(false, 0).is_ok() && HOST.saw(&[]));
            for row in TABLE {
                let snp = row.name.starts_with("SNP_") && row.id != CommandId::SNP_PAGE_RECLAIM;
                if snp && Relayed::new(row).is_some() && row.id != CommandId::SNP_PLATFORM_STATUS {
                    check!(relay(&mut p, row.id).is_ok(), "{}", row.name);
                    check!(HOST.saw(&[Command(row.id)]), "{}", row.name);
                }
            }
            // What goes wrong is for the one who asked.
            plan.once(CommandId::INIT, Refuses(Status::HWERROR_PLATFORM));
            let failure = relay(&mut p, id).err().ok_or(EINVAL)?;
            check!(failure.errno == EIO && failure.fw_error == Some(0x13));
            check!(HOST.saw(&[INIT]));
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[INIT, DF_FLUSH, Command(id)]));
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[Command(id)]));
            check!(p.init(false, 0).is_ok() && HOST.saw(&[]));
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&STOP));
            check!(relay(&mut p, id).is_ok() && HOST.saw(&[Command(id)]));
        }
        Ok(())
    }

    #[test]
    fn a_guest_of_snp_that_is_not_there_is_told_why() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let state = Status::INVALID_PLATFORM_STATE;
        let gctx = CommandId::SNP_GCTX_CREATE;
        for (up, id, status, told) in [
            (false, gctx, state, true),
            (false, gctx, Status::INVALID_PARAM, false),
            (false, CommandId::SNP_DECOMMISSION, state, false),
            (true, gctx, state, false),
        ] {
            check!(!up || p.start_snp(0).is_ok());
            plan.once(id, Refuses(status));
            said::forget();
            check!(relay(&mut p, id).is_err(), "{} {}", up, status);
            let lines: &[&str] = if told { &["snp-not-started"] } else { &[] };
            check!(said::only(lines), "{} {}", up, status);
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn snp_is_not_started_for_a_vm() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        // kvm-amd was loaded while a CPU was offline; it came back later.
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[Open, INIT, DF_FLUSH]));
        HOST.open.store(0, Relaxed);
        check!(p.factory_reset().is_ok());
        check!(HOST.saw(&[STATUS, SHUTDOWN, Command(CommandId::FACTORY_RESET)]));
        // KVM uses SVM by now, so the CPUs cannot be prepared; legacy guests do without.
        HOST.prepare.store(EBUSY.to_errno(), Relaxed);
        let start = CommandId::LAUNCH_START;
        check!(p.init(false, 0).is_ok() && HOST.saw(&[]));
        check!(relay(&mut p, start).is_ok() && HOST.saw(&[INIT, DF_FLUSH, Command(start)]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]));
        // Nor does legacy SEV start beside SNP_EN without SNP.
        HOST.snp_en.store(1, Relaxed);
        check!(p.init(false, 0).is_ok());
        check!(errno(relay(&mut p, start)) == Some(EIO) && HOST.saw(&[]));
        Ok(())
    }

    #[test]
    fn factory_reset_in_each_state() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const RESET: Event = Command(CommandId::FACTORY_RESET);
        for (state, refused, events) in [
            (0, None, &[STATUS, RESET][..]),
            (1, None, &[STATUS, SHUTDOWN, RESET]),
            (2, Some((EBUSY, Some(0))), &[STATUS]),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            let before = leaked();
            if state != 0 {
                check!(p.init(true, 0).is_ok());
                plan.sev.set(state);
            }
            HOST.forget_events();
            let tmr = p.tmr.as_ref().map(FwPages::spa);
            let said = p.factory_reset().err();
            let said = said.map(|failure| (failure.errno, failure.fw_error));
            check!(said == refused, "{}", state);
            check!(HOST.saw(events), "{}", state);
            // What was up is up again afterwards, and the TMR is the one that there was.
            check!(p.start_sev().is_ok() && p.sev == Sev::Init, "{}", state);
            let again = if state == 2 {
                &[][..]
            } else {
                &[INIT, DF_FLUSH]
            };
            check!(HOST.saw(again), "{}", state);
            let same = tmr.is_none() || p.tmr.as_ref().map(FwPages::spa) == tmr;
            check!(p.tmr.is_some() && same, "{}", state);
            p.shutdown(Leaving::KvmGone);
            check!(HOST.assigned() == 0 && leaked() == before, "{}", state);
            HOST.forget_events();
        }
        Ok(())
    }

    #[test]
    fn nothing_is_reset_while_sev_does_not_stop() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const ERROR: Status = Status::INVALID_PARAM;
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        HOST.forget_events();
        plan.once(CommandId::SHUTDOWN, Refuses(ERROR));
        let said = p.factory_reset().err();
        let said = said.map(|failure| (failure.errno, failure.fw_error));
        check!(said == Some((EIO, Some(ERROR.raw().into()))));
        check!(HOST.saw(&[STATUS, SHUTDOWN]) && p.sev == Sev::Init);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.assigned() == 0);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn each_certificate_has_its_own_buffer() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        for snp in [false, true] {
            check!(!snp || p.init(true, 0).is_ok());
            let certs = p.pdh_cert_export(Some([10, 5000]), true);
            let certs = certs.map_err(|failure| failure.errno)?;
            check!(certs.result.is_ok() && certs.len == [9, 4999], "{}", snp);
            for (n, byte) in [0x11, 0x22].into_iter().enumerate() {
                let bytes = certs.bytes(n).unwrap_or_default();
                check!(bytes.len() == certs.len[n] as usize, "{} {}", snp, n);
                check!(bytes.iter().all(|found| *found == byte), "{} {}", snp, n);
            }
        }
        p.shutdown(Leaving::KvmGone);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn an_answer_that_claims_more_than_there_is_room_for() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let (_faux, dev) = device()?;
        // What firmware claims of its two buffers.
        let claims = Cell::new([0_u32; 2]);
        let status = Cell::new(Status::SUCCESS);
        let script = |call: &Call| {
            let offsets = match call.command.id {
                CommandId::GET_ID | CommandId::PEK_CSR => &[8][..],
                CommandId::PDH_CERT_EXPORT => &[8, 24],
                _ => return Ok(Status::SUCCESS),
            };
            for (offset, claim) in offsets.iter().zip(claims.get()) {
                call.set_field(*offset, claim);
            }
            Ok(status.get())
        };
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(script), &HOST)?);
        for (first, second, right) in [(64, 5000, true), (65, 5000, false), (64, 5001, false)] {
            claims.set([first, second]);
            said::forget();
            let certs = p.pdh_cert_export(Some([64, 5000]), true);
            let certs = certs.map_err(|failure| failure.errno)?;
            check!(certs.result.is_ok() == right && certs.len == [64, 5000]);
            check!(said::only(if right { &[] } else { &["answer-too-long"] }));
            // Only the lengths were asked for, and may be any.
            let certs = p.pdh_cert_export(None, true);
            let certs = certs.map_err(|failure| failure.errno)?;
            check!(certs.result.is_ok() && certs.len == [first, second]);
            check!(certs.bytes(0).is_none() && said::only(&[]));
        }
        claims.set([64, 5001]);
        check!(p.pdh_cert_export(Some([64, 5000]), true).is_ok());
        check!(said::with(fmt!(
            "PDH_CERT_EXPORT failed: firmware says that it put 0x1389 bytes into a buffer of 0x1388;"
        )));
        claims.set([65, 0]);
        for id in [CommandId::GET_ID, CommandId::PEK_CSR] {
            let ask = |p: &mut Platform<_>| match id {
                CommandId::GET_ID => p.get_id(Some(64)),
                _ => p.pek_csr(Some(64)),
            };
            let said = ask(&mut p).map_err(|failure| failure.errno)?;
            let failure = said.result.err().ok_or(EINVAL)?;
            check!(
                failure.errno == EIO && failure.fw_error == Some(0),
                "{:?}",
                id
            );
            check!(said.len == [64], "{:?}", id);
            // That is how firmware says how much it needs.
            status.set(Status::INVALID_LEN);
            let said = ask(&mut p).map_err(|failure| failure.errno)?;
            check!(said.result.is_err() && said.len == [65], "{:?}", id);
            status.set(Status::SUCCESS);
        }
        Ok(())
    }

    #[test]
    fn an_image_for_firmware() -> Result {
        // Two pages; one byte differs from all others.
        let mut image = [0x5a_u8; 5000];
        image[4321] = 0xa5;
        // The API; what firmware says; how often it gets the image.
        for (minor, answers, times) in [
            (49, &[Status::SUCCESS, Status::SUCCESS][..], 2),
            (49, &[Status::SUCCESS, Status::BAD_SVN], 2),
            (49, &[Status::BAD_SIGNATURE], 1),
            (50, &[Status::SUCCESS], 1),
            (55, &[Status::SUCCESS], 1),
            (55, &[Status::BAD_VERSION], 1),
        ] {
            static HOST: FakeHost = FakeHost::new();
            let (_faux, dev) = device()?;
            let before = leaked();
            let asked = Cell::new(0);
            let transport = Scripted::new(|call: &Call| {
                let same = || -> Result<bool> {
                    let (address, len): (u64, u32) = (call.field(0)?, call.field(8)?);
                    let read = |bytes: &mut [u8]| bytes[..] == image[..];
                    Ok(len as usize == image.len()
                        && call.memory().with(address, image.len(), read))
                };
                let right = call.is(CommandId::DOWNLOAD_FIRMWARE) && same() == Ok(true);
                let answer = answers.get(asked.get()).filter(|_| right);
                asked.set(asked.get() + 1);
                Ok(answer.copied().unwrap_or(Status::INVALID_COMMAND))
            });
            let mut p = Platform::unidentified(Channel::new(dev, transport, &HOST)?);
            p.api = ApiVersion {
                major: 1,
                minor,
                build: 1,
            };
            let result = p.download(&image);
            let last = answers.last().copied().unwrap_or(Status::SUCCESS);
            check!(asked.get() == times, "{} {:?}", minor, answers);
            check!(
                match result {
                    Ok(()) => last.is_success(),
                    Err(err) => err.is(last) && !last.is_success(),
                },
                "{} {:?}",
                minor,
                answers
            );
            check!(HOST.assigned() == 0 && leaked() == before, "{}", minor);
        }
        Ok(())
    }

    #[test]
    fn policy_bits_come_one_by_one() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const BASE: u64 = 0x001f_ffff;
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, false)?;
        // Bits of ECX of SNP_FEATURE_INFO and of the policy, by the ABI.
        for (ecx, policy) in [(2, 23), (3, 24), (4, 22), (5, 21)] {
            p.features.ecx = 1 << ecx;
            check!(p.snp_policy_bits() == BASE | 1 << policy, "{}", ecx);
        }
        p.features.ecx = !(1 << 2 | 1 << 3 | 1 << 4 | 1 << 5);
        check!(p.snp_policy_bits() == BASE);
        p.features.ecx = u32::MAX;
        check!(p.snp_policy_bits() == BASE | 0b1111 << 21);
        p.features.ecx = 0;
        // PAGE_SWAP_DISABLE: by the API, of firmware that has SNP_FEATURE_INFO.
        for (flags, minor, bits) in [
            (0, 58, BASE),
            (1 << 3, 57, BASE),
            (1 << 3, 58, BASE | 1 << 25),
            (u32::MAX, 59, BASE | 1 << 25),
            (!(1 << 3), 59, BASE),
        ] {
            p.snp_status.flags = flags;
            p.api.minor = minor;
            check!(p.snp_policy_bits() == bits, "{:#x} {}", flags, minor);
        }
        // Ciphertext hiding needs firmware and BIOS.
        for (ecx, flags, has) in [
            (0, 0, false),
            (1 << 3, 0, false),
            (0, 1 << 5, false),
            (1 << 3, 1 << 5, true),
            (!(1 << 3), u32::MAX, false),
            (u32::MAX, !(1 << 5), false),
        ] {
            p.features.ecx = ecx;
            p.snp_status.flags = flags;
            check!(p.has_ciphertext_hiding() == has, "{:#x} {:#x}", ecx, flags);
        }
        Ok(())
    }

    #[test]
    fn asids_are_split_as_kvm_amd_asks_for_when_it_is_loaded() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // What kvm-amd says, and what firmware is asked for.
        for (max_snp_asid, asked) in [(0, None), (40, Some(40)), (0xffff, Some(0xffff)), (0, None)]
        {
            check!(p.init(true, max_snp_asid).is_ok());
            let (flags, asid) = plan.asked_for.get();
            let hides = flags & INIT_CIPHERTEXT_HIDING_EN != 0;
            check!(hides.then_some(asid) == asked, "{}", max_snp_asid);
            check!(hides || asid == 0, "{}", max_snp_asid);
            p.shutdown(Leaving::KvmGone);
        }
        check!(errno(p.init(true, 0x10000)) == Some(EINVAL));
        Ok(())
    }

    #[test]
    fn firmware_of_each_age() -> Result {
        static HOST: FakeHost = FakeHost::new();
        const OLD_START: [Event; 6] = [
            Open,
            Prepare,
            Command(CommandId::SNP_INIT),
            SNP_DF_FLUSH,
            INIT,
            DF_FLUSH,
        ];
        for (minor, start) in [
            (50, &[INIT, DF_FLUSH][..]),
            (51, &OLD_START),
            (52, &START),
            (58, &START),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, false)?;
            p.api.minor = minor;
            said::forget();
            check!(p.init(true, 0).is_ok() && HOST.saw(start), "{}", minor);
            let old = minor < 51;
            check!(
                said::only(if old { &["firmware-too-old"] } else { &[] }),
                "{}",
                minor
            );
            check!(!old || said::with(fmt!("API 1.50.1, SNP needs 1.51;")));
            p.shutdown(Leaving::KvmGone);
            HOST.forget_events();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    #[test]
    fn firmware_pages_come_back_the_way_they_went() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for x86 in [false, true] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, x86)?;
            let before = leaked();
            let early = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
            check!(HOST.assigned() == 0);
            check!(p.start_snp(0).is_ok());
            let inside = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
            let late = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
            check!(HOST.assigned() == 2);
            p.free_firmware_page(early);
            p.free_firmware_page(inside);
            check!(HOST.assigned() == 1 && plan.reclaims.get() == 1);
            p.shutdown(Leaving::KvmGone);
            p.free_firmware_page(late);
            // Where SNP has ended on all CPUs the RMP is clear, and there is nothing to reclaim.
            check!(plan.reclaims.get() == if x86 { 1 } else { 2 }, "{}", x86);
            check!(HOST.assigned() == i32::from(x86), "{}", x86);
            // A page that nobody gave out.
            said::forget();
            p.free_firmware_page(late);
            check!(said::only(&["page-of-others"]), "{}", x86);
            check!(leaked() == before, "{}", x86);
            // For the next round: this host has no RMP to clear.
            HOST.forget();
        }
        Ok(())
    }

    /// A page for the context of a guest, which firmware makes of it.
    fn guest(p: &mut Platform<impl Transport>) -> Result<(usize, u64)> {
        let page = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
        let context = page_address(page as *mut c_void);
        relay_context(p, CommandId::SNP_GCTX_CREATE, context)?;
        Ok((page, context))
    }

    /// The address of a page as it stands in command buffers.
    fn page_address(page: *mut c_void) -> u64 {
        direct_map::phys(page.cast()) | mem_encrypt::sme_mask()
    }

    fn relay_context(p: &mut Platform<impl Transport>, id: CommandId, context: u64) -> Result {
        let command = Relayed::new(id.row()).ok_or(EPERM)?;
        let mut data = context.to_le_bytes();
        // SAFETY: Firmware is a script, which looks at no context.
        let memory = unsafe { CallerMemory::trust() };
        p.relay(command, &mut data, &memory)
            .map_err(|failure| failure.errno)
    }

    const GCTX_CREATE: Event = Command(CommandId::SNP_GCTX_CREATE);
    const DECOMMISSION: Event = Command(CommandId::SNP_DECOMMISSION);

    #[test]
    fn guests_are_counted() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        let record = |p: &Platform<_>| (p.channel.record().guests(), p.channel.record().pages());
        check!(p.guests() == 0 && record(&p) == (0, 0));
        // For answers to guests' requests.
        let other = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
        check!(p.guests() == 0 && record(&p) == (0, 1));
        let (page, context) = guest(&mut p)?;
        let (_, second) = guest(&mut p)?;
        check!(p.guests() == 2 && record(&p) == (2, 3));
        // A context that is known already is no guest more.
        for known in p.channel.record().clone().contexts() {
            p.channel.record().set_context(known, true);
        }
        check!(record(&p) == (2, 3));
        p.free_firmware_page(other);
        check!(p.guests() == 2 && record(&p) == (2, 2));
        // What firmware refuses changes nothing.
        plan.once(CommandId::SNP_DECOMMISSION, Refuses(Status::INVALID_GUEST));
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, context).is_err());
        check!(p.guests() == 2);
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, context).is_ok());
        check!(p.guests() == 1 && record(&p) == (1, 2));
        p.free_firmware_page(page);
        plan.once(CommandId::SNP_GCTX_CREATE, Refuses(Status::INVALID_PARAM));
        check!(guest(&mut p).is_err() && p.guests() == 1);
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, second).is_ok());
        check!(p.guests() == 0 && p.channel.record().guests() == 0);
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        Ok(())
    }

    #[test]
    fn snp_en_goes_only_if_nobody_may_use_it() -> Result {
        for (leaving, guests, x86, clears) in [
            (Leaving::KvmGone, 0, true, true),
            (Leaving::KvmGone, 1, true, true),
            (Leaving::DeviceGone, 0, true, true),
            (Leaving::DeviceGone, 1, true, false),
            (Leaving::DeviceGone, u32::MAX, true, false),
            (Leaving::Panic, 0, true, true),
            (Leaving::Panic, 1, true, true),
            (Leaving::KvmGone, 0, false, false),
            (Leaving::KvmGone, 1, false, false),
            (Leaving::DeviceGone, 0, false, false),
            (Leaving::DeviceGone, 1, false, false),
            (Leaving::Panic, 0, false, false),
            (Leaving::Panic, 1, false, false),
        ] {
            let cleared = leaving.clears_snp_en(guests, x86);
            check!(cleared == clears, "{:?} {} {}", leaving, guests, x86);
        }
        Ok(())
    }

    #[test]
    fn guests_that_are_left_are_decommissioned() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (leaving, end) in [
            (Leaving::DeviceGone, KEEP_LEGACY),
            (Leaving::KvmGone, CLOSE_SNP_OFF),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            guest(&mut p)?;
            guest(&mut p)?;
            HOST.forget_events();
            said::forget();
            p.shutdown(leaving);
            match leaving {
                Leaving::DeviceGone => check!(
                    said::only(&["guests-own-memory"])
                        && said::with(fmt!("2 SNP guest(s) own memory"))
                ),
                _ => check!(said::only(&[])),
            }
            check!(
                HOST.saw(&[
                    SHUTDOWN,
                    DECOMMISSION,
                    DECOMMISSION,
                    SNP_SHUTDOWN,
                    SNP_DF_FLUSH,
                    SNP_SHUTDOWN,
                    end
                ]),
                "{:?}",
                leaving
            );
            check!((HOST.snp_en.load(Relaxed) != 0) == (end == KEEP_LEGACY));
            check!(p.guests() == 0 && p.channel.record().guests() == 0);
            HOST.forget();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    #[test]
    fn guests_that_firmware_keeps_keep_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (refused, status, events) in [
            (
                CommandId::SNP_DECOMMISSION,
                Status::INVALID_GUEST,
                &[DECOMMISSION, SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN][..],
            ),
            (
                CommandId::SNP_DF_FLUSH,
                Status::WBINVD_REQUIRED,
                &[DECOMMISSION, SNP_SHUTDOWN, SNP_DF_FLUSH],
            ),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.start_snp(0).is_ok());
            guest(&mut p)?;
            HOST.forget_events();
            plan.once(refused, Refuses(status));
            p.shutdown(Leaving::DeviceGone);
            check!(HOST.saw(events));
            check!(p.is_snp_up() && p.channel.record().snp());
            // A guest that firmware has let go of is none any more.
            let kept = refused == CommandId::SNP_DECOMMISSION;
            check!(p.guests() == u32::from(kept), "{}", status);
            p.abandon_snp();
            check!(HOST.saw(&[KEEP_REFUSED]));
            HOST.forget();
        }
        Ok(())
    }

    #[test]
    fn guests_that_are_left_keep_snp_en() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        let (page, _) = guest(&mut p)?;
        check!(HOST.saw(&[GCTX_CREATE]));
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.snp_en.load(Relaxed) == CPUS);
        p.free_firmware_page(page);
        check!(HOST.assigned() == 0);
        HOST.forget_events();

        // A guest that has ended, and a page that is no context, keep nothing.
        check!(p.init(true, 0).is_ok());
        let (page, context) = guest(&mut p)?;
        let other = p.alloc_firmware_page(Gfp::KERNEL)? as usize;
        relay_context(&mut p, CommandId::SNP_DECOMMISSION, context)?;
        HOST.forget_events();
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.saw(&[
            SHUTDOWN,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF
        ]));
        p.free_firmware_page(page);
        p.free_firmware_page(other);
        HOST.forget();

        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        Ok(())
    }

    /// The kernel panics. `busy`: firmware is at work on a command of whoever holds the lock.
    fn panic(
        host: &'static FakeHost,
        plan: &Plan,
        p: &Platform<impl Transport>,
        busy: Option<NotIdle>,
    ) -> Result {
        host.forget_events();
        plan.reclaims.set(0);
        let polled = Scripted::new(|call: &Call| match call.wait {
            Wait::Poll => plan.execute(host, call),
            Wait::Interrupt => silence(call.command),
        });
        let polled = match busy {
            Some(why) => polled.busy(why),
            None => polled,
        };
        let mut last = p.last_shutdown(polled)?;
        said::forget();
        last.run();
        Ok(())
    }

    #[test]
    fn panic_stops_firmware() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let lost = Refuses(Status::DFFLUSH_REQUIRED);
        let owed = Refuses(Status::WBINVD_REQUIRED);
        const ONCE: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN];
        const TWICE: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN];
        const HALF: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN, SNP_DF_FLUSH];
        for x86 in [true, false] {
            // What firmware does; what it is asked; whether SNP is over then.
            for (faults, busy, events, over) in [
                (&[][..], None, ONCE, true),
                (&[(CommandId::SNP_SHUTDOWN_EX, lost, 1)], None, TWICE, true),
                (&[(CommandId::SNP_SHUTDOWN_EX, lost, 2)], None, TWICE, false),
                (
                    &[
                        (CommandId::SNP_SHUTDOWN_EX, lost, 1),
                        (CommandId::SNP_DF_FLUSH, owed, 1),
                    ],
                    None,
                    HALF,
                    false,
                ),
                (
                    &[
                        (CommandId::SNP_SHUTDOWN_EX, lost, 1),
                        (CommandId::SNP_DF_FLUSH, lost, 1),
                    ],
                    None,
                    HALF,
                    false,
                ),
                (&[(CommandId::SNP_SHUTDOWN_EX, owed, 1)], None, ONCE, false),
                // What SEV says is of no interest.
                (&[(CommandId::SHUTDOWN, lost, 1)], None, ONCE, true),
                (
                    &[(
                        CommandId::SHUTDOWN,
                        Refuses(Status::INVALID_PLATFORM_STATE),
                        1,
                    )],
                    None,
                    ONCE,
                    true,
                ),
                (&[], Some(NotIdle::Busy), &[], false),
                (&[], Some(NotIdle::Gone), &[], false),
            ] {
                let plan = Plan::new();
                let (_faux, mut p) = platform(&HOST, &plan, x86)?;
                check!(p.init(true, 0).is_ok());
                plan.set(faults);
                panic(&HOST, &plan, &p, busy)?;
                check!(HOST.saw(events), "{} {:?}", x86, busy);
                // What is told, and how many pages of the TMR stay firmware's by that.
                let (lines, left) = match (over, x86) {
                    (true, true) => (&[][..], None),
                    (true, false) => (&["panic-snp-en-stays"][..], Some(0)),
                    (false, _) => (&["panic-snp-stays"][..], Some(512)),
                };
                check!(said::only(lines), "{} {:?}", x86, busy);
                let why = match busy {
                    Some(NotIdle::Busy) => "firmware still works on ",
                    Some(NotIdle::Gone) => "firmware is gone since ",
                    None => ": ",
                };
                if !over {
                    check!(said::with(fmt!("{why}")), "{} {:?}", x86, busy);
                    check!(said::with(fmt!("; SNP_EN is set, ")), "{} {:?}", x86, busy);
                }
                check!(left.is_none_or(|left| said::with(fmt!(
                    "the memory of 0 guest(s) and {} page(s) of firmware",
                    left + leaked()
                ))));
                // The TMR is taken back where SNP_EN stays.
                let taken = !x86 && busy.is_none();
                check!(
                    plan.reclaims.get() == if taken { 512 } else { 0 },
                    "{}",
                    x86
                );
                check!(HOST.assigned() == if taken { 0 } else { 512 }, "{}", x86);
                check!(
                    (HOST.snp_en.load(Relaxed) == 0) == (x86 && over),
                    "{} {:?}",
                    x86,
                    busy
                );
                check!(p.channel.record().snp() != over, "{} {:?}", x86, busy);
                // For the test alone: its pages come back.
                plan.set(&[]);
                p.shutdown(Leaving::KvmGone);
                HOST.forget();
                HOST.snp_en.store(0, Relaxed);
            }
        }
        Ok(())
    }

    /// It is asked to clear SNP_EN, says that it has, and has not.
    #[test]
    fn panic_tells_of_all_pages_if_snp_en_stays_after_all() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        plan.clears_snp_en.set(false);
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]) && HOST.snp_en.load(Relaxed) == CPUS);
        check!(said::only(&["panic-snp-en-stays"]));
        check!(said::with(fmt!(
            "the memory of 0 guest(s) and {} page(s) of firmware",
            512 + leaked()
        )));
        check!(plan.reclaims.get() == 0 && HOST.assigned() == 512);
        Ok(())
    }

    /// CPUs that are being stopped: whether they wait, and what they were told.
    struct Others {
        held: AtomicBool,
        in_time: AtomicBool,
        host: &'static FakeHost,
    }

    /// They have written back, and were let go.
    const WRITTEN_BACK: Event = Keep(100);
    const LET_GO: Event = Keep(101);

    impl crate::stopped_cpus::OtherCpus for Others {
        fn are_held(&self) -> bool {
            self.held.load(Relaxed)
        }

        fn write_back(&self) -> bool {
            self.host.note(WRITTEN_BACK);
            self.in_time.load(Relaxed)
        }

        fn let_go(&self) {
            self.host.note(LET_GO);
        }
    }

    /// Guests are ended first, one after the other, if the other CPUs can pay for it; they are let
    /// go in any case.
    #[test]
    fn panic_ends_guests() -> Result {
        static HOST: FakeHost = FakeHost::new();
        static OTHERS: Others = Others {
            held: AtomicBool::new(false),
            in_time: AtomicBool::new(true),
            host: &HOST,
        };
        const STUCK: &[Event] = &[SHUTDOWN, SNP_SHUTDOWN, SNP_DF_FLUSH, SNP_SHUTDOWN, LET_GO];
        const REFUSED: &[Event] = &[DECOMMISSION, DECOMMISSION, LET_GO];
        const ENDED: &[Event] = &[
            DECOMMISSION,
            DECOMMISSION,
            WRITTEN_BACK,
            SHUTDOWN,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            LET_GO,
        ];
        // Whether the others wait, one guest is refused, the others are in time; what is told.
        for (held, refused, in_time, events, lines) in [
            (
                false,
                false,
                true,
                STUCK,
                &["panic-guests-stay", "panic-snp-stays"][..],
            ),
            (true, false, true, ENDED, &["panic-guests-ended"]),
            (true, false, false, ENDED, &["panic-guests-ended"]),
            (true, true, true, REFUSED, &["panic-snp-stays"]),
        ] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            // One of three has gone.
            let guests = [guest(&mut p)?, guest(&mut p)?, guest(&mut p)?];
            relay_context(&mut p, CommandId::SNP_DECOMMISSION, guests[0].1)?;
            plan.dirty.set(false);
            OTHERS.held.store(held, Relaxed);
            OTHERS.in_time.store(in_time, Relaxed);
            HOST.forget_events();
            let polled = Scripted::new(|call: &Call| match call.wait {
                // The second of two.
                Wait::Poll if refused && call.is(CommandId::SNP_DECOMMISSION) => {
                    let answer = plan.execute(&HOST, call);
                    match plan.active.get() {
                        0 => Ok(Status::INVALID_GUEST),
                        _ => answer,
                    }
                }
                Wait::Poll => plan.execute(&HOST, call),
                Wait::Interrupt => silence(call.command),
            });
            let mut last = p.last_shutdown(polled)?;
            last.others = &OTHERS;
            said::forget();
            last.run();
            check!(HOST.saw(events), "{} {}", held, refused);
            check!(said::only(lines), "{} {}", held, refused);
            // The guests that are left are those that the driver knows.
            let told = match events.len() == ENDED.len() {
                true => said::with(fmt!("2 SNP guest(s) ended for the panic")),
                false => said::with(fmt!("the memory of 2 guest(s) and ")),
            };
            check!(told, "{} {}", held, refused);
            check!(said::with(fmt!("but not all CPUs have written")) != in_time);
            check!(
                (HOST.snp_en.load(Relaxed) == 0) == (events.len() == ENDED.len()),
                "{}",
                held
            );
            // For the test alone: its pages come back.
            plan.active.set(0);
            plan.dirty.set(false);
            p.shutdown(Leaving::KvmGone);
            for (page, _) in guests {
                p.free_firmware_page(page);
            }
            HOST.forget();
            HOST.forget_events();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    /// The pages of both areas that stay firmware's count.
    #[test]
    fn panic_tells_of_pages_that_it_cannot_take_back() -> Result {
        static HOST: FakeHost = FakeHost::new();
        for (first, left) in [(0, 3), (511, 2), (512, 3)] {
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, false)?;
            p.nv = Nv::Unread(ENODATA);
            p.set_nv(Contents::blank());
            check!(p.init(true, 0).is_ok() && HOST.assigned() == 512 + 8);
            HOST.shared_fails.set(first, left);
            panic(&HOST, &plan, &p, None)?;
            check!(said::only(&["panic-snp-en-stays"]), "{}", first);
            let pages = left + leaked();
            check!(
                said::with(fmt!("and {pages} page(s) of firmware")),
                "{first}"
            );
            check!(HOST.assigned() == left as i32, "{}", first);
            // For the test alone: its pages come back.
            HOST.shared_fails.set(0, 0);
            p.shutdown(Leaving::KvmGone);
            HOST.forget();
            HOST.forget_events();
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }

    #[test]
    fn panic_asks_nothing_of_firmware_without_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        check!(p.start_sev().is_ok());
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        p.shutdown(Leaving::KvmGone);
        plan.once(CommandId::SNP_INIT_EX, Refuses(Status::INVALID_CONFIG));
        check!(p.init(true, 0).is_err());
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        check!(p.init(true, 0).is_ok());
        p.shutdown(Leaving::KvmGone);
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[]));
        Ok(())
    }

    #[test]
    fn panic_stops_firmware_that_was_left_initialised() -> Result {
        static HOST: FakeHost = FakeHost::new();
        HOST.snp_en.store(CPUS, Relaxed);
        let plan = Plan::new();
        let (_faux, mut p) = unidentified(&HOST, &plan)?;
        plan.snp_init.set(true);
        check!(p.identify().is_ok());
        panic(&HOST, &plan, &p, None)?;
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN]));
        Ok(())
    }

    /// Where addresses stand in command buffers, by the firmware ABI.
    const ADDRESSES: [(CommandId, &[u16]); 19] = [
        (CommandId::INIT, &[8]),
        (CommandId::PLATFORM_STATUS, &[]),
        (CommandId::PEK_CSR, &[0]),
        (CommandId::PEK_CERT_IMPORT, &[0, 16]),
        (CommandId::PDH_CERT_EXPORT, &[0, 16]),
        (CommandId::DOWNLOAD_FIRMWARE, &[0]),
        (CommandId::GET_ID, &[0]),
        (CommandId::LAUNCH_MEASURE, &[8]),
        (CommandId::SNP_PLATFORM_STATUS, &[0]),
        (CommandId::SNP_INIT_EX, &[8]),
        (CommandId::SNP_SHUTDOWN_EX, &[]),
        (CommandId::SNP_DECOMMISSION, &[0]),
        (CommandId::SNP_GCTX_CREATE, &[0]),
        (CommandId::SNP_PAGE_RECLAIM, &[0]),
        (CommandId::SNP_CONFIG, &[]),
        (CommandId::SNP_COMMIT, &[]),
        (CommandId::SNP_VLEK_LOAD, &[8]),
        (CommandId::SNP_FEATURE_INFO, &[8]),
        (CommandId::LAUNCH_UPDATE_DATA, &[8]),
    ];
    /// The only ones without encryption bit: the TMR, and pages to reclaim.
    const PLAIN: [CommandId; 2] = [CommandId::INIT, CommandId::SNP_PAGE_RECLAIM];

    #[test]
    fn addresses_have_the_encryption_bit() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let _sme = Sme::pretend();
        let plan = Plan::new();
        let seen = [const { Cell::new(false) }; ADDRESSES.len()];
        // The first command with an address that is wrong, or of which the table has nothing.
        let wrong = Cell::new(None);
        let look = |call: &Call| {
            let bit = |address: u64| address & Sme::MASK != 0 && address & !Sme::MASK != 0;
            let row = ADDRESSES.iter().zip(&seen);
            let mut rows = row.filter(|((id, _), _)| call.is(*id));
            let right = match rows.next() {
                None => call.command.len == 0,
                Some(((_, offsets), seen)) => {
                    seen.set(true);
                    let plain = PLAIN.contains(&call.command.id);
                    bit(call.spa)
                        && offsets.iter().all(|&offset| {
                            call.field::<u64>(offset)
                                .is_ok_and(|address| address != 0 && bit(address) != plain)
                        })
                }
            };
            if !right && wrong.get().is_none() {
                wrong.set(Some(call.command.name));
            }
            plan.execute(&HOST, call)
        };
        let (_faux, dev) = device()?;
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(look), &HOST)?);
        let page = || HvPages::zeroed(Gfp::KERNEL, 0);
        check!(p.identify().is_ok());
        check!(p.download(&[0x55; 5000]).is_ok());
        check!(p.init(true, 0).is_ok() && p.is_snp_up());
        check!(p.pek_csr(Some(64)).is_ok_and(|csr| csr.result.is_ok()));
        check!(p.get_id(Some(128)).is_ok_and(|id| id.result.is_ok()));
        check!(p
            .pdh_cert_export(Some([64, 5000]), true)
            .is_ok_and(|certs| certs.result.is_ok()));
        check!(p.cert_import(page()?, 16, page()?, 16).is_ok());
        check!(p.vlek_load(page()?, [0; 3]).is_ok());
        let config = SnpConfig::read_from_bytes(&[0; 64]).map_err(|_| EINVAL)?;
        check!(p.set_config(config).is_ok());
        check!(p.commit().is_ok() && p.snp_platform_status().is_ok());
        guest(&mut p)?;
        // Both name two pages at offset 8, and their length at 16.
        for id in [CommandId::LAUNCH_MEASURE, CommandId::LAUNCH_UPDATE_DATA] {
            let mut memory = compound(1)?;
            memory.bytes_mut().fill(0x5a);
            let address = memory.phys() | Sme::MASK;
            let mut data = [0; 20];
            data[8..16].copy_from_slice(&address.to_le_bytes());
            data[16..].copy_from_slice(&8192_u32.to_le_bytes());
            let before = data;
            // SAFETY: The address is that of two pages of this test.
            let caller = unsafe { CallerMemory::trust() };
            let command = Relayed::new(id.row()).ok_or(EPERM)?;
            check!(p.relay(command, &mut data, &caller).is_ok());
            check!(data == before, "{:?}", id);
            // What stood in for them was zeroed; the guest's own stay as they are.
            let bounced = id == CommandId::LAUNCH_MEASURE;
            let filled = if bounced { 0 } else { 0x5a };
            check!(
                memory.bytes().iter().all(|byte| *byte == filled),
                "{:?}",
                id
            );
        }
        p.shutdown(Leaving::DeviceGone);
        HOST.forget();
        p.features.ecx = 0;
        check!(p.init(true, 0).is_ok());
        p.last_shutdown(Scripted::new(look))?.run();
        check!(wrong.get().is_none(), "{:?}", wrong.get());
        let missing = seen.iter().position(|seen| !seen.get());
        check!(missing.is_none(), "{:?}", missing);
        p.shutdown(Leaving::KvmGone);
        HOST.forget();
        Ok(())
    }

    /// What a command buffer has besides zeros and addresses: where, and which bytes.
    type Fields = &'static [(usize, &'static [u8])];

    /// Command buffers by the firmware ABI: where addresses are, and all fields that are not zero.
    const BUFFERS: [(CommandId, &[usize], Fields); 14] = [
        (
            CommandId::SNP_INIT_EX,
            &[8],
            &[(0, &[0b1011]), (16, &[0x28])],
        ),
        (CommandId::SNP_SHUTDOWN_EX, &[], &[(0, &[8]), (4, &[0b11])]),
        (CommandId::SNP_FEATURE_INFO, &[8], &[(0, &[16])]),
        (CommandId::SNP_PLATFORM_STATUS, &[0], &[]),
        (CommandId::SNP_COMMIT, &[], &[(0, &[4])]),
        (CommandId::SNP_CONFIG, &[], &[(0, &[7; 64])]),
        (
            CommandId::SNP_VLEK_LOAD,
            &[8],
            &[(0, &[16]), (5, &[1, 2, 3])],
        ),
        (
            CommandId::SNP_VERIFY_MITIGATION,
            &[32],
            &[(0, &[64]), (4, &[1]), (8, &[2]), (16, &[1])],
        ),
        (
            CommandId::INIT_EX,
            &[8, 24],
            &[(0, &[36]), (4, &[1]), (16, &[0, 0, 0x20]), (32, &[0, 0x80])],
        ),
        (CommandId::PEK_CSR, &[0], &[(8, &[64])]),
        (CommandId::GET_ID, &[0], &[(8, &[65])]),
        (
            CommandId::PDH_CERT_EXPORT,
            &[0, 16],
            &[(8, &[66]), (24, &[67])],
        ),
        (
            CommandId::PEK_CERT_IMPORT,
            &[0, 16],
            &[(8, &[68]), (24, &[69])],
        ),
        (CommandId::PLATFORM_STATUS, &[], &[]),
    ];

    #[test]
    fn command_buffers_have_nothing_but_what_is_asked_for() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let seen = [const { Cell::new(false) }; BUFFERS.len()];
        let wrong = Cell::new(None);
        let look = |call: &Call| {
            let mut rows = BUFFERS.iter().zip(&seen);
            if let Some(((_, addresses, fields), seen)) = rows.find(|((id, ..), _)| call.is(*id)) {
                seen.set(true);
                let expected = |at: usize| {
                    let field = fields
                        .iter()
                        .find_map(|(first, bytes)| bytes.get(at.checked_sub(*first)?));
                    field.copied().unwrap_or(0)
                };
                let right = call.buffer(|bytes| {
                    bytes.iter().enumerate().all(|(at, byte)| {
                        let address = addresses
                            .iter()
                            .any(|first| (*first..first + 8).contains(&at));
                        address || *byte == expected(at)
                    })
                });
                if !right && wrong.get().is_none() {
                    wrong.set(Some(call.command.name));
                }
            }
            plan.execute(&HOST, call)
        };
        let (_faux, dev) = device()?;
        let mut p = Platform::unidentified(Channel::new(dev, Scripted::new(look), &HOST)?);
        let page = || HvPages::zeroed(Gfp::KERNEL, 0);
        p.nv = Nv::Unread(ENODATA);
        p.set_nv(Contents::blank());
        check!(p.identify().is_ok() && p.init(true, 0x28).is_ok());
        check!(p.pek_csr(Some(64)).is_ok() && p.get_id(Some(65)).is_ok());
        check!(p.pdh_cert_export(Some([66, 67]), true).is_ok());
        check!(p.cert_import(page()?, 68, page()?, 69).is_ok());
        let config = SnpConfig::read_from_bytes(&[7; 64]).map_err(|_| EINVAL)?;
        check!(p.set_config(config).is_ok() && p.commit().is_ok());
        check!(p.vlek_load(page()?, [1, 2, 3]).is_ok());
        check!(p.verify_mitigation(Some(2)).is_ok());
        p.shutdown(Leaving::KvmGone);
        check!(wrong.get().is_none(), "{:?}", wrong.get());
        let missing = seen.iter().position(|seen| !seen.get());
        check!(missing.is_none(), "{:?}", missing);
        HOST.forget_events();
        Ok(())
    }

    #[test]
    fn what_the_bios_reserved_is_rounded_outwards() -> Result {
        // First and last byte; base and number of pages.
        for (start, end, base, page_count) in [
            (0, 0xfff, 0, 1),
            (0x1000, 0x2fff, 0x1000, 2),
            (0x1001, 0x1fff, 0x1000, 1),
            (0x1fff, 0x2000, 0x1000, 2),
            (0x9fc00, 0x9ffff, 0x9f000, 1),
            (1 << 40, (1 << 40) + 0x1000, 1 << 40, 2),
        ] {
            for (description, fixed) in [
                (IORES_DESC_ACPI_TABLES, true),
                (IORES_DESC_ACPI_NV_STORAGE, true),
                (IORES_DESC_RESERVED, true),
                (IORES_DESC_NONE, false),
            ] {
                let range = ranges::hv_fixed(MemoryResource {
                    start,
                    end,
                    description,
                })?;
                check!(range.is_some() == fixed, "{:#x} {:?}", start, description);
                let Some(range) = range else { continue };
                check!(
                    { range.base } == base && { range.page_count } == page_count,
                    "{:#x}",
                    start
                );
            }
        }
        let endless = MemoryResource {
            start: 0,
            end: u64::MAX,
            description: IORES_DESC_RESERVED,
        };
        check!(matches!(ranges::hv_fixed(endless), Err(err) if err == E2BIG));
        Ok(())
    }

    #[test]
    fn timeouts_of_the_parameters_are_bounded() -> Result {
        for (secs, ms) in [
            (i32::MIN, 1000),
            (-1, 1000),
            (0, 1000),
            (1, 1000),
            (100, 100_000),
            (3600, 3_600_000),
            (3601, 3_600_000),
            (i32::MAX, 3_600_000),
        ] {
            check!(bounded_ms(secs) == ms, "{}", secs);
        }
        Ok(())
    }

    #[test]
    fn time_for_snp_init_grows_with_the_rmp() -> Result {
        const GIB: u64 = 1 << 30;
        // GiB of RAM; milliseconds that firmware takes at worst; the time-out, with the default of
        // 100 s.
        for (gib, worst, ms) in [
            (64, 1_184, 202_368),
            (128, 2_368, 204_736),
            (256, 4_736, 209_472),
            (512, 9_472, 218_944),
            (1024, 18_944, 237_888),
            (2048, 37_888, 275_776),
            (4096, 75_776, 351_552),
            (8192, 151_552, 503_104),
            (16384, 303_104, 806_208),
        ] {
            check!(snp_init_ms(100_000, gib * GIB) == ms, "{}", gib);
            // Even if the administrator has set the shortest time-out.
            check!(snp_init_ms(1_000, gib * GIB) >= 2 * worst, "{}", gib);
            // What is not a whole GiB counts as one.
            check!(snp_init_ms(100_000, gib * GIB - 1) == ms, "{}", gib);
            check!(snp_init_ms(100_000, gib * GIB + 1) > ms, "{}", gib);
        }
        check!(snp_init_ms(100_000, 0) == 200_000);
        check!(snp_init_ms(u32::MAX, u64::MAX) == u32::MAX);
        let environment = PspEnvironment { psp: 0 };
        check!(environment.snp_init_timeout_ms() > 2 * environment.command_timeout_ms());
        Ok(())
    }
    /// What the driver asks after a reset, as long as firmware has kept SNP; and if it has nothing
    /// of it.
    const KEPT: [Event; 2] = [SNP_STATUS, STATUS];
    const NOTHING_LEFT: [Event; 3] = [SNP_STATUS, FEATURE_INFO, STATUS];
    const LOST: [Event; 5] = [SNP_STATUS, KEEP_RESET, SNP_STATUS, FEATURE_INFO, STATUS];

    /// Firmware forgets everything.
    fn reset(plan: &Plan) {
        plan.snp_init.set(false);
        plan.sev.set(0);
        plan.active.set(0);
        plan.dirty.set(false);
    }

    #[test]
    fn a_reset_that_firmware_has_not_noticed_changes_nothing() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        p.after_reset();
        check!(said::only(&["psp-reset-harmless"]));
        check!(HOST.saw(&KEPT) && p.is_snp_up() && p.sev == crate::platform::Sev::Init);
        check!(HOST.assigned() == 512);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        check!(HOST.assigned() == 0 && leaked() == before);
        Ok(())
    }

    #[test]
    fn firmware_that_does_not_tell_its_state_is_believed_to_have_kept_it() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        plan.once(
            CommandId::SNP_PLATFORM_STATUS,
            Refuses(Status::INVALID_PARAM),
        );
        p.after_reset();
        // It is not asked for SEV's either.
        check!(HOST.saw(&[SNP_STATUS]) && said::only(&["command-failed"]));
        check!(p.is_snp_up() && p.sev == Sev::Init);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]) && HOST.assigned() == 0);
        Ok(())
    }

    #[test]
    fn after_sleep_firmware_is_asked_if_anything_was_up() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        p.after_sleep();
        check!(HOST.saw(&[]));
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        said::forget();
        p.after_sleep();
        check!(HOST.saw(&KEPT) && p.is_snp_up() && p.sev == crate::platform::Sev::Init);
        check!(said::only(&[]));
        reset(&plan);
        p.after_sleep();
        check!(HOST.saw(&LOST) && !p.is_in_use() && said::only(&["pages-lost", "psp-reset"]));
        check!(leaked() == before + 512);
        p.after_sleep();
        check!(HOST.saw(&[]));
        HOST.forget();
        Ok(())
    }

    #[test]
    fn a_reset_of_firmware_is_believed_and_a_start_begins_anew() -> Result {
        // Told by the PCI core, or noticed by an answer.
        for told in [true, false] {
            static HOST: FakeHost = FakeHost::new();
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            let before = leaked();
            check!(p.init(true, 0).is_ok() && HOST.saw(&START));
            reset(&plan);
            if told {
                p.after_reset();
            } else {
                plan.once(CommandId::PEK_GEN, Refuses(Status::INVALID_PLATFORM_STATE));
                check!(p.pek_gen().is_err() && HOST.saw(&[PEK_GEN]));
                p.check_for_reset();
            }
            check!(HOST.saw(&LOST), "{}", told);
            check!(said::with(fmt!("while SNP and SEV was initialised")));
            check!(!p.is_snp_up() && !p.is_in_use(), "{}", told);
            // The TMR is nobody's: firmware takes no page back in this state.
            check!(leaked() == before + 512, "{}", told);
            p.check_for_reset();
            p.shutdown(Leaving::KvmGone);
            check!(HOST.saw(&[]), "{}", told);
            // SNP_INIT makes the RMP anew.
            HOST.forget();
            check!(p.init(true, 0).is_ok() && HOST.saw(&START), "{}", told);
            p.shutdown(Leaving::KvmGone);
            check!(
                HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]),
                "{}",
                told
            );
            check!(HOST.assigned() == 0, "{}", told);
        }
        Ok(())
    }

    #[test]
    fn guests_that_a_reset_has_taken_are_none() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        check!(p.init(true, 0).is_ok());
        let (_, context) = guest(&mut p)?;
        HOST.forget_events();
        reset(&plan);
        p.after_reset();
        check!(HOST.saw(&LOST) && p.guests() == 0);
        let record = p.channel.record();
        check!(!record.snp() && record.guests() == 0 && record.pages() == 1);
        // KVM still has the guest, and keeps its context when that cannot be ended.
        plan.once(
            CommandId::SNP_DECOMMISSION,
            Refuses(Status::INVALID_PLATFORM_STATE),
        );
        check!(relay_context(&mut p, CommandId::SNP_DECOMMISSION, context).is_err());
        check!(HOST.saw(&[DECOMMISSION]));
        HOST.forget();
        // The context of before is none of the guests that may keep SNP_EN.
        check!(p.init(true, 0).is_ok() && HOST.saw(&START) && p.guests() == 0);
        guest(&mut p)?;
        check!(p.guests() == 1);
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[
            GCTX_CREATE,
            SHUTDOWN,
            DECOMMISSION,
            SNP_SHUTDOWN,
            SNP_DF_FLUSH,
            SNP_SHUTDOWN,
            CLOSE_SNP_OFF
        ]));
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        p.shutdown(Leaving::DeviceGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        HOST.forget();
        Ok(())
    }

    #[test]
    fn sev_alone_may_be_lost() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        let before = leaked();
        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        plan.sev.set(0);
        said::forget();
        p.after_reset();
        check!(said::only(&["psp-reset"]));
        check!(said::with(fmt!("while SEV was initialised")));
        check!(HOST.saw(&KEPT) && p.is_snp_up() && p.sev == crate::platform::Sev::Uninit);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN, SNP_SHUTDOWN, CLOSE_SNP_OFF]));
        check!(HOST.assigned() == 0 && leaked() == before);

        // So may SNP.
        check!(p.start_snp(0).is_ok() && HOST.saw(&SNP_START));
        reset(&plan);
        said::forget();
        p.after_reset();
        check!(HOST.saw(&LOST) && !p.is_in_use() && said::only(&["psp-reset"]));
        check!(said::with(fmt!("while SNP was initialised")));
        Ok(())
    }

    #[test]
    fn a_reset_without_snp() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        HOST.open.store(EOPNOTSUPP.to_errno(), Relaxed);
        let before = leaked();
        check!(p.init(true, 0).is_ok() && HOST.saw(&[Open, INIT, DF_FLUSH]));
        p.after_reset();
        check!(HOST.saw(&NOTHING_LEFT) && p.sev == crate::platform::Sev::Init);
        reset(&plan);
        p.after_reset();
        check!(HOST.saw(&NOTHING_LEFT) && p.sev == crate::platform::Sev::Uninit);
        check!(p.init(true, 0).is_ok() && HOST.saw(&[Open, INIT, DF_FLUSH]));
        p.shutdown(Leaving::KvmGone);
        check!(HOST.saw(&[SHUTDOWN]) && leaked() == before);
        // Nothing that could be lost.
        p.after_reset();
        check!(HOST.saw(&NOTHING_LEFT) && !p.is_in_use());
        Ok(())
    }

    #[test]
    fn a_refusal_for_another_reason_is_no_reset() -> Result {
        static HOST: FakeHost = FakeHost::new();
        let plan = Plan::new();
        let (_faux, mut p) = platform(&HOST, &plan, true)?;
        // Not in use: firmware is not even asked.
        plan.once(
            CommandId::FACTORY_RESET,
            Refuses(Status::INVALID_PLATFORM_STATE),
        );
        check!(p.factory_reset().is_err());
        HOST.forget_events();
        p.check_for_reset();
        check!(HOST.saw(&[]));

        check!(p.init(true, 0).is_ok() && HOST.saw(&START));
        for (status, asked) in [
            (Status::INVALID_PLATFORM_STATE, &KEPT[..]),
            (Status::INVALID_PARAM, &[]),
            (Status::SUCCESS, &[]),
        ] {
            plan.once(CommandId::PEK_GEN, Refuses(status));
            let _ = p.pek_gen();
            check!(HOST.saw(&[PEK_GEN]));
            said::forget();
            p.check_for_reset();
            check!(said::only(&[]), "{:?}", status);
            check!(HOST.saw(asked) && p.is_snp_up(), "{:?}", status);
            p.check_for_reset();
            check!(HOST.saw(&[]), "{:?}", status);
        }
        Ok(())
    }

    #[test]
    fn what_firmware_does_not_say_after_a_reset_is_as_it_was() -> Result {
        for (command, fault) in [
            (
                CommandId::SNP_PLATFORM_STATUS,
                Refuses(Status::HWERROR_PLATFORM),
            ),
            (CommandId::SNP_PLATFORM_STATUS, Silent),
            (
                CommandId::PLATFORM_STATUS,
                Refuses(Status::HWERROR_PLATFORM),
            ),
            (CommandId::PLATFORM_STATUS, Silent),
        ] {
            static HOST: FakeHost = FakeHost::new();
            HOST.forget();
            let plan = Plan::new();
            let (_faux, mut p) = platform(&HOST, &plan, true)?;
            check!(p.init(true, 0).is_ok());
            HOST.forget_events();
            plan.once(command, fault);
            p.after_reset();
            check!(p.is_in_use() && p.channel.snp_init(), "{:?}", command);
            HOST.forget_events();
            // A dead mailbox is not asked.
            p.after_reset();
            let silent = matches!(fault, Silent);
            check!(HOST.saw(if silent { &[] } else { &KEPT }), "{:?}", command);
            HOST.snp_en.store(0, Relaxed);
        }
        Ok(())
    }
}
