//! The heartbeat: join, stay, reconcile, leave.

use millrace_model::ErrorCode;

use super::member::nobody;
use super::timers::Duty;
use super::{
    ConsumerGroup, Current, JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Member, Moment, Outcome,
    Partitions, failure, reconcile, request,
};
use crate::record::ConsumerMemberValue;
use crate::{Client, ConsumerHeartbeat, Failure, GroupRecord, Response};

/// How a member comes to a group, once it has been found that it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is new.
    Joins,
    /// It is known.
    Stays,
    /// It takes the static identity of this member, who is no more.
    TakesOver(String),
}

/// A member that comes, with what it brings. Nothing can fail any more.
pub(super) struct Arrival {
    pub(super) member: String,
    pub(super) admission: Admission,
    pub(super) details: ConsumerMemberValue,
    /// What a regular expression that is new to the group stands for.
    pub(super) regex: Option<Vec<String>>,
    /// What it says that it reads.
    pub(super) owned: Option<Partitions>,
}

impl ConsumerGroup {
    /// Serves a heartbeat. `new_member` is the id for a member that joins without one.
    ///
    /// # Errors
    /// As Kafka's; the group is as it was then. A group that stays without members and without an
    /// epoch need not be kept.
    pub fn heartbeat(
        &mut self,
        moment: &Moment<'_>,
        client: &Client,
        request: &ConsumerHeartbeat,
        new_member: &str,
    ) -> Result<Outcome, Failure> {
        request::check(request, moment.settings)?;
        match request.member_epoch {
            LEAVE_EPOCH => self.leave(moment, request),
            LEAVE_STATIC_EPOCH => self.leave_for_a_while(moment, request),
            _ => self.stay(moment, client, request, new_member),
        }
    }

    /// Whether the member may commit offsets.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownMemberId`], [`ErrorCode::StaleMemberEpoch`], and
    /// [`ErrorCode::IllegalGeneration`] for a member of the classic protocol.
    pub fn check_commit(&self, member: &str, epoch: i32) -> Result<(), Failure> {
        match epoch < 0 && self.members.is_empty() {
            true => Ok(()),
            false => self.check_current_epoch(member, epoch),
        }
    }

