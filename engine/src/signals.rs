//! SIGTERM and SIGINT: the first asks for a clean shutdown, the second ends the process at
//! once.
//!
//! The signals are blocked in the first thread before it starts any other, so that every
//! thread inherits the mask; one thread waits for them (`sigwait`). No code ever runs in a
//! signal handler.

use std::io;
use std::mem::MaybeUninit;
use std::thread;
use std::time::{Duration, Instant};

/// Signals that end the broker.
const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// A second signal this soon is the first once more: `timeout` and terminals send it to the
/// process and to its group.
const ECHO: Duration = Duration::from_millis(200);

/// The signals, blocked. To be made before any other thread starts.
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in this thread and those that it starts from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that it is given.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init_mut()
        };
        for signal in SIGNALS {
            // SAFETY: the set is initialised, and the signal is one of the system's.
            unsafe { libc::sigaddset(set, signal) };
        }
        // SAFETY: the set is initialised; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, std::ptr::null_mut()) } {
            0 => Ok(Self { set: *set }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits in a thread of its own: calls `first` with the name of the first signal, and
    /// ends the process at the second, as a shell would report it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn listen(self, first: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
        let wait = move || {
            first(name(self.wait()));
            let asked = Instant::now();
            let second = loop {
                let signal = self.wait();
                if asked.elapsed() > ECHO {
                    break signal;
                }
            };
            tracing::warn!(signal = name(second), "stopping at once");
            std::process::exit(128 + second);
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .map(drop)
    }

    fn wait(&self) -> libc::c_int {
        let mut signal = 0;
        // SAFETY: the set is initialised, and the pointer is to a writable integer.
        let code = unsafe { libc::sigwait(&self.set, &mut signal) };
        assert_eq!(code, 0, "sigwait fails only for a set with unknown signals");
        signal
    }
}

fn name(signal: libc::c_int) -> &'static str {
    match signal {
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        _ => "signal",
    }
}
