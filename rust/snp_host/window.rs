// SPDX-License-Identifier: GPL-2.0

//! The state machine of the hotplug window.
//!
//! Pure: no `kernel::`, no I/O. [`Window::step`] is told what happened and what was measured and says
//! what to do; `host.rs` measures and does it. The tests at the end run on the build machine and
//! explore every state with every event (`rustc --test rust/snp_host/window.rs`).
//!
//! ```text
//!                       Open                          Verify: all CPUs
//!   Closed ─────────────────────────────► Preparing ───────────────────► Enabled
//!     ▲  │                                 │   │                          │ │ ▲
//!     │  │ Found (SNP_EN set at load)      │   │ Keep, or a close that    │ │ │ Verify: all CPUs
//!     │  └──────────────────────────────┐  │   │ the hardware contradicts │ │ │
//!     │                                 ▼  │   ▼                          ▼ │ │
//!     │                                Held(why) ─────────────────────────┼─┘
//!     │                                    │                              │
//!     └────────────────────────────────────┴──────────────────────────────┘
//!        Close(SnpOff) with SNP_EN on no CPU: from Preparing, Enabled and Held
//!        Close(InitRefused) with an all-zero RMP: from Enabled only
//! ```
//!
//! What must hold, whatever the caller does:
//!
//! * One `cpu_hotplug_disable()` is outstanding in every state but `Closed`, and none in `Closed`.
//! * While a CPU has `SNP_EN`, the window closes for one reason only: the firmware refused
//!   `SNP_INIT` after a successful verification, and the whole RMP is zero. Nothing is assigned then,
//!   so nothing is enforced, and a CPU without `SNP_EN` can do no harm.
//! * Opening an open window neither stacks nor forgets why it was held.

/// What is known about the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// CPUs may come and go.
    Closed,
    /// No CPU comes or goes; the MSRs are about to be written or being written.
    Preparing,
    /// `SNP_EN` was read as set on every CPU; the firmware is, or is about to be, in use.
    Enabled,
    /// The firmware is not in use, but the window has to stay open.
    Held(Hold),
}

/// Why a window is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// `SNP_EN` was set when this module was loaded.
    FoundAtLoad,
    /// The firmware was shut down without `X86_SNP_SHUTDOWN`.
    LegacyShutdown,
    /// The firmware refused `SNP_SHUTDOWN_EX`.
    ShutdownFailed,
    /// A command timed out.
    Timeout,
    /// The mailbox does not answer any more.
    MailboxDead,
    /// The firmware reported a hardware error.
    HardwareError,
    /// The firmware could not initialise the RMP.
    RmpInitFailed,
    /// The firmware refused `SNP_INIT`, but entries of the RMP are not zero.
    RmpNotZero,
    /// The firmware refused `SNP_INIT`, and the RMP could not be read.
    RmpUnreadable,
    /// Some CPUs have `SNP_EN`, others do not.
    Uneven,
    /// The window was to be closed, but CPUs have `SNP_EN`.
    StillEnabled,
    /// An error path of the caller ended without a verdict.
    Undecided,
}

impl Hold {
    /// The reason in words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::FoundAtLoad => "SNP_EN was set already when snp_host was loaded",
            Self::LegacyShutdown => {
                "the firmware was shut down without X86_SNP_SHUTDOWN, SNP_EN stays set until reset"
            }
            Self::ShutdownFailed => "the firmware refused SNP_SHUTDOWN_EX",
            Self::Timeout => "a firmware command timed out, its outcome is not known",
            Self::MailboxDead => "the firmware does not answer any more",
            Self::HardwareError => "the firmware reported a hardware error",
            Self::RmpInitFailed => "the firmware could not initialise the RMP",
            Self::RmpNotZero => "the firmware refused SNP_INIT, but the RMP is not all zero",
            Self::RmpUnreadable => "the firmware refused SNP_INIT, and the RMP could not be read",
            Self::Uneven => "SNP_EN is set on some CPUs only",
            Self::StillEnabled => "SNP_EN is still set",
            Self::Undecided => "an initialisation or shutdown of SNP ended half-way",
        }
    }
}

/// What was read of the RMP after a refused `SNP_INIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rmp {
    /// All entries are zero.
    Zero,
    /// There is an entry that is not.
    NotZero,
    /// The table could not be found or mapped.
    Unreadable,
}

/// How many CPUs have `SNP_EN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnpEn {
    /// None.
    Nowhere,
    /// Some, but not all of them.
    Somewhere,
    /// All of them.
    Everywhere,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// This module was loaded on a host that may have `SNP_EN` set.
    Found(SnpEn),
    /// `SNP_EN` is about to be written.
    Open,
    /// `SNP_EN` was written and read back.
    Verify(SnpEn),
    /// The caller says that SNP is off.
    CloseSnpOff(SnpEn),
    /// The caller says that the firmware refused `SNP_INIT`.
    CloseInitRefused(SnpEn, Rmp),
    /// The caller says that the window has to stay open.
    Keep(Hold),
}

