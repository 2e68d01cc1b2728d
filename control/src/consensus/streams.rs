//! Pool and Votor against their slow restatement, over random streams of votes, certificates, blocks and time: single
//! votes and batches, checked in another order than they came in, some of them found wrong; validators that vote twice;
//! several blocks in a slot; slots that are closed, ahead, and far ahead.

use alpenglow_rotor::types::{Hash, Stake};

use super::restated::{DELTA_BLOCK_MS, DELTA_TIMEOUT_MS, Judged, OWN, Restated, Seen};
use super::*;
use crate::bls::{HashedPayload, Signature};
use crate::certificate::{Signers, Statement};
use crate::timers::Patience;

/// Streams that run by default.
const STREAMS: u64 = 2_500;
const STEPS: usize = 160;
/// Hashes in a slot.
const HASHES: u64 = 3;
/// Slots in which certificates come that are far past the horizon: fewer than the Pool keeps at a time.
const FAR: [u64; 5] = [61, 63, 100, 1_500, 1_503];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn stakes(&mut self) -> Vec<u64> {
        let validators = 1 + self.below(9);
        let heavy = self.below(validators);
        let kind = self.below(6);
        let stake = |at: u64| match kind {
            0 | 1 => 1,
            2 | 3 => 1 + self.below(30),
            // One with six tenths or more of all.
            4 if at == heavy => 3 * validators + self.below(20),
            4 => 1 + self.below(2),
            // Some with next to nothing, and a total that leaves no room for careless arithmetic.
            _ if self.below(3) == 0 => 1,
            _ => u64::MAX / validators,
        };
        (0..validators).map(stake).collect()
    }
}

fn block(slot: u64, name: u64) -> BlockId {
    if slot == 0 { BlockId::GENESIS } else { BlockId { slot: Slot(slot), hash: Hash([name as u8 + 1; 32]) } }
}

/// The node and its restatement, fed with the same stream.
struct Stream {
    random: Random,
    now_ms: u64,
    node: Consensus,
    restated: Restated,
    signature: Signature,
    /// Votes whose place is taken and that are not checked.
    waiting: Vec<(u16, VotePayload)>,
}

fn checked(payload: VotePayload, signers: &[u16], signature: Signature) -> VerifiedVotes {
    let vote =
        |signer: &u16| UnverifiedVote { payload, signer: ValidatorIndex(*signer), signature: signature.to_bytes() };
    VerifiedVotes { payload, votes: signers.iter().map(vote).collect(), sum: signature }
}

impl Stream {
    fn new(seed: u64, signature: Signature) -> Self {
        let mut random = Random(seed);
        let restated = random.stakes();
        let stakes = Arc::new(Stakes::new(restated.iter().copied().map(Stake).collect()));
        let sign = move |hash: &PayloadHash| {
            let payload = hash.payload();
            let vote = Vote { payload, signer: ValidatorIndex(OWN), signature: signature.to_bytes() };
            (vote, checked(payload, &[OWN], signature))
        };
        let patience = Patience {
            delta_block: Duration::from_millis(DELTA_BLOCK_MS),
            delta_timeout: Duration::from_millis(DELTA_TIMEOUT_MS),
            standstill_interval: Duration::MAX,
            first_shred: None,
        };
        let votor = Votor::new(patience, Time(0));
        let pool = Pool::new(ValidatorIndex(OWN), Arc::clone(&stakes));
        let node = Consensus::with_signer(Box::new(sign), pool, stakes, votor);
        Self { random, now_ms: 0, node, restated: Restated::new(restated), signature, waiting: Vec::new() }
    }

    fn now(&self) -> Time {
        Time(self.now_ms * 1_000_000)
    }

    /// Mostly one of the next slots, seldom a closed one or one ahead.
    fn slot(&mut self) -> u64 {
        let open = self.node.highest_finalized().slot.0 + 1;
        match self.random.below(40) {
            0 => open.saturating_sub(self.random.below(4)).max(1),
            1 => open + self.random.below(60),
            _ => open + self.random.below(7),
        }
    }

    /// Mostly the same name, as in life.
    fn name(&mut self) -> u64 {
        self.random.below(HASHES * 3).saturating_sub(HASHES * 2)
    }

