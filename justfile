# Every habit of this project by name; `just` lists them.

default:
    @just --list

# What must pass before a change lands.
check:
    bash .ci/run

# All tests.
test:
    cargo test --workspace

# Formatting and lints, as CI runs them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    bash .ci/dependencies

# The kernels' tests on an emulated processor that has GFNI and AVX-512 (see what it needs in the file).
emulated *FILTERS:
    bash .ci/emulated {{FILTERS}}

# The tests that run unsafe code, and a cluster, under AddressSanitizer.
asan *FLAGS:
    bash .ci/asan {{FLAGS}}

# A real cluster of five node processes on this machine.
cluster *FLAGS:
    cargo run --release -- cluster {{FLAGS}}

# A cluster whose nodes are killed at random and start again, in a loop.
kill-loop KILLS="500":
    ALPENGLOW_KILLS={{KILLS}} cargo test --release --test kill_loop -- --nocapture

# A cluster on ext4 file systems that lose their power, as root: one node's at a time or, with --together, all at once.
power-loss *FLAGS:
    cargo build --release
    python3 .ci/power-loss {{FLAGS}}

# Pool and Votor against vector files.
conformance *FILES="tests/fixtures/scripted.jsonl":
    cargo run --release -p alpenglow-tools -- conformance {{FILES}}

# How often Rotor fails with part of the stake crashed, by the way relays are drawn.
sim-rotor *FLAGS:
    cargo run --release -p alpenglow-tools -- sim rotor {{FLAGS}}

# How long finality takes with 1,500 validators around the world; some minutes.
sim-mainnet *FLAGS:
    cargo run --release -p alpenglow-tools -- sim --topology mainnet {{FLAGS}}

# Whole nodes under attack in virtual time: all scenarios, some seeds.
sim *FLAGS:
    cargo run --release -p alpenglow-tools -- sim --scenario all {{FLAGS}}

# The same for a night.
sim-long *FLAGS:
    cargo run --release -p alpenglow-tools -- sim --scenario all --seeds 1..10001 {{FLAGS}}

# Breaks the rules one at a time in a copy of the sources; each mutant must be noticed. Words select mutants by name.
mutants *WORDS:
    python3 .ci/mutants {{WORDS}}

# What the computations cost on this machine.
bench *FLAGS:
    cargo run --release -p alpenglow-bench -- floors {{FLAGS}}

# What the dataplane takes, step by step, beside the least that it could.
bench-dataplane *FLAGS:
    cargo run --release -p alpenglow-bench -- dataplane {{FLAGS}}

# What votes take, from datagrams to certificates, beside bare calls of blst.
bench-votes *FLAGS:
    cargo run --release -p alpenglow-bench -- votes {{FLAGS}}

# What a node's files take, beside bare system calls; --folder says on which disk.
bench-storage *FLAGS:
    cargo run --release -p alpenglow-bench -- storage {{FLAGS}}

# Fuzzes what bytes from outside first meet, each target for so many seconds, with AddressSanitizer. Needs a C++ compiler.
fuzz SECONDS="60":
    bash .ci/fuzz {{SECONDS}}

# Every order in which threads can meet in the queues, in slice memory and in what wakes them up.
loom:
    RUSTFLAGS="--cfg loom" cargo test -p alpenglow-dataplane --lib --release --target-dir target/loom -- in_every_order

# Licences, bans and sources of all dependencies.
deny:
    cargo deny --workspace check bans licenses sources

# The documentation of all crates.
doc:
    cargo doc --workspace --no-deps --open
