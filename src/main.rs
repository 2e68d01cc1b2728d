//! The node and its command line.

mod cli;
mod config;
mod encoding;
mod files;
mod genesis;
mod keys;
mod load;
mod logging;
mod new_cluster;
mod report;
mod stakes;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
