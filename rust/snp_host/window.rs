// SPDX-License-Identifier: GPL-2.0

//! The state machine of the hotplug window.
//!
//! Pure: no `kernel::`, no I/O. [`Window::step`] takes an event, with the SNP_EN that `host.rs` has
//! read, and returns the next state; `host.rs` does what the state demands. The tests
//! (`window/tests.rs`) run on the build machine and explore every state with every event.
//!
//! ```text
//!                       Open                          Prepared (all CPUs)
//!   Closed ─────────────────────────────► Preparing ───────────────────► Enabled
//!     ▲  │                                 │   │                          │ │ ▲
//!     │  │ Found (SNP_EN set at load)      │   │ Keep, or a close that    │ │ │ Prepared
//!     │  └──────────────────────────────┐  │   │ the hardware contradicts │ │ │
//!     │                                 ▼  │   ▼                          ▼ │ │
//!     │                                Held(why) ─────────────────────────┼─┘
//!     │                                    │                              │
//!     └────────────────────────────────────┴──────────────────────────────┘
//!        Close(SnpOff) with SNP_EN on no CPU: from Preparing, Enabled and Held
//!        Close(InitRefused) with an all-zero RMP: from Enabled only
//! ```
//!
//! These rules hold whatever the caller does:
//!
//! * One `cpu_hotplug_disable()` is outstanding in every state but `Closed`, and none in `Closed`.
//! * While a CPU has `SNP_EN`, the window closes for one reason only: firmware refused `SNP_INIT`
//!   after a successful prepare, and the whole RMP is zero. Then no page is assigned, so a CPU
//!   without `SNP_EN` can do no harm.
//! * Opening an open window neither nests nor deletes the reason that the window is held for.

use crate::sys::bindings::snp_host_keep;

/// The state of the window.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Window {
    /// CPUs may come and go.
    Closed,
    /// No CPU comes or goes; the MSRs are about to be written or being written.
    Preparing,
    /// `SNP_EN` was read as set on every CPU; firmware is, or is about to be, in use.
    Enabled,
    /// Firmware is not in use, but the window has to stay open.
    Held(snp_host_keep),
}

/// The RMP after a refused `SNP_INIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rmp {
    /// All entries are zero.
    Zero,
    /// There is an entry that is not.
    NotZero,
    /// The table could not be found or mapped.
    Unreadable,
}

/// Where `SNP_EN` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnpEn {
    /// On no CPU.
    Nowhere,
    /// On some CPUs, but not on all.
    Somewhere,
    /// On all CPUs.
    Everywhere,
}

/// An event.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Event {
    /// This module was loaded on a host that may have `SNP_EN` set.
    Found(SnpEn),
    /// `SNP_EN` is about to be written.
    Open,
    /// All CPUs were prepared: `SNP_EN` was read back as set on every one.
    Prepared,
    /// Preparing failed; `SNP_EN` is set there now.
    NotPrepared(SnpEn),
    /// The caller says that SNP is off.
    CloseSnpOff(SnpEn),
    /// The caller says that firmware refused `SNP_INIT`.
    CloseInitRefused(SnpEn, Rmp),
    /// The caller says that the window has to stay open.
    Keep(snp_host_keep),
}

