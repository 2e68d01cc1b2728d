//! Validators that lie in votes and certificates.

use std::sync::Arc;

use alpenglow_control::bls::{Signature, SignatureSum};
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::message::Message;
use alpenglow_control::vote::{Vote, VotePayload};
use alpenglow_rotor::types::{BlockId, Hash, ValidatorIndex};
use rand_chacha::rand_core::Rng;

use super::super::cluster::{CLUSTER, Cluster};
use super::super::fault::{Fault, Nodes};
use super::super::network::MS;
use super::super::world::{Datagram, World};

/// How many blocks that do not exist a spammer votes for.
const SPAM_HASHES: u8 = 3;

impl World {
    /// Sends a node's vote to those whom it is for, and a liar's other ones.
    pub(in super::super) fn send_vote(&mut self, from: usize, vote: &Vote) {
        let everybody: Nodes = (0..self.nodes.len()).collect();
        let mut sent = vec![(vote.payload, everybody)];
        for index in 0..self.faults.len() {
            match self.faults[index] {
                Fault::SelectiveVote { node, to } if node == from => {
                    self.oracle.happened.count("votes_held_back");
                    sent.iter_mut().for_each(|(_, receivers)| *receivers = to);
                }
                Fault::DoubleVote { node } if node == from => {
                    if let Some(other) = self.excluded_by(from, vote.payload) {
                        self.oracle.happened.count("votes_doubled");
                        sent.push((other, everybody));
                    }
                }
                Fault::SplitVote { node, others_to } if node == from => {
                    let firsts: Nodes = everybody.iter().filter(|node| !others_to.contains(*node)).collect();
                    sent = self.split(vote.payload).into_iter().zip([firsts, others_to]).collect();
                }
                Fault::SpamFallback { node } if node == from => {
                    let spam = self.spam(vote.payload);
                    self.oracle.happened.add("fallback_spam", spam.len() as u64);
                    sent.extend(spam.into_iter().map(|payload| (payload, everybody)));
                }
                _ => {}
            }
        }
        if self.oracle.is_liar(from) {
            // It enters the certificates that the liar makes.
            self.oracle.liar_voted(from, vote.payload);
        }
        for (payload, receivers) in sent {
            if self.oracle.is_liar(from) {
                self.oracle.liar_voted(from, payload);
            }
            let vote = if payload == vote.payload { *vote } else { signed(&self.cluster, from, payload) };
            let body: Arc<[u8]> = Message::Vote(vote).encode().into();
            for to in receivers.iter().filter(|&to| to != from) {
                let later_ns = self.held_back_ns(from, to);
                self.send(from, to, later_ns, Datagram::Vote(Arc::clone(&body)));
            }
        }
    }

    /// How much longer a vote or a certificate takes.
    fn held_back_ns(&mut self, by: usize, receiver: usize) -> u64 {
        let now_ms = self.now_ms();
        let mut held_ms = 0;
        for fault in &self.faults {
            if let Fault::SlowVotes { from, to, by_ms, during } = *fault
                && from.contains(by)
                && to.contains(receiver)
                && during.contains(now_ms)
            {
                self.oracle.happened.count("messages_held_back");
                held_ms = by_ms + self.random.next_u64() % by_ms;
            }
        }
        held_ms * MS
    }

    /// A vote that excludes this first vote.
    fn excluded_by(&self, node: usize, vote: VotePayload) -> Option<VotePayload> {
        match vote {
            VotePayload::Notar(block) => Some(VotePayload::Skip(block.slot)),
            VotePayload::Skip(slot) => {
                let made_up = BlockId { slot, hash: Hash([node as u8; 32]) };
                Some(VotePayload::Notar(self.block_of(slot).unwrap_or(made_up)))
            }
            _ => None,
        }
    }

    /// Of what this vote says, the one for some and the other for others: a block and another, or a block and none.
    /// Neither hears of a vote that would show to which side this node belongs.
    fn split(&mut self, vote: VotePayload) -> Vec<VotePayload> {
        let slot = vote.slot();
        let blocks: Vec<BlockId> = self.oracle.blocks().filter(|block| block.slot == slot).take(2).collect();
        let pair = match (vote, blocks.as_slice()) {
            (VotePayload::Final(_), _) => Vec::new(),
            (VotePayload::Notar(_) | VotePayload::Skip(_), [one, other]) if !slot.0.is_multiple_of(3) => {
                vec![VotePayload::Notar(*one), VotePayload::Notar(*other)]
            }
            (VotePayload::Notar(block), _) => vec![vote, VotePayload::Skip(block.slot)],
            (VotePayload::Skip(_), [one, ..]) => vec![VotePayload::Notar(*one), vote],
            _ => vec![vote, vote],
        };
        self.oracle.happened.count("votes_split");
        pair
    }

