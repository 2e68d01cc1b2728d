use std::num::NonZero;

use super::flags::{CoreListError, NodeAtSlotError};
use super::*;
use crate::config::PollPolicy;

/// The default run.
pub(crate) fn plan() -> Plan {
    Plan {
        nodes: 5,
        slots: 40,
        transactions_per_s: 2_000,
        transaction_bytes: 512,
        block_time: Duration::from_millis(400),
        stakes: vec![Stake(1); 5],
        epochs: EpochParameters::default(),
        schedule: ScheduleName::RoundRobin,
        seed: EpochSeed([7; 32]),
        placement: Placement::plan(5, NonZero::<usize>::MIN, None, PollPolicy::Auto, &[0]).unwrap(),
        coding: CodingParameters::default(),
        engine: EnginePolicy::IoUring,
        kernel: KernelPolicy::Auto,
        egress_mbit: 0,
        durability: Durability::default(),
        crashed_leader_timer: false,
        block_log_mib: 1_024,
        kills: Vec::new(),
        starts: Vec::new(),
        silent_relays: Vec::new(),
        drop_shreds: Vec::new(),
        equivocators: Vec::new(),
        floods: Vec::new(),
        no_vote_log: false,
        out: "runs/1".into(),
    }
}

fn at(node: u16, slot: u64) -> NodeAtSlot {
    NodeAtSlot { node: ValidatorIndex(node), slot: Slot(slot) }
}

#[test]
fn kills_and_starts_are_index_at_slot() {
    assert_eq!("4@12".parse(), Ok(at(4, 12)));
    assert_eq!("0@18446744073709551615".parse(), Ok(at(0, u64::MAX)));
    for text in
        ["", "@", "4", "4@", "@12", "-1@12", "4@-2", "4@12@1", "70000@1", " 4@12", "four@1", "4@18446744073709551616"]
    {
        assert_eq!(text.parse::<NodeAtSlot>(), Err(NodeAtSlotError), "{text:?}");
    }
}

#[test]
fn core_lists_are_numbers_and_ranges() {
    assert_eq!("0,2-4,1".parse(), Ok(CoreList(vec![0, 2, 3, 4, 1])));
    for text in ["", ",", "1,", "3-1", "a", "0-", "1,1", "0-3,2", "5000", "0-99999999999"] {
        assert_eq!(text.parse::<CoreList>(), Err(CoreListError), "{text:?}");
    }
}

#[test]
fn a_node_can_vote_through_the_last_epoch_that_it_is_a_member_of() {
    let stakes = |of: [u64; 3]| of.map(Stake).to_vec();
    let later = vec![(2, stakes([0, 1, 0])), (4, stakes([1, 1, 0])), (9, stakes([1, 1, 1]))];
    let plan = Plan { stakes: stakes([1, 1, 1]), epochs: EpochParameters { slots: 8, later }, slots: 40, ..plan() };
    let through = [0, 1, 2, 3].map(|node| plan.votes_through(ValidatorIndex(node)));
    assert_eq!(through, [Some(Slot(40)), Some(Slot(40)), Some(Slot(15)), None]);
}

#[test]
fn what_names_no_node_or_no_slot_of_the_run_is_refused() {
    let check = |nodes, kills: &[NodeAtSlot], silent: &[u16]| {
        Plan { nodes, kills: kills.to_vec(), silent_relays: silent.to_vec(), ..plan() }.check()
    };
    assert_eq!(check(5, &[at(4, 12), at(3, 40)], &[0, 1]), Ok(()));
    assert_eq!(check(5, &[at(5, 1)], &[]), Err(PlanError::NoSuchNode { flag: "--kill", index: 5, nodes: 5 }));
    let silent = check(5, &[], &[9]);
    assert_eq!(silent, Err(PlanError::NoSuchNode { flag: "--silent-relay", index: 9, nodes: 5 }));
    let dropping = Plan { drop_shreds: vec![5], ..plan() }.check();
    assert_eq!(dropping, Err(PlanError::NoSuchNode { flag: "--drop-shreds", index: 5, nodes: 5 }));
    let equivocating = Plan { equivocators: vec![6], ..plan() }.check();
    assert_eq!(equivocating, Err(PlanError::NoSuchNode { flag: "--equivocate", index: 6, nodes: 5 }));
    assert!(matches!(check(5, &[at(1, 0)], &[]), Err(PlanError::KillSlot { .. })));
    assert!(matches!(check(5, &[at(1, 41)], &[]), Err(PlanError::KillSlot { .. })));
    assert_eq!(check(5, &[at(1, 1), at(1, 2)], &[]), Err(PlanError::KilledTwice(1)));
    assert_eq!(check(2, &[at(0, 1), at(1, 2)], &[]), Err(PlanError::NobodyStays));
    let nobody = Plan { transactions_per_s: 0, kills: vec![at(0, 1), at(1, 2)], nodes: 2, ..plan() };
    assert_eq!(nobody.check(), Ok(()));
}

