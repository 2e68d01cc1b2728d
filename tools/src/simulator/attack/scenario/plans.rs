//! The faults of each scenario's runs.

use super::super::fault::{During, Fault, Loses, Nodes, RepairLie};
use super::draft::Draft;
use super::{Plan, Scenario};

pub(super) fn faults(scenario: Scenario, draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    match scenario {
        Scenario::Calm => {
            plan.healed_ms = 2_400;
            plan.transactions_per_second = 20;
            Vec::new()
        }
        Scenario::Crashes => {
            let crashing = draft.share(20);
            crashing.iter().map(|node| crash(node, draft.below(2_500))).collect()
        }
        Scenario::Partitions => {
            plan.healed_ms = 8_000;
            plan.transactions_per_second = 5;
            partitions(draft, plan.healed_ms)
        }
        Scenario::Equivocation => {
            let liars = draft.liars();
            let equivocate = |draft: &mut Draft, node| {
                let percent = draft.one_of(&[40, 50, 50, 60]);
                [
                    Fault::Equivocate { node, first_to: draft.share(percent) },
                    Fault::SplitVote { node, others_to: draft.share(50) },
                ]
            };
            liars.into_iter().flat_map(|node| equivocate(draft, node)).collect()
        }
        Scenario::Withholding => draft.liars().into_iter().map(|node| Fault::Withhold { node }).collect(),
        Scenario::LateLeaders => {
            draft.liars().into_iter().map(|node| Fault::Late { node, by_ms: draft.between(1_080, 1_200) }).collect()
        }
        Scenario::Parents => parents(draft, plan),
        Scenario::Voters => draft.liars().into_iter().flat_map(|node| voters(draft, node)).collect(),
        Scenario::Split => split(draft, plan),
        Scenario::Repair => repair(draft, plan),
        Scenario::Restarts => restarts(draft, plan, Loses::Process),
        Scenario::MassCrashes => mass_crashes(draft, plan),
        Scenario::PowerLosses => {
            plan.synced_logs = draft.below(4) == 0;
            restarts(draft, plan, Loses::Power)
        }
        Scenario::PowerOutages => power_outages(draft, plan),
        Scenario::Clocks => clocks(draft, plan),
        Scenario::Epochs => {
            draft.epochs(8, 4);
            plan.healed_ms = 10_000;
            let crashing = draft.crashing(&[]);
            let to = draft.share(30);
            let slow = Fault::SlowShreds { to, by_ms: draft.between(1_100, 2_000), during: draft.during(8_000) };
            crashing.into_iter().map(|node| crash(node, draft.below(6_000))).chain([slow]).collect()
        }
        Scenario::Everything => everything(draft, plan),
    }
}

const fn crash(node: usize, at_ms: u64) -> Fault {
    Fault::Crash { node, at_ms, outputs: 0, within_ms: 100, loses: Loses::Process, back_ms: None }
}

fn partitions(draft: &mut Draft, healed_ms: u64) -> Vec<Fault> {
    // Some leave a majority that goes on without the others.
    let percent = draft.one_of(&[10, 19, 35, 45, 50]);
    let cut = Fault::Partition { side: draft.share(percent), during: draft.during(healed_ms - 500) };
    let loss = Fault::Loss { percent: draft.between(1, 16), during: draft.during(healed_ms) };
    let mut faults = vec![
        cut,
        loss,
        Fault::Duplication { percent: draft.between(1, 10) },
        Fault::Reordering { percent: draft.between(1, 20), by_ms: draft.between(20, 300) },
    ];
    for node in draft.share(25).iter() {
        let from_ms = draft.below(5_000);
        faults.push(Fault::Pause { node, during: During { from_ms, to_ms: from_ms + draft.between(300, 2_500) } });
    }
    faults
}

fn parents(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.healed_ms = 8_000;
    let mut faults = Vec::new();
    for node in draft.liars() {
        let fault = if draft.below(2) == 0 { Fault::UnreadyParent { node } } else { Fault::WrongParent { node } };
        faults.push(fault);
    }
    // Who gets a block in time begins on it, and the others skip it.
    let percent = draft.one_of(&[60, 70, 80]);
    let (to, by_ms) = (draft.share(percent), draft.between(1_300, 1_900));
    faults.push(Fault::SlowShreds { to, by_ms, during: draft.during(6_000) });
    let (from, to) = (draft.share(50), draft.share(50));
    faults.push(Fault::SlowVotes { from, to, by_ms: draft.between(100, 900), during: draft.during(6_000) });
    faults
}

