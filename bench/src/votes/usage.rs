//! What threads use: time of a core, and memory.

use std::sync::atomic::Ordering;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::counting_allocator::LIVE_BYTES;

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time of a core that the calling thread has used.
pub(super) fn thread_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// Time of cores that all threads of this process have used.
pub(super) fn process_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// Memory that is allocated.
pub(super) fn live_bytes() -> usize {
    LIVE_BYTES.load(Ordering::Relaxed)
}
