//! The report of a run for people.

use comfy_table::{CellAlignment, Table, presets};

use super::flooded::FloodOutcome;
use super::outcome::{Outcome, StageSummary, Verdict};
use crate::report::Stage;

/// Facts that the table tells beside the outcome.
pub(crate) struct TableHead {
    /// What was run, in a line.
    pub(crate) title: String,
    /// Where its files are.
    pub(crate) folder: String,
    /// Slots finalized as ancestors only.
    pub(crate) ancestors: u64,
    /// Finalized blocks whose hash a surviving node recomputed, of those it could.
    pub(crate) recomputed: (u64, u64),
    /// Transactions that were finalized twice.
    pub(crate) duplicates: u64,
    /// Transactions that the sender's own kernel refused.
    pub(crate) refused: u64,
    /// How long load was offered, in seconds.
    pub(crate) load_s: f64,
}

/// The whole report, several lines, each ended.
pub(crate) fn render(head: &TableHead, outcome: &Outcome) -> String {
    let mut lines = vec![String::new(), head.title.clone(), String::new()];
    lines.extend(facts(head, outcome).into_iter().map(|(name, fact)| format!("  {name:<14}{fact}")));
    lines.push(String::new());
    lines.extend(stages(outcome).lines().map(|line| line.trim_end().to_owned()));
    lines.push(String::new());
    lines.push(format!(
        "  from {} on: since the leader's stamp, on this host's monotonic clock",
        Stage::SliceDissemination.name()
    ));
    lines.push(String::new());
    lines.extend(verdict(outcome));
    lines.join("\n") + "\n"
}

fn facts(head: &TableHead, outcome: &Outcome) -> Vec<(&'static str, String)> {
    let slots = outcome.slots;
    let ancestors = if head.ancestors == 0 { String::new() } else { format!(", {} as ancestors", head.ancestors) };
    let mut facts = vec![
        (
            "slots",
            format!(
                "{} decided: {} finalized ({} fast, {} slow{ancestors}), {} skipped",
                slots.decided, slots.finalized, slots.fast, slots.slow, slots.skipped
            ),
        ),
        ("agreement", agreement(head, outcome)),
        ("transactions", transactions(head, outcome)),
        (
            "shreds",
            format!(
                "{} from leaders, {} from relays; {} slices decoded",
                thousands(outcome.shreds.from_leader),
                thousands(outcome.shreds.from_relays),
                thousands(outcome.shreds.decoded_slices)
            ),
        ),
        (
            "resources",
            format!(
                "{:.1} s, {:.1} s of CPU in all nodes, {:.0} MiB in the largest",
                outcome.resources.wall_s, outcome.resources.cpu_s, outcome.resources.rss_mib_max
            ),
        ),
    ];
    if let Some(flood) = &outcome.flood {
        facts.extend(flood_facts(flood));
    }
    let drops: Vec<String> = outcome
        .drops
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{reason} {}", thousands(*count)))
        .collect();
    if !drops.is_empty() {
        facts.push(("dropped", drops.join(", ")));
    }
    facts.push(("files", head.folder.clone()));
    facts
}

fn agreement(head: &TableHead, outcome: &Outcome) -> String {
    let (recomputed, expected) = head.recomputed;
    let (recomputed, expected) = (thousands(recomputed), thousands(expected));
    let agreement = if outcome.agreement { "yes" } else { "NO" };
    format!("{agreement}; {recomputed} of {expected} block hashes recomputed from the blocks held")
}

fn transactions(head: &TableHead, outcome: &Outcome) -> String {
    let load = outcome.transactions;
    if load.sent == 0 {
        return "no load".to_owned();
    }
    let per_s = if head.load_s > 0.0 { load.finalized as f64 / head.load_s } else { 0.0 };
    let unless_none =
        |count: u64, what| if count == 0 { String::new() } else { format!(", {} {what}", thousands(count)) };
    let (duplicates, refused) =
        (unless_none(head.duplicates, "finalized twice"), unless_none(head.refused, "refused by the sender's kernel"));
    format!(
        "{} sent{refused}, {} finalized: {}/s, {:.2} MB/s{duplicates}",
        thousands(load.sent),
        thousands(load.finalized),
        thousands(per_s.round() as u64),
        load.finalized_bytes_per_s / 1e6
    )
}

