//! The fuzz bodies of the crates, each with valid inputs to start from.

mod kafka;
mod model;
mod storage;
mod wire;
mod wire_groups;

use super::Target;

/// Every target.
#[must_use]
pub fn targets() -> Vec<Target> {
    [
        model::targets(),
        wire::targets(),
        storage::targets(),
        kafka::targets(),
    ]
    .concat()
}
