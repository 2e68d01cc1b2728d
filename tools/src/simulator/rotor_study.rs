//! How often Rotor fails, by the way its relays are drawn: the probability that less than gamma of a slice's relays
//! are alive, with part of the stake crashed, and what relaying costs whom.
//!
//! Who is crashed is drawn at random, again and again; for each such set the probability is computed and not sampled:
//! seats are independent, so the number of live relays is a sum of independent events. So even one failure in 10^12
//! slices shows.

use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use comfy_table::{CellAlignment, Table, presets};
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::samplings::{self, Seats};

/// Gamma of the codes compared; gamma is half of it.
const TOTAL_SHREDS: [usize; 3] = [64, 128, 256];
/// Crashed stake in percent.
const CRASHED_PERCENT: [u64; 3] = [20, 30, 40];
/// Epochs, each with a bin order of its own, that the crashed sets are spread over.
const EPOCHS: usize = 10;
/// Last ranks of the groups of validators whose work is reported.
const GROUP_ENDS: [usize; 5] = [10, 50, 200, 500, usize::MAX];
/// Gamma for which work is reported.
const WORK_TOTAL_SHREDS: usize = 64;

/// What is studied.
#[derive(Clone, Debug)]
pub struct Study {
    /// Everybody's stake.
    pub stakes: Vec<Stake>,
    /// Sets of crashed validators tried for each share of crashed stake.
    pub crashed_sets: usize,
    /// Everything random follows from it.
    pub seed: u64,
}

/// How often too few relays are alive.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The way relays are drawn.
    pub sampling: &'static str,
    /// Gamma; gamma is half of it.
    pub total_shreds: usize,
    /// Crashed stake, at most.
    pub crashed_percent: u64,
    /// Probability that a slice fails, over all crashed sets.
    pub mean: f64,
    /// The same with the most harmful of these sets.
    pub worst: f64,
}

/// What relaying one slice costs a group of validators.
#[derive(Clone, Debug, Serialize)]
pub struct Work {
    /// The way relays are drawn.
    pub sampling: &'static str,
    /// First and last rank by stake, from 1.
    pub ranks: (usize, usize),
    /// The group's part of all stake.
    pub stake_share: f64,
    /// The group's expected part of a slice's relaying.
    pub relay_share: f64,
    /// Its standard deviation from slice to slice.
    pub relay_share_deviation: f64,
    /// What one of them sends on average, in times the rate of the blocks; frames of shreds not counted.
    pub egress_per_member: f64,
}

/// What came of a study.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name and version of this form.
    pub schema: &'static str,
    /// Number of validators.
    pub validators: usize,
    /// As asked for.
    pub crashed_sets: usize,
    /// As asked for.
    pub seed: u64,
    /// By sampling, Gamma and crashed stake.
    pub failures: Vec<Failure>,
    /// By sampling and group.
    pub work: Vec<Work>,
}

impl Study {
    /// Computes everything.
    ///
    /// # Panics
    /// If there are no stakes or no crashed sets, or the stakes are not a validator set's.
    #[must_use]
    pub fn run(&self) -> Report {
        assert!(self.crashed_sets > 0, "nothing to average over");
        let validators = validator_set(&self.stakes);
        let (mut failures, mut work) = (Vec::new(), Vec::new());
        for sampling in samplings::all() {
            for total_shreds in TOTAL_SHREDS {
                let epochs: Vec<_> = (0..EPOCHS.min(self.crashed_sets) as u64)
                    .map(|epoch| sampling.seats(&validators, epoch_seed(self.seed, epoch), total_shreds))
                    .collect();
                for crashed_percent in CRASHED_PERCENT {
                    let (mean, worst) = self.failure(&validators, &epochs, crashed_percent);
                    failures.push(Failure { sampling: sampling.name(), total_shreds, crashed_percent, mean, worst });
                }
                if total_shreds == WORK_TOTAL_SHREDS {
                    work.extend(work_by_group(sampling.name(), &validators, &epochs[0]));
                }
            }
        }
        let (validators, crashed_sets, seed) = (validators.len(), self.crashed_sets, self.seed);
        Report { schema: "alpenglow.sim.rotor/1", validators, crashed_sets, seed, failures, work }
    }

