//! What a request must be before any group looks at it.

use std::collections::BTreeSet;

use millrace_model::ErrorCode;

use crate::{GroupSettings, JoinGroup, Request};

/// Bytes of a name of any kind: records of the log have 16 bits for their lengths, and so has Kafka's
/// protocol.
const MAX_NAME_LEN: usize = i16::MAX as usize;

impl Request {
    /// The group that it asks; empty for those that ask no single one.
    pub(crate) fn group(&self) -> &str {
        match self {
            Self::Join(request) => &request.group,
            Self::Sync(request) => &request.group,
            Self::Heartbeat(request) => &request.group,
            Self::Leave(request) => &request.group,
            Self::ConsumerHeartbeat(request) => &request.group,
            Self::Commit(request) => &request.group,
            Self::FetchOffsets(request) => &request.group,
            Self::DeleteOffsets { group, .. }
            | Self::Delete { group }
            | Self::Describe { group, .. } => group,
            Self::List => "",
        }
    }

    /// Checks everything that does not depend on the group.
    pub(crate) fn check(&self, settings: &GroupSettings) -> Result<(), ErrorCode> {
        let needs_group = matches!(
            self,
            Self::Join(_)
                | Self::Sync(_)
                | Self::Heartbeat(_)
                | Self::Leave(_)
                | Self::ConsumerHeartbeat(_)
        );
        // Offsets may belong to the group without a name, as they did before groups had members.
        if (needs_group && self.group().is_empty()) || self.group().len() > MAX_NAME_LEN {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !self.has_short_names() {
            return Err(ErrorCode::InvalidRequest);
        }
        match self {
            Self::Join(join) => join.check(settings),
            _ => Ok(()),
        }
    }

    /// Whether all that may come into a record fits there.
    fn has_short_names(&self) -> bool {
        let fits = |name: &String| name.len() <= MAX_NAME_LEN;
        let all_fit =
            |names: &[&Option<String>]| names.iter().all(|name| name.as_ref().is_none_or(fits));
        match self {
            Self::Join(join) => {
                fits(&join.member)
                    && fits(&join.protocol_type)
                    && all_fit(&[&join.instance])
                    && join.protocols.iter().all(|(name, _)| fits(name))
            }
            Self::ConsumerHeartbeat(heartbeat) => {
                fits(&heartbeat.member)
                    && all_fit(&[
                        &heartbeat.instance,
                        &heartbeat.rack,
                        &heartbeat.subscribed_regex,
                        &heartbeat.assignor,
                    ])
                    && heartbeat.subscribed_topics.iter().flatten().all(fits)
            }
            Self::Commit(commit) => commit.offsets.iter().all(|offset| {
                fits(&offset.topic)
                    && fits(&offset.committed.metadata)
                    && (offset.committed.leader_epoch)
                        .is_none_or(|epoch| i32::try_from(epoch.0).is_ok())
            }),
            _ => true,
        }
    }
}

impl JoinGroup {
    /// Without protocols of the same name as one before.
    pub(crate) fn with_distinct_protocols(mut self) -> Self {
        let mut names = BTreeSet::new();
        self.protocols
            .retain(|(name, _)| names.insert(name.clone()));
        self
    }

    fn check(&self, settings: &GroupSettings) -> Result<(), ErrorCode> {
        let allowed = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
        if !u32::try_from(self.session_timeout_ms).is_ok_and(|timeout| allowed.contains(&timeout)) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        if self.protocol_type.is_empty() || self.protocols.is_empty() {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }
}