#[test]
fn late_starts_that_cannot_work_are_refused_with_the_fix() {
    let check = |kills: &[NodeAtSlot], starts: &[NodeAtSlot]| {
        Plan { kills: kills.to_vec(), starts: starts.to_vec(), ..plan() }.check()
    };
    assert_eq!(check(&[], &[at(4, 12), at(3, 28)]), Ok(()));
    assert_eq!(check(&[at(4, 13)], &[at(4, 12)]), Ok(()), "killed after it was started");
    assert_eq!(check(&[], &[at(5, 1)]), Err(PlanError::NoSuchNode { flag: "--start", index: 5, nodes: 5 }));
    for slot in [0, 29, u64::MAX] {
        assert_eq!(check(&[], &[at(1, slot)]), Err(PlanError::StartSlot { node: 1, slot, slots: 40 }));
    }
    assert_eq!(check(&[], &[at(1, 2), at(1, 3)]), Err(PlanError::StartedTwice(1)));
    assert_eq!(check(&[at(4, 3)], &[at(4, 12)]), Ok(()), "started again");
    let refused = Err(PlanError::KilledAndStarted { node: 4, slot: 12 });
    assert_eq!(check(&[at(4, 12)], &[at(4, 12)]), refused);
    let everybody: Vec<NodeAtSlot> = (0..5).map(|node| at(node, 5)).collect();
    assert_eq!(check(&[], &everybody), Err(PlanError::NobodyStays));
    assert_eq!(check(&everybody[..2], &everybody[2..]), Err(PlanError::NobodyStays));
    let too_few = |node, slot, running| Err(PlanError::TooFewToReach { node, slot, running, total: 5 });
    assert_eq!(check(&[], &everybody[..3]), too_few(0, 5, 2));
    assert_eq!(check(&[at(0, 4), at(1, 4)], &[at(4, 5)]), too_few(4, 5, 2));
    assert_eq!(check(&[at(0, 8), at(1, 8)], &[at(4, 5), at(3, 9)]), too_few(3, 9, 2));
    assert_eq!(check(&[at(0, 4)], &[at(4, 5), at(3, 4)]), Ok(()));
    let nobody = Plan { transactions_per_s: 0, starts: everybody, ..plan() };
    assert_eq!(nobody.check(), Err(PlanError::NobodyBegins));
}

#[test]
fn without_vote_logs_nobody_is_started_again() {
    let without = |starts| Plan { no_vote_log: true, kills: vec![at(4, 3)], starts, ..plan() }.check();
    assert_eq!(without(vec![at(3, 9)]), Ok(()));
    assert_eq!(without(vec![at(4, 9)]), Err(PlanError::RestartWithoutVoteLog));
}

#[test]
fn nodes_that_were_killed_are_started_by_slot_or_where_no_slot_is_decided_by_time() {
    let kills: Vec<NodeAtSlot> = (0..5).map(|node| at(node, 8)).collect();
    let starts: Vec<NodeAtSlot> = (0..5).map(|node| at(node, 16 + u64::from(node))).collect();
    let plan = |count: usize| {
        let (kills, starts) = (kills[..count].to_vec(), starts[..count].to_vec());
        Plan { transactions_per_s: 0, kills, starts, ..plan() }
    };
    for (count, by_time) in [(1, vec![]), (2, vec![]), (3, vec![0]), (5, vec![0, 1, 2])] {
        let plan = plan(count);
        assert_eq!(plan.check(), Ok(()));
        assert!((0..5).map(ValidatorIndex).all(|node| plan.starts_with_the_run(node)));
        let found: Vec<u16> = plan.starts_by_time().map(|start| start.node.0).collect();
        assert_eq!(found, by_time, "{count} killed");
    }
}

#[test]
fn configs_have_silent_relays_engine_and_kernel_and_stakes_are_in_order() {
    let stakes = vec![Stake(9), Stake(1), Stake(2), Stake(3), Stake(4)];
    let (silent_relays, kernel) = (vec![1, 4], KernelPolicy::Portable);
    let engine = EnginePolicy::Syscalls;
    let plan = Plan { silent_relays, drop_shreds: vec![2], engine, kernel, stakes: stakes.clone(), ..plan() };
    let addresses: Vec<SocketAddr> = (1..=5).map(|port| ([127, 0, 0, 1], port).into()).collect();
    let validators = plan.validators(&addresses);
    let silent: Vec<bool> = validators.iter().map(|validator| validator.config.silent_relay).collect();
    assert_eq!(silent, [false, true, false, false, true]);
    let dropping: Vec<bool> = validators.iter().map(|validator| validator.config.drop_shreds).collect();
    assert_eq!(dropping, [false, false, true, false, false]);
    assert!(validators.iter().all(|validator| (validator.config.engine, validator.config.kernel) == (engine, kernel)));
    assert_eq!(validators.iter().map(|validator| validator.stake).collect::<Vec<_>>(), stakes);
    assert_eq!(validators.iter().map(|validator| validator.config.bind).collect::<Vec<_>>(), addresses);
}

#[test]
fn the_outcome_tells_how_to_run_it_again() {
    let config = Plan { kills: vec![at(4, 12)], starts: vec![at(3, 7)], ..plan() }.describe();
    assert_eq!((&config["seed"], &config["kill"][0]), (&"07".repeat(32).into(), &"4@12".into()));
    assert_eq!(config["start"][0], "3@7");
    assert_eq!((&config["slots"], &config["schedule"]), (&40.into(), &"round-robin".into()));
}
