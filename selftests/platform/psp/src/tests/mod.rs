// SPDX-License-Identifier: GPL-2.0
//! Tests through [`Psp::step`], on a small machine in a vector.

mod lab;

mod every;
mod launch;
mod random;
mod sev;
mod snp;
