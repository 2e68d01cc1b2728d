//! The load that a cluster is measured under: transactions that carry their number and the time at which they should
//! have been sent, and a thread that sends them at a fixed rate.
//!
//! The load is *open*: the time of each send is fixed beforehand and stands in the transaction, whether the sender
//! keeps up or not, so that a stall of sender or cluster shows in the latencies instead of being left out of them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use alpenglow_dataplane::datagram::{HEADER_BYTES, Header};
use alpenglow_rotor::types::{ClusterId, Time};

/// First bytes of a load transaction.
const MAGIC: [u8; 8] = *b"agLoad/1";
/// Shortest load transaction: magic, sequence number and time, 8 bytes each.
pub(crate) const TRANSACTION_BYTES_MIN: usize = 24;
/// Longest transaction that a validator takes.
pub(crate) const TRANSACTION_BYTES_MAX: usize = 1_024;
/// Highest rate, in transactions per second: beyond what one thread can send.
pub(crate) const RATE_PER_S_MAX: u32 = 1_000_000;
/// Longest sleep of the sender: how soon it notices that it should stop.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// A transaction of the load. On the wire: magic, sequence number (u64), intended send time (u64), little-endian, then
/// bytes that do not compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadTransaction {
    /// Counts from 0 without holes.
    pub(crate) sequence: u64,
    /// When it should have been sent, on the host's CLOCK_MONOTONIC.
    pub(crate) intended: Time,
}

impl LoadTransaction {
    /// Appends the transaction to `out` with filler up to `bytes` in all; a smaller size counts as
    /// [`TRANSACTION_BYTES_MIN`].
    pub(crate) fn encode(self, bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + bytes.max(TRANSACTION_BYTES_MIN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.intended.0.to_le_bytes());
        let mut state = self.sequence ^ self.intended.0.rotate_left(32);
        while out.len() < end {
            let word = split_mix(&mut state).to_le_bytes();
            out.extend_from_slice(&word[..word.len().min(end - out.len())]);
        }
    }

    /// Reads a transaction's head; `None` for one that is not of the load. The filler is not looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (intended, _) = rest.split_first_chunk()?;
        Some(Self { sequence: u64::from_le_bytes(*sequence), intended: Time(u64::from_le_bytes(*intended)) })
    }
}

/// The SplitMix64 generator: filler has to be cheap and not to compress, nothing more.
const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct LoadPlan {
    /// Receivers, taken in turn. Not empty.
    pub(crate) targets: Vec<SocketAddr>,
    /// The cluster that the transactions are for.
    pub(crate) cluster: ClusterId,
    /// Transactions per second, from 1 to [`RATE_PER_S_MAX`].
    pub(crate) rate_per_s: u32,
    /// Bytes of each transaction, from [`TRANSACTION_BYTES_MIN`] to [`TRANSACTION_BYTES_MAX`].
    pub(crate) transaction_bytes: usize,
    /// When transaction 0 should be sent.
    pub(crate) start: Time,
}

impl LoadPlan {
    /// When transaction `sequence` should be sent.
    pub(crate) fn intended(&self, sequence: u64) -> Time {
        let offset_ns = u128::from(sequence) * 1_000_000_000 / u128::from(self.rate_per_s);
        Time(self.start.0.saturating_add(u64::try_from(offset_ns).unwrap_or(u64::MAX)))
    }

