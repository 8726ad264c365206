//! Consumer groups as metrics: how many there are in each state, and how far each has come.
//!
//! Unlike everything else here these are not counted as they happen but gathered when somebody
//! asks, and their labels are names that clients choose. So their number is bounded by whoever gathers
//! ([`GroupsReport::omitted`] says what was left out), and names are escaped.

use std::fmt::Write as _;

use super::Unit;
use super::prometheus::{head, line};

/// Groups of one protocol in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsInState {
    /// The protocol, for example `classic`.
    pub group_type: &'static str,
    /// The state, for example `Stable`.
    pub state: &'static str,
    /// How many groups.
    pub groups: u64,
    /// Their members.
    pub members: u64,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProgress {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that the group will read next.
    pub committed: u64,
    /// The partition's high watermark, if its log is open.
    pub end: Option<u64>,
}

/// All groups at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsReport {
    /// By protocol and state.
    pub states: Vec<GroupsInState>,
    /// By group, topic and partition.
    pub progress: Vec<GroupProgress>,
    /// Committed offsets that are not in `progress`, for there are too many.
    pub omitted: u64,
}

/// Writes the report.
pub(super) fn render(out: &mut String, report: &GroupsReport) {
    let by_state = |out: &mut String, name, help, value: fn(&GroupsInState) -> u64| {
        let name = head(out, name, "gauge", Unit::Count, help);
        for row in &report.states {
            let labels = format_args!("type=\"{}\",state=\"{}\"", row.group_type, row.state);
            line(out, format_args!("{name}{{{labels}}} {}", value(row)));
        }
    };
    let help = "Consumer groups, by protocol and state.";
    by_state(out, "groups", help, |row| row.groups);
    let help = "Members of consumer groups, by the group's protocol and state.";
    by_state(out, "group_members", help, |row| row.members);
    let by_partition = |out: &mut String, name, help, value: fn(&GroupProgress) -> Option<u64>| {
        let name = head(out, name, "gauge", Unit::Count, help);
        for row in &report.progress {
            if let Some(value) = value(row) {
                let labels = labels(row);
                line(out, format_args!("{name}{{{labels}}} {value}"));
            }
        }
    };
    let help = "The offset that a group reads next, as it has committed.";
    by_partition(out, "group_committed_offset", help, |row| {
        Some(row.committed)
    });
    let help = "Records between what a group has committed and the high watermark.";
    by_partition(out, "group_lag", help, |row| {
        row.end.map(|end| end.saturating_sub(row.committed))
    });
    let help = "Committed offsets that are not shown, for there are too many.";
    let name = head(out, "group_offsets_omitted", "gauge", Unit::Count, help);
    line(out, format_args!("{name} {}", report.omitted));
}

fn labels(row: &GroupProgress) -> String {
    let mut labels = String::new();
    for (name, value) in [("group", &row.group), ("topic", &row.topic)] {
        labels.push_str(name);
        labels.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => labels.push_str("\\\\"),
                '"' => labels.push_str("\\\""),
                '\n' => labels.push_str("\\n"),
                c => labels.push(c),
            }
        }
        labels.push_str("\",");
    }
    write!(labels, "partition=\"{}\"", row.partition).expect("writing to a string does not fail");
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_labels() {
        let row = GroupProgress {
            group: "a\"} 1\n\\".to_owned(),
            topic: "t".to_owned(),
            partition: 3,
            committed: 5,
            end: Some(3),
        };
        let report = GroupsReport {
            progress: vec![row],
            ..GroupsReport::default()
        };
        let mut out = String::new();
        render(&mut out, &report);
        let labels = r#"group="a\"} 1\n\\",topic="t",partition="3""#;
        assert!(
            out.contains(&format!("millrace_group_committed_offset{{{labels}}} 5\n")),
            "{out}"
        );
        assert!(
            out.contains(&format!("millrace_group_lag{{{labels}}} 0\n")),
            "{out}"
        );
    }
}
