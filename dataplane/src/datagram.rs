//! The header of a datagram.

/// Bytes of the header, before the body.
pub const HEADER_BYTES: usize = 32;
/// Where the lane lies in the header.
pub const LANE_OFFSET: usize = 2;

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
    /// A transaction from anyone.
    Transaction = 4,
    /// A transaction that a validator passes on to a leader.
    ForwardedTransaction = 5,
}
