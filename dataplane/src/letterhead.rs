//! The header of every datagram that this node sends: from whom, for which cluster, and the receiver's MAC.

use std::sync::Arc;

use alpenglow_rotor::types::{ClusterId, ValidatorIndex};

use crate::auth::PairwiseKeys;
use crate::datagram::{self, HEADER_BYTES, Header, Kind, PREFIX_BYTES};

/// Writes headers in this node's name.
pub(crate) struct Letterhead {
    cluster: ClusterId,
    own: ValidatorIndex,
    keys: Arc<PairwiseKeys>,
}

impl Letterhead {
    pub(crate) const fn new(cluster: ClusterId, own: ValidatorIndex, keys: Arc<PairwiseKeys>) -> Self {
        Self { cluster, own, keys }
    }

    /// The lane of our messages that are not shreds.
    pub(crate) const fn message_lane(&self) -> u8 {
        self.own.0 as u8
    }

    /// Writes the header of a datagram whose body is in place.
    pub(crate) fn write(&self, kind: Kind, lane: u8, receiver: ValidatorIndex, datagram: &mut [u8]) {
        let (header, body) = datagram.split_at_mut(HEADER_BYTES);
        let prefix = Header::prefix(kind, lane, self.own, self.cluster);
        let tag = self.keys.tag_to(receiver, &[&prefix, datagram::covered(kind, body)]);
        header[..PREFIX_BYTES].copy_from_slice(&prefix);
        header[PREFIX_BYTES..].copy_from_slice(&tag);
    }
}
