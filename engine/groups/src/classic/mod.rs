//! A group of the classic protocol: members join, one of them assigns, all sync (KIP-62, with static
//! membership of KIP-345 and KIP-814, and the required member id of KIP-394).
//!
//! ```text
//!            join                     all joined, or time is up             leader's sync
//!   Empty ----------> Preparing ------------------------------> Completing ---------------> Stable
//!     ^                |  ^  ^                                      |                          |
//!     +----------------+  |  +------- a member comes or goes -------+                          |
//!       nobody joined     +---------- a member comes or goes ----------------------------------+
//! ```
//!
//! A group without members and without a protocol type is one that only has offsets ("simple").
//!
//! **Invariant:** outside of Preparing nobody waits for a join; outside of Completing nobody waits for a sync.
//! **Invariant:** a member that waits for either has no session deadline: its connection tells when it is gone
//! ([`crate::Input::Withdrawn`]), and the rebalance ends in bounded time.
//! **Invariant:** what is durable of the group is `written`, whatever state it is in.

mod durable;
mod hold;
mod join;
mod leave;
mod member;
mod migration;
mod rebalance;
mod statics;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{ErrorCode, Timestamp};

use crate::consumer::ConsumerProtocolSubscription;
use crate::deadlines::{Deadlines, after};
use crate::offsets::Expiry;
use crate::record::ClassicGroupValue;
use crate::turn::Turn;
use crate::{GroupState, Ticket};
use member::Member;

/// The protocol type of consumers, whose metadata the coordinator can read.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// A group of the classic protocol.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    name: String,
    state: State,
    /// When it came into its state.
    since: Timestamp,
    generation: i32,
    protocol_type: Option<String>,
    /// The protocol of this generation.
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Static members by `group.instance.id`.
    instances: BTreeMap<String, String>,
    /// Ids that were given out and have not joined yet. They count towards the group's size.
    pending: BTreeSet<String>,
    /// Members of this generation that have not synced yet.
    unsynced: BTreeSet<String>,
    /// By protocol, how many members support it.
    supported: BTreeMap<String, usize>,
    /// How many members wait for their join.
    joining: usize,
    /// The members that wait, by their tickets.
    waiting: BTreeMap<Ticket, String>,
    deadlines: Deadlines<Timer>,
    /// What the log holds of this group.
    written: Option<ClassicGroupValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Preparing(Preparing),
    Completing,
    Stable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Preparing {
    /// The group was empty: it waits a little for more members than the first.
    First {
        /// How long it waits still, after the wait that is under way.
        remaining_ms: i64,
        /// Whether somebody has joined during the wait that is under way.
        has_grown: bool,
    },
    /// It waits for its members to join again.
    Again,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The wait for joins is over.
    Joins,
    /// The wait for syncs is over.
    Syncs,
    /// Nothing was heard of this member, or pending member, for its session timeout.
    Session(String),
    /// A heartbeat of this member has waited for as long as it may.
    Heartbeat(String),
}

impl ClassicGroup {
    pub(crate) fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Empty,
            since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            supported: BTreeMap::new(),
            joining: 0,
            waiting: BTreeMap::new(),
            deadlines: Deadlines::default(),
            written: None,
        }
    }

    /// Everything that is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(timer) = self.deadlines.pop_due(turn.now) {
            match timer {
                Timer::Joins => self.joins_are_over(turn),
                Timer::Syncs => self.syncs_are_over(turn),
                Timer::Session(member) => self.session_is_over(turn, &member),
                Timer::Heartbeat(member) => self.hold_is_over(turn, &member),
            }
        }
    }

    /// Nobody waits for this answer any more: a member that waited is heard of no more, so its session
    /// runs.
    pub(crate) fn withdrawn(&mut self, now: Timestamp, ticket: Ticket) {
        let Some(id) = self.waiting.remove(&ticket) else {
            return;
        };
        if self.withdraw_heartbeat(&id, ticket) {
            // Its session runs already.
            return;
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if member.joining == Some(ticket) {
            member.joining = None;
            self.joining -= 1;
        } else {
            member.syncing = None;
        }
        self.touch(now, &id);
    }

    /// Whether a commit with this identity is allowed, and the member that it is a sign of life of.
    pub(crate) fn may_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(member, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            State::Completing => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::Preparing(_) | State::Stable => Ok(()),
        }
    }

    /// A member was heard of.
    pub(crate) fn touch(&mut self, now: Timestamp, id: &str) {
        if let Some(member) = self.members.get(id)
            && !member.is_waiting()
        {
            let due = after(now, member.session_timeout_ms.into());
            self.deadlines.set(Timer::Session(id.to_owned()), due);
        }
    }

    /// Whether nothing would be lost if the group were forgotten, but for offsets.
    pub(crate) fn is_vacuous(&self) -> bool {
        self.is_empty() && self.written.is_none()
    }

    /// Whether it has neither members nor anybody who is about to become one.
    pub(crate) fn is_empty(&self) -> bool {
        self.has_no_members() && self.pending.is_empty()
    }

    pub(crate) fn has_no_members(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether its members are consumers: the coordinator can read what they subscribe to.
    pub(crate) fn has_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// Whether a member reads the topic. Where the coordinator cannot know, it says yes.
    pub(crate) fn subscription(&self) -> impl Fn(&str) -> bool + use<> {
        let topics = match self.has_no_members() {
            true => Some(BTreeSet::new()),
            false => self.subscribed_topics(),
        };
        move |topic| topics.as_ref().is_none_or(|topics| topics.contains(topic))
    }

    /// Since when its offsets' clock runs; `None`: none expires.
    pub(crate) fn expiry(&self) -> Option<Expiry> {
        match (&self.state, &self.protocol_type) {
            (State::Empty, None) => Some(Expiry::Commit),
            (State::Empty, Some(_)) => Some(Expiry::EmptySince(self.since)),
            (State::Stable, Some(_)) if self.has_consumers() => Some(Expiry::Unsubscribed),
            _ => None,
        }
    }

    pub(crate) const fn state(&self) -> GroupState {
        match self.state {
            State::Empty => GroupState::Empty,
            State::Preparing(_) => GroupState::PreparingRebalance,
            State::Completing => GroupState::CompletingRebalance,
            State::Stable => GroupState::Stable,
        }
    }

    /// Nothing is due before this.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next()
    }

    /// `None` where the members are no consumers, or one's subscription cannot be read.
    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.has_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref());
            topics.extend(ConsumerProtocolSubscription::decode(&metadata).ok()?.topics);
        }
        Some(topics)
    }

    /// A member by its id and, where it is static, its instance.
    fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Nothing is due of this member any more.
    fn forget_timers(&mut self, id: &str) {
        self.deadlines.cancel(&Timer::Session(id.to_owned()));
        self.deadlines.cancel(&Timer::Heartbeat(id.to_owned()));
    }

    fn enter(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.since = now;
    }
}
