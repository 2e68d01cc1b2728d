use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{BlockId, ClusterId, Hash};

use super::certificates::CERTIFICATES_PER_SENDER_MAX;
use super::*;
use crate::bls::{SecretKey, Signature, SignatureBytes, SignatureSum};
use crate::certificate::{Certificate, Signers};
use crate::checker::Checker;
use crate::consensus::{ConsensusConfig, ConsensusEvent};
use crate::vote::Vote;
use crate::voting_keys::VotingKeys;

const CLUSTER: ClusterId = ClusterId([6; 32]);
const START: Time = Time(9_000_000_000);
const BAR: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_millis(400);

/// Node 0 of some.
struct Node {
    checking: Checking,
    consensus: Consensus,
    /// Where something is checked.
    checker: Option<Checker>,
}

fn key(validator: u16) -> SecretKey {
    SecretKey::from_entropy(&[validator as u8 + 1; 32])
}

fn notar(slot: u64, hash: u8) -> VotePayload {
    VotePayload::Notar(BlockId { slot: Slot(slot), hash: Hash([hash; 32]) })
}

fn vote(payload: VotePayload, signer: u16) -> UnverifiedVote {
    let (vote, _) = Vote::sign(payload, &payload.hashed(CLUSTER), ValidatorIndex(signer), &key(signer));
    UnverifiedVote { payload, signer: vote.signer, signature: vote.signature }
}

/// A signature by the right key over something else: a point of the curve, and wrong.
fn forged(payload: VotePayload, signer: u16) -> UnverifiedVote {
    UnverifiedVote { payload, ..vote(VotePayload::Final(Slot(999)), signer) }
}

fn certificate(statement: Statement, signers: std::ops::Range<u16>, genuine: bool) -> UnverifiedCertificate {
    let signature =
        |signer| if genuine { vote(statement.payload(), signer) } else { forged(statement.payload(), signer) };
    let signatures: Vec<_> =
        signers.clone().map(|signer| Signature::from_bytes(&signature(signer).signature).unwrap()).collect();
    UnverifiedCertificate(Certificate {
        statement,
        signers: Signers::of(10, signers.map(ValidatorIndex)),
        fallback_signers: Signers::none(10),
        signature: SignatureBytes(SignatureSum::of(&signatures).to_bytes().0),
    })
}

impl Node {
    /// One of ten.
    fn new(jobs_max: usize) -> Self {
        let keys: Vec<_> = (0..10).map(|v| (key(v).public_key().to_bytes(), key(v).prove_possession())).collect();
        let node = Self::without_keys(10, jobs_max);
        let stakes = node.checking.stakes.clone();
        Self { checker: Some(Checker::new(CLUSTER, Arc::new(VotingKeys::new(&keys).unwrap()), stakes)), ..node }
    }

    fn without_keys(validators: usize, jobs_max: usize) -> Self {
        Self::with_stakes(Stakes::new(vec![Stake(7); validators]), jobs_max)
    }

    fn with_stakes(stakes: Stakes, jobs_max: usize) -> Self {
        let stakes = Arc::new(stakes);
        let config = ConsensusConfig {
            own: ValidatorIndex(0),
            secret_key: key(0),
            stakes: stakes.clone(),
            cluster: CLUSTER,
            delta_block: Duration::from_millis(400),
            delta_timeout: Duration::from_millis(1_200),
            standstill_interval: Duration::from_secs(10),
            crashed_leader: None,
        };
        Self {
            checking: Checking::new(CheckingLimits { jobs_max, bar: BAR, patience: PATIENCE }, stakes),
            consensus: Consensus::new(config, START),
            checker: None,
        }
    }

    /// Votes of several validators.
    fn votes(&mut self, payload: VotePayload, signers: impl IntoIterator<Item = u16>) {
        signers.into_iter().for_each(|signer| self.vote(START, vote(payload, signer)).unwrap());
    }

    /// The node casts the votes that are due.
    fn advance(&mut self, now: Time) {
        self.consensus.advance(now);
        let events: Vec<_> = std::iter::from_fn(|| self.consensus.poll()).collect();
        for event in events {
            if let ConsensusEvent::Vote(vote) = event {
                self.checking.own_vote(vote.payload, ValidatorIndex(0), &self.consensus);
            }
        }
    }

    /// Hands out the next job and takes its verdict; who is barred by it.
    fn check(&mut self) -> Vec<u16> {
        let job = self.job().unwrap();
        self.answer(START, job)
    }

