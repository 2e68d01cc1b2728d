//! Starting and stopping.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::UdpSocket;
use std::sync::Arc;

use alpenglow_dataplane::{ControlWaker, Counter, Dataplane, DataplaneConfig, EngineKind, Horizon, StartError};
use alpenglow_rotor::types::Slot;
use common::{configs, run_until, send_slice, slice_id, start};

for_each_engine! {
    a_second_node_on_the_same_port_is_refused,
    stopping_in_full_flight_returns_reports_and_frees_the_port,
    an_address_of_another_machine_is_refused,
}

fn try_start(config: DataplaneConfig) -> Result<(), StartError> {
    let (waker, _reader) = ControlWaker::pair().unwrap();
    let horizon = Arc::new(Horizon::new(Slot(0), Slot(100)));
    Dataplane::start(config, waker, horizon).map(|_| ())
}

/// The kernel would let both share the port, and each would get some of the datagrams.
fn a_second_node_on_the_same_port_is_refused(engine: EngineKind) {
    let config = configs(engine, 2, 2).swap_remove(0);
    let first = start(config.clone());
    let refusal = try_start(config.clone()).unwrap_err();
    assert!(matches!(refusal, StartError::PortTaken { address } if address == config.bind), "{refusal}");
    assert!(first.dataplane.is_running());
    drop(first);
    try_start(config).unwrap();
}

fn stopping_in_full_flight_returns_reports_and_frees_the_port(engine: EngineKind) {
    let configs = configs(engine, 3, 2);
    let ports: Vec<_> = configs.iter().map(|config| config.bind).collect();
    let mut nodes: Vec<_> = configs.into_iter().map(start).collect();
    for index in 0..40 {
        send_slice(&nodes[0], slice_id(1, index), false, 20_000);
    }
    run_until(&mut nodes, "some slices", |nodes| nodes[2].slices.len() > 3);
    for (node, port) in nodes.into_iter().zip(ports) {
        let live: u64 = node.counter(Counter::DatagramsReceived);
        let reports = node.dataplane.stop();
        assert_eq!(reports.iter().map(|report| report.shard).collect::<Vec<_>>(), [0, 1]);
        assert!(reports.iter().map(|report| report.counters.get(Counter::DatagramsReceived)).sum::<u64>() >= live);
        UdpSocket::bind(port).unwrap();
    }
}

#[test]
fn configurations_that_do_not_fit_together_are_refused() {
    let good = || configs(EngineKind::IoUring, 3, 1).swap_remove(0);
    let refused = |config: DataplaneConfig| try_start(config).unwrap_err().to_string();
    let mut short = good();
    short.addresses.pop();
    assert!(refused(short).contains("2 addresses for 3 validators"));
    assert!(refused(DataplaneConfig { shards: 0, cores: vec![], ..good() }).contains("0 shards"));
    assert!(refused(DataplaneConfig { cores: vec![], ..good() }).contains("0 cores for 1 shards"));
    assert!(refused(DataplaneConfig { identity: common::identity(2), ..good() }).contains("identity key"));
    assert!(refused(DataplaneConfig { cores: vec![Some(100_000)], ..good() }).contains("core 100000"));
    let mut mixed = good();
    mixed.addresses[1] = "[::1]:9000".parse().unwrap();
    assert!(refused(mixed).contains("family"));
}

fn an_address_of_another_machine_is_refused(engine: EngineKind) {
    let elsewhere = DataplaneConfig { bind: "192.0.2.1:9000".parse().unwrap(), ..configs(engine, 2, 1).swap_remove(0) };
    assert!(matches!(try_start(elsewhere).unwrap_err(), StartError::Bind { .. }));
}
