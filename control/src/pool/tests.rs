//! The Pool against a slow restatement of its rules, over random streams of votes, certificates and blocks.
//!
//! The restatement keeps plain lists of everything that was ever stored and derives each event from them anew. It
//! shares no code with the Pool but the vocabulary.

use std::collections::BTreeMap;

use super::*;
use crate::bls::{HashedPayload, SecretKey, SignatureBytes};
use crate::certificate::Signers;
use crate::vote::VotePayload;

/// Slots that streams are about.
const SLOTS: u64 = 9;
/// Hashes in a slot.
const HASHES: u64 = 3;
const OWN: ValidatorIndex = ValidatorIndex(0);

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
}

/// An event in a form that compares and sorts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Certificate(Statement, Vec<u16>, Vec<u16>),
    Notarized(BlockId),
    Ready(Slot, BlockId),
    Finalized(BlockId, &'static str),
    Chained(BlockId, BlockId),
    Skipped(Slot, Slot),
    Repair(BlockId),
    SafeToNotar(BlockId),
    SafeToSkip(Slot),
    Evidence(u16, VotePayload),
}

impl Seen {
    const fn name(&self) -> &'static str {
        match self {
            Self::Certificate(Statement::Fast(_), ..) => "fast certificate",
            Self::Certificate(Statement::Notarization(_), ..) => "notarization certificate",
            Self::Certificate(Statement::NotarFallback(_), ..) => "notar-fallback certificate",
            Self::Certificate(Statement::Skip(_), ..) => "skip certificate",
            Self::Certificate(Statement::Finalization(_), ..) => "finalization certificate",
            Self::Notarized(_) => "notarized",
            Self::Ready(..) => "parent ready",
            Self::Finalized(_, how) => how,
            Self::Chained(..) => "chained",
            Self::Skipped(..) => "skipped for good",
            Self::Repair(_) => "repair",
            Self::SafeToNotar(_) => "safe to notar",
            Self::SafeToSkip(_) => "safe to skip",
            Self::Evidence(..) => "evidence",
        }
    }
}

fn seen(event: PoolEvent) -> Seen {
    match event {
        PoolEvent::BlockNotarized(block) => Seen::Notarized(block),
        PoolEvent::ParentReady { slot, parent } => Seen::Ready(slot, parent),
        PoolEvent::Finalized { block, how: Finalization::Fast } => Seen::Finalized(block, "finalized fast"),
        PoolEvent::Finalized { block, .. } => Seen::Finalized(block, "finalized slowly"),
        PoolEvent::SafeToNotar(block) => Seen::SafeToNotar(block),
        PoolEvent::SafeToSkip(slot) => Seen::SafeToSkip(slot),
        PoolEvent::Forgotten(block) => panic!("nothing is far ahead: {block}"),
        PoolEvent::Report(report) => match report {
            ConsensusEvent::Certificate(certificate) => {
                let list = |signers: &Signers| signers.iter().map(|signer| signer.0).collect();
                let (first, second) = (list(&certificate.signers), list(&certificate.fallback_signers));
                Seen::Certificate(certificate.statement, first, second)
            }
            ConsensusEvent::Finalized { block, .. } => Seen::Finalized(block, "finalized as an ancestor"),
            ConsensusEvent::Chained { block, parent } => Seen::Chained(block, parent),
            ConsensusEvent::SkippedForGood { first, last } => Seen::Skipped(first, last),
            ConsensusEvent::RepairNeeded(block) => Seen::Repair(block),
            ConsensusEvent::Evidence(evidence) => Seen::Evidence(evidence.validator.0, evidence.conflicting),
            other => panic!("not an event of the Pool: {other:?}"),
        },
    }
}

/// The restatement.
struct Restated {
    stakes: Vec<u64>,
    votes: Vec<(u16, VotePayload)>,
    certificates: Vec<Statement>,
    held: Vec<(BlockId, BlockId)>,
    finalized: Vec<BlockId>,
    closed: BlockId,
    emitted: Vec<Seen>,
}

impl Restated {
    fn new(stakes: Vec<u64>) -> Self {
        Self {
            stakes,
            votes: Vec::new(),
            certificates: Vec::new(),
            held: Vec::new(),
            finalized: Vec::new(),
            closed: BlockId::GENESIS,
            emitted: Vec::new(),
        }
    }

