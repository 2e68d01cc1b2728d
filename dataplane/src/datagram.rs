//! The header of a datagram, and what of a datagram its MAC covers.
//!
//! | bytes | |
//! |---|---|
//! | 0 | version, [`VERSION`] |
//! | 1 | kind |
//! | 2 | lane: the kernel gives the datagram to shard `lane % shards`; a shred's follows from its slice, another
//! message's from its sender ([`message_lane`]), a client picks any |
//! | 3 | zero |
//! | 4..6 | sender's index in the validator set, little-endian; [`NO_SENDER`] on a transaction from anyone |
//! | 6..8 | zero |
//! | 8..16 | first 8 bytes of the cluster id |
//! | 16..32 | MAC; zero on a transaction from anyone |
//!
//! The body follows. The MAC covers bytes 0..16 and the body; of a shred only the first [`SHRED_COVERED_BYTES`] of it,
//! the shred's header and signature: the Merkle path covers the rest, and a relay's tag for each peer then costs the
//! same whatever the shred's length.

use alpenglow_rotor::types::{ClusterId, ValidatorIndex};

/// Bytes of the header, before the body.
pub const HEADER_BYTES: usize = 32;
/// The header without the MAC: what of it the MAC covers.
pub const PREFIX_BYTES: usize = 16;
/// Where the lane lies in the header.
pub const LANE_OFFSET: usize = 2;
/// The version of this format.
pub const VERSION: u8 = 1;
/// The sender of a datagram that no validator vouches for.
pub const NO_SENDER: u16 = u16::MAX;
/// What of a shred its MAC covers: 16 bytes of header, 64 of signature.
pub const SHRED_COVERED_BYTES: usize = 80;

/// The lane of what a validator sends besides shreds. It is the same for all of it, so that one shard of the receiver
/// counts what the sender may send.
#[must_use]
pub const fn message_lane(sender: ValidatorIndex) -> u8 {
    sender.0 as u8
}

/// What a datagram's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One shred.
    Shred = 1,
    /// A vote.
    Vote = 2,
    /// A certificate.
    Certificate = 3,
    /// A transaction from anyone, without sender and MAC.
    Transaction = 4,
    /// A transaction that a validator passes on to a leader.
    ForwardedTransaction = 5,
    /// A question about a block, from a validator that misses it.
    RepairRequest = 6,
    /// A part of a block, to the validator that asked for it.
    RepairAnswer = 7,
}

impl Kind {
    /// `None` for a byte that stands for no kind.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Shred,
            2 => Self::Vote,
            3 => Self::Certificate,
            4 => Self::Transaction,
            5 => Self::ForwardedTransaction,
            6 => Self::RepairRequest,
            7 => Self::RepairAnswer,
            _ => return None,
        })
    }
}

/// A datagram's header, well-formed; nothing in it is to be believed before the MAC was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// Which shard takes the datagram, modulo their number.
    pub lane: u8,
    /// Index of the validator that says it sent this; may lie beyond the set. [`NO_SENDER`] for [`Kind::Transaction`].
    pub sender: u16,
    /// First 8 bytes of the cluster id.
    pub cluster: [u8; 8],
    /// The MAC for the receiver.
    pub tag: [u8; 16],
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("shorter than {HEADER_BYTES} bytes")]
    TooShort,
    /// Another version of the format.
    #[error("unknown version")]
    Version,
    /// No such kind.
    #[error("unknown kind")]
    Kind,
    /// Bytes that are zero by definition are not, or a transaction from anyone names a sender or carries a MAC.
    #[error("a field without use is not empty")]
    Reserved,
}

impl Header {
    /// Splits a datagram into header and body.
    ///
    /// # Errors
    /// [`HeaderError`] names the first defect.
    pub fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let (header, body) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(HeaderError::TooShort)?;
        let &[version, kind, lane, zero_3, sender_low, sender_high, zero_6, zero_7, ref rest @ ..] = header;
        let cluster = *rest.first_chunk().expect("the cluster's 8 bytes precede the tag");
        let tag = *rest.last_chunk().expect("the tag's 16 bytes end the header");
        if version != VERSION {
            return Err(HeaderError::Version);
        }
        let kind = Kind::from_byte(kind).ok_or(HeaderError::Kind)?;
        let sender = u16::from_le_bytes([sender_low, sender_high]);
        let anonymous = sender == NO_SENDER && tag == [0; 16];
        if [zero_3, zero_6, zero_7] != [0; 3] || (kind == Kind::Transaction && !anonymous) {
            return Err(HeaderError::Reserved);
        }
        Ok((Self { kind, lane, sender, cluster, tag }, body))
    }

    /// The header's first part, which the MAC covers, of a datagram that `sender` sends.
    #[must_use]
    pub fn prefix(kind: Kind, lane: u8, sender: ValidatorIndex, cluster: ClusterId) -> [u8; PREFIX_BYTES] {
        let header = Self { kind, lane, sender: sender.0, cluster: short(cluster), tag: [0; 16] };
        *header.encode().first_chunk().expect("a header is longer than its prefix")
    }

    /// The header of a transaction from anyone.
    #[must_use]
    pub fn of_transaction(lane: u8, cluster: ClusterId) -> Self {
        Self { kind: Kind::Transaction, lane, sender: NO_SENDER, cluster: short(cluster), tag: [0; 16] }
    }

    /// Whether the datagram was made for `cluster`.
    #[must_use]
    pub fn is_of(&self, cluster: ClusterId) -> bool {
        self.cluster == short(cluster)
    }

    /// The header as it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        (bytes[0], bytes[1], bytes[LANE_OFFSET]) = (VERSION, self.kind as u8, self.lane);
        bytes[4..6].copy_from_slice(&self.sender.to_le_bytes());
        bytes[8..PREFIX_BYTES].copy_from_slice(&self.cluster);
        bytes[PREFIX_BYTES..].copy_from_slice(&self.tag);
        bytes
    }
}

