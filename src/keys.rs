//! Key files. Both kinds are a JSON array of bytes: 64 of an identity (Ed25519 secret key, then public key, as
//! solana-keygen writes it), 32 of a voting key (BLS12-381 scalar, big-endian). Nobody but the owner may read them.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use alpenglow_control::bls::{BlsError, SecretKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// Name that an identity's file is given.
pub(crate) const IDENTITY_FILE: &str = "identity.json";
/// Name that a voting key's file is given.
pub(crate) const VOTING_KEY_FILE: &str = "bls-key.json";

/// 64 numbers of three digits, with whatever white space people put between them.
const KEY_FILE_BYTES_MAX: usize = 4_096;

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others than the owner may read it, so it may be known to others.
    #[error(
        "{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`, and use a new key if somebody may have read this one",
        path = .path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not an array of so many bytes.
    #[error("{path} is not {expected}: {reason}; make one with `alpenglow keys new`", path = .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong. Never quotes the file.
        reason: FormatError,
    },
    /// The operating system has no randomness to give.
    #[error("the operating system gives no randomness for a new key: {0}")]
    Randomness(getrandom::Error),
}

/// What is wrong with a key file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// Not an array of numbers below 256, at this place.
    #[error(
        "expected a JSON array of {count} numbers from 0 to 255, found something else at line {line}, column {column}"
    )]
    Array {
        /// Numbers expected.
        count: usize,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The second half is not the public key of the first.
    #[error("its last 32 bytes are not the public key of its first 32 bytes, so it was damaged or mixed up")]
    PublicHalf,
    /// Not a scalar.
    #[error("{0}")]
    Scalar(BlsError),
}

/// Either kind of key.
pub(crate) enum AnyKey {
    /// An Ed25519 key.
    Identity(SigningKey),
    /// A BLS key.
    Voting(SecretKey),
}

/// Reads an identity, as solana-keygen or [`write_identity`] wrote it.
///
/// # Errors
/// [`KeyError`]; also if others may read the file.
pub(crate) fn load_identity(path: &Path) -> Result<SigningKey, KeyError> {
    let expected = "an identity key";
    parse_identity(&read_private(path)?).map_err(|reason| KeyError::Format { path: path.to_owned(), expected, reason })
}

/// Reads a voting key, as [`write_voting_key`] wrote it.
///
/// # Errors
/// [`KeyError`]; also if others may read the file.
pub(crate) fn load_voting_key(path: &Path) -> Result<SecretKey, KeyError> {
    let expected = "a voting (BLS) key";
    parse_voting_key(&read_private(path)?).map_err(|reason| KeyError::Format {
        path: path.to_owned(),
        expected,
        reason,
    })
}

/// Reads whichever key the file holds.
///
/// # Errors
/// [`KeyError`]; also if others may read the file.
pub(crate) fn load_any(path: &Path) -> Result<AnyKey, KeyError> {
    let bytes = read_private(path)?;
    let expected = "an identity key (64 bytes) or a voting key (32 bytes)";
    match parse_voting_key(&bytes) {
        Err(FormatError::Array { .. }) => parse_identity(&bytes).map(AnyKey::Identity),
        other => other.map(AnyKey::Voting),
    }
    .map_err(|reason| KeyError::Format { path: path.to_owned(), expected, reason })
}

/// Writes an identity to a new file.
///
/// # Errors
/// [`KeyError::File`].
pub(crate) fn write_identity(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write_private(path, &*Zeroizing::new(key.to_keypair_bytes()))
}

/// Writes a voting key to a new file.
///
/// # Errors
/// [`KeyError::File`].
pub(crate) fn write_voting_key(path: &Path, key: &SecretKey) -> Result<(), KeyError> {
    write_private(path, &*key.to_bytes())
}

/// 32 bytes that nobody can guess.
///
/// # Errors
/// [`KeyError::Randomness`].
pub(crate) fn random_seed() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(KeyError::Randomness)?;
    Ok(seed)
}

/// An identity as people write it: base58.
pub(crate) fn identity_text(identity: &[u8; 32]) -> String {
    bs58::encode(identity).into_string()
}

/// Reads what [`identity_text`] wrote; whether it is a sound key is for the validator set to check.
pub(crate) fn parse_identity_text(text: &str) -> Option<[u8; 32]> {
    let mut identity = [0; 32];
    let length = bs58::decode(text).onto(&mut identity).ok()?;
    (length == identity.len()).then_some(identity)
}

/// A voting key's public half, or a proof of possession, as people write it: base64.
pub(crate) fn voting_text(bytes: &[u8; 96]) -> String {
    STANDARD.encode(bytes)
}

/// Reads what [`voting_text`] wrote.
pub(crate) fn parse_voting_text(text: &str) -> Option<[u8; 96]> {
    // The decoder wants room for its estimate, which is exact for multiples of 3.
    let mut bytes = [0; 96];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    (length == bytes.len()).then_some(bytes)
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (bytes, metadata) = files::read(path, KEY_FILE_BYTES_MAX)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    Ok(bytes)
}

fn write_private(path: &Path, key: &[u8]) -> Result<(), KeyError> {
    let mut text = Zeroizing::new(Vec::with_capacity(4 * key.len() + 2));
    serde_json::to_writer(&mut *text, key).expect("numbers are written to memory");
    text.push(b'\n');
    Ok(files::write_new(path, &text, files::PRIVATE)?)
}

fn parse_identity(text: &[u8]) -> Result<SigningKey, FormatError> {
    SigningKey::from_keypair_bytes(&*parse_array::<64>(text)?).map_err(|_| FormatError::PublicHalf)
}

