//! `alpenglow submit`: sends one transaction to a validator.
//!
//! A transaction is one UDP datagram: a header of 32 bytes (see [`alpenglow_dataplane::datagram`]), then the
//! transaction's bytes, any 1 to 1,024 of them. The header of a transaction needs no key:
//!
//! | bytes | |
//! |---|---|
//! | 0 | 1, the format's version |
//! | 1 | 4, a transaction |
//! | 2 | lane: any value; the validator's thread number `lane % shards` takes it |
//! | 3 | 0 |
//! | 4..6 | `ff ff`, no validator |
//! | 6..8 | 0 |
//! | 8..16 | first 8 bytes of the cluster id, which is the SHA-256 of the genesis file |
//! | 16..32 | 0 |

use std::fmt::Display;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use alpenglow_control::block::TRANSACTION_BYTES_MAX;
use alpenglow_dataplane::datagram::Header;
use alpenglow_rotor::types::ClusterId;
use clap::Args;

use super::{CliError, print};
use crate::encoding::parse_hex;
use crate::files::{self, Access};
use crate::genesis;

/// Sends one transaction to a validator, which passes it on to the leaders.
///
/// A transaction is any 1 to 1024 bytes, here from a flag, a file or standard input. UDP: there is no answer, and a
/// transaction may get lost; equal transactions count once, so it can be sent again.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SubmitArgs {
    /// The validator: its UDP address and port, `bind` in its node.toml
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target)]
    to: Target,
    /// Genesis file of the cluster, whose id the datagram carries
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The transaction as text
    #[arg(long, group = "transaction")]
    text: Option<String>,
    /// The transaction in hexadecimal
    #[arg(long, group = "transaction", value_parser = parse_bytes)]
    hex: Option<Bytes>,
    /// A file that holds the transaction [default: standard input]
    #[arg(long, value_name = "FILE", group = "transaction")]
    file: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow submit --genesis cluster/genesis.json --to 127.0.0.1:8000 --text hello
  head -c 100 /dev/urandom | alpenglow submit --genesis cluster/genesis.json --to 127.0.0.1:8000

Other programs can send transactions as well. Each is one UDP datagram of a 32-byte header and the transaction:
  byte 0       1 (version)             bytes 6-7    0
  byte 1       4 (a transaction)       bytes 8-15   first 8 bytes of the genesis file's SHA-256
  byte 2       any (lane)              bytes 16-31  0
  byte 3       0                       bytes 32-    the transaction, 1 to 1024 bytes
  bytes 4-5    255 (no validator)";

/// A validator's host, by name or address, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

/// A list of bytes as one flag's value.
#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

impl SubmitArgs {
    /// Runs it.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<(), CliError> {
        let cluster = genesis::load_cluster_id(&self.genesis).map_err(CliError::failed)?;
        let transaction = self.transaction()?;
        if transaction.is_empty() || transaction.len() > TRANSACTION_BYTES_MAX {
            let found = if transaction.is_empty() { "no bytes" } else { "more" };
            return Err(CliError::Failed(format!(
                "a transaction has 1 to {TRANSACTION_BYTES_MAX} bytes, found {found}"
            )));
        }
        let to = self.to.resolve()?;
        send(&datagram(cluster, &transaction), to).map_err(|error| {
            CliError::Failed(format!("cannot send to {to}: {error}; check --to and whether the validator runs"))
        })?;
        print(&format!("sent {} bytes to {to}\n", transaction.len()))
    }

    /// At most one byte more than a transaction may have.
    fn transaction(&self) -> Result<Vec<u8>, CliError> {
        match (&self.text, &self.hex, &self.file) {
            (Some(text), _, _) => Ok(text.clone().into_bytes()),
            (_, Some(Bytes(bytes)), _) => Ok(bytes.clone()),
            (_, _, Some(path)) => match files::read(path, TRANSACTION_BYTES_MAX, Access::Public) {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(reason) => Err(unreadable(path, reason)),
            },
            (None, None, None) => {
                let mut bytes = Vec::new();
                let read = io::stdin().lock().take(TRANSACTION_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
                read.map_err(|reason| unreadable(Path::new("standard input"), reason))?;
                Ok(bytes)
            }
        }
    }
}

fn parse_bytes(text: &str) -> Result<Bytes, &'static str> {
    parse_hex(text).map(Bytes).ok_or("expected an even number of hexadecimal digits")
}

impl Target {
    fn resolve(&self) -> Result<SocketAddr, CliError> {
        let Self { host, port } = self;
        let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| error.to_string());
        let first = found.and_then(|mut found| found.next().ok_or("it has no address".to_owned()));
        first.map_err(|reason| CliError::Failed(format!("--to {host}: {reason}; give the validator's IP address")))
    }
}

/// Text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a host and a port, as in 127.0.0.1:8000 or [::1]:8000")]
struct TargetError;

fn parse_target(text: &str) -> Result<Target, TargetError> {
    let (host, port) = text.rsplit_once(':').ok_or(TargetError)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port.parse() {
        Ok(port) if port > 0 && !host.is_empty() => Ok(Target { host: host.to_owned(), port }),
        _ => Err(TargetError),
    }
}

fn unreadable(path: &Path, reason: impl Display) -> CliError {
    CliError::Failed(format!(
        "cannot read the transaction from {}: {reason}; give another --file, --text or --hex",
        path.display()
    ))
}

/// The lane spreads transactions over a validator's threads.
fn datagram(cluster: ClusterId, transaction: &[u8]) -> Vec<u8> {
    let lane = transaction.iter().fold(0_u8, |lane, byte| lane.wrapping_mul(31).wrapping_add(*byte));
    [&Header::of_transaction(lane, cluster).encode(), transaction].concat()
}

fn send(datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    let wildcard = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(wildcard, 0))?;
    socket.connect(to)?;
    socket.send(datagram)?;
    // On this host, that nobody listens is known at once.
    socket.take_error()?.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_travels_as_documented() {
        let datagram = datagram(ClusterId(std::array::from_fn(|i| i as u8)), b"\x05\x07");
        let expected = [[1, 4, 5 * 31 + 7, 0, 255, 255, 0, 0].as_slice(), &[0, 1, 2, 3, 4, 5, 6, 7], &[0; 16], &[5, 7]];
        assert_eq!(datagram, expected.concat());
    }

    #[test]
    fn targets_are_host_and_port() {
        let target = |host: &str, port| Ok(Target { host: host.to_owned(), port });
        assert_eq!(parse_target("127.0.0.1:8000"), target("127.0.0.1", 8_000));
        assert_eq!(parse_target("[::1]:1"), target("::1", 1));
        assert_eq!(parse_target("localhost:65535"), target("localhost", 65_535));
        for text in ["", "127.0.0.1", ":1", "a:", "a:0", "a:65536", "a:b"] {
            assert_eq!(parse_target(text), Err(TargetError), "{text:?}");
        }
    }
}