fn flood_facts(flood: &FloodOutcome) -> [(&'static str, String); 3] {
    let checked = flood.checked.each().map(|(kind, count)| format!("{kind} {}", thousands(count)));
    [
        (
            "flood",
            format!(
                "of its own {} slots {} skipped; of the others' {} slots {} skipped, {} not finalized fast",
                flood.own_slots,
                flood.own_skipped,
                flood.other_slots,
                flood.other_skipped.len(),
                flood.other_slow
            ),
        ),
        ("", format!("checked of it: {}", checked.join(", "))),
        (
            "",
            format!(
                "others' blocks finalized at the others: p50 {}, p99 {}",
                duration(flood.finalized.p50_us),
                duration(flood.finalized.p99_us)
            ),
        ),
    ]
}

fn stages(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["stage", "count", "p50", "p90", "p99", "p99.9", "max"]);
    for (stage, summary) in outcome.stages.iter() {
        table.add_row(row(stage, summary));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((3, 0));
    }
    if let Some(names) = table.column_mut(0) {
        names.set_padding((2, 0));
    }
    table.to_string()
}

fn row(stage: Stage, summary: StageSummary) -> [String; 7] {
    let StageSummary { count, p50_us, p90_us, p99_us, p999_us, max_us } = summary;
    let time = |value_us| if count == 0 { "-".to_owned() } else { duration(value_us) };
    [stage.name().to_owned(), thousands(count), time(p50_us), time(p90_us), time(p99_us), time(p999_us), time(max_us)]
}

fn verdict(outcome: &Outcome) -> Vec<String> {
    match outcome.verdict {
        Verdict::Valid => vec!["valid".to_owned()],
        Verdict::Invalid => std::iter::once("INVALID".to_owned())
            .chain(outcome.reasons.iter().map(|reason| format!("  - {reason}")))
            .collect(),
    }
}

/// Three significant digits and the unit that suits: "840 ns", "12.3 µs", "1.20 ms", "3.40 s".
fn duration(microseconds: f64) -> String {
    let units = [("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    let fitting = units.into_iter().find(|(_, unit)| microseconds / unit < 999.5).unwrap_or(units[3]);
    let value = microseconds / fitting.1;
    let decimals = match value {
        _ if fitting.0 == "ns" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", fitting.0)
}

/// "1,234,567".
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::outcome::tests::sample;

    fn head() -> TableHead {
        TableHead {
            title: "5 nodes".to_owned(),
            folder: "runs/1".to_owned(),
            ancestors: 0,
            recomputed: (200, 200),
            duplicates: 0,
            refused: 0,
            load_s: 10.0,
        }
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (value_us, text) in [
            (0.0, "0 ns"),
            (0.84, "840 ns"),
            (0.999_7, "1.00 µs"),
            (12.345, "12.3 µs"),
            (999.4, "999 µs"),
            (999.6, "1.00 ms"),
            (25_000.0, "25.0 ms"),
            (3_400_000.0, "3.40 s"),
            (3_600_000_000.0, "3600 s"),
        ] {
            assert_eq!(duration(value_us), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 123_456, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn the_report_tells_slots_transactions_stages_drops_and_verdict() {
        let text = render(&head(), &sample());
        for expected in [
            "5 nodes",
            "40 decided: 40 finalized (39 fast, 1 slow), 0 skipped",
            "yes; 200 of 200 block hashes",
            "10 sent, 9 finalized: 1/s, 0.00 MB/s",
            "late 4",
            "runs/1",
            "\nvalid\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        let stages: Vec<&str> = text.lines().filter(|line| line.contains("dissemination")).collect();
        let fields: Vec<&str> = stages[0].split_whitespace().collect();
        assert_eq!(fields[..4], ["slice_dissemination", "1,000", "500", "µs"]);
        assert_eq!(
            stages[1].split_whitespace().collect::<Vec<_>>(),
            ["block_dissemination", "0", "-", "-", "-", "-", "-"]
        );
    }

    #[test]
    fn columns_of_numbers_end_below_each_other() {
        let text = render(&head(), &sample());
        let width =
            |needle: &str| text.lines().find(|line| line.trim_start().starts_with(needle)).unwrap().chars().count();
        assert_eq!(width("stage "), width("slice_dissemination"));
        assert_eq!(width("relay"), width("slice_dissemination"));
    }

    #[test]
    fn an_invalid_run_is_told_with_its_reasons() {
        let reasons = vec!["node 1 died".to_owned(), "slot 3".to_owned()];
        let text = render(&head(), &Outcome { verdict: Verdict::Invalid, reasons, agreement: false, ..sample() });
        assert!(text.ends_with("\nINVALID\n  - node 1 died\n  - slot 3\n"), "{text}");
        assert!(text.contains("NO; 200 of 200"), "{text}");
    }
}
