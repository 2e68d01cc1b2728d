//! Votes from their datagrams to certificates: codec, queues, verifier threads and Pool as in a node, beside bare blst.
//!
//! Everything a certificate takes is in it but the network: datagrams pass the gate on a thread of their own, as on a
//! shard's, control decides on this thread, and verifiers check on theirs. Every certificate made is checked by plain
//! blst.

mod memory;
mod network;
mod node;
mod plain;
mod slots;
mod usage;
mod validators;
// The node's own file: what is measured is what runs.
#[path = "../../../src/verifier.rs"]
mod verifier;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::thread;

use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::message;
use alpenglow_control::payload_hash::PayloadHash;
use alpenglow_rotor::types::{BlockId, ValidatorIndex};
use serde_json::json;

use self::node::Node;
use self::plain::Floors;
use self::slots::{Reactions, Scenario, SlotCost};
use self::validators::Validators;
use crate::fixture::CLUSTER;
use crate::report::{Report, Row};
use crate::rounds::{median, medians, repeated};

/// Sizes for which a slot's cost is always measured.
const SIZES: [usize; 4] = [100, 500, 1_500, 2_000];
/// Slots of each kind and size.
const SLOTS: usize = 6;
/// Slots in which reactions are measured, twice each.
const REACTION_SLOTS: usize = 9;
/// Rounds of which medians are taken where one thread computes.
const ROUNDS: usize = 15;
/// Most of the time that 2,000 validators' votes in a slot may take of a core (goal).
const SLOT_GOAL_US: f64 = 60_000.0;
/// Most per vote where 1,500 or more vote (goal).
const VOTE_GOAL_US: f64 = 10.0;
/// Most that a check may take, of what its bare calls take; where threads hand it over, that comes on top (goal).
const CHECK_GOAL_RATIO: f64 = 1.3;
/// Validators that signed the certificate that is received.
const RECEIVED_SIGNERS: usize = 1_500;

/// Measures slots at [`SIZES`] and `validators`, and reactions at `validators`. `invalid_percent` of the validators
/// sign something else.
///
/// # Panics
/// If a certificate does not hold.
pub(crate) fn measure(validators: usize, invalid_percent: usize) -> Report {
    let mut sizes: Vec<usize> = SIZES.into_iter().chain([validators]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    measure_sizes(&sizes, validators, invalid_percent, SLOTS)
}

fn measure_sizes(sizes: &[usize], validators: usize, invalid_percent: usize, slots: usize) -> Report {
    let verifiers = thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(2).max(1));
    let mut report = Report::begin("alpenglow.votes/1");
    report.machine["verifiers"] = json!(verifiers);
    report.machine["invalid_percent"] = json!(invalid_percent);
    let mut memory = serde_json::Map::new();
    let mut least: Option<(usize, f64)> = None;
    for &size in sizes {
        let set = Validators::new(size);
        for (name, scenario) in
            [("slot", Scenario::slow(invalid_percent)), ("slot_fast", Scenario::fast(invalid_percent))]
        {
            let (costs, floors) = run_slots(&set, scenario, verifiers, slots);
            let mut row = slot_row(&format!("{name}_{size}"), size, scenario, &costs, &floors);
            if name == "slot" {
                let &mut (least_size, least_us) = least.get_or_insert((size, row.ours_us));
                row.details
                    .insert("growth_per_validator".into(), row.ours_us / size as f64 * least_size as f64 / least_us);
                memory.insert(format!("slot_{size}_bytes"), json!(costs.iter().map(|cost| cost.bytes).max()));
                if size == validators {
                    report.rows.push(vote_row(size, &row, &costs));
                }
            }
            report.rows.push(row);
        }
        if size == validators {
            report.rows.extend(reaction_rows(&set, verifiers, if slots == SLOTS { REACTION_SLOTS } else { 1 }));
        }
        if size > RECEIVED_SIGNERS {
            report.rows.push(received_row(&set));
            memory.insert("limit".into(), memory::at_the_limit(&set));
        }
    }
    report.memory = Some(memory);
    report
}

