//! The few calls that have no safe wrapper.
#![expect(
    unsafe_code,
    reason = "signal masks, descriptor ranges, `pre_exec` and `AsyncFd` have no safe interface"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spawner::FIRST_EXTRA_FD;

/// Blocks every signal that can be blocked and returns a descriptor that becomes readable when a child ends.
///
/// For a single-threaded process only: other threads would keep their masks.
pub(super) fn block_all_and_watch_children() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set it is given, and the pointer is valid for writes.
    let all = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: the set is initialised, and a null pointer for the old mask is allowed.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) })?;
    let mut set = MaybeUninit::uninit();
    // SAFETY: as above; `SIGCHLD` is a valid signal number.
    let child_only = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        set.assume_init()
    };
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd =
        check(unsafe { libc::signalfd(-1, &raw const child_only, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the descriptor was just created and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor from `first` on, whoever left it open.
///
/// Must run before anything in this process owns a descriptor in that range.
pub(super) fn close_descriptors_from(first: u32) {
    // SAFETY: the caller guarantees that no owned descriptor lies in the range.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if closed == 0 {
        return;
    }
    for fd in first..1024 {
        // SAFETY: as above; closing a number that is not open is an error without effect.
        unsafe { libc::close(fd.cast_signed()) };
    }
}

/// Closes every descriptor from `first` on but those `kept`.
///
/// Must run where nothing that owns another one is ever dropped.
pub(super) fn close_descriptors_but(first: i32, mut kept: Vec<i32>) {
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().filter(|fd| *fd >= first) {
        if fd > from {
            // SAFETY: the caller guarantees that nobody uses what lies between those kept.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd + 1;
    }
    close_descriptors_from(from.cast_unsigned());
}

/// Forks this process, which must have no other thread. `None` in the new one.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: without other threads the new process is a whole copy, in which everything may be called.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid))
}

/// Version of the kernel's interface for restricting file access; 0 or less where there is none.
pub(super) fn landlock_version() -> i64 {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no attributes and makes nothing; it only answers.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) }
}

/// Sets the calling process' turn at disks; async-signal-safe.
pub(super) fn set_io_priority(class: i32, priority: u8) -> rustix::io::Result<()> {
    /// `IOPRIO_WHO_PROCESS`.
    const PROCESS: i32 = 1;
    /// `IOPRIO_CLASS_SHIFT`.
    const CLASS_SHIFT: i32 = 13;
    let value = (class << CLASS_SHIFT) | i32::from(priority);
    // SAFETY: the call takes numbers only; 0 is whoever calls.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, value) } {
        0 => Ok(()),
        _ => {
            Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error())
                .unwrap_or(rustix::io::Errno::INVAL))
        }
    }
}

/// Makes `command` start its program with default signal handling and with `extra` from [`FIRST_EXTRA_FD`]
/// on, after `prepare` has run in the new process. The caller sees to it that nothing in use has one of those
/// numbers.
///
/// `prepare` runs between `fork` and `exec`. It may make system calls and must not allocate; this process
/// being single-threaded, no lock can be held by a thread that does not exist in the child.
pub(super) fn prepare_child(
    command: &mut Command,
    extra: Vec<OwnedFd>,
    prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) {
    let hook = move || {
        for signal in 1..=64 {
            // SAFETY: setting a default disposition is async-signal-safe; numbers that cannot be set fail
            // without effect.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        let mut none = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the set, which then is read; both calls are async-signal-safe.
        check(unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
        })?;
        for (fd, number) in extra.iter().zip(FIRST_EXTRA_FD..) {
            // SAFETY: the caller keeps the number free, so nothing that anybody owns is closed by this.
            check(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
        }
        prepare()
    };
    // SAFETY: the hook makes async-signal-safe system calls only, as required of `prepare` above.
    unsafe { command.pre_exec(hook) };
}

/// Registers a descriptor with the runtime, which then owns it.
pub(super) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stands for the same open descriptor until it is dropped, and the result drops it
    // only after deregistering it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_start_with_default_signals() {
        let mut command = Command::new("sh");
        command.args(["-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status"]);
        prepare_child(&mut command, Vec::new(), || Ok(()));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mask = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // Signals 32 and 33 belong to the C library, which does not let go of them.
        let masks: Vec<_> = text.lines().map(|l| mask(l) & !(0b11 << 31)).collect();
        assert_eq!(masks, [0, 0], "{text}");
    }

    #[test]
    fn a_failing_hook_fails_the_launch() {
        let mut command = Command::new("true");
        prepare_child(&mut command, Vec::new(), || Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
