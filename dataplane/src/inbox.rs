//! Datagrams that came to a shard and belong to another one of this node.
//!
//! The kernel steers joined datagrams as a whole, by the first one's lane; where a network card has joined shreds of
//! several slices, or steering is not what it should be, the others land on the wrong shard. That shard copies them
//! here.

use crate::buffers::SEGMENTS_MAX;
use crate::limits::Source;
use crate::sync::ArrayQueue;

/// Datagrams that can wait for their shard: two whole receive buffers of them.
const DATAGRAMS: usize = 2 * SEGMENTS_MAX;

/// One shard's. Every other shard puts in, this one takes out, and nobody ever waits. The memory of all entries is
/// there from the start and goes back and forth.
pub(crate) struct Inbox {
    vacant: ArrayQueue<Box<[u8]>>,
    filled: ArrayQueue<(Box<[u8]>, usize, Source)>,
}

impl Inbox {
    /// For datagrams of up to `datagram_bytes`.
    pub(crate) fn new(datagram_bytes: usize) -> Self {
        Self::with_entries(DATAGRAMS, datagram_bytes)
    }

    fn with_entries(entries: usize, datagram_bytes: usize) -> Self {
        let vacant = ArrayQueue::new(entries);
        for _ in 0..entries {
            assert!(vacant.push(vec![0; datagram_bytes].into()).is_ok(), "room for all");
        }
        Self { vacant, filled: ArrayQueue::new(entries) }
    }

    /// Copies a datagram in, with where it says that it comes from; `false` if there is no room.
    pub(crate) fn put(&self, datagram: &[u8], source: Source) -> bool {
        let Some(mut entry) = self.vacant.pop() else { return false };
        entry[..datagram.len()].copy_from_slice(datagram);
        assert!(self.filled.push((entry, datagram.len(), source)).is_ok(), "there are no more entries than places");
        true
    }

    /// Shows the next datagram to `reader`.
    pub(crate) fn take<T>(&self, reader: impl FnOnce(&[u8], Source) -> T) -> Option<T> {
        let (entry, bytes, source) = self.filled.pop()?;
        let result = reader(&entry[..bytes], source);
        assert!(self.vacant.push(entry).is_ok(), "there are no more entries than places");
        Some(result)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }
}

/// Every order in which two neighbours and the owner can meet.
#[cfg(all(test, loom))]
mod orders {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn what_an_inbox_took_comes_out_once_and_whole_in_every_order() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::with_entries(1, 1));
            let neighbours = [1, 2].map(|number| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || inbox.put(&[number], Source::default()).then_some(number))
            });
            let early = inbox.take(|datagram, _| datagram[0]);
            let taken = neighbours.map(|neighbour| neighbour.join().unwrap());
            let late = inbox.take(|datagram, _| datagram[0]);
            let mut put: Vec<u8> = taken.into_iter().flatten().collect();
            let mut out: Vec<u8> = early.into_iter().chain(late).collect();
            put.sort_unstable();
            out.sort_unstable();
            assert_eq!(put, out);
            assert!(!put.is_empty(), "there was room for one");
            assert!(inbox.put(&[3], Source::default()), "and there is again");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_refuses_and_takes_again_when_one_is_out() {
        let inbox = Inbox::new(100);
        let put = |datagram: &[u8]| inbox.put(datagram, Source::default());
        let take = || inbox.take(|datagram, _| datagram.to_vec());
        for number in 0..DATAGRAMS {
            assert!(put(&vec![number as u8; 1 + number % 100]));
        }
        assert!(!put(&[9; 50]));
        assert_eq!(take(), Some(vec![0; 1]));
        assert!(put(&[9; 50]));
        assert_eq!(take(), Some(vec![1; 2]));
        let rest: Vec<usize> = std::iter::from_fn(take).map(|datagram| datagram.len()).collect();
        assert_eq!((rest.len(), rest.last()), (DATAGRAMS - 1, Some(&50)));
        assert!(inbox.is_empty());
    }
}
