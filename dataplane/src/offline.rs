//! A shard's computations without its ring and socket: datagrams in memory, in and out. What a shard does with a slice
//! or a buffer can be measured with it alone, without the kernel's share.

use std::sync::Arc;

use alpenglow_rotor::assembler::Assembler;
use alpenglow_rotor::shredder::{Shredded, Shredder};
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::{SliceId, SlicePayload};
use alpenglow_rotor::types::Time;

use crate::auth::PairwiseKeys;
use crate::buffers::Received;
use crate::clock;
use crate::config::{DataplaneConfig, StartError};
use crate::counters::Counters;
use crate::encode::{Encoder, SliceOrder};
use crate::gate::Gate;
use crate::intake::{Intake, IntakeParts};
use crate::letterhead::Letterhead;
use crate::limits::{Limits, Source};
use crate::lineup::Lineups;
use crate::link::{FromShard, Horizon, ShardLink, link};
use crate::wake::ShardWaker;

/// The leader's part: from a slice to its datagrams.
pub struct OfflineEncoder {
    encoder: Encoder,
    lineups: Lineups,
    letterhead: Letterhead,
    buffer: Box<[u8]>,
}

impl OfflineEncoder {
    /// For the node that `config` describes.
    ///
    /// # Errors
    /// [`StartError`] if a shard could not be started with `config` either.
    pub fn new(config: &DataplaneConfig) -> Result<Self, StartError> {
        config.check()?;
        let keys = Arc::new(PairwiseKeys::derive(&config.identity, &config.validators, config.cluster, config.own)?);
        let shredder = Shredder::with_kernel(config.coding, config.cluster, config.kernel);
        Ok(Self {
            encoder: Encoder::new(config.coding, shredder, SliceSigner::new(&config.identity)),
            lineups: Lineups::new(Arc::clone(&config.sampler), Arc::clone(&config.schedule)),
            letterhead: Letterhead::new(config.cluster, config.own, keys),
            buffer: vec![0; Encoder::buffer_bytes(&config.coding)].into(),
        })
    }

    /// Everything that a shard does before it sends a slice that this node leads: draws the relays, cuts the slice into
    /// shreds, signs them, and writes the datagrams, each with its header and MAC for its relay; those that this node
    /// relays itself get theirs when they are sent.
    pub fn encode(&mut self, id: SliceId, is_last: bool, payload: SlicePayload) -> Shredded {
        let order = SliceOrder { id, is_last, payload };
        self.encoder.write(&order, self.lineups.of(id), &mut self.buffer, &self.letterhead).shredded
    }

    /// The datagrams of the last slice, as they lie in the buffer, and whatever lies behind them.
    #[must_use]
    pub fn datagrams(&self) -> &[u8] {
        &self.buffer
    }
}

/// The receiver's part: from datagrams to slices.
pub struct OfflineReceiver {
    intake: Intake,
    link: ShardLink,
    counters: Arc<Counters>,
}

impl OfflineReceiver {
    /// For the node that `config` describes, as its only shard.
    ///
    /// # Errors
    /// [`StartError`] if a shard could not be started with `config` either.
    pub fn new(config: &DataplaneConfig, horizon: Arc<Horizon>) -> Result<Self, StartError> {
        let config = DataplaneConfig { shards: 1, cores: vec![None], ..config.clone() };
        config.check()?;
        let keys = Arc::new(PairwiseKeys::derive(&config.identity, &config.validators, config.cluster, config.own)?);
        let waker = ShardWaker::new().map_err(|error| StartError::system("make an eventfd", error))?;
        let (link, control) = link(waker, 0);
        let counters = Arc::new(Counters::new());
        let intake = Intake::new(IntakeParts {
            lineups: Lineups::new(Arc::clone(&config.sampler), Arc::clone(&config.schedule)),
            gate: Gate::new(&config, keys, 0),
            limits: Limits::new(config.clients, &config.addresses, 1),
            assembler: Assembler::with_kernel(config.coding, config.cluster, config.slice_memory_bytes, config.kernel),
            coding: config.coding,
            own: config.own,
            validators: Arc::clone(&config.validators),
            horizon,
            silent_relay: config.silent_relay,
            control,
            neighbours: Arc::default(),
            counters: Arc::clone(&counters),
        });
        Ok(Self { intake, link, counters })
    }

    /// Everything that a shard does with one receive buffer of datagrams of `segment_bytes` each: authenticates,
    /// parses, verifies, notes what is to be relayed, assembles, and decodes; each slice or report goes to `hand_off`.
    /// Only the copies for others are neither written nor sent.
    ///
    /// # Panics
    /// If `segment_bytes` is 0.
    pub fn receive(&mut self, buffer: &[u8], segment_bytes: usize, mut hand_off: impl FnMut(FromShard)) {
        assert!(segment_bytes > 0, "datagrams of no bytes");
        self.intake.follow_horizon();
        let received =
            Received { payload: buffer, segment_bytes, stamp_ns: None, source: Source::default(), truncated: false };
        let now: Time = clock::now();
        let mut datagrams = self.intake.split(&received, now);
        while let Some(shreds) = self.intake.next_batch(&mut datagrams) {
            let verified = self.intake.verify(&shreds);
            for (shred, verified) in shreds.iter().flatten().zip(verified) {
                let Some(verified) = verified else { continue };
                self.intake.relay(shred, &verified);
                self.intake.assemble(shred, verified);
            }
        }
        self.intake.fan_outs().for_each(drop);
        while let Some(decoded) = self.intake.decode() {
            hand_off(decoded);
        }
    }

    /// Where messages that are no shreds, and equivocations, arrive.
    #[must_use]
    pub const fn link(&self) -> &ShardLink {
        &self.link
    }

    /// The same end of the queues once more, for a thread that takes messages while this one receives.
    #[must_use]
    pub fn another_link(&self) -> ShardLink {
        self.link.another()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
