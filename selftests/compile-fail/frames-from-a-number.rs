// SPDX-License-Identifier: GPL-2.0

//! Page frames are not named by number in safe code: once they are firmware's, a write to them is
//! fatal.
//!
//! in: pages.rs

use super::*;

fn frames(pages: &HvPages) -> Option<Frames> {
    #[cfg(refused)]
    return Frames::foreign(pages.phys(), 4096); //~ E0133 call to unsafe function `Frames::foreign`
    #[cfg(not(refused))]
    Some(Frames::of(pages))
}
