// SPDX-License-Identifier: GPL-2.0
//! Mapping the shared page.

use std::fs::OpenOptions;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::{fmt, io, ptr};

use crate::{Link, SIZE};

/// The mapped page. It stays mapped for the life of the value.
pub struct Mapping(NonNull<Link>);

// SAFETY: the page consists of atomics, which any thread may use; unmapping needs no particular
// thread.
unsafe impl Send for Mapping {}
// SAFETY: as above, shared access is what atomics are for.
unsafe impl Sync for Mapping {}

/// Why the page could not be used.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be opened, measured or mapped.
    Io(PathBuf, io::Error),
    /// The file has another size.
    Size(PathBuf, u64),
    /// Something else, or another version of this layout, is in the file.
    Version(PathBuf, u64),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(path, error) => write!(f, "cannot map {}: {error}", path.display()),
            OpenError::Size(path, size) => write!(
                f,
                "{} has {size} bytes, the link page needs {SIZE}: create it with 'truncate -s {SIZE}'",
                path.display()
            ),
            OpenError::Version(path, found) => write!(
                f,
                "{} holds {found:#x} where the link page's version belongs: the CPU model and the PSP \
                 model must come from the same build, and the file must be fresh",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl Mapping {
    /// Maps the file at `path`, which the runner has created zeroed with [`SIZE`] bytes.
    pub fn open(path: &Path) -> Result<Mapping, OpenError> {
        let io = |error| OpenError::Io(path.to_owned(), error);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size != SIZE as u64 {
            return Err(OpenError::Size(path.to_owned(), size));
        }
        // SAFETY: a new shared mapping of an open file; nothing is replaced.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io(io::Error::last_os_error()));
        }
        let Some(link) = NonNull::new(address.cast::<Link>()) else {
            return Err(io(io::Error::other("mmap returned address 0")));
        };
        let mapping = Mapping(link);
        match mapping.claim() {
            Ok(()) => Ok(mapping),
            Err(found) => Err(OpenError::Version(path.to_owned(), found)),
        }
    }
}

impl Deref for Mapping {
    type Target = Link;

    fn deref(&self) -> &Link {
        // SAFETY: the mapping is SIZE bytes long (checked at compile time to be Link's size), page
        // aligned, lives as long as self, and Link consists of atomics, so other processes may
        // change it at any time.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in open() with this size; no reference outlives self.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn scratch(name: &str, size: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("link-{name}-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    #[test]
    fn two_mappings_see_each_other() {
        let path = scratch("two", SIZE as u64);
        let (a, b) = (Mapping::open(&path).unwrap(), Mapping::open(&path).unwrap());
        a.cpu[3].syscfg.store(0x1234, Ordering::Relaxed);
        assert_eq!(b.cpu[3].syscfg.load(Ordering::Relaxed), 0x1234);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn unusable_files_are_named() {
        let path = scratch("short", 100);
        assert!(matches!(Mapping::open(&path), Err(OpenError::Size(_, 100))));
        std::fs::write(&path, vec![7u8; SIZE]).unwrap();
        assert!(matches!(Mapping::open(&path), Err(OpenError::Version(_, 0x0707_0707_0707_0707))));
        std::fs::remove_file(&path).unwrap();
        let error = Mapping::open(&path).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