    /// Whether the member may read offsets. Who names no member, and no epoch, may.
    ///
    /// # Errors
    /// As [`ConsumerGroup::check_commit`].
    pub fn check_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), Failure> {
        match member {
            None if epoch < 0 => Ok(()),
            member => self.check_current_epoch(member.unwrap_or_default(), epoch),
        }
    }

    fn stay(
        &mut self,
        moment: &Moment<'_>,
        client: &Client,
        request: &ConsumerHeartbeat,
        new_member: &str,
    ) -> Result<Outcome, Failure> {
        let id = match request.member.as_str() {
            "" => new_member,
            id => id,
        };
        let owned = request.owned.as_deref().map(Partitions::from_list);
        let admission = self.admit(moment, id, request, owned.as_ref())?;
        let before = self.arriving(id, &admission).cloned().unwrap_or_default();
        let details = described(&before.details, client, request);
        let regex = self.resolve_new(&details, moment)?;
        let mut records = Vec::new();
        let arrival = Arrival {
            member: id.to_owned(),
            admission,
            details,
            regex,
            owned,
        };
        self.settle(moment, arrival, &mut records);
        if before.is_classic() {
            self.timers.clear(id, Duty::Join);
            self.timers.clear(id, Duty::Sync);
        }
        let current = &self.members[id].current;
        // A member that names the epoch before has missed an answer.
        let missed = request.member_epoch < before.current.epoch;
        let news = current.assigned != before.current.assigned;
        let response = Response::ConsumerHeartbeat {
            member: id.to_owned(),
            member_epoch: current.epoch,
            heartbeat_interval_ms: moment.settings.consumer_heartbeat_interval_ms,
            assignment: (request::is_full(request) || missed || news)
                .then(|| current.assigned.to_list()),
        };
        Ok(Outcome { response, records })
    }

    /// Takes the member in, raises the epoch if need be, computes the target if need be, and leads the
    /// member one step towards it. Sets its timers.
    pub(super) fn settle(
        &mut self,
        moment: &Moment<'_>,
        arrival: Arrival,
        records: &mut Vec<GroupRecord>,
    ) {
        let Arrival {
            member: id,
            admission,
            details,
            regex,
            owned,
        } = arrival;
        let before = self.arriving(&id, &admission).map(|member| &member.details);
        let subscribes_anew = before.is_none_or(|before| {
            before.subscribed_topics != details.subscribed_topics
                || before.subscribed_regex != details.subscribed_regex
        });
        let changed = before != Some(&details);
        if let (Some(expression), Some(topics)) = (&details.subscribed_regex, regex) {
            self.write_regex(moment, expression.clone(), topics, records);
        }
        if let Admission::TakesOver(old) = &admission {
            self.replace_member(old, &id, details, records);
        } else if changed {
            let record = self.member_record(&id, details);
            self.write(records, record);
        }
        if subscribes_anew {
            self.drop_unused_regexes(records);
            self.raise_epoch(moment.topics, records);
        }
        self.retarget(moment, records);
        self.reconcile_member(moment, &id, owned.as_ref(), records);
        self.renew_session(moment, &id);
    }

    fn reconcile_member(
        &mut self,
        moment: &Moment<'_>,
        id: &str,
        owned: Option<&Partitions>,
        records: &mut Vec<GroupRecord>,
    ) {
        let nothing = Partitions::new();
        let goal = reconcile::Goal {
            epoch: self.target_epoch,
            target: self.targets.get(id).unwrap_or(&nothing),
        };
        let current = &self.members[id].current;
        let held = |topic, partition| self.held(topic, partition);
        let next = reconcile::reconcile(current, goal, owned, held);
        if next != *current {
            let record = self.current_record(id, &next);
            self.write(records, record);
            self.watch_revocation(moment, id);
        }
    }

    fn admit(
        &self,
        moment: &Moment<'_>,
        id: &str,
        request: &ConsumerHeartbeat,
        owned: Option<&Partitions>,
    ) -> Result<Admission, Failure> {
        let joins = request.member_epoch == JOIN_EPOCH;
        if let Some(instance) = &request.instance {
            match self.instances.get(instance) {
                None if !joins => return Err(unknown_instance(instance)),
                Some(holder) if holder != id && !joins => return Err(fenced_instance(instance)),
                Some(holder) if holder != id => return self.take_over(holder, id, instance),
                _ => {}
            }
        }
        match self.members.get(id) {
            Some(member) => {
                check_epoch(member, request.member_epoch, owned).map(|()| Admission::Stays)
            }
            None if joins => self.check_room(moment).map(|()| Admission::Joins),
            None => Err(unknown(id)),
        }
    }

    fn take_over(&self, holder: &str, id: &str, instance: &str) -> Result<Admission, Failure> {
        let member = &self.members[holder];
        if !member.is_away() && !member.is_classic() {
            return Err(failure(
                ErrorCode::UnreleasedInstanceId,
                format!("instance id `{instance}` belongs to member `{holder}`, who has not left"),
            ));
        }
        match self.members.contains_key(id) {
            true => Err(failure(
                ErrorCode::InvalidRequest,
                format!("member `{id}` is there already, without instance id `{instance}`"),
            )),
            false => Ok(Admission::TakesOver(holder.to_owned())),
        }
    }

    /// Whether one more member fits.
    pub(super) fn check_room(&self, moment: &Moment<'_>) -> Result<(), Failure> {
        let max = moment.settings.consumer_max_size;
        match self.members.len() < max as usize {
            true => Ok(()),
            false => Err(failure(
                ErrorCode::GroupMaxSizeReached,
                format!("the group has {max} members, as many as it may have"),
            )),
        }
    }

    /// Who the one that comes is so far.
    pub(super) fn arriving(&self, id: &str, admission: &Admission) -> Option<&Member> {
        match admission {
            Admission::Joins => None,
            Admission::Stays => self.members.get(id),
            Admission::TakesOver(old) => self.members.get(old),
        }
    }

    fn leave(
        &mut self,
        moment: &Moment<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<Outcome, Failure> {
        let id = self.identify(&request.member, request.instance.as_deref())?;
        let mut records = Vec::new();
        self.remove_members(moment, &[id], &mut records);
        Ok(left(request, records))
    }

    /// What it was to give up is free now; what it has is kept for it until its session ends.
    fn leave_for_a_while(
        &mut self,
        moment: &Moment<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<Outcome, Failure> {
        let id = self.identify(&request.member, request.instance.as_deref())?;
        let away = Current {
            epoch: LEAVE_STATIC_EPOCH,
            pending_revocation: Partitions::new(),
            ..self.members[&id].current.clone()
        };
        let mut records = Vec::new();
        let record = self.current_record(&id, &away);
        self.write(&mut records, record);
        self.watch_revocation(moment, &id);
        for duty in [Duty::Join, Duty::Sync] {
            self.timers.clear(&id, duty);
        }
        Ok(left(request, records))
    }

    /// The member of this id, who must have the instance id if there is one.
    pub(super) fn identify(&self, id: &str, instance: Option<&str>) -> Result<String, Failure> {
        let Some(instance) = instance else {
            return match self.members.contains_key(id) {
                true => Ok(id.to_owned()),
                false => Err(unknown(id)),
            };
        };
        match self.instances.get(instance) {
            None => Err(unknown_instance(instance)),
            Some(holder) if holder != id => Err(fenced_instance(instance)),
            Some(holder) => Ok(holder.clone()),
        }
    }

    fn check_current_epoch(&self, id: &str, epoch: i32) -> Result<(), Failure> {
        let member = self.members.get(id).ok_or_else(|| unknown(id))?;
        if epoch == member.current.epoch {
            return Ok(());
        }
        let code = match member.is_classic() {
            true => ErrorCode::IllegalGeneration,
            false => ErrorCode::StaleMemberEpoch,
        };
        let current = member.current.epoch;
        Err(failure(
            code,
            format!("the member's epoch is {current}, not {epoch}"),
        ))
    }
}

/// A member that comes again with epoch 0 has given all up. One that names the epoch before, and reads
/// nothing but what it may, has missed an answer.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Failure> {
    let Current {
        epoch: current,
        previous_epoch,
        assigned,
        ..
    } = &member.current;
    let missed = epoch == *previous_epoch && owned.is_some_and(|owned| owned.is_subset(assigned));
    match epoch == JOIN_EPOCH || epoch == *current || (epoch < *current && missed) {
        true => Ok(()),
        false => Err(failure(
            ErrorCode::FencedMemberEpoch,
            format!(
                "the member's epoch is {current}, not {epoch}: give up all partitions and join again"
            ),
        )),
    }
}

