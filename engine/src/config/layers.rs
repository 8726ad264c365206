//! Where values come from, which one wins, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use millrace_model::SettingError;

use super::keys::{Config, KEYS, Key};

/// What every environment variable of the broker starts with.
const ENVIRONMENT_PREFIX: &str = "MILLRACE_";

/// Variables with that prefix which are no keys: the path of the file itself, and the
/// variables of the client tools.
const OTHER_VARIABLES: [&str; 5] = [
    "MILLRACE_BIN",
    "MILLRACE_BROKER",
    "MILLRACE_CONFIG",
    "MILLRACE_KNOWN_BROKERS",
    "MILLRACE_TRUST",
];

/// A configuration file is at most this long: 1 MiB, far above the size of the table of
/// keys, so that a path to the wrong file does not fill the memory.
const MAX_FILE_LEN: u64 = 1 << 20;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, by name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// No such key.
    #[error("unknown key `{key}` ({source_of_value}){}", suggestion(.closest))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        source_of_value: Source,
        /// The key that was probably meant.
        closest: Option<&'static str>,
    },
    /// The value is not one the key can have.
    #[error("{key} = `{text}` ({source_of_value}): expected {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What stands there.
        text: String,
        /// Where it stands.
        source_of_value: Source,
        /// What would have been legal.
        reason: &'static str,
    },
    /// The value is not one that the topic setting it is the default of can have.
    #[error("{key} = `{text}` ({source_of_value}): {why}")]
    TopicDefault {
        /// The key.
        key: &'static str,
        /// What stands there.
        text: String,
        /// Where it stands.
        source_of_value: Source,
        /// Why not.
        why: String,
    },
    /// Two values exclude each other.
    #[error("{0}")]
    Conflict(String),
}

fn suggestion(closest: &Option<&'static str>) -> String {
    closest.map_or_else(
        || "; `millrace config` lists all keys".to_owned(),
        |key| format!("; did you mean `{key}`?"),
    )
}

/// The winning text of each key so far.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    texts: BTreeMap<&'static str, (String, Source)>,
}

impl Layer {
    /// The text of a key of the table, and its source.
    pub(super) fn winner(&self, key: &str) -> (&str, &Source) {
        let (text, source) = self
            .texts
            .get(key)
            .expect("every key starts with its default");
        (text, source)
    }

    fn set(&mut self, key: &str, text: String, source: Source) -> Result<(), ConfigError> {
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            return Err(ConfigError::UnknownKey {
                key: key.to_owned(),
                source_of_value: source,
                closest: closest_key(key),
            });
        };
        self.texts.insert(known.name, (text, source));
        Ok(())
    }
}

/// Builds the configuration, layer over layer: call in the order file, environment, flags.
#[derive(Clone, Debug)]
pub struct Layers {
    layer: Layer,
    unknown_variables: Vec<String>,
}

impl Default for Layers {
    fn default() -> Self {
        let default = |key: &Key| (key.name, (key.default.to_owned(), Source::Default));
        let layer = Layer {
            texts: KEYS.iter().map(default).collect(),
        };
        Self {
            layer,
            unknown_variables: Vec::new(),
        }
    }
}

