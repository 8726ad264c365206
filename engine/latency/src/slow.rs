//! The slowest batches, as a broker tells of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Stage;

/// The slowest batches of the last minutes, slowest first. Its JSON has the fields as they are here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowDocument {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The batches.
    pub batches: Vec<SlowEntry>,
}

/// A batch that took long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowEntry {
    /// When its acknowledgement left, in milliseconds since 1970.
    pub at_ms: i64,
    /// The shard of its connection.
    pub shard: u8,
    /// The topic's name, or its id if it is gone.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Bytes of it.
    pub bytes: u32,
    /// Who sent it.
    pub peer: String,
    /// `native` or `kafka`.
    pub protocol: String,
    /// From its first byte to its acknowledgement, in microseconds.
    pub total_us: f64,
    /// How long it was in each stage of [`Stage::PRODUCE`], in their order, in microseconds.
    pub stages_us: Vec<f64>,
}

/// The table for people.
impl fmt::Display for SlowDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:>5} {:>11}", "time (UTC)", "shard", "total us")?;
        for stage in Stage::PRODUCE {
            write!(f, " {:>11}", stage.name())?;
        }
        writeln!(f, " {:>9}  from            to", "bytes")?;
        for batch in &self.batches {
            batch.row(f)?;
        }
        Ok(())
    }
}

impl SlowEntry {
    fn row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at_ms.rem_euclid(86_400_000);
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{hours:02}:{minutes:02}:{seconds:02}.{millis:03} {:>5}",
            self.shard
        )?;
        write!(f, " {:>11.1}", self.total_us)?;
        for us in &self.stages_us {
            write!(f, " {us:>11.1}")?;
        }
        let from = format!("{} {}", self.protocol, self.peer);
        writeln!(
            f,
            " {:>9}  {from:<15} {}/{}",
            self.bytes, self.topic, self.partition
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_batch_has_a_line_with_its_stages() {
        let batch = SlowEntry {
            at_ms: 86_400_000 + 3_723_004,
            shard: 1,
            topic: "orders".to_owned(),
            partition: 7,
            bytes: 1_100,
            peer: "127.0.0.1".to_owned(),
            protocol: "native".to_owned(),
            total_us: 1_234.5,
            stages_us: vec![1.0, 2.0, 3.0, 1_200.0, 0.0, 28.5],
        };
        let document = SlowDocument {
            version: 1,
            batches: vec![batch],
        };
        let text = document.to_string();
        let line = text.lines().nth(1).expect("there is a batch");
        let words: Vec<&str> = line.split_whitespace().collect();
        let expected = [
            "01:02:03.004",
            "1",
            "1234.5",
            "1.0",
            "2.0",
            "3.0",
            "1200.0",
            "0.0",
            "28.5",
            "1100",
            "native",
            "127.0.0.1",
            "orders/7",
        ];
        assert_eq!(words, expected);
    }
}
