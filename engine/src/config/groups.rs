//! The settings of consumer groups: their own types of values, and all of them as the coordinator
//! takes them.

use std::time::Duration;

use millrace_groups::{AssignorName, GroupSettings, MigrationPolicy};

use super::keys::Config;
use super::value::{Period, Setting};

/// Assignors of the broker, the first of which is the default: `uniform,range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignors(pub Vec<AssignorName>);

impl Setting for Assignors {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const LEGAL: &str = "one or both of uniform and range, for example uniform,range";
        let mut names = Vec::new();
        for name in text.split(',') {
            let name = match name.trim() {
                "uniform" => AssignorName::Uniform,
                "range" => AssignorName::Range,
                _ => return Err(LEGAL),
            };
            if names.contains(&name) {
                return Err(LEGAL);
            }
            names.push(name);
        }
        Ok(Self(names))
    }

    fn text(&self) -> String {
        let names = self.0.iter().map(|name| match name {
            AssignorName::Uniform => "uniform",
            AssignorName::Range => "range",
        });
        names.collect::<Vec<_>>().join(",")
    }
}

impl Setting for MigrationPolicy {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text.to_ascii_lowercase().as_str() {
            "bidirectional" => Ok(Self::Bidirectional),
            "upgrade" => Ok(Self::Upgrade),
            "downgrade" => Ok(Self::Downgrade),
            "disabled" => Ok(Self::Disabled),
            _ => Err("bidirectional, upgrade, downgrade or disabled"),
        }
    }

    fn text(&self) -> String {
        let name = match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        };
        name.to_owned()
    }
}

impl Config {
    /// What a coordinator of groups is given.
    #[must_use]
    pub fn group_settings(&self) -> GroupSettings {
        let minutes = u64::from(self.offsets_retention_minutes.get());
        let retention = Duration::from_secs(60 * minutes);
        GroupSettings {
            min_session_timeout_ms: millis(self.group_min_session_timeout),
            max_session_timeout_ms: millis(self.group_max_session_timeout),
            initial_rebalance_delay_ms: millis(self.group_initial_rebalance_delay),
            heartbeat_hold_max_ms: millis(self.group_heartbeat_hold_max),
            max_size: self.group_max_size.get(),
            consumer_session_timeout_ms: millis(self.group_consumer_session_timeout),
            consumer_heartbeat_interval_ms: millis(self.group_consumer_heartbeat_interval),
            consumer_max_size: self.group_consumer_max_size.get(),
            consumer_assignors: self.group_consumer_assignors.0.clone(),
            migration: self.group_consumer_migration_policy,
            offsets_retention_ms: Period(retention).as_millis(),
            offset_metadata_max_bytes: u32::try_from(self.offset_metadata_max_bytes.0)
                .unwrap_or(u32::MAX),
            ..GroupSettings::default()
        }
    }

    /// What is wrong with the settings of groups taken together.
    pub(super) fn group_conflict(&self) -> Option<&'static str> {
        if self.group_min_session_timeout > self.group_max_session_timeout {
            return Some("group.min.session.timeout.ms is above group.max.session.timeout.ms");
        }
        if self.group_consumer_heartbeat_interval >= self.group_consumer_session_timeout {
            return Some(
                "group.consumer.heartbeat.interval.ms is not below group.consumer.session.timeout.ms",
            );
        }
        None
    }
}

fn millis(period: Period) -> u32 {
    u32::try_from(period.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Layers;
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_coordinator() {
        let config = Layers::default()
            .build()
            .expect("defaults are legal")
            .config;
        assert_eq!(config.group_settings(), GroupSettings::default());
    }

    #[test]
    fn assignors_are_named_once() {
        let parsed = Assignors::parse("range, uniform");
        assert_eq!(
            parsed,
            Ok(Assignors(vec![AssignorName::Range, AssignorName::Uniform]))
        );
        for text in ["", "range,range", "sticky"] {
            assert!(Assignors::parse(text).is_err(), "{text}");
        }
    }
}