fn voters(draft: &mut Draft, node: usize) -> Vec<Fault> {
    let to = draft.share(50);
    let kinds = [
        Fault::SilentRelay { node },
        Fault::SelectiveVote { node, to },
        Fault::DoubleVote { node },
        Fault::SpamFallback { node },
        Fault::ShortCertificates { node },
    ];
    kinds.into_iter().filter(|_| draft.below(3) > 0).collect()
}

fn split(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.healed_ms = 8_000;
    let until_ms = 5_000;
    let mut faults = Vec::new();
    for node in draft.liars() {
        faults.push(Fault::SplitVote { node, others_to: draft.share(50) });
    }
    for _ in 0..2 {
        let percent = draft.one_of(&[20, 25, 30, 35, 40, 40, 60, 80]);
        let (to, by_ms) = (draft.share(percent), draft.between(1_050, 2_600));
        faults.push(Fault::SlowShreds { to, by_ms, during: draft.during(until_ms) });
    }
    for _ in 0..2 {
        let (from_percent, to_percent) = (draft.one_of(&[20, 40, 60, 80]), draft.one_of(&[20, 40, 60]));
        let (from, to) = (draft.share(from_percent), draft.share(to_percent));
        let by_ms = draft.between(50, 1_500);
        faults.push(Fault::SlowVotes { from, to, by_ms, during: draft.during(until_ms) });
    }
    faults
}

fn repair(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.transactions_per_second = 15;
    plan.healed_ms = 8_000;
    let lies = [
        RepairLie::Silence,
        RepairLie::OtherBlock,
        RepairLie::OtherBlock,
        RepairLie::WrongRoots,
        RepairLie::WrongCount,
        RepairLie::WrongShreds,
    ];
    let mut faults = Vec::new();
    let liars = draft.liars();
    for node in draft.crashing(&liars) {
        let at_ms = draft.between(200, 2_000);
        let back_ms = Some(at_ms + draft.between(3_000, 5_500));
        faults.push(Fault::Crash { node, at_ms, outputs: 0, within_ms: 100, loses: Loses::Process, back_ms });
    }
    for node in liars {
        faults.push(Fault::LieInRepair { node, lie: draft.one_of(&lies) });
        faults.push(Fault::LieInRepair { node, lie: RepairLie::WrongAncestors });
    }
    faults.extend(spoilt_blocks(draft, plan.healed_ms));
    let percent = draft.one_of(&[15, 25, 35]);
    faults.push(Fault::SlowShreds { to: draft.share(percent), by_ms: 4_000, during: draft.during(7_000) });
    faults.push(Fault::Loss { percent: draft.between(5, 30), during: draft.during(plan.healed_ms) });
    faults
}

/// Nodes stop at any moment and come back soon. Power losses cost little enough stake that in every slot enough nodes
/// may still vote; processes may all crash at once.
fn restarts(draft: &mut Draft, plan: &mut Plan, loses: Loses) -> Vec<Fault> {
    plan.healed_ms = 8_000;
    plan.transactions_per_second = 5;
    plan.disk_us_max = draft.one_of(&[2_000, 20_000, 400_000]);
    let percent = if loses == Loses::Power && !plan.synced_logs { 35 } else { 100 };
    let mut faults = Vec::new();
    for node in draft.share(percent).iter() {
        for _ in 0..draft.between(1, 4) {
            faults.push(stop(draft, node, loses, 200, 7_000));
        }
    }
    if draft.below(8) == 0 && percent == 100 {
        let at_ms = draft.between(500, 6_000);
        faults.extend(draft.share(100).iter().map(|node| stop(draft, node, loses, at_ms, at_ms + 1)));
    }
    let percent = draft.one_of(&[0, 20, 40]);
    let (to, by_ms) = (draft.share(percent), draft.between(500, 2_000));
    faults.push(Fault::SlowShreds { to, by_ms, during: draft.during(6_000) });
    faults.push(Fault::Loss { percent: draft.below(10), during: draft.during(plan.healed_ms) });
    faults
}

/// Nobody is left who could give what others have lost.
fn mass_crashes(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.healed_ms = 8_000;
    plan.transactions_per_second = 10;
    plan.disk_us_max = draft.one_of(&[2_000, 20_000, 400_000]);
    let mut faults = Vec::new();
    for (from_ms, to_ms) in [(400, 3_000), (4_000, 6_500)] {
        let at_ms = draft.between(from_ms, to_ms);
        let within_ms = draft.between(1, 50);
        for node in draft.share(100).iter() {
            let back_ms = Some(at_ms + draft.between(100, 1_000));
            let outputs = draft.below(20);
            faults.push(Fault::Crash { node, at_ms, outputs, within_ms, loses: Loses::Process, back_ms });
        }
    }
    faults.extend(spoilt_blocks(draft, 8_000));
    faults.push(Fault::Loss { percent: draft.below(10), during: draft.during(plan.healed_ms) });
    faults
}

