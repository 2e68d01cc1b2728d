//! The pool of pending transactions: opaque bytes from clients, forwarded to the leaders that can include them, kept
//! until they are finalized.
//!
//! The node that a client gave a transaction to is responsible for it: it forwards it to the current and the next
//! leader at once, and at every change of window to the leader that is newly next, until it is finalized or expires.
//! So a transaction survives any number of crashed leaders as long as that node lives. Leaders never take a
//! transaction out of the pool by packing it: what they packed into a block that is then skipped is simply still
//! there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::types::{BlockId, Time, ValidatorIndex};

use crate::block::{TRANSACTION_BYTES_MAX, TransactionId};

/// Transactions forwarded again in one go after a change of window, before other work gets its turn.
const FORWARDS_PER_GROUP: usize = 64;
/// A validator's transactions may take up to the room that is left divided by this, those of all clients together as
/// much as is left: whoever floods the pool leaves room for the others.
const VALIDATOR_SHARE: usize = 4;
/// Pause between two such groups: a full default pool passes well within one window.
const FORWARD_PAUSE: Duration = Duration::from_millis(1);

/// Bounds of the pool.
#[derive(Clone, Copy, Debug)]
pub struct TransactionLimits {
    /// Most transactions pending.
    pub count_max: usize,
    /// Most bytes of transactions pending.
    pub bytes_max: usize,
    /// Identities of finalized transactions that are remembered, so that late copies are refused.
    pub finalized_ids_max: usize,
    /// A transaction that is not finalized after this time is dropped.
    pub expiry: Duration,
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self { count_max: 65_536, bytes_max: 16 << 20, finalized_ids_max: 131_072, expiry: Duration::from_secs(60) }
    }
}

/// Who gave this node a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionSource {
    /// A client: this node forwards it.
    Client,
    /// A validator that forwarded it because this node leads soon.
    Validator(ValidatorIndex),
}

/// Why a transaction was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRefusal {
    /// Empty, or longer than [`TRANSACTION_BYTES_MAX`].
    #[error("a transaction has 1 to {TRANSACTION_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// It is pending already.
    #[error("transaction is pending already")]
    Pending,
    /// It was finalized a short while ago.
    #[error("transaction is finalized already")]
    Finalized,
    /// The pool has no room for it.
    #[error("the transaction pool is full")]
    PoolFull,
    /// Its source takes its share of the pool already.
    #[error("whoever gave this transaction has its share of the transaction pool already")]
    ShareFull,
}

impl TransactionRefusal {
    /// A stable name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Length(_) => "transaction_length",
            Self::Pending => "transaction_pending",
            Self::Finalized => "transaction_finalized",
            Self::PoolFull => "transaction_pool_full",
            Self::ShareFull => "transaction_pool_share_full",
        }
    }
}

#[derive(Debug)]
struct Pending {
    id: TransactionId,
    bytes: Arc<[u8]>,
    added: Time,
    /// Who gave it first, whose share it takes.
    source: TransactionSource,
    from_client: bool,
}

/// What pending transactions take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    count: usize,
    bytes: usize,
}

/// A leader's way through the pool while it makes the blocks of one window: in order of arrival, each transaction
/// once, without those on the chain it builds on. While a block of that chain is missing nobody can tell which those
/// are, and it gives none.
#[derive(Debug, Default)]
pub struct Selection {
    next: u64,
    on_chain: BTreeSet<TransactionId>,
    missing: Option<BlockId>,
}

impl Selection {
    /// A selection that passes over `on_chain`, but waits for `missing` if there is such a block.
    #[must_use]
    pub const fn excluding(on_chain: BTreeSet<TransactionId>, missing: Option<BlockId>) -> Self {
        Self { next: 0, on_chain, missing }
    }

    /// The block that it waits for.
    #[must_use]
    pub const fn missing(&self) -> Option<BlockId> {
        self.missing
    }

