//! The node and its command line.

mod load;
mod report;

fn main() {}
