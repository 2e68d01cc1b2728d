//! All fuzz targets in one program, since linking it takes longer than fuzzing any of them for a while: the environment
//! variable `FUZZ_TARGET` names the one to run, `FUZZ_SEEDS` a folder to write every target's seeds into instead.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs, io, process};

use libfuzzer_sys::fuzz_target;

/// A target's name, what takes any bytes for it, and bytes that are well-formed there.
type Target = (&'static str, fn(&[u8]) -> bool, fn() -> Vec<Vec<u8>>);

static CHOSEN: OnceLock<fn(&[u8]) -> bool> = OnceLock::new();

fuzz_target!(init: choose(), |bytes: &[u8]| {
    CHOSEN.get().expect("chosen before the first bytes")(bytes);
});

fn targets() -> impl Iterator<Item = Target> {
    let messages = alpenglow_tools::fuzzing::ENTRY_POINTS.into_iter().map(|point| (point.name, point.run, point.seeds));
    messages.chain(alpenglow::fuzzing::ENTRY_POINTS)
}

fn choose() {
    if let Some(folder) = env::var_os("FUZZ_SEEDS") {
        write_seeds(Path::new(&folder)).unwrap_or_else(|error| fail(&format!("cannot write seeds: {error}")));
        process::exit(0);
    }
    let wanted = env::var("FUZZ_TARGET").unwrap_or_default();
    let Some((_, run, _)) = targets().find(|(name, ..)| *name == wanted) else {
        let names: Vec<_> = targets().map(|(name, ..)| name).collect();
        fail(&format!("FUZZ_TARGET is {wanted:?} and has to be one of {}", names.join(", ")))
    };
    CHOSEN.set(run).expect("called once");
}

fn write_seeds(folder: &Path) -> io::Result<()> {
    for (name, _, seeds) in targets() {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in seeds().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    process::exit(2)
}
