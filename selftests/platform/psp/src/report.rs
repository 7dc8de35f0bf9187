// SPDX-License-Identifier: GPL-2.0
//! What the host has done wrong.

/// A mistake of the host that firmware cannot answer, or whose answer is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is.
    pub what: &'static str,
    /// The memory that it is about.
    pub address: u64,
}
