//! Members of the classic protocol within a group of the broker-driven one, while an application is moved
//! from one to the other. They have no leader: the broker assigns, and their epoch is their generation.
//!
//! A join is what a heartbeat is for the others. A member that has to give something up is told so by the
//! assignment of its sync, and joins again when it has; one that has to join again learns it from its heartbeat.

use bytes::Bytes;
use millrace_model::ErrorCode;

use super::describe::PROTOCOL_TYPE;
use super::heartbeat::{Admission, Arrival, fenced_instance, unknown, unknown_instance};
use super::limits::MAX_ID_LEN;
use super::member::nobody;
use super::timers::Duty;
use super::{
    ConsumerGroup, ConsumerProtocolAssignment, ConsumerProtocolSubscription, Member, Moment,
    Outcome, Partitions, failure,
};
use crate::record::{ClassicWithinConsumer, ConsumerMemberValue, MemberState};
use crate::{
    Client, Failure, Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeavingMember, Response,
    SyncGroup, TopicsImage,
};

impl ConsumerGroup {
    /// Serves a join. `new_member` is the id for a member that comes without one. The session timeout's
    /// bounds are the caller's to check.
    ///
    /// # Errors
    /// As Kafka's; the group is as it was then.
    pub fn join_classic(
        &mut self,
        moment: &Moment<'_>,
        client: &Client,
        request: &JoinGroup,
        new_member: &str,
    ) -> Result<Outcome, Failure> {
        let is_new = request.member.is_empty();
        let id = match is_new {
            true => new_member,
            false => &request.member,
        };
        let admission = self.admit_classic(moment, id, request)?;
        self.check_protocols(request, &admission)?;
        let metadata = request.protocols.first().map(|(_, metadata)| metadata);
        let metadata = metadata.ok_or_else(|| inconsistent("a consumer names its assignors"))?;
        let subscription = ConsumerProtocolSubscription::decode(metadata)
            .map_err(|error| inconsistent(&error.to_string()))?;
        if admission == Admission::Joins && !is_new && !subscription.owned.is_empty() {
            // It was removed, and does not know: what it reads others may read by now.
            return Err(unknown(id));
        }
        if is_new && request.needs_member_id && request.instance.is_none() {
            return Ok(Outcome {
                response: Response::MemberIdRequired {
                    member: id.to_owned(),
                },
                records: Vec::new(),
            });
        }
        let before = self.arriving(id, &admission);
        let details = described(before, client, request, &subscription);
        let mut records = Vec::new();
        let arrival = Arrival {
            member: id.to_owned(),
            admission,
            details,
            regex: None,
            owned: Some(by_id(&subscription.owned, moment.topics)),
        };
        self.settle(moment, arrival, &mut records);
        self.timers.clear(id, Duty::Join);
        let wait = moment.after(i64::from(request.rebalance_timeout_ms));
        self.timers.set(id, Duty::Sync, wait);
        let response = Response::Joined(JoinedGroup {
            generation: self.members[id].current.epoch,
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: request.protocols.first().map(|(name, _)| name.clone()),
            leader: String::new(),
            skip_assignment: false,
            member: id.to_owned(),
            members: Vec::new(),
        });
        Ok(Outcome { response, records })
    }

    /// Serves a sync: what the member may read now.
    ///
    /// # Errors
    /// As Kafka's.
    pub fn sync_classic(
        &mut self,
        moment: &Moment<'_>,
        request: &SyncGroup,
    ) -> Result<Response, Failure> {
        let id = self.identify(&request.member, request.instance.as_deref())?;
        let (member, classic) = self.classic(&id, request.generation)?;
        let protocol = classic.protocols.first();
        let named = |sent: &Option<String>, ours: Option<&str>| {
            sent.as_deref().is_none_or(|sent| Some(sent) == ours)
        };
        if !named(&request.protocol_type, Some(PROTOCOL_TYPE))
            || !named(
                &request.protocol_name,
                protocol.map(|(name, _)| name.as_str()),
            )
        {
            return Err(inconsistent(
                "the protocol is not the one that the join was answered with",
            ));
        }
        // One that gives up has joined already, and joins again by itself when it has.
        if self.epoch > member.current.epoch
            && member.current.state != MemberState::UnrevokedPartitions
        {
            self.await_join(moment, &id);
            return Err(failure(
                ErrorCode::RebalanceInProgress,
                "the group rebalances: join again",
            ));
        }
        let assignment = assignment_blob(member, moment.topics);
        self.timers.clear(&id, Duty::Sync);
        self.renew_session(moment, &id);
        Ok(Response::Synced {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
        })
    }

