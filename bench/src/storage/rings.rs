//! A slice written through io_uring, bare and by glommio, and awaited.

use std::io;
use std::path::Path;
use std::time::Instant;

use glommio::LocalExecutorBuilder;
use glommio::io::BufferedFile;

use super::ring::Ring;
use super::times::Times;
use super::{Bare, row};
use crate::report::Row;

/// Both beside a bare write; nothing where io_uring is forbidden.
///
/// # Errors
/// When the file system refuses.
pub(super) fn rows(folder: &Path, bytes: &[u8], rounds: usize) -> io::Result<Vec<Row>> {
    // Glommio panics without one.
    let Ok(mut ring) = Ring::new() else { return Ok(Vec::new()) };
    let mut bare = Bare::create(folder.join("bare-rings"))?;
    let by_ring = Bare::create(folder.join("ring"))?.file;
    let path = folder.join("glommio");
    let executor = LocalExecutorBuilder::default().make().map_err(|error| io::Error::other(error.to_string()))?;
    let [glommio, ring, floor] = executor.run(async {
        let file = BufferedFile::create(&path).await.expect("a scratch file can be made");
        let (mut by_glommio, mut ours, mut floor) = (Times::default(), Times::default(), Times::default());
        for round in 0..rounds {
            let at = (round * bytes.len()) as u64;
            // It wants to own what it writes.
            let owned = bytes.to_vec();
            let start = Instant::now();
            let written = file.write_at(owned, at).await.expect("a scratch file can be written");
            by_glommio.add(start);
            assert_eq!(written, bytes.len());
            let start = Instant::now();
            ring.write(&by_ring, bytes, at);
            ours.add(start);
            let start = Instant::now();
            bare.append(bytes);
            floor.add(start);
        }
        file.close().await.expect("a scratch file can be closed");
        [by_glommio, ours, floor]
    });
    Ok(vec![row("slice_by_glommio", &glommio, &floor), row("slice_by_io_uring", &ring, &floor)])
}
