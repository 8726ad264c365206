//! Topics and partitions as a person names them: `orders`, or `orders:0,3`.

use std::fmt;

/// A topic, or some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) topic: String,
    /// `None` for all.
    pub(super) partitions: Option<Vec<u32>>,
}

impl Scope {
    /// Whether this partition is meant.
    pub(super) fn has(&self, topic: &str, partition: u32) -> bool {
        let among = |partitions: &Vec<u32>| partitions.contains(&partition);
        self.topic == topic && self.partitions.as_ref().is_none_or(among)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(partitions) = &self.partitions else {
            return write!(f, "topic '{}'", self.topic);
        };
        let numbers: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        write!(
            f,
            "partition {} of topic '{}'",
            numbers.join(", "),
            self.topic
        )
    }
}

pub(super) fn parse_scope(text: &str) -> Result<Scope, String> {
    // No name of a topic has a colon in it.
    let (topic, partitions) = match text.split_once(':') {
        None => (text, None),
        Some((topic, numbers)) => {
            let numbers: Result<Vec<u32>, _> = numbers.split(',').map(str::parse).collect();
            let numbers = numbers.map_err(|_| {
                format!("'{text}' is no topic with partitions; write them as in orders:0,3")
            })?;
            (topic, Some(numbers))
        }
    };
    if topic.is_empty() {
        return Err("a topic has a name".to_owned());
    }
    Ok(Scope {
        topic: topic.to_owned(),
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_partitions_are_parsed_and_said_again() {
        let all = parse_scope("orders").unwrap();
        assert!(all.has("orders", 9) && !all.has("other", 9));
        assert_eq!(all.to_string(), "topic 'orders'");
        let some = parse_scope("orders:0,3").unwrap();
        assert!(some.has("orders", 3) && !some.has("orders", 1));
        assert_eq!(some.to_string(), "partition 0, 3 of topic 'orders'");
        for wrong in ["", ":1", "orders:", "orders:1,", "orders:-1", "orders:a"] {
            assert!(parse_scope(wrong).is_err(), "{wrong}");
        }
    }
}
