//! What a regular expression stands for: the topics whose whole name matches.
//!
//! The syntax is that of RE2, as Kafka's, in its ASCII part: names of topics are ASCII. Matching takes time
//! linear in the names, whatever the expression; its program is bounded.

use millrace_model::ErrorCode;
use regex::bytes::{Regex, RegexBuilder};

use super::failure;
use super::limits::{INTERNAL_TOPICS, MAX_REGEX_LEN, MAX_REGEX_NESTING, MAX_REGEX_PROGRAM};
use crate::{Failure, TopicsImage};

/// The topics that the expression stands for, sorted.
///
/// # Errors
/// [`ErrorCode::InvalidRegularExpression`].
pub(super) fn resolve(expression: &str, topics: &TopicsImage) -> Result<Vec<String>, Failure> {
    let whole = compile(expression)?;
    Ok(topics
        .by_name
        .keys()
        .filter(|name| !INTERNAL_TOPICS.contains(&name.as_str()) && whole.is_match(name.as_bytes()))
        .cloned()
        .collect())
}

fn compile(expression: &str) -> Result<Regex, Failure> {
    if expression.len() > MAX_REGEX_LEN {
        let len = expression.len();
        return Err(failure(
            ErrorCode::InvalidRegularExpression,
            format!("a regular expression has {MAX_REGEX_LEN} bytes at most, not {len}"),
        ));
    }
    // By itself first: brackets that only close what is put around it would change its meaning.
    build(expression)
        .and_then(|_| build(&format!("^(?:{expression})$")))
        .map_err(|error| {
            // What is wrong stands in the last line, below a drawing of where.
            let error = error.to_string();
            let what = error.lines().last().unwrap_or_default();
            failure(
                ErrorCode::InvalidRegularExpression,
                format!("`{expression}` is not a regular expression: {what}"),
            )
        })
}

fn build(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression)
        .unicode(false)
        .size_limit(MAX_REGEX_PROGRAM)
        .nest_limit(MAX_REGEX_NESTING)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicImage;
    use millrace_model::TopicId;

    fn topics() -> TopicsImage {
        let mut topics = TopicsImage::default();
        for (at, name) in ["__consumer_offsets", "ab", "abc", "b.c", "bxc", "Logs"]
            .into_iter()
            .enumerate()
        {
            let id = TopicId([u8::try_from(at).unwrap(); 16]);
            topics
                .by_name
                .insert(name.to_owned(), TopicImage { id, partitions: 1 });
            topics.by_id.insert(id, name.to_owned());
        }
        topics
    }

    #[test]
    fn the_whole_name_must_match() {
        let matches = |expression: &str| resolve(expression, &topics()).unwrap().join(" ");
        assert_eq!(matches("a|ab"), "ab");
        assert_eq!(matches("ab.*"), "ab abc");
        assert_eq!(matches(r"b\.c"), "b.c");
        assert_eq!(matches("(?i)LOGS"), "Logs");
        assert_eq!(matches("^ab$|^abc$"), "ab abc");
        assert_eq!(matches(".*"), "Logs ab abc b.c bxc");
        assert_eq!(matches("__consumer_offsets"), "");
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        let deep = format!("{}a{}", "(".repeat(60), ")".repeat(60));
        let long = "a".repeat(MAX_REGEX_LEN + 1);
        for bad in [
            "(",
            "a)|(?:b",
            "[z-a]",
            "(?=a)b",
            r"(a)\1",
            "(a{999}){999}",
            &deep,
            &long,
        ] {
            let failure = resolve(bad, &topics()).unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidRegularExpression, "{bad}");
        }
    }
}
