//! A classic group that becomes one of the broker-driven protocol, and back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millrace_model::ErrorCode;

use super::hold::Hold;
use super::{CONSUMER_PROTOCOL_TYPE, ClassicGroup, Member, State};
use crate::consumer::{
    ClassicMemberPlain, ClassicPlain, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use crate::turn::Turn;

impl ClassicGroup {
    /// The group with its members and all that each of them may read: what it was last assigned, and what it said
    /// that it owns when it joined. The leader may have taken that away already, but the member has not heard of it.
    pub(crate) fn plain(&self) -> ClassicPlain {
        let in_use = self.protocol.as_deref();
        ClassicPlain {
            generation: self.generation,
            members: self
                .members
                .iter()
                .map(|(id, member)| member.plain(id, in_use))
                .collect(),
        }
    }

    /// A group that comes back from the broker-driven protocol. It has to rebalance: what the last member of that read
    /// is nobody's. The log says so by naming no leader, for the case that the coordinator starts again meanwhile.
    pub(crate) fn from_plain(name: &str, plain: ClassicPlain, turn: &mut Turn<'_>) -> Self {
        let mut group = Self::new(name, turn.now);
        group.state = State::Stable;
        group.generation = plain.generation;
        group.protocol_type = Some(CONSUMER_PROTOCOL_TYPE.to_owned());
        for member in plain.members {
            group.insert_member(
                member.member,
                Member {
                    instance: member.instance,
                    client: member.client,
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: member.protocols,
                    assignment: member.assignment,
                    joining: None,
                    syncing: None,
                    hold: Hold::default(),
                },
            );
        }
        group.protocol = group.choose_protocol();
        group.write(turn);
        let ids: Vec<String> = group.members.keys().cloned().collect();
        for id in &ids {
            group.touch(turn.now, id);
        }
        group.begin_again(turn);
        group
    }

    /// Everybody who waits has to join again.
    pub(crate) fn send_back(&mut self, turn: &mut Turn<'_>) {
        for ticket in std::mem::take(&mut self.waiting).into_keys() {
            turn.fail(ticket, ErrorCode::RebalanceInProgress);
        }
    }
}

impl Member {
    /// With the protocol in use first.
    fn plain(&self, id: &str, in_use: Option<&str>) -> ClassicMemberPlain {
        let mut protocols = self.protocols.clone();
        protocols.sort_by_key(|(name, _)| Some(name.as_str()) != in_use);
        ClassicMemberPlain {
            member: id.to_owned(),
            instance: self.instance.clone(),
            client: self.client.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols,
            assignment: self.may_read(in_use),
        }
    }

    /// The assignment, and what the member said that it owns. Blobs that cannot be read are left to whoever needs to.
    fn may_read(&self, in_use: Option<&str>) -> Bytes {
        let said = ConsumerProtocolSubscription::decode(&self.metadata(in_use));
        let assigned = ConsumerProtocolAssignment::decode(&self.assignment);
        let (Ok(said), Ok(assigned)) = (said, assigned) else {
            return self.assignment.clone();
        };
        let mut all: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (topic, partitions) in said.owned.into_iter().chain(assigned.partitions) {
            all.entry(topic).or_default().extend(partitions);
        }
        let partitions = all.into_iter();
        let union = ConsumerProtocolAssignment {
            version: said.version,
            partitions: partitions
                .map(|(topic, partitions)| (topic, partitions.into_iter().collect()))
                .collect(),
        };
        union.encode()
    }
}
