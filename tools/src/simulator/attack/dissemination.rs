//! What a node's shards do: shred and send slices, relay shreds, and put slices together.

use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::input::Input;
use alpenglow_control::production::{OutgoingSlice, SliceSent};
use alpenglow_rotor::assembler::{Decoded, Inserted, Reject};
use alpenglow_rotor::shred::{self, ShredView};
use alpenglow_rotor::shredder::Shredded;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::types::ValidatorIndex;
use rand_chacha::rand_core::Rng;

use super::cluster::identity;
use super::fault::Fault;
use super::network::MS;
use super::world::{Datagram, Happening, World};

/// From the order to send a slice to the report that it was sent.
const SENDING: Duration = Duration::from_micros(100);
/// How much later at least, longer than a slot, the version comes of an equivocating leader's slices that a node is not
/// to see.
const OTHER_VERSION_MS: u64 = 600;

impl World {
    /// Checks whose a shred is, relays it, and gives the slice if it is complete.
    pub(super) fn shred(&mut self, own: usize, from: usize, bytes: &Arc<[u8]>) -> Option<Input> {
        let shred = ShredView::parse(bytes, &self.cluster.coding).ok()?;
        let id = shred.slice();
        let leader = self.cluster.leader(id.slot);
        let relay = self.cluster.relays(id)[shred.index().get()].get();
        let is_relay = from == leader && relay == own;
        let now = self.clock(own);
        let node = self.nodes[own].as_mut()?;
        let is_wanted = id.slot > node.horizon.closed_through && id.slot <= node.horizon.shreds_through;
        if !is_wanted || leader == own || !(is_relay || from == relay) {
            return None;
        }
        let identity = self.cluster.validators.identity(ValidatorIndex(leader as u16));
        let verified = match node.assembler.verify(&shred, None, ValidatorIndex(from as u16), identity) {
            Ok(verified) => verified,
            Err(Reject::Equivocation) => return node.assembler.equivocation(id).map(Input::Equivocation),
            Err(_) => return None,
        };
        let is_first = verified.is_first();
        let relays = is_relay && node.assembler.claim_relay(&verified);
        let decoded = match node.assembler.insert(&shred, verified, now) {
            Inserted::Complete => node.assembler.decode(id),
            _ => None,
        };
        let is_sign_of_life =
            is_first && id.slot.is_window_first() && node.leader_seen.replace(id.slot) != Some(id.slot);
        if relays {
            self.relay(own, leader, bytes);
        }
        if is_sign_of_life {
            self.handle(own, Input::LeaderSeen(id.slot));
        }
        decoded.map(|decoded| match decoded {
            Decoded::Slice(slice) => Input::Slice(slice),
            Decoded::Malformed(malformed) => Input::MalformedSlice(malformed),
        })
    }

    fn relay(&mut self, own: usize, leader: usize, bytes: &Arc<[u8]>) {
        if self.faults.contains(&Fault::SilentRelay { node: own }) {
            self.oracle.happened.count("relays_silent");
            return;
        }
        let slot = ShredView::parse(bytes, &self.cluster.coding).expect("it was checked").slice().slot;
        let audience: Vec<usize> = self.cluster.audience(slot).iter().map(|to| to.get()).collect();
        for to in audience.into_iter().filter(|&to| to != own && to != leader) {
            self.send_shred(own, to, leader, 0, bytes);
        }
    }

    /// Sends a shred as fast as the network lets it.
    fn send_shred(&mut self, from: usize, to: usize, leader: usize, later_ns: u64, bytes: &Arc<[u8]>) {
        let shred = ShredView::parse(bytes, &self.cluster.coding).expect("it was made here or checked");
        let (id, signature) = (shred.slice(), shred.signature());
        let (now_ms, mut held_ms) = (self.now_ms(), 0);
        for fault in &self.faults {
            match *fault {
                Fault::SlowShreds { to: slow, by_ms, during } if slow.contains(to) && during.contains(now_ms) => {
                    self.oracle.happened.count("shreds_held_back");
                    held_ms = held_ms.max(by_ms);
                }
                Fault::Equivocate { node, first_to } if node == leader => {
                    let is_second = self.second_versions.get(&id) == Some(&signature);
                    if first_to.contains(to) == is_second {
                        held_ms = held_ms.max(OTHER_VERSION_MS + self.random.next_u64() % OTHER_VERSION_MS);
                    }
                }
                _ => {}
            }
        }
        self.send(from, to, later_ns + held_ms * MS, Datagram::Shred(Arc::clone(bytes)));
    }

    pub(super) fn send_slice(&mut self, from: usize, slice: &OutgoingSlice) {
        let payload = self.payload_of(from, slice);
        let (shredded, shreds) = self.shreds(from, slice, &payload);
        let other = self.second_version(from, slice);
        let (later_ns, sent) = (self.lateness_ns(from), self.shreds_sent(from, shreds.len()));
        let audience: Vec<usize> = self.cluster.audience(slice.id.slot).iter().map(|to| to.get()).collect();
        for (index, relay) in self.cluster.relays(slice.id).into_iter().enumerate().take(sent) {
            let is_own = relay.get() == from;
            let receivers: Vec<usize> = if is_own { audience.clone() } else { vec![relay.get()] };
            for to in receivers.into_iter().filter(|&to| to != from) {
                let version = other.as_ref().filter(|_| self.gets_second(from, to)).unwrap_or(&shreds);
                let bytes = Arc::clone(&version[index]);
                let later_ns = later_ns + SENDING.as_nanos() as u64;
                self.send_shred(from, to, from, later_ns, &bytes);
            }
        }
        let Shredded { root, signature } = shredded;
        let sent = SliceSent { id: slice.id, root, signature, leader_stamp_ns: self.clock(from).0 };
        self.queue_in(SENDING, from, Happening::Input(Box::new(Input::SliceSent(sent))));
    }

    pub(super) fn shreds(&mut self, from: usize, slice: &OutgoingSlice, payload: &[u8]) -> (Shredded, Vec<Arc<[u8]>>) {
        let coding = &self.cluster.coding;
        let bytes = shred::wire_bytes(coding, self.shredder.shred_len(payload.len()));
        let offsets: Vec<_> = (0..coding.total_shreds()).map(|index| index * bytes).collect();
        let mut out = vec![0; bytes * offsets.len()];
        let signer = SliceSigner::new(&identity(from));
        let stamp_ns = self.clock(from).0;
        let shredded = self.shredder.shred(slice.id, slice.is_last, stamp_ns, payload, &signer, &mut out, &offsets);
        (shredded, out.chunks_exact(bytes).map(Arc::from).collect())
    }
}
