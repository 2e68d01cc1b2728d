//! The ring over loopback, by itself.

use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::buffers::BufferCounts;
use crate::link::link;
use crate::wake::{ControlWaker, ShardWaker};
use crate::{socket, steer};

const BUFFERS: BufferCounts =
    BufferCounts { receive_buffers: 8, send_slots: 8, slice_buffers: 1, slice_buffer_bytes: 1 << 17 };
const DEPTH: RingDepth = RingDepth { submissions: 16, completions: 64 };
const PATIENCE: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn address_of(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// What a ring without peers is made of.
fn parts(socket: Socket) -> EngineParts<'static> {
    let (_, control) = link(ShardWaker::new().unwrap());
    let (control_waker, _) = ControlWaker::pair().unwrap();
    EngineParts { socket, buffers: BUFFERS, peers: &[], control, control_waker, counters: Arc::new(Counters::new()) }
}

fn ring_on(socket: Socket, peers: &[SocketAddr]) -> Ring {
    Ring::new(DEPTH, EngineParts { peers, ..parts(socket) }).unwrap()
}

/// A ring on a free port whose peer 0 is itself.
fn echo_ring() -> Ring {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let address = address_of(&socket);
    ring_on(socket, &[address])
}

fn send_to_self(ring: &mut Ring, bytes: &[u8], segment_bytes: usize) {
    let slot = ring.buffers.take_slot().unwrap();
    ring.buffers.slot_bytes(&slot)[..bytes.len()].copy_from_slice(bytes);
    ring.send(slot, bytes.len(), 0, segment_bytes);
}

/// Runs the ring until `enough` buffers are held.
fn receive(ring: &mut Ring, held: &mut Vec<BufferId>, enough: usize) {
    let deadline = Instant::now() + PATIENCE;
    while held.len() < enough {
        assert!(Instant::now() < deadline, "only {} of {enough} buffers came", held.len());
        ring.reap(Some(Duration::from_millis(50)), held);
    }
}

fn counter(ring: &Ring, counter: Counter) -> u64 {
    ring.counters.get(counter)
}

#[test]
fn joined_datagrams_arrive_in_one_buffer_with_their_size_and_time() {
    let mut ring = echo_ring();
    let bytes: Vec<u8> = (0..50 * 1_232 + 700).map(|index| (index % 251) as u8).collect();
    let mut held = Vec::new();
    ring.reap(Some(Duration::ZERO), &mut held);
    let before = crate::clock::wall_clock_ns();
    send_to_self(&mut ring, &bytes, 1_232);
    receive(&mut ring, &mut held, 1);
    let received = ring.buffers.received(held[0]);
    assert_eq!((received.payload, received.segment_bytes, received.truncated), (&bytes[..], 1_232, false));
    assert!((before..=crate::clock::wall_clock_ns()).contains(&received.stamp_ns.unwrap()));
    assert_eq!(counter(&ring, Counter::DatagramsSent), 51);
}

#[test]
fn the_largest_joined_send_fits_a_receive_buffer() {
    let mut ring = echo_ring();
    let bytes = vec![5; crate::buffers::JOINED_BYTES_MAX];
    send_to_self(&mut ring, &bytes, 8_972);
    let mut held = Vec::new();
    receive(&mut ring, &mut held, 1);
    let received = ring.buffers.received(held[0]);
    assert_eq!((received.payload.len(), received.truncated), (bytes.len(), false));
}

#[test]
fn single_datagrams_arrive_one_by_one() {
    let mut ring = echo_ring();
    (0..5_u8).for_each(|index| send_to_self(&mut ring, &[index; 40], 40));
    let mut held = Vec::new();
    receive(&mut ring, &mut held, 5);
    for (index, &buffer) in held.iter().enumerate() {
        let received = ring.buffers.received(buffer);
        assert_eq!((received.payload, received.segment_bytes), (&[index as u8; 40][..], 40));
    }
}