    fn vote(&mut self, now: Time, vote: UnverifiedVote) -> Result<(), Dropped> {
        self.checking.vote(now, vote, &mut self.consensus)
    }

    fn certificate(&mut self, certificate: UnverifiedCertificate, sender: u16) -> Result<(), Dropped> {
        self.checking.certificate(START, certificate, ValidatorIndex(sender), &self.consensus)
    }

    fn job(&mut self) -> Option<(JobId, CheckJob)> {
        self.job_at(START)
    }

    fn job_at(&mut self, now: Time) -> Option<(JobId, CheckJob)> {
        self.checking.next_job(now, &mut self.consensus)
    }

    fn answer(&mut self, now: Time, (id, job): (JobId, CheckJob)) -> Vec<u16> {
        let verdict = self.checker.as_mut().unwrap().check(job);
        let barred = self.checking.verdict(now, id, verdict, &mut self.consensus).unwrap();
        barred.into_iter().map(|validator| validator.0).collect()
    }

    fn certificates(&mut self) -> Vec<Statement> {
        std::iter::from_fn(|| self.consensus.poll())
            .filter_map(|event| match event {
                ConsensusEvent::Certificate(certificate) => Some(certificate.statement),
                _ => None,
            })
            .collect()
    }
}

fn signers(job: &(JobId, CheckJob)) -> Vec<u16> {
    match &job.1 {
        CheckJob::Votes { votes, .. } => votes.iter().map(|vote| vote.signer.0).collect(),
        other => panic!("{other:?}"),
    }
}

fn block(slot: u64, hash: u8) -> BlockId {
    BlockId { slot: Slot(slot), hash: Hash([hash; 32]) }
}

fn evidence(node: &mut Node) -> usize {
    let events = std::iter::from_fn(|| node.consensus.poll());
    events.filter(|event| matches!(event, ConsensusEvent::Evidence(evidence) if evidence.validator.0 == 5)).count()
}

#[test]
fn votes_wait_until_they_can_decide_and_are_one_batch_then() {
    let mut node = Node::new(4);
    node.votes(notar(1, 1), 1..6);
    assert!(node.job().is_none(), "half of the stake decides nothing");
    assert_eq!(node.vote(START, vote(notar(1, 1), 3)), Err("vote_redundant"), "nobody is in two batches");
    node.votes(notar(1, 1), [6]);
    let first = node.job().unwrap();
    assert_eq!(signers(&first), [1, 2, 3, 4, 5, 6]);
    node.votes(notar(1, 1), [7]);
    assert!(node.job().is_none(), "with those being checked, 70% decide no more than 60% do");
    node.votes(notar(1, 1), [8]);
    let second = node.job().unwrap();
    assert_eq!(signers(&second), [7, 8], "80% decide, whichever check ends first");
    assert_eq!(node.answer(START, second), [0; 0]);
    assert_eq!(node.certificates(), []);
    assert_eq!(node.answer(START, first), [0; 0]);
    assert_eq!(node.certificates(), [Statement::Fast(block(1, 1))]);
}

#[test]
fn votes_that_decide_nothing_are_checked_when_they_have_waited_long_enough() {
    let mut node = Node::new(1);
    node.votes(notar(1, 1), 1..3);
    node.vote(START.after(PATIENCE / 2), vote(notar(1, 1), 3)).unwrap();
    let due = START.after(PATIENCE);
    assert_eq!(node.checking.next_timeout(), Some(due));
    assert!(node.job_at(Time(due.0 - 1)).is_none());
    let job = node.job_at(due).unwrap();
    assert_eq!(signers(&job), [1, 2, 3]);
    assert_eq!(node.checking.next_timeout(), None);
    node.vote(due, vote(notar(1, 1), 4)).unwrap();
    node.answer(due, job);
    assert!(node.job_at(due).is_none());
    assert_eq!(node.checking.next_timeout(), Some(due.after(PATIENCE)));
    assert_eq!(signers(&node.job_at(due.after(PATIENCE)).unwrap()), [4]);
}

#[test]
fn a_check_that_takes_long_puts_off_what_is_overdue_but_no_timer_stays_behind() {
    let mut node = Node::new(1);
    node.votes(VotePayload::Skip(Slot(1)), 1..7);
    let running = node.job().unwrap();
    node.votes(notar(2, 1), [1]);
    let late = START.after(2 * PATIENCE);
    assert!(node.job_at(late).is_none());
    assert_eq!(node.checking.next_timeout(), None, "the end of the check comes first");
    node.answer(late, running);
    assert_eq!(signers(&node.job_at(late).unwrap()), [1]);
}