    /// Mean and greatest probability that a slice fails.
    fn failure(&self, validators: &ValidatorSet, epochs: &[Vec<Seats>], crashed_percent: u64) -> (f64, f64) {
        let mut random = ChaCha20Rng::seed_from_u64(self.seed ^ (crashed_percent << 32));
        let (mut sum, mut worst) = (0.0_f64, 0.0_f64);
        for set in 0..self.crashed_sets {
            let crashed = crashed(validators, crashed_percent, &mut random);
            let fails = failure_probability(&epochs[set % epochs.len()], &crashed);
            sum += fails;
            worst = worst.max(fails);
        }
        (sum / self.crashed_sets as f64, worst)
    }
}

/// A validator set with these stakes; identities follow from the position.
///
/// # Panics
/// If the stakes are not those of a validator set.
pub(super) fn validator_set(stakes: &[Stake]) -> ValidatorSet {
    let identity = |position: usize| {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&(position as u64 + 1).to_le_bytes());
        SigningKey::from_bytes(&secret).verifying_key().to_bytes()
    };
    let validators = stakes.iter().enumerate().map(|(position, &stake)| (identity(position), stake));
    ValidatorSet::new(validators.collect()).expect("stakes above zero whose sum fits 64 bits")
}

fn epoch_seed(seed: u64, epoch: u64) -> EpochSeed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
    EpochSeed(bytes)
}

/// Validators in random order, each crashed unless that would exceed the share.
fn crashed(validators: &ValidatorSet, percent: u64, random: &mut ChaCha20Rng) -> Vec<bool> {
    let most = u128::from(validators.total_stake().0) * u128::from(percent) / 100;
    let mut order: Vec<_> = validators.indices().map(|v| (random.next_u64(), v)).collect();
    order.sort_unstable();
    let (mut crashed, mut stake) = (vec![false; validators.len()], 0_u128);
    for (_, validator) in order {
        let with = stake + u128::from(validators.stake(validator).0);
        if with <= most {
            (crashed[validator.get()], stake) = (true, with);
        }
    }
    crashed
}

/// The probability that less than half of the seats are filled by validators that are not crashed.
fn failure_probability(seats: &[Seats], crashed: &[bool]) -> f64 {
    let total: usize = seats.iter().map(|seats| seats.count).sum();
    // The probability of each number of live relays among the seats so far.
    let mut live = vec![0.0; total + 1];
    live[0] = 1.0;
    let mut filled = 0;
    for seats in seats {
        let is_live = |&&(validator, _): &&(ValidatorIndex, f64)| !crashed[validator.get()];
        let alive: f64 = seats.probabilities.iter().filter(is_live).map(|(_, probability)| probability).sum();
        for _ in 0..seats.count {
            filled += 1;
            for count in (0..=filled).rev() {
                let one_less = if count > 0 { live[count - 1] } else { 0.0 };
                live[count] = live[count] * (1.0 - alive).max(0.0) + one_less * alive;
            }
        }
    }
    live[..total / 2].iter().sum()
}

fn work_by_group(sampling: &'static str, validators: &ValidatorSet, seats: &[Seats]) -> Vec<Work> {
    let by_stake = validators.by_decreasing_stake();
    let total: usize = seats.iter().map(|seats| seats.count).sum();
    let mut start = 0;
    let mut group = |end: usize| {
        let end = end.min(by_stake.len());
        let members = &by_stake[start..end];
        let mut is_member = vec![false; by_stake.len()];
        members.iter().for_each(|member| is_member[member.get()] = true);
        let (mut expected, mut variance) = (0.0, 0.0);
        for seats in seats {
            let in_group = seats.probabilities.iter().filter(|(validator, _)| is_member[validator.get()]);
            let probability: f64 = in_group.map(|(_, probability)| probability).sum();
            expected += seats.count as f64 * probability;
            variance += seats.count as f64 * probability * (1.0 - probability).max(0.0);
        }
        let stake: u64 = members.iter().map(|&member| validators.stake(member).0).sum();
        let work = Work {
            sampling,
            ranks: (start + 1, end),
            stake_share: stake as f64 / validators.total_stake().0 as f64,
            relay_share: expected / total as f64,
            relay_share_deviation: variance.sqrt() / total as f64,
            // Gamma shreds carry twice the data, and each goes to all but its relay and the leader.
            egress_per_member: 2.0 * expected / total as f64 * by_stake.len().saturating_sub(2) as f64
                / members.len() as f64,
        };
        start = end;
        work
    };
    GROUP_ENDS.into_iter().map(&mut group).take_while(|work| work.ranks.0 <= work.ranks.1).collect()
}