    fn cast(&self, validator: u16, payload: VotePayload) -> bool {
        self.votes.contains(&(validator, payload))
    }

    fn all_of(&self, validator: u16, slot: Slot) -> Vec<VotePayload> {
        let of = self.votes.iter().filter(|(signer, payload)| *signer == validator && payload.slot() == slot);
        of.map(|(_, payload)| *payload).collect()
    }

    /// `Some(true)`: stored; `Some(false)`: evidence; `None`: dropped.
    fn judge(&self, validator: u16, payload: VotePayload) -> Option<bool> {
        use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
        let slot = payload.slot();
        let before = self.all_of(validator, slot);
        let excludes = |other: &VotePayload| match (payload, *other) {
            (Notar(one), Notar(two)) => one != two,
            (Notar(_), Skip(_)) | (Skip(_), Notar(_)) => true,
            (Final(_), Skip(_) | SkipFallback(_) | NotarFallback(_)) => true,
            (Skip(_) | SkipFallback(_) | NotarFallback(_), Final(_)) => true,
            _ => false,
        };
        let fallbacks = before.iter().filter(|vote| matches!(vote, NotarFallback(_))).count();
        let implied = match payload {
            NotarFallback(block) => before.contains(&Notar(block)) || fallbacks == 3,
            SkipFallback(_) => before.contains(&Skip(slot)),
            Notar(_) | Skip(_) | Final(_) => false,
        };
        if slot <= self.closed.slot {
            None
        } else if before.iter().any(excludes) {
            Some(false)
        } else {
            (!before.contains(&payload) && !implied).then_some(true)
        }
    }

    fn stake_where(&self, chosen: impl Fn(u16) -> bool) -> u64 {
        (0..self.stakes.len()).filter(|at| chosen(*at as u16)).map(|at| self.stakes[at]).sum()
    }

    fn reaches(&self, stake: u64, fifths: u64) -> bool {
        5 * stake >= fifths * self.stakes.iter().sum::<u64>()
    }

    fn signers(&self, payload: VotePayload) -> Vec<u16> {
        (0..self.stakes.len() as u16).filter(|validator| self.cast(*validator, payload)).collect()
    }

    fn is_certified(&self, block: BlockId) -> bool {
        let about = |statement: &Statement| statement.block() == Some(block);
        block == self.closed || block.slot > self.closed.slot && self.certificates.iter().any(about)
    }

    fn parent(&self, block: BlockId) -> Option<BlockId> {
        self.held.iter().find(|(held, _)| *held == block).map(|(_, parent)| *parent)
    }

    fn emit(&mut self, event: Seen, out: &mut Vec<Seen>) {
        if !self.emitted.contains(&event) {
            self.emitted.push(event.clone());
            out.push(event);
        }
    }

    fn is_implied(&self, statement: Statement) -> bool {
        let implied_by: Vec<Statement> = match statement {
            Statement::NotarFallback(block) => {
                vec![Statement::NotarFallback(block), Statement::Notarization(block), Statement::Fast(block)]
            }
            Statement::Notarization(block) => vec![Statement::Notarization(block), Statement::Fast(block)],
            other => vec![other],
        };
        implied_by.iter().any(|stronger| self.certificates.contains(stronger))
    }

    /// The strongest certificate that the votes of `payload`'s kind prove.
    fn proven(&self, payload: VotePayload) -> Option<(Statement, Vec<u16>, Vec<u16>)> {
        use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
        let list = |first: VotePayload, second: Option<VotePayload>| {
            let second = second.map_or_else(Vec::new, |second| self.signers(second));
            (self.signers(first), second)
        };
        let stake =
            |lists: &(Vec<u16>, Vec<u16>)| self.stake_where(|at| lists.0.contains(&at) || lists.1.contains(&at));
        let candidates = match payload {
            Notar(block) | NotarFallback(block) => vec![
                (Statement::Fast(block), 4, list(Notar(block), None)),
                (Statement::Notarization(block), 3, list(Notar(block), None)),
                (Statement::NotarFallback(block), 3, list(Notar(block), Some(NotarFallback(block)))),
            ],
            Skip(slot) | SkipFallback(slot) => {
                vec![(Statement::Skip(slot), 3, list(Skip(slot), Some(SkipFallback(slot))))]
            }
            Final(slot) => vec![(Statement::Finalization(slot), 3, list(Final(slot), None))],
        };
        let (statement, _, lists) =
            candidates.into_iter().find(|(_, fifths, lists)| self.reaches(stake(lists), *fifths))?;
        (!self.is_implied(statement)).then_some((statement, lists.0, lists.1))
    }

