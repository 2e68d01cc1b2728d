//! The header of every datagram that this node sends: from whom, for which cluster, and the receiver's MAC.

use std::sync::Arc;

use alpenglow_rotor::types::{ClusterId, ValidatorIndex};

use crate::auth::{PairwiseKeys, TAGS_AT_ONCE};
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
        datagram::message_lane(self.own)
    }

    /// Writes the headers of a row of datagrams to one receiver, whose bodies are in place: `datagram_bytes` each but
    /// for a shorter last one.
    pub(crate) fn write_row(
        &self,
        kind: Kind,
        lane: u8,
        receiver: ValidatorIndex,
        datagram_bytes: usize,
        row: &mut [u8],
    ) {
        let prefix = Header::prefix(kind, lane, self.own, self.cluster);
        for datagrams in row.chunks_mut(TAGS_AT_ONCE * datagram_bytes) {
            let mut messages = [(&prefix, &[][..]); TAGS_AT_ONCE];
            let mut count = 0;
            for datagram in datagrams.chunks(datagram_bytes) {
                messages[count].1 = datagram::covered(kind, &datagram[HEADER_BYTES..]);
                count += 1;
            }
            let messages = &messages[..count];
            // Only the last one may be shorter.
            let alike = messages.iter().take_while(|message| message.1.len() == messages[0].1.len()).count();
            let mut tags = self.keys.tags_to(receiver, &messages[..alike]);
            if let [shorter] = messages[alike..] {
                tags[alike] = self.keys.tag_to(receiver, shorter);
            }
            for (datagram, tag) in datagrams.chunks_mut(datagram_bytes).zip(tags) {
                datagram[..PREFIX_BYTES].copy_from_slice(&prefix);
                datagram[PREFIX_BYTES..HEADER_BYTES].copy_from_slice(&tag);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::Stake;
    use alpenglow_rotor::validators::ValidatorSet;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([2; 32]);
    const RECEIVER: ValidatorIndex = ValidatorIndex(1);

    fn letterhead() -> Letterhead {
        let identity = |index: u8| SigningKey::from_bytes(&[index + 1; 32]);
        let validators = (0..2).map(|index| (identity(index).verifying_key().to_bytes(), Stake(1))).collect();
        let validators = ValidatorSet::new(validators).unwrap();
        let keys = PairwiseKeys::derive(&identity(0), &validators, CLUSTER, ValidatorIndex(0)).unwrap();
        Letterhead::new(CLUSTER, ValidatorIndex(0), Arc::new(keys))
    }

    /// Writes one header by itself.
    fn write(letterhead: &Letterhead, kind: Kind, lane: u8, datagram: &mut [u8]) {
        let (header, body) = datagram.split_at_mut(HEADER_BYTES);
        let prefix = Header::prefix(kind, lane, letterhead.own, letterhead.cluster);
        let tag = letterhead.keys.tag_to(RECEIVER, (&prefix, datagram::covered(kind, body)));
        header[..PREFIX_BYTES].copy_from_slice(&prefix);
        header[PREFIX_BYTES..].copy_from_slice(&tag);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_row_gets_the_headers_that_its_datagrams_get_one_by_one(is_shred: bool, bodies in prop::collection::vec([any::<u8>(); 150], 1..20), length in 1..=150_usize, shorter in 0..150_usize) {
            let kind = if is_shred { Kind::Shred } else { Kind::Vote };
            let datagram_bytes = HEADER_BYTES + length;
            let mut row: Vec<u8> =
                bodies.iter().flat_map(|body| [&[0; HEADER_BYTES], &body[..length]].concat()).collect();
            row.truncate(row.len() - shorter.min(length - 1));
            let letterhead = letterhead();
            let mut one_by_one = row.clone();
            one_by_one.chunks_mut(datagram_bytes).for_each(|datagram| write(&letterhead, kind, 7, datagram));
            letterhead.write_row(kind, 7, RECEIVER, datagram_bytes, &mut row);
            prop_assert_eq!(row, one_by_one);
        }
    }
}
