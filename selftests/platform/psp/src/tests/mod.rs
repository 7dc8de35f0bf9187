// SPDX-License-Identifier: GPL-2.0
//! Tests through [`Psp::step`], on a small machine in a vector.

mod inside;
mod lab;

mod attest;
mod derived_key;
mod every;
mod firmware;
mod guest;
mod launch;
mod message;
mod migration;
mod owned;
mod random;
mod reserved;
mod secret;
mod services;
mod sev;
mod snp;
