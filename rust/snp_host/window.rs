// SPDX-License-Identifier: GPL-2.0

//! The state machine of the hotplug window.
//!
//! Pure: no `kernel::`, no I/O. [`Window::step`] is told what happened and what was measured and says
//! what to do; `host.rs` measures and does it. The tests at the end run on the build machine and
//! explore every state with every event (`rustc --test rust/snp_host/window.rs`).
//!
//! ```text
//!                       Open                          Prepared (all CPUs)
//!   Closed ─────────────────────────────► Preparing ───────────────────► Enabled
//!     ▲  │                                 │   │                          │ │ ▲
//!     │  │ Found (SNP_EN set at load)      │   │ Keep, or a close that    │ │ │ Prepared (all CPUs)
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
//!   `SNP_INIT` after a successful prepare, and the whole RMP is zero. Nothing is assigned then,
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
    /// All CPUs were prepared: `SNP_EN` was read back as set on every one.
    Prepared,
    /// Preparing failed, and this is where `SNP_EN` is set now.
    NotPrepared(SnpEn),
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

    /// Whether the RMP may have entries in this state that somebody made: it is cleared, and MFDM switched
    /// off, before the window closes. That is done only while no CPU has `SNP_EN`.
    pub(crate) fn leaves_an_rmp(self) -> bool {
        matches!(self, Self::Enabled | Self::Held(_))
    }

    /// Takes one step. Every event is answered in every state.
    pub(crate) fn step(self, event: Event) -> Step {
        use Answer::*;

        match (self, event) {
            (Self::Closed, Event::Found(SnpEn::Nowhere)) => self.stay(Done),
            (Self::Closed, Event::Found(SnpEn::Somewhere)) => {
                self.go(Self::Held(Hold::Uneven), Done)
            }
            (Self::Closed, Event::Found(SnpEn::Everywhere)) => {
                self.go(Self::Held(Hold::FoundAtLoad), Done)
            }
            (_, Event::Found(_)) => self.stay(Done),

            (Self::Closed, Event::Open) => self.go(Self::Preparing, Done),
            // Taken over from an earlier user; what it was held for is still true.
            (_, Event::Open) => self.stay(Done),

            (Self::Closed, Event::Prepared | Event::NotPrepared(_)) => self.stay(NotOpen),
            (_, Event::Prepared) => self.go(Self::Enabled, Done),
            (_, Event::NotPrepared(SnpEn::Somewhere)) => {
                self.go(Self::Held(Hold::Uneven), StaysOpen)
            }
            // Whoever opened it will close it, and then it is asked again where SNP_EN is.
            (_, Event::NotPrepared(_)) => self.stay(StaysOpen),

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
#[path = "window/tests.rs"]
mod tests;