impl Layers {
    /// Lays the TOML file at `path` over what is there.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has an unknown key.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > MAX_FILE_LEN {
            let reason = format!("a configuration of {length} bytes is over 1 MiB");
            return Err(ConfigError::Syntax {
                path: path.to_owned(),
                reason,
            });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        self.toml(&text, path)
    }

    /// Lays TOML text over what is there; `path` names it.
    ///
    /// # Errors
    /// The text is no TOML, or has an unknown key.
    pub fn toml(mut self, text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |reason| ConfigError::Syntax {
            path: path.to_owned(),
            reason,
        };
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| syntax(e.to_string()))?;
        let mut entries = Vec::new();
        flatten("", &table, &mut entries).map_err(syntax)?;
        for (key, text) in entries {
            self.layer.set(&key, text, Source::File(path.to_owned()))?;
        }
        Ok(self)
    }

    /// Lays environment variables over what is there. Those without the prefix are passed
    /// over; unknown ones with it are kept for [`Effective::unknown_variables`].
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, text) in variables {
            if !name.starts_with(ENVIRONMENT_PREFIX) || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            match KEYS.iter().find(|key| key.variable() == name) {
                Some(key) => {
                    self.layer
                        .texts
                        .insert(key.name, (text, Source::Environment(name)));
                }
                None => self.unknown_variables.push(name),
            }
        }
        self
    }

    /// Lays a flag's value over what is there.
    ///
    /// # Errors
    /// No such key.
    pub fn flag(mut self, key: &str, text: &str) -> Result<Self, ConfigError> {
        let flag = Source::Flag(key.replace('.', "-"));
        self.layer.set(key, text.to_owned(), flag)?;
        Ok(self)
    }

    /// The configuration that results.
    ///
    /// # Errors
    /// A value is not one its key can have, or two exclude each other.
    pub fn build(self) -> Result<Effective, ConfigError> {
        let config = Config::parse(&self.layer)?;
        if let Err((key, SettingError { why, .. })) = config.resolve_topic_defaults() {
            let (text, source) = self.layer.winner(key);
            let (text, source_of_value) = (text.to_owned(), source.clone());
            return Err(ConfigError::TopicDefault {
                key,
                text,
                source_of_value,
                why,
            });
        }
        if config.tls_certificate.0.is_some() != config.tls_key.0.is_some() {
            let both = "tls.certificate.file and tls.key.file are set together or not at all";
            return Err(ConfigError::Conflict(both.to_owned()));
        }
        if config.shard_memory_bytes.0 < config.message_max_bytes.0 {
            let one =
                "shard.memory.bytes is below message.max.bytes: no shard could take one batch";
            return Err(ConfigError::Conflict(one.to_owned()));
        }
        if let Some(conflict) = config.group_conflict() {
            return Err(ConfigError::Conflict(conflict.to_owned()));
        }
        let node_id_is_set = *self.layer.winner("node.id").1 != Source::Default;
        if let Some(conflict) = config.cluster_conflict(node_id_is_set) {
            return Err(ConfigError::Conflict(conflict));
        }
        Ok(Effective {
            config,
            layer: self.layer,
            unknown_variables: self.unknown_variables,
        })
    }
}

/// A configuration, with the source of each value.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The values.
    pub config: Config,
    /// Variables that look like keys and are none, in the order they were met.
    pub unknown_variables: Vec<String>,
    layer: Layer,
}

impl Effective {
    /// Whether nobody sets this key.
    #[must_use]
    pub fn is_default(&self, key: &str) -> bool {
        *self.layer.winner(key).1 == Source::Default
    }

    /// The configuration as a TOML file, each value with its source in a comment.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let line = |key: &Key| {
            let (text, source) = self.layer.winner(key.name);
            format!(
                "# {}\n{} = {} # {source}\n\n",
                key.help.trim(),
                key.name,
                toml_value(text)
            )
        };
        KEYS.iter()
            .map(line)
            .collect::<String>()
            .trim_end()
            .to_owned()
            + "\n"
    }
}

impl Key {
    /// The environment variable that sets this key.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "{ENVIRONMENT_PREFIX}{}",
            self.name.replace('.', "_").to_uppercase()
        )
    }

    /// The flag that sets this key, without its dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('.', "-")
    }
}

/// The key closest to what was written, for unknown file keys, flags and variables.
fn closest_key(written: &str) -> Option<&'static str> {
    let written = written.to_lowercase().replace(['_', '-'], ".");
    KEYS.iter()
        .map(|key| (edit_distance(&written, key.name), key.name))
        .min()
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

/// Levenshtein's distance: insertions, removals and replacements of one byte.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    out: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, out)?,
            toml::Value::String(text) => out.push((key, text.clone())),
            toml::Value::Integer(number) => out.push((key, number.to_string())),
            toml::Value::Boolean(flag) => out.push((key, flag.to_string())),
            _ => {
                return Err(format!(
                    "`{key}` is neither text, a whole number, true nor false"
                ));
            }
        }
    }
    Ok(())
}

