//! What a dataplane is started with, and why it may refuse.

use std::io;
use std::net::SocketAddr;

/// How a shard waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// It does not: lowest latency, and the whole core. Only with a core for each spinning thread.
    Spin,
    /// It sleeps in the kernel until something arrives.
    Wait,
}

/// Why a dataplane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A list in the configuration has the wrong length, or a number is out of range.
    #[error("dataplane configuration: {0}")]
    Config(String),
    /// io_uring is switched off for everybody or for this user.
    #[error(
        "io_uring is switched off by the sysctl kernel.io_uring_disabled = {value}: set it to 0 (sysctl -w kernel.io_uring_disabled=0), {alternative}"
    )]
    IoUringDisabled {
        /// The sysctl's value.
        value: u32,
        /// What else helps at this value.
        alternative: &'static str,
    },
    /// The system call is filtered, as container runtimes do by default.
    #[error(
        "io_uring is not permitted here although the kernel has it: a seccomp filter denies it, as in most container runtimes by default; run outside of the container or with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (docker run --security-opt seccomp=...)"
    )]
    IoUringDenied,
    /// The kernel has no io_uring, or one without what is used here.
    #[error("this kernel's io_uring lacks {missing}: Linux 6.1 or later is needed")]
    KernelTooOld {
        /// What it lacks.
        missing: &'static str,
    },
    /// A resource limit of this process.
    #[error("the limit on {limit} is too low: raise it ({remedy})")]
    Limit {
        /// Which limit.
        limit: &'static str,
        /// How to raise it.
        remedy: &'static str,
    },
    /// Another process has the port, perhaps another node.
    #[error("UDP port {address} is taken, perhaps by another node: stop it or choose another port")]
    PortTaken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("cannot bind UDP address {address}: {error}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// A shard cannot be pinned.
    #[error(
        "cannot pin a shard to core {core}: this process may not use it; choose among the cores that `nproc` and `taskset -p` show"
    )]
    Core {
        /// The core asked for.
        core: usize,
    },
    /// Another operation of the operating system failed.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
}