#[test]
fn in_a_slot_where_many_vote_otherwise_every_vote_is_checked() {
    let mut node = Node::new(4);
    node.votes(notar(1, 1), [1]);
    let timeout = node.consensus.next_timeout().unwrap();
    node.advance(timeout);
    assert!(node.job().is_none(), "this node has voted to skip, and 10% otherwise");
    node.votes(notar(1, 2), [2]);
    let jobs: Vec<_> = std::iter::from_fn(|| node.job()).map(|job| signers(&job)).collect();
    assert_eq!(jobs, [[1], [2]], "20% may make a block safe to notarize");
    node.votes(notar(1, 2), [3]);
    let (id, job) = node.job().unwrap();
    assert_eq!(signers(&(id, job)), [3], "at once, since it reaches 20%");
}

#[test]
fn what_makes_a_block_safe_to_notarize_is_never_waited_for() {
    // All orders of own vote and others' votes: the event must come as soon as the checks are done.
    for own_first in [true, false] {
        let mut node = Node::new(4);
        let timeout = node.consensus.next_timeout().unwrap();
        let own_votes = |node: &mut Node| {
            node.consensus.block_held(START, block(1, 1), BlockId::GENESIS);
            let voted = std::iter::from_fn(|| node.consensus.poll()).filter_map(|event| match event {
                ConsensusEvent::Vote(vote) => Some(vote.payload),
                _ => None,
            });
            let voted: Vec<_> = voted.collect();
            voted.iter().for_each(|vote| node.checking.own_vote(*vote, ValidatorIndex(0), &node.consensus));
            assert_eq!(voted, [notar(1, 1)]);
        };
        if own_first {
            own_votes(&mut node);
        }
        node.consensus.block_held(START, block(1, 2), BlockId::GENESIS);
        node.votes(notar(1, 2), 1..5);
        if !own_first {
            // The other version is held already, but this one is voted for.
            node.advance(timeout);
        }
        let mut fallback = false;
        while let Some(job) = node.job() {
            node.answer(timeout, job);
            fallback |= std::iter::from_fn(|| node.consensus.poll()).any(|event| {
                matches!(event, ConsensusEvent::Vote(vote) if vote.payload == VotePayload::NotarFallback(block(1, 2)))
            });
        }
        assert_eq!(fallback, own_first, "a node that voted for this very block needs no fallback vote");
    }
}

#[test]
fn votes_of_two_kinds_complete_a_certificate_together() {
    let mut node = Node::new(4);
    node.votes(notar(1, 1), 1..4);
    node.votes(VotePayload::NotarFallback(block(1, 1)), 4..6);
    assert!(node.job().is_none());
    node.votes(VotePayload::NotarFallback(block(1, 1)), [6]);
    let jobs = [node.job().unwrap(), node.job().unwrap()];
    assert_eq!(jobs.each_ref().map(signers), [vec![1, 2, 3], vec![4, 5, 6]]);
    for job in jobs {
        node.answer(START, job);
    }
    assert_eq!(node.certificates(), [Statement::NotarFallback(block(1, 1))]);
}

