//! The two clocks of a shard. Both are read without a system call.

use alpenglow_rotor::types::Time;
use rustix::time::{ClockId, Timespec, clock_gettime};

fn nanoseconds(time: Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// CLOCK_MONOTONIC: the node's time, and comparable between processes of one host.
#[must_use]
pub fn now() -> Time {
    Time(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

/// CLOCK_REALTIME, in which the kernel stamps datagrams. Only ever compared with such a stamp.
pub(crate) fn wall_clock_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}
