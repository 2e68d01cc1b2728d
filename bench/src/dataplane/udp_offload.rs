//! UDP sockets that join datagrams: the bare minimum of what the kernel offers, and nothing around it.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};
use socket2::SockAddr;

/// Most datagrams that the kernel joins.
pub(crate) const SEGMENTS_MAX: usize = 128;

/// A non-blocking loopback socket on a free port. Receives datagrams joined (`UDP_GRO`); sends whatever it is given as
/// datagrams of `segment_bytes` (`UDP_SEGMENT`). Buffers are as large as the system allows, up to `buffer_bytes`.
///
/// # Errors
/// What the kernel says.
pub(crate) fn socket(segment_bytes: usize, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, segment_bytes)?;
    // These need CAP_NET_ADMIN; without it buffers stay as they are, and whoever loses datagrams says so.
    let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer_bytes);
    let _ = set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, buffer_bytes);
    Ok(socket)
}

/// Sends everything, waiting while the socket's buffer is full.
///
/// # Panics
/// If the kernel refuses.
pub(crate) fn send(socket: &UdpSocket, datagrams: &[u8], to: SocketAddr) {
    loop {
        match socket.send_to(datagrams, to) {
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => panic!("loopback takes no datagrams: {error}"),
        }
    }
}

/// Bytes received, joined or not; 0 if nothing is there.
///
/// # Panics
/// If the kernel reports an error.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    match socket.recv(buffer) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("cannot receive: {error}"),
    }
}

/// A way to send the same bytes to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A system call for each of them.
    SendTo,
    /// One for all of them, or several for very many.
    SendMmsg,
    /// One for all of them, as operations of a ring on a registered socket.
    Ring,
    /// A system call for each, on a socket that is connected to one receiver: for comparison only, since who has many
    /// peers has one socket for all of them.
    Connected,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::SendTo, Self::SendMmsg, Self::Ring, Self::Connected];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SendTo => "sendto",
            Self::SendMmsg => "sendmmsg",
            Self::Ring => "io_uring",
            Self::Connected => "connected",
        }
    }
}

/// Sends the same bytes to one address as often as there are receivers. Belongs to the thread that made it.
pub(crate) struct Fan<'a> {
    socket: &'a UdpSocket,
    to: SockAddr,
    receivers: usize,
    means: Means,
}

enum Means {
    SendTo(SocketAddr),
    SendMmsg(Vec<libc::mmsghdr>),
    Ring(Box<IoUring>),
    Connected(UdpSocket),
}

impl<'a> Fan<'a> {
    /// `segment_bytes` as in [`socket`].
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(
        way: Way,
        socket: &'a UdpSocket,
        segment_bytes: usize,
        to: SocketAddr,
        receivers: usize,
    ) -> io::Result<Self> {
        let means = match way {
            Way::SendTo => Means::SendTo(to),
            Way::SendMmsg => Means::SendMmsg(Vec::with_capacity(receivers)),
            Way::Ring => {
                let entries = receivers.next_power_of_two() as u32;
                let ring = IoUring::builder()
                    .setup_single_issuer()
                    .setup_coop_taskrun()
                    .setup_defer_taskrun()
                    .setup_submit_all()
                    .build(entries)?;
                ring.submitter().register_files(&[socket.as_raw_fd()])?;
                Means::Ring(Box::new(ring))
            }
            Way::Connected => {
                let connected = self::socket(segment_bytes, 64 << 20)?;
                connected.connect(to)?;
                Means::Connected(connected)
            }
        };
        Ok(Self { socket, to: to.into(), receivers, means })
    }

    /// Sends `datagrams` to every receiver.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub(crate) fn send(&mut self, datagrams: &[u8]) {
        match &mut self.means {
            Means::SendTo(to) => (0..self.receivers).for_each(|_| send(self.socket, datagrams, *to)),
            Means::Connected(socket) => (0..self.receivers).for_each(|_| {
                while let Err(error) = socket.send(datagrams) {
                    assert!(error.kind() == io::ErrorKind::WouldBlock, "loopback takes no datagrams: {error}");
                }
            }),
            Means::SendMmsg(messages) => send_mmsg(self.socket, datagrams, &self.to, self.receivers, messages),
            Means::Ring(ring) => send_by_ring(ring, datagrams, &self.to, self.receivers),
        }
    }
}

fn send_mmsg(socket: &UdpSocket, datagrams: &[u8], to: &SockAddr, receivers: usize, messages: &mut Vec<libc::mmsghdr>) {
    let mut vector = libc::iovec { iov_base: datagrams.as_ptr().cast_mut().cast(), iov_len: datagrams.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    messages.clear();
    messages.resize(receivers, libc::mmsghdr { msg_hdr: header, msg_len: 0 });
    let mut sent = 0;
    while sent < receivers {
        let left = &mut messages[sent..];
        // SAFETY: the headers and the address, the vector and the bytes that they name live through the call, which
        // only reads them and writes the lengths.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, 0) };
        match usize::try_from(result) {
            Ok(more) => sent += more,
            Err(_) => {
                let error = io::Error::last_os_error();
                assert!(error.kind() == io::ErrorKind::WouldBlock, "loopback takes no datagrams: {error}");
            }
        }
    }
}

fn send_by_ring(ring: &mut IoUring, datagrams: &[u8], to: &SockAddr, receivers: usize) {
    let mut left = receivers;
    while left > 0 {
        let entry = opcode::Send::new(types::Fixed(0), datagrams.as_ptr(), datagrams.len() as u32)
            .dest_addr(to.as_ptr().cast())
            .dest_addr_len(to.len())
            .build();
        for _ in 0..left {
            // SAFETY: address and bytes live until the completions of all sends were waited for below.
            unsafe { ring.submission().push(&entry) }.expect("the ring has room for all receivers");
        }
        ring.submit_and_wait(left).expect("the ring takes sends");
        for completion in ring.completion() {
            match completion.result() {
                0.. => left -= 1,
                error => assert!(-error == libc::EAGAIN, "loopback takes no datagrams: error {}", -error),
            }
        }
    }
}

fn set(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(value).map_err(io::Error::other)?;
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