#[test]
fn what_is_certified_already_needs_no_votes() {
    let mut node = Node::new(4);
    node.certificate(certificate(Statement::Notarization(block(1, 1)), 1..7, true), 4).unwrap();
    node.check();
    node.votes(notar(1, 1), 1..8);
    assert!(node.job().is_none());
    node.votes(notar(1, 1), [8]);
    assert_eq!(signers(&node.job().unwrap()), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_certificate_that_votes_are_expected_to_prove_waits_for_them() {
    let mut node = Node::new(2);
    node.votes(notar(1, 1), 1..6);
    node.vote(START, forged(notar(1, 1), 6)).unwrap();
    let votes = node.job().unwrap();
    node.certificate(certificate(Statement::Notarization(block(1, 1)), 1..7, true), 4).unwrap();
    assert!(node.job().is_none());
    assert_eq!(node.answer(START, votes), [6]);
    let job = node.job().unwrap();
    assert!(matches!(job.1, CheckJob::Certificate { .. }), "one of the votes was wrong");
    node.answer(START, job);
    assert_eq!(node.certificates(), [Statement::Notarization(block(1, 1))]);
}

#[test]
fn what_decides_goes_first_then_certificates_then_the_rest() {
    let mut node = Node::new(1);
    node.votes(VotePayload::Final(Slot(4)), 1..7);
    let running = node.job().unwrap();
    node.votes(notar(2, 1), [8]);
    node.votes(notar(3, 1), 1..7);
    node.certificate(certificate(Statement::Skip(Slot(5)), 1..7, true), 4).unwrap();
    let late = START.after(PATIENCE);
    assert!(node.job_at(late).is_none(), "jobs are bounded");
    node.answer(late, running);
    let urgent = node.job_at(late).unwrap();
    assert_eq!(signers(&urgent), [1, 2, 3, 4, 5, 6]);
    node.answer(late, urgent);
    let certificate = node.job_at(late).unwrap();
    assert!(matches!(certificate.1, CheckJob::Certificate { .. }));
    node.answer(late, certificate);
    assert_eq!(signers(&node.job_at(late).unwrap()), [8]);
}

#[test]
fn a_large_batch_does_not_wait_to_grow_larger() {
    let mut node = Node::without_keys(1_000, 1);
    let signature = vote(notar(1, 1), 1).signature;
    let mut vote = |signer| {
        let vote = UnverifiedVote { payload: notar(1, 1), signer: ValidatorIndex(signer), signature };
        node.vote(START, vote).unwrap();
        node.job().map(|job| signers(&job).len())
    };
    assert!((1..LARGE_BATCH as u16).all(|signer| vote(signer).is_none()));
    assert_eq!(vote(LARGE_BATCH as u16), Some(LARGE_BATCH));
}

#[test]
fn votes_of_no_more_slots_are_kept_than_the_pool_keeps() {
    let mut node = Node::without_keys(2_000, 1);
    let signature = vote(notar(1, 1), 1).signature;
    for slot in (1..4_000).step_by(4) {
        node.consensus.certificate(
            START,
            crate::certificate::VerifiedCertificate::assume_checked(Certificate {
                statement: Statement::NotarFallback(block(slot + 2, 1)),
                signers: Signers::of(2_000, (0..2_000).map(ValidatorIndex)),
                fallback_signers: Signers::none(2_000),
                signature,
            }),
        );
        for slot in slot..slot + 4 {
            let payload = notar(slot, 1);
            let _ = node.vote(START, UnverifiedVote { payload, signer: ValidatorIndex(1), signature });
        }
    }
    assert!(node.checking.slots.len() <= node.consensus.vote_slots_max());
}

#[test]
fn defect_27_who_sends_a_wrong_signature_is_barred_for_a_while_and_nobody_else() {
    let mut node = Node::new(1);
    node.vote(START, forged(notar(2, 1), 5)).unwrap();
    node.votes(notar(2, 1), [2, 3, 4, 6]);
    node.votes(VotePayload::Skip(Slot(3)), [1, 2, 3, 4, 5]);
    node.votes(notar(2, 1), [7]);
    let batch = node.job().unwrap();
    assert_eq!(node.answer(START, batch), [5]);
    assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(4)), 5)), Err("vote_barred"));
    assert_eq!(node.certificate(certificate(Statement::Skip(Slot(5)), 1..7, true), 5), Err("certificate_barred"));
    node.votes(VotePayload::Skip(Slot(3)), [6]);
    let job = node.job().unwrap();
    assert_eq!(signers(&job), [1, 2, 3, 4, 6], "what it had waiting is gone");
    node.answer(START, job);
    for signer in [2, 3, 4, 6] {
        assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(4)), signer)), Ok(()), "the others go on");
    }
    let later = START.after(BAR);
    assert_eq!(node.vote(Time(later.0 - 1), vote(VotePayload::Skip(Slot(4)), 5)), Err("vote_barred"));
    assert_eq!(node.vote(later, vote(VotePayload::Skip(Slot(3)), 5)), Ok(()), "its place was given back");
}

#[test]
fn a_forged_conflict_does_not_free_the_place_of_the_vote_before() {
    for first_waits in [true, false] {
        let mut node = Node::new(1);
        node.votes(notar(1, 1), 1..6);
        if !first_waits {
            node.votes(notar(1, 1), [6]);
            node.check();
        }
        node.vote(START, forged(notar(1, 2), 5)).unwrap();
        let conflict = node.job().unwrap();
        assert!(matches!(conflict.1, CheckJob::Conflict { .. }));
        assert_eq!(node.answer(START, conflict), [5]);
        let later = START.after(BAR);
        assert_eq!(node.vote(later, vote(notar(1, 1), 5)), Err("vote_redundant"));
        assert_eq!(evidence(&mut node), 0);
    }
}