/// Some slots, one after the other, and the floors measured in between.
fn run_slots(set: &Validators, scenario: Scenario, verifiers: usize, slots: usize) -> (Vec<SlotCost>, Floors) {
    let mut node = Node::start(set, verifiers);
    let mut samplers = plain::samplers();
    let mut parent = BlockId::GENESIS;
    let (mut costs, mut samples) = (Vec::new(), vec![Vec::new(); Floors::COUNT]);
    // The first slot touches memory and does not count, unless somebody lies: then it is the one in which that is found
    // out.
    for slot in 0..=slots as u64 {
        let (block, cost) = slots::slot(&mut node, set, scenario, slot + 1, parent);
        parent = block;
        if slot > 0 || cost.barred > 0 {
            costs.push(cost);
        }
        samplers.iter_mut().zip(&mut samples).for_each(|(sampler, samples)| samples.push(sampler()));
    }
    node.stop();
    let medians: Vec<f64> = samples.into_iter().map(median).collect();
    (costs, Floors::new(&medians))
}

fn slot_row(name: &str, size: usize, scenario: Scenario, costs: &[SlotCost], floors: &Floors) -> Row {
    let of = |value: fn(&SlotCost) -> f64| median(costs.iter().map(value).collect());
    let parts = slots::floor_us(floors, size, scenario);
    let floor_us = parts.values().sum();
    let mut details = parts;
    details.insert("votes".into(), of(|cost| cost.votes as f64));
    details.insert("control_us".into(), of(|cost| cost.usage.control_ns as f64 / 1e3));
    details.insert("verifiers_us".into(), of(|cost| cost.usage.verifiers_ns as f64 / 1e3));
    details.insert("gate_us".into(), of(|cost| cost.usage.network_ns as f64 / 1e3));
    let worst = costs.iter().map(|cost| cost.usage.us()).fold(0.0, f64::max);
    details.insert("worst_us".into(), worst);
    let barred: usize = costs.iter().map(|cost| cost.barred).sum();
    details.insert("barred".into(), barred as f64);
    Row {
        name: name.into(),
        ours_us: of(|cost| cost.usage.us()),
        floor_us: Some(floor_us),
        rounds_ratio: None,
        ratio_goal: None,
        goal_us: (size >= 2_000).then_some(SLOT_GOAL_US),
        details,
    }
}

/// The slots of `row`, for each vote.
fn vote_row(size: usize, row: &Row, costs: &[SlotCost]) -> Row {
    let votes = costs[0].votes as f64;
    let ours_us = row.ours_us / votes;
    let control_us = median(costs.iter().map(|cost| cost.usage.control_ns as f64 / 1e3).collect());
    Row {
        name: format!("vote_{size}"),
        ours_us,
        floor_us: row.floor_us.map(|floor| floor / votes),
        rounds_ratio: None,
        ratio_goal: None,
        goal_us: (size >= 1_500).then_some(VOTE_GOAL_US),
        details: BTreeMap::from([
            ("votes_per_s_core".into(), 1e6 / ours_us),
            ("control_us".into(), control_us / votes),
        ]),
    }
}

fn reaction_rows(set: &Validators, verifiers: usize, slots: usize) -> Vec<Row> {
    let mut node = Node::start(set, verifiers);
    let mut samplers = plain::samplers();
    let (mut reactions, mut samples) = (Reactions::default(), vec![Vec::new(); Floors::COUNT]);
    let (mut parent, mut hand_overs_us) = (BlockId::GENESIS, Vec::new());
    for slot in 1..=slots as u64 {
        parent = slots::reactions(&mut node, set, slot, parent, &mut reactions);
        hand_overs_us.push(node.hand_over_us());
        samplers.iter_mut().zip(&mut samples).for_each(|(sampler, samples)| samples.push(sampler()));
    }
    node.stop();
    let medians: Vec<f64> = samples.into_iter().map(median).collect();
    let floors = Floors::new(&medians);
    let hand_over_us = median(hand_overs_us);
    let row = |name: &str, samples: Vec<f64>, floor_us, goal_us| Row {
        name: format!("{name}_{}", set.len()),
        details: BTreeMap::from([
            ("hand_over_us".into(), hand_over_us),
            ("worst_us".into(), samples.iter().copied().fold(0.0, f64::max)),
            ("best_us".into(), samples.iter().copied().fold(f64::INFINITY, f64::min)),
        ]),
        ours_us: median(samples),
        floor_us: Some(floor_us),
        rounds_ratio: None,
        ratio_goal: None,
        goal_us,
    };
    let certificate_goal_us = (CHECK_GOAL_RATIO * floors.verify() + hand_over_us).ceil();
    vec![
        row("deciding_vote_to_certificate", reactions.certificate_us, floors.verify(), Some(certificate_goal_us)),
        row("deciding_vote_to_own_vote", reactions.vote_us, floors.verify() + floors.sign, None),
    ]
}

