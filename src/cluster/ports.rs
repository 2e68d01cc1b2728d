//! Free UDP ports on 127.0.0.1 for the nodes of a run.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

/// Ports are handed out in blocks of this many.
const BLOCK_PORTS: u16 = 50;
/// First port used: above what services listen on.
const FIRST_PORT: u16 = 10_000;
/// End of the ports used: below the range from which Linux takes ephemeral ports by default.
const END_PORT: u16 = 32_000;
/// How long ports may stay in use after their processes have ended.
const FREE_WAIT_MAX: Duration = Duration::from_secs(10);
const FREE_WAIT_STEP: Duration = Duration::from_millis(10);
const BLOCKS: u16 = (END_PORT - FIRST_PORT) / BLOCK_PORTS;

/// Consecutive ports that were free when they were chosen. Other runs on this host stay away from them until this is
/// dropped: each block of ports is claimed by the name of an abstract Unix socket.
#[derive(Debug)]
pub(crate) struct PortRange {
    base: u16,
    count: u16,
    _claims: Vec<UnixListener>,
}

/// No room for the nodes.
#[derive(Debug, thiserror::Error)]
#[error("found no {count} consecutive free UDP ports on 127.0.0.1 between {FIRST_PORT} and {END_PORT}")]
pub(crate) struct NoFreePorts {
    count: usize,
}

impl PortRange {
    /// Chooses `count` ports; the search starts at a place that `start` decides.
    ///
    /// # Errors
    /// [`NoFreePorts`].
    pub(crate) fn find(count: usize, start: u32) -> Result<Self, NoFreePorts> {
        let refused = NoFreePorts { count };
        let Ok(ports) = u16::try_from(count) else { return Err(refused) };
        let blocks = ports.div_ceil(BLOCK_PORTS).max(1);
        let Some(places) = (BLOCKS + 1).checked_sub(blocks) else { return Err(refused) };
        let first = (start % u32::from(places.max(1))) as u16;
        (0..places)
            .map(|step| (first + step) % places)
            .find_map(|block| Self::claim(block, blocks, ports).ok())
            .ok_or(refused)
    }

    fn claim(first_block: u16, blocks: u16, count: u16) -> io::Result<Self> {
        let claims = (first_block..first_block + blocks).map(claim_block).collect::<io::Result<Vec<_>>>()?;
        let base = FIRST_PORT + first_block * BLOCK_PORTS;
        let range = Self { base, count, _claims: claims };
        range.try_all()?;
        Ok(range)
    }

    /// Fails if a port is in use. All are bound at once before any is released, without SO_REUSEPORT.
    fn try_all(&self) -> io::Result<()> {
        self.addresses().iter().map(UdpSocket::bind).collect::<io::Result<Vec<_>>>().map(drop)
    }

    /// Waits until the ports are free, for a while: the kernel closes the sockets of an io_uring some time after its
    /// process has ended.
    ///
    /// # Errors
    /// The last refusal.
    pub(crate) fn wait_until_free(&self) -> io::Result<()> {
        let deadline = Instant::now() + FREE_WAIT_MAX;
        loop {
            match self.try_all() {
                Err(_) if Instant::now() < deadline => thread::sleep(FREE_WAIT_STEP),
                outcome => return outcome,
            }
        }
    }

    /// The addresses, in order.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (self.base..self.base + self.count).map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect()
    }
}

fn claim_block(block: u16) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&UnixAddr::from_abstract_name(format!("alpenglow-cluster-ports-{block}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_with_the_same_start_get_different_ports() {
        let one = PortRange::find(5, 7).unwrap();
        let two = PortRange::find(5, 7).unwrap();
        assert!(one.addresses().iter().all(|address| !two.addresses().contains(address)));
        assert_eq!(one.addresses().len(), 5);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let free = PortRange::find(1, 100).unwrap();
        let address = free.addresses()[0];
        drop(free);
        let _taken = UdpSocket::bind(address).unwrap();
        assert_ne!(PortRange::find(1, 100).unwrap().addresses(), [address]);
    }

    #[test]
    fn a_port_that_is_released_late_is_waited_for() {
        let range = PortRange::find(2, 200).unwrap();
        let taken = UdpSocket::bind(range.addresses()[1]).unwrap();
        range.try_all().unwrap_err();
        let release = thread::spawn(move || {
            thread::sleep(5 * FREE_WAIT_STEP);
            drop(taken);
        });
        range.wait_until_free().unwrap();
        release.join().unwrap();
    }

    #[test]
    fn more_ports_than_there_are_is_an_error() {
        PortRange::find(30_000, 0).unwrap_err();
        PortRange::find(70_000, 0).unwrap_err();
    }

    #[test]
    fn a_cluster_of_many_blocks_gets_them_in_a_row() {
        let addresses = PortRange::find(120, 300).unwrap().addresses();
        assert!(addresses.windows(2).all(|pair| pair[0].port() + 1 == pair[1].port()));
        assert_eq!(addresses.len(), 120);
    }
}
