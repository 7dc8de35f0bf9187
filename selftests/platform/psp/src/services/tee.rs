// SPDX-License-Identifier: GPL-2.0
//! The trusted execution environment: applications of a vendor run on the processor, and the host
//! talks to them through a ring of commands in its memory.
//!
//! Source: drivers/crypto/ccp/{tee-dev.c,tee-dev.h}, drivers/tee/amdtee/{amdtee_if.h,call.c} and
//! include/linux/psp.h of Linux 7.3. The application, and which code a mistake gets, are model
//! choices; codes and origins are GlobalPlatform's.

use std::collections::BTreeMap;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::package::{self, Defect, Package};
use super::{joined, status, Host};
use crate::abi::structures;
use crate::Platform;

const PAGE: u64 = 0x1000;
/// Bytes of an entry of the ring.
const ENTRY: u32 = 1024;
/// Where an entry has its command's own part, and how long that is.
const BODY: u64 = 32;
const BODY_LEN: u64 = 988;
/// An entry's state when its command has ended.
const COMPLETED: u32 = 2;

/// The most sessions and applications that there is room for.
const ROOM: usize = 64;
/// The most memory that an application may have.
const APPLICATION_LIMIT: u32 = 2 << 20;

/// Results of commands.
mod result {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const BAD_FORMAT: u32 = 0xffff_0005;
    pub(super) const BAD_PARAMETERS: u32 = 0xffff_0006;
    pub(super) const ITEM_NOT_FOUND: u32 = 0xffff_0008;
    pub(super) const NOT_SUPPORTED: u32 = 0xffff_000a;
    pub(super) const OUT_OF_MEMORY: u32 = 0xffff_000c;
    pub(super) const SECURITY: u32 = 0xffff_000f;
}

/// Who says so.
const BY_TEE: u32 = 3;
const BY_APPLICATION: u32 = 4;

structures! {
    /// The buffer of RING_INIT.
    RingInit {
        low: U32,
        high: U32,
        size: U32,
    }

    /// How an entry of the ring begins.
    Entry {
        command: U32,
        state: U32,
        status: U32,
        reserved: U32,
        private: U64,
        reserved2: U64,
    }

    /// Pages of the host's.
    Piece {
        low: U32,
        high: U32,
        size: U32,
    }

    LoadApplication {
        pages: Piece,
        handle: U32,
        origin: U32,
    }

    UnloadApplication {
        handle: U32,
    }

    /// Three numbers for a piece of shared memory, two for values.
    Parameter {
        words: [U32; 3],
    }

    /// Four types of four bits, and what they are the types of.
    Operation {
        types: U32,
        parameters: [Parameter; 4],
    }

    OpenSession {
        handle: U32,
        session: U32,
        operation: Operation,
        origin: U32,
    }

    CloseSession {
        handle: U32,
        session: U32,
    }

    InvokeCommand {
        handle: U32,
        command: U32,
        session: U32,
        operation: Operation,
        origin: U32,
    }

    MapMemory {
        buffer: U32,
        count: U32,
        size: U32,
        pieces: [Piece; 64],
    }

    UnmapMemory {
        buffer: U32,
    }
}

/// Types of parameters.
const VALUE_INOUT: u32 = 3;
const MEMORY_INOUT: u32 = 7;

#[derive(Debug)]
struct Ring {
    base: u64,
    size: u32,
    /// Offset of the next entry to be read.
    at: u32,
}

/// The environment.
#[derive(Debug, Default)]
pub struct Tee {
    c_bit: u32,
    ring: Option<Ring>,
    /// By handle.
    applications: BTreeMap<u32, Package>,
    /// Session -> handle.
    sessions: BTreeMap<u32, u32>,
    /// Shared memory: buffer -> pieces.
    buffers: BTreeMap<u32, Vec<(u64, u32)>>,
    serial: u32,
}

impl Tee {
    /// One that has just started.
    pub fn new(c_bit: u32) -> Tee {
        Tee { c_bit, ..Tee::default() }
    }

    /// Takes the ring that the buffer at `address` describes.
    pub fn init_ring(&mut self, platform: &dyn Platform, address: u64) -> u16 {
        let host = Host::new(platform, self.c_bit);
        let Some(buffer) = host.read_as::<RingInit>(address) else {
            return status::INVALID_PARAMETER;
        };
        if self.ring.is_some() {
            return status::BUSY;
        }
        let base = joined(buffer.low.get(), buffer.high.get());
        let size = buffer.size.get();
        let plain = host.plain(base);
        let fits = size > ENTRY && size % ENTRY == 0 && plain % PAGE == 0;
        if !fits || !platform.is_ram(plain, size.into()) {
            return status::INVALID_PARAMETER;
        }
        self.ring = Some(Ring { base: plain, size, at: 0 });
        status::SUCCESS
    }