    fn store(&mut self, (statement, first, second): (Statement, Vec<u16>, Vec<u16>), out: &mut Vec<Seen>) {
        self.certificates.push(statement);
        out.push(Seen::Certificate(statement, first, second));
        if let Some(block) = statement.block() {
            self.need(block, out);
        }
        let slot = statement.slot();
        let notarized = self.certificates.iter().find_map(|held| match held {
            Statement::Notarization(block) if block.slot == slot => Some(*block),
            _ => None,
        });
        let finalized = match statement {
            Statement::Fast(block) => Some((block, "finalized fast")),
            Statement::Notarization(_) | Statement::Finalization(_) => notarized
                .filter(|_| self.certificates.contains(&Statement::Finalization(slot)))
                .map(|block| (block, "finalized slowly")),
            Statement::NotarFallback(_) | Statement::Skip(_) => None,
        };
        match (finalized, statement) {
            (Some((block, how)), _) => {
                self.closed = block;
                self.finalized.push(block);
                self.emit(Seen::Finalized(block, how), out);
            }
            (None, Statement::Notarization(block)) => self.emit(Seen::Notarized(block), out),
            (None, _) => {}
        }
    }

    fn need(&mut self, block: BlockId, out: &mut Vec<Seen>) {
        if self.parent(block).is_none() {
            self.emit(Seen::Repair(block), out);
        }
    }

    /// Two blocks of one slot are notarized, which takes 20% of byzantine stake.
    fn is_notarized_twice(&self) -> bool {
        let notarized: Vec<BlockId> = self
            .certificates
            .iter()
            .filter(|statement| matches!(statement, Statement::Fast(_) | Statement::Notarization(_)))
            .filter_map(Statement::block)
            .collect();
        notarized.iter().any(|one| notarized.iter().any(|two| one.slot == two.slot && one != two))
    }

    /// Everything that follows from what is stored. `false` if what is final contradicts itself, which ends a stream.
    fn derive(&mut self, out: &mut Vec<Seen>) -> bool {
        if self.is_notarized_twice() {
            return false;
        }
        self.derive_ready(out);
        if !self.derive_final(out) {
            return false;
        }
        for slot in self.closed.slot.0 + 1..=SLOTS {
            self.derive_safe(Slot(slot), out);
        }
        true
    }

    fn derive_ready(&mut self, out: &mut Vec<Seen>) {
        let mut certified: Vec<BlockId> = self.certificates.iter().filter_map(Statement::block).collect();
        certified.push(self.closed);
        certified.retain(|block| block.slot > self.closed.slot || *block == self.closed);
        let closed = self.closed.slot.0;
        for first in (4..=SLOTS + 8).step_by(4).filter(|first| *first > closed) {
            for parent in certified.clone() {
                let skipped = |slot| self.certificates.contains(&Statement::Skip(Slot(slot)));
                if parent.slot.0 < first && (parent.slot.0 + 1..first).all(skipped) {
                    self.emit(Seen::Ready(Slot(first), parent), out);
                }
            }
        }
    }

    fn derive_final(&mut self, out: &mut Vec<Seen>) -> bool {
        let mut at = 0;
        while at < self.finalized.len() {
            let block = self.finalized[at];
            at += 1;
            let Some(parent) = self.parent(block) else {
                self.need(block, out);
                continue;
            };
            if self.finalized.iter().any(|other| {
                (parent.slot < other.slot && other.slot < block.slot) || (other.slot == parent.slot && *other != parent)
            }) {
                return false;
            }
            if parent.slot.0 + 1 < block.slot.0 {
                self.emit(Seen::Skipped(parent.slot.next(), Slot(block.slot.0 - 1)), out);
            }
            if parent == BlockId::GENESIS || self.finalized.contains(&parent) {
                continue;
            }
            if parent.slot == Slot::GENESIS {
                return false;
            }
            self.finalized.push(parent);
            self.emit(Seen::Finalized(parent, "finalized as an ancestor"), out);
        }
        let mut top = BlockId::GENESIS;
        while let Some(next) = self.finalized.iter().find(|block| self.parent(**block) == Some(top)).copied() {
            self.emit(Seen::Chained(next, top), out);
            top = next;
        }
        true
    }

