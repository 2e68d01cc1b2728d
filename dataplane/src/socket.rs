//! The UDP sockets of the shards: one port, options, and the control messages that come with what they receive.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

/// Room for control messages in each receive: the segment size (`UDP_GRO`) and the time (`SO_TIMESTAMPNS`).
pub(crate) const RECEIVE_CONTROL_BYTES: usize =
    2 * CONTROL_HEADER_BYTES + CONTROL_ALIGNMENT + size_of::<libc::timespec>();
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const CONTROL_ALIGNMENT: usize = size_of::<usize>();

/// Opens a socket of the group that shares `address`, ready to receive once it is bound, and binds it.
///
/// # Errors
/// What the kernel says, with the step that failed.
pub(crate) fn open(address: SocketAddr, buffer_bytes: usize) -> Result<Socket, (&'static str, io::Error)> {
    let step = |what| move |error| (what, error);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(step("open a UDP socket"))?;
    socket.set_reuse_port(true).map_err(step("share the port between shards (SO_REUSEPORT)"))?;
    set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).map_err(step("join received datagrams (UDP_GRO)"))?;
    set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1).map_err(step("get receive times (SO_TIMESTAMPNS)"))?;
    never_fragment(&socket, address).map_err(step("forbid fragmentation (IP_MTU_DISCOVER)"))?;
    for (granted, sysctl) in enlarge_buffers(&socket, buffer_bytes) {
        tracing::warn!(
            wanted_bytes = buffer_bytes,
            granted_bytes = granted,
            "small socket buffer, bursts may be lost: raise sysctl {sysctl} or grant CAP_NET_ADMIN"
        );
    }
    socket.bind(&address.into()).map_err(step("bind the port"))?;
    Ok(socket)
}

/// `PROBE` sets DF, and unlike `DO` it takes no path MTU from ICMP messages, which anyone can forge: the cluster's
/// datagram limit is what its network must carry.
fn never_fragment(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        SocketAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    }
}

/// Asks for socket buffers beyond the system's limit, which takes CAP_NET_ADMIN, then within it. Smaller buffers lose
/// datagrams in bursts and break nothing, so they are no error: gives their sizes, each with the sysctl that limits it.
fn enlarge_buffers(socket: &Socket, bytes: usize) -> impl Iterator<Item = (usize, &'static str)> {
    let wanted = i32::try_from(bytes).unwrap_or(i32::MAX);
    if set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted).is_err() {
        let _ = socket.set_recv_buffer_size(bytes);
    }
    if set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted).is_err() {
        let _ = socket.set_send_buffer_size(bytes);
    }
    // The kernel reports twice what it was asked for: it counts its own bookkeeping.
    let granted = [socket.recv_buffer_size(), socket.send_buffer_size()].map(|size| size.unwrap_or(0) / 2);
    granted.into_iter().zip(["net.core.rmem_max", "net.core.wmem_max"]).filter(move |(granted, _)| *granted < bytes)
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is an int that lives through the call, and the length says so.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel says about one receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlMessages {
    /// Bytes of each of the datagrams that were joined; absent for a single one.
    pub(crate) segment_bytes: Option<usize>,
    /// When it was received, on CLOCK_REALTIME.
    pub(crate) stamp_ns: Option<u64>,
}

impl ControlMessages {
    /// Reads a sequence of control messages: length with header (a word), level, kind (an int each), value, padding.
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut messages = Self::default();
        while let Some((header, _)) = bytes.split_first_chunk::<CONTROL_HEADER_BYTES>() {
            let length = word(header) as usize;
            let Some(value) = bytes.get(CONTROL_HEADER_BYTES..length) else { break };
            match (int(&header[8..]), int(&header[12..])) {
                (libc::SOL_UDP, libc::UDP_GRO) if value.len() >= 4 => {
                    messages.segment_bytes = usize::try_from(int(value)).ok();
                }
                (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) if value.len() >= 16 => {
                    messages.stamp_ns = Some(word(value).wrapping_mul(1_000_000_000).wrapping_add(word(&value[8..])));
                }
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(CONTROL_ALIGNMENT)..).unwrap_or_default();
        }
        messages
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| bytes[index]))
}

fn int(bytes: &[u8]) -> i32 {
    i32::from_ne_bytes([0, 1, 2, 3].map(|index| bytes[index]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(level: i32, kind: i32, value: &[u8]) -> Vec<u8> {
        let mut bytes = (CONTROL_HEADER_BYTES + value.len()).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&level.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(CONTROL_ALIGNMENT), 0);
        bytes
    }

    #[test]
    fn segment_size_and_time_are_read_in_either_order() {
        let time: Vec<u8> = [7_u64, 9].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let time = message(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &time);
        let size = message(libc::SOL_UDP, libc::UDP_GRO, &1_232_i32.to_ne_bytes());
        let expected = ControlMessages { segment_bytes: Some(1_232), stamp_ns: Some(7_000_000_009) };
        assert_eq!(ControlMessages::parse(&[time.clone(), size.clone()].concat()), expected);
        assert_eq!(ControlMessages::parse(&[size, time].concat()), expected);
    }

    #[test]
    fn defect_21_socket_buffers_that_are_smaller_than_wanted_are_told() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        // Less than any system's limit, and more than even CAP_NET_ADMIN is given.
        assert_eq!(enlarge_buffers(&socket, 4_096).collect::<Vec<_>>(), []);
        let small: Vec<_> = enlarge_buffers(&socket, i32::MAX as usize).collect();
        let actual = [socket.recv_buffer_size().unwrap() / 2, socket.send_buffer_size().unwrap() / 2];
        assert_eq!(small, [(actual[0], "net.core.rmem_max"), (actual[1], "net.core.wmem_max")]);
    }

    proptest! {
        #[test]
        fn no_control_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = ControlMessages::parse(&bytes);
        }
    }
}
