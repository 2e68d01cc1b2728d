//! The events of a node run with `--events`.

use alpenglow_rotor::types::{Hash, Slot, ValidatorIndex};
use serde::{Deserialize, Serialize};

/// How a slot was decided at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// By a fast-finalization certificate.
    Fast,
    /// By a finalization certificate and the block's notarization certificate.
    Slow,
    /// The slot's block is an ancestor of a block finalized in one of the ways above.
    Ancestor,
    /// No block of this slot can be finalized any more.
    Skipped,
}

/// One line of a node's standard output: a JSON object whose field `event` names the variant.
/// Slots and indices are numbers, hashes 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum NodeEvent {
    /// The node's port is open, and control begins. First event, once.
    Ready,
    /// A slot is decided here. Once for each slot.
    Decided {
        /// The slot.
        #[serde(with = "SlotNumber")]
        slot: Slot,
        /// The way.
        how: How,
        /// Hash of the finalized block, none for a skipped slot.
        #[serde(with = "hex::option")]
        hash: Option<Hash>,
    },
    /// The node voted for a block. Once for each slot in which it did.
    Voted {
        /// The block's slot.
        #[serde(with = "SlotNumber")]
        slot: Slot,
    },
    /// A finalized block went to the application, in chain order, after the node made its shreds anew from the payload
    /// it holds and recomputed its hash from them. Once for each finalized block the node holds.
    Applied {
        /// The block's slot.
        #[serde(with = "SlotNumber")]
        slot: Slot,
        /// Hash by which it was finalized.
        #[serde(with = "hex")]
        hash: Hash,
        /// Hash recomputed from the payload.
        #[serde(with = "hex")]
        recomputed: Hash,
        /// Transactions in it.
        transactions: u64,
        /// Bytes of these transactions.
        bytes: u64,
        /// The slot's leader.
        #[serde(with = "ValidatorNumber")]
        leader: ValidatorIndex,
    },
}

/// A line that is no event.
#[derive(Debug, thiserror::Error)]
#[error("not a node event: {0}")]
pub(crate) struct EventError(#[from] serde_json::Error);

impl NodeEvent {
    /// The event as one line, without the line break.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("an event has no map keys and no floats that JSON could refuse")
    }

    /// Reads back what [`Self::to_line`] made.
    ///
    /// # Errors
    /// [`EventError`] if `line` is anything else.
    pub(crate) fn from_line(line: &str) -> Result<Self, EventError> {
        Ok(serde_json::from_str(line)?)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Slot")]
struct SlotNumber(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "ValidatorIndex")]
struct ValidatorNumber(u16);

/// Hashes as 64 hexadecimal digits.
mod hex {
    use alpenglow_rotor::types::Hash;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:?}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        parse(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }

    fn parse(text: &str) -> Option<Hash> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = Hash::default();
        for (position, byte) in hash.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * position..2 * position + 2)?, 16).ok()?;
        }
        Some(hash)
    }

    /// The same for a hash that may be missing: `null`.
    pub(super) mod option {
        use super::{Deserialize, Deserializer, Error, Hash, Serializer, parse};

        pub(in super::super) fn serialize<S: Serializer>(hash: &Option<Hash>, to: S) -> Result<S::Ok, S::Error> {
            match hash {
                Some(hash) => super::serialize(hash, to),
                None => to.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Hash>, D::Error> {
            match Option::<String>::deserialize(from)? {
                None => Ok(None),
                Some(text) => {
                    parse(&text).map(Some).ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_documented_form() {
        let hash = Hash([0xab; 32]);
        let digits = "ab".repeat(32);
        let cases = [
            (NodeEvent::Ready, r#"{"event":"ready"}"#.to_owned()),
            (
                NodeEvent::Decided { slot: Slot(7), how: How::Fast, hash: Some(hash) },
                format!(r#"{{"event":"decided","slot":7,"how":"fast","hash":"{digits}"}}"#),
            ),
            (
                NodeEvent::Decided { slot: Slot(8), how: How::Skipped, hash: None },
                r#"{"event":"decided","slot":8,"how":"skipped","hash":null}"#.to_owned(),
            ),
            (NodeEvent::Voted { slot: Slot(7) }, r#"{"event":"voted","slot":7}"#.to_owned()),
            (
                NodeEvent::Applied {
                    slot: Slot(7),
                    hash,
                    recomputed: hash,
                    transactions: 3,
                    bytes: 1_536,
                    leader: ValidatorIndex(4),
                },
                format!(
                    r#"{{"event":"applied","slot":7,"hash":"{digits}","recomputed":"{digits}","transactions":3,"bytes":1536,"leader":4}}"#
                ),
            ),
        ];
        for (event, line) in cases {
            assert_eq!(event.to_line(), line);
            assert_eq!(NodeEvent::from_line(&line).unwrap(), event);
        }
    }

    #[test]
    fn lines_that_are_no_events_are_refused() {
        let short = r#"{"event":"decided","slot":7,"how":"fast","hash":"abcd"}"#;
        let sign = format!(r#"{{"event":"decided","slot":7,"how":"fast","hash":"{}"}}"#, "+1".repeat(32));
        let wide = format!(r#"{{"event":"decided","slot":7,"how":"fast","hash":"{}"}}"#, "é".repeat(32));
        for line in ["", "ready", "{}", r#"{"event":"unknown"}"#, short, &sign, &wide] {
            NodeEvent::from_line(line).unwrap_err();
        }
    }
}
