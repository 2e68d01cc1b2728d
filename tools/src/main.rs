//! `alpenglow-tools`: instruments around the node, a subcommand each.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use alpenglow_tools::conformance;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Instruments around the Alpenglow node")]
struct Arguments {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// Runs conformance vectors (one JSON object a line) against the Pool and Votor
    Conformance {
        /// Files of vectors
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Tool::Conformance { files } = Arguments::parse().tool;
    match conformance::run_files(&files, &mut io::stdout().lock()) {
        Ok(tally) if tally.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to do if standard error is closed as well.
            let _ = writeln!(io::stderr(), "alpenglow-tools: {error}");
            ExitCode::FAILURE
        }
    }
}
