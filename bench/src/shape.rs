//! The shape of batches: how many records each has and how long their values are. A producer has a
//! cycle of shapes, drawn once from its seed and used in turn, so that batches can be prepared
//! before the run and cost nothing in it.

use std::time::Duration;

use crate::options::{Load, SizeRange};

/// Shapes of a cycle at most: enough that sizes drawn from a range look drawn.
const MAX_CYCLE: usize = 64;

/// Shapes of a cycle at least, where sizes are drawn.
const MIN_CYCLE: usize = 4;

/// Value bytes that the cycles of all producers take together when batches are prepared, as long
/// as that leaves each [`MIN_CYCLE`].
const PREPARED_BYTES: u64 = 64 << 20;

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The length of each record's value.
    pub sizes: Vec<usize>,
    /// Their sum.
    pub bytes: u64,
    /// Whether it ends because a batch has room for no more, and not because it waits no longer.
    pub full: bool,
}

/// The cycle of one producer.
#[derive(Clone, Debug)]
pub struct Shapes {
    cycle: Vec<Shape>,
}

impl Shapes {
    /// The cycle of a producer of this load.
    #[must_use]
    pub fn new(load: &Load, seed: u64) -> Self {
        let limits = Limits {
            sizes: load.record_size,
            records: load.batch_records(),
            bytes: load.batch_bytes.unwrap_or(u64::MAX),
            lingering: lingering(load),
        };
        let mut random = fastrand::Rng::with_seed(seed);
        let first = limits.draw(&mut random);
        let mut cycle = vec![first];
        if !load.record_size.is_fixed() {
            let each = PREPARED_BYTES / load.producers.get() as u64 / cycle[0].bytes.max(1);
            let len = usize::try_from(each).unwrap_or(MAX_CYCLE);
            cycle.resize_with(len.clamp(MIN_CYCLE, MAX_CYCLE), || limits.draw(&mut random));
        }
        Self { cycle }
    }

    /// All of them, in turn.
    #[must_use]
    pub fn cycle(&self) -> &[Shape] {
        &self.cycle
    }

    /// The shape of a producer's batch of this number.
    #[must_use]
    pub fn of(&self, number: u64) -> &Shape {
        &self.cycle[self.index(number)]
    }

    /// Its place in the cycle.
    #[must_use]
    pub fn index(&self, number: u64) -> usize {
        (number % self.cycle.len() as u64) as usize
    }
}

/// Records of one producer that become due while a batch lingers, the first among them.
fn lingering(load: &Load) -> u32 {
    let (Some(linger), Some(rate)) = (load.linger, load.rate) else {
        return u32::MAX;
    };
    let apart = apart(rate.get(), load.producers.get());
    let more = linger.as_nanos() / apart.as_nanos().max(1);
    u32::try_from(more).map_or(u32::MAX, |more| more.saturating_add(1))
}

/// From one record of a producer to the next, at this rate over all of them.
pub(crate) fn apart(rate: u32, producers: usize) -> Duration {
    let nanos = 1_000_000_000 * producers as u64 / u64::from(rate);
    Duration::from_nanos(nanos)
}

/// What bounds a batch.
struct Limits {
    sizes: SizeRange,
    records: u32,
    bytes: u64,
    lingering: u32,
}

impl Limits {
    fn draw(&self, random: &mut fastrand::Rng) -> Shape {
        let (mut sizes, mut bytes) = (Vec::new(), 0);
        let most = self.records.min(self.lingering) as usize;
        let mut full = self.records <= self.lingering;
        while sizes.len() < most {
            let size = random.usize(self.sizes.from..=self.sizes.to);
            if !sizes.is_empty() && bytes + size as u64 > self.bytes {
                full = true;
                break;
            }
            sizes.push(size);
            bytes += size as u64;
        }
        Shape { sizes, bytes, full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::load;

    #[test]
    fn a_fixed_size_has_one_shape() {
        let shapes = Shapes::new(&load(&["produce", "--size", "100", "--batch", "3"]), 1);
        assert_eq!(shapes.cycle().len(), 1);
        assert_eq!(shapes.of(17).sizes, [100, 100, 100]);
        assert_eq!(shapes.of(17).bytes, 300);
    }

    #[test]
    fn a_batch_takes_what_fits_its_bytes() {
        let load = load(&["produce", "--size", "1000", "--batch-bytes", "2999"]);
        assert_eq!(Shapes::new(&load, 1).of(0).sizes.len(), 2);
        let load = self::load(&["produce", "--size", "1..1000", "--batch-bytes", "64KiB"]);
        let shapes = Shapes::new(&load, 1);
        assert!(shapes.cycle().iter().all(|of| of.full && of.bytes <= 65536));
        assert!(shapes.cycle().iter().all(|of| of.bytes > 65536 - 1000));
    }

    #[test]
    fn a_range_is_drawn_whole_and_the_same_from_the_same_seed() {
        let load = load(&["produce", "--size", "100..103"]);
        let sizes = |seed| {
            let shapes = Shapes::new(&load, seed);
            let sizes: Vec<usize> = shapes.cycle().iter().map(|of| of.sizes[0]).collect();
            sizes
        };
        for size in 100..=103 {
            assert!(sizes(7).contains(&size), "{size} is never drawn");
        }
        assert!(sizes(7).iter().all(|size| (100..=103).contains(size)));
        assert_eq!(sizes(7), sizes(7));
        assert_ne!(sizes(7), sizes(8));
    }

    #[test]
    fn a_batch_that_lingers_has_what_is_due_meanwhile() {
        let with = |linger| {
            let line = format!("produce --rate 2000 --producers 2 --batch 50 --linger {linger}");
            let load = load(&line.split_ascii_whitespace().collect::<Vec<_>>());
            let shapes = Shapes::new(&load, 1);
            (shapes.of(0).sizes.len(), shapes.of(0).full)
        };
        assert_eq!(
            with("5ms"),
            (6, false),
            "its first and those of five milliseconds"
        );
        assert_eq!(with("1s"), (50, true), "no more than a batch holds");
    }
}