    fn payload(&mut self) -> VotePayload {
        let (slot, name) = (self.slot(), self.name());
        match self.random.below(12) {
            0..=4 => VotePayload::Notar(block(slot, name)),
            5 => VotePayload::NotarFallback(block(slot, self.random.below(HASHES + 2))),
            6..=8 => VotePayload::Skip(Slot(slot)),
            9 => VotePayload::SkipFallback(Slot(slot)),
            _ => VotePayload::Final(Slot(slot)),
        }
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0..=3 => self.hold(),
            4 => self.certificate(),
            5 => self.advance(),
            6 => self.mishap(),
            7..=10 => self.check_waiting(),
            11 => self.reject_waiting(),
            12 => self.batch_without_admission(),
            _ => self.arrive(),
        }
    }

    fn arrive(&mut self) {
        let (payload, signer) = (self.payload(), self.random.below(self.restated.validators() as u64 + 1) as u16);
        let vote = checked(payload, &[signer], self.signature).votes[0];
        let admission = self.node.admit(&vote);
        if signer == OWN || usize::from(signer) == self.restated.validators() {
            assert_eq!(admission, Admission::Signer);
            return;
        }
        let accused = self.restated.is_accused(signer, payload.slot());
        let expected = match self.restated.judge(signer, payload) {
            Judged::Closed => Admission::Closed,
            Judged::Ahead => Admission::Ahead,
            Judged::Redundant => Admission::Redundant,
            Judged::Fits => Admission::Check,
            Judged::Conflict if accused => Admission::ConflictAgain,
            Judged::Conflict => Admission::Conflict,
        };
        assert_eq!(admission, expected, "{payload:?} of {signer}");
        match admission {
            Admission::Check => {
                self.restated.admit(signer, payload);
                self.waiting.push((signer, payload));
                if self.random.below(2) == 0 {
                    self.check_waiting();
                }
            }
            Admission::Conflict | Admission::ConflictAgain => self.give(payload, &[signer]),
            _ => {}
        }
    }

    fn give(&mut self, payload: VotePayload, signers: &[u16]) {
        self.node.votes(self.now(), checked(payload, signers, self.signature));
        self.restated.votes(payload, signers);
    }

    /// The check of one payload's votes ends, of all that wait or of some.
    fn check_waiting(&mut self) {
        let Some((first, payload)) = self.pick_waiting() else { return };
        let (mut batch, random) = (vec![first], &mut self.random);
        let some = self.waiting.extract_if(.., |(_, other)| *other == payload && random.below(4) > 0);
        batch.extend(some.map(|(signer, _)| signer));
        self.give(payload, &batch);
    }

    fn reject_waiting(&mut self) {
        let Some((signer, payload)) = self.pick_waiting() else { return };
        self.node.vote_rejected(&checked(payload, &[signer], self.signature).votes[0]);
        self.restated.reject(signer, payload);
    }

    fn pick_waiting(&mut self) -> Option<(u16, VotePayload)> {
        let waiting = self.waiting.len() as u64;
        (waiting > 0).then(|| self.waiting.swap_remove(self.random.below(waiting) as usize))
    }

    fn batch_without_admission(&mut self) {
        let payload = self.payload();
        let signers: Vec<u16> = (1..self.restated.validators() as u16).filter(|_| self.random.below(3) == 0).collect();
        if !signers.is_empty() {
            self.waiting.retain(|(signer, other)| *other != payload || !signers.contains(signer));
            self.give(payload, &signers);
        }
    }

    fn hold(&mut self) {
        let below = self.random.below(3);
        let slot = (self.slot() - below.min(1)).max(1);
        let first_of_window = Slot(slot).is_window_first();
        let parent_slot = match self.random.below(30) {
            0 => self.random.below(slot + 3),
            _ if first_of_window => slot - 1 - self.random.below(slot.min(5)),
            _ => slot - 1,
        };
        let (held, parent) = (block(slot, self.name()), block(parent_slot, self.name()));
        // Beside what is near, only what was asked for may be given.
        if slot <= self.node.horizon().shreds_through.0 {
            self.node.block_held(self.now(), held, parent);
            self.restated.block(held, parent);
        }
    }

    fn certificate(&mut self) {
        let slot = match self.random.below(30) {
            0 => FAR[self.random.below(FAR.len() as u64) as usize],
            _ => self.slot(),
        };
        let named = block(slot, self.name());
        let statement = match self.random.below(12) {
            0 => Statement::Fast(named),
            1..=3 => Statement::Notarization(named),
            4..=6 => Statement::NotarFallback(named),
            7..=10 => Statement::Skip(named.slot),
            _ => Statement::Finalization(named.slot),
        };
        let validators = self.restated.validators() as u16;
        let mut signers = |often: u64| (0..validators).filter(|_| self.random.below(6) < often).collect::<Vec<u16>>();
        let first = signers(5);
        let second = if first.len() % 3 == 0 { signers(2) } else { Vec::new() };
        let set = |list: &[u16]| Signers::of(usize::from(validators), list.iter().copied().map(ValidatorIndex));
        let certificate = Certificate {
            statement,
            signers: set(&first),
            fallback_signers: set(&second),
            signature: self.signature.to_bytes(),
        };
        let wanted = self.node.wants(&UnverifiedCertificate(certificate.clone()));
        assert_eq!(wanted, self.restated.wants(statement, &first, &second), "{statement:?}");
        self.node.certificate(self.now(), VerifiedCertificate::assume_checked(certificate));
        self.restated.certificate(statement, first, second);
    }

    fn advance(&mut self) {
        let until = self.now_ms + self.random.below(700);
        while let Some(due) = self.restated.next_timeout_ms().filter(|due| *due <= until) {
            self.now_ms = self.now_ms.max(due);
            self.node.advance(self.now());
            self.restated.advance(self.now_ms);
        }
        self.now_ms = until;
        self.node.advance(self.now());
        self.restated.advance(until);
    }

    fn mishap(&mut self) {
        let (slot, name) = (self.slot(), self.random.below(HASHES));
        match self.random.below(8) {
            0 if slot <= self.node.horizon().shreds_through.0 => {
                self.node.equivocation(Slot(slot));
                self.restated.equivocation(Slot(slot));
            }
            1 => {
                self.node.block_dead(block(slot, name));
                self.restated.block_dead(block(slot, name));
            }
            _ => {}
        }
    }

    /// What the node did since the last look.
    fn seen(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(event) = self.node.poll() {
            seen.push(self.translate(event));
        }
        seen
    }

    fn translate(&self, event: ConsensusEvent) -> Seen {
        let list = |signers: &Signers| signers.iter().map(|signer| signer.0).collect();
        match event {
            ConsensusEvent::Vote(vote) => Seen::Vote(vote.payload),
            ConsensusEvent::Certificate(certificate) => {
                let (first, second) = (list(&certificate.signers), list(&certificate.fallback_signers));
                Seen::Certificate(certificate.statement, first, second)
            }
            ConsensusEvent::BlockNotarized(block) => Seen::Notarized(block),
            ConsensusEvent::ParentReady { slot, parent } => Seen::Ready(slot, parent),
            ConsensusEvent::Finalized { block, how } => {
                let how = match how {
                    Finalization::Fast => "fast",
                    Finalization::Slow => "slow",
                    Finalization::Ancestor => "ancestor",
                };
                Seen::Finalized(block, how)
            }
            ConsensusEvent::Chained { block, parent } => Seen::Chained(block, parent),
            ConsensusEvent::SkippedForGood { first, last } => Seen::SkippedForGood(first, last),
            ConsensusEvent::RepairNeeded(block) => Seen::Repair(block),
            ConsensusEvent::Evidence(Evidence { validator, stored, conflicting, .. }) => {
                let excluded_by = self.restated.excluded_by(validator.0, conflicting);
                assert!(excluded_by.contains(&stored), "{stored:?} does not exclude {conflicting:?}");
                Seen::Evidence(validator.0, conflicting)
            }
            ConsensusEvent::Recheck(votes) => {
                Seen::Recheck(votes[0].payload, votes.iter().map(|vote| vote.signer.0).collect())
            }
            ConsensusEvent::Horizon(horizon) => Seen::Horizon(horizon.closed_through, horizon.votes_through),
            ConsensusEvent::Contradiction { .. } => panic!("no final blocks contradict each other: {event:?}"),
            ConsensusEvent::Withheld(_) => {
                panic!("own votes fit each other as long as nothing is forgotten: {event:?}")
            }
        }
    }

    fn compare_states(&self) {
        let horizon = self.node.horizon();
        assert_eq!((horizon.closed_through, horizon.votes_through), self.restated.horizon());
        assert_eq!(self.node.highest_chained(), self.restated.chained());
        let due = self.restated.next_timeout_ms().map(|due| Time(due * 1_000_000));
        assert_eq!(self.node.next_timeout(), due);
        for window in horizon.closed_through.window()..horizon.closed_through.window() + 4 {
            let first = Slot(window * 4).max(Slot(1));
            let parents = self.node.parents_ready(first).iter().copied().collect();
            assert_eq!(self.restated.parents_ready(first), parents, "{first}");
        }
    }
}

