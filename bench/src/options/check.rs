//! Which options go together. What is refused here could only have been misread: an option that the
//! chosen load has no use for, or two that contradict each other.

use super::{AcksOption, Load, StartFrom};
use crate::payload::STAMP_LEN;
use crate::report::Kind;

/// What an option would have meant, and why it cannot.
type Refusal = (bool, &'static str);

impl Load {
    /// Where consumers of this kind of load start.
    #[must_use]
    pub fn start(&self, kind: Kind) -> StartFrom {
        self.from.unwrap_or(match kind {
            Kind::Consume => StartFrom::Beginning,
            Kind::Produce | Kind::E2e | Kind::Mixed => StartFrom::Tail,
        })
    }

    /// Sees that the options make sense for this kind of load.
    ///
    /// # Errors
    /// A sentence that says which do not, and what to do instead.
    pub fn check(&self, kind: Kind) -> Result<(), String> {
        let refused = self
            .sizes()
            .into_iter()
            .chain(self.clients(kind))
            .chain(self.time(kind))
            .find(|(refused, _)| *refused);
        match refused {
            Some((_, why)) => Err(why.to_owned()),
            None => Ok(()),
        }
    }

    fn sizes(&self) -> [Refusal; 4] {
        let one = self.batch_records() == 1;
        let too_small = |bytes| bytes < self.record_size.to as u64;
        [
            (
                self.batch_bytes.is_some_and(too_small),
                "--batch-bytes is less than the largest record of --size: no batch could hold it",
            ),
            (
                self.linger.is_some() && one,
                "--linger waits for more records of a batch, and a batch has one: give --batch or \
                 --batch-bytes too",
            ),
            (
                self.places() > MAX_PLACES,
                "--topics times --partitions is more than 100,000 partitions",
            ),
            (
                self.producers.get() > MAX_CLIENTS || self.consumers() > MAX_PLACES,
                "--producers is more than 10,000, or --consumers more than 100,000",
            ),
        ]
    }

    fn clients(&self, kind: Kind) -> [Refusal; 11] {
        let consumes = kind != Kind::Produce;
        let filled = self.filled(kind);
        let kafka = self.kafka.is_some();
        let unanswered = self.acks == AcksOption::None;
        [
            (
                self.consumers.is_some() && !consumes,
                "produce has no consumers: leave --consumers away, or run mixed or e2e",
            ),
            (
                self.fetch.is_some() && !(kafka && consumes),
                "--fetch is what a consumer of the Kafka protocol asks for: it goes with --kafka \
                 and consume, e2e or mixed",
            ),
            (
                self.connections.is_some() && kafka,
                "with --kafka every client has a connection for each of its partitions already: \
                 leave --connections away",
            ),
            (
                self.from.is_some() && !matches!(kind, Kind::Consume | Kind::Mixed),
                "--from is for consume and mixed: produce reads nothing, and e2e reads everything",
            ),
            (
                self.fill.is_some() && !filled,
                "--fill is for consumers that read from the beginning: consume, or mixed --from \
                 beginning",
            ),
            (
                self.cold && !filled,
                "--cold is for consumers that read from the beginning: consume, or mixed --from \
                 beginning",
            ),
            (
                self.fill == Some(0),
                "--fill 0 leaves nothing to read from the beginning",
            ),
            (
                kind == Kind::E2e && self.record_size.from < STAMP_LEN,
                "e2e writes the time into each record: --size must be 8 bytes or more",
            ),
            (
                unanswered && kind != Kind::E2e && self.hgrm.is_some(),
                "--acks 0 has no acknowledgement to measure: --hgrm would be empty",
            ),
            (
                unanswered && kind != Kind::E2e && self.ramp.is_some(),
                "--acks 0 has no acknowledgement to measure: --ramp could not see its bound",
            ),
            (
                self.hgrm.is_some() && kind == Kind::Consume,
                "consume measures no latency: --hgrm would be empty; run e2e for that",
            ),
        ]
    }

    fn time(&self, kind: Kind) -> [Refusal; 8] {
        let reads = kind == Kind::Consume;
        let reads_back = reads && self.start(kind) == StartFrom::Beginning;
        let nothing = |of: Option<std::time::Duration>| of.is_some_and(|of| of.is_zero());
        let paced = self.rate.is_some() || self.ramp.is_some();
        [
            (
                self.linger.is_some() && !paced && !reads_back,
                "--linger waits for records that are due later, and without --rate they all are \
                 due at once: give --rate too",
            ),
            (
                nothing(self.duration),
                "--duration 0 measures nothing: give a time, or --count",
            ),
            (
                reads_back && (self.rate.is_some() || self.linger.is_some()),
                "consume --from beginning reads as fast as it can: --rate is for producers; try \
                 --from tail",
            ),
            (
                reads_back && self.duration.is_some(),
                "consume --from beginning takes as long as it takes to read --fill bytes or \
                 --count records: leave --duration away",
            ),
            (
                reads_back && self.warm_up.is_some(),
                "consume --from beginning reads what is there once: leave --warm-up away",
            ),
            (
                reads && !reads_back && self.count.is_some(),
                "consume --from tail ends by time: give --duration instead of --count",
            ),
            (
                reads && self.ramp.is_some(),
                "--ramp raises the rate of producers: run produce, e2e or mixed",
            ),
            (
                self.ramp.is_some() && self.count.is_some(),
                "each step of --ramp ends by time: give --duration instead of --count",
            ),
        ]
    }

    /// Whether the topics are filled before they are read.
    #[must_use]
    pub fn filled(&self, kind: Kind) -> bool {
        let consumes = matches!(kind, Kind::Consume | Kind::Mixed);
        consumes && self.start(kind) == StartFrom::Beginning
    }
}

/// More partitions than a machine of today could serve, so that a slip of the finger is told.
const MAX_PLACES: usize = 100_000;

/// More producers than one process drives with sense: each has streams and tasks of its own.
const MAX_CLIENTS: usize = 10_000;

#[cfg(test)]
mod tests {
    use crate::options::{Load, Mode, Options};
    use crate::report::Kind;
    use clap::Parser;

    fn parsed(line: &str) -> Result<(Kind, Load), String> {
        let words = std::iter::once("millrace-bench").chain(line.split_ascii_whitespace());
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(match options.mode {
            Mode::Produce(load) => (Kind::Produce, load),
            Mode::Consume(load) => (Kind::Consume, load),
            Mode::E2e(load) => (Kind::E2e, load),
            Mode::Mixed(load) => (Kind::Mixed, load),
            Mode::Compare(_) | Mode::Limits(_) | Mode::Sink(_) => {
                return Err("not a load".to_owned());
            }
        })
    }

    fn checked(line: &str) -> Result<(), String> {
        let (kind, load) = parsed(line)?;
        load.check(kind)
    }

    #[test]
    fn what_makes_sense_is_taken() {
        for line in [
            "produce",
            "produce --topics 3 --partitions 5 --producers 1000 --connections each --rate 1000",
            "produce --size 100..2KiB --batch-bytes 64KiB --linger 5ms --rate 5000",
            "produce --count 1000 --warm-up 0s --acks 0",
            "produce --ramp p99=10ms --duration 2s --topic-config write.caching=true",
            "consume --fill 1GiB --cold --consumers 2",
            "consume --count 1000 --kafka 127.0.0.1:9092 --fetch 4MiB",
            "consume --from tail --rate 1000 --duration 3s",
            "e2e --rate 1000 --consumers 4 --acks 0 --hgrm out.hgrm",
            "mixed --from beginning --fill 1GiB --cold",
            "mixed --count 100000 --consumers 3 --connections 7",
        ] {
            assert_eq!(checked(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_option_that_does() {
        for (line, word) in [
            ("produce --consumers 2", "--consumers"),
            ("produce --fetch 1MiB", "--fetch"),
            ("consume --fetch 1MiB", "--kafka"),
            ("produce --from tail", "--from"),
            ("e2e --from tail", "--from"),
            ("produce --fill 1MiB", "--fill"),
            ("mixed --fill 1MiB", "--fill"),
            ("mixed --cold", "--cold"),
            ("consume --cold --kafka 127.0.0.1:9092", "--cold"),
            ("consume --fill 0", "--fill"),
            ("consume --fill 1MiB --count 5", "--count"),
            (
                "produce --connections 2 --kafka 127.0.0.1:9092",
                "--connections",
            ),
            ("e2e --size 7", "--size"),
            ("e2e --size 4..100", "--size"),
            ("produce --acks 0 --hgrm x", "--acks 0"),
            ("produce --acks 0 --ramp p99=1ms", "--acks 0"),
            ("consume --hgrm x", "--hgrm"),
            ("produce --batch-bytes 100", "--batch-bytes"),
            ("produce --linger 5ms --batch 10", "--rate"),
            ("produce --linger 5ms --rate 10", "--linger"),
            ("produce --duration 0", "--duration"),
            ("produce --duration 1s --count 5", "--count"),
            ("produce --count 0", "--count"),
            ("produce --rate 0", "--rate"),
            ("consume --rate 5", "--rate"),
            ("consume --duration 5s", "--duration"),
            ("consume --warm-up 5s", "--warm-up"),
            ("consume --from tail --count 5", "--count"),
            ("consume --ramp p99=1ms", "--ramp"),
            ("produce --ramp p99=1ms --count 5", "--count"),
            ("produce --ramp fast", "--ramp"),
            ("produce --topics 1000 --partitions 1000", "--partitions"),
            ("produce --producers 100000", "--producers"),
            ("produce --topic-config nonsense", "--topic-config"),
            ("produce --embedded --broker 127.0.0.1:1", "--broker"),
        ] {
            let refused = checked(line).expect_err(line);
            assert!(refused.contains(word), "{line}: {refused}");
        }
    }
}
