//! `alpenglow keys`: makes keys and shows their public halves.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alpenglow_control::bls::SecretKey;
use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;

use crate::cli::conclude;
use crate::files::FileError;
use crate::keys::{self, AnyKey, KeyError};

/// Make a validator's keys, or show their public halves.
///
/// A validator has two keys. Its identity (Ed25519) signs the blocks it makes and names it to others, in base58; the file is the one
/// that solana-keygen writes. Its voting key (BLS12-381) signs its votes. A genesis file lists the public halves of both,
/// and a proof that the validator holds the voting key.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a new identity and a new voting key.
    ///
    /// Writes identity.json and bls-key.json, readable by their owner only, and prints the public halves as `pubkey` does.
    /// Existing files are never overwritten.
    New {
        /// Folder for the two files; made if there is none
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Print the public halves of the keys in files, a line for each file.
    ///
    /// Of an identity that is the public key in base58; of a voting key the public key and the proof of possession, both in base64.
    Pubkey {
        /// Key files of either kind: identity.json, bls-key.json
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    /// A key or its file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Standard output.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl KeysArgs {
    /// Does it.
    pub(crate) fn run(self) -> ExitCode {
        conclude(match self.command {
            KeysCommand::New { out } => new(&out),
            KeysCommand::Pubkey { files } => {
                files.iter().try_for_each(|file| print(&keys::load_any(file)?).map_err(KeysError::Print))
            }
        })
    }
}

fn new(out: &Path) -> Result<(), KeysError> {
    std::fs::create_dir_all(out)
        .map_err(|source| KeyError::File(FileError::Io { verb: "create", path: out.to_owned(), source }))?;
    let (identity_path, voting_path) = (out.join(keys::IDENTITY_FILE), out.join(keys::VOTING_KEY_FILE));
    // Looked for beforehand, so that no half of a pair is left.
    for path in [&identity_path, &voting_path] {
        if path.symlink_metadata().is_ok() {
            return Err(KeyError::File(FileError::Exists(path.clone())).into());
        }
    }
    let identity = SigningKey::from_bytes(&*keys::random_seed()?);
    let voting = SecretKey::from_entropy(&*keys::random_seed()?);
    keys::write_identity(&identity_path, &identity)?;
    keys::write_voting_key(&voting_path, &voting)?;
    print(&AnyKey::Identity(identity))?;
    Ok(print(&AnyKey::Voting(voting))?)
}

/// Prints what a genesis file holds of a key, in a line.
fn print(key: &AnyKey) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match key {
        AnyKey::Identity(key) => writeln!(out, "{}", keys::identity_text(key.verifying_key().as_bytes())),
        AnyKey::Voting(key) => {
            let (public, proof) = (key.public_key().to_bytes(), key.prove_possession());
            writeln!(out, "{} {}", keys::voting_text(&public.0), keys::voting_text(&proof.0.0))
        }
    }
}