/// A certificate of [`RECEIVED_SIGNERS`], from its body to the verdict.
fn received_row(set: &Validators) -> Row {
    let certificate = set.certificate(slots::received_statement(), RECEIVED_SIGNERS);
    assert!(plain::holds(&certificate, &set.plain_keys));
    let body = message::encode_certificate(&certificate);
    let mut checker = Checker::new(CLUSTER, set.keys.clone(), set.stakes.clone());
    let hash = PayloadHash::new(certificate.statement.payload());
    let validators = set.len();
    let ours = repeated(move || {
        let certificate = message::decode_certificate(black_box(&body), validators).expect("well-formed");
        let job =
            CheckJob::Certificate { certificate, sender: ValidatorIndex(0), hash: hash.clone(), fallback_hash: None };
        assert!(matches!(checker.check(job), CheckVerdict::Certificate { .. }));
    });
    let mut samplers = vec![ours];
    samplers.extend(plain::samplers());
    let medians = medians(&mut samplers, ROUNDS);
    let floors = Floors::new(&medians[1..]);
    let keys_us = (validators - RECEIVED_SIGNERS) as f64 * floors.add_key;
    Row {
        name: format!("received_certificate_{RECEIVED_SIGNERS}_of_{validators}"),
        ours_us: medians[0],
        floor_us: Some(floors.parse_signature + floors.verify() + keys_us),
        rounds_ratio: None,
        ratio_goal: Some(CHECK_GOAL_RATIO),
        goal_us: None,
        details: BTreeMap::from([
            ("floor_keys_us".into(), keys_us),
            ("floor_pairing_check_us".into(), floors.pairing_check),
            ("floor_subgroup_us".into(), floors.subgroup),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_control::certificate::{Certificate, Statement};

    use super::*;

    #[test]
    fn defect_29_votes_go_from_datagrams_to_certificates() {
        let report = measure_sizes(&[20], 20, 0, 1);
        assert!(report.rows.iter().all(|row| row.ours_us > 0.0 && row.floor_us.is_some_and(|floor| floor > 0.0)));
        let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
        let expected =
            ["vote_20", "slot_20", "slot_fast_20", "deciding_vote_to_certificate_20", "deciding_vote_to_own_vote_20"];
        assert_eq!(names, expected);
        let json = report.json();
        assert_eq!(json["schema"], "alpenglow.votes/1");
        assert!(json["steps"]["slot_20"]["details"]["votes"].as_f64() > Some(20.0));
        // How many it is depends on what other tests allocate and free meanwhile.
        assert!(json["memory"]["slot_20_bytes"].is_u64());
    }

    #[test]
    fn who_signs_something_else_is_barred_and_the_others_decide() {
        let report = measure_sizes(&[100], 100, 10, 1);
        let slot = report.rows.iter().find(|row| row.name == "slot_100").map(|row| row.details["barred"]);
        assert!(slot.is_some_and(|barred| barred > 0.0));
    }

    #[test]
    fn plain_blst_refuses_what_does_not_hold() {
        let set = Validators::new(10);
        let certificate = set.certificate(slots::received_statement(), 6);
        assert!(plain::holds(&certificate, &set.plain_keys));
        let statement = Statement::Finalization(certificate.statement.slot());
        assert!(!plain::holds(&Certificate { statement, ..certificate }, &set.plain_keys), "something else was signed");
        assert!(!plain::holds(&set.certificate(slots::received_statement(), 5), &set.plain_keys), "too few");
    }
}
