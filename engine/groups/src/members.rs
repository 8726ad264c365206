//! A group without its offsets, whichever protocol it runs, and its way from one protocol to the other.
//!
//! A group without members takes the protocol of whoever comes first. One with members moves while it runs, where
//! `group.consumer.migration.policy` lets it: to the broker-driven protocol when its first member of that comes, back
//! when its last one is gone. The records of either are one write, so that no crash leaves a group in between.

use millrace_model::{ErrorCode, Timestamp};

use crate::classic::{CONSUMER_PROTOCOL_TYPE, ClassicGroup};
use crate::consumer::{ConsumerGroup, JOIN_EPOCH};
use crate::offsets::Expiry;
use crate::turn::Turn;
use crate::{
    Client, CommitOffset, ConsumerHeartbeat, DescribedGroup, Failure, FetchOffsets, GroupRecord,
    GroupState, GroupType, Heartbeat, JoinGroup, LeaveGroup, Response, SyncGroup, Ticket,
};

/// See the module.
pub(crate) enum Members {
    /// Of the classic protocol, or none: a group that only has offsets.
    Classic(Box<ClassicGroup>),
    /// Of the broker-driven protocol, some of which may speak the classic one.
    Consumer(Box<ConsumerGroup>),
}

impl Members {
    pub(crate) fn none(name: &str, now: Timestamp) -> Self {
        Self::Classic(Box::new(ClassicGroup::new(name, now)))
    }

    /// Applies a record of the log, other than one of an offset.
    pub(crate) fn replay(&mut self, record: GroupRecord, timestamp: Timestamp) {
        let name = record.group().to_owned();
        match (&mut *self, record) {
            (_, GroupRecord::Offset { .. }) => {}
            (_, GroupRecord::ClassicGroup { value, .. }) => {
                *self = match value {
                    Some(value) => Self::Classic(Box::new(ClassicGroup::replayed(&name, value))),
                    None => Self::none(&name, timestamp),
                };
            }
            (Self::Consumer(_), GroupRecord::ConsumerGroup { value: None, .. }) => {
                *self = Self::none(&name, timestamp);
            }
            (Self::Consumer(group), record) => group.replay(&record),
            // What is left of a group that has gone over to the classic protocol, or is gone.
            (Self::Classic(_), record) if record.is_tombstone() => {}
            (Self::Classic(_), record) => {
                let mut group = ConsumerGroup::new(&name);
                group.replay(&record);
                *self = Self::Consumer(Box::new(group));
            }
        }
    }