impl Window {
    /// As it is in sysfs and in the trace.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Window::Closed => "closed",
            Window::Preparing => "preparing",
            Window::Enabled => "enabled",
            Window::Held(_) => "held",
        }
    }

    /// Whether CPU hotplug is disabled in this state.
    pub(crate) fn is_open(self) -> bool {
        self != Self::Closed
    }

    /// Whether CPUs may have been prepared, so that `snp_shutdown()` comes before the window
    /// closes.
    pub(crate) fn needs_snp_shutdown(self) -> bool {
        matches!(self, Self::Enabled | Self::Held(_))
    }

    /// The state after an event. Every state has an answer to every event.
    pub(crate) fn step(self, event: Event) -> Self {
        match (self, event) {
            (Self::Closed, Event::Found(SnpEn::Somewhere)) => {
                Self::Held(snp_host_keep::SNP_HOST_KEEP_SOME_CPUS)
            }
            (Self::Closed, Event::Found(SnpEn::Everywhere)) => {
                Self::Held(snp_host_keep::SNP_HOST_KEEP_FOUND_AT_LOAD)
            }
            (_, Event::Found(_)) => self,

            (Self::Closed, Event::Open) => Self::Preparing,
            // The caller takes the window over. A reason that it was held for still holds.
            (_, Event::Open) => self,

            // Preparing, closing and keeping need an open window.
            (Self::Closed, _) => self,

            (_, Event::Prepared) => Self::Enabled,
            (_, Event::NotPrepared(SnpEn::Somewhere)) => {
                Self::Held(snp_host_keep::SNP_HOST_KEEP_SOME_CPUS)
            }
            // The caller closes the window next, which reads SNP_EN again.
            (_, Event::NotPrepared(_)) => self,

            (
                _,
                Event::CloseSnpOff(SnpEn::Nowhere) | Event::CloseInitRefused(SnpEn::Nowhere, _),
            ) => Self::Closed,
            (Self::Enabled, Event::CloseInitRefused(_, Rmp::Zero)) => Self::Closed,
            (Self::Enabled, Event::CloseInitRefused(_, Rmp::NotZero)) => {
                Self::Held(snp_host_keep::SNP_HOST_KEEP_RMP_NOT_ZERO)
            }
            (Self::Enabled, Event::CloseInitRefused(_, Rmp::Unreadable)) => {
                Self::Held(snp_host_keep::SNP_HOST_KEEP_RMP_UNREADABLE)
            }
            // The first reason is the one to show.
            (Self::Held(_), Event::CloseSnpOff(_) | Event::CloseInitRefused(..)) => self,
            (_, Event::CloseSnpOff(_) | Event::CloseInitRefused(..)) => {
                Self::Held(snp_host_keep::SNP_HOST_KEEP_STILL_ENABLED)
            }

            (Self::Held(_), Event::Keep(snp_host_keep::SNP_HOST_KEEP_UNDECIDED)) => self,
            (_, Event::Keep(why)) => Self::Held(why),
        }
    }
}

/// Why a window is held, for the log and sysfs.
pub(crate) fn reason(why: snp_host_keep) -> &'static str {
    match why {
        snp_host_keep::SNP_HOST_KEEP_LEGACY_SHUTDOWN => {
            "the firmware was shut down without X86_SNP_SHUTDOWN, so SNP_EN is still set"
        }
        snp_host_keep::SNP_HOST_KEEP_SHUTDOWN_FAILED => "the firmware refused SNP_SHUTDOWN_EX",
        snp_host_keep::SNP_HOST_KEEP_TIMEOUT => {
            "a firmware command timed out, its outcome is not known"
        }
        snp_host_keep::SNP_HOST_KEEP_MAILBOX_DEAD => "the firmware does not answer any more",
        snp_host_keep::SNP_HOST_KEEP_HARDWARE_ERROR => "the firmware reported a hardware error",
        snp_host_keep::SNP_HOST_KEEP_RMP_INIT_FAILED => "the firmware could not initialise the RMP",
        snp_host_keep::SNP_HOST_KEEP_FIRMWARE_RESET => {
            "the firmware was reset while SNP was initialised"
        }
        snp_host_keep::SNP_HOST_KEEP_FOUND_AT_LOAD => {
            "SNP_EN was set already when snp_host was loaded"
        }
        snp_host_keep::SNP_HOST_KEEP_SOME_CPUS => "SNP_EN is set on some CPUs only",
        snp_host_keep::SNP_HOST_KEEP_STILL_ENABLED => "SNP_EN is still set",
        snp_host_keep::SNP_HOST_KEEP_RMP_NOT_ZERO => {
            "the firmware refused SNP_INIT, but the RMP is not all zero"
        }
        snp_host_keep::SNP_HOST_KEEP_RMP_UNREADABLE => {
            "the firmware refused SNP_INIT, and the RMP could not be read"
        }
        // SNP_HOST_KEEP_UNDECIDED. A reason that this module does not know closes no window either.
        _ => "an initialisation or shutdown of SNP ended half-way",
    }
}

#[cfg(test)]
#[path = "window/tests.rs"]
mod tests;
