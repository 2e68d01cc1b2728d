//! Secret keys in files: the identity (Ed25519) as the 64 bytes that `solana-keygen` writes, secret half first; the
//! voting key (BLS) as its 32 big-endian bytes; both as a JSON array of numbers, readable by their owner only.
//!
//! Secret bytes are zeroed when dropped and appear in no message.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use alpenglow_control::bls::SecretKey;
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::encoding::{Identity, hex};
use crate::files::{self, Access, ReadError};

/// Name of an identity's file in a folder that `alpenglow` writes.
pub(crate) const IDENTITY_FILE: &str = "identity.json";
/// Name of a voting key's file in a folder that `alpenglow` writes.
pub(crate) const VOTING_KEY_FILE: &str = "bls.json";

/// Bytes of an identity in its file.
const IDENTITY_BYTES: usize = 64;
/// Bytes of a voting key in its file.
const VOTING_KEY_BYTES: usize = 32;
/// Longest key file: 64 numbers with generous white space.
const FILE_BYTES_MAX: usize = 4_096;

/// Why a key cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {reason}; check the path, or make new keys with `alpenglow keys new`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: ReadError,
    },
    /// Others can read the file.
    #[error(
        "the key file {path} has mode {mode:03o}: others than its owner may use it; run `chmod 600 {path}`, and make new keys if somebody may have read it"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} is not {expected}: {reason}; restore it from a copy, or make new keys with `alpenglow keys new`")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What is wrong, without what it holds.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot create the key file {path}: {reason}; existing keys are never overwritten, choose another folder")]
    Create {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: io::Error,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes for new keys: {0}")]
    Randomness(getrandom::Error),
}

/// A secret key of either kind.
pub(crate) enum AnyKey {
    /// An identity.
    Identity(SigningKey),
    /// A voting key.
    Voting(SecretKey),
}

/// Reads an identity and checks that its halves belong together.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn load_identity(path: &Path) -> Result<SigningKey, KeyError> {
    let expected = "an identity (a JSON array of 64 bytes)";
    let bytes: Secret<IDENTITY_BYTES> = load(path, expected)?;
    identity(&bytes).map_err(|reason| KeyError::Content { path: path.to_owned(), expected, reason })
}

/// Reads a voting key.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn load_bls(path: &Path) -> Result<SecretKey, KeyError> {
    let expected = "a voting key (a JSON array of 32 bytes)";
    let bytes: Secret<VOTING_KEY_BYTES> = load(path, expected)?;
    voting_key(&bytes).map_err(|reason| KeyError::Content { path: path.to_owned(), expected, reason })
}

/// Reads a key of either kind; the number of its bytes tells which.
///
/// # Errors
/// [`KeyError`].
pub(crate) fn load_any(path: &Path) -> Result<AnyKey, KeyError> {
    let expected = "a key (a JSON array of 64 bytes for an identity, 32 for a voting key)";
    let content = |reason| KeyError::Content { path: path.to_owned(), expected, reason };
    parse_any(&read(path)?).map_err(content)
}

/// The key of either kind that a file's bytes hold.
///
/// # Errors
/// What is wrong, without what it holds.
pub(crate) fn parse_any(file: &[u8]) -> Result<AnyKey, String> {
    if let Ok(bytes) = parse::<IDENTITY_BYTES>(file) {
        return identity(&bytes).map(AnyKey::Identity);
    }
    voting_key(&parse::<VOTING_KEY_BYTES>(file)?).map(AnyKey::Voting)
}

/// A new identity.
///
/// # Errors
/// [`KeyError::Randomness`].
pub(crate) fn new_identity() -> Result<SigningKey, KeyError> {
    Ok(SigningKey::from_bytes(&*random()?))
}

/// A new voting key.
///
/// # Errors
/// [`KeyError::Randomness`].
pub(crate) fn new_bls() -> Result<SecretKey, KeyError> {
    Ok(SecretKey::from_entropy(&*random()?))
}

