// SPDX-License-Identifier: GPL-2.0

//! There is one owner of pages that are firmware's; addresses of them can be copied.
//!
//! in: pages.rs

use super::*;

fn copy<T: Clone>(value: &T) -> T {
    value.clone()
}

#[cfg(refused)]
fn copies(pages: &FwPages) -> FwPages {
    copy(pages) //~ E0277 the trait bound `FwPages: Clone` is not satisfied
}

#[cfg(not(refused))]
fn copies(pages: &FwPages) -> Spa {
    copy(&pages.spa())
}
