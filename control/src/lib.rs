//! The pure part of an Alpenglow node: votes, certificates, Pool, Votor, Blokstor, block production, transactions. No
//! socket, file, thread, clock or random source is in it, so the same code runs in a node and in virtual time.
//!
//! # How it is driven
//! [`control::Control`] is one node's core. Whoever drives it has four verbs:
//! - [`Control::restore`](control::Control::restore) at the start, or [`Control::new`](control::Control::new) where
//!   there is never a restart; outputs may be waiting right away.
//! - [`handle(now, input)`](control::Control::handle) for each thing that happens. `now` never goes back. Timers of
//!   the voting rules fire on [`Input::Tick`](input::Input::Tick) only: a driver that was held up takes in what waits
//!   in its queues first, then ticks, and so does not skip a block that is already there.
//! - [`poll_output()`](control::Control::poll_output) until it gives nothing, after each input, or after a few.
//!   Outputs are to be carried out in order. Messages may be lost, as on a network. A job
//!   ([`Output::Check`](output::Output::Check)) must be answered, a slice to send reported as sent, and a final block
//!   handed on: these come once.
//! - [`next_timeout()`](control::Control::next_timeout): when a tick is due if nothing happens before. After a tick
//!   it lies ahead.
//!
//! Nothing blocks and nothing is slow, except hashing transactions, and signing an own vote (a quarter of a
//! millisecond). Signatures of others are checked elsewhere, by a [`checker::Checker`]. Everything taken in is
//! bounded; what is dropped is counted by reason ([`counters::Counters`]). No input makes it panic; an assertion that
//! fails is a defect of this crate.
//!
//! # The parts
//! - [`consensus`]: Pool (what is certified, ready, final) and Votor (what to vote), on [`vote`], [`certificate`],
//!   [`bls`].
//! - [`checking`]: which votes and certificates are worth a check, and in what order.
//! - [`blokstor`]: slices to blocks, and final blocks to the application, in chain order. [`block`] is what is in a
//!   slice.
//! - [`repair`]: blocks that did not come through Rotor, from others, and for others.
//! - [`production`] and [`transactions`]: the leader's part, and how transactions reach leaders.
//! - [`evidence`]: proofs of what no correct validator signs, handed out as [`Output::Proof`](output::Output::Proof).
//! - [`vote_record`]: what is written down before it is said, so that a restart never signs twice.
//! - `standstill`: saying everything again when nothing is finalized.
//!
//! # The rules, and where they go beyond the paper
//! The rules are those of "Solana Alpenglow Consensus", white paper v1.1. What it leaves open is settled so:
//! - Slot 1 counts as the first slot of window 0, with genesis (slot 0) as its ready parent; timers and leader run
//!   from the start.
//! - A block is judged when its slices are there up to the last one, by those alone: the same verdict everywhere. Its
//!   parent must lie before it, in the very slot before it outside a window's first slot; it may be changed once, in
//!   a later slice of a window's first slot, to another one.
//! - A leader that contradicts itself gets no notarization vote in that slot from those who saw it in time; all else
//!   goes on by the usual rules, because nodes see contradictions differently. Held is the first version that is
//!   complete, and beside it any that is certified or wanted for a notar-fallback vote.
//! - Every slot ends alike on every correct node, whatever its leader signed: with a block that is complete and
//!   certified, or skipped because no node voted for one (it is dead, contradicts itself, or never ends). Proofs of it
//!   are kept by those who saw it; they do not travel, and nothing is decided by them.
//! - A certificate that a stronger one implies is neither made nor stored; fast-finalization counts as notarization.
//! - Outside a window's first slot a finalized parent stands in for the own notarization vote on it.
//! - Slots up to the highest finalized one are closed. Votes are taken up to 40 slots past the highest of that one
//!   and the highest ParentReady, shreds up to the end of the second window after it. At the lower end shreds are
//!   wanted until the slot is handed to the application, so that a slow node completes what others finalized a moment
//!   ago.
//! - Repair begins when no slice of the block's slot came for a quarter of delta_block, or at once if the slot is
//!   closed or this node has voted in it, which it has when its timer fired.
//! - A node that joins late learns from the certificates of new slots, which are taken for any slot, where the chain
//!   is, and fetches that block. Its first slice names its parent, so that the ancestors are fetched beside it. Those
//!   more than 64 slots back are given up: the gap below.
//! - A final block that never arrives is waited for a bounded number of slots; then the application goes on after a
//!   gap, and is told ([`Output::FinalizedGap`](output::Output::FinalizedGap)).
//! - A window's leader begins when it holds the block of the slot before, or has ParentReady. Until ParentReady it uses
//!   at most half of its first block's slices. If its parent is not among the ready ones then, it goes on from the
//!   first that is, packs everything again, and the rest of the block still takes delta_block. Deadlines are absolute.
//! - A leader packs nothing while a block of its chain after the last one handed over is not held: it would repeat what
//!   is in there.
//! - After 10 s without a newly finalized slot, certificates and own votes are sent again, spread out, from the start
//!   on even if nothing was ever finalized. So long as that lasts delta_timeout grows by 5% with each window, up to an
//!   hour, and a node that gets a finalization counts as if the windows that wait had begun just then. delta_block
//!   stays.
//! - Who sends a wrong signature is ignored for 10 s, not longer: a ban of an epoch could split a cluster over one
//!   defect.

mod assembly;
pub mod block;
pub mod block_log;
pub mod blokstor;
pub mod bls;
pub mod certificate;
pub mod checker;
pub mod checking;
pub mod consensus;
pub mod control;
pub mod counters;
mod dynamic_timeout;
pub mod evidence;
pub mod input;
pub mod message;
pub mod output;
pub mod payload_hash;
mod pool;
pub mod production;
pub mod repair;
pub mod stakes;
mod standstill;
mod timers;
pub mod transactions;
pub mod vote;
pub mod vote_record;
pub mod voting_keys;
mod votor;
