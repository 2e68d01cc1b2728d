//! A network that does not carry the cluster's datagrams: in a network namespace of its own, whose loopback is narrow.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Command;

use alpenglow_dataplane::datagram::Kind;
use alpenglow_dataplane::{Counter, EngineKind, MessageBytes, ToShard};
use alpenglow_rotor::parameters::{Code, CodingParameters};
use common::{Node, configs_with, run_until, send_slice, slice_id, start};

/// What 1,232 bytes need with IPv4 and UDP headers, and 1,472 do not fit.
const MTU: &str = "1280";

/// Set where the loopback interface may be changed.
const INSIDE: &str = "ALPENGLOW_TEST_INSIDE_NAMESPACE";

/// Runs itself once more where it may make a network of its own.
#[test]
fn datagrams_too_long_for_the_network_are_counted_and_shorter_ones_pass() {
    if std::env::var_os(INSIDE).is_some() {
        return inside_of_a_namespace();
    }
    let namespace = ["--user", "--map-root-user", "--net"];
    let ready = Command::new("unshare").args(namespace).args(["ip", "link", "set", "lo", "up", "mtu", MTU]).output();
    if !ready.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no network namespace can be made here ({ready:?})");
        return;
    }
    let mut inside = Command::new("unshare");
    inside.args(namespace).arg(std::env::current_exe().unwrap()).arg("--nocapture").env(INSIDE, "");
    let output = inside.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("test result: ok. 1 passed"));
}

fn inside_of_a_namespace() {
    let narrow = Command::new("ip").args(["link", "set", "lo", "up", "mtu", MTU]).status().unwrap();
    assert!(narrow.success());
    for (engine, datagram_bytes, fits) in
        EngineKind::ALL.into_iter().flat_map(|engine| [(engine, 1_232, true), (engine, 1_472, false)])
    {
        let coding = CodingParameters::fitting(Code::Rs8, 32, 64, datagram_bytes).unwrap();
        let mut nodes: Vec<Node> = configs_with(engine, coding, 2, 1).into_iter().map(start).collect();
        let full = slice_id(1, 0);
        send_slice(&nodes[0], full, true, coding.slice_payload_bytes());
        if fits {
            run_until(&mut nodes, "the full slice decoded", |nodes| nodes[1].received(full).is_some());
            assert_eq!(nodes[0].counter(Counter::SendTooLong), 0);
            continue;
        }
        // Whether of a joined send or of a single one; nothing arrives in pieces.
        run_until(&mut nodes, "all of it refused", |nodes| nodes[0].counter(Counter::SendTooLong) >= 64);
        let body = MessageBytes::try_from(&[7; 1_000][..]).unwrap();
        nodes[0].order(0, ToShard::Broadcast { kind: Kind::Vote, body });
        let short = slice_id(1, 1);
        send_slice(&nodes[0], short, true, 10_000);
        run_until(&mut nodes, "a vote and a short slice", |nodes| {
            nodes[1].messages.len() == 1 && nodes[1].received(short).is_some()
        });
        assert!(nodes[1].received(full).is_none());
        assert_eq!([Counter::SendTooLong, Counter::SendFailed].map(|counter| nodes[0].counter(counter)), [64, 0]);
    }
}