#[test]
fn datagrams_leave_from_a_slice_buffer() {
    let mut ring = echo_ring();
    let buffer = ring.buffers.take_slice_buffer().unwrap();
    ring.buffers.slice_bytes_mut(&buffer)[1_000..3_500].fill(9);
    let slot = ring.buffers.take_slot().unwrap();
    ring.send_slice(slot, &buffer, 1_000..3_500, 0, 1_000);
    ring.buffers.give_back_slice_buffer(buffer);
    assert!(ring.buffers.take_slice_buffer().is_none(), "a send still reads it");
    let mut held = Vec::new();
    receive(&mut ring, &mut held, 1);
    let received = ring.buffers.received(held[0]);
    assert_eq!((received.payload, received.segment_bytes), (&[9; 2_500][..], 1_000));
    assert!(ring.buffers.take_slice_buffer().is_some());
}

/// The multishot receive ends when buffers run out. Nothing that the socket still holds may be lost then.
#[test]
fn reading_goes_on_after_the_buffers_ran_out() {
    let mut ring = echo_ring();
    let sender = UdpSocket::bind(loopback()).unwrap();
    let to = address_of(&ring.socket);
    let mut held = Vec::new();
    ring.reap(Some(Duration::ZERO), &mut held);
    for index in 0..20_u8 {
        sender.send_to(&[index; 60], to).unwrap();
    }
    receive(&mut ring, &mut held, 8);
    let deadline = Instant::now() + PATIENCE;
    while counter(&ring, Counter::ReceiveBuffersExhausted) == 0 {
        assert!(Instant::now() < deadline);
        ring.reap(Some(Duration::from_millis(10)), &mut held);
    }
    assert_eq!(held.len(), 8);
    let mut seen = Vec::new();
    while seen.len() < 20 {
        for buffer in std::mem::take(&mut held) {
            seen.push(ring.buffers.received(buffer).payload[0]);
            ring.buffers.release(buffer);
        }
        if seen.len() < 20 {
            receive(&mut ring, &mut held, 1);
        }
    }
    assert_eq!(seen, (0..20).collect::<Vec<u8>>());
}

/// An empty datagram ends the multishot receive without an error.
#[test]
fn an_empty_datagram_does_not_stop_reading() {
    let mut ring = echo_ring();
    let sender = UdpSocket::bind(loopback()).unwrap();
    let to = address_of(&ring.socket);
    for bytes in [&b""[..], b"a", b"", b"b"] {
        sender.send_to(bytes, to).unwrap();
    }
    let mut held = Vec::new();
    receive(&mut ring, &mut held, 4);
    let payloads: Vec<&[u8]> = held.iter().map(|&buffer| ring.buffers.received(buffer).payload).collect();
    assert_eq!(payloads, [&b""[..], b"a", b"", b"b"]);
}

/// With room for two completions only, the kernel keeps the others and delivers them later.
#[test]
fn a_full_completion_queue_loses_nothing() {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let buffers = BufferCounts { receive_buffers: 32, ..BUFFERS };
    let depth = RingDepth { submissions: 2, completions: 2 };
    let mut ring = Ring::new(depth, EngineParts { buffers, ..parts(socket) }).unwrap();
    let sender = UdpSocket::bind(loopback()).unwrap();
    let to = address_of(&ring.socket);
    let mut held = Vec::new();
    ring.reap(Some(Duration::ZERO), &mut held);
    for index in 0..24_u8 {
        sender.send_to(&[index; 60], to).unwrap();
    }
    receive(&mut ring, &mut held, 24);
    let seen: Vec<u8> = held.iter().map(|&buffer| ring.buffers.received(buffer).payload[0]).collect();
    assert_eq!(seen, (0..24).collect::<Vec<u8>>());
    assert!(counter(&ring, Counter::CompletionQueueOverflows) > 0);
}

