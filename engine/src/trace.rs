//! How far the time of one batch is accounted for, carried with it from stage to stage.

use crate::metrics::Stage;

/// The stages that lie behind a batch when its fate is told: all before [`Stage::Ack`].
const TRACED: usize = Stage::Ack as usize;

/// The size of a batch and how long it spent in each stage before its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Bytes that the producer sent.
    pub(crate) len: u32,
    nanos: [u64; TRACED],
}

impl Trace {
    /// A batch of so many bytes that took `receive_nanos` to arrive.
    pub(crate) fn begin(len: usize, receive_nanos: u64) -> Self {
        let mut trace = Self {
            len: u32::try_from(len).unwrap_or(u32::MAX),
            ..Self::default()
        };
        trace.set(Stage::Receive, receive_nanos);
        trace
    }

    /// It has spent so long in a stage before the acknowledgement.
    pub(crate) fn set(&mut self, stage: Stage, nanos: u64) {
        self.nanos[stage as usize] = nanos;
    }

    /// How long it was in a stage; zero for those to come.
    pub(crate) fn nanos(&self, stage: Stage) -> u64 {
        self.nanos.get(stage as usize).copied().unwrap_or(0)
    }

    /// All that is accounted for.
    pub(crate) fn total(&self) -> u64 {
        self.nanos
            .iter()
            .fold(0, |sum, nanos| sum.saturating_add(*nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_adds_up_what_it_was_told() {
        let mut trace = Trace::begin(1_000, 5);
        trace.set(Stage::Device, 80_000);
        trace.set(Stage::Replicate, u64::MAX);
        assert_eq!(trace.nanos(Stage::Receive), 5);
        assert_eq!(trace.nanos(Stage::Ack), 0);
        assert_eq!(trace.total(), u64::MAX);
        assert_eq!(trace.len, 1_000);
    }
}
