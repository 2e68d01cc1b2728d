//! A cluster on a host that forbids io_uring, as most container runtimes do: every call of it is refused by a seccomp
//! filter, which the nodes inherit from the process that starts them.
#![allow(clippy::unwrap_used, reason = "a test may panic, and says where")]
#![allow(unsafe_code, reason = "the filter is installed between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Refuses what io_uring begins with, and whatever else there is of it.
fn forbid_io_uring() -> io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    // The number of the system call is the first word of what a filter sees.
    let mut steps = [
        step(LOAD_NUMBER, 0, 0),
        step(JUMP_IF_EQUAL, 3, libc::SYS_io_uring_setup as u32),
        step(JUMP_IF_EQUAL, 2, libc::SYS_io_uring_enter as u32),
        step(JUMP_IF_EQUAL, 1, libc::SYS_io_uring_register as u32),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: both calls take numbers and a pointer to the filter, which lives through them.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `alpenglow cluster` with `arguments` where io_uring is forbidden.
fn cluster(arguments: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
    command.args(["cluster", "--output", "json", "--out"]).arg(folder.path().join("run"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    // SAFETY: between fork and exec two system calls are made and nothing is allocated or locked.
    unsafe { command.pre_exec(forbid_io_uring) };
    command.output().unwrap()
}

#[test]
fn a_cluster_on_syscalls_decides_every_slot_and_agrees() {
    let Output { status, stdout, stderr } = cluster("--nodes 4 --slots 8 --tx-rate 200 --engine syscalls");
    let stderr = String::from_utf8_lossy(&stderr);
    let report: Value = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}, {status}\n{stderr}"));
    assert!(status.success() && report["agreement"] == true, "{report:#}\n{stderr}");
    assert_eq!(report["config"]["engine"], "syscalls");
    assert_eq!(report["slots"]["decided"], 8, "{report:#}");
    assert!(report["shreds"]["from_relays"].as_u64() > Some(0), "{report:#}");
}

#[test]
fn a_node_on_io_uring_says_how_to_do_without() {
    let Output { status, stdout, stderr } = cluster("--nodes 2 --slots 1");
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!status.success(), "{said}");
    for part in ["seccomp", "engine = ", "syscalls"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}