/// Creates [`IDENTITY_FILE`] in `folder`.
///
/// # Errors
/// [`KeyError::Create`].
pub(crate) fn write_identity(folder: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write(folder.join(IDENTITY_FILE), &*Zeroizing::new(key.to_keypair_bytes()))
}

/// Creates [`VOTING_KEY_FILE`] in `folder`.
///
/// # Errors
/// [`KeyError::Create`].
pub(crate) fn write_bls(folder: &Path, key: &SecretKey) -> Result<(), KeyError> {
    write(folder.join(VOTING_KEY_FILE), &*key.to_bytes())
}

/// The public identity in base58.
pub(crate) fn show_identity(key: &SigningKey) -> String {
    Identity(key.verifying_key().to_bytes()).to_string()
}

/// The public voting key in hexadecimal.
pub(crate) fn show_bls(key: &SecretKey) -> String {
    hex(&key.public_key().to_bytes().0)
}

fn identity(bytes: &Secret<IDENTITY_BYTES>) -> Result<SigningKey, String> {
    SigningKey::from_keypair_bytes(&bytes.0)
        .map_err(|_| "its second half is not the public key of its first".to_owned())
}

fn voting_key(bytes: &Secret<VOTING_KEY_BYTES>) -> Result<SecretKey, String> {
    SecretKey::from_bytes(&bytes.0).map_err(|error| error.to_string())
}

fn random() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(KeyError::Randomness)?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    files::read(path, FILE_BYTES_MAX, Access::OwnerOnly).map_err(|reason| match reason {
        ReadError::Exposed { mode } => KeyError::Exposed { path: path.to_owned(), mode },
        reason => KeyError::Read { path: path.to_owned(), reason },
    })
}

fn load<const N: usize>(path: &Path, expected: &'static str) -> Result<Secret<N>, KeyError> {
    parse(&read(path)?).map_err(|reason| KeyError::Content { path: path.to_owned(), expected, reason })
}

/// The parser's own words would quote what it found.
fn parse<const N: usize>(file: &[u8]) -> Result<Secret<N>, String> {
    serde_json::from_slice(file).map_err(|error| {
        format!("expected {N} numbers up to 255 in brackets (line {} column {})", error.line(), error.column())
    })
}

/// What the file of a secret of these bytes holds.
pub(crate) fn text(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(4 * bytes.len() + 2));
    serde_json::to_writer(&mut *text, bytes).expect("memory takes any bytes");
    text
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<(), KeyError> {
    files::create_secret(&path, &text(bytes)).map_err(|reason| KeyError::Create { path, reason })
}

/// Read straight into its place, so that no copy is left elsewhere.
struct Secret<const N: usize>(Zeroizing<[u8; N]>);

impl<'de, const N: usize> Deserialize<'de> for Secret<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SecretVisitor)
    }
}

