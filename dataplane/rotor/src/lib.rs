//! The pure part of Rotor (paper §2.2): what a shred is, how a slice becomes shreds and shreds become a slice again,
//! and which validator relays which shred. No network, no clock, no thread; nothing here allocates once it is set up.
//!
//! # A shred's journey
//!
//! A [`Slice`](slice::Slice) starts as a payload in the leader's hands. The [`Shredder`](shredder::Shredder)
//!
//! 1. lays out frame and payload over gamma data shreds, in the datagrams that will leave,
//! 2. computes the others with the [`ErasureCode`](erasure::ErasureCode): any gamma of Gamma pieces determine all,
//! 3. hashes all Gamma of them into a [Merkle tree](merkle), and
//! 4. [signs](signature::SignedRoot) slot, slice, last flag and the tree's root, once for all shreds.
//!
//! Shred `i` goes to the `i`-th of the relays that the [`RelaySampler`](sampling::RelaySampler) draws for the slice,
//! the same ones on every node. Whoever receives it reads it in place as a [`ShredView`](shred::ShredView) and hands it
//! to the [`Assembler`](assembler::Assembler), with the key of the leader that the
//! [`LeaderSchedule`](schedule::LeaderSchedule) names for its slot:
//!
//! 5. [`verify`](assembler::Assembler::verify): the first shred of a slice costs a signature check and a Merkle path,
//!    each further one a leaf and as much of its path as is not known yet, and after decoding a comparison of bytes. Of
//!    shreds that came together [`hash_leaves`](assembler::Assembler::hash_leaves) hashes the leaves at once;
//! 6. [`claim_relay`](assembler::Assembler::claim_relay): the relay passes it on, once, before anything else happens;
//! 7. [`insert`](assembler::Assembler::insert): its data is copied to its place in the slice's memory;
//! 8. [`decode`](assembler::Assembler::decode): with gamma shreds the others are computed, hashed, and the root
//!    compared. A slice comes out whose [payload](slice::SlicePayload) is a view of that memory, or a
//!    [defect](assembler::MalformedSlice) that kills the block everywhere.
//!
//! The roots of a block's slices, in order, make the [block hash](merkle::block_hash).
//!
//! # Invariants
//!
//! - Nothing is kept for a slice before its leader's signature was checked, and no sender can make a node check
//!   signatures without end.
//! - Whoever decodes a slice under a root gets the same payload, or the same verdict that there is none.
//! - A payload with its leader's stamp has exactly one root.
//! - Bytes from outside never panic: they are a shred or a [`ShredError`](shred::ShredError), and then a
//!   [`Reject`](assembler::Reject) or what they claim to be.

pub mod assembler;
mod draw;
pub mod epochs;
pub mod erasure;
pub mod leader_key;
pub mod merkle;
pub mod parameters;
pub mod recoder;
pub mod sampling;
pub mod schedule;
pub mod sha256_lanes;
pub mod shred;
pub mod shredder;
pub mod signature;
pub mod signer;
pub mod slice;
pub mod types;
pub mod validators;
