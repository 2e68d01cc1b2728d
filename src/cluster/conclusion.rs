//! The outcome of a run, from what was seen of it and what its nodes left behind.

use super::decisions::Decisions;
use super::flooded::{Counted, FloodOutcome};
use super::folder::RunFolder;
use super::merge::{Merged, merge};
use super::outcome::{Outcome, Resources, StageSummaries, Transactions, Verdict};
use super::plan::Plan;
use super::table::TableHead;
use super::verdict::{self, DueTransactions, Evidence};
use super::watch::Seen;
use super::{Finished, LoadEnd};
use crate::report::NodeReport;

use alpenglow_rotor::types::{Slot, ValidatorIndex};

/// Reads the reports of the nodes that survived and makes the outcome.
pub(super) fn conclude(plan: &Plan, folder: &RunFolder, mut seen: Seen, load: &LoadEnd) -> Finished {
    let mut reports = Vec::with_capacity(seen.survivors.len());
    for &node in &seen.survivors {
        match NodeReport::read(&seen.cluster.data_folder(node)) {
            Ok(report) if report.validator == node.0 => reports.push(report),
            Ok(report) => seen.deaths.push(format!("node {} left the report of node {}", node.0, report.validator)),
            Err(error) => seen.deaths.push(format!("node {} left no report: {error}", node.0)),
        }
    }
    let merged = merge(&reports, Slot(plan.slots));
    let transactions = DueTransactions {
        due: load.due,
        finalized: merged.finalized.count_below(load.due),
        missing: merged.finalized.first_hole_below(load.due),
    };
    let flood = flood(plan, &mut seen, &reports, &merged);
    let evidence = Evidence {
        decisions: &seen.decisions,
        survivors: &seen.survivors,
        deaths: &seen.deaths,
        transactions,
        flood: flood.as_ref(),
    };
    let reasons = verdict::reasons(&evidence);
    let head = head(plan, folder, &seen, load, &merged);
    Finished { outcome: Outcome { flood, ..outcome(plan, &seen, load, merged, reasons) }, head }
}

fn flood(plan: &Plan, seen: &mut Seen, reports: &[NodeReport], merged: &Merged) -> Option<FloodOutcome> {
    if plan.floods.is_empty() {
        return None;
    }
    let schedule = match seen.cluster.leader_schedule() {
        Ok(schedule) => schedule,
        Err(error) => {
            seen.deaths.push(format!("nobody can say which slots were whose: {error}"));
            return None;
        }
    };
    let counted = Counted {
        floods: &plan.floods,
        decisions: &seen.decisions,
        reports,
        last: Slot(plan.slots),
        load_finalized: merged.finalized.count_below(u64::MAX) + merged.duplicates,
    };
    Some(FloodOutcome::of(counted, &schedule))
}

fn outcome(plan: &Plan, seen: &Seen, load: &LoadEnd, merged: Merged, reasons: Vec<String>) -> Outcome {
    let finalized = merged.finalized.count_below(load.sent.transactions);
    let seconds = load.duration.as_secs_f64();
    let bytes = finalized as f64 * plan.transaction_bytes as f64;
    Outcome {
        schema: Outcome::schema(),
        verdict: if reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid },
        reasons,
        config: plan.describe(),
        slots: seen.decisions.counts(),
        agreement: verdict::agreement(&seen.decisions),
        transactions: Transactions {
            sent: load.sent.transactions,
            finalized,
            finalized_bytes_per_s: if seconds > 0.0 { bytes / seconds } else { 0.0 },
        },
        flood: None,
        shreds: merged.shreds,
        stages: StageSummaries::of(&merged.stages),
        drops: merged.drops,
        resources: Resources {
            wall_s: seen.wall.as_secs_f64(),
            cpu_s: merged.cpu_s + seen.without_report.cpu_s,
            rss_mib_max: merged.rss_mib_max.max(seen.without_report.rss_mib_max),
        },
    }
}

fn head(plan: &Plan, folder: &RunFolder, seen: &Seen, load: &LoadEnd, merged: &Merged) -> TableHead {
    let counts = seen.decisions.counts();
    let sum = |count: fn(&Decisions, ValidatorIndex) -> u64| -> u64 {
        seen.survivors.iter().map(|&node| count(&seen.decisions, node)).sum()
    };
    TableHead {
        title: plan.title(),
        folder: folder.path().display().to_string(),
        ancestors: counts.finalized - counts.fast - counts.slow,
        recomputed: (sum(Decisions::applied_by), sum(Decisions::applicable_to)),
        duplicates: merged.duplicates,
        refused: load.sent.refused,
        load_s: load.duration.as_secs_f64(),
    }
}
