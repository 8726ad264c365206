//! The cores that this process may use.

use std::io;

/// Their numbers, in order: what the system's affinity mask allows, which in a container
/// may be fewer than the machine has.
pub(super) fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: all zeros is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the length are those of `set`, which is writable.
    let outcome = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    let cores = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: each number is below the size of the set.
    Ok(cores
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_at_least_the_core_that_runs_this() {
        assert!(!super::allowed().unwrap().is_empty());
    }
}
