// SPDX-License-Identifier: GPL-2.0
//! SNP_PAGE_RECLAIM.

use rmp::{PageSize, Refusal, State};

use super::abi;
use crate::call::{Call, Fact};
use crate::{Psp, Status};

/// A page of 4 KiB or 2 MiB becomes the hypervisor's.
pub(crate) fn reclaim(psp: &mut Psp, call: &mut Call<'_>) -> Result<(), Status> {
    call.rmp()?;
    let request: abi::PageReclaim = call.request();
    let pa = call.address(request.address) & !0xfff;
    let low = request.address.get() & 0xfff;
    let size = if low & 1 == 0 { PageSize::Size4K } else { PageSize::Size2M };
    if low & !1 != 0 {
        return Err(Status::InvalidParam);
    }
    call.fact("page", Fact::Address(pa));
    if (pa..pa.saturating_add(size.bytes())).step_by(0x1000).any(|page| psp.holds(page)) {
        return Err(call.refused(pa, Refusal::State(State::Firmware)));
    }
    let result = call.rmp()?.reclaim(pa, size);
    result.map_err(|refusal| call.refused(pa, refusal))?;
    call.reclaimed.extend((pa..pa + size.bytes()).step_by(0x1000));
    Ok(())
}