    fn derive_safe(&mut self, slot: Slot, out: &mut Vec<Seen>) {
        use VotePayload::{Notar, Skip};
        let own = self.all_of(OWN.0, slot).into_iter().find(|vote| matches!(vote, Notar(_) | Skip(_)));
        let Some(own) = own else { return };
        let notar = |block| self.stake_where(|at| self.cast(at, Notar(block)));
        let blocks: Vec<BlockId> = (0..HASHES).map(|name| block(slot.0, name)).collect();
        let skip = self.stake_where(|at| self.cast(at, Skip(slot)));
        let stakes: Vec<u64> = blocks.iter().map(|block| notar(*block)).collect();
        for (block, stake) in blocks.iter().zip(&stakes) {
            let enough = self.reaches(*stake, 2) || (self.reaches(skip + stake, 3) && self.reaches(*stake, 1));
            if !enough || own == Notar(*block) {
                continue;
            }
            match self.parent(*block) {
                None => self.emit(Seen::Repair(*block), out),
                Some(parent) if slot.is_window_first() || self.is_certified(parent) => {
                    self.emit(Seen::SafeToNotar(*block), out);
                }
                Some(_) => {}
            }
        }
        let highest = stakes.iter().max().copied().unwrap_or_default();
        if own != Skip(slot) && self.reaches(skip + stakes.iter().sum::<u64>() - highest, 2) {
            self.emit(Seen::SafeToSkip(slot), out);
        }
    }
}

fn block(slot: u64, name: u64) -> BlockId {
    if slot == 0 { BlockId::GENESIS } else { BlockId { slot: Slot(slot), hash: Hash([name as u8 + 1; 32]) } }
}

fn payload(random: &mut Random) -> VotePayload {
    let slot = 1 + random.below(SLOTS);
    // Mostly one block a slot, as in life.
    let name = random.below(HASHES * 2).saturating_sub(HASHES);
    match random.below(12) {
        0..=4 => VotePayload::Notar(block(slot, name)),
        5 => VotePayload::NotarFallback(block(slot, name)),
        6..=8 => VotePayload::Skip(Slot(slot)),
        9 => VotePayload::SkipFallback(Slot(slot)),
        _ => VotePayload::Final(Slot(slot)),
    }
}

fn statement(random: &mut Random) -> Statement {
    let named = block(1 + random.below(SLOTS), random.below(HASHES));
    match random.below(12) {
        0 => Statement::Fast(named),
        1..=3 => Statement::Notarization(named),
        4..=6 => Statement::NotarFallback(named),
        7..=10 => Statement::Skip(named.slot),
        _ => Statement::Finalization(named.slot),
    }
}

/// Both Pools, fed with the same stream.
struct Pair {
    pool: Pool,
    restated: Restated,
    signature: SignatureBytes,
}

impl Pair {
    fn unverified(&self, payload: VotePayload, signer: u16) -> UnverifiedVote {
        UnverifiedVote { payload, signer: ValidatorIndex(signer), signature: self.signature }
    }

    fn step(&mut self, random: &mut Random, out: &mut Vec<Seen>) {
        match random.below(16) {
            0..=1 => self.hold(random),
            2 => self.certificate(random, out),
            3..=4 => {
                let payload = payload(random);
                if self.restated.judge(OWN.0, payload) == Some(true) {
                    self.pool.add_own_vote(&VerifiedVotes::assume_checked(vec![self.unverified(payload, OWN.0)]));
                    self.stored(payload, &[OWN.0], out);
                }
            }
            5..=6 => self.batch(random, out),
            _ => {
                let (payload, signer) =
                    (payload(random), 1 + random.below(self.restated.stakes.len() as u64 - 1) as u16);
                self.pool.add_votes(VerifiedVotes::assume_checked(vec![self.unverified(payload, signer)]));
                match self.restated.judge(signer, payload) {
                    Some(true) => self.stored(payload, &[signer], out),
                    Some(false) => out.push(Seen::Evidence(signer, payload)),
                    None => {}
                }
            }
        }
    }

    fn stored(&mut self, payload: VotePayload, signers: &[u16], out: &mut Vec<Seen>) {
        self.restated.votes.extend(signers.iter().map(|signer| (*signer, payload)));
        if let Some(made) = self.restated.proven(payload) {
            self.restated.store(made, out);
        }
    }