/// What the member has said of itself by now.
fn described(
    before: &ConsumerMemberValue,
    client: &Client,
    request: &ConsumerHeartbeat,
) -> ConsumerMemberValue {
    let mut names = match &request.subscribed_topics {
        Some(names) => names.clone(),
        None => before.subscribed_topics.clone(),
    };
    names.sort_unstable();
    names.dedup();
    ConsumerMemberValue {
        instance: request.instance.clone().or_else(|| before.instance.clone()),
        rack: request.rack.clone().or_else(|| before.rack.clone()),
        client: client.clone(),
        subscribed_topics: names,
        subscribed_regex: match &request.subscribed_regex {
            Some(regex) => Some(regex.clone()).filter(|regex| !regex.is_empty()),
            None => before.subscribed_regex.clone(),
        },
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            ms => ms,
        },
        assignor: request.assignor.clone().or_else(|| before.assignor.clone()),
        ..nobody()
    }
}

fn left(request: &ConsumerHeartbeat, records: Vec<GroupRecord>) -> Outcome {
    let response = Response::ConsumerHeartbeat {
        member: request.member.clone(),
        member_epoch: request.member_epoch,
        heartbeat_interval_ms: 0,
        assignment: None,
    };
    Outcome { response, records }
}

pub(super) fn unknown(id: &str) -> Failure {
    failure(
        ErrorCode::UnknownMemberId,
        format!("the group has no member `{id}`"),
    )
}

pub(super) fn unknown_instance(instance: &str) -> Failure {
    failure(
        ErrorCode::UnknownMemberId,
        format!("the group has no member with instance id `{instance}`"),
    )
}

pub(super) fn fenced_instance(instance: &str) -> Failure {
    failure(
        ErrorCode::FencedInstanceId,
        format!("another member has taken instance id `{instance}`"),
    )
}
