//! Verifier threads: they check BLS signatures, so that a pairing of more than a millisecond never delays control or a
//! shard. They share one bounded queue of jobs; the order of their answers does not matter.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::input::JobId;
use alpenglow_dataplane::ControlWaker;
use crossbeam::channel::{self, Receiver, Sender};

/// Control's end of the verifiers' queues.
pub(crate) struct Verifiers {
    jobs: Sender<(JobId, CheckJob)>,
    verdicts: Receiver<(JobId, CheckVerdict)>,
    threads: Vec<JoinHandle<()>>,
}

impl Verifiers {
    /// Starts a thread for each of `checkers`. Queues hold `jobs_max` entries: as many as control has in flight at most.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(checkers: Vec<Checker>, jobs_max: usize, waker: &Arc<ControlWaker>) -> io::Result<Self> {
        let (jobs, work) = channel::bounded(jobs_max);
        let (answers, verdicts) = channel::bounded(jobs_max);
        let threads = checkers
            .into_iter()
            .enumerate()
            .map(|(index, checker)| {
                let (work, answers, waker) = (Receiver::clone(&work), Sender::clone(&answers), Arc::clone(waker));
                thread::Builder::new()
                    .name(format!("verifier-{index}"))
                    .spawn(move || verify(checker, &work, &answers, &waker))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { jobs, verdicts, threads })
    }

    /// Hands a job to the next free verifier.
    ///
    /// # Panics
    /// If more jobs are unanswered than were announced, or a verifier has panicked.
    pub(crate) fn push(&self, id: JobId, job: CheckJob) {
        assert!(self.jobs.try_send((id, job)).is_ok(), "the queue holds as many jobs as control has in flight");
    }

    /// The next answer.
    pub(crate) fn pop(&self) -> Option<(JobId, CheckVerdict)> {
        self.verdicts.try_recv().ok()
    }

    /// Whether no answer waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// Lets the verifiers finish what they are at, and waits for them.
    pub(crate) fn stop(self) {
        let Self { jobs, verdicts, threads } = self;
        drop((jobs, verdicts));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a verifier thread panicked");
            }
        }
    }
}

fn verify(
    mut checker: Checker,
    work: &Receiver<(JobId, CheckJob)>,
    answers: &Sender<(JobId, CheckVerdict)>,
    waker: &ControlWaker,
) {
    for (id, job) in work {
        if answers.send((id, checker.check(job))).is_err() {
            return;
        }
        waker.wake();
    }
}
