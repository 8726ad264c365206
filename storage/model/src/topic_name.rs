//! Names of topics.

use std::fmt;
use std::str::FromStr;

/// A legal name of a topic: 1 to 249 of `a-zA-Z0-9._-`, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

/// Kafka's limit: with a partition's number it must make the name of a directory.
pub const MAX_TOPIC_NAME_LEN: usize = 249;

/// The topic where consumer groups keep their offsets and members, one of its partitions for
/// every group. It has Kafka's name and its records have Kafka's format, so that tools can read it.
pub const GROUP_OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Whether a topic belongs to the broker itself: clients may read it, and neither make, change,
/// write nor remove it.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    name == GROUP_OFFSETS_TOPIC
}

/// Why a text is not the name of a topic. The code is
/// [`crate::ErrorCode::InvalidTopicException`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No characters.
    #[error("a topic's name is not empty")]
    Empty,
    /// Too many characters.
    #[error("a topic's name has at most {MAX_TOPIC_NAME_LEN} characters, this one has {0} bytes")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("a topic's name is neither . nor ..")]
    Dots,
    /// A character out of the set.
    #[error("a topic's name has only letters and digits of ASCII, '.', '_' and '-', not {0:?}")]
    Character(char),
}

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`TopicNameError`] with the first thing that is wrong.
    pub fn parse(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name.len() > MAX_TOPIC_NAME_LEN {
            return Err(TopicNameError::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots);
        }
        let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|c| !legal(c)) {
            Some(c) => Err(TopicNameError::Character(c)),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_are_kept() {
        let longest = "x".repeat(MAX_TOPIC_NAME_LEN);
        for name in [
            "a",
            "...",
            "orders.v1_EU-2",
            "__consumer_offsets",
            longest.as_str(),
        ] {
            assert_eq!(
                TopicName::parse(name).map(String::from).as_deref(),
                Ok(name)
            );
        }
    }

    #[test]
    fn each_rule_refuses() {
        let too_long = "x".repeat(MAX_TOPIC_NAME_LEN + 1);
        let refused = [
            ("", TopicNameError::Empty),
            (".", TopicNameError::Dots),
            ("..", TopicNameError::Dots),
            ("a b", TopicNameError::Character(' ')),
            ("a/b", TopicNameError::Character('/')),
            ("\u{e9}t\u{e9}", TopicNameError::Character('\u{e9}')),
            ("a\0", TopicNameError::Character('\0')),
            (
                too_long.as_str(),
                TopicNameError::TooLong(MAX_TOPIC_NAME_LEN + 1),
            ),
        ];
        for (name, error) in refused {
            assert_eq!(TopicName::parse(name), Err(error), "{name:?}");
        }
    }
}
