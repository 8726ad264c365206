//! Carries what is not `Send` through quinn's traits, which demand it.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static THIS_THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A value that only the thread that made it may touch.
///
/// quinn wants `Send + Sync` of its runtime's parts, while a glommio executor never moves a
/// task off its thread. So the bounds are promised here, and each access asserts that the
/// promise is kept. A value dropped on another thread is leaked, with a line in the log.
pub(crate) struct ThreadBound<T> {
    owner: u64,
    value: ManuallyDrop<T>,
}

impl<T> ThreadBound<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            owner: this_thread(),
            value: ManuallyDrop::new(value),
        }
    }

    #[inline]
    fn assert_owner(&self) {
        assert!(
            self.owner == this_thread(),
            "a part of a glommio executor left its thread"
        );
    }
}

/// A number for this thread that no other thread of the process ever has.
#[inline]
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    THIS_THREAD.with(|cell| {
        if cell.get() == 0 {
            cell.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        cell.get()
    })
}

impl<T> Deref for ThreadBound<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.assert_owner();
        &self.value
    }
}

impl<T> DerefMut for ThreadBound<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.assert_owner();
        &mut self.value
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        if self.owner == this_thread() {
            // SAFETY: the value is not touched again, for this is its owner's drop.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        } else {
            tracing::error!("a part of a glommio executor was dropped on another thread: leaked");
        }
    }
}

impl<T> fmt::Debug for ThreadBound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBound")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

// SAFETY: the value is reached only through `deref`, `deref_mut` and `drop`, and each of them
// compares the thread with the owner first.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: as for `Send`; references on other threads cannot reach the value.
unsafe impl<T> Sync for ThreadBound<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_owner_reaches_the_value() {
        let mut bound = ThreadBound::new(Rc::new(7));
        assert_eq!(**bound, 7);
        *bound = Rc::new(8);
        assert_eq!(**bound, 8);
    }

    #[test]
    fn another_thread_is_stopped() {
        let bound = ThreadBound::new(Rc::new(7));
        let outcome = std::thread::spawn(move || **bound).join();
        assert!(outcome.is_err(), "another thread read the value");
    }

    #[test]
    fn a_drop_elsewhere_leaks() {
        let value = Rc::new(7);
        let bound = ThreadBound::new(Rc::clone(&value));
        std::thread::spawn(move || drop(bound)).join().unwrap();
        assert_eq!(Rc::strong_count(&value), 2);
    }
}
