//! Many runs: seeds in parallel, faults dropped from a run that fails until each is needed, and what happened in all.

use std::any::Any;
use std::fmt::Write;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_control::voting_keys::VotingKeys;
use serde::Serialize;

use super::fault::Fault;
use super::happened::Happened;
use super::scenario::{Plan, Scenario};
use super::world::World;

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
    /// What the nodes said in it, up to the violation: the last lines.
    pub trace: String,
}

/// What the runs of one scenario gave.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which.
    pub scenario: Scenario,
    /// Runs that were made.
    pub seeds: u64,
    /// What happened in all of them together.
    pub happened: Happened,
    /// Things that the scenario is for and that never happened.
    pub missing: Vec<&'static str>,
    /// The first failure found by each thread.
    pub failures: Vec<Failure>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
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
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        let per_second = self.happened.times("events") * 1_000 / self.took_ms.max(1);
        let (name, seconds) = (name_of(self.scenario), self.took_ms as f64 / 1e3);
        let mut text = format!("{name}: {verdict}, {} runs in {seconds:.1} s, {per_second} events/s\n", self.seeds);
        for (what, count) in self.happened.iter() {
            writeln!(text, "  {what} {count}").expect("a string takes all");
        }
        for what in &self.missing {
            writeln!(text, "  never happened: {what}").expect("a string takes all");
        }
        for failure in &self.failures {
            writeln!(text, "  seed {}: {}", failure.seed, failure.violation).expect("a string takes all");
            writeln!(text, "    it takes: {:?}", failure.faults).expect("a string takes all");
            writeln!(text, "    again: {}", failure.replay).expect("a string takes all");
            writeln!(text, "    its end:\n{}", failure.trace).expect("a string takes all");
        }
        text
    }
}

fn name_of(scenario: Scenario) -> String {
    let name = serde_json::to_value(scenario).expect("a name");
    name.as_str().expect("a name").to_owned()
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Kind of run.
    pub scenario: Scenario,
    /// One run each.
    pub seeds: Range<u64>,
    /// In each run.
    pub validators: usize,
    /// Positions of the faults to leave in; all if `None`.
    pub kept: Option<Vec<usize>>,
    /// Begin no run after this time.
    pub time_max: Option<Duration>,
    /// Whether to find out which faults a failing run takes.
    pub shrinks: bool,
}

/// Lines of a trace that are printed with a failure.
const TRACE_LINES: usize = 40;

impl Campaign {
    /// Runs all seeds, on as many threads as the machine has. Stops at the first failure.
    #[must_use]
    pub fn run(&self) -> Report {
        let began = Instant::now();
        let keys = self.scenario.scheme().voting_keys(self.validators);
        let (next, failed) = (AtomicU64::new(self.seeds.start), AtomicBool::new(false));
        let results = Mutex::new((Happened::default(), 0, Vec::new()));
        let is_over = || self.time_max.is_some_and(|most| began.elapsed() > most) || failed.load(Ordering::Relaxed);
        let work = || {
            while !is_over() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    return;
                }
                let (happened, failure) = self.seed(&keys, seed);
                failed.fetch_or(failure.is_some(), Ordering::Relaxed);
                let mut results = results.lock().expect("no thread panics with it");
                results.0.merge(&happened);
                results.1 += 1;
                results.2.extend(failure);
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let (happened, seeds, failures) = results.into_inner().expect("no thread panics with it");
        let missing = if self.kept.is_none() { self.scenario.missing(&happened) } else { Vec::new() };
        let took_ms = began.elapsed().as_millis() as u64;
        Report { scenario: self.scenario, seeds, happened, missing, failures, took_ms }
    }

    /// What the nodes of the first seed's run say, one a line.
    #[must_use]
    pub fn trace(&self) -> String {
        let seed = self.seeds.start;
        let (plan, faults) = self.planned(seed);
        trace(
            &self.scenario.scheme().voting_keys(self.validators),
            seed,
            &plan,
            faults.into_iter().map(|(_, fault)| fault).collect(),
        )
    }

    fn planned(&self, seed: u64) -> (Plan, Vec<(usize, Fault)>) {
        let (plan, faults) = self.scenario.plan(seed, self.validators);
        let is_kept = |index: &usize| self.kept.as_ref().is_none_or(|kept| kept.contains(index));
        (plan, faults.into_iter().enumerate().filter(|(index, _)| is_kept(index)).collect())
    }

