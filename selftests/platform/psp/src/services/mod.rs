// SPDX-License-Identifier: GPL-2.0
//! What the processor does beside SEV: it updates firmware of others (SFS), and runs applications
//! (TEE). Both have memory of the host's in common, and packages that a vendor has made.

pub(crate) mod package;
mod sfs;
mod tee;

pub use sfs::Sfs;
pub use tee::Tee;

use zerocopy::FromBytes;

use crate::Platform;

/// Statuses of the PSP's own mailbox: those that drivers/crypto/ccp/dbc.c of Linux 7.3 knows, and
/// psp.h's for a ring that is there. Which one a mistake gets is a model choice.
pub(crate) mod status {
    pub(crate) const SUCCESS: u16 = 0;
    pub(crate) const NOT_ALLOWED: u16 = 1;
    pub(crate) const TOO_LARGE: u16 = 4;
    pub(crate) const INVALID_PARAMETER: u16 = 6;
    pub(crate) const NOT_IMPLEMENTED: u16 = 9;
    pub(crate) const BUSY: u16 = 0xd;
    pub(crate) const INVALID_SIGNATURE: u16 = 0x3072;
}

/// The host's memory, by addresses that may have the C-bit.
pub(crate) struct Host<'a> {
    platform: &'a dyn Platform,
    mask: u64,
}

impl<'a> Host<'a> {
    pub(crate) fn new(platform: &'a dyn Platform, c_bit: u32) -> Host<'a> {
        Host { platform, mask: !(1 << c_bit) }
    }

    pub(crate) fn platform(&self) -> &'a dyn Platform {
        self.platform
    }

    pub(crate) fn plain(&self, address: u64) -> u64 {
        address & self.mask
    }

    /// None if that is no RAM.
    pub(crate) fn read(&self, address: u64, len: u64) -> Option<Vec<u8>> {
        let address = self.plain(address);
        if !self.platform.is_ram(address, len) {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        self.platform.read(address, &mut bytes);
        Some(bytes)
    }

    pub(crate) fn read_as<T: FromBytes>(&self, address: u64) -> Option<T> {
        T::read_from_bytes(&self.read(address, size_of::<T>() as u64)?).ok()
    }

    /// What is no RAM is lost.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        let address = self.plain(address);
        if self.platform.is_ram(address, bytes.len() as u64) {
            self.platform.write(address, bytes);
        }
    }
}

/// The two halves of an address.
pub(crate) fn joined(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
