//! A classic group that becomes one of the broker-driven protocol, and back.

use millrace_model::ErrorCode;

use super::{CONSUMER_PROTOCOL_TYPE, ClassicGroup, Member, State};
use crate::consumer::{ClassicMemberPlain, ClassicPlain};
use crate::turn::Turn;

impl ClassicGroup {
    /// The group with its members and what each of them reads, as far as is known: what it was last assigned,
    /// which it may still read while a rebalance is under way.
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

    /// A group that comes back from the broker-driven protocol. It has to rebalance: nobody has led it so far.
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
                },
            );
        }
        group.leader = group.members.keys().next().cloned();
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
            assignment: self.assignment.clone(),
        }
    }
}
