//! The query of a path: pairs of names that the path knows, each at most once.

use super::Unseen;

/// A query, parsed.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    /// Parses what stands behind the question mark. Nothing that can be asked for needs an escape, so
    /// there are none.
    ///
    /// # Errors
    /// A name that is not one of `known`, or stands twice.
    pub(super) fn parse(text: &'a str, known: &[&str]) -> Result<Self, Unseen> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let message = format!("`{name}` is not one of {}", known.join(", "));
                return Err(Unseen::Query(message));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Unseen::Query(format!("`{name}` stands twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// The value of a name, if it stands there.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.pairs.iter();
        pairs
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }

    /// The value of a name as one of these, or the first of them if it does not stand there.
    ///
    /// # Errors
    /// It stands there with another value.
    pub(super) fn one_of<T: Copy>(&self, name: &str, all: &[(&str, T)]) -> Result<T, Unseen> {
        let Some(value) = self.value(name) else {
            return Ok(all[0].1);
        };
        let mut known = all.iter().filter(|(text, _)| *text == value);
        known.next().map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<&str> = all.iter().map(|(text, _)| *text).collect();
            Unseen::Query(format!(
                "{name} is one of {}, not `{value}`",
                all.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn names_are_known_and_stand_once() {
        let known = ["stage", "shard"];
        let query = Query::parse("stage=ack&shard=1", &known).unwrap();
        assert_eq!(query.value("stage"), Some("ack"));
        assert_eq!(query.value("topic"), None);
        assert!(Query::parse("", &known).unwrap().pairs.is_empty());
        for (text, names) in [("stge=ack", "stage, shard"), ("shard=1&shard=2", "twice")] {
            let error = Query::parse(text, &known).unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn a_value_is_one_of_those_or_the_first() {
        let all = [("text", 1), ("json", 2)];
        let meaning = |text| Query::parse(text, &["format"])?.one_of("format", &all);
        assert_eq!(meaning("").unwrap(), 1);
        assert_eq!(meaning("format=json").unwrap(), 2);
        let error = meaning("format=xml").unwrap_err().to_string();
        assert_eq!(error, "format is one of text, json, not `xml`");
    }
}