#[test]
fn a_proven_conflict_is_evidence_and_no_reason_to_bar() {
    // Whether the first vote waits, is being checked, or was checked when the other one comes.
    for stage in 0..3 {
        let mut node = Node::new(2);
        node.votes(notar(1, 1), [1, 2, 3, 4, 5]);
        if stage > 0 {
            node.votes(notar(1, 1), [6]);
        }
        let batch = if stage > 0 { node.job() } else { None };
        if stage == 2 {
            batch.map(|batch| node.answer(START, batch));
            node.vote(START, vote(VotePayload::Skip(Slot(1)), 5)).unwrap();
        } else {
            node.vote(START, vote(VotePayload::Skip(Slot(1)), 5)).unwrap();
            if let Some(batch) = batch {
                assert!(node.job().is_none(), "its batch must stay whole");
                node.answer(START, batch);
            }
        }
        assert!(node.check().is_empty());
        assert_eq!(evidence(&mut node), 1, "stage {stage}");
        assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(2)), 5)), Ok(()));
        if stage == 0 {
            node.votes(notar(1, 1), [6]);
            let rest = node.job().unwrap();
            assert_eq!(signers(&rest), [1, 2, 3, 4, 6], "it was checked by itself, and counts");
            node.answer(START, rest);
            assert_eq!(node.certificates(), [Statement::Notarization(block(1, 1))]);
        }
    }
}

#[test]
fn a_vote_after_a_wrong_one_is_no_conflict() {
    let mut node = Node::new(2);
    node.votes(notar(1, 1), [1, 2, 3, 4, 6]);
    node.vote(START, forged(notar(1, 1), 5)).unwrap();
    let batch = node.job().unwrap();
    node.vote(START, vote(VotePayload::Skip(Slot(1)), 5)).unwrap();
    assert_eq!(node.answer(START, batch), [5]);
    assert!(node.job().is_none(), "it is gone with all else that the validator had sent");
    let later = START.after(BAR);
    assert_eq!(node.vote(later, vote(VotePayload::Skip(Slot(1)), 5)), Ok(()));
    assert!(node.checking.conflicts.is_empty(), "it takes the place of the wrong one");
    assert_eq!(evidence(&mut node), 0);
}

#[test]
fn defect_11_a_certificate_that_another_one_implies_is_dropped_unchecked() {
    let mut node = Node::new(2);
    let block = BlockId { slot: Slot(1), hash: Hash([1; 32]) };
    let fast = Statement::Fast(block);
    node.certificate(certificate(fast, 0..8, true), 1).unwrap();
    let checked = node.job().unwrap();
    node.certificate(certificate(fast, 1..9, true), 2).unwrap();
    node.certificate(certificate(Statement::Notarization(block), 1..8, true), 2).unwrap();
    let weaker = node.job().unwrap();
    assert!(node.job().is_none());
    node.answer(START, checked);
    assert_eq!(node.certificates(), [fast]);
    node.answer(START, weaker);
    assert!(node.job().is_none() && node.certificates().is_empty());
    let late = certificate(Statement::Notarization(block), 1..8, true);
    assert_eq!(node.certificate(late, 3), Err("certificate_not_wanted"));
}

#[test]
fn what_names_no_member_of_its_slots_epoch_is_dropped_by_that_reason() {
    let stakes = |stakes: [u64; 10]| stakes.map(Stake).to_vec();
    let later = vec![(1, stakes([1, 1, 1, 1, 1, 1, 1, 1, 0, 1]))];
    let epochs = Epochs::new(8, stakes([1, 1, 1, 1, 1, 1, 1, 1, 1, 0]), later, EpochSeed([1; 32])).unwrap();
    let mut node = Node::with_stakes(Stakes::of_epochs(Arc::new(epochs)), 1);
    assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(7)), 9)), Err("vote_not_member"));
    assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(8)), 9)), Ok(()));
    assert_eq!(node.vote(START, vote(VotePayload::Skip(Slot(8)), 8)), Err("vote_not_member"));
    let mut skip = |slot, signers| node.certificate(certificate(Statement::Skip(Slot(slot)), signers, true), 2);
    assert_eq!(skip(7, 3..10), Err("certificate_not_member"));
    assert_eq!(skip(7, 3..8), Err("certificate_stake"));
    assert_eq!((skip(7, 3..9), skip(8, 3..9)), (Ok(()), Err("certificate_not_member")));
}

