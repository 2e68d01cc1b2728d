//! Slots in which everybody votes: what a node uses for them, and how soon it acts on the vote that decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use alpenglow_control::certificate::{CertificateKind, Statement};
use alpenglow_control::vote::VotePayload;
use alpenglow_dataplane::datagram::HEADER_BYTES;
use alpenglow_rotor::types::{BlockId, Slot, Time};

use super::network::Datagrams;
use super::node::{Node, Usage};
use super::plain;
use super::usage::live_bytes;
use super::validators::Validators;
use crate::fixture::shuffled;

/// What the slots of a run are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// Percent of the validators that skip first, and follow with a notar-fallback vote; the others vote for the block,
    /// and then to finalize it.
    skip_percent: usize,
    /// Percent of the validators whose signatures are wrong.
    invalid_percent: usize,
}

impl Scenario {
    /// Everybody votes twice, over four payloads, and the block is final after two rounds.
    pub(super) fn slow(invalid_percent: usize) -> Self {
        // 70% of the stake must remain right about the block.
        let notar_percent = (7_000_usize.div_ceil(100 - invalid_percent)).min(100);
        Self { skip_percent: 100 - notar_percent, invalid_percent }
    }

    /// Everybody votes for the block, which is final after one round.
    pub(super) const fn fast(invalid_percent: usize) -> Self {
        Self { skip_percent: 0, invalid_percent }
    }

    const fn lies(self, validator: usize) -> bool {
        validator * self.invalid_percent % 100 + self.invalid_percent >= 100
    }

    /// Who votes, in the order of arrival, of all but the node itself.
    fn voters(self, validators: usize, slot: u64) -> (Vec<usize>, Vec<usize>) {
        let order = shuffled(validators - 1, slot);
        let skip = validators * self.skip_percent / 100;
        (order[skip..].to_vec(), order[..skip].to_vec())
    }
}

/// What one slot took.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotCost {
    pub(super) votes: usize,
    pub(super) usage: Usage,
    /// Memory held for it before it was decided.
    pub(super) bytes: usize,
    pub(super) barred: usize,
}

/// Lets one slot happen, its block after `parent`.
pub(super) fn slot(
    node: &mut Node,
    validators: &Validators,
    scenario: Scenario,
    slot: u64,
    parent: BlockId,
) -> (BlockId, SlotCost) {
    let (notar, skip) = scenario.voters(validators.len(), slot);
    let block = block_of(slot);
    let of = |payload, signers: &[usize]| signers.iter().map(|&signer| (payload, signer)).collect::<Vec<_>>();
    let mixed = [of(VotePayload::Notar(block), &notar), of(VotePayload::Skip(Slot(slot)), &skip)].concat();
    let order = shuffled(mixed.len(), slot);
    let first: Vec<_> = order.into_iter().map(|at| mixed[at]).collect();
    let second = of(VotePayload::NotarFallback(block), &skip);
    let third = if skip.is_empty() { Vec::new() } else { of(VotePayload::Final(Slot(slot)), &notar) };
    let votes = first.len() + second.len() + third.len();
    let lies = |signer| scenario.lies(signer);
    // Kinds with a hash are as long as those without.
    let waves = [first, second, third].map(|wave| datagrams(validators.votes(&wave, lies)));
    let (barred, bytes) = (node.seen.barred, live_bytes());
    let before = node.usage();
    let held = node.hold(slot, parent);
    assert!(held == block, "the same block");
    node.send(&waves[0]);
    node.send(&waves[1]);
    node.rest();
    let bytes = live_bytes().saturating_sub(bytes);
    node.send(&waves[2]);
    node.rest();
    let usage = node.usage().since(before);
    assert!(node.seen.decided >= Slot(slot), "slot {slot} is not decided");
    check_certificates(node, validators);
    node.seen.votes.clear();
    (block, SlotCost { votes, usage, bytes, barred: node.seen.barred - barred })
}

/// How soon a node acts on a vote that decides when nothing else is under way, in microseconds since it arrived.
#[derive(Debug, Default)]
pub(super) struct Reactions {
    pub(super) certificate_us: Vec<f64>,
    pub(super) vote_us: Vec<f64>,
}

