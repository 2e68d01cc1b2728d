//! Whether an engine can be used here, found out before anything is started.

use std::io;

use io_uring::{Probe, opcode};

use crate::config::{EngineKind, StartError};
use crate::ring;

/// Checks that `engine` can be used: with io_uring, that this process may use it and that the kernel's has what the
/// shards need. Call it before starting anything that takes io_uring for granted.
///
/// # Errors
/// Says what stands in the way and what to do about it.
pub fn probe(engine: EngineKind) -> Result<(), StartError> {
    match engine {
        EngineKind::IoUring => probe_io_uring(),
        // The socket options that it needs are asked for with each socket.
        EngineKind::Syscalls => Ok(()),
    }
}

fn probe_io_uring() -> Result<(), StartError> {
    let uring = ring::build(8, 16).map_err(StartError::ring)?;
    let mut operations = Probe::new();
    uring.submitter().register_probe(&mut operations).map_err(StartError::ring)?;
    let needed = [
        (opcode::RecvMsgMulti::CODE, "IORING_OP_RECVMSG"),
        (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
        (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
    ];
    match needed.into_iter().find(|&(code, _)| !operations.is_supported(code)) {
        Some((_, missing)) => Err(StartError::KernelTooOld { missing }),
        None => Ok(()),
    }
}

impl StartError {
    /// Explains why a ring could not be made.
    pub(crate) fn ring(error: io::Error) -> Self {
        explain(error, disabled_by_sysctl())
    }

    /// Names the limit if it is one, else what was tried.
    pub(crate) fn system(what: &'static str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::Limit { limit: "open files", remedy: "ulimit -n 65536" },
            Some(libc::ENOMEM) => Self::Limit { limit: "memory", remedy: "ulimit -v unlimited, ulimit -l unlimited" },
            _ => Self::System { what, error },
        }
    }
}

/// The value of `kernel.io_uring_disabled`; kernels before 6.6 do not have it.
fn disabled_by_sysctl() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn explain(error: io::Error, disabled: Option<u32>) -> StartError {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(value @ 2..)) => StartError::IoUringDisabled { value, alternative: "" },
        (Some(libc::EPERM), Some(value @ 1)) => StartError::IoUringDisabled {
            value,
            alternative: ", or run with CAP_SYS_ADMIN or in the group of kernel.io_uring_group",
        },
        (Some(libc::EPERM | libc::EACCES), _) => StartError::IoUringDenied,
        // Some container runtimes answer as if the call did not exist; a kernel that has the sysctl has the call.
        (Some(libc::ENOSYS), Some(_)) => StartError::IoUringDenied,
        (Some(libc::ENOSYS), None) => StartError::KernelTooOld { missing: "the system call itself" },
        (Some(libc::EINVAL), _) => {
            StartError::KernelTooOld { missing: "a set-up flag (SINGLE_ISSUER, DEFER_TASKRUN, COOP_TASKRUN)" }
        }
        (Some(libc::ENOMEM), _) => StartError::Limit { limit: "locked memory", remedy: "ulimit -l unlimited" },
        _ => StartError::system("set up io_uring", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: i32, disabled: Option<u32>) -> String {
        explain(io::Error::from_raw_os_error(code), disabled).to_string()
    }

    #[test]
    fn each_refusal_names_its_cause_and_remedy() {
        for (message, part) in [
            (explained(libc::EPERM, Some(2)), "kernel.io_uring_disabled = 2"),
            (explained(libc::EPERM, Some(1)), "kernel.io_uring_group"),
            (explained(libc::EPERM, Some(0)), "seccomp"),
            (explained(libc::EPERM, Some(0)), "engine = \"syscalls\""),
            (explained(libc::EPERM, Some(2)), "engine = \"syscalls\""),
            (explained(libc::ENOSYS, Some(0)), "seccomp"),
            (explained(libc::ENOSYS, None), "Linux 6.1"),
            (explained(libc::EINVAL, Some(0)), "DEFER_TASKRUN"),
            (explained(libc::ENOMEM, Some(0)), "ulimit -l"),
            (explained(libc::EMFILE, Some(0)), "ulimit -n"),
        ] {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    }

    #[test]
    fn this_machine_passes() {
        EngineKind::ALL.into_iter().for_each(|engine| probe(engine).unwrap());
    }
}
