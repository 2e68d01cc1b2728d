//! Many runs: seeds in parallel, faults dropped from a run that fails until each is needed, and what happened in all.

use std::any::Any;
use std::fmt::Write;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use alpenglow_control::voting_keys::VotingKeys;
use serde::Serialize;

use super::scenario::{Fault, Happened, Scenario};
use super::world::{World, voting_keys};

/// A seed that fails, with no more faults than it takes.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// The rule that was broken.
    pub violation: String,
    /// What it takes.
    pub faults: Vec<Fault>,
    /// Positions of these faults in the seed's list.
    pub kept: Vec<usize>,
    /// Runs it again, with these faults alone.
    pub replay: String,
}

/// What the runs of one scenario gave.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which.
    pub scenario: Scenario,
    /// Runs.
    pub seeds: u64,
    /// What happened in all of them together.
    pub happened: Happened,
    /// Things that the scenario is for and that never happened.
    pub missing: Vec<&'static str>,
    /// The first failure found in each thread.
    pub failures: Vec<Failure>,
    /// Handled by all nodes, in virtual time, for each second of this machine's.
    pub events_per_second: u64,
}

impl Report {
    /// Whether every run kept every rule, and the scenario did what it is for.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.failures.is_empty() && self.missing.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let name = serde_json::to_value(self.scenario).expect("a name");
        let name = name.as_str().expect("a name");
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let mut text = format!("{name}: {verdict}, {} seeds, {} events/s\n", self.seeds, self.events_per_second);
        let counts = serde_json::to_value(self.happened).expect("numbers");
        let counts = counts.as_object().expect("numbers by name").iter().filter(|(_, count)| **count != 0);
        for (what, count) in counts {
            writeln!(text, "  {what} {count}").expect("a string takes all");
        }
        for what in &self.missing {
            writeln!(text, "  never happened: {what}").expect("a string takes all");
        }
        for failure in &self.failures {
            writeln!(text, "  seed {}: {}", failure.seed, failure.violation).expect("a string takes all");
            writeln!(text, "    it takes: {:?}", failure.faults).expect("a string takes all");
            writeln!(text, "    again: {}", failure.replay).expect("a string takes all");
        }
        text
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Kind of run.
    pub scenario: Scenario,
    /// One run each.
    pub seeds: Range<u64>,
    /// In each run; all have the same stake.
    pub validators: usize,
    /// Positions of the faults to leave in; all if `None`.
    pub kept: Option<Vec<usize>>,
}

