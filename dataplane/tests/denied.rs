//! Where io_uring is not permitted, the node says so and does not start.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unsafe_code, reason = "a seccomp filter has no safe wrapper")]

mod common;

use std::sync::Arc;

use alpenglow_dataplane::{ControlWaker, Dataplane, Horizon, StartError, probe};
use alpenglow_rotor::types::Slot;
use common::configs;

/// From now on every io_uring call of this thread, and of those it starts, fails with `error`, as in a container.
fn deny_io_uring(error: i32) {
    const fn instruction(code: u32, jump_if_true: u8, value: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt: jump_if_true, jf: 0, k: value }
    }
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let program = [
        // The system call's number is the first word of what the filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(equal, 1, libc::SYS_io_uring_setup as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | error as u32),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: plain numbers, and a program that lives through the calls and is copied by the kernel.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter),
        ]
    };
    assert_eq!(results, [0, 0], "{}", std::io::Error::last_os_error());
}

fn on_a_thread_where_io_uring_fails_with<T: Send + 'static>(error: i32, run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        deny_io_uring(error);
        run()
    });
    thread.join().unwrap()
}

#[test]
fn a_seccomp_filter_is_recognised() {
    for error in [libc::EPERM, libc::ENOSYS] {
        let refusal = on_a_thread_where_io_uring_fails_with(error, probe).unwrap_err();
        // Kernels before 6.6 do not tell a filter that denies the call's existence from its absence.
        let told_apart = std::path::Path::new("/proc/sys/kernel/io_uring_disabled").exists();
        match refusal {
            StartError::IoUringDenied => assert!(error == libc::EPERM || told_apart),
            StartError::KernelTooOld { .. } => assert!(error == libc::ENOSYS && !told_apart),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_dataplane_does_not_start_and_leaves_the_port_alone() {
    let config = configs(2, 1).swap_remove(0);
    let port = config.bind;
    let refusal = on_a_thread_where_io_uring_fails_with(libc::EPERM, move || {
        let (waker, _reader) = ControlWaker::pair().unwrap();
        Dataplane::start(config, waker, Arc::new(Horizon::new(Slot(0), Slot(8)))).map(|_| ()).unwrap_err()
    });
    assert!(matches!(refusal, StartError::IoUringDenied), "{refusal}");
    std::net::UdpSocket::bind(port).unwrap();
}
