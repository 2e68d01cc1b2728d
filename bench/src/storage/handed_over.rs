//! A slice handed to a thread that writes it, with the answer awaited: what it would cost control to leave its writes
//! to another thread and still have them before the vote.

use std::hint;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam::channel;

use super::times::in_turns;
use super::{Bare, row};
use crate::report::Row;

/// What the machine does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Nothing else.
    Idle,
    /// As many threads compute as it has cores.
    Busy,
}

fn name(load: Load) -> &'static str {
    match load {
        Load::Idle => "slice_to_a_thread",
        Load::Busy => "slice_to_a_thread_busy",
    }
}

/// The slice through the thread, beside a bare write on this one.
///
/// # Errors
/// When the file system refuses.
pub(super) fn measure(folder: &Path, load: Load, rounds: usize) -> io::Result<Row> {
    let name = name(load);
    let bytes: Arc<[u8]> = Bare::slice_bytes().into();
    let (mut theirs, mut bare) = (Bare::create(folder.join(name))?, Bare::create(folder.join(format!("bare-{name}")))?);
    let (orders, work) = channel::bounded::<Arc<[u8]>>(1);
    let (answers, done) = channel::bounded(1);
    let is_over = AtomicBool::new(false);
    let [ours, floor] = thread::scope(|scope| {
        scope.spawn(move || {
            for bytes in work {
                theirs.append(&bytes);
                if answers.send(()).is_err() {
                    break;
                }
            }
        });
        if load == Load::Busy {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..cores {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        hint::spin_loop();
                    }
                });
            }
        }
        let times = in_turns(
            rounds,
            [
                &mut || {
                    orders.send(Arc::clone(&bytes)).expect("the thread lives as long as this");
                    done.recv().expect("it answers everything");
                },
                &mut || bare.append(&bytes),
            ],
        );
        is_over.store(true, Ordering::Relaxed);
        drop(orders);
        times
    });
    Ok(row(name, &ours, &floor))
}
