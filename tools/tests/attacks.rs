//! Every scenario of the simulator, some seventy seeds each; `just sim-long` runs more.

use alpenglow_tools::simulator::attack::campaign::Campaign;
use alpenglow_tools::simulator::attack::scenario::Scenario;
use clap::ValueEnum;

const SEEDS: std::ops::Range<u64> = 1..71;

#[test]
fn every_scenario_keeps_the_rules_and_does_what_it_is_for() {
    for &scenario in Scenario::value_variants() {
        let campaign = Campaign { scenario, seeds: SEEDS, validators: 12, kept: None, time_max: None, shrinks: true };
        let report = campaign.run();
        assert!(report.passed(), "{}", report.text());
    }
}
