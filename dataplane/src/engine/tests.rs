//! Each engine over loopback, by itself.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Instant;

use super::*;
use crate::buffers::JOINED_BYTES_MAX;
use crate::link::link;
use crate::wake::ShardWaker;
use crate::{socket, steer};

/// Far beyond what any machine needs; only a defect reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const BUFFERS: BufferCounts = BufferCounts {
    receive_buffers: 8,
    send_slots: 8,
    slice_buffers: 1,
    slice_buffer_bytes: 1 << 17,
    handed_over_bytes: 0,
};

/// Each of these functions is a test for each engine.
macro_rules! for_each_engine {
    ($($name:ident,)*) => {
        mod io_uring {
            $(#[test] fn $name() { super::$name(crate::EngineKind::IoUring) })*
        }
        mod syscalls {
            $(#[test] fn $name() { super::$name(crate::EngineKind::Syscalls) })*
        }
    };
}

for_each_engine! {
    joined_datagrams_arrive_in_one_buffer_with_their_size_and_time,
    the_largest_joined_send_fits_a_receive_buffer,
    single_datagrams_arrive_one_by_one,
    datagrams_leave_from_a_slice_buffer,
    reading_goes_on_after_the_buffers_ran_out,
    an_empty_datagram_does_not_stop_reading,
    a_peer_that_is_down_disturbs_nothing,
    a_send_that_fails_is_counted_and_those_behind_it_leave,
    sends_wait_for_room_and_all_of_them_leave,
    a_wait_does_not_begin_while_slots_that_were_missing_are_free,
    sends_that_wait_do_not_keep_an_engine_from_ending,
    control_is_woken_only_when_it_is_parked,
    a_waiting_engine_is_woken_by_its_event,
    dropping_an_engine_frees_its_port_at_once,
    datagrams_are_steered_by_lane,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn open() -> (Socket, SocketAddr) {
    let socket = socket::open(loopback(), 1 << 20).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn parts_of(socket: Socket) -> EngineParts {
    let (_, control) = link(ShardWaker::new().unwrap(), 0);
    let (control_waker, _) = ControlWaker::pair().unwrap();
    let counters = Arc::new(Counters::new());
    EngineParts {
        socket,
        buffers: BUFFERS,
        peers: Box::new([]),
        control,
        control_waker,
        neighbours: Arc::default(),
        counters,
    }
}

/// What an engine is made of that receives at this address of loopback.
pub(crate) fn parts() -> (EngineParts, SocketAddr) {
    let (socket, address) = open();
    (parts_of(socket), address)
}

fn engine(kind: EngineKind, parts: EngineParts) -> Engine {
    Engine::new(kind, RingDepth { submissions: 16, completions: 64 }, parts).unwrap()
}

/// An engine whose peer 0 is itself, where it receives, and what it counts.
fn echo(kind: EngineKind) -> (Engine, SocketAddr, Arc<Counters>) {
    let (parts, address) = parts();
    let counters = Arc::clone(&parts.counters);
    (engine(kind, EngineParts { peers: Box::new([address.into()]), ..parts }), address, counters)
}

fn send(engine: &mut Engine, bytes: &[u8], segment_bytes: usize, peer: usize) {
    let slot = engine.take_slot().unwrap();
    engine.slot_bytes(&slot)[..bytes.len()].copy_from_slice(bytes);
    engine.send(slot, bytes.len(), peer, segment_bytes);
}

/// Runs the engine until `done`.
fn run_until(engine: &mut Engine, held: &mut Vec<BufferId>, mut done: impl FnMut(&Engine, &[BufferId]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(engine, held) {
        assert!(Instant::now() < deadline, "{} buffers came", held.len());
        engine.reap(Some(Duration::from_millis(50)), held);
    }
}

fn receive(engine: &mut Engine, held: &mut Vec<BufferId>, enough: usize) {
    run_until(engine, held, |_, held| held.len() >= enough);
}

fn joined_datagrams_arrive_in_one_buffer_with_their_size_and_time(kind: EngineKind) {
    let (mut engine, _, counters) = echo(kind);
    let bytes: Vec<u8> = (0..50 * 1_232 + 700).map(|index| (index % 251) as u8).collect();
    let mut held = Vec::new();
    engine.reap(Some(Duration::ZERO), &mut held);
    let before = crate::clock::wall_clock_ns();
    send(&mut engine, &bytes, 1_232, 0);
    receive(&mut engine, &mut held, 1);
    let received = engine.received(held[0]);
    assert_eq!((received.payload, received.segment_bytes, received.truncated), (&bytes[..], 1_232, false));
    assert!((before..=crate::clock::wall_clock_ns()).contains(&received.stamp_ns.unwrap()));
    assert_eq!(counters.get(Counter::DatagramsSent), 51);
}

fn the_largest_joined_send_fits_a_receive_buffer(kind: EngineKind) {
    let (mut engine, ..) = echo(kind);
    let bytes = vec![5; JOINED_BYTES_MAX];
    send(&mut engine, &bytes, 8_972, 0);
    let mut held = Vec::new();
    receive(&mut engine, &mut held, 1);
    let received = engine.received(held[0]);
    assert_eq!((received.payload.len(), received.truncated), (bytes.len(), false));
}

fn single_datagrams_arrive_one_by_one(kind: EngineKind) {
    let (mut engine, ..) = echo(kind);
    (0..5_u8).for_each(|index| send(&mut engine, &[index; 40], 40, 0));
    let mut held = Vec::new();
    receive(&mut engine, &mut held, 5);
    for (index, &buffer) in held.iter().enumerate() {
        let received = engine.received(buffer);
        assert_eq!((received.payload, received.segment_bytes), (&[index as u8; 40][..], 40));
    }
}

fn datagrams_leave_from_a_slice_buffer(kind: EngineKind) {
    let (mut engine, ..) = echo(kind);
    let buffer = engine.take_slice_buffer().unwrap();
    engine.slice_bytes_mut(&buffer)[1_000..3_500].fill(9);
    let slot = engine.take_slot().unwrap();
    engine.send_slice(slot, &buffer, 1_000..3_500, 0, 1_000);
    engine.give_back_slice_buffer(buffer);
    assert!(engine.take_slice_buffer().is_none(), "a send still reads it");
    let mut held = Vec::new();
    receive(&mut engine, &mut held, 1);
    let received = engine.received(held[0]);
    assert_eq!((received.payload, received.segment_bytes), (&[9; 2_500][..], 1_000));
    assert!(engine.take_slice_buffer().is_some());
}

/// A multishot receive ends when buffers run out. Nothing that the socket still holds may be lost then.
fn reading_goes_on_after_the_buffers_ran_out(kind: EngineKind) {
    let (mut engine, address, counters) = echo(kind);
    let sender = UdpSocket::bind(loopback()).unwrap();
    let mut held = Vec::new();
    engine.reap(Some(Duration::ZERO), &mut held);
    for index in 0..20_u8 {
        sender.send_to(&[index; 60], address).unwrap();
    }
    run_until(&mut engine, &mut held, |_, _| counters.get(Counter::ReceiveBuffersExhausted) > 0);
    assert_eq!(held.len(), 8);
    let mut seen = Vec::new();
    while seen.len() < 20 {
        for buffer in std::mem::take(&mut held) {
            seen.push(engine.received(buffer).payload[0]);
            engine.release(buffer);
        }
        if seen.len() < 20 {
            receive(&mut engine, &mut held, 1);
        }
    }
    assert_eq!(seen, (0..20).collect::<Vec<u8>>());
}

/// An empty datagram ends a multishot receive without an error.
fn an_empty_datagram_does_not_stop_reading(kind: EngineKind) {
    let (mut engine, address, _) = echo(kind);
    let sender = UdpSocket::bind(loopback()).unwrap();
    for bytes in [&b""[..], b"a", b"", b"b"] {
        sender.send_to(bytes, address).unwrap();
    }
    let mut held = Vec::new();
    receive(&mut engine, &mut held, 4);
    let payloads: Vec<&[u8]> = held.iter().map(|&buffer| engine.received(buffer).payload).collect();
    assert_eq!(payloads, [&b""[..], b"a", b"", b"b"]);
}

/// On loopback every datagram to a peer that is down comes back as an ICMP error. It must cost neither a send to that
/// peer nor what others send.
fn a_peer_that_is_down_disturbs_nothing(kind: EngineKind) {
    let (parts, own) = parts();
    let counters = Arc::clone(&parts.counters);
    let down = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    let mut engine = engine(kind, EngineParts { peers: Box::new([own.into(), down.into()]), ..parts });
    let mut held = Vec::new();
    for index in 0..20_u8 {
        for peer in [1, 0, 1] {
            send(&mut engine, &[index; 300], 100, peer);
        }
        receive(&mut engine, &mut held, 1);
        held.drain(..).for_each(|buffer| {
            assert_eq!(engine.received(buffer).payload, [index; 300]);
            engine.release(buffer);
        });
    }
    let counted =
        [Counter::DatagramsSent, Counter::SendFailed, Counter::ReceiveErrors, Counter::ReceiveBuffersExhausted];
    assert_eq!(counted.map(|which| counters.get(which)), [180, 0, 0, 0]);
}

/// Sending to the broadcast address is not permitted on a socket that did not ask for it.
fn a_send_that_fails_is_counted_and_those_behind_it_leave(kind: EngineKind) {
    let (parts, own) = parts();
    let counters = Arc::clone(&parts.counters);
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
    let mut engine = engine(kind, EngineParts { peers: Box::new([own.into(), nowhere.into()]), ..parts });
    for peer in [0, 1, 1, 0] {
        send(&mut engine, &[0; 300], 100, peer);
    }
    run_until(&mut engine, &mut Vec::new(), |engine, held| engine.sends.in_flight() == 0 && held.len() == 2);
    let counted = [Counter::SendFailed, Counter::DatagramsSent, Counter::SendsCompleted];
    assert_eq!(counted.map(|which| counters.get(which)), [6, 6, 2]);
}

/// An engine whose only peer is a Unix socket: unlike over loopback, what that does not read fills the sender's buffer.
fn engine_with_slow_peer(kind: EngineKind) -> (Engine, UnixDatagram, Arc<Counters>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer");
    let peer = UnixDatagram::bind(&path).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let parts = parts_of(UnixDatagram::unbound().unwrap().into());
    let counters = Arc::clone(&parts.counters);
    let engine = engine(kind, EngineParts { peers: Box::new([SockAddr::unix(path).unwrap()]), ..parts });
    (engine, peer, counters, folder)
}

/// Sends until no slot is free and none becomes free; how many.
fn send_until_blocked(engine: &mut Engine) -> u8 {
    let mut sent = 0;
    loop {
        if engine.sends.in_flight() == usize::from(BUFFERS.send_slots) {
            engine.reap(Some(Duration::from_millis(20)), &mut Vec::new());
        }
        let Some(slot) = engine.take_slot() else { return sent };
        engine.slot_bytes(&slot)[0] = sent;
        engine.send(slot, 60_000, 0, 60_000);
        sent += 1;
    }
}

fn sends_wait_for_room_and_all_of_them_leave(kind: EngineKind) {
    let (mut engine, peer, counters, _folder) = engine_with_slow_peer(kind);
    let sent = send_until_blocked(&mut engine);
    let read = thread::spawn(move || {
        let mut bytes = vec![0; 60_000];
        let read = (0..sent).map(|_| {
            assert_eq!(peer.recv(&mut bytes).unwrap(), 60_000);
            bytes[0]
        });
        read.collect::<std::collections::BTreeSet<u8>>()
    });
    run_until(&mut engine, &mut Vec::new(), |engine, _| engine.sends.in_flight() == 0);
    assert_eq!(read.join().unwrap(), (0..sent).collect());
    let counted = [Counter::SendsCompleted, Counter::SendFailed].map(|which| counters.get(which));
    assert_eq!(counted, [u64::from(sent), 0]);
    assert_eq!(counters.get(Counter::SendsBlocked) > 0, kind == EngineKind::Syscalls);
}

/// Otherwise whoever found no slot would wait, too, and nothing would ever wake the shard.
fn a_wait_does_not_begin_while_slots_that_were_missing_are_free(kind: EngineKind) {
    let (mut engine, peer, _counters, _folder) = engine_with_slow_peer(kind);
    let sent = send_until_blocked(&mut engine);
    let mut bytes = vec![0; 60_000];
    peer.set_nonblocking(true).unwrap();
    let mut read = 0;
    let deadline = Instant::now() + PATIENCE;
    while read < sent {
        assert!(Instant::now() < deadline);
        engine.submit();
        read += u8::from(peer.recv(&mut bytes).is_ok());
    }
    let start = Instant::now();
    engine.reap(Some(PATIENCE), &mut Vec::new());
    assert!(start.elapsed() < PATIENCE);
    assert!(engine.take_slot().is_some());
}

fn sends_that_wait_do_not_keep_an_engine_from_ending(kind: EngineKind) {
    let (mut engine, _peer, _counters, _folder) = engine_with_slow_peer(kind);
    send_until_blocked(&mut engine);
    drop(engine);
}

fn control_is_woken_only_when_it_is_parked(kind: EngineKind) {
    let (waker, reader) = ControlWaker::pair().unwrap();
    let parts = EngineParts { control_waker: Arc::clone(&waker), ..parts().0 };
    let mut engine = engine(kind, parts);
    engine.wake_control();
    waker.park();
    engine.wake_control();
    engine.wake_control();
    engine.submit();
    reader.set_nonblocking(false).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut &reader, &mut [0; 8]).unwrap(), 1);
}

fn a_waiting_engine_is_woken_by_its_event(kind: EngineKind) {
    let (link, control) = link(ShardWaker::new().unwrap(), 0);
    let mut engine = engine(kind, EngineParts { control: control.clone(), ..parts().0 });
    control.waker().park(false);
    let pusher = thread::spawn(move || {
        let body = crate::MessageBytes::try_from(&b"x"[..]).unwrap();
        link.push(crate::ToShard::Broadcast { kind: crate::datagram::Kind::Vote, body }).unwrap();
        link.flush();
    });
    let start = Instant::now();
    engine.reap(Some(PATIENCE), &mut Vec::new());
    assert!(start.elapsed() < PATIENCE && control.has_orders());
    pusher.join().unwrap();
}

/// A multishot receive keeps the socket, and so the port, until it is cancelled.
fn dropping_an_engine_frees_its_port_at_once(kind: EngineKind) {
    let (mut engine, address, _) = echo(kind);
    send(&mut engine, &[1; 100], 100, 0);
    receive(&mut engine, &mut Vec::new(), 1);
    drop(engine);
    UdpSocket::bind(address).unwrap();
}

fn datagrams_are_steered_by_lane(kind: EngineKind) {
    let (first, address) = open();
    let group = [first, socket::open(address, 1 << 20).unwrap(), socket::open(address, 1 << 20).unwrap()];
    steer::by_lane(&group[0], 3).unwrap();
    let sender = UdpSocket::bind(loopback()).unwrap();
    for lane in 0..9_u8 {
        sender.send_to(&[1, 1, lane, 0], address).unwrap();
    }
    for (index, socket) in group.into_iter().enumerate() {
        let mut engine = engine(kind, parts_of(socket));
        let mut held = Vec::new();
        receive(&mut engine, &mut held, 3);
        for buffer in held {
            assert_eq!(usize::from(engine.received(buffer).payload[2]) % 3, index);
        }
    }
}