/// One slot, vote by vote up to both thresholds.
pub(super) fn reactions(
    node: &mut Node,
    validators: &Validators,
    slot: u64,
    parent: BlockId,
    reactions: &mut Reactions,
) -> BlockId {
    let block = node.hold(slot, parent);
    assert_eq!(node.seen.votes.last().map(|(_, vote)| *vote), Some(VotePayload::Notar(block)));
    let order = shuffled(validators.len() - 1, slot);
    // The node's own vote is one of them.
    let needed = |percent: usize| (validators.len() * percent).div_ceil(100) - 1;
    let votes: Vec<_> = order[..needed(80)].iter().map(|&signer| (VotePayload::Notar(block), signer)).collect();
    let mut done = 0;
    for (percent, kind) in [(60, CertificateKind::Notarization), (80, CertificateKind::Fast)] {
        let deciding = needed(percent) - 1;
        node.send(&datagrams(validators.votes(&votes[done..deciding], |_| false)));
        node.rest();
        assert!(node.seen.certificates.iter().all(|(_, made)| made.statement.kind() != kind), "too early");
        let last = datagrams(validators.votes(&votes[deciding..=deciding], |_| false));
        node.send(&last);
        node.rest();
        let since = |at: Time| (at.0 - node.arrived.0) as f64 / 1e3;
        let made = node.seen.certificates.iter().find(|(_, made)| made.statement.kind() == kind);
        reactions.certificate_us.push(since(made.expect("the deciding vote was sent").0));
        if kind == CertificateKind::Notarization {
            let (at, vote) = node.seen.votes.last().expect("it has voted");
            assert_eq!(*vote, VotePayload::Final(Slot(slot)));
            reactions.vote_us.push(since(*at));
        }
        done = deciding + 1;
    }
    check_certificates(node, validators);
    block
}

/// Every certificate that was made holds, by plain blst.
fn check_certificates(node: &mut Node, validators: &Validators) {
    assert!(!node.seen.certificates.is_empty());
    for (_, certificate) in node.seen.certificates.drain(..) {
        assert!(plain::holds(&certificate, &validators.plain_keys), "{:?}", certificate.statement);
    }
}

/// The block that [`Node::hold`] makes.
fn block_of(slot: u64) -> BlockId {
    let root = alpenglow_rotor::types::Hash([slot as u8 + 1; 32]);
    BlockId { slot: Slot(slot), hash: alpenglow_rotor::merkle::block_hash(&[root]) }
}

fn datagrams(buffers: Vec<Vec<u8>>) -> Datagrams {
    Datagrams { buffers: Arc::new(buffers), datagram_bytes: HEADER_BYTES + 137 }
}

/// What a slot must take at least: all its votes parsed and added up once, one check for each payload, and the own
/// votes.
pub(super) fn floor_us(floors: &plain::Floors, validators: usize, scenario: Scenario) -> BTreeMap<String, f64> {
    let skip = validators * scenario.skip_percent / 100;
    let payloads: Vec<usize> =
        if skip == 0 { vec![validators] } else { vec![validators - skip, skip, skip, validators - skip] };
    let votes: usize = payloads.iter().sum();
    let keys: usize = payloads.iter().map(|count| (*count).min(validators - count)).sum();
    let own = if skip == 0 { 1.0 } else { 2.0 };
    BTreeMap::from([
        ("floor_signatures_us".into(), votes as f64 * (floors.parse_signature + floors.add_signature)),
        ("floor_keys_us".into(), keys as f64 * floors.add_key),
        ("floor_checks_us".into(), payloads.len() as f64 * floors.verify()),
        ("floor_signing_us".into(), own * floors.sign),
    ])
}

/// Statement of the certificate that is received.
pub(super) fn received_statement() -> Statement {
    Statement::Notarization(block_of(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_lie_as_were_asked_for() {
        for percent in 0..=15 {
            let liars = (0..1_000).filter(|&validator| Scenario::slow(percent).lies(validator)).count();
            assert_eq!(liars, 10 * percent);
        }
    }
}