    /// It waits no more for the missing block, but passes over `on_chain` too, and waits for `missing` next.
    pub fn extend(&mut self, mut on_chain: BTreeSet<TransactionId>, missing: Option<BlockId>) {
        self.on_chain.append(&mut on_chain);
        self.missing = missing;
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Transactions {
    own: ValidatorIndex,
    limits: TransactionLimits,
    /// By order of arrival.
    pending: BTreeMap<u64, Pending>,
    arrival_of: BTreeMap<TransactionId, u64>,
    bytes: usize,
    /// What each source has pending; nothing for most.
    taken: BTreeMap<TransactionSource, Taken>,
    arrivals: u64,
    finalized: BTreeSet<TransactionId>,
    finalized_order: VecDeque<TransactionId>,
    /// Current and next leader, none before the first window is known.
    leaders: Option<[ValidatorIndex; 2]>,
    again: Option<ForwardAgain>,
    forwards: VecDeque<(ValidatorIndex, Arc<[u8]>)>,
    expired: u64,
}

/// Progress of forwarding what was pending when the window changed.
#[derive(Debug)]
struct ForwardAgain {
    next: u64,
    end: u64,
    due: Time,
}

impl Transactions {
    /// An empty pool of validator `own`.
    #[must_use]
    pub fn new(own: ValidatorIndex, limits: TransactionLimits) -> Self {
        Self {
            own,
            limits,
            pending: BTreeMap::new(),
            arrival_of: BTreeMap::new(),
            bytes: 0,
            taken: BTreeMap::new(),
            arrivals: 0,
            finalized: BTreeSet::new(),
            finalized_order: VecDeque::new(),
            leaders: None,
            again: None,
            forwards: VecDeque::new(),
            expired: 0,
        }
    }

    /// Takes in a transaction, and forwards it if a client gave it.
    ///
    /// # Errors
    /// [`TransactionRefusal`] says why it was not taken.
    pub fn add(
        &mut self,
        now: Time,
        bytes: Arc<[u8]>,
        source: TransactionSource,
    ) -> Result<TransactionId, TransactionRefusal> {
        if !(1..=TRANSACTION_BYTES_MAX).contains(&bytes.len()) {
            return Err(TransactionRefusal::Length(bytes.len()));
        }
        let id = TransactionId::of(&bytes);
        let from_client = source == TransactionSource::Client;
        if let Some(arrival) = self.arrival_of.get(&id) {
            // The client may have given it to another node first: from now on this one is responsible for it too.
            if from_client && let Some(pending) = self.pending.get_mut(arrival) {
                pending.from_client = true;
            }
            return Err(TransactionRefusal::Pending);
        }
        if self.finalized.contains(&id) {
            return Err(TransactionRefusal::Finalized);
        }
        self.check_room(bytes.len(), source)?;
        if from_client {
            for leader in self.leaders_to_tell() {
                self.forwards.push_back((leader, bytes.clone()));
            }
        }
        self.bytes += bytes.len();
        let taken = self.taken.entry(source).or_default();
        *taken = Taken { count: taken.count + 1, bytes: taken.bytes + bytes.len() };
        self.arrival_of.insert(id, self.arrivals);
        self.pending.insert(self.arrivals, Pending { id, bytes, added: now, source, from_client });
        self.arrivals += 1;
        Ok(id)
    }

    /// A new window began: from now on `current` leads, `next` after it. What clients gave goes to `next` again.
    pub fn window_changed(&mut self, now: Time, current: ValidatorIndex, next: ValidatorIndex) {
        self.leaders = Some([current, next]);
        self.again = (next != self.own).then_some(ForwardAgain { next: 0, end: self.arrivals, due: now });
    }

    /// These transactions are finalized: they leave the pool, and late copies of them are refused.
    /// Returns how many of them were finalized before already.
    pub fn finalized(&mut self, ids: &[TransactionId]) -> usize {
        let mut repeated = 0;
        for &id in ids {
            if let Some(arrival) = self.arrival_of.remove(&id) {
                self.forget(arrival);
            }
            if self.finalized.insert(id) {
                self.finalized_order.push_back(id);
            } else {
                repeated += 1;
            }
        }
        while self.finalized_order.len() > self.limits.finalized_ids_max {
            let oldest = self.finalized_order.pop_front().expect("it is longer than its bound");
            self.finalized.remove(&oldest);
        }
        repeated
    }

    /// The next transaction of `selection`, without moving on.
    pub fn peek(&self, selection: &mut Selection) -> Option<&[u8]> {
        if selection.missing.is_some() {
            return None;
        }
        let mut candidates = self.pending.range(selection.next..);
        let found = candidates.find(|(_, pending)| !selection.on_chain.contains(&pending.id));
        selection.next = found.map_or(self.arrivals, |(&arrival, _)| arrival);
        found.map(|(_, pending)| &*pending.bytes)
    }

    /// Moves `selection` past what [`Self::peek`] gave.
    pub const fn take(selection: &mut Selection) {
        selection.next += 1;
    }

    /// Drops what is expired and goes on forwarding.
    pub fn advance(&mut self, now: Time) {
        while let Some((&arrival, oldest)) = self.pending.first_key_value() {
            if now < oldest.added.after(self.limits.expiry) {
                break;
            }
            let id = oldest.id;
            self.arrival_of.remove(&id);
            self.forget(arrival);
            self.expired += 1;
        }
        self.forward_again(now);
    }

    /// When [`Self::advance`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let expiry = self.pending.first_key_value().map(|(_, oldest)| oldest.added.after(self.limits.expiry));
        let again = self.again.as_ref().map(|again| again.due);
        expiry.into_iter().chain(again).min()
    }

    /// The next transaction to forward, and to whom.
    pub fn poll_forward(&mut self) -> Option<(ValidatorIndex, Arc<[u8]>)> {
        self.forwards.pop_front()
    }

    /// Transactions pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Transactions that expired before they were finalized, since the start.
    #[must_use]
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    fn check_room(&self, bytes: usize, source: TransactionSource) -> Result<(), TransactionRefusal> {
        let room = Taken {
            count: self.limits.count_max.saturating_sub(self.pending.len()),
            bytes: self.limits.bytes_max.saturating_sub(self.bytes),
        };
        if room.count == 0 || bytes > room.bytes {
            return Err(TransactionRefusal::PoolFull);
        }
        let share = match source {
            TransactionSource::Client => 1,
            TransactionSource::Validator(_) => VALIDATOR_SHARE,
        };
        let taken = self.taken.get(&source).copied().unwrap_or_default();
        let is_within = taken.count * share < room.count && (taken.bytes + bytes) * share <= room.bytes;
        if is_within { Ok(()) } else { Err(TransactionRefusal::ShareFull) }
    }

    fn leaders_to_tell(&self) -> impl Iterator<Item = ValidatorIndex> + use<> {
        let own = self.own;
        let [current, next] = self.leaders.unwrap_or([own, own]);
        let next = (next != current).then_some(next);
        std::iter::once(current).chain(next).filter(move |&leader| leader != own)
    }

    fn forget(&mut self, arrival: u64) {
        let pending = self.pending.remove(&arrival).expect("every indexed transaction is pending");
        self.bytes -= pending.bytes.len();
        let taken = self.taken.get_mut(&pending.source).expect("the source of a pending transaction has some");
        *taken = Taken { count: taken.count - 1, bytes: taken.bytes - pending.bytes.len() };
        if taken.count == 0 {
            self.taken.remove(&pending.source);
        }
    }

    fn forward_again(&mut self, now: Time) {
        let (Some(again), Some([_, next])) = (&mut self.again, self.leaders) else { return };
        if now < again.due {
            return;
        }
        let mut group = self.pending.range(again.next..again.end).filter(|(_, pending)| pending.from_client);
        for (_, pending) in group.by_ref().take(FORWARDS_PER_GROUP) {
            self.forwards.push_back((next, pending.bytes.clone()));
        }
        match group.next() {
            Some((&arrival, _)) => {
                again.next = arrival;
                again.due = now.after(FORWARD_PAUSE);
            }
            None => self.again = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: ValidatorIndex = ValidatorIndex(0);
    const START: Time = Time(1_000);

    fn pool(limits: TransactionLimits) -> Transactions {
        Transactions::new(OWN, limits)
    }

    fn bytes(byte: u8) -> Arc<[u8]> {
        vec![byte; 10].into()
    }

    fn forwards(pool: &mut Transactions) -> Vec<(u16, u8)> {
        std::iter::from_fn(|| pool.poll_forward()).map(|(to, bytes)| (to.0, bytes[0])).collect()
    }

    fn selected(pool: &Transactions, selection: &mut Selection) -> Vec<u8> {
        std::iter::from_fn(|| {
            let first = pool.peek(selection)?[0];
            Transactions::take(selection);
            Some(first)
        })
        .collect()
    }

    #[test]
    fn defect_20_every_length_from_outside_is_checked() {
        let mut pool = pool(TransactionLimits::default());
        let refused = |length| Err(TransactionRefusal::Length(length));
        assert_eq!(pool.add(START, vec![0; 1_100].into(), TransactionSource::Client), refused(1_100));
        assert_eq!(pool.add(START, vec![0; 1_025].into(), TransactionSource::Client), refused(1_025));
        assert_eq!(pool.add(START, Arc::default(), TransactionSource::Client), refused(0));
        assert!(pool.add(START, vec![0; 1_024].into(), TransactionSource::Client).is_ok());
    }

    #[test]
    fn bounded_in_count_and_bytes_and_room_comes_back() {
        let limits = TransactionLimits { count_max: 8, bytes_max: 100, ..TransactionLimits::default() };
        let mut pool = pool(limits);
        let validator = |index| TransactionSource::Validator(ValidatorIndex(index));
        let first = pool.add(START, bytes(1), TransactionSource::Client).unwrap();
        let ninety_one: Arc<[u8]> = vec![2; 91].into();
        assert_eq!(pool.add(START, ninety_one, TransactionSource::Client), Err(TransactionRefusal::PoolFull));
        for byte in 3..10 {
            pool.add(START, vec![byte].into(), validator(byte.into())).unwrap();
        }
        assert_eq!(pool.add(START, vec![10].into(), validator(10)), Err(TransactionRefusal::PoolFull));
        pool.finalized(&[first]);
        assert!(pool.add(START, vec![10].into(), validator(10)).is_ok());
    }

    #[test]
    fn whoever_floods_the_pool_leaves_room_for_others() {
        let limits = TransactionLimits { count_max: 1_000, bytes_max: 100_000, ..TransactionLimits::default() };
        let flood = |pool: &mut Transactions, name: u8, length: usize, source| {
            let transaction = |number: u16| [&[name][..], &number.to_le_bytes(), &vec![0; length - 3]].concat();
            (0..1_000).filter(|&number| pool.add(START, transaction(number).into(), source).is_ok()).count()
        };
        let validator = |index| TransactionSource::Validator(ValidatorIndex(index));
        for length in [10, 1_000] {
            let (mut pool, most) = (pool(limits), 1_000.min(100_000 / length));
            assert_eq!(flood(&mut pool, 1, length, validator(1)), most / 5);
            let second = flood(&mut pool, 2, length, validator(2));
            assert!((most / 7..most / 5).contains(&second), "{second} of {most}");
            let of_clients = flood(&mut pool, 3, length, TransactionSource::Client);
            assert!((most / 4..most / 2).contains(&of_clients), "{of_clients} of {most}");
            assert!(flood(&mut pool, 4, length, validator(4)) > 0);
        }
    }

    #[test]
    fn a_source_whose_transactions_are_gone_has_its_share_again() {
        let limits = TransactionLimits { count_max: 10, ..TransactionLimits::default() };
        let (mut pool, source) = (pool(limits), TransactionSource::Validator(ValidatorIndex(1)));
        let ids = [1, 2].map(|byte| pool.add(START, bytes(byte), source).unwrap());
        assert_eq!(pool.add(START, bytes(3), source), Err(TransactionRefusal::ShareFull));
        pool.finalized(&ids[..1]);
        assert!(pool.add(START, bytes(3), source).is_ok());
        pool.finalized(&[ids[1], TransactionId::of(&bytes(3))]);
        assert!(pool.taken.is_empty());
    }

    #[test]
    fn a_copy_is_refused_while_pending_and_after_finalization() {
        let limits = TransactionLimits { finalized_ids_max: 2, ..TransactionLimits::default() };
        let mut pool = pool(limits);
        let id = pool.add(START, bytes(1), TransactionSource::Validator(ValidatorIndex(3))).unwrap();
        assert_eq!(pool.add(START, bytes(1), TransactionSource::Client), Err(TransactionRefusal::Pending));
        assert_eq!(pool.finalized(&[id]), 0);
        assert_eq!(pool.add(START, bytes(1), TransactionSource::Client), Err(TransactionRefusal::Finalized));
        assert_eq!(pool.finalized(&[id]), 1);
        pool.finalized(&[TransactionId([7; 32]), TransactionId([8; 32])]);
        assert!(pool.add(START, bytes(1), TransactionSource::Client).is_ok(), "only the latest are remembered");
    }

    #[test]
    fn clients_transactions_go_to_both_leaders_and_to_every_new_one() {
        let mut pool = pool(TransactionLimits::default());
        pool.window_changed(START, ValidatorIndex(1), ValidatorIndex(2));
        pool.advance(START);
        pool.add(START, bytes(10), TransactionSource::Client).unwrap();
        pool.add(START, bytes(11), TransactionSource::Validator(ValidatorIndex(4))).unwrap();
        assert_eq!(forwards(&mut pool), [(1, 10), (2, 10)]);
        pool.window_changed(START, ValidatorIndex(2), OWN);
        pool.advance(START);
        pool.add(START, bytes(12), TransactionSource::Client).unwrap();
        assert_eq!(forwards(&mut pool), [(2, 12)], "this node leads next: only the current leader is told");
        pool.window_changed(START, OWN, ValidatorIndex(3));
        pool.advance(START);
        assert_eq!(forwards(&mut pool), [(3, 10), (3, 12)]);
    }

    #[test]
    fn forwarding_again_is_spread_out() {
        let mut pool = pool(TransactionLimits::default());
        for number in 0..200_u16 {
            pool.add(START, number.to_le_bytes().to_vec().into(), TransactionSource::Client).unwrap();
        }
        pool.window_changed(START, ValidatorIndex(1), ValidatorIndex(2));
        let (mut now, mut sizes) = (START, Vec::new());
        while let Some(due) = pool.again.as_ref().map(|again| again.due) {
            now = due.max(now);
            pool.advance(now);
            sizes.push(forwards(&mut pool).len());
        }
        assert_eq!(sizes, [64, 64, 64, 8]);
    }

    #[test]
    fn a_selection_passes_over_the_chain_and_sees_later_arrivals() {
        let mut pool = pool(TransactionLimits::default());
        let ids: Vec<_> = (0..4).map(|byte| pool.add(START, bytes(byte), TransactionSource::Client).unwrap()).collect();
        let mut selection = Selection::excluding(BTreeSet::from([ids[0]]), Some(BlockId::GENESIS));
        assert_eq!(selected(&pool, &mut selection), [0; 0], "it cannot know what it may give");
        selection.extend(BTreeSet::from([ids[1]]), None);
        assert_eq!(selected(&pool, &mut selection), [2, 3]);
        pool.add(START, bytes(9), TransactionSource::Client).unwrap();
        assert_eq!(selected(&pool, &mut selection), [9]);
        let mut after_skip = Selection::default();
        assert_eq!(selected(&pool, &mut after_skip), [0, 1, 2, 3, 9], "a skipped block loses nothing");
    }

    #[test]
    fn what_is_never_finalized_expires() {
        let mut pool = pool(TransactionLimits { expiry: Duration::from_secs(1), ..TransactionLimits::default() });
        pool.add(START, bytes(1), TransactionSource::Client).unwrap();
        let due = pool.next_timeout().unwrap();
        pool.advance(Time(due.0 - 1));
        assert_eq!(pool.len(), 1);
        pool.advance(due);
        assert_eq!((pool.len(), pool.bytes, pool.expired()), (0, 0, 1));
        assert_eq!(pool.next_timeout(), None);
    }
}