/// Of a few nodes' logs.
fn spoilt_blocks(draft: &mut Draft, to_ms: u64) -> Vec<Fault> {
    let nodes = draft.share(25);
    nodes.iter().map(|node| Fault::SpoilBlock { node, at_ms: draft.between(2_000, to_ms) }).collect()
}

/// So much of the stake is without power at once that nothing would be decided any more in slots that were reserved, if
/// the nodes could not tell what they said in them.
fn power_outages(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.healed_ms = 8_000;
    plan.transactions_per_second = 5;
    plan.disk_us_max = draft.one_of(&[2_000, 20_000, 400_000]);
    plan.synced_logs = true;
    let mut faults = Vec::new();
    for (from_ms, to_ms) in [(500, 3_000), (4_000, 6_500)] {
        let at_ms = draft.between(from_ms, to_ms);
        let percent = draft.one_of(&[60, 80, 100]);
        faults.extend(draft.share(percent).iter().map(|node| stop(draft, node, Loses::Power, at_ms, at_ms + 10)));
    }
    faults.push(Fault::Loss { percent: draft.below(10), during: draft.during(plan.healed_ms) });
    faults
}

fn stop(draft: &mut Draft, node: usize, loses: Loses, from_ms: u64, to_ms: u64) -> Fault {
    let at_ms = draft.between(from_ms, to_ms);
    let back_ms = Some(at_ms + draft.below(900));
    Fault::Crash { node, at_ms, outputs: draft.below(20), within_ms: 2_000, loses, back_ms }
}

fn clocks(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.transactions_per_second = 5;
    let mut faults = Vec::new();
    for node in draft.share(100).iter() {
        faults.push(Fault::Drift { node, per_million: draft.below(40_001) as i64 - 20_000 });
    }
    for node in draft.share(50).iter() {
        faults.push(Fault::Bandwidth { node, kbit_per_second: draft.between(4_000, 40_000) });
    }
    faults
}

fn everything(draft: &mut Draft, plan: &mut Plan) -> Vec<Fault> {
    plan.healed_ms = 8_000;
    plan.transactions_per_second = 5;
    let liars = draft.liars();
    let mut faults: Vec<Fault> = Vec::new();
    for node in draft.crashing(&liars) {
        faults.push(crash(node, draft.below(5_000)));
    }
    for node in liars {
        faults.push(leader_lie(draft, node));
        faults.push(voter_lie(draft, node));
        let lies = [
            RepairLie::Silence,
            RepairLie::OtherBlock,
            RepairLie::WrongRoots,
            RepairLie::WrongShreds,
            RepairLie::WrongAncestors,
        ];
        faults.push(Fault::LieInRepair { node, lie: draft.one_of(&lies) });
    }
    for percent in [20, 40] {
        let (to, by_ms) = (draft.share(percent), draft.between(500, 2_200));
        faults.push(Fault::SlowShreds { to, by_ms, during: draft.during(6_000) });
    }
    if draft.below(2) == 0 {
        let percent = draft.one_of(&[10, 19, 35, 50]);
        faults.push(Fault::Partition { side: draft.share(percent), during: draft.during(6_000) });
    }
    if draft.below(2) == 0 {
        for node in draft.share(30).iter() {
            faults.push(stop(draft, node, Loses::Process, 200, 6_000));
        }
    }
    let (from, to): (Nodes, Nodes) = (draft.share(60), draft.share(40));
    faults.push(Fault::SlowVotes { from, to, by_ms: draft.between(50, 800), during: draft.during(6_000) });
    faults.push(Fault::Loss { percent: draft.between(1, 10), during: draft.during(plan.healed_ms) });
    faults
}

fn leader_lie(draft: &mut Draft, node: usize) -> Fault {
    match draft.below(5) {
        0 => Fault::Equivocate { node, first_to: draft.share(50) },
        1 => Fault::Withhold { node },
        2 => Fault::Late { node, by_ms: draft.between(900, 1_400) },
        3 => Fault::UnreadyParent { node },
        _ => Fault::WrongParent { node },
    }
}

fn voter_lie(draft: &mut Draft, node: usize) -> Fault {
    let to = draft.share(50);
    match draft.below(5) {
        0 => Fault::SelectiveVote { node, to },
        1 => Fault::DoubleVote { node },
        2 => Fault::SpamFallback { node },
        3 => Fault::ShortCertificates { node },
        _ => Fault::SplitVote { node, others_to: draft.others(to) },
    }
}
