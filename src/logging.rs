//! Log lines on standard error: each with its time and, in a node, with the node's index.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use alpenglow_rotor::types::ValidatorIndex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The environment variable that says what is logged.
pub(crate) const VARIABLE: &str = "ALPENGLOW_LOG";

/// What each line starts with.
struct Prefix {
    node: Option<ValidatorIndex>,
}

impl FormatTime for Prefix {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        match self.node {
            Some(node) => write!(writer, " node {}", node.0),
            None => Ok(()),
        }
    }
}

/// Starts logging, as [`VARIABLE`] says or from level info on; `node` is named in every line. Only the first call
/// counts.
pub(crate) fn start(node: Option<ValidatorIndex>) {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).with_env_var(VARIABLE).from_env_lossy();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Prefix { node })
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would tell of a line that cannot be written on standard error, and panic because that cannot be written
        // to.
        .log_internal_errors(false)
        .finish();
    // An error says that logging was started before.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes a line to standard error, for a command; `eprintln!` would panic if that cannot be written to.
pub(crate) fn tell(line: &str) {
    // There is no other place to say it.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_have_time_and_node() {
        let prefix = |node| {
            let mut text = String::new();
            Prefix { node }.format_time(&mut Writer::new(&mut text)).unwrap();
            text
        };
        let (of_node, of_command) = (prefix(Some(ValidatorIndex(7))), prefix(None));
        let (time, node) = of_node.split_once(' ').unwrap();
        assert_eq!(node, "node 7");
        for time in [time, &of_command] {
            let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
        }
    }
}
