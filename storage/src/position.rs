//! Places inside a segment file.

use crate::disk::BLOCK_LEN;
use std::fmt;

/// A byte position in a segment file, counted from its start. Frames and write headers
/// stand at multiples of [`millrace_model::FRAME_ALIGN`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The start of every file.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` further on.
    ///
    /// # Panics
    /// If the sum leaves `u64`, which no file reaches.
    #[must_use]
    pub const fn plus(self, bytes: usize) -> Self {
        Self(
            self.0
                .checked_add(bytes as u64)
                .expect("a position fits in 64 bits"),
        )
    }

    /// The start of the device block that holds this position.
    #[must_use]
    pub const fn block_floor(self) -> Self {
        Self(self.0 - self.0 % BLOCK_LEN as u64)
    }

    /// This position if a device block starts here, else the start of the next block.
    #[must_use]
    pub const fn block_ceil(self) -> Self {
        Self(self.0.next_multiple_of(BLOCK_LEN as u64))
    }

    /// Bytes between the start of this position's device block and the position.
    #[must_use]
    pub const fn in_block(self) -> usize {
        (self.0 % BLOCK_LEN as u64) as usize
    }

    /// Bytes from `earlier` to this position.
    ///
    /// # Panics
    /// If `earlier` lies behind this position.
    #[must_use]
    pub fn since(self, earlier: Self) -> usize {
        let bytes = self
            .0
            .checked_sub(earlier.0)
            .expect("positions are compared in order");
        usize::try_from(bytes).expect("a part of a file that is in memory fits in usize")
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