impl Report {
    /// Both tables for people.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut failures = table(["relays drawn by", "Gamma", "crashed stake", "a slice fails", "worst crashed set"]);
        for failure in &self.failures {
            failures.add_row([
                failure.sampling.to_owned(),
                failure.total_shreds.to_string(),
                format!("{}%", failure.crashed_percent),
                format!("{:.2e}", failure.mean),
                format!("{:.2e}", failure.worst),
            ]);
        }
        let mut work = table(["relays drawn by", "ranks", "stake", "relaying", "deviation", "each sends"]);
        for group in &self.work {
            work.add_row([
                group.sampling.to_owned(),
                format!("{}-{}", group.ranks.0, group.ranks.1),
                format!("{:.1}%", 100.0 * group.stake_share),
                format!("{:.1}%", 100.0 * group.relay_share),
                format!("{:.1}%", 100.0 * group.relay_share_deviation),
                format!("{:.1} x", group.egress_per_member),
            ]);
        }
        format!(
            "{} validators, {} crashed sets, seed {}; gamma is half of Gamma\n{failures}\n\
             What a slice's relaying costs whom, Gamma {WORK_TOTAL_SHREDS}; each sends so many times the blocks' rate\n{work}",
            self.validators, self.crashed_sets, self.seed
        )
    }
}

fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::mainnet;

    fn seats(alive: &[f64]) -> Vec<Seats> {
        let (live, dead) = (ValidatorIndex(0), ValidatorIndex(1));
        alive.iter().map(|&p| Seats { count: 1, probabilities: vec![(live, p), (dead, 1.0 - p)] }).collect()
    }

    #[test]
    fn failure_is_the_sum_over_all_outcomes_with_too_few_live_relays() {
        let alive = [0.9, 0.5, 1.0, 0.2, 0.7, 0.0];
        let mut expected = 0.0;
        for outcome in 0..1_u32 << alive.len() {
            if outcome.count_ones() < 3 {
                let seat = |(seat, p): (usize, &f64)| if outcome >> seat & 1 == 1 { *p } else { 1.0 - p };
                expected += alive.iter().enumerate().map(seat).product::<f64>();
            }
        }
        let computed = failure_probability(&seats(&alive), &[false, true]);
        assert!((computed - expected).abs() < 1e-12, "{computed} {expected}");
    }

    #[test]
    fn crashed_validators_have_no_more_than_their_share_and_nearly_all_of_it() {
        let validators = validator_set(&mainnet::stakes(mainnet::VALIDATORS));
        let mut random = ChaCha20Rng::seed_from_u64(5);
        for percent in CRASHED_PERCENT {
            let crashed = crashed(&validators, percent, &mut random);
            let stake: u64 = validators.indices().filter(|v| crashed[v.get()]).map(|v| validators.stake(v).0).sum();
            let share = stake as f64 / validators.total_stake().0 as f64 * 100.0;
            assert!(share <= percent as f64 && share > percent as f64 - 0.1, "{share}% for {percent}%");
        }
    }

    #[test]
    fn partition_sampling_fails_less_often_than_drawing_by_stake() {
        let study = Study { stakes: mainnet::stakes(mainnet::VALIDATORS), crashed_sets: 3, seed: 1 };
        let report = study.run();
        let mean = |sampling, total, crashed| {
            let row = report.failures.iter().find(|failure| {
                (failure.sampling, failure.total_shreds, failure.crashed_percent) == (sampling, total, crashed)
            });
            row.unwrap().mean
        };
        for total in TOTAL_SHREDS {
            for crashed in CRASHED_PERCENT {
                assert!(mean("PS-P", total, crashed) < mean("FA1-IID", total, crashed), "{total} {crashed}");
                assert!(mean("FA1-IID", total, crashed) < mean("stake-weighted", total, crashed), "{total} {crashed}");
            }
        }
        let by_partition: Vec<_> = report.work.iter().filter(|work| work.sampling == "PS-P").collect();
        assert_eq!(by_partition.len(), GROUP_ENDS.len());
        assert!(by_partition.iter().all(|work| (work.relay_share - work.stake_share).abs() < 1e-9));
        for sampling in samplings::all() {
            let groups = report.work.iter().filter(|work| work.sampling == sampling.name());
            let sent = |work: &Work| work.egress_per_member * (work.ranks.1 - work.ranks.0 + 1) as f64;
            let all_send: f64 = groups.map(sent).sum();
            assert!((all_send / (2.0 * (mainnet::VALIDATORS - 2) as f64) - 1.0).abs() < 1e-9, "{}", sampling.name());
        }
    }
}