fn parse_voting_key(text: &[u8]) -> Result<SecretKey, FormatError> {
    SecretKey::from_bytes(&*parse_array::<32>(text)?).map_err(FormatError::Scalar)
}

/// Reads the numbers straight to their place, so that no copy of a key is left in freed memory.
fn parse_array<const N: usize>(text: &[u8]) -> Result<Zeroizing<[u8; N]>, FormatError> {
    struct Array<const N: usize>;
    impl<'de, const N: usize> Visitor<'de> for Array<N> {
        type Value = Zeroizing<[u8; N]>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} numbers from 0 to 255")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Self::Value, A::Error> {
            let mut bytes = Zeroizing::new([0; N]);
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = numbers.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
            }
            Ok(bytes)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = json.deserialize_seq(Array::<N>).and_then(|bytes| json.end().map(|()| bytes));
    parsed.map_err(|error| FormatError::Array { count: N, line: error.line(), column: error.column() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn keys_survive_their_files_which_only_the_owner_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let (identity_path, voting_path) = (folder.path().join("identity"), folder.path().join("voting"));
        let identity = SigningKey::from_bytes(&[7; 32]);
        let voting = SecretKey::from_entropy(&[8; 32]);
        write_identity(&identity_path, &identity).unwrap();
        write_voting_key(&voting_path, &voting).unwrap();
        assert_eq!((mode(&identity_path), mode(&voting_path)), (0o600, 0o600));
        assert_eq!(load_identity(&identity_path).unwrap(), identity);
        assert_eq!(*load_voting_key(&voting_path).unwrap().to_bytes(), *voting.to_bytes());
        assert!(matches!(load_any(&identity_path), Ok(AnyKey::Identity(_))));
        assert!(matches!(load_any(&voting_path), Ok(AnyKey::Voting(_))));
        assert!(matches!(load_identity(&voting_path), Err(KeyError::Format { .. })));
        assert!(matches!(load_voting_key(&identity_path), Err(KeyError::Format { .. })));
    }

    /// solana-keygen: secret key (the RFC 8032 seed), then public key, as a JSON array without spaces.
    #[test]
    fn an_identity_file_is_laid_out_as_solana_keygen_lays_it_out() {
        let seed: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        let text = serde_json::to_vec(&[seed, public].concat()).unwrap();
        assert_eq!(parse_identity(&text).unwrap().to_bytes(), seed);
        let folder = tempfile::tempdir().unwrap();
        write_identity(&folder.path().join("id"), &SigningKey::from_bytes(&seed)).unwrap();
        assert_eq!(fs::read(folder.path().join("id")).unwrap(), [&text[..], b"\n"].concat());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        write_identity(&path, &SigningKey::from_bytes(&[7; 32])).unwrap();
        for exposed in [0o640, 0o604, 0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
            let message = load_identity(&path).unwrap_err().to_string();
            assert!(message.contains("chmod 600") && message.contains(&format!("{exposed:04o}")), "{message}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(load_identity(&path).is_ok());
    }

    #[test]
    fn damaged_keys_are_refused_without_quoting_them() {
        let mut mixed = SigningKey::from_bytes(&[7; 32]).to_keypair_bytes();
        mixed[40] ^= 1;
        assert_eq!(parse_identity(&serde_json::to_vec(&mixed[..]).unwrap()), Err(FormatError::PublicHalf));
        assert_eq!(
            parse_voting_key(&serde_json::to_vec(&[0; 32]).unwrap()).err(),
            Some(FormatError::Scalar(BlsError::Scalar))
        );
        assert_eq!(
            parse_voting_key(&serde_json::to_vec(&[255; 32]).unwrap()).err(),
            Some(FormatError::Scalar(BlsError::Scalar))
        );
        for text in ["", "[]", "[1,2,3]", "[256]", "[-1]", "[1.5]", "{}", "\"secret\"", "null", "[[1]]"] {
            let error = parse_identity(text.as_bytes()).unwrap_err();
            assert!(matches!(error, FormatError::Array { count: 64, .. }), "{text}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
        let long = serde_json::to_vec(&[1; 65][..]).unwrap();
        assert!(matches!(parse_identity(&long), Err(FormatError::Array { .. })));
    }

    #[test]
    fn texts_of_public_keys_are_exact() {
        assert_eq!(parse_identity_text(&identity_text(&[9; 32])), Some([9; 32]));
        assert_eq!(parse_voting_text(&voting_text(&[9; 96])), Some([9; 96]));
        for text in ["", "0OIl", "abc", &identity_text(&[9; 32])[1..], &bs58::encode([1; 33]).into_string()] {
            assert_eq!(parse_identity_text(text), None, "{text}");
        }
        for text in ["", "====", &STANDARD.encode([1; 95]), &STANDARD.encode([1; 97]), &"!".repeat(128)] {
            assert_eq!(parse_voting_text(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_an_error(text: Vec<u8>) {
            prop_assert!(parse_identity(&text).is_err());
            prop_assert!(parse_voting_key(&text).is_err());
        }

        #[test]
        fn a_changed_byte_of_an_identity_file_never_gives_another_key(at: prop::sample::Index, byte: u8) {
            let key = SigningKey::from_bytes(&[7; 32]);
            let mut text = serde_json::to_vec(&key.to_keypair_bytes()[..]).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            prop_assert!(parse_identity(&text).is_ok_and(|found| found == key) == (serde_json::from_slice::<Vec<u8>>(&text).is_ok_and(|bytes| bytes == key.to_keypair_bytes())));
        }

        #[test]
        fn any_text_is_a_public_key_or_none(text: String) {
            let _ = (parse_identity_text(&text), parse_voting_text(&text));
        }
    }
}