    /// Serves a heartbeat of the classic protocol. [`ErrorCode::RebalanceInProgress`]: join again, for
    /// there is a new target, or something to give up, or what the member waits for is free.
    ///
    /// # Errors
    /// As Kafka's.
    pub fn heartbeat_classic(
        &mut self,
        moment: &Moment<'_>,
        request: &Heartbeat,
    ) -> Result<Response, Failure> {
        let id = self.identify(&request.member, request.instance.as_deref())?;
        let (member, _) = self.classic(&id, request.generation)?;
        let must_join = self.epoch > member.current.epoch
            || match member.current.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(&id, member),
            };
        self.renew_session(moment, &id);
        if must_join {
            self.await_join(moment, &id);
            return Err(failure(
                ErrorCode::RebalanceInProgress,
                "the group rebalances: join again",
            ));
        }
        Ok(Response::Done)
    }

    /// Serves a leave: of members of either protocol, for administrators remove members so too.
    pub fn leave_group(&mut self, moment: &Moment<'_>, request: &LeaveGroup) -> Outcome {
        let mut fates = Vec::new();
        let mut leaving = Vec::new();
        for member in &request.members {
            match self.identify_leaving(member) {
                Ok(id) if leaving.contains(&id) => fates.push(ErrorCode::UnknownMemberId),
                Ok(id) => {
                    leaving.push(id);
                    fates.push(ErrorCode::None);
                }
                Err(failure) => fates.push(failure.code),
            }
        }
        let mut records = Vec::new();
        self.remove_members(moment, &leaving, &mut records);
        Outcome {
            response: Response::Left(fates),
            records,
        }
    }

    fn admit_classic(
        &self,
        moment: &Moment<'_>,
        id: &str,
        request: &JoinGroup,
    ) -> Result<Admission, Failure> {
        let ids = [Some(&request.member), request.instance.as_ref()];
        if ids.into_iter().flatten().any(|id| id.len() > MAX_ID_LEN) {
            return Err(failure(
                ErrorCode::InvalidRequest,
                format!("ids of members and instances have {MAX_ID_LEN} bytes at most"),
            ));
        }
        let is_new = request.member.is_empty();
        if let Some(instance) = &request.instance {
            match self.instances.get(instance) {
                Some(holder) if is_new => return Ok(Admission::TakesOver(holder.clone())),
                Some(holder) if holder != id => return Err(fenced_instance(instance)),
                None if !is_new => return Err(unknown_instance(instance)),
                _ => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(Admission::Stays),
            false => self.check_room(moment).map(|()| Admission::Joins),
        }
    }

    /// Some assignor must be common to all classic members, or they could not go back to a classic group.
    fn check_protocols(&self, request: &JoinGroup, admission: &Admission) -> Result<(), Failure> {
        let replaced = match admission {
            Admission::TakesOver(old) => Some(old.as_str()),
            Admission::Stays => Some(request.member.as_str()),
            Admission::Joins => None,
        };
        let others = || {
            let others = self.members.iter();
            let others = others.filter(|(id, _)| Some(id.as_str()) != replaced);
            others.filter_map(|(_, member)| member.details.classic.as_ref())
        };
        let has = |classic: &ClassicWithinConsumer, name: &String| {
            classic.protocols.iter().any(|(other, _)| other == name)
        };
        let common = |(name, _): &(String, Bytes)| others().all(|classic| has(classic, name));
        match request.protocol_type == PROTOCOL_TYPE && request.protocols.iter().any(common) {
            true => Ok(()),
            false => Err(inconsistent(
                "the group is one of consumers, and no assignor is common to all that use the classic protocol",
            )),
        }
    }

    /// A member of the classic protocol at this generation.
    fn classic(
        &self,
        id: &str,
        generation: i32,
    ) -> Result<(&Member, &ClassicWithinConsumer), Failure> {
        let member = self.members.get(id).ok_or_else(|| unknown(id))?;
        let Some(classic) = &member.details.classic else {
            return Err(failure(
                ErrorCode::UnknownMemberId,
                format!("member `{id}` does not use the classic protocol"),
            ));
        };
        match member.current.epoch {
            epoch if epoch == generation => Ok((member, classic)),
            epoch => Err(failure(
                ErrorCode::IllegalGeneration,
                format!("the member's generation is {epoch}, not {generation}"),
            )),
        }
    }

    /// Whether something that the member shall read is still read by others.
    fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        let Some(target) = self.targets.get(id) else {
            return false;
        };
        let missing = target.difference(&member.current.assigned);
        missing
            .iter()
            .any(|(topic, partition)| self.held(topic, partition) > 0)
    }

    /// The member was told to join, and has the time of a rebalance for it.
    fn await_join(&mut self, moment: &Moment<'_>, id: &str) {
        let ms = i64::from(self.members[id].details.rebalance_timeout_ms);
        self.timers.set_if_absent(id, Duty::Join, moment.after(ms));
    }

    fn identify_leaving(&self, leaving: &LeavingMember) -> Result<String, Failure> {
        match &leaving.instance {
            // An administrator names the instance only.
            Some(instance) if leaving.member.is_empty() => {
                let holder = self.instances.get(instance).cloned();
                holder.ok_or_else(|| unknown_instance(instance))
            }
            instance => self.identify(&leaving.member, instance.as_deref()),
        }
    }
}

