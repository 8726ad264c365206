//! Moving a whole group from one protocol to the other, as plain data on the classic side.
//!
//! Upwards, when the first member of the broker-driven protocol comes to a classic group: what members read is
//! their assignment and their target, and their generation is their epoch. Downwards, when the last such member is
//! gone: the others go on as a classic group, which has to rebalance.

use bytes::Bytes;
use millrace_model::ErrorCode;

use super::classic::{assignment_blob, by_id};
use super::member::nobody;
use super::{
    ConsumerGroup, ConsumerProtocolAssignment, ConsumerProtocolError, ConsumerProtocolSubscription,
    Current, Moment, failure,
};
use crate::record::{ClassicWithinConsumer, ConsumerGroupValue, ConsumerMemberValue};
use crate::{Client, Failure, GroupRecord, MigrationPolicy};

/// A classic group of consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicPlain {
    /// Its generation.
    pub generation: i32,
    /// Its members.
    pub members: Vec<ClassicMemberPlain>,
}

/// A member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberPlain {
    /// Its id.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Who it is.
    pub client: Client,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Assignors with the member's metadata for each, the preferred one (upwards: the group's) first.
    pub protocols: Vec<(String, Bytes)>,
    /// What it reads.
    pub assignment: Bytes,
}

impl MigrationPolicy {
    /// Whether a classic group may become one of the broker-driven protocol.
    #[must_use]
    pub const fn allows_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    /// Whether a group of the broker-driven protocol may become a classic one.
    #[must_use]
    pub const fn allows_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl ConsumerGroup {
    /// A classic group as one of the broker-driven protocol, and the records that make it. Those that take
    /// the classic group out of the log go before them, and joins and syncs that wait there are answered
    /// with [`ErrorCode::RebalanceInProgress`]. To be thrown away if what caused it fails.
    ///
    /// # Errors
    /// [`ErrorCode::GroupIdNotFound`], as Kafka says it: the policy forbids it, there are too many
    /// members, or their metadata is damaged.
    pub fn from_classic(
        moment: &Moment<'_>,
        name: &str,
        classic: &ClassicPlain,
    ) -> Result<(Self, Vec<GroupRecord>), Failure> {
        let refuse = |why: &str| {
            failure(
                ErrorCode::GroupIdNotFound,
                format!("classic group `{name}` cannot move to the broker-driven protocol: {why}"),
            )
        };
        if !moment.settings.migration.allows_upgrade() {
            return Err(refuse("group.consumer.migration.policy forbids it"));
        }
        if classic.members.len() > moment.settings.consumer_max_size as usize {
            return Err(refuse("it has more members than group.consumer.max.size"));
        }
        let mut group = Self::new(name);
        let generation = classic.generation.max(0);
        for member in &classic.members {
            group
                .take_classic(moment, generation, member)
                .map_err(|error| refuse(&error.to_string()))?;
        }
        // The hash is unknown: the next change of topics, or of members, computes it.
        group.replay(&GroupRecord::ConsumerGroup {
            group: name.to_owned(),
            value: Some(ConsumerGroupValue {
                epoch: generation,
                metadata_hash: 0,
            }),
        });
        group.replay(&group.target_epoch_record(generation));
        group.started(moment);
        let records = group.records();
        Ok((group, records))
    }

    /// Whether the group has to move to the classic protocol: all who are left speak that, and it may. To be
    /// asked after every change of members.
    #[must_use]
    pub fn should_downgrade(&self, moment: &Moment<'_>) -> bool {
        !self.members.is_empty()
            && self.members.values().all(super::Member::is_classic)
            && self.members.len() <= moment.settings.max_size as usize
            && moment.settings.migration.allows_downgrade()
    }

    /// The group as a classic one, which has to rebalance, and the records that take this one out of the log.
    /// Each member has what it reads now, never what another may still read.
    #[must_use]
    pub fn to_classic(&self, moment: &Moment<'_>) -> (ClassicPlain, Vec<GroupRecord>) {
        let members = self.members.iter().filter_map(|(id, member)| {
            let details = &member.details;
            let classic = details.classic.as_ref()?;
            Some(ClassicMemberPlain {
                member: id.clone(),
                instance: details.instance.clone(),
                client: details.client.clone(),
                rebalance_timeout_ms: details.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.protocols.clone(),
                assignment: assignment_blob(member, moment.topics),
            })
        });
        let plain = ClassicPlain {
            generation: self.epoch,
            members: members.collect(),
        };
        (plain, self.tombstones())
    }

    fn take_classic(
        &mut self,
        moment: &Moment<'_>,
        generation: i32,
        member: &ClassicMemberPlain,
    ) -> Result<(), ConsumerProtocolError> {
        let metadata = member.protocols.first().map(|(_, metadata)| metadata);
        let metadata = metadata.ok_or(ConsumerProtocolError::Malformed)?;
        let subscription = ConsumerProtocolSubscription::decode(metadata)?;
        let assignment = ConsumerProtocolAssignment::decode(&member.assignment)?;
        let assigned = by_id(&assignment.partitions, moment.topics);
        let details = ConsumerMemberValue {
            instance: member.instance.clone(),
            rack: subscription.rack,
            client: member.client.clone(),
            subscribed_topics: subscription.topics,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            classic: Some(ClassicWithinConsumer {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
            ..nobody()
        };
        let current = Current {
            epoch: generation,
            previous_epoch: generation,
            assigned,
            ..Current::default()
        };
        self.replay(&self.member_record(&member.member, details));
        self.replay(&self.target_record(&member.member, &current.assigned));
        self.replay(&self.current_record(&member.member, &current));
        Ok(())
    }
}
