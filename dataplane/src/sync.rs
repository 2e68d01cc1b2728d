//! What threads meet in. Under `--cfg loom` these are stand-ins that loom follows, so that tests try every order in
//! which threads can meet (`just loom`).

#[cfg(not(loom))]
pub(crate) use crossbeam::queue::ArrayQueue;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering, fence};
#[cfg(loom)]
pub(crate) use stand_in::ArrayQueue;

#[cfg(loom)]
mod stand_in {
    use std::collections::VecDeque;

    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// Crossbeam's queue as its users may rely on it: what is popped was pushed before, in order. How many entries
    /// there are may be seen late by whoever only looks.
    pub(crate) struct ArrayQueue<T> {
        entries: Mutex<VecDeque<T>>,
        seen: AtomicUsize,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self { entries: Mutex::new(VecDeque::new()), seen: AtomicUsize::new(0), capacity }
        }

        pub(crate) fn push(&self, entry: T) -> Result<(), T> {
            let mut entries = self.entries.lock().expect("nobody panics with it");
            if entries.len() == self.capacity {
                return Err(entry);
            }
            entries.push_back(entry);
            self.seen.store(entries.len(), Ordering::Relaxed);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            let mut entries = self.entries.lock().expect("nobody panics with it");
            let entry = entries.pop_front();
            self.seen.store(entries.len(), Ordering::Relaxed);
            entry
        }

        pub(crate) fn len(&self) -> usize {
            self.seen.load(Ordering::Relaxed)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(crate) const fn capacity(&self) -> usize {
            self.capacity
        }
    }
}
