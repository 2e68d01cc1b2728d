//! Writes the seeds of every fuzz target into a folder, as cargo-fuzz looks for them: `fuzz_seeds fuzz/corpus`.

use std::path::PathBuf;
use std::{env, fs, io};

use alpenglow_tools::fuzzing::ENTRY_POINTS;

fn main() -> io::Result<()> {
    let corpus = env::args_os().nth(1).map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    for entry_point in ENTRY_POINTS {
        let folder = corpus.join(entry_point.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (entry_point.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
