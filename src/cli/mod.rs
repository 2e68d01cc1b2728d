//! The command line: a file for each subcommand, with its flags and what it does.
//!
//! Every subcommand has `run`; an error is printed with what to do about it, and the exit code is 1. Wrong flags exit
//! with 2.

mod blocks;
mod cluster;
mod coding;
mod epochs;
mod evidence;
mod genesis;
mod init;
mod keys;
mod node;
mod submit;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::logging;

/// An Alpenglow validator, and what is needed around it.
///
/// Alpenglow is a proof-of-stake consensus protocol that finalizes a block after one round of votes if 80% of the stake
/// takes part, or after two with 60%. Blocks travel by Rotor: cut into erasure-coded shreds, each relayed once.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow genesis --validators 4 --out cluster     make the files of a cluster
  alpenglow node --config cluster/node-0/node.toml   run its first validator
  alpenglow cluster                                  run a whole cluster here, and measure it

Exit codes: 0 done, 1 failed (the message says what to do), 2 wrong flags.
Log lines go to standard error; ALPENGLOW_LOG says which, as in ALPENGLOW_LOG=debug (default: info).";

#[derive(Debug, Subcommand)]
enum Command {
    Blocks(blocks::BlocksArgs),
    Cluster(cluster::ClusterArgs),
    Evidence(evidence::EvidenceArgs),
    Genesis(genesis::GenesisArgs),
    Init(init::InitArgs),
    Keys(keys::KeysArgs),
    Node(node::NodeArgs),
    Submit(submit::SubmitArgs),
}

/// Why a subcommand failed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Flags that do not fit each other, in words.
    Usage(String),
    /// Anything else, in words.
    Failed(String),
}

impl CliError {
    /// An error whose text says what to do.
    pub(crate) fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// Flags that do not fit each other.
    pub(crate) fn usage(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }
}

impl Cli {
    /// Runs the subcommand. Has to be called from the main thread.
    pub(crate) fn run(self) -> ExitCode {
        let done = |()| ExitCode::SUCCESS;
        let (subcommand, result) = match self.command {
            Command::Blocks(arguments) => ("blocks", arguments.run().map(done)),
            Command::Cluster(arguments) => ("cluster", arguments.run()),
            Command::Evidence(arguments) => ("evidence", arguments.run().map(done)),
            Command::Genesis(arguments) => ("genesis", arguments.run().map(done)),
            Command::Init(arguments) => ("init", arguments.run().map(done)),
            Command::Keys(arguments) => ("keys", arguments.run().map(done)),
            Command::Node(arguments) => ("node", arguments.run().map(done)),
            Command::Submit(arguments) => ("submit", arguments.run().map(done)),
        };
        match result {
            Ok(code) => code,
            Err(CliError::Failed(message)) => {
                logging::tell(&format!("error: {message}"));
                ExitCode::FAILURE
            }
            Err(CliError::Usage(message)) => wrong_flags(subcommand, &message),
        }
    }
}

/// Says so as clap does, and ends the process with its exit code.
fn wrong_flags(subcommand: &str, message: &str) -> ! {
    let mut cli = Cli::command();
    // Until it is built, a subcommand does not know whose it is.
    cli.build();
    let subcommand = cli.find_subcommand_mut(subcommand).expect("it has been run");
    subcommand.error(ErrorKind::ValueValidation, message).exit()
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    written(output.write_all(text.as_bytes()).and_then(|()| output.flush()))
}

/// What became of writing to standard output. That its reader has read enough, as `head` does, is no failure.
fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Failed(format!("cannot write to standard output: {error}; check where it leads")))
        }
        _ => Ok(()),
    }
}