    /// How many transactions should have been sent strictly before `time`: the first sequence number that should not.
    pub(crate) fn intended_before(&self, time: Time) -> u64 {
        let since_ns = u128::from(time.0.saturating_sub(self.start.0));
        // intended(n) < time  <=>  floor(n * 10^9 / rate) < since  <=>  n < since * rate / 10^9
        u64::try_from((since_ns * u128::from(self.rate_per_s)).div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadSent {
    /// Transactions given to the kernel: sequence numbers 0 up to this.
    pub(crate) transactions: u64,
    /// Those among them that the kernel refused.
    pub(crate) refused: u64,
}

/// A running sender.
pub(crate) struct LoadGenerator {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<LoadSent>,
}

impl LoadGenerator {
    /// Starts to send `plan` by `clock`, from a socket of its own.
    ///
    /// # Errors
    /// If a socket or a thread cannot be had.
    ///
    /// # Panics
    /// If `plan` has no targets or its rate is 0.
    pub(crate) fn start(plan: LoadPlan, clock: fn() -> Time) -> io::Result<Self> {
        assert!(!plan.targets.is_empty() && plan.rate_per_s > 0);
        let wildcard: SocketAddr = if plan.targets[0].is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(wildcard)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("load".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || send_until_stopped(&plan, &socket, clock, &stop)
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the load.
    pub(crate) fn stop(self) -> LoadSent {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender does not panic")
    }
}

fn send_until_stopped(plan: &LoadPlan, socket: &UdpSocket, clock: fn() -> Time, stop: &AtomicBool) -> LoadSent {
    let mut outcome = LoadSent::default();
    let mut datagram = Vec::with_capacity(HEADER_BYTES + plan.transaction_bytes);
    let mut targets = plan.targets.iter().cycle();
    while !stop.load(Ordering::Relaxed) {
        let intended = plan.intended(outcome.transactions);
        let early = intended.since(clock());
        if !early.is_zero() {
            thread::sleep(early.min(SLEEP_MAX));
            continue;
        }
        let sequence = outcome.transactions;
        datagram.clear();
        // Consecutive transactions take consecutive lanes: every shard gets its share.
        datagram.extend_from_slice(&Header::of_transaction(sequence as u8, plan.cluster).encode());
        LoadTransaction { sequence, intended }.encode(plan.transaction_bytes, &mut datagram);
        let target = targets.next().expect("there are targets, and a cycle does not end");
        outcome.refused += u64::from(socket.send_to(&datagram, target).is_err());
        outcome.transactions += 1;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(rate_per_s: u32) -> LoadPlan {
        LoadPlan {
            targets: vec![([127, 0, 0, 1], 1).into()],
            cluster: ClusterId([0xee; 32]),
            rate_per_s,
            transaction_bytes: 64,
            start: Time(1_000),
        }
    }

    #[test]
    fn the_layout_is_magic_sequence_time_filler() {
        let mut bytes = vec![7];
        LoadTransaction { sequence: 0x0102, intended: Time(0x0304) }.encode(40, &mut bytes);
        assert_eq!(bytes.len(), 41);
        assert_eq!(bytes[1..25], *b"agLoad/1\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0");
    }

    #[test]
    fn other_transactions_are_not_taken_for_load() {
        let mut bytes = Vec::new();
        LoadTransaction { sequence: 1, intended: Time(2) }.encode(24, &mut bytes);
        assert_eq!(LoadTransaction::parse(&bytes[..23]), None);
        assert_eq!(LoadTransaction::parse(b""), None);
        bytes[0] ^= 1;
        assert_eq!(LoadTransaction::parse(&bytes), None);
    }

    #[test]
    fn the_first_transaction_is_intended_at_the_start() {
        let plan = plan(2_000);
        assert_eq!((plan.intended(0), plan.intended(4)), (Time(1_000), Time(2_001_000)));
        assert_eq!(plan.intended_before(Time(1_000)), 0);
        assert_eq!(plan.intended_before(Time(0)), 0);
        assert_eq!(plan.intended_before(Time(1_001)), 1);
    }

    #[test]
    fn what_is_late_is_sent_with_its_intended_time_and_in_turn() {
        let receivers = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
        let targets = receivers.iter().map(|receiver| receiver.local_addr().unwrap()).collect();
        // The clock stands at the time of transaction 5, as if the sender had been held up until then.
        let generator = LoadGenerator::start(LoadPlan { targets, ..plan(1_000_000) }, || Time(6_000)).unwrap();
        for round in 0..3u64 {
            for (receiver, sequence) in receivers.iter().zip([2 * round, 2 * round + 1]) {
                receiver.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let mut datagram = [0; 128];
                let length = receiver.recv(&mut datagram).unwrap();
                let (header, body) = Header::parse(&datagram[..length]).unwrap();
                assert_eq!((header, body.len()), (Header::of_transaction(sequence as u8, ClusterId([0xee; 32])), 64));
                let expected = LoadTransaction { sequence, intended: Time(1_000 + 1_000 * sequence) };
                assert_eq!(LoadTransaction::parse(body), Some(expected));
            }
        }
        assert_eq!(generator.stop(), LoadSent { transactions: 6, refused: 0 });
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed(sequence: u64, intended: u64, bytes in 0usize..1_100) {
            let transaction = LoadTransaction { sequence, intended: Time(intended) };
            let mut encoded = Vec::new();
            transaction.encode(bytes, &mut encoded);
            prop_assert_eq!(encoded.len(), bytes.max(TRANSACTION_BYTES_MIN));
            prop_assert_eq!(LoadTransaction::parse(&encoded), Some(transaction));
        }

        #[test]
        fn counting_by_time_agrees_with_the_times(rate in 1u32..=RATE_PER_S_MAX, sequence in 0u64..1_000_000_000) {
            let plan = plan(rate);
            let intended = plan.intended(sequence);
            let before = plan.intended_before(intended);
            prop_assert!(before <= sequence);
            prop_assert!(plan.intended_before(Time(intended.0 + 1)) > sequence);
            prop_assert!(before == 0 || plan.intended(before - 1) < intended);
        }
    }
}
