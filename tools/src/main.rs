//! `alpenglow-tools`: instruments around the node, a subcommand each.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use alpenglow_tools::conformance;
use alpenglow_tools::simulator::mainnet;
use alpenglow_tools::simulator::rotor_study::{Report, Study};
use clap::{Parser, Subcommand, ValueEnum};

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
    /// Computes what the protocol does in worlds that this machine is not
    Sim {
        #[command(subcommand)]
        simulation: Simulation,
    },
}

#[derive(Subcommand)]
enum Simulation {
    /// How often a slice has too few live relays, and what relaying costs whom, by the way the relays are drawn
    Rotor {
        /// Sets of crashed validators drawn for each share of crashed stake
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
        crashed_sets: u32,
        /// Everything random follows from it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How to print
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    match run(Arguments::parse().tool) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to do if standard error is closed as well.
            let _ = writeln!(io::stderr(), "alpenglow-tools: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether what was asked for holds.
fn run(tool: Tool) -> Result<bool, Box<dyn Error>> {
    match tool {
        Tool::Conformance { files } => Ok(conformance::run_files(&files, &mut io::stdout().lock())?.failed == 0),
        Tool::Sim { simulation: Simulation::Rotor { crashed_sets, seed, output } } => {
            let study = Study { stakes: mainnet::stakes(), crashed_sets: crashed_sets as usize, seed };
            print(&study.run(), output)?;
            Ok(true)
        }
    }
}

fn print(report: &Report, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Table => writeln!(out, "{}", report.tables()),
        Output::Json => {
            serde_json::to_writer(&mut out, report)?;
            writeln!(out)
        }
    }
}
