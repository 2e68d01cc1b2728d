//! Which thread measures where.

use std::thread;

use core_affinity::CoreId;

/// Cores for what talks over loopback; `None` leaves it to the scheduler, where there are too few.
pub(crate) struct Cores {
    pub(crate) driver: Option<usize>,
    pub(crate) relay: Option<usize>,
}

impl Cores {
    /// The last two of at least three: one stays free for all else that the machine does.
    pub(crate) fn choose() -> Self {
        match core_affinity::get_core_ids().unwrap_or_default().as_slice() {
            [_, .., relay, driver] => Self { driver: Some(driver.id), relay: Some(relay.id) },
            _ => Self { driver: None, relay: None },
        }
    }

    /// The one for what needs one only.
    pub(crate) fn last() -> Option<usize> {
        core_affinity::get_core_ids()?.last().map(|core| core.id)
    }
}

/// Runs `task` on a thread of its own, pinned to `core` if there is one. The calling thread stays as it is, and so do
/// the threads that it starts: pinning is inherited.
///
/// # Panics
/// If `task` does.
pub(crate) fn on_core<T: Send>(core: Option<usize>, task: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        if let Some(id) = core {
            core_affinity::set_for_current(CoreId { id });
        }
        task()
    };
    thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(value) => value,
        Err(reason) => std::panic::resume_unwind(reason),
    })
}
