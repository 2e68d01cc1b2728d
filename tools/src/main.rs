//! `alpenglow-tools`: instruments around the node, a subcommand each.

mod cli;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use alpenglow_tools::conformance;
use alpenglow_tools::simulator::attack::campaign::Campaign;
use alpenglow_tools::simulator::attack::scenario::Scenario;
use alpenglow_tools::simulator::mainnet;
use alpenglow_tools::simulator::rotor_study::{Report, Study};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::scale::Scale;

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
    #[command(args_conflicts_with_subcommands = true)]
    Sim {
        #[command(subcommand)]
        simulation: Option<Simulation>,
        #[command(flatten)]
        attacks: Attacks,
        #[command(flatten)]
        scale: Box<Scale>,
    },
}

/// Whole nodes in virtual time, under attack
#[derive(Args)]
struct Attacks {
    /// What goes wrong, or `all`
    #[arg(long, value_parser = scenarios, required_unless_present = "topology")]
    scenario: Option<Scenarios>,
    /// Runs, each of which follows from its seed: `A..B`, without B
    #[arg(long, value_parser = seeds, default_value = "1..21")]
    seeds: Range<u64>,
    /// Validators in each run: 6 to 100, unless told otherwise 12; with --topology 4 to 2000, unless told otherwise
    /// 1500
    #[arg(long, value_parser = clap::value_parser!(u16).range(4..=2_000))]
    validators: Option<u16>,
    /// Leave out all faults but those at these positions of a seed's list, separated by commas
    #[arg(long, value_parser = positions)]
    keep: Option<Positions>,
    /// Show a failing run with all its faults, needed or not
    #[arg(long)]
    whole: bool,
    /// Begin no run of a scenario after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Write the first seed's messages, votes and decisions to this file, one a line
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone)]
struct Scenarios(Vec<Scenario>);

#[derive(Clone)]
struct Positions(Vec<usize>);

fn scenarios(text: &str) -> Result<Scenarios, String> {
    if text == "all" {
        return Ok(Scenarios(Scenario::value_variants().to_vec()));
    }
    let names = || Scenario::value_variants().iter().filter_map(|scenario| scenario.to_possible_value());
    let names = || names().map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ");
    Scenario::from_str(text, false)
        .map(|scenario| Scenarios(vec![scenario]))
        .map_err(|_| format!("one of all, {}", names()))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parts.filter(|seeds: &Range<u64>| !seeds.is_empty()).ok_or_else(|| "two numbers, as in 1..21".to_owned())
}

fn positions(text: &str) -> Result<Positions, String> {
    let numbers = text.split(',').filter(|part| !part.is_empty()).map(str::parse);
    numbers.collect::<Result<_, _>>().map(Positions).map_err(|_| "numbers separated by commas".to_owned())
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
        Tool::Sim { simulation: Some(Simulation::Rotor { crashed_sets, seed, output }), .. } => {
            let study =
                Study { stakes: mainnet::stakes(mainnet::VALIDATORS), crashed_sets: crashed_sets as usize, seed };
            print(&study.run(), output)?;
            Ok(true)
        }
        Tool::Sim { simulation: None, attacks, scale } if scale.topology.is_some() => {
            scale.run(attacks.validators, attacks.output)
        }
        Tool::Sim { simulation: None, attacks, .. } => attack(attacks),
    }
}

fn attack(attacks: Attacks) -> Result<bool, Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let mut passed = true;
    for scenario in attacks.scenario.expect("it is required").0 {
        let kept = attacks.keep.as_ref().map(|positions| positions.0.clone());
        let validators = usize::from(attacks.validators.unwrap_or(12));
        if !(6..=100).contains(&validators) {
            return Err("--scenario takes 6 to 100 --validators".into());
        }
        let time_max = attacks.seconds.map(Duration::from_secs);
        let campaign =
            Campaign { scenario, seeds: attacks.seeds.clone(), validators, kept, time_max, shrinks: !attacks.whole };
        if let Some(file) = &attacks.trace {
            fs::write(file, campaign.trace())?;
        }
        let report = campaign.run();
        passed &= report.passed();
        match attacks.output {
            Output::Table => write!(out, "{}", report.text())?,
            Output::Json => {
                serde_json::to_writer(&mut out, &report)?;
                writeln!(out)?;
            }
        }
    }
    Ok(passed)
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
