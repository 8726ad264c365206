//! What happened, line by line, and the first thing that must not happen.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;

/// Lines that are kept of a history that is not traced, to be shown if it fails.
const TAIL_LINES: usize = 40;

/// Something that a log must never do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns a [`Violation`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::sim::trace::Violation(format!($($why)+)));
        }
    };
}

pub(super) use ensure;

/// The lines of one history. Their hash tells whether two runs were the same.
#[derive(Debug, Default)]
pub struct Trace {
    keep_all: bool,
    tail: usize,
    lines: RefCell<VecDeque<String>>,
    hash: Cell<u64>,
}

impl Trace {
    /// An empty trace, which keeps all lines or only the last ones.
    #[must_use]
    pub fn new(keep_all: bool) -> Self {
        Self::with_tail(keep_all, TAIL_LINES)
    }

    /// As [`Trace::new`], with so many last lines.
    #[must_use]
    pub fn with_tail(keep_all: bool, tail: usize) -> Self {
        Self {
            keep_all,
            tail,
            lines: RefCell::default(),
            hash: Cell::new(FNV_OFFSET),
        }
    }

    /// Adds a line.
    pub fn line(&self, line: fmt::Arguments<'_>) {
        let mut lines = self.lines.borrow_mut();
        let mut text = match self.keep_all || lines.len() < self.tail {
            true => String::new(),
            false => lines.pop_front().unwrap_or_default(),
        };
        text.clear();
        text.write_fmt(line)
            .expect("writing to a string does not fail");
        self.hash.set(fnv(self.hash.get(), text.as_bytes()));
        lines.push_back(text);
    }

    /// Equal for equal histories.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// The lines that were kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.borrow().iter().cloned().collect()
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}