fn toml_value(text: &str) -> String {
    if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() {
        return text.to_owned();
    }
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::keys::TOPIC_DEFAULTS;
    use super::*;
    use millrace_model::TopicSettings;

    fn toml(text: &str) -> Result<Layers, ConfigError> {
        Layers::default().toml(text, Path::new("test.toml"))
    }

    fn variables<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn every_default_is_legal_and_the_topic_defaults_are_the_models() {
        let config = Layers::default().build().unwrap().config;
        assert_eq!(config.topic_defaults(), TopicSettings::default());
    }

    #[test]
    fn every_topic_default_reaches_its_setting() {
        for (key, setting) in TOPIC_DEFAULTS {
            let value = match setting {
                "message.timestamp.type" => "LogAppendTime",
                "write.caching" => "true",
                _ => "70000",
            };
            let value = if setting == "min.insync.replicas" {
                "3"
            } else {
                value
            };
            let config = Layers::default()
                .flag(key, value)
                .unwrap()
                .build()
                .unwrap()
                .config;
            let mut expected = TopicSettings::default();
            expected.set(setting, value).unwrap();
            assert_eq!(config.topic_defaults(), expected, "{key}");
        }
    }

    #[test]
    fn flag_over_environment_over_file_over_default() {
        let layers = toml("num.partitions = 2\nnode.id = 2\ncores = 2").unwrap();
        let layers = layers.environment(variables(&[
            ("MILLRACE_NUM_PARTITIONS", "3"),
            ("MILLRACE_NODE_ID", "3"),
            ("HOME", "/root"),
        ]));
        let effective = layers.flag("num.partitions", "4").unwrap().build().unwrap();
        assert_eq!(effective.config.num_partitions.get(), 4);
        assert_eq!(effective.config.node_id, 3);
        assert_eq!(effective.config.cores.shards(1).get(), 2);
        let printed = effective.to_toml();
        for line in [
            "num.partitions = 4 # --num-partitions",
            "node.id = 3 # MILLRACE_NODE_ID",
            "cores = 2 # test.toml",
            "quic = \"0.0.0.0:9644\" # default",
        ] {
            assert!(
                printed.lines().any(|printed| printed == line),
                "{line} in\n{printed}"
            );
        }
    }

    #[test]
    fn the_printed_configuration_is_a_configuration_file() {
        let layers = toml("log.retention.ms = -1\nlog.level = \"debug # \\\"x\\\"\"").unwrap();
        let effective = layers.build().unwrap();
        let again = toml(&effective.to_toml()).unwrap().build().unwrap();
        assert_eq!(again.config, effective.config);
    }

    #[test]
    fn an_unknown_key_names_the_closest() {
        for (text, closest) in [
            ("log.retention.mss = 1", "did you mean `log.retention.ms`?"),
            ("num_partitions = 1", "did you mean `num.partitions`?"),
            (
                "[log.segment]\nbites = 1",
                "did you mean `log.segment.bytes`?",
            ),
            ("colour = 1", "`millrace config` lists all keys"),
        ] {
            let error = toml(text).unwrap_err().to_string();
            assert!(
                error.contains(closest) && error.contains("test.toml"),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_variables_are_reported_and_those_of_the_tools_are_not() {
        let layers = Layers::default().environment(variables(&[
            ("MILLRACE_PORT", "tcp://10.0.0.1:9644"),
            ("MILLRACE_BROKER", "localhost:9644"),
            ("MILLRACE_CONFIG", "x"),
        ]));
        assert_eq!(layers.build().unwrap().unknown_variables, ["MILLRACE_PORT"]);
    }

    #[test]
    fn an_illegal_value_names_key_text_source_and_what_is_legal() {
        let error = toml("log.segment.bytes = \"many\"")
            .unwrap()
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "log.segment.bytes = `many` (test.toml): expected a number of bytes, for example 1048576 or 64MiB"
        );
        let layers =
            Layers::default().environment(variables(&[("MILLRACE_LOG_SEGMENT_BYTES", "1")]));
        let error = layers.build().unwrap_err().to_string();
        assert!(
            error.contains("MILLRACE_LOG_SEGMENT_BYTES") && error.contains("65536"),
            "{error}"
        );
        assert!(toml("cores = 1.5").is_err());
        assert!(toml("cores = [1]").is_err());
        assert!(toml("cores = ").is_err());
        let one = Layers::default()
            .flag("tls.key.file", "key.pem")
            .unwrap()
            .build();
        assert!(matches!(one, Err(ConfigError::Conflict(_))));
    }

    #[test]
    fn no_key_is_a_prefix_of_another_or_shares_its_flag_or_variable() {
        for (at, a) in KEYS.iter().enumerate() {
            for b in &KEYS[at + 1..] {
                let (short, long) = (a.name.min(b.name), a.name.max(b.name));
                assert!(
                    !long.starts_with(&format!("{short}.")),
                    "{short} and {long}"
                );
                assert_ne!(a.flag(), b.flag());
                assert_ne!(a.variable(), b.variable());
            }
        }
    }

    #[test]
    fn a_missing_or_huge_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Layers::default().file(&dir.path().join("none.toml"));
        assert!(matches!(missing, Err(ConfigError::Read { .. })));
        let huge = dir.path().join("huge.toml");
        std::fs::File::create(&huge)
            .unwrap()
            .set_len(2 << 20)
            .unwrap();
        assert!(matches!(
            Layers::default().file(&huge),
            Err(ConfigError::Syntax { .. })
        ));
    }
}
