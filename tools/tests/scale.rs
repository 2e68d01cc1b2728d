//! Whole clusters of some dozens of validators spread over the world, small enough for every run of the tests.

use std::num::NonZero;
use std::time::Duration;

use alpenglow_tools::simulator::mainnet;
use alpenglow_tools::simulator::scale::{Leader, Report, Signatures, Study};

fn zurich() -> Leader {
    Leader::Metro(mainnet::metros().position("Zurich").expect("it is one of the places"))
}

fn traced(study: &Study) -> (Report, Vec<String>) {
    let mut trace = Vec::new();
    let report = study.run_traced(|line| trace.push(line.to_string()));
    (report, trace)
}

fn final_at_half(report: &Report) -> f64 {
    report.distributions[3].p50_ms[49].expect("half of the stake has it final")
}

fn assert_sound(report: &Report) {
    assert!(report.passed(), "{}", report.text());
    assert_eq!(report.blocks as u64, report.slots, "nothing is skipped where nothing fails");
    assert_eq!(report.fast + report.slow, report.validators as u64 * report.slots);
    for distribution in &report.distributions {
        for latencies in [&distribution.p10_ms, &distribution.p50_ms, &distribution.p90_ms] {
            assert_eq!(latencies.len(), 100);
            assert!(latencies.iter().all(Option::is_some), "{}", report.text());
            assert!(latencies.is_sorted_by(|less, more| less <= more), "more stake takes longer: {}", report.text());
        }
    }
    let [notarized, finalized] = [2, 3].map(|stage: usize| &report.distributions[stage].p50_ms);
    assert!(notarized.iter().zip(finalized).all(|(notarized, finalized)| notarized <= finalized));
}

#[test]
fn fifty_validators_agree_and_more_stake_takes_longer() {
    for (leader, seed) in [(Leader::Random, 1), (zurich(), 1), (Leader::Random, 2), (Leader::Metro(6), 3)] {
        assert_sound(&Study::new(50, 5, leader, seed).run());
    }
}

#[test]
fn a_leader_stays_where_it_was_put() {
    let report = Study::new(50, 5, zurich(), 4).run();
    assert!(report.leaders.iter().all(|leader| leader == "Zurich"), "{:?}", report.leaders);
    let report = Study::new(50, 5, Leader::Metro(6), 4).run();
    assert!(report.leaders.iter().all(|leader| leader == "Tokyo"), "{:?}", report.leaders);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| traced(&Study::new(40, 4, Leader::Random, seed));
    let ((one, one_trace), (again, again_trace), (_, other_trace)) = (run(7), run(7), run(8));
    assert_eq!((one.csv(), one.svg(), one_trace.clone()), (again.csv(), again.svg(), again_trace));
    assert_ne!(one_trace, other_trace);
    assert_eq!((one.effort.deliveries, one.effort.handled), (again.effort.deliveries, again.effort.handled));
}

#[test]
fn signatures_that_cost_nothing_decide_as_the_curves_do() {
    let study = Study { check: Duration::from_micros(1_500), ..Study::new(8, 5, Leader::Random, 1) };
    let (cheap, cheap_trace) = traced(&study);
    let (real, real_trace) = traced(&Study { signatures: Signatures::Curve, ..study });
    assert_sound(&cheap);
    assert!(cheap_trace.len() > 100, "votes, certificates and decisions of 8 validators in 5 slots");
    assert_eq!(cheap_trace, real_trace);
    assert_eq!(cheap.csv(), real.csv());
}

#[test]
fn checks_and_sending_take_their_time() {
    let study = Study::new(50, 5, zurich(), 1);
    let free = study.run();
    let checked = Study { check: Duration::from_millis(5), ..study.clone() }.run();
    let sent = Study { egress_mbit: NonZero::new(20), ..study }.run();
    [&checked, &sent].into_iter().for_each(assert_sound);
    // A notarization and a finalization certificate after one another.
    assert!(final_at_half(&checked) >= final_at_half(&free) + 8.0, "{}", checked.text());
    assert!(final_at_half(&sent) >= final_at_half(&free) + 3.0, "{}", sent.text());
    assert!(!free.comparisons.is_empty() && checked.comparisons.is_empty(), "the paper computes in no time");
}

#[test]
fn a_table_of_values_has_a_line_for_each_stage_and_percent() {
    let report = Study::new(8, 2, Leader::Random, 1).run();
    let lines: Vec<_> = report.csv().lines().map(str::to_owned).collect();
    assert_eq!((lines.len(), lines[0].as_str()), (401, "stage,stake_percent,p10_ms,p50_ms,p90_ms"));
    assert!(lines[1..].iter().all(|line| line.split(',').count() == 5));
}