/// On loopback every datagram to a peer that is down comes back as an ICMP error. It must cost neither a send to that peer
/// nor what others send.
#[test]
fn a_peer_that_is_down_disturbs_nothing() {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let own = address_of(&socket);
    let down = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    let mut ring = ring_on(socket, &[own, down]);
    let mut held = Vec::new();
    for index in 0..20_u8 {
        for peer in [1, 0, 1] {
            let slot = ring.buffers.take_slot().unwrap();
            ring.buffers.slot_bytes(&slot)[..300].fill(index);
            ring.send(slot, 300, peer, 100);
        }
        receive(&mut ring, &mut held, 1);
        held.drain(..).for_each(|buffer| {
            assert_eq!(ring.buffers.received(buffer).payload, [index; 300]);
            ring.buffers.release(buffer);
        });
    }
    let counted =
        [Counter::DatagramsSent, Counter::SendFailed, Counter::ReceiveErrors, Counter::ReceiveBuffersExhausted];
    assert_eq!(counted.map(|which| counter(&ring, which)), [180, 0, 0, 0]);
}

/// Sending to the broadcast address is not permitted on a socket that did not ask for it.
#[test]
fn a_send_that_fails_is_counted_and_its_slot_is_free_again() {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
    let mut ring = ring_on(socket, &[nowhere]);
    send_to_self(&mut ring, &[0; 300], 100);
    let deadline = Instant::now() + PATIENCE;
    while ring.buffers.sends.in_flight() > 0 {
        assert!(Instant::now() < deadline);
        ring.reap(Some(Duration::from_millis(10)), &mut Vec::new());
    }
    assert_eq!([Counter::SendFailed, Counter::SendsCompleted].map(|which| counter(&ring, which)), [3, 0]);
}

#[test]
fn control_is_woken_through_the_ring_only_when_it_is_parked() {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let (waker, reader) = ControlWaker::pair().unwrap();
    let parts = EngineParts { control_waker: Arc::clone(&waker), ..parts(socket) };
    let mut ring = Ring::new(DEPTH, parts).unwrap();
    ring.wake_control();
    waker.park();
    ring.wake_control();
    ring.wake_control();
    ring.submit();
    reader.set_nonblocking(false).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(io::Read::read(&mut &reader, &mut [0; 8]).unwrap(), 1);
}

#[test]
fn a_waiting_ring_is_woken_by_its_event() {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let (link, control) = link(ShardWaker::new().unwrap());
    let mut ring = Ring::new(DEPTH, EngineParts { control: control.clone(), ..parts(socket) }).unwrap();
    control.waker().park(false);
    let pusher = std::thread::spawn(move || {
        let body = crate::MessageBytes::try_from(&b"x"[..]).unwrap();
        link.push(crate::ToShard::Broadcast { kind: crate::datagram::Kind::Vote, body }).unwrap();
        link.flush();
    });
    let start = Instant::now();
    ring.reap(Some(PATIENCE), &mut Vec::new());
    assert!(start.elapsed() < PATIENCE && control.has_orders());
    pusher.join().unwrap();
}

/// A multishot receive keeps the socket, and so the port, until it is cancelled.
#[test]
fn dropping_a_ring_frees_its_port_at_once() {
    let mut ring = echo_ring();
    let address = address_of(&ring.socket);
    send_to_self(&mut ring, &[1; 100], 100);
    let mut held = Vec::new();
    receive(&mut ring, &mut held, 1);
    drop(ring);
    UdpSocket::bind(address).unwrap();
}

#[test]
fn datagrams_are_steered_by_lane() {
    let first = socket::open(loopback(), 1 << 20).unwrap();
    let address = address_of(&first);
    let group = [first, socket::open(address, 1 << 20).unwrap(), socket::open(address, 1 << 20).unwrap()];
    steer::by_lane(&group[0], 3).unwrap();
    let sender = UdpSocket::bind(loopback()).unwrap();
    for lane in 0..9_u8 {
        sender.send_to(&[1, 1, lane, 0], address).unwrap();
    }
    for (index, socket) in group.into_iter().enumerate() {
        let mut ring = ring_on(socket, &[]);
        let mut held = Vec::new();
        receive(&mut ring, &mut held, 3);
        for buffer in held {
            assert_eq!(usize::from(ring.buffers.received(buffer).payload[2]) % 3, index);
        }
    }
}
