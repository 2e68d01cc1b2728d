//! What only io_uring has.

use std::net::UdpSocket;

use super::*;
use crate::buffers::BufferCounts;
use crate::engine::tests::{PATIENCE, parts};

/// With room for two completions only, the kernel keeps the others and delivers them later.
#[test]
fn a_full_completion_queue_loses_nothing() {
    let (parts, address) = parts();
    let buffers = BufferCounts { receive_buffers: 32, ..parts.buffers };
    let depth = RingDepth { submissions: 2, completions: 2 };
    let mut ring = Ring::new(depth, EngineParts { buffers, ..parts }).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut held = Vec::new();
    ring.reap(Some(Duration::ZERO), &mut held);
    for index in 0..24_u8 {
        sender.send_to(&[index; 60], address).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while held.len() < 24 {
        assert!(Instant::now() < deadline, "only {} buffers came", held.len());
        ring.reap(Some(Duration::from_millis(50)), &mut held);
    }
    let seen: Vec<u8> = held.iter().map(|&buffer| ring.buffers.received(buffer).payload[0]).collect();
    assert_eq!(seen, (0..24).collect::<Vec<u8>>());
    assert!(ring.counters.get(Counter::CompletionQueueOverflows) > 0);
}
