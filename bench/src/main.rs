//! Benchmarks that measure what they name.
#![allow(clippy::print_stdout, reason = "reports go to standard output")]

mod cores;
mod counting_allocator;
mod dataplane;
mod fixture;
mod floors;
mod report;
mod rounds;
mod storage;
mod votes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// What single steps cost on this machine, one after the other on one thread: below this no node can be.
    Floors {
        /// How to print.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Only floors whose name contains this.
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// What the steps of a shred's way take, beside the work that nobody can do without, measured in turns on one core.
    Dataplane {
        /// How to print.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Only these steps, separated by commas.
        #[arg(long, value_enum, value_delimiter = ',')]
        steps: Vec<dataplane::Step>,
    },
    /// Votes from their datagrams to certificates: what control and verifiers use of a core for a slot, how soon they
    /// act on the vote that decides, and what memory they hold, beside bare calls of blst.
    Votes {
        /// Validators, besides the sizes that are always measured.
        #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u16).range(20..=2_000))]
        validators: u16,
        /// Percent of them that sign something else.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=15))]
        invalid: u8,
        /// How to print.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// What a node writes to its disk, each kind beside the bare system calls, in turns: what the vote waits for (the
    /// vote log, a slice that is voted for), what it does not (a block in the block log), and other ways to write a
    /// slice.
    Storage {
        /// Folder on the disk to measure; what is written there is removed again [default: the folder for temporary
        /// files].
        #[arg(long)]
        folder: Option<PathBuf>,
        /// How to print.
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
    let (report, output) = match Arguments::parse().benchmark {
        Benchmark::Floors { output, filter } => {
            let floors = floors::measure_all(&filter);
            match output {
                Output::Table => println!("{}", floors::table(&floors)),
                Output::Json => println!("{}", floors::json(&floors)),
            }
            return ExitCode::SUCCESS;
        }
        Benchmark::Dataplane { output, steps } => (dataplane::measure(&steps), output),
        Benchmark::Votes { validators, invalid, output } => (votes::measure(validators.into(), invalid.into()), output),
        Benchmark::Storage { folder, output } => {
            let folder = folder.unwrap_or_else(std::env::temp_dir);
            match storage::measure(&folder) {
                Ok(report) => (report, output),
                Err(error) => {
                    eprintln!("error: cannot write to {}: {error}; give another folder (--folder)", folder.display());
                    return ExitCode::FAILURE;
                }
            }
        }
    };
    match output {
        Output::Table => println!("{report}"),
        Output::Json => println!("{}", report.json()),
    }
    ExitCode::SUCCESS
}