/// Runs one stream; counts what happened in it.
fn run(seed: u64, signature: Signature, counts: &mut BTreeMap<&'static str, usize>) {
    let mut stream = Stream::new(seed, signature);
    for step in 0..STEPS {
        stream.step();
        let Some(mut expected) = stream.restated.take_seen() else {
            *counts.entry("contradiction").or_default() += 1;
            return;
        };
        let mut actual = stream.seen();
        expected.sort();
        actual.sort();
        assert_eq!(actual, expected, "seed {seed}, step {step}");
        stream.compare_states();
        for seen in expected {
            *counts.entry(name(&seen)).or_default() += 1;
        }
    }
}

const fn name(seen: &Seen) -> &'static str {
    match seen {
        Seen::Vote(VotePayload::Notar(_)) => "notar vote",
        Seen::Vote(VotePayload::NotarFallback(_)) => "notar-fallback vote",
        Seen::Vote(VotePayload::Skip(_)) => "skip vote",
        Seen::Vote(VotePayload::SkipFallback(_)) => "skip-fallback vote",
        Seen::Vote(VotePayload::Final(_)) => "final vote",
        Seen::Certificate(Statement::Fast(_), ..) => "fast certificate",
        Seen::Certificate(Statement::Notarization(_), ..) => "notarization certificate",
        Seen::Certificate(Statement::NotarFallback(_), ..) => "notar-fallback certificate",
        Seen::Certificate(Statement::Skip(_), ..) => "skip certificate",
        Seen::Certificate(Statement::Finalization(_), ..) => "finalization certificate",
        Seen::Notarized(_) => "notarized",
        Seen::Ready(..) => "parent ready",
        Seen::Finalized(..) => "finalized",
        Seen::Chained(..) => "chained",
        Seen::SkippedForGood(..) => "skipped for good",
        Seen::Repair(_) => "repair",
        Seen::Evidence(..) => "evidence",
        Seen::Recheck(..) => "recheck",
        Seen::Horizon(..) => "horizon",
    }
}

