// SPDX-License-Identifier: GPL-2.0

//! Pages in the Firmware state are not ours any more, also if the RMP refused the change.
//!
//! in: pages.rs

use super::*;

fn use_again<R: Reclaimer>(mut pages: HvPages, reclaimer: &mut R) -> Result<FwPages> {
    #[cfg(not(refused))]
    pages.put(0, &[1])?;
    let given = pages.into_firmware(reclaimer);
    #[cfg(refused)]
    pages.put(0, &[1])?; //~ E0382 move occurs because `pages` has type `Pages`
    given
}