/// What to do with the kernel's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Nothing.
    Leave,
    /// Call `cpu_hotplug_disable()`.
    Disable,
    /// Call `cpu_hotplug_enable()`.
    Enable,
}

/// What to answer the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done.
    Done,
    /// The window has to stay open.
    StaysOpen,
    /// `SNP_EN` is missing on a CPU.
    Missing,
    /// No window is open.
    NotOpen,
}

/// The outcome of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The state after it.
    pub(crate) next: Window,
    /// What it means for the counter.
    pub(crate) count: Count,
    /// What the caller is told.
    pub(crate) answer: Answer,
}

impl Window {
    /// Whether CPU hotplug is disabled in this state.
    pub(crate) fn is_open(self) -> bool {
        self != Self::Closed
    }

    /// Takes one step. Every event is answered in every state.
    pub(crate) fn step(self, event: Event) -> Step {
        use Answer::*;

        match (self, event) {
            (Self::Closed, Event::Found(SnpEn::Nowhere)) => self.stay(Done),
            (Self::Closed, Event::Found(_)) => self.go(Self::Held(Hold::FoundAtLoad), Done),
            (_, Event::Found(_)) => self.stay(Done),

            (Self::Closed, Event::Open) => self.go(Self::Preparing, Done),
            // Taken over from an earlier user; what it was held for is still true.
            (_, Event::Open) => self.stay(Done),

            (Self::Closed, Event::Verify(_)) => self.stay(NotOpen),
            (_, Event::Verify(SnpEn::Everywhere)) => self.go(Self::Enabled, Done),
            (_, Event::Verify(SnpEn::Somewhere)) => self.go(Self::Held(Hold::Uneven), Missing),
            (_, Event::Verify(SnpEn::Nowhere)) => self.stay(Missing),

            // Closing a window that was never opened, or twice.
            (Self::Closed, Event::CloseSnpOff(_) | Event::CloseInitRefused(..)) => self.stay(Done),
            (
                _,
                Event::CloseSnpOff(SnpEn::Nowhere) | Event::CloseInitRefused(SnpEn::Nowhere, _),
            ) => self.go(Self::Closed, Done),
            (Self::Enabled, Event::CloseInitRefused(_, Rmp::Zero)) => self.go(Self::Closed, Done),
            (Self::Enabled, Event::CloseInitRefused(_, Rmp::NotZero)) => {
                self.go(Self::Held(Hold::RmpNotZero), StaysOpen)
            }
            (Self::Enabled, Event::CloseInitRefused(_, Rmp::Unreadable)) => {
                self.go(Self::Held(Hold::RmpUnreadable), StaysOpen)
            }
            // The first reason is the one to tell.
            (Self::Held(_), Event::CloseSnpOff(_) | Event::CloseInitRefused(..)) => {
                self.stay(StaysOpen)
            }
            (_, Event::CloseSnpOff(_) | Event::CloseInitRefused(..)) => {
                self.go(Self::Held(Hold::StillEnabled), StaysOpen)
            }

            (Self::Closed, Event::Keep(_)) => self.stay(NotOpen),
            (Self::Held(_), Event::Keep(Hold::Undecided)) => self.stay(StaysOpen),
            (_, Event::Keep(why)) => self.go(Self::Held(why), StaysOpen),
        }
    }

    fn stay(self, answer: Answer) -> Step {
        self.go(self, answer)
    }

