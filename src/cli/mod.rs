//! The command line: a file per subcommand.
//!
//! Exit codes: 0 done, 1 failed (the message says what to do), 2 a wrong flag. Standard output carries results only;
//! messages and log lines go to standard error.

mod keys;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// An Alpenglow consensus node.
///
/// To see a whole cluster at work on this host:   alpenglow cluster
/// To set one up by hand:                         alpenglow genesis --validators 4 --out DIR
///                                                alpenglow node --config DIR/validator-0/node.toml
///
/// Log lines go to standard error; RUST_LOG chooses them (RUST_LOG=debug, RUST_LOG=alpenglow=trace,warn).
/// Exit codes: 0 done, 1 failed, 2 a wrong flag.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Keys(keys::KeysArgs),
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    // Prints help, version or what is wrong with the flags, and exits with 0 or 2.
    let cli = Cli::parse();
    if let Err(error) = log_to_stderr() {
        return fail(&error);
    }
    match cli.command {
        Command::Keys(args) => args.run(),
    }
}

/// The exit code of a finished command; a failure is printed with its causes.
pub(crate) fn conclude<E: Error>(result: Result<(), E>) -> ExitCode {
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// Prints an error with its causes. Exit code 1.
pub(crate) fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("error: {}", with_causes(error));
    ExitCode::FAILURE
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG is not a filter ({0}): unset it, or set it to a level as in RUST_LOG=info")]
struct LogFilterError(String);

fn log_to_stderr() -> Result<(), LogFilterError> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::builder().parse(&filter).map_err(|error| LogFilterError(error.to_string()))?
        }
        _ => EnvFilter::new("info"),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    Ok(())
}
