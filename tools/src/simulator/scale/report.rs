//! What came of a study: for people, for programs, as a table of values and as a picture.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::latencies::{Latencies, PERCENT, Stage};
use super::world::Counts;
use super::{Leader, Study, chart};
use crate::simulator::mainnet;

/// The white paper's own simulation, with a distribution of stake of some months before (network delay only).
const PAPER_RANDOM_MS: f64 = 150.0;
const PAPER_ZURICH_MS: f64 = 115.0;
const PAPER_ZURICH_LAST_MS: f64 = 270.0;
/// How far a figure may be from the paper's.
const TOLERANCE: f64 = 0.2;

/// How long it took until so much of the stake had got so far with a block, since its last slice left the leader; over
/// the blocks that were final. By percent of stake from 1 to 100.
#[derive(Clone, Debug, Serialize)]
pub struct Distribution {
    /// `network`, `rotor`, `notarized` or `finalized`.
    pub stage: &'static str,
    /// The median block's.
    pub p50_ms: Vec<Option<f64>>,
    /// Of a tenth of the blocks it took at most so long.
    pub p10_ms: Vec<Option<f64>>,
    /// Of nine tenths of the blocks it took at most so long.
    pub p90_ms: Vec<Option<f64>>,
}

/// One of the white paper's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What it says.
    pub figure: &'static str,
    /// Here.
    pub here_ms: f64,
    /// There; an upper bound if `is_bound`.
    pub paper_ms: f64,
    /// Whether the paper says that it takes less than that.
    pub is_bound: bool,
}

/// What the simulation took on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Effort {
    /// Messages, slices and verdicts that reached a validator, those among them that it no longer wanted included.
    pub deliveries: u64,
    /// Those that its control core looked at.
    pub handled: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Time on a processor, of which another process may have taken the rest, if the system tells.
    pub cpu_seconds: Option<f64>,
    /// Most memory of this process, if the system tells.
    pub memory_mib: Option<u64>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name and version of this form.
    pub schema: &'static str,
    /// As asked for.
    pub validators: usize,
    /// As asked for.
    pub slots: u64,
    /// `random` or a place.
    pub leader: String,
    /// Where the leader of each window was.
    pub leaders: Vec<String>,
    /// As asked for.
    pub seed: u64,
    /// As asked for.
    pub europe_percent: Option<u8>,
    /// As asked for.
    pub egress_mbit: Option<u32>,
    /// As asked for.
    pub check_us: u64,
    /// As asked for.
    pub block_bytes: usize,
    /// Blocks that were final.
    pub blocks: usize,
    /// Finalizations at single validators by 80% of the votes.
    pub fast: u64,
    /// Finalizations at single validators in two rounds.
    pub slow: u64,
    /// Slots that some validator had not decided in the end.
    pub undecided: usize,
    /// Repair messages sent.
    pub repair_messages: u64,
    /// Virtual time.
    pub simulated_seconds: f64,
    /// By stage.
    pub distributions: Vec<Distribution>,
    /// With the paper's figures, where it has any for this leader and the same assumptions.
    pub comparisons: Vec<Comparison>,
    /// The rule that was broken, if one was.
    pub violation: Option<String>,
    /// Differs from run to run.
    pub effort: Effort,
}

impl Report {
    pub(super) fn new(
        study: &Study,
        latencies: &Latencies,
        leaders: Vec<String>,
        counts: Counts,
        simulated_ns: u64,
        took: Duration,
        violation: Option<String>,
    ) -> Self {
        let metros = mainnet::metros();
        let leader = match study.leader {
            Leader::Random => "random".to_owned(),
            Leader::Metro(metro) => metros.metros[metro].name.clone(),
        };
        let distributions: Vec<_> = Stage::ALL.iter().map(|&stage| Distribution::of(latencies, stage)).collect();
        let is_paper_like = study.egress_mbit.is_none() && study.check.is_zero();
        Self {
            schema: "alpenglow.sim.scale/1",
            validators: study.validators,
            slots: study.slots,
            leaders,
            seed: study.seed,
            europe_percent: study.europe_percent,
            egress_mbit: study.egress_mbit.map(std::num::NonZero::get),
            check_us: study.check.as_micros() as u64,
            block_bytes: study.block_bytes,
            blocks: latencies.by_stake(Stage::Finalized).len(),
            fast: latencies.fast,
            slow: latencies.slow,
            undecided: latencies.undecided(),
            repair_messages: counts.repair_messages,
            simulated_seconds: simulated_ns as f64 / 1e9,
            comparisons: if is_paper_like { comparisons(&leader, &distributions) } else { Vec::new() },
            leader,
            distributions,
            violation,
            effort: Effort {
                deliveries: counts.deliveries,
                handled: counts.handled,
                seconds: took.as_secs_f64(),
                cpu_seconds: cpu_seconds(),
                memory_mib: memory_mib(),
            },
        }
    }

