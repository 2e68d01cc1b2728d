//! UDP sockets that join datagrams: the bare minimum of what the kernel offers, and nothing around it.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

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
