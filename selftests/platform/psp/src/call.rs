// SPDX-License-Identifier: GPL-2.0
//! One command in execution: its buffer, and checked access to pages.

use rmp::{Refusal, Rmp, State};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Platform, Report, Status};

/// Something worth telling about a command, for traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A physical or guest physical address.
    Address(u64),
    /// A number.
    Number(u64),
    /// Bytes, e.g. a digest.
    Bytes(Vec<u8>),
    /// A word.
    Word(&'static str),
    /// What has no word of its own, such as a version.
    Text(String),
}

/// Memory that the command may write: it was RAM, and Firmware if SNP is up, when it was checked.
#[must_use]
pub(crate) struct Output {
    pa: u64,
    len: u64,
}

/// Reserved bytes must be zero. INVALID_PARAM is a model choice.
pub(crate) fn must_be_zero(reserved: &[u8]) -> Result<(), Status> {
    match reserved.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Status::InvalidParam),
    }
}

/// A command in execution.
pub(crate) struct Call<'a> {
    pub(crate) platform: &'a dyn Platform,
    /// The RMP, if SNP is initialised: pages are checked against it.
    pub(crate) rmp: Option<Rmp<&'a dyn Platform>>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) facts: Vec<(&'static str, Fact)>,
    pub(crate) reports: Vec<Report>,
    /// Pages that the command has given back to the host.
    pub(crate) reclaimed: Vec<u64>,
    address_mask: u64,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        platform: &'a dyn Platform,
        rmp: Option<Rmp<&'a dyn Platform>>,
        c_bit: u32,
    ) -> Call<'a> {
        let address_mask = !(1 << c_bit);
        Call {
            platform,
            rmp,
            buffer: Vec::new(),
            facts: Vec::new(),
            reports: Vec::new(),
            reclaimed: Vec::new(),
            address_mask,
        }
    }

    /// Notes a mistake of the host.
    pub(crate) fn report(&mut self, what: &'static str, address: u64) {
        self.reports.push(Report { what, address });
    }

    pub(crate) fn fact(&mut self, name: &'static str, fact: Fact) {
        self.facts.push((name, fact));
    }

    /// The command buffer as the ABI's structure for the command, whose length the command table
    /// has.
    pub(crate) fn request<T: FromBytes>(&self) -> T {
        T::read_from_bytes(&self.buffer).expect("the table has the structure's length")
    }

    /// A physical address from the command buffer. Drivers put the C-bit into most of them, not
    /// into all.
    pub(crate) fn address(&self, field: U64) -> u64 {
        field.get() & self.address_mask
    }

    /// INVALID_LEN if a buffer that has its own length in it says another.
    pub(crate) fn whole(&self, length: U32) -> Result<(), Status> {
        match length.get() as usize == self.buffer.len() {
            true => Ok(()),
            false => Err(Status::InvalidLen),
        }
    }

    /// Answers in the command buffer, which is written back however the command ends.
    pub(crate) fn answer<T: IntoBytes + Immutable>(&mut self, buffer: &T) {
        self.buffer = buffer.as_bytes().to_vec();
    }

    /// The convention of an output with its length: the needed lengths, which are in `buffer` by
    /// now, come back in any case, and are all that happens if an address is 0 or a length was too
    /// small.
    pub(crate) fn answer_lengths<T: IntoBytes + Immutable>(
        &mut self,
        buffer: &T,
        addresses: &[u64],
        fits: bool,
    ) -> Result<(), Status> {
        self.answer(buffer);
        match fits && !addresses.contains(&0) {
            true => Ok(()),
            false => Err(Status::InvalidLen),
        }
    }

    /// The RMP, or the status for commands that need SNP to be initialised.
    pub(crate) fn rmp(&self) -> Result<&Rmp<&'a dyn Platform>, Status> {
        self.rmp.as_ref().ok_or(Status::InvalidPlatformState)
    }

    /// Reads memory of any state: firmware's reads are not restricted.
    pub(crate) fn read(&mut self, pa: u64, len: u64) -> Result<Vec<u8>, Status> {
        if !self.platform.is_ram(pa, len) {
            self.fact("bad_address", Fact::Address(pa));
            return Err(Status::InvalidAddress);
        }
        let mut bytes = vec![0; len as usize];
        self.platform.read(pa, &mut bytes);
        Ok(bytes)
    }

    /// Reads a structure of the ABI.
    pub(crate) fn read_as<T: FromBytes>(&mut self, pa: u64) -> Result<T, Status> {
        let bytes = self.read(pa, size_of::<T>() as u64)?;
        Ok(T::read_from_bytes(&bytes).expect("as many bytes as the structure has were read"))
    }

    /// Checks memory that the command is to write. While SNP is initialised all its pages must be
    /// Firmware; before, ordinary memory will do.
    pub(crate) fn output(&mut self, pa: u64, len: u64) -> Result<Output, Status> {
        if len == 0 || !self.platform.is_ram(pa, len) {
            self.fact("bad_address", Fact::Address(pa));
            return Err(Status::InvalidAddress);
        }
        let mut wrong = None;
        if let Some(rmp) = &self.rmp {
            wrong = ((pa >> 12)..=((pa + len - 1) >> 12))
                .map(|page| (page << 12, rmp.state(page << 12)))
                .find(|(_, state)| *state != Some(State::Firmware));
        }
        match wrong {
            None => Ok(Output { pa, len }),
            Some((page, state)) => {
                self.note_page(page, state);
                Err(Status::InvalidPageState)
            }
        }
    }

    /// As [`Call::output`], for a structure that must not cross a page.
    pub(crate) fn output_in_page(&mut self, pa: u64, len: u64) -> Result<Output, Status> {
        if (pa & 0xfff) + len > 0x1000 {
            self.fact("bad_address", Fact::Address(pa));
            return Err(Status::InvalidAddress);
        }
        self.output(pa, len)
    }

    /// Writes the start of what was checked.
    pub(crate) fn write(&self, output: Output, bytes: &[u8]) {
        assert!(bytes.len() as u64 <= output.len, "write beyond the checked range");
        self.platform.write(output.pa, bytes);
    }

    /// The status for a page that the RMP's rules refuse, with a note for the trace.
    pub(crate) fn refused(&mut self, page: u64, refusal: Refusal) -> Status {
        match refusal {
            Refusal::Address => {
                self.fact("bad_address", Fact::Address(page));
                Status::InvalidAddress
            }
            Refusal::Size => Status::InvalidPageSize,
            Refusal::State(state) => {
                self.note_page(page, Some(state));
                Status::InvalidPageState
            }
            Refusal::Owner(asid) => {
                self.fact("page_owner", Fact::Number(asid.into()));
                Status::InvalidPageOwner
            }
        }
    }

    fn note_page(&mut self, page: u64, state: Option<State>) {
        self.fact("page", Fact::Address(page));
        self.fact("page_state", Fact::Word(state.map_or("default", State::name)));
    }
}
