//! The node and its command line. The program is [`run`]; it is a library so that what reads files can be fuzzed,
//! and what writes them measured.
#![cfg_attr(not(test), warn(clippy::print_stderr, reason = "it panics if standard error cannot be written to"))]

mod application;
mod block_times;
mod cli;
mod cluster;
mod config;
mod control_loop;
mod control_thread;
mod encoding;
mod epoch_stakes;
mod evidence;
mod failpoint;
mod files;
mod flood;
pub mod fuzzing;
mod genesis;
mod keys;
mod load;
mod logging;
#[doc(hidden)]
pub mod measuring;
mod new_cluster;
mod node;
mod process_guard;
mod progress;
mod report;
mod slice_memory;
mod stakes;
mod storage;
mod telemetry;
mod topology;
mod verifier;

use std::process::ExitCode;

use clap::Parser;

/// Does what the command line says. Has to be called from the main thread.
pub fn run() -> ExitCode {
    cli::Cli::parse().run()
}
