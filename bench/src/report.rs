//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::cores::Cores;

/// One step: what our code takes beside what it cannot do without.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours_us: f64,
    /// Absent where nothing bare does the same.
    pub(crate) floor_us: Option<f64>,
    /// Median of the ratios of single rounds, in which ours and the floor were measured one after the other: what slows
    /// the machine down for a while slows both. Absent where rounds do not have both; then the ratio is that of the
    /// times.
    pub(crate) rounds_ratio: Option<f64>,
    /// The largest ratio that is good enough.
    pub(crate) ratio_goal: Option<f64>,
    /// The longest time that is good enough.
    pub(crate) goal_us: Option<f64>,
    /// What the floor is the sum of, or other figures of the step.
    pub(crate) details: BTreeMap<String, f64>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.rounds_ratio.or_else(|| self.floor_us.map(|floor| self.ours_us / floor))
    }

    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio_goal.zip(self.ratio()).map(|(goal, ratio)| ratio <= goal);
        let time = self.goal_us.map(|goal| self.ours_us <= goal);
        match (ratio, time) {
            (Some(ratio), Some(time)) => Some(ratio && time),
            (one, other) => one.or(other),
        }
    }

    fn json(&self) -> Value {
        json!({
            "ours_us": self.ours_us,
            "floor_us": self.floor_us,
            "ratio": self.ratio(),
            "goal": {"ratio": self.ratio_goal, "us": self.goal_us, "met": self.is_met()},
            "details": self.details,
        })
    }
}

/// What a benchmark has measured, and where.
pub(crate) struct Report {
    schema: &'static str,
    /// What decides how fast any of it can be.
    pub(crate) machine: Value,
    pub(crate) rows: Vec<Row>,
    /// Bytes, by what holds them, where they were counted.
    pub(crate) memory: Option<serde_json::Map<String, Value>>,
}

impl Report {
    /// A report without rows, to be begun before anything is measured: it tells how busy the machine was. `schema`
    /// names what [`Self::json`] looks like.
    pub(crate) fn begin(schema: &'static str) -> Self {
        Self { schema, machine: machine(&Cores::choose()), rows: Vec::new(), memory: None }
    }

    /// For programs: one object.
    pub(crate) fn json(&self) -> Value {
        let steps: serde_json::Map<String, Value> =
            self.rows.iter().map(|row| (row.name.clone(), row.json())).collect();
        let mut json = json!({"schema": self.schema, "machine": self.machine, "steps": steps});
        if let Some(memory) = &self.memory {
            json["memory"] = memory.clone().into();
        }
        json
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.machine, table(&self.rows))?;
        self.memory.as_ref().map_or(Ok(()), |memory| write!(f, "\nmemory {}", Value::Object(memory.clone())))
    }
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["step", "ours µs", "floor µs", "ratio", "goal", "details"]);
    let or_dash = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    for row in rows {
        let goals =
            [row.ratio_goal.map(|ratio| format!("<= {ratio:.2} ×")), row.goal_us.map(|time| format!("<= {time} µs"))];
        let mut goal = goals.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if goal.is_empty() {
            goal.push('-');
        }
        let mark = match row.is_met() {
            Some(true) => " met",
            Some(false) => " missed",
            None => "",
        };
        let details: Vec<_> = row.details.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        table.add_row([
            row.name.clone(),
            format!("{:.2}", row.ours_us),
            or_dash(row.floor_us, 2),
            or_dash(row.ratio(), 2),
            goal + mark,
            details.join("\n"),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    table
}

/// The machine's features that decide how fast any of this can be.
fn machine(pinned: &Cores) -> Value {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = cpu_info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let flags = value("flags");
    let features = ["aes", "vaes", "avx2", "avx512f", "avx512bw", "gfni", "sha_ni", "vpclmulqdq"];
    let has = |feature: &&str| flags.split(' ').any(|flag| flag == *feature);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": value("model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "pinned_core": Cores::last(),
        "relay_core": pinned.relay,
        "driver_core": pinned.driver,
        "features": features.into_iter().filter(has).collect::<Vec<_>>(),
        "linux": kernel.trim(),
        "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "erasure_kernel": alpenglow_rotor::erasure::Kernel::best().name(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row { name: "encode".into(), ours_us: 3.0, floor_us: Some(2.0), ratio_goal: Some(1.5), ..Row::default() }
    }

    #[test]
    fn the_object_has_the_published_shape() {
        let mut report = Report { rows: vec![row()], ..Report::begin("alpenglow.dataplane/1") };
        let json = report.json();
        assert_eq!(json["schema"], "alpenglow.dataplane/1");
        assert!(json["machine"]["cores"].as_u64() > Some(0) && json.get("memory").is_none());
        let step = &json["steps"]["encode"];
        assert_eq!((&step["ours_us"], &step["floor_us"], &step["ratio"]), (&json!(3.0), &json!(2.0), &json!(1.5)));
        assert_eq!(step["goal"], json!({"ratio": 1.5, "us": null, "met": true}));
        report.memory = json!({"slot_20_bytes": 7}).as_object().cloned();
        assert_eq!(report.json()["memory"]["slot_20_bytes"], 7);
    }

    #[test]
    fn a_goal_is_met_only_if_all_of_it_is() {
        assert_eq!(row().is_met(), Some(true));
        assert_eq!(Row { ours_us: 3.1, ..row() }.is_met(), Some(false));
        assert_eq!(Row { goal_us: Some(2.9), ..row() }.is_met(), Some(false));
        assert_eq!(Row { ratio_goal: None, ..row() }.is_met(), None);
        assert_eq!(Row { ratio_goal: None, goal_us: Some(3.0), ..row() }.is_met(), Some(true));
    }

    #[test]
    fn the_rounds_own_ratios_count_where_there_are_any() {
        let row = Row { rounds_ratio: Some(1.25), ..row() };
        assert_eq!(row.json()["ratio"], json!(1.25));
    }

    #[test]
    fn a_step_without_floor_has_no_ratio() {
        assert!(Row { floor_us: None, ..row() }.json()["ratio"].is_null());
    }

    #[test]
    fn the_table_says_what_is_missed() {
        let table = table(&[Row { ours_us: 4.0, goal_us: Some(9.0), ..row() }]).to_string();
        assert!(table.contains("2.00") && table.contains("<= 1.50 ×, <= 9 µs missed"), "{table}");
    }
}
