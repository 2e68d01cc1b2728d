//! Bytes as text: hexadecimal for keys and seeds, base58 for identities.

use std::fmt::Write;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters of the longest base58 text of 32 bytes.
const IDENTITY_CHARACTERS_MAX: usize = 44;

/// Bytes that are written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

/// An identity: a public Ed25519 key, not checked, written in base58.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity(pub(crate) [u8; 32]);

/// `bytes` in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings take any text");
        text
    })
}

/// The bytes that `text` names in hexadecimal of either case, `None` if it has an odd length or another character.
pub(crate) fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = parse_hex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom(format!("expected {} hexadecimal digits", 2 * N)))
    }
}

impl Identity {
    /// `None` if `text` is not the base58 text of 32 bytes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let short = text.len() <= IDENTITY_CHARACTERS_MAX;
        (short && bs58::decode(text).onto(&mut bytes) == Ok(32)).then_some(Self(bytes))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&bs58::encode(self.0).into_string())
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected an identity: 32 bytes in base58"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_texts() {
        assert_eq!(hex(&[0x00, 0xab, 0x10]), "00ab10");
        assert_eq!(parse_hex("00aB10"), Some(vec![0x00, 0xab, 0x10]));
        for text in ["0", "0g", "+1", "é0", " 00"] {
            assert_eq!(parse_hex(text), None, "{text:?}");
        }
        assert_eq!(Identity([0; 32]).to_string(), "1".repeat(32));
        assert_eq!(Identity::parse("Vote111111111111111111111111111111111111111").unwrap().0[..4], [7, 97, 72, 29]);
        for text in [String::new(), "1".repeat(31), "1".repeat(33), "l".repeat(32), "z".repeat(44)] {
            assert_eq!(Identity::parse(&text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_as_text(bytes: [u8; 32]) {
            prop_assert_eq!(Identity::parse(&Identity(bytes).to_string()), Some(Identity(bytes)));
            prop_assert_eq!(parse_hex(&hex(&bytes)), Some(bytes.to_vec()));
        }

        #[test]
        fn any_text_is_taken_or_refused_without_a_panic(text: String) {
            let _ = (parse_hex(&text), Identity::parse(&text));
        }
    }
}