    /// Gives the ring back, and ends all sessions: they were its owner's.
    pub fn destroy_ring(&mut self) -> u16 {
        match self.ring {
            None => status::INVALID_PARAMETER,
            Some(_) => {
                *self = Tee { serial: self.serial, ..Tee::new(self.c_bit) };
                status::SUCCESS
            }
        }
    }

    /// The number of the next command, if there is one before offset `end` of the ring.
    pub fn next(&self, platform: &dyn Platform, end: u32) -> Option<u32> {
        let ring = self.ring.as_ref()?;
        if ring.at == end || end >= ring.size || end % ENTRY != 0 {
            return None;
        }
        let host = Host::new(platform, self.c_bit);
        let entry: Entry = host.read_as(ring.base + u64::from(ring.at))?;
        Some(entry.command.get())
    }

    /// Carries the next command out, or gives it `forced` for its result, and returns what to put
    /// into the register: how far the ring has been read.
    pub fn step(&mut self, platform: &dyn Platform, forced: Option<u32>) -> u32 {
        let Some(ring) = self.ring.as_mut() else { return 0 };
        let at = ring.base + u64::from(ring.at);
        ring.at = (ring.at + ENTRY) % ring.size;
        let end = ring.at;
        let host = Host::new(platform, self.c_bit);
        let (Some(mut entry), Some(mut body)) =
            (host.read_as::<Entry>(at), host.read(at + BODY, BODY_LEN))
        else {
            return end;
        };
        let result = match forced {
            Some(forced) => forced,
            None => self.execute(&host, entry.command.get(), &mut body),
        };
        host.write(at + BODY, &body);
        entry.status = result.into();
        // The state comes last: the host reads nothing before it has changed.
        host.write(at, entry.as_bytes());
        entry.state = COMPLETED.into();
        host.write(at, entry.as_bytes());
        end
    }

    fn execute(&mut self, host: &Host<'_>, command: u32, body: &mut [u8]) -> u32 {
        match command {
            1 => with(body, |load: &mut LoadApplication| {
                load.origin = BY_TEE.into();
                self.load(host, load)
            }),
            2 => with(body, |unload: &mut UnloadApplication| self.unload(unload.handle.get())),
            3 => with(body, |open: &mut OpenSession| self.open(open)),
            4 => with(body, |close: &mut CloseSession| {
                let (session, handle) = (close.session.get(), close.handle.get());
                if self.sessions.get(&session) != Some(&handle) {
                    return result::ITEM_NOT_FOUND;
                }
                self.sessions.remove(&session);
                result::SUCCESS
            }),
            5 => with(body, |invoke: &mut InvokeCommand| self.invoke(host, invoke)),
            6 => with(body, |map: &mut MapMemory| self.map(host, map)),
            7 => with(body, |unmap: &mut UnmapMemory| {
                let found = self.buffers.remove(&unmap.buffer.get());
                found.map_or(result::ITEM_NOT_FOUND, |_| result::SUCCESS)
            }),
            _ => result::NOT_SUPPORTED,
        }
    }

    fn next_number(&mut self) -> u32 {
        // Handles have 16 bits.
        self.serial = self.serial % 0xfffe + 1;
        self.serial
    }

    /// The same application has the same handle.
    fn load(&mut self, host: &Host<'_>, load: &mut LoadApplication) -> u32 {
        let (address, size) = place(&load.pages);
        if size > APPLICATION_LIMIT || host.plain(address) % PAGE != 0 {
            return result::BAD_PARAMETERS;
        }
        let Some(bytes) = host.read(address, size.into()) else {
            return result::BAD_PARAMETERS;
        };
        let application = match package::open(&bytes) {
            Ok(application) => application,
            Err(Defect::Format) => return result::BAD_FORMAT,
            Err(Defect::Signature) => return result::SECURITY,
        };
        let known = self.applications.iter().find(|known| *known.1 == application);
        let handle = match known {
            Some((handle, _)) => *handle,
            None if self.applications.len() == ROOM => return result::OUT_OF_MEMORY,
            None => {
                let handle = self.next_number();
                self.applications.insert(handle, application);
                handle
            }
        };
        load.handle = handle.into();
        result::SUCCESS
    }

    /// Its sessions end with it.
    fn unload(&mut self, handle: u32) -> u32 {
        if self.applications.remove(&handle).is_none() {
            return result::ITEM_NOT_FOUND;
        }
        self.sessions.retain(|_, of| *of != handle);
        result::SUCCESS
    }

