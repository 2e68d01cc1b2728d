//! What a node asks of its own process before it reads its keys: that nobody else reads its memory, and that it may
//! open as many files, and lock as much memory, as it will.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Open files that a node needs whatever it is told: standard streams, keys, queues' wake-ups, control's rings,
/// reports.
const FILES: u64 = 32;
/// Open files that a shard needs: its ring, its socket, the guard of its port, its wake-ups.
const FILES_PER_SHARD: u64 = 8;

/// Memory that glommio wants to be able to lock, whatever it locks.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// What control's rings lock, and what each shard's ring and that of its buffers do (found on Linux 6.18 by lowering
/// the limit until a node did not start).
const LOCKED_BYTES: u64 = 120 << 10;
const LOCKED_BYTES_PER_SHARD: u64 = 56 << 10;

/// Why the process cannot be what it has to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The limit on open files is too low, and may not be raised.
    #[error(
        "this process may open {allowed} files and the node needs up to {needed}: raise the limit (ulimit -n {needed})"
    )]
    Files {
        /// Limit.
        allowed: u64,
        /// What is needed.
        needed: u64,
    },
    /// The limit on locked memory is too low, and may not be raised.
    #[error(
        "this process may lock {allowed} KiB of memory and io_uring needs {needed}: raise the limit (ulimit -l {needed}), or set `engine = \"syscalls\"`"
    )]
    LockedMemory {
        /// Limit, in KiB.
        allowed: u64,
        /// What is needed, in KiB.
        needed: u64,
    },
    /// The operating system refuses to close the process's memory.
    #[error(
        "cannot keep others from reading this process's memory, which will hold its keys: {0}; `debuggable = true` starts the node all the same"
    )]
    Exposed(io::Error),
}

/// Keeps this process's memory from debuggers, profilers and core dumps, for as long as it runs.
///
/// # Errors
/// [`ProcessError::Exposed`].
pub(crate) fn close_memory() -> Result<(), ProcessError> {
    // A dump that is piped to a program heeds no limit, and a limit is all that some of those programs heed.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| ProcessError::Exposed(error.into()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| ProcessError::Exposed(error.into()))
}

/// Raises the limit on open files to what a node with so many shards may need, if it is lower.
///
/// # Errors
/// [`ProcessError::Files`] if that is not allowed.
pub(crate) fn allow_files(shards: usize) -> Result<(), ProcessError> {
    let needed = FILES + FILES_PER_SHARD * shards as u64;
    raise(Resource::Nofile, needed).map_err(|allowed| ProcessError::Files { allowed, needed })
}

/// Raises the limit on locked memory to what the rings of a node with so many shards need, if it is lower.
///
/// # Errors
/// [`ProcessError::LockedMemory`] if that is not allowed.
pub(crate) fn allow_locked_memory(shards: usize) -> Result<(), ProcessError> {
    let needed = LOCKED_BYTES_MIN.max(LOCKED_BYTES + LOCKED_BYTES_PER_SHARD * shards as u64);
    raise(Resource::Memlock, needed)
        .map_err(|allowed| ProcessError::LockedMemory { allowed: allowed >> 10, needed: needed >> 10 })
}

/// Raises a limit that is below `needed`, or says what it is.
fn raise(resource: Resource, needed: u64) -> Result<(), u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let Some(allowed) = current.filter(|allowed| *allowed < needed) else { return Ok(()) };
    setrlimit(resource, Rlimit { current: Some(needed), maximum }).map_err(|_| allowed)
}