struct SecretVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for SecretVisitor<N> {
    type Value = Secret<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {N} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Secret<N>, A::Error> {
        let mut bytes = Zeroizing::new([0; N]);
        for (position, byte) in bytes.iter_mut().enumerate() {
            *byte = sequence.next_element()?.ok_or_else(|| A::Error::invalid_length(position, &self))?;
        }
        match sequence.next_element::<u8>()? {
            None => Ok(Secret(bytes)),
            Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn secret_file(folder: &Path, content: &[u8]) -> PathBuf {
        let path = folder.join("key.json");
        let _ = fs::remove_file(&path);
        files::create_secret(&path, content).unwrap();
        path
    }

    /// The seed and public key of test 1 of RFC 8032, section 7.1.
    #[test]
    fn a_file_as_solana_keygen_writes_it_is_the_identity_that_it_names() {
        let text = "[157,97,177,157,239,253,90,96,186,132,74,244,146,236,44,196,68,73,197,105,123,50,105,25,112,59,172,3,28,174,\
                    127,96,215,90,152,1,130,177,10,183,213,75,254,211,201,100,7,58,14,225,114,243,218,166,35,37,175,2,26,104,247,\
                    7,81,26]";
        let folder = tempfile::tempdir().unwrap();
        let key = load_identity(&secret_file(folder.path(), text.as_bytes())).unwrap();
        assert_eq!(
            hex(&key.verifying_key().to_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        write_identity(folder.path(), &key).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(IDENTITY_FILE)).unwrap(), text);
    }

    #[test]
    fn new_keys_survive_their_files_and_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, voting) = (new_identity().unwrap(), new_bls().unwrap());
        write_identity(folder.path(), &identity).unwrap();
        write_bls(folder.path(), &voting).unwrap();
        let paths = [IDENTITY_FILE, VOTING_KEY_FILE].map(|name| folder.path().join(name));
        assert_eq!(load_identity(&paths[0]).unwrap(), identity);
        assert_eq!(show_bls(&load_bls(&paths[1]).unwrap()), show_bls(&voting));
        assert!(matches!(load_any(&paths[0]), Ok(AnyKey::Identity(key)) if key == identity));
        assert!(matches!(load_any(&paths[1]), Ok(AnyKey::Voting(key)) if show_bls(&key) == show_bls(&voting)));
        assert!(matches!(load_identity(&paths[1]), Err(KeyError::Content { .. })));
        assert!(matches!(load_bls(&paths[0]), Err(KeyError::Content { .. })));
        assert!(matches!(write_identity(folder.path(), &identity), Err(KeyError::Create { .. })));
        for path in &paths {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret_file(folder.path(), b"[]");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = load_identity(&path).unwrap_err().to_string();
        assert!(error.contains("644") && error.contains(&format!("chmod 600 {}", path.display())), "{error}");
    }

    #[test]
    fn halves_that_do_not_belong_together_and_scalars_out_of_range_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = new_identity().unwrap().to_keypair_bytes();
        bytes[40] ^= 1;
        let identity = secret_file(folder.path(), &serde_json::to_vec(&bytes[..]).unwrap());
        assert!(matches!(load_identity(&identity), Err(KeyError::Content { .. })));
        for byte in [0, 255] {
            let voting = secret_file(folder.path(), &serde_json::to_vec(&[byte; 32][..]).unwrap());
            assert!(matches!(load_bls(&voting), Err(KeyError::Content { .. })));
        }
    }

    #[test]
    fn a_message_about_a_broken_key_does_not_quote_it() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["[193, 300]", "[\"secret\"]", "{\"secret\": 193}", "[193"] {
            let error = load_any(&secret_file(folder.path(), content.as_bytes())).map(|_| ()).unwrap_err().to_string();
            let said = error.replace(&folder.path().display().to_string(), "");
            assert!(!said.contains("secret") && !said.contains("193") && !said.contains("300"), "{said}");
        }
    }

    #[test]
    fn an_identity_is_wiped_when_dropped_and_shows_its_public_half_only() {
        const fn is_wiped_when_dropped<T: zeroize::ZeroizeOnDrop>() {}
        is_wiped_when_dropped::<SigningKey>();
        is_wiped_when_dropped::<Zeroizing<[u8; IDENTITY_BYTES]>>();
        let secret: [u8; 32] = std::array::from_fn(|at| 0xa0 + at as u8);
        let shown = format!("{:?}", SigningKey::from_bytes(&secret));
        let decimals: Vec<String> = secret[..4].iter().map(u8::to_string).collect();
        for part in [hex(&secret[..4]), decimals.join(", ")] {
            assert!(!shown.contains(&part), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_taken_or_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = (parse::<64>(&bytes), parse::<32>(&bytes));
        }

        #[test]
        fn a_mutated_identity_is_never_taken_for_another(at in 0..64_usize, flip in 1..=255_u8) {
            let mut bytes = SigningKey::from_bytes(&[7; 32]).to_keypair_bytes();
            bytes[at] ^= flip;
            prop_assert!(identity(&Secret(Zeroizing::new(bytes))).is_err());
        }
    }
}
