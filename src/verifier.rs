//! Verifier threads: they check BLS signatures, so that a pairing of more than a millisecond never delays control or a
//! shard. They share one bounded queue of jobs; the order of their answers does not matter.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::input::JobId;
use alpenglow_dataplane::ControlWaker;
use crossbeam::channel::{self, Receiver, Sender, TrySendError};

/// Control's end of the verifiers' queues.
pub(crate) struct Verifiers {
    jobs: Sender<(JobId, CheckJob)>,
    verdicts: Receiver<(JobId, CheckVerdict)>,
    threads: Vec<JoinHandle<()>>,
    panicked: VerifierPanic,
}

/// Tells whether a verifier has panicked: what it was at is lost, and its node must not go on without.
#[derive(Clone, Default)]
pub(crate) struct VerifierPanic(Arc<AtomicBool>);

impl VerifierPanic {
    pub(crate) fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Held by a verifier thread while it runs.
struct Sentinel(VerifierPanic);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Verifiers {
    /// Starts a thread for each of `checkers`. Queues hold `jobs_max` entries: as many as control has in flight at
    /// most.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(checkers: Vec<Checker>, jobs_max: usize, waker: &Arc<ControlWaker>) -> io::Result<Self> {
        let (jobs, work) = channel::bounded(jobs_max);
        let (answers, verdicts) = channel::bounded(jobs_max);
        let panicked = VerifierPanic::default();
        let threads = checkers
            .into_iter()
            .enumerate()
            .map(|(index, checker)| {
                let (work, answers, waker) = (Receiver::clone(&work), Sender::clone(&answers), Arc::clone(waker));
                let sentinel = Sentinel(panicked.clone());
                thread::Builder::new().name(format!("verifier-{index}")).spawn(move || {
                    let _sentinel = sentinel;
                    verify(checker, &work, &answers, &waker);
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { jobs, verdicts, threads, panicked })
    }

    /// What to ask whether all of them still run.
    pub(crate) fn panic(&self) -> VerifierPanic {
        self.panicked.clone()
    }

    /// Hands a job to the next free verifier. When all have panicked it is lost, and the node about to stop.
    ///
    /// # Panics
    /// If more jobs are unanswered than were announced.
    pub(crate) fn push(&self, id: JobId, job: CheckJob) {
        let pushed = self.jobs.try_send((id, job));
        let is_full = matches!(pushed, Err(TrySendError::Full(_)));
        assert!(!is_full || self.panicked.happened(), "the queue holds as many jobs as control has in flight");
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
        let Self { jobs, verdicts, threads, .. } = self;
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use alpenglow_control::bls::{SecretKey, SignatureBytes};
    use alpenglow_control::stakes::Stakes;
    use alpenglow_control::vote::{UnverifiedVote, VotePayload};
    use alpenglow_control::voting_keys::VotingKeys;
    use alpenglow_rotor::types::{ClusterId, Slot, Stake, ValidatorIndex};

    use super::*;

    const CLUSTER: ClusterId = ClusterId([3; 32]);
    const PAYLOAD: VotePayload = VotePayload::Skip(Slot(1));

    fn start() -> Verifiers {
        let keys = [key(0), key(1)].map(|key| (key.public_key().to_bytes(), key.prove_possession()));
        let keys = Arc::new(VotingKeys::new(&keys).unwrap());
        let checker = || Checker::new(CLUSTER, Arc::clone(&keys), Arc::new(Stakes::new(vec![Stake(1); 2])));
        let (waker, _reader) = ControlWaker::pair().unwrap();
        Verifiers::start(vec![checker(), checker()], 2, &waker).unwrap()
    }

    fn key(validator: u8) -> SecretKey {
        SecretKey::from_entropy(&[validator + 1; 32])
    }

    fn vote(signer: u8) -> UnverifiedVote {
        let signature: SignatureBytes = key(signer).sign(&PAYLOAD.hashed(CLUSTER)).to_bytes();
        UnverifiedVote { payload: PAYLOAD, signer: ValidatorIndex(signer.into()), signature }
    }

    fn wait_until(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(60), "it never happens");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn verifiers_answer_and_end_when_they_are_told_to() {
        let verifiers = start();
        verifiers.push(JobId(1), CheckJob::votes(vec![vote(0), vote(1)]));
        wait_until(|| !verifiers.is_empty());
        let Some((JobId(1), CheckVerdict::Votes { verified, rejected })) = verifiers.pop() else {
            panic!("the answer to another job")
        };
        assert_eq!((verified.len(), rejected.len()), (1, 0));
        let panic = verifiers.panic();
        verifiers.stop();
        assert!(!panic.happened());
    }

    #[test]
    fn a_verifier_that_panics_is_noticed() {
        let verifiers = start();
        // Control never makes such a batch.
        verifiers.push(JobId(1), CheckJob::votes(vec![vote(0), vote(0)]));
        wait_until(|| verifiers.panic().happened());
        verifiers.push(JobId(2), CheckJob::votes(vec![vote(1)]));
        wait_until(|| !verifiers.is_empty());
        assert!(matches!(verifiers.pop(), Some((JobId(2), _))), "the other one goes on until the node stops");
        verifiers.stop();
    }
}
