//! One write at a time through an io_uring, and nothing around it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

/// A ring.
pub(super) struct Ring(IoUring);

impl Ring {
    /// # Errors
    /// Where io_uring is forbidden.
    pub(super) fn new() -> io::Result<Self> {
        IoUring::new(8).map(Self)
    }

    /// Writes and waits until that is done.
    ///
    /// # Panics
    /// If the kernel refuses, or writes less.
    pub(super) fn write(&mut self, file: &File, bytes: &[u8], at: u64) {
        let write = opcode::Write::new(types::Fd(file.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32).offset(at);
        // SAFETY: the file is open and the bytes are borrowed until this returns, which is not before the write has
        // completed: nothing else is ever submitted, and the kernel is waited for.
        unsafe { self.0.submission().push(&write.build()) }.expect("nothing else is in the queue");
        let written = loop {
            match self.0.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Returning would let go of bytes that the kernel may still read.
                Err(_) => std::process::abort(),
            }
            if let Some(completion) = self.0.completion().next() {
                break completion.result();
            }
        };
        assert_eq!(usize::try_from(written), Ok(bytes.len()), "a scratch file takes all at once");
    }
}
