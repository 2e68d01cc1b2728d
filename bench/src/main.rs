//! Benchmarks that measure what they name.
#![allow(clippy::print_stdout, reason = "reports go to standard output")]

mod dataplane;
mod floors;

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
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() {
    match Arguments::parse().benchmark {
        Benchmark::Floors { output, filter } => {
            let floors = floors::measure_all(&filter);
            match output {
                Output::Table => println!("{}", floors::table(&floors)),
                Output::Json => println!("{}", floors::json(&floors)),
            }
        }
        Benchmark::Dataplane { output, steps } => {
            let report = dataplane::measure(&steps);
            match output {
                Output::Table => println!("{}\n{}", report.machine(), report.table()),
                Output::Json => println!("{}", report.json()),
            }
        }
    }
}