#[test]
fn a_flood_of_false_certificates_costs_one_check() {
    let mut node = Node::new(1);
    let mut taken = 0;
    for number in 1..=1_000_u16 {
        let block = BlockId { slot: Slot(1), hash: Hash([(number % 251) as u8 + 1; 32]) };
        let mut false_certificate = certificate(Statement::Fast(block), 0..1, false);
        false_certificate.0.signers = Signers::of(10, (0..9).map(ValidatorIndex));
        taken += usize::from(node.certificate(false_certificate, 4).is_ok());
        assert!(node.checking.certificates.len() <= CERTIFICATES_PER_SENDER_MAX);
    }
    assert!(taken >= CERTIFICATES_PER_SENDER_MAX);
    let genuine = Statement::Skip(Slot(1));
    node.certificate(certificate(genuine, 1..8, true), 6).unwrap();
    let job = node.job().unwrap();
    assert_eq!(node.answer(START, job), [4]);
    let job = node.job().unwrap();
    assert!(node.answer(START, job).is_empty());
    assert_eq!(node.certificates(), [genuine]);
    assert!(node.job().is_none());
}

#[test]
fn a_vote_to_be_checked_again_is_not_twice_in_a_batch() {
    let mut node = Node::new(1);
    node.vote(START, vote(notar(1, 1), 1)).unwrap();
    node.checking.recheck(START, &[vote(notar(1, 1), 1), vote(notar(1, 1), 2)], &node.consensus);
    let job = node.job_at(START.after(PATIENCE)).unwrap();
    assert!(node.answer(START, job).is_empty(), "a verifier panics at a signer that is twice in a batch");
}

#[test]
fn a_verdict_that_nobody_asked_for_changes_nothing() {
    let mut node = Node::new(1);
    let verdict = CheckVerdict::Votes { verified: Vec::new(), rejected: vec![vote(notar(1, 1), 3)] };
    let answered = node.checking.verdict(START, JobId(77), verdict, &mut node.consensus);
    assert_eq!(answered, Err("verdict_without_job"));
    assert_eq!(node.vote(START, vote(notar(1, 1), 3)), Ok(()), "nobody is barred");
}

#[test]
fn the_order_in_which_votes_come_and_checks_end_makes_no_difference() {
    for seed in 1..=60_u64 {
        let mut state = seed;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        let mut node = Node::new(1 + seed as usize % 5);
        // Six are right about a block, one lies, one of the six contradicts itself, and some votes decide nothing.
        let mut coming: Vec<_> = (1..7).map(|signer| vote(notar(1, 1), signer)).collect();
        coming.push(forged(notar(1, 1), 9));
        coming.push(vote(VotePayload::Skip(Slot(1)), 5));
        coming.extend((1..4).map(|signer| vote(VotePayload::Final(Slot(1)), signer)));
        coming.extend((2..8).map(|signer| vote(VotePayload::Skip(Slot(2)), signer)));
        coming.push(forged(VotePayload::SkipFallback(Slot(2)), 8));
        let (mut running, mut barred) = (Vec::new(), Vec::new());
        let (mut now, mut stored) = (START, Vec::new());
        let mut accused = 0;
        while now < START.after(2 * PATIENCE) {
            match below(3) {
                0 | 1 if !coming.is_empty() => {
                    let next = coming.swap_remove(below(coming.len()));
                    let _ = node.vote(now, next);
                }
                _ if !running.is_empty() => {
                    let job = running.swap_remove(below(running.len()));
                    barred.extend(node.answer(now, job));
                }
                _ if coming.is_empty() => now = now.after(PATIENCE / 4),
                _ => {}
            }
            running.extend(std::iter::from_fn(|| node.job_at(now)));
            while let Some(event) = node.consensus.poll() {
                match event {
                    ConsensusEvent::Certificate(certificate) => stored.push(certificate.statement),
                    ConsensusEvent::Evidence(evidence) => {
                        assert_eq!(evidence.validator, ValidatorIndex(5));
                        accused += 1;
                    }
                    _ => {}
                }
            }
        }
        assert!(running.is_empty(), "seed {seed}");
        barred.sort_unstable();
        // What validator 5 sent first takes the place; the other one is the conflict, and then the block is one short.
        let certain = [Statement::Notarization(block(1, 1)), Statement::Skip(Slot(2))];
        assert!(stored.iter().all(|statement| certain.contains(statement)), "seed {seed}: {stored:?}");
        assert!(stored.contains(&certain[1]), "seed {seed}: {stored:?}");
        assert_eq!((barred, accused), (vec![8, 9], 1), "seed {seed}");
    }
}
