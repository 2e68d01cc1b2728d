//! `alpenglow keys`: makes keys, and shows the public half of keys.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, print};
use crate::encoding::hex;
use crate::keys::{self, AnyKey, IDENTITY_FILE, VOTING_KEY_FILE};

/// Makes a validator's keys, or shows the public half of keys.
///
/// A validator has two secret keys. Its identity (Ed25519) signs what it leads and authenticates its datagrams; its
/// file is a JSON array of 64 bytes, as solana-keygen writes it. Its voting key (BLS12-381) signs votes; its file is a
/// JSON array of 32 bytes, the secret number big-endian. Files that others than their owner can read are refused.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  alpenglow keys new --out my-validator\n  alpenglow keys pubkey my-validator/bls.json"
)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    New(NewArgs),
    Pubkey(PubkeyArgs),
}

/// Makes a new identity and a new voting key.
///
/// Writes identity.json and bls.json, readable by you only, and prints what a genesis file needs of them: identity,
/// voting key, and the proof that its owner holds the voting key.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow keys new --out my-validator")]
struct NewArgs {
    /// Folder to write into, created if it is missing; keys in it are never overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the public half of a key: an identity in base58, a voting key in hexadecimal.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  alpenglow keys pubkey my-validator/identity.json")]
struct PubkeyArgs {
    /// The key's file, of either kind
    file: PathBuf,
}

impl KeysArgs {
    /// Runs it.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self.command {
            KeysCommand::New(arguments) => arguments.run(),
            KeysCommand::Pubkey(arguments) => arguments.run(),
        }
    }
}

impl NewArgs {
    fn run(&self) -> Result<(), CliError> {
        let out = &self.out;
        fs::create_dir_all(out).map_err(|error| {
            CliError::Failed(format!("cannot create the folder {}: {error}; choose another with --out", out.display()))
        })?;
        let taken = [IDENTITY_FILE, VOTING_KEY_FILE].map(|name| out.join(name)).into_iter().find(|path| path.exists());
        if let Some(path) = taken {
            let path = path.display();
            return Err(CliError::Failed(format!(
                "{path} is there already and is not overwritten; choose another folder with --out"
            )));
        }
        let identity = keys::new_identity().map_err(CliError::failed)?;
        let voting_key = keys::new_bls().map_err(CliError::failed)?;
        keys::write_identity(out, &identity).map_err(CliError::failed)?;
        keys::write_bls(out, &voting_key).map_err(CliError::failed)?;
        print(&format!(
            "identity: {}\nvoting_key: {}\nproof_of_possession: {}\n",
            keys::show_identity(&identity),
            keys::show_bls(&voting_key),
            hex(&voting_key.prove_possession().0.0)
        ))
    }
}

impl PubkeyArgs {
    fn run(&self) -> Result<(), CliError> {
        let shown = match keys::load_any(&self.file).map_err(CliError::failed)? {
            AnyKey::Identity(identity) => keys::show_identity(&identity),
            AnyKey::Voting(voting_key) => keys::show_bls(&voting_key),
        };
        print(&format!("{shown}\n"))
    }
}
