//! How much leaves at once.

/// What may still be queued before the kernel is told and whatever is more urgent has its turn. A burst of copies is
/// small enough that the memory they are made in stays in the cache, and large enough that telling the kernel does not
/// show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    sends: usize,
    bytes: usize,
    taken_bytes: usize,
}

impl Burst {
    /// Copies of shreds, and messages.
    pub(crate) const fn of_copies() -> Self {
        Self { sends: 16, bytes: 64 << 10, taken_bytes: 0 }
    }

    /// A slice of our own: all of it to its relays, and some of the copies that this node makes itself.
    pub(crate) const fn of_slice() -> Self {
        Self { sends: 128, bytes: 192 << 10, taken_bytes: 0 }
    }

    /// Notes one send.
    pub(crate) const fn take(&mut self, bytes: usize) {
        self.sends = self.sends.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.taken_bytes += bytes;
    }

    /// Lets no more than `bytes` follow.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
    }

    /// Bytes of all sends noted.
    pub(crate) const fn taken_bytes(&self) -> usize {
        self.taken_bytes
    }

    /// Whether enough is queued. The last send may exceed the limit, so there is always progress.
    pub(crate) const fn is_over(&self) -> bool {
        self.sends == 0 || self.bytes == 0
    }
}
