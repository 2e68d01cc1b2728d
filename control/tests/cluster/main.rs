//! Whole clusters of control cores in virtual time, watched by an oracle that knows only the protocol.
//!
//! Random runs print their seed when they fail. `ALPENGLOW_SEED=N cargo test -p alpenglow-control --test cluster`
//! runs them with that one only, `ALPENGLOW_SEEDS=N` with the first N.

mod block_log;
mod clients;
mod epochs;
mod equivocation;
mod faults;
mod garbage;
mod handover;
mod hostile;
mod joining;
mod oracle;
mod paths;
mod repair;
mod restarts;
mod world;

/// The seeds of a random test, or what the environment asks for instead.
fn seeds(count: u64) -> std::ops::RangeInclusive<u64> {
    let number = |name| std::env::var(name).ok().map(|value| value.parse().expect("a seed is a number"));
    match number("ALPENGLOW_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("ALPENGLOW_SEEDS").unwrap_or(count),
    }
}
