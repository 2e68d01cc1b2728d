//! Writes the seeds of the fuzz targets for files into a folder, as cargo-fuzz looks for them: `fuzz_file_seeds fuzz/corpus`.

use std::path::PathBuf;
use std::{env, fs, io};

use alpenglow::fuzzing::ENTRY_POINTS;

fn main() -> io::Result<()> {
    let corpus = env::args_os().nth(1).map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    for (name, _, seeds) in ENTRY_POINTS {
        let folder = corpus.join(name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in seeds().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