fn inconsistent(why: &str) -> Failure {
    failure(ErrorCode::InconsistentGroupProtocol, why)
}

fn described(
    before: Option<&Member>,
    client: &Client,
    request: &JoinGroup,
    subscription: &ConsumerProtocolSubscription,
) -> ConsumerMemberValue {
    let before = before.map(|member| &member.details);
    let mut subscribed_topics = subscription.topics.clone();
    subscribed_topics.sort_unstable();
    subscribed_topics.dedup();
    ConsumerMemberValue {
        instance: request
            .instance
            .clone()
            .or_else(|| before.and_then(|before| before.instance.clone())),
        rack: subscription.rack.clone(),
        client: client.clone(),
        subscribed_topics,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        classic: Some(ClassicWithinConsumer {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        }),
        ..nobody()
    }
}

/// The member's assignment, in the version of its subscription. Partitions of topics that are gone
/// are left out.
pub(super) fn assignment_blob(member: &Member, topics: &TopicsImage) -> Bytes {
    let classic = member.details.classic.as_ref();
    let metadata = classic.and_then(|classic| classic.protocols.first());
    let version = metadata
        .and_then(|(_, blob)| ConsumerProtocolSubscription::decode(blob).ok())
        .map_or(0, |subscription| subscription.version);
    let named = member
        .current
        .assigned
        .by_topic()
        .filter_map(|(topic, partitions)| {
            Some((
                topics.by_id.get(&topic)?.clone(),
                partitions.iter().copied().collect(),
            ))
        });
    let assignment = ConsumerProtocolAssignment {
        version,
        partitions: named.collect(),
    };
    assignment.encode()
}

/// By the topics' ids, as far as the partitions exist.
pub(super) fn by_id(named: &[(String, Vec<u32>)], topics: &TopicsImage) -> Partitions {
    let known = named
        .iter()
        .filter_map(|(name, partitions)| Some((topics.by_name.get(name)?, partitions)));
    known
        .flat_map(|(topic, partitions)| {
            let existing = partitions
                .iter()
                .filter(|partition| **partition < topic.partitions);
            existing.map(|partition| (topic.id, *partition))
        })
        .collect()
}