/// All there is to [`name`], each of which streams must meet often.
const NAMES: [&str; 19] = [
    "notar vote",
    "notar-fallback vote",
    "skip vote",
    "skip-fallback vote",
    "final vote",
    "fast certificate",
    "notarization certificate",
    "notar-fallback certificate",
    "skip certificate",
    "finalization certificate",
    "notarized",
    "parent ready",
    "finalized",
    "chained",
    "skipped for good",
    "repair",
    "evidence",
    "recheck",
    "horizon",
];

#[test]
fn pool_and_votor_agree_with_a_slow_restatement_over_random_streams() {
    let signature = SecretKey::from_entropy(&[1; 32]).sign(&HashedPayload::new(b"any"));
    let seeds = std::env::var("STREAM_SEEDS").map_or(0..STREAMS, |range| {
        let (first, end) = range.split_once("..").expect("STREAM_SEEDS is FIRST..END");
        first.parse().expect("a number")..end.parse().expect("a number")
    });
    let mut counts = BTreeMap::new();
    for seed in seeds.clone() {
        let replay = Replay(seed);
        run(seed, signature, &mut counts);
        std::mem::forget(replay);
    }
    if seeds == (0..STREAMS) {
        for name in NAMES {
            assert!(counts.get(name).is_some_and(|count| *count >= 100), "streams hardly meet {name}: {counts:?}");
        }
    }
}

/// Dropped by a panic only.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        use std::io::Write;
        // Nothing is left to do if standard error is closed.
        let _ = writeln!(std::io::stderr(), "run this stream alone with STREAM_SEEDS={}..{}", self.0, self.0 + 1);
    }
}
