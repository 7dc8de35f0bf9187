// SPDX-License-Identifier: GPL-2.0
//! Data of a guest on its way: encrypted and authenticated with the transport keys. Source of the
//! format: virtee/sev (`Session::secret`), AMD's sev-tool.

use zerocopy::IntoBytes;

use super::guest::whole_blocks;
use super::{abi, session};
use crate::call::{must_be_zero, Call};
use crate::Status;

/// First byte of what is authenticated: what the data is. A packet of one kind is none of another.
pub(super) const SECRET: u8 = 1;
pub(super) const DATA: u8 = 2;
pub(super) const VMSA: u8 = 3;

/// Bit 0 of the flags: compressed before it was encrypted.
const COMPRESSED: u32 = 1 << 0;
/// Most of a guest's memory that goes into a packet (16 KiB, which is also the most that Linux
/// takes from user space for firmware: SEV_FW_BLOB_MAX_SIZE).
const LIMIT: u32 = 16 << 10;
const HEADER: u32 = size_of::<abi::Header>() as u32;

/// What the command buffer says by itself. That data has the length of the memory (nothing is
/// compressed), and which status is which, are model choices.
fn well_formed(call: &Call<'_>, request: &abi::Packet) -> Result<(), Status> {
    for reserved in [&request.reserved, &request.reserved2, &request.reserved3] {
        must_be_zero(reserved)?;
    }
    whole_blocks(call.address(request.guest), request.guest_len.into())?;
    match request.guest_len.get() <= LIMIT {
        true => Ok(()),
        false => Err(Status::InvalidLen),
    }
}

/// Puts the content of a packet into a guest's memory. `more` is authenticated, too. INVALID_LEN,
/// INVALID_PARAM, UNSUPPORTED and BAD_MEASUREMENT (of a session's tag it is known from virtee/sev)
/// are model choices.
pub(super) fn open(
    call: &mut Call<'_>,
    context: u8,
    keys: &abi::TransportKeys,
    request: &abi::Packet,
    more: &[u8],
) -> Result<(), Status> {
    well_formed(call, request)?;
    if request.header_len != HEADER || request.data_len != request.guest_len {
        return Err(Status::InvalidLen);
    }
    let header: abi::Header = call.read_as(call.address(request.header))?;
    let mut data = call.read(call.address(request.data), request.data_len.into())?;
    match header.flags.get() {
        0 => {}
        COMPRESSED => return Err(Status::Unsupported),
        _ => return Err(Status::InvalidParam),
    }
    let place = call.output(call.address(request.guest), request.guest_len.into())?;
    let sealed = sealed(context, &header, data.len());
    session::verify(&keys.integrity, &[sealed.as_bytes(), &data, more], &header.mac)?;
    session::encrypt(&keys.encryption, header.iv, &mut data);
    // Encrypted with the guest's key on silicon; here it stays plain text.
    call.write(place, &data);
    Ok(())
}

/// Makes a packet of a guest's memory. (Linux asks for the lengths with neither address nor
/// length.)
pub(super) fn seal(
    call: &mut Call<'_>,
    context: u8,
    keys: &abi::TransportKeys,
    iv: [u8; 16],
) -> Result<(), Status> {
    let mut request: abi::Packet = call.request();
    let (header_pa, data_pa) = (call.address(request.header), call.address(request.data));
    let fits = request.header_len >= HEADER && request.data_len >= request.guest_len;
    (request.header_len, request.data_len) = (HEADER.into(), request.guest_len);
    call.answer_lengths(&request, &[header_pa, data_pa], fits)?;
    well_formed(call, &request)?;
    let header_place = call.output(header_pa, HEADER.into())?;
    let data_place = call.output(data_pa, request.data_len.into())?;
    let mut data = call.read(call.address(request.guest), request.guest_len.into())?;
    session::encrypt(&keys.encryption, iv, &mut data);
    let mut header = abi::Header { flags: 0.into(), iv, mac: [0; 32] };
    let sealed = sealed(context, &header, data.len());
    header.mac = session::tag(&keys.integrity, &[sealed.as_bytes(), &data]);
    call.write(header_place, header.as_bytes());
    call.write(data_place, &data);
    Ok(())
}

fn sealed(context: u8, header: &abi::Header, len: usize) -> abi::Sealed {
    let len = (len as u32).into();
    abi::Sealed { context, flags: header.flags, iv: header.iv, guest_len: len, data_len: len }
}