    /// The counter follows from the states alone, so it cannot get out of step with them.
    fn go(self, next: Self, answer: Answer) -> Step {
        let count = match (self.is_open(), next.is_open()) {
            (false, true) => Count::Disable,
            (true, false) => Count::Enable,
            _ => Count::Leave,
        };
        Step {
            next,
            count,
            answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: [Hold; 12] = [
        Hold::FoundAtLoad,
        Hold::LegacyShutdown,
        Hold::ShutdownFailed,
        Hold::Timeout,
        Hold::MailboxDead,
        Hold::HardwareError,
        Hold::RmpInitFailed,
        Hold::RmpNotZero,
        Hold::RmpUnreadable,
        Hold::Uneven,
        Hold::StillEnabled,
        Hold::Undecided,
    ];
    const SNP_EN: [SnpEn; 3] = [SnpEn::Nowhere, SnpEn::Somewhere, SnpEn::Everywhere];
    const RMP: [Rmp; 3] = [Rmp::Zero, Rmp::NotZero, Rmp::Unreadable];

    fn windows() -> Vec<Window> {
        [Window::Closed, Window::Preparing, Window::Enabled]
            .into_iter()
            .chain(HOLDS.map(Window::Held))
            .collect()
    }

    fn events() -> Vec<Event> {
        let mut events = vec![Event::Open];
        events.extend(HOLDS.map(Event::Keep));
        for en in SNP_EN {
            events.extend([Event::Found(en), Event::Verify(en), Event::CloseSnpOff(en)]);
            events.extend(RMP.map(|rmp| Event::CloseInitRefused(en, rmp)));
        }
        events
    }

    /// What an event says about the hardware, if it says anything.
    fn measured(event: Event) -> Option<SnpEn> {
        match event {
            Event::Found(en)
            | Event::Verify(en)
            | Event::CloseSnpOff(en)
            | Event::CloseInitRefused(en, _) => Some(en),
            Event::Open | Event::Keep(_) => None,
        }
    }

    #[test]
    fn the_counter_is_one_while_open_and_zero_while_closed() {
        for window in windows() {
            for event in events() {
                let step = window.step(event);
                let before = i32::from(window.is_open());
                let after = before
                    + match step.count {
                        Count::Disable => 1,
                        Count::Enable => -1,
                        Count::Leave => 0,
                    };
                assert_eq!(
                    after,
                    i32::from(step.next.is_open()),
                    "{window:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn with_snp_en_set_it_closes_only_after_a_refusal_with_a_zero_rmp() {
        for window in windows() {
            for event in events() {
                let closes = window.is_open() && !window.step(event).next.is_open();
                if !closes {
                    continue;
                }
                let off = measured(event) == Some(SnpEn::Nowhere);
                let refused = window == Window::Enabled
                    && matches!(event, Event::CloseInitRefused(_, Rmp::Zero));
                assert!(off || refused, "{window:?} {event:?}");
            }
        }
    }

    #[test]
    fn it_opens_only_for_a_prepare_or_for_what_was_found() {
        for event in events() {
            let opens = Window::Closed.step(event).next.is_open();
            let may = event == Event::Open
                || matches!(event, Event::Found(SnpEn::Somewhere | SnpEn::Everywhere));
            assert_eq!(opens, may, "{event:?}");
        }
    }

    #[test]
    fn enabled_is_only_reached_by_a_full_verification() {
        for window in windows() {
            for event in events() {
                if window.step(event).next == Window::Enabled && window != Window::Enabled {
                    assert_eq!(event, Event::Verify(SnpEn::Everywhere), "{window:?}");
                }
            }
        }
    }

    #[test]
    fn snp_off_on_all_cpus_always_closes() {
        for window in windows() {
            let step = window.step(Event::CloseSnpOff(SnpEn::Nowhere));
            assert_eq!(
                (step.next, step.answer),
                (Window::Closed, Answer::Done),
                "{window:?}"
            );
        }
    }

    #[test]
    fn done_means_what_was_asked_for() {
        for window in windows() {
            for event in events() {
                let step = window.step(event);
                if step.answer != Answer::Done {
                    continue;
                }
                match event {
                    Event::Open => assert!(step.next.is_open(), "{window:?}"),
                    Event::Verify(en) => assert_eq!(
                        (step.next, en),
                        (Window::Enabled, SnpEn::Everywhere),
                        "{window:?}"
                    ),
                    Event::CloseSnpOff(_) | Event::CloseInitRefused(..) => {
                        assert_eq!(step.next, Window::Closed, "{window:?} {event:?}")
                    }
                    Event::Keep(_) => panic!("a window that is kept is not done: {window:?}"),
                    Event::Found(_) => (),
                }
            }
        }
    }

    #[test]
    fn opening_an_open_window_keeps_its_reason() {
        for why in HOLDS {
            assert_eq!(Window::Held(why).step(Event::Open).next, Window::Held(why));
            assert_eq!(
                Window::Held(why).step(Event::Keep(Hold::Undecided)).next,
                Window::Held(why)
            );
        }
    }

    /// Every sequence of four events from `Closed`: the sum of all counter changes is 0 or 1 at any
    /// time. (The step-wise test above implies it; this one does not trust the implication.)
    #[test]
    fn no_sequence_stacks_or_underflows() {
        fn walk(window: Window, count: i32, depth: usize, events: &[Event]) {
            assert_eq!(count, i32::from(window.is_open()));
            if depth == 0 {
                return;
            }
            for &event in events {
                let step = window.step(event);
                let change = match step.count {
                    Count::Disable => 1,
                    Count::Enable => -1,
                    Count::Leave => 0,
                };
                walk(step.next, count + change, depth - 1, events);
            }
        }
        walk(Window::Closed, 0, 4, &events());
    }

    #[test]
    fn reload_on_firmware_without_x86_shutdown() {
        let mut window = Window::Closed;
        let mut disables = 0;
        for _ in 0..10 {
            for event in [
                Event::Open,
                Event::Verify(SnpEn::Everywhere),
                Event::Keep(Hold::LegacyShutdown),
            ] {
                let step = window.step(event);
                disables += i32::from(step.count == Count::Disable);
                assert_ne!(step.count, Count::Enable);
                window = step.next;
            }
        }
        assert_eq!((window, disables), (Window::Held(Hold::LegacyShutdown), 1));
    }

    #[test]
    fn every_reason_says_something_of_its_own() {
        let mut texts = HOLDS.map(Hold::text).to_vec();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), HOLDS.len());
    }
}