    fn open(&mut self, open: &mut OpenSession) -> u32 {
        open.origin = BY_TEE.into();
        if !self.applications.contains_key(&open.handle.get()) {
            return result::ITEM_NOT_FOUND;
        }
        if self.sessions.len() == ROOM {
            return result::OUT_OF_MEMORY;
        }
        let session = self.next_number();
        self.sessions.insert(session, open.handle.get());
        open.session = session.into();
        open.origin = BY_APPLICATION.into();
        result::SUCCESS
    }

    fn invoke(&mut self, host: &Host<'_>, invoke: &mut InvokeCommand) -> u32 {
        invoke.origin = BY_TEE.into();
        let handle = invoke.handle.get();
        if self.sessions.get(&invoke.session.get()) != Some(&handle) {
            return result::ITEM_NOT_FOUND;
        }
        let Some(application) = self.applications.get(&handle) else {
            return result::ITEM_NOT_FOUND;
        };
        invoke.origin = BY_APPLICATION.into();
        let kind = invoke.operation.types.get();
        let words = &mut invoke.operation.parameters[0].words;
        match (invoke.command.get(), kind) {
            // The sum, and who has made it.
            (0, VALUE_INOUT) => {
                let sum = words[0].get().wrapping_add(words[1].get());
                *words = [sum.into(), application.version.into(), U32::ZERO];
                result::SUCCESS
            }
            // The bytes in reverse.
            (1, MEMORY_INOUT) => {
                let [buffer, offset, size] = words.map(U32::get);
                self.reverse(host, buffer, offset, size)
            }
            (0 | 1, _) => result::BAD_PARAMETERS,
            _ => result::NOT_SUPPORTED,
        }
    }

    fn reverse(&self, host: &Host<'_>, buffer: u32, offset: u32, size: u32) -> u32 {
        let Some(places) = self.places(buffer, offset, size) else {
            return result::BAD_PARAMETERS;
        };
        let read = places.iter().map(|(address, len)| host.read(*address, (*len).into()));
        let Some(parts) = read.collect::<Option<Vec<_>>>() else {
            return result::BAD_PARAMETERS;
        };
        let mut bytes = parts.concat();
        bytes.reverse();
        let mut rest = bytes.as_slice();
        for (address, len) in places {
            let (part, others) = rest.split_at(len as usize);
            host.write(address, part);
            rest = others;
        }
        result::SUCCESS
    }

    /// Where a range of a buffer lies; none if the buffer is shorter.
    fn places(&self, buffer: u32, mut offset: u32, mut size: u32) -> Option<Vec<(u64, u32)>> {
        let mut places = Vec::new();
        for (address, len) in self.buffers.get(&buffer)? {
            if offset >= *len {
                offset -= len;
                continue;
            }
            let part = size.min(len - offset);
            places.push((address + u64::from(offset), part));
            (offset, size) = (0, size - part);
            if size == 0 {
                break;
            }
        }
        (size == 0).then_some(places)
    }

    fn map(&mut self, host: &Host<'_>, map: &mut MapMemory) -> u32 {
        let Some(pieces) = map.pieces.get(..map.count.get() as usize) else {
            return result::BAD_PARAMETERS;
        };
        let pieces: Vec<_> = pieces.iter().map(place).collect();
        let whole = |(address, size): &(u64, u32)| {
            let plain = host.plain(*address);
            let pages = plain % PAGE == 0 && *size != 0 && u64::from(*size) % PAGE == 0;
            pages && host.platform().is_ram(plain, (*size).into())
        };
        let total: u64 = pieces.iter().map(|piece| u64::from(piece.1)).sum();
        if pieces.is_empty() || !pieces.iter().all(whole) || total != u64::from(map.size.get()) {
            return result::BAD_PARAMETERS;
        }
        let buffer = self.next_number();
        self.buffers.insert(buffer, pieces);
        map.buffer = buffer.into();
        result::SUCCESS
    }
}

fn place(piece: &Piece) -> (u64, u32) {
    (joined(piece.low.get(), piece.high.get()), piece.size.get())
}

/// Hands the beginning of `body` over as a structure, and puts back what became of it.
fn with<T: FromBytes + IntoBytes + Immutable>(
    body: &mut [u8],
    act: impl FnOnce(&mut T) -> u32,
) -> u32 {
    let (start, _) = body.split_at_mut(size_of::<T>());
    let Ok(mut value) = T::read_from_bytes(start) else { return result::BAD_PARAMETERS };
    let code = act(&mut value);
    start.copy_from_slice(value.as_bytes());
    code
}
