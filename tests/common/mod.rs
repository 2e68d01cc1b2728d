//! What several tests of the program need.

use std::net::UdpSocket;

/// The first of `count` ports in a row, none of which was taken a moment ago.
pub(crate) fn free_ports(count: u16) -> u16 {
    loop {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Some(last) = first.checked_add(count) else { continue };
        if (first..last).all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}
