// SPDX-License-Identifier: GPL-2.0

//! Pages that were given to firmware are not ours any more.
//!
//! in: pages.rs

use super::*;

fn use_again(mut pages: HvPages) -> Result<FwPages> {
    #[cfg(not(refused))]
    pages.put(0, &[1])?;
    let given = pages.lend();
    #[cfg(refused)]
    pages.put(0, &[1])?; //~ E0382 move occurs because `pages` has type `Pages`
    Ok(given)
}