    /// A batch in which everything fits.
    fn batch(&mut self, random: &mut Random, out: &mut Vec<Seen>) {
        let payload = payload(random);
        let mut signers: Vec<u16> = (1..self.restated.stakes.len() as u16).collect();
        signers.retain(|signer| random.below(2) == 0 && self.restated.judge(*signer, payload) == Some(true));
        if !signers.is_empty() {
            let votes = signers.iter().map(|signer| self.unverified(payload, *signer)).collect();
            self.pool.add_votes(VerifiedVotes::assume_checked(votes));
            self.stored(payload, &signers, out);
        }
    }

    fn hold(&mut self, random: &mut Random) {
        let slot = 1 + random.below(SLOTS);
        let below = if Slot(slot).is_window_first() { random.below(slot) } else { slot - 1 };
        let (held, parent) = (block(slot, random.below(HASHES)), block(below, random.below(2)));
        self.pool.block_held(held, parent);
        if self.restated.parent(held).is_none() {
            self.restated.held.push((held, parent));
        }
    }

    fn certificate(&mut self, random: &mut Random, out: &mut Vec<Seen>) {
        let statement = statement(random);
        let validators = self.restated.stakes.len();
        let signers: Vec<u16> = (0..validators as u16).filter(|_| random.below(6) > 0).collect();
        let certificate = Certificate {
            statement,
            signers: Signers::of(validators, signers.iter().copied().map(ValidatorIndex)),
            fallback_signers: Signers::none(validators),
            signature: self.signature,
        };
        self.pool.add_certificate(VerifiedCertificate::assume_checked(certificate));
        let fifths = if statement.kind() == CertificateKind::Fast { 4 } else { 3 };
        let quorum = self.restated.reaches(self.restated.stake_where(|at| signers.contains(&at)), fifths);
        if quorum && statement.slot() > self.restated.closed.slot && !self.restated.is_implied(statement) {
            self.restated.store((statement, signers, Vec::new()), out);
        }
    }
}

/// Runs one stream; counts the events in it.
fn run(seed: u64, signature: SignatureBytes, counts: &mut BTreeMap<&'static str, usize>) {
    let mut random = Random(seed);
    let validators = 4 + random.below(5);
    let heaviest = [1, 10, 30][random.below(3) as usize];
    let stakes: Vec<u64> = (0..validators).map(|_| 1 + random.below(heaviest)).collect();
    let shared = Arc::new(Stakes::new(stakes.iter().copied().map(Stake).collect()));
    let mut pair = Pair { pool: Pool::new(OWN, shared), restated: Restated::new(stakes), signature };
    for step in 0..250 {
        let mut expected = Vec::new();
        pair.step(&mut random, &mut expected);
        let consistent = pair.restated.derive(&mut expected);
        if !consistent {
            *counts.entry("contradiction").or_default() += 1;
            return;
        }
        let mut actual: Vec<Seen> = std::iter::from_fn(|| pair.pool.next_event()).map(seen).collect();
        expected.sort();
        actual.sort();
        assert_eq!(actual, expected, "seed {seed}, step {step}; run this seed alone with POOL_SEED={seed}");
        for event in expected {
            *counts.entry(event.name()).or_default() += 1;
        }
    }
}

#[test]
fn the_pool_agrees_with_a_slow_restatement_over_random_streams() {
    let signature = SecretKey::from_entropy(&[1; 32]).sign(&HashedPayload::new(b"any")).to_bytes();
    let mut counts = BTreeMap::new();
    if let Ok(seed) = std::env::var("POOL_SEED") {
        run(seed.parse().expect("POOL_SEED is a number"), signature, &mut counts);
        return;
    }
    for seed in 0..3_000 {
        run(seed, signature, &mut counts);
    }
    let all = [
        "fast certificate",
        "notarization certificate",
        "notar-fallback certificate",
        "skip certificate",
        "finalization certificate",
        "notarized",
        "parent ready",
        "finalized fast",
        "finalized slowly",
        "finalized as an ancestor",
        "chained",
        "skipped for good",
        "repair",
        "safe to notar",
        "safe to skip",
        "evidence",
    ];
    for name in all {
        assert!(counts.get(name).is_some_and(|count| *count >= 100), "streams hardly meet {name}: {counts:?}");
    }
}