/// What of `body` the MAC covers, besides the header's first [`PREFIX_BYTES`]. A shred shorter than what should be
/// covered is covered whole.
#[must_use]
pub fn covered(kind: Kind, body: &[u8]) -> &[u8] {
    match kind {
        Kind::Shred => &body[..body.len().min(SHRED_COVERED_BYTES)],
        Kind::Vote
        | Kind::Certificate
        | Kind::Transaction
        | Kind::ForwardedTransaction
        | Kind::RepairRequest
        | Kind::RepairAnswer => body,
    }
}

fn short(cluster: ClusterId) -> [u8; 8] {
    *cluster.0.first_chunk().expect("a cluster id is longer than 8 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([0xc1; 32]);

    #[test]
    fn the_bytes_of_a_header_are_these() {
        let header = Header { kind: Kind::Vote, lane: 7, sender: 0x0102, cluster: [0xc1; 8], tag: [0xaa; 16] };
        let expected = [&[1, 2, 7, 0, 2, 1, 0, 0][..], &[0xc1; 8], &[0xaa; 16]].concat();
        assert_eq!(header.encode()[..], expected);
        assert_eq!(Header::prefix(Kind::Vote, 7, ValidatorIndex(0x0102), CLUSTER)[..], expected[..PREFIX_BYTES]);
        let anonymous = [&[1, 4, 3, 0, 255, 255, 0, 0][..], &[0xc1; 8], &[0; 16]].concat();
        assert_eq!(Header::of_transaction(3, CLUSTER).encode()[..], anonymous);
    }

    #[test]
    fn every_defect_has_its_reason() {
        let good = Header { kind: Kind::Shred, lane: 0, sender: 1, cluster: [0; 8], tag: [1; 16] }.encode();
        let with = |offset: usize, byte: u8| {
            let mut bytes = good;
            bytes[offset] = byte;
            Header::parse(&bytes).unwrap_err()
        };
        assert_eq!(Header::parse(&good[..HEADER_BYTES - 1]), Err(HeaderError::TooShort));
        assert_eq!(with(0, 2), HeaderError::Version);
        assert_eq!((with(1, 0), with(1, 8)), (HeaderError::Kind, HeaderError::Kind));
        assert_eq!([with(3, 1), with(6, 1), with(7, 1)], [HeaderError::Reserved; 3]);
    }

    #[test]
    fn a_transaction_from_anyone_names_no_sender_and_carries_no_mac() {
        let good = Header::of_transaction(0, CLUSTER);
        assert!(Header::parse(&good.encode()).is_ok());
        for bad in [Header { sender: 0, ..good }, Header { tag: [1; 16], ..good }] {
            assert_eq!(Header::parse(&bad.encode()), Err(HeaderError::Reserved));
        }
    }

    #[test]
    fn a_shreds_mac_covers_header_and_signature_only() {
        assert_eq!(covered(Kind::Shred, &[5; 1_000]).len(), 80);
        assert_eq!(covered(Kind::Shred, &[5; 79]).len(), 79);
        assert_eq!(covered(Kind::Certificate, &[5; 1_000]).len(), 1_000);
    }

    proptest! {
        #[test]
        fn a_header_survives_the_wire(kind in 1..=7_u8, lane: u8, sender: u16, cluster: [u8; 8], tag: [u8; 16], body: Vec<u8>) {
            let kind = Kind::from_byte(kind).unwrap();
            let (sender, tag) = if kind == Kind::Transaction { (NO_SENDER, [0; 16]) } else { (sender, tag) };
            let header = Header { kind, lane, sender, cluster, tag };
            let datagram = [&header.encode()[..], &body].concat();
            prop_assert_eq!(Header::parse(&datagram), Ok((header, &body[..])));
        }

        #[test]
        fn whatever_parses_is_what_its_header_encodes(datagram in prop::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..100)) {
            if let Ok((header, body)) = Header::parse(&datagram) {
                prop_assert_eq!([&header.encode()[..], body].concat(), datagram);
            }
        }
    }
}
