//! The node and its command line.

mod cli;
mod files;
mod keys;
mod load;
mod report;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