    fn seed(&self, keys: &Arc<VotingKeys>, seed: u64) -> (Happened, Option<Failure>) {
        let (plan, faults) = self.planned(seed);
        let (happened, violation) = run(keys, seed, &plan, &faults);
        let failure = violation.map(|violation| self.shrink(keys, seed, &plan, faults, violation));
        (happened, failure)
    }

    /// Leaves out one fault after the other for as long as the run fails without it.
    fn shrink(
        &self,
        keys: &Arc<VotingKeys>,
        seed: u64,
        plan: &Plan,
        mut faults: Vec<(usize, Fault)>,
        mut violation: String,
    ) -> Failure {
        let mut index = 0;
        while self.shrinks && index < faults.len() {
            let mut fewer = faults.clone();
            fewer.remove(index);
            match run(keys, seed, plan, &fewer).1 {
                Some(still) => (faults, violation, index) = (fewer, still, 0),
                None => index += 1,
            }
        }
        let (kept, faults): (Vec<usize>, Vec<Fault>) = faults.into_iter().unzip();
        let keep = kept.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let replay = format!(
            "cargo run --release -p alpenglow-tools -- sim --scenario {} --seeds {seed}..{} --validators {} --keep '{keep}'",
            name_of(self.scenario),
            seed + 1,
            self.validators
        );
        let trace = trace(keys, seed, plan, faults.clone());
        let lines: Vec<&str> = trace.lines().collect();
        let trace = lines[lines.len().saturating_sub(TRACE_LINES)..].join("\n");
        Failure { seed, violation, faults, kept, replay, trace }
    }
}

fn run(keys: &Arc<VotingKeys>, seed: u64, plan: &Plan, faults: &[(usize, Fault)]) -> (Happened, Option<String>) {
    let faults = faults.iter().map(|(_, fault)| *fault).collect();
    let mut ended = None;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let world = ended.insert(World::new(keys, seed, plan.clone(), faults));
        world.run();
    }));
    let (happened, violation) =
        ended.map_or_else(Default::default, |world| (world.oracle.happened, world.oracle.violation));
    (happened, caught.err().map(panicked).or(violation))
}

fn trace(keys: &Arc<VotingKeys>, seed: u64, plan: &Plan, faults: Vec<Fault>) -> String {
    let mut world = World::new(keys, seed, plan.clone(), faults);
    world.trace = Some(String::new());
    let caught = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut trace = world.trace.take().unwrap_or_default();
    if let Some(violation) = caught.err().map(panicked).or(world.oracle.violation) {
        trace.push_str(&violation);
        trace.push('\n');
    }
    trace
}

fn panicked(payload: Box<dyn Any + Send>) -> String {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("a node panicked: {}", message.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::super::fault::Loses;
    use super::*;

    fn campaign(scenario: Scenario, seeds: Range<u64>, validators: usize) -> Campaign {
        Campaign { scenario, seeds, validators, kept: None, time_max: None, shrinks: true }
    }

    #[test]
    fn equal_seeds_give_equal_runs() {
        let campaign = campaign(Scenario::Everything, 7..8, 6);
        assert_eq!(campaign.trace(), campaign.trace());
    }

    /// More than the protocol bears: the run fails, and names no more faults than it takes.
    #[test]
    fn a_failing_run_is_shrunk_to_what_it_takes() {
        let campaign = campaign(Scenario::Crashes, 1..2, 3);
        let keys = campaign.scenario.scheme().voting_keys(3);
        let (plan, _) = campaign.planned(1);
        let crash = |node| {
            let crash =
                Fault::Crash { node, at_ms: 500, outputs: 0, within_ms: 100, loses: Loses::Process, back_ms: None };
            (node, crash)
        };
        assert_eq!(run(&keys, 1, &plan, &[crash(0)]).1, None);
        let faults = vec![crash(0), crash(1), (2, Fault::Duplication { percent: 1 })];
        let violation = run(&keys, 1, &plan, &faults).1.expect("a third of the stake finalizes nothing");
        assert!(violation.contains("windows after"), "{violation}");
        let failure = campaign.shrink(&keys, 1, &plan, faults, violation);
        assert_eq!(failure.kept, [0, 1]);
        assert!(failure.trace.contains("windows after"), "{}", failure.trace);
    }
}