    /// Whether all validators decided all slots, and alike.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.violation.is_none() && self.undecided == 0
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} validators as mainnet's, {} slots, leader {}, seed {}\n\
             ms from a block's last slice until so much of the stake had got so far, medians of {} blocks\n{}\n",
            self.validators,
            self.slots,
            self.leader,
            self.seed,
            self.blocks,
            self.table()
        );
        for Comparison { figure, here_ms, paper_ms, is_bound } in &self.comparisons {
            let paper = if *is_bound {
                format!("the white paper: below {paper_ms:.0} ms")
            } else {
                let off = 100.0 * (here_ms / paper_ms - 1.0);
                let verdict = if off.abs() <= 100.0 * TOLERANCE { "within 20%" } else { "more than 20% off" };
                format!("the white paper: about {paper_ms:.0} ms ({off:+.0}%, {verdict})")
            };
            writeln!(text, "{figure}: {here_ms:.0} ms; {paper}").expect("a string takes all");
        }
        let Effort { deliveries, handled, seconds, cpu_seconds, memory_mib } = &self.effort;
        let cpu = cpu_seconds.map_or_else(String::new, |seconds| format!(" ({seconds:.1} s of CPU)"));
        let memory = memory_mib.map_or_else(String::new, |mib| format!(", {mib} MiB"));
        writeln!(
            text,
            "finalizations: {} fast, {} slow; undecided slots: {}; repair messages: {}\n\
             {:.1} s simulated in {seconds:.1} s{cpu}: {:.1} million deliveries, {:.2} million a second, {:.1} million of \
             them of use{memory}",
            self.fast,
            self.slow,
            self.undecided,
            self.repair_messages,
            self.simulated_seconds,
            *deliveries as f64 / 1e6,
            *deliveries as f64 / 1e6 / cpu_seconds.unwrap_or(*seconds),
            *handled as f64 / 1e6,
        )
        .expect("a string takes all");
        if let Some(violation) = &self.violation {
            writeln!(text, "BROKEN: {violation}").expect("a string takes all");
        }
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let percents = || PERCENT.filter(|percent| percent % 10 == 0);
        table.set_header(std::iter::once("stake".to_owned()).chain(percents().map(|percent| format!("{percent}%"))));
        for distribution in &self.distributions {
            let cells = percents().map(|percent| in_ms(distribution.p50_ms[percent as usize - 1]));
            table.add_row(std::iter::once(distribution.stage.to_owned()).chain(cells));
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    }

    /// One line for each stage and percent of stake.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut csv = "stage,stake_percent,p10_ms,p50_ms,p90_ms\n".to_owned();
        let cell = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{ms:.3}"));
        for Distribution { stage, p50_ms, p10_ms, p90_ms } in &self.distributions {
            for ((percent, p10), (p50, p90)) in PERCENT.zip(p10_ms).zip(p50_ms.iter().zip(p90_ms)) {
                writeln!(csv, "{stage},{percent},{},{},{}", cell(*p10), cell(*p50), cell(*p90))
                    .expect("a string takes all");
            }
        }
        csv
    }

    /// A picture that needs nothing beside it.
    #[must_use]
    pub fn svg(&self) -> String {
        let title = format!(
            "{} validators as mainnet's, leader: {}, medians of {} blocks",
            self.validators, self.leader, self.blocks
        );
        chart::svg(&title, &self.distributions)
    }
}

impl Distribution {
    fn of(latencies: &Latencies, stage: Stage) -> Self {
        let by_block = latencies.by_stake(stage);
        let of_blocks = |tenth: usize| {
            let at = |percent: u32| {
                // What was never reached took longer than all that was.
                let mut after_ns: Vec<_> =
                    by_block.iter().map(|block| block[percent as usize - 1].unwrap_or(u64::MAX)).collect();
                after_ns.sort_unstable();
                let found = *after_ns.get((after_ns.len().max(1) - 1) * tenth / 10)?;
                (found != u64::MAX).then_some(found as f64 / 1e6)
            };
            PERCENT.map(at).collect()
        };
        Self { stage: stage.name(), p50_ms: of_blocks(5), p10_ms: of_blocks(1), p90_ms: of_blocks(9) }
    }
}

fn in_ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"))
}

fn comparisons(leader: &str, distributions: &[Distribution]) -> Vec<Comparison> {
    let finalized = distributions.iter().find(|distribution| distribution.stage == Stage::Finalized.name());
    let at = |percent: usize| finalized.and_then(|distribution| distribution.p50_ms[percent - 1]);
    let figures: &[(&str, usize, f64, bool)] = match leader {
        "random" => &[("final at half of the stake", 50, PAPER_RANDOM_MS, false)],
        "Zurich" => &[
            ("final at half of the stake", 50, PAPER_ZURICH_MS, false),
            ("final everywhere", 100, PAPER_ZURICH_LAST_MS, true),
        ],
        _ => &[],
    };
    let comparison = |&(figure, percent, paper_ms, is_bound): &(_, usize, _, _)| {
        Some(Comparison { figure, here_ms: at(percent)?, paper_ms, is_bound })
    };
    figures.iter().filter_map(comparison).collect()
}

/// What this thread, which is the only one, has run for.
fn cpu_seconds() -> Option<f64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(schedstat.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e9)
}

/// The most memory that this process ever had.
fn memory_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1_024)
}
