//! One node to a port. The shards share theirs with `SO_REUSEPORT`, and the kernel lets any process of the same user
//! join such a group silently and take datagrams away.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::StartError;

/// How long a port may stay taken after its process has ended: the kernel takes an io_uring apart, and with it the
/// sockets that it reads, in the background.
const RELEASE_MAX: Duration = Duration::from_secs(2);
const RELEASE_STEP: Duration = Duration::from_millis(10);

/// Holds a port for this node as long as it lives.
pub(crate) struct PortGuard {
    address: SocketAddr,
    _name: UnixDatagram,
}

impl PortGuard {
    /// Takes the port, or refuses if another socket still has it after [`RELEASE_MAX`].
    pub(crate) fn acquire(address: SocketAddr) -> Result<Self, StartError> {
        let deadline = Instant::now() + RELEASE_MAX;
        loop {
            match Self::try_acquire(address) {
                Err(StartError::PortTaken { .. }) if Instant::now() < deadline => thread::sleep(RELEASE_STEP),
                outcome => return outcome,
            }
        }
    }

    /// A bind without `SO_REUSEPORT` fails if anyone has the port in any way. It has to be given up before the shards
    /// bind, so a name that only one process can hold (an abstract Unix socket, which dies with it) covers the time
    /// between. Port 0 takes a free one.
    fn try_acquire(address: SocketAddr) -> Result<Self, StartError> {
        let refuse = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => StartError::PortTaken { address },
            _ => StartError::Bind { address, error },
        };
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(refuse)?;
        socket.bind(&address.into()).map_err(refuse)?;
        let bound = socket.local_addr().map_err(refuse)?;
        let address = bound.as_socket().expect("a UDP socket is bound to an internet address");
        let name = UnixAddr::from_abstract_name(format!("alpenglow/udp/{address}")).map_err(refuse)?;
        Ok(Self { address, _name: UnixDatagram::bind_addr(&name).map_err(refuse)? })
    }

    /// The address with the port taken.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_second_guard_of_one_port_is_refused_until_the_first_is_gone() {
        let first = PortGuard::acquire(any_port()).unwrap();
        let address = first.address();
        assert!(matches!(PortGuard::acquire(address), Err(StartError::PortTaken { .. })));
        drop(first);
        PortGuard::acquire(address).unwrap();
    }

    /// A node that was killed and is started again finds its port taken for a moment.
    #[test]
    fn a_port_that_is_released_late_is_waited_for() {
        let first = PortGuard::acquire(any_port()).unwrap();
        let address = first.address();
        let late = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        late.set_reuse_port(true).unwrap();
        late.bind(&address.into()).unwrap();
        drop(first);
        assert!(matches!(PortGuard::try_acquire(address), Err(StartError::PortTaken { .. })));
        let release = thread::spawn(move || {
            thread::sleep(5 * RELEASE_STEP);
            drop(late);
        });
        PortGuard::acquire(address).unwrap();
        release.join().unwrap();
    }

    #[test]
    fn a_port_shared_by_somebody_else_is_refused() {
        let other = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        other.set_reuse_port(true).unwrap();
        other.bind(&any_port().into()).unwrap();
        let address = other.local_addr().unwrap().as_socket().unwrap();
        assert!(matches!(PortGuard::acquire(address), Err(StartError::PortTaken { .. })));
    }
}
