//! Steering: the kernel runs a small program on each datagram and gives it to the shard that its lane names.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

use crate::datagram::LANE_OFFSET;

const fn instruction(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

/// Attaches `lane % shards` to the group that `socket` belongs to. The result picks the socket by the order in which
/// they were bound. A datagram too short for a lane goes to the first one. Joined datagrams are steered as a whole, by
/// the first one's lane.
///
/// # Errors
/// What the kernel says.
pub(crate) fn by_lane(socket: &Socket, shards: u32) -> io::Result<()> {
    let program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, LANE_OFFSET as u32),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, shards),
        instruction(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives through the call and is only read; the lengths are theirs.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