    pub(crate) fn loaded(&mut self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => group.loaded(turn),
            Self::Consumer(group) => {
                group.started(&turn.moment());
                turn.records.extend(group.topics_changed(&turn.moment()));
            }
        }
    }

    pub(crate) fn topics_changed(&mut self, turn: &mut Turn<'_>) {
        if let Self::Consumer(group) = self {
            turn.records.extend(group.topics_changed(&turn.moment()));
        }
    }

    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => group.tick(turn),
            Self::Consumer(group) => {
                turn.records.extend(group.expire(&turn.moment()));
                self.downgrade_if_due(turn);
            }
        }
    }

    pub(crate) fn withdrawn(&mut self, turn: &Turn<'_>, ticket: Ticket) {
        match self {
            Self::Classic(group) => group.withdrawn(turn.now, ticket),
            // Nobody waits there.
            Self::Consumer(_) => {}
        }
    }

    pub(crate) fn hurry(&mut self, turn: &mut Turn<'_>, ticket: Ticket) {
        match self {
            Self::Classic(group) => group.hurry(turn, ticket),
            // Nobody waits there.
            Self::Consumer(_) => {}
        }
    }

    pub(crate) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: JoinGroup,
    ) {
        if self.has_no_members() && request.member.is_empty() {
            self.become_classic(turn, &request.group);
        }
        match self {
            Self::Classic(group) => group.join(turn, ticket, client, request),
            Self::Consumer(group) => {
                let name = request.instance.as_ref().unwrap_or(&client.id);
                let new_member = turn.ids.named(name);
                let outcome = group.join_classic(&turn.moment(), &client, &request, &new_member);
                let outcome = outcome.map(|outcome| (outcome.response, outcome.records));
                turn.settle(ticket, outcome);
                // A static member may have taken the place of the last of the broker-driven protocol.
                self.downgrade_if_due(turn);
            }
        }
    }

    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: SyncGroup) {
        match self {
            Self::Classic(group) => group.sync(turn, ticket, request),
            Self::Consumer(group) => {
                let response = group.sync_classic(&turn.moment(), &request);
                turn.settle(ticket, response.map(|response| (response, Vec::new())));
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &Heartbeat) {
        match self {
            Self::Classic(group) => group.heartbeat(turn, ticket, request),
            Self::Consumer(group) => {
                let response = group.heartbeat_classic(&turn.moment(), request);
                turn.settle(ticket, response.map(|response| (response, Vec::new())));
            }
        }
    }

    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &LeaveGroup) {
        match self {
            Self::Classic(group) => {
                let fates = group.leave(turn, &request.members);
                turn.answer(ticket, Response::Left(fates));
            }
            Self::Consumer(group) => {
                let outcome = group.leave_group(&turn.moment(), request);
                turn.settle(ticket, Ok((outcome.response, outcome.records)));
                self.downgrade_if_due(turn);
            }
        }
    }

    pub(crate) fn consumer_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: &Client,
        request: &ConsumerHeartbeat,
    ) {
        let result = match self {
            Self::Consumer(group) => {
                let new_member = turn.ids.uuid();
                group
                    .heartbeat(&turn.moment(), client, request, &new_member)
                    .map(|outcome| (outcome.response, outcome.records))
            }
            Self::Classic(_) => self.upgrade(turn, client, request),
        };
        turn.settle(ticket, result);
        self.downgrade_if_due(turn);
    }

    /// Whether a commit with this identity is allowed; if so, it is a sign of life.
    pub(crate) fn check_commit(
        &mut self,
        now: Timestamp,
        request: &CommitOffset,
    ) -> Result<(), Failure> {
        let (member, epoch) = (&request.member, request.generation_or_epoch);
        match self {
            Self::Classic(group) => {
                group.may_commit(member, request.instance.as_deref(), epoch)?;
                group.touch(now, member);
                Ok(())
            }
            Self::Consumer(group) => group.check_commit(member, epoch),
        }
    }

    /// Whether this member may read the offsets.
    pub(crate) fn check_fetch(&self, request: &FetchOffsets) -> Result<(), Failure> {
        match self {
            // Only members of the other protocol name themselves.
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => {
                group.check_fetch(request.member.as_deref(), request.member_epoch)
            }
        }
    }

    /// Whether it can be told which topics are read.
    pub(crate) fn check_delete_offsets(&self) -> Result<(), Failure> {
        match self {
            Self::Classic(group) if !group.has_no_members() && !group.has_consumers() => {
                Err(ErrorCode::NonEmptyGroup.into())
            }
            Self::Classic(_) | Self::Consumer(_) => Ok(()),
        }
    }

    /// Removes the group from the log, where it is there.
    pub(crate) fn erase(&mut self, records: &mut Vec<GroupRecord>, now: Timestamp) {
        match self {
            Self::Classic(group) => group.erase(records),
            Self::Consumer(group) => {
                let name = group.name().to_owned();
                if group.epoch() > 0 {
                    records.extend(group.tombstones());
                }
                *self = Self::none(&name, now);
            }
        }
    }

    /// What the log holds.
    pub(crate) fn snapshot(&self, records: &mut Vec<GroupRecord>) {
        match self {
            Self::Classic(group) => records.extend(group.durable()),
            Self::Consumer(group) => records.extend(group.records()),
        }
    }

    /// Whether nothing would be lost if it were forgotten.
    pub(crate) fn is_vacuous(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_vacuous(),
            Self::Consumer(group) => group.members().is_empty() && group.epoch() == 0,
        }
    }

    /// Whether there are neither members nor anybody who is about to become one.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.members().is_empty(),
        }
    }

    pub(crate) fn has_no_members(&self) -> bool {
        match self {
            Self::Classic(group) => group.has_no_members(),
            Self::Consumer(group) => group.members().is_empty(),
        }
    }

    /// Since when the offsets' clock runs; `None`: none expires.
    pub(crate) fn expiry(&self) -> Option<Expiry> {
        match self {
            Self::Classic(group) => group.expiry(),
            // The log does not hold since when it is empty.
            Self::Consumer(_) => Some(Expiry::Unsubscribed),
        }
    }

    /// Tells whether a member reads a topic. Where that cannot be known, it says yes.
    pub(crate) fn subscription(&self) -> Box<dyn Fn(&str) -> bool + '_> {
        match self {
            Self::Classic(group) => Box::new(group.subscription()),
            Self::Consumer(group) => Box::new(|topic| group.is_subscribed_to(topic)),
        }
    }

    pub(crate) const fn group_type(&self) -> GroupType {
        match self {
            Self::Classic(_) => GroupType::Classic,
            Self::Consumer(_) => GroupType::Consumer,
        }
    }

    pub(crate) fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(group) => group.protocol_type().unwrap_or_default(),
            Self::Consumer(_) => CONSUMER_PROTOCOL_TYPE,
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        match self {
            Self::Classic(group) => group.state(),
            Self::Consumer(group) => group.state(),
        }
    }

    pub(crate) fn describe(&self, turn: &Turn<'_>) -> DescribedGroup {
        match self {
            Self::Classic(group) => group.describe(),
            Self::Consumer(group) => group.describe(turn.topics, turn.settings),
        }
    }

    /// Nothing is due before this.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Classic(group) => group.next_deadline(),
            Self::Consumer(group) => group.next_deadline(),
        }
    }

    /// A group without members takes the protocol of whoever comes.
    fn become_classic(&mut self, turn: &mut Turn<'_>, name: &str) {
        if let Self::Consumer(group) = self {
            if group.epoch() > 0 {
                turn.records.extend(group.tombstones());
            }
            *self = Self::none(name, turn.now);
        }
    }

    /// The first member of the broker-driven protocol comes to a classic group, or one without members.
    /// Where it is refused, the group stays as it is.
    fn upgrade(
        &mut self,
        turn: &mut Turn<'_>,
        client: &Client,
        request: &ConsumerHeartbeat,
    ) -> Result<(Response, Vec<GroupRecord>), Failure> {
        let Self::Classic(classic) = self else {
            return Err(ErrorCode::GroupIdNotFound.into());
        };
        let has_no_members = classic.has_no_members();
        if request.member_epoch != JOIN_EPOCH || !(has_no_members || classic.has_consumers()) {
            return Err(ErrorCode::GroupIdNotFound.into());
        }
        let moment = turn.moment();
        let (mut group, made) = match has_no_members {
            true => (ConsumerGroup::new(&request.group), Vec::new()),
            false => ConsumerGroup::from_classic(&moment, &request.group, &classic.plain())?,
        };
        let new_member = turn.ids.uuid();
        let outcome = group.heartbeat(&moment, client, request, &new_member)?;
        let mut records = Vec::new();
        classic.erase(&mut records);
        classic.send_back(turn);
        records.extend(made);
        records.extend(outcome.records);
        // A static member that took another's place has changed nothing of the group; but what the classic leader
        // dealt out may not be all that there is.
        records.extend(group.topics_changed(&moment));
        *self = Self::Consumer(Box::new(group));
        Ok((outcome.response, records))
    }

    /// The last member of the broker-driven protocol may be gone.
    fn downgrade_if_due(&mut self, turn: &mut Turn<'_>) {
        let moment = turn.moment();
        if let Self::Consumer(group) = self
            && group.should_downgrade(&moment)
        {
            let (plain, tombstones) = group.to_classic(&moment);
            turn.records.extend(tombstones);
            let classic = ClassicGroup::from_plain(group.name(), plain, turn);
            *self = Self::Classic(Box::new(classic));
        }
    }
}