    fn spam(&self, vote: VotePayload) -> Vec<VotePayload> {
        if !matches!(vote, VotePayload::Notar(_) | VotePayload::Skip(_)) {
            return Vec::new();
        }
        let slot = vote.slot();
        let made_up = (1..=SPAM_HASHES).map(|byte| BlockId { slot, hash: Hash([byte; 32]) });
        let blocks = self.block_of(slot).into_iter().chain(made_up);
        let fallbacks = blocks.map(VotePayload::NotarFallback).filter(|spam| spam.hash() != vote.hash());
        fallbacks.chain([VotePayload::SkipFallback(slot), VotePayload::Final(slot)]).collect()
    }

    pub(in super::super) fn send_certificate(&mut self, from: usize, certificate: &Arc<Certificate>) {
        let mut sent = vec![Arc::clone(certificate)];
        if self.faults.contains(&Fault::ShortCertificates { node: from }) {
            sent = self.short_certificates(from, certificate).into_iter().map(Arc::new).collect();
            self.oracle.happened.add("short_certificates", sent.len() as u64);
        }
        for certificate in sent {
            let body: Arc<[u8]> = Message::Certificate(certificate).encode().into();
            for to in (0..self.nodes.len()).filter(|&to| to != from) {
                let later_ns = self.held_back_ns(from, to);
                self.send(from, to, later_ns, Datagram::Certificate(Arc::clone(&body)));
            }
        }
    }

    /// The certificate with signers left out until it is short of its quorum, and others that the liar signs alone. All
    /// signatures are right.
    fn short_certificates(&mut self, from: usize, certificate: &Certificate) -> Vec<Certificate> {
        let slot = certificate.statement.slot();
        let stakes = self.cluster.table.at(slot);
        let (total, mut signed) = (stakes.iter().sum::<u64>(), 0);
        let mut fitting = |signers: &Signers| {
            let few = signers.iter().take_while(|signer| {
                signed += stakes[signer.get()];
                5 * signed < 3 * total
            });
            few.collect::<Vec<_>>()
        };
        let (signers, fallback_signers) = (fitting(&certificate.signers), fitting(&certificate.fallback_signers));
        let own = ValidatorIndex(from as u16);
        let alone = [Statement::Finalization(slot), Statement::Skip(slot)];
        alone.iter().for_each(|statement| self.oracle.liar_voted(from, statement.payload()));
        let alone = alone.map(|statement| self.certificate(statement, &[own], &[]));
        let short = self.certificate(certificate.statement, &signers, &fallback_signers);
        std::iter::once(short).chain(alone).flatten().collect()
    }

    /// A certificate of these validators, who signed what it says; none of nobody.
    fn certificate(
        &self,
        statement: Statement,
        signers: &[ValidatorIndex],
        fallback_signers: &[ValidatorIndex],
    ) -> Option<Certificate> {
        let sign = |payload: Option<VotePayload>, signers: &[ValidatorIndex]| -> Vec<Signature> {
            let hashed = payload.map(|payload| payload.hashed_in(CLUSTER, self.cluster.keys.scheme()));
            let secret = |signer: &ValidatorIndex| self.cluster.scheme.secret(signer.get());
            hashed.iter().flat_map(|hashed| signers.iter().map(move |signer| secret(signer).sign(hashed))).collect()
        };
        let of_first = sign(Some(statement.payload()), signers);
        let signatures = [of_first, sign(statement.fallback_payload(), fallback_signers)].concat();
        let of = |signers: &[ValidatorIndex]| Signers::of(self.nodes.len(), signers.iter().copied());
        (!signatures.is_empty()).then(|| Certificate {
            statement,
            signers: of(signers),
            fallback_signers: of(fallback_signers),
            signature: SignatureSum::of(&signatures).to_bytes(),
        })
    }
}

fn signed(cluster: &Cluster, node: usize, payload: VotePayload) -> Vote {
    let hashed = payload.hashed_in(CLUSTER, cluster.keys.scheme());
    let signature = cluster.scheme.secret(node).sign(&hashed).to_bytes();
    Vote { payload, signer: ValidatorIndex(node as u16), signature }
}