impl Campaign {
    /// Runs all seeds, on as many threads as the machine has.
    #[must_use]
    pub fn run(&self) -> Report {
        let began = Instant::now();
        let keys = voting_keys(self.validators);
        let next = AtomicU64::new(self.seeds.start);
        let results = Mutex::new((Happened::default(), Vec::new()));
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            return;
                        }
                        let (happened, violation) = self.seed(&keys, seed, &self.faults(seed));
                        let failure = violation.map(|violation| self.shrink(&keys, seed, self.faults(seed), violation));
                        let is_failed = failure.is_some();
                        let mut results = results.lock().expect("no thread panics with it");
                        results.0.add(&happened);
                        results.1.extend(failure);
                        drop(results);
                        if is_failed {
                            return;
                        }
                    }
                });
            }
        });
        let (happened, failures) = results.into_inner().expect("no thread panics with it");
        let missing = match self.kept {
            None => {
                self.scenario.purpose(&happened).into_iter().filter(|(_, count)| *count == 0).map(|(w, _)| w).collect()
            }
            Some(_) => Vec::new(),
        };
        let events_per_second = (happened.events as f64 / began.elapsed().as_secs_f64()) as u64;
        let seeds = self.seeds.end - self.seeds.start;
        Report { scenario: self.scenario, seeds, happened, missing, failures, events_per_second }
    }

    /// The messages, votes and decisions of the first seed, one a line.
    #[must_use]
    pub fn trace(&self) -> String {
        let seed = self.seeds.start;
        let faults = self.faults(seed).into_iter().map(|(_, fault)| fault).collect();
        let mut world = World::new(&voting_keys(self.validators), seed, faults, self.is_real());
        world.trace = Some(String::new());
        let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
        let mut trace = world.trace.take().unwrap_or_default();
        if let Some(violation) = ended.err().map(panicked).or(world.oracle.violation) {
            trace.push_str(&violation);
            trace.push('\n');
        }
        trace
    }

    fn is_real(&self) -> bool {
        self.scenario == Scenario::Calm
    }

    fn faults(&self, seed: u64) -> Vec<(usize, Fault)> {
        let all = self.scenario.faults(seed, self.validators).into_iter().enumerate();
        all.filter(|(index, _)| self.kept.as_ref().is_none_or(|kept| kept.contains(index))).collect()
    }

    fn seed(&self, keys: &Arc<VotingKeys>, seed: u64, faults: &[(usize, Fault)]) -> (Happened, Option<String>) {
        let faults = faults.iter().map(|(_, fault)| *fault).collect();
        let mut world = World::new(keys, seed, faults, self.is_real());
        let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
        (world.oracle.happened, ended.err().map(panicked).or(world.oracle.violation))
    }

    /// Leaves out one fault after the other for as long as the run fails without it.
    fn shrink(
        &self,
        keys: &Arc<VotingKeys>,
        seed: u64,
        mut faults: Vec<(usize, Fault)>,
        mut violation: String,
    ) -> Failure {
        let mut index = 0;
        while index < faults.len() {
            let mut fewer = faults.clone();
            fewer.remove(index);
            match self.seed(keys, seed, &fewer).1 {
                Some(still) => (faults, violation, index) = (fewer, still, 0),
                None => index += 1,
            }
        }
        let (kept, faults): (Vec<usize>, Vec<Fault>) = faults.into_iter().unzip();
        let scenario = serde_json::to_value(self.scenario).expect("a name");
        let scenario = scenario.as_str().expect("a name");
        let keep = kept.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let replay = format!(
            "cargo run --release -p alpenglow-tools -- sim --scenario {scenario} --seeds {seed}..{} --validators {} --keep '{keep}'",
            seed + 1,
            self.validators
        );
        Failure { seed, violation, faults, kept, replay }
    }
}

fn panicked(payload: Box<dyn Any + Send>) -> String {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("a node panicked: {}", message.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_scenario_keeps_the_rules_and_does_what_it_is_for() {
        for scenario in Scenario::value_variants() {
            let campaign = Campaign { scenario: *scenario, seeds: 1..5, validators: 12, kept: None };
            let report = campaign.run();
            assert!(report.passed(), "{}", report.text());
        }
    }

    #[test]
    fn equal_seeds_give_equal_runs() {
        let campaign = Campaign { scenario: Scenario::Partitions, seeds: 7..8, validators: 6, kept: None };
        assert_eq!(campaign.trace(), campaign.trace());
    }

    /// More than the protocol bears: the run fails, and names no more faults than it takes.
    #[test]
    fn a_failing_run_is_shrunk_to_what_it_takes() {
        let campaign = Campaign { scenario: Scenario::Crashes, seeds: 1..2, validators: 3, kept: None };
        let keys = voting_keys(3);
        let crash = |node| (node, Fault::Crash { node, at_ms: 500 });
        assert_eq!(campaign.seed(&keys, 1, &[crash(0)]).1, None);
        let faults = vec![crash(0), crash(1), (2, Fault::Loss { percent: 1, from_ms: 0, to_ms: 100 })];
        let violation = campaign.seed(&keys, 1, &faults).1.expect("a third of the stake finalizes nothing");
        assert!(violation.contains("windows of calm"), "{violation}");
        assert_eq!(campaign.shrink(&keys, 1, faults, violation).kept, [0, 1]);
    }
}
