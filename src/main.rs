//! The node and its command line.

mod config;
mod encoding;
mod files;
mod genesis;
mod keys;
mod load;
mod report;

fn main() {}
