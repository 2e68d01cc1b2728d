//! Memory in equal pieces, mapped once.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

pub(super) const PAGE_BYTES: usize = 4_096;

/// `entries` pieces of `entry_bytes` in one anonymous mapping.
pub(super) struct Arena {
    base: NonNull<u8>,
    pub(super) entry_bytes: usize,
    entries: usize,
}

impl Arena {
    pub(super) fn map(entries: usize, entry_bytes: usize) -> io::Result<Self> {
        let length = entries.checked_mul(entry_bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, entry_bytes, entries })
    }

    pub(super) fn entry(&self, index: usize) -> *mut u8 {
        assert!(index < self.entries);
        // SAFETY: the offset lies inside the mapping, which lives as long as `self`.
        unsafe { self.base.as_ptr().add(index * self.entry_bytes) }
    }

    /// The entry's bytes; the caller has made sure that the kernel does not write them.
    pub(super) fn bytes(&self, index: usize, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.entry_bytes);
        // SAFETY: inside the mapping by the two assertions, initialised (anonymous pages are zero), mapped as long as
        // the borrow of `self`. Nobody writes: the kernel by the caller's word, this thread because every mutable
        // borrow goes through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.entry(index).add(range.start), range.len()) }
    }

    /// The entry's bytes; the caller has made sure that the kernel neither reads nor writes them.
    pub(super) fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`, and exclusive because of `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.entry(index), self.entry_bytes) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`; whoever owns the arena has ended every operation that names it.
        // A failure leaves it mapped, which harms nobody.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.entries * self.entry_bytes) };
    }
}
