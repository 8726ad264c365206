//! A partition's leader: how far each replica has come, who is in sync, and the high
//! watermark.
//!
//! The rules are Kafka's as its specification states them (KIP-966 and the TLA+ models of it):
//!
//! - The high watermark is the lowest end over the *maximal* in-sync set: the committed set
//!   and, while a change of it is under way, the proposed one. A member that is to join counts
//!   at once; one that is to leave counts until its leaving is committed.
//! - A follower counts from the first fetch of this leader epoch that it sent; before that
//!   its end is unknown, hence zero.
//! - The high watermark never falls, and stands still while fewer than
//!   `min.insync.replicas` (at most the replicas there are) are in the committed set.
//! - `acks=all` is refused before the append while the set is too small. When an append is
//!   acknowledged, [`Leader::admit`] tells whether the set has become too small since.
//! - A follower may join when its end has reached both the high watermark and the start of
//!   this leader's epoch. One change of the set is under way at a time.
//!
//! **Invariant:** the leader is a member of the set.
//! **Invariant:** each effect states what it means by itself; none has to be seen in order.
//!
//! Absent here: the log (ends are inputs), who decides about a proposed set (the metadata
//! quorum), and fencing of brokers (such a follower is handed over as ineligible).

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};

/// What stays the same while this broker leads in this epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderSettings {
    /// This broker.
    pub broker: BrokerId,
    /// Every replica, the leader among them.
    pub replicas: BTreeSet<BrokerId>,
    /// The committed in-sync set at the start, the leader in it.
    pub in_sync: BTreeSet<BrokerId>,
    /// Version of that set (KIP-841's partition epoch).
    pub partition_epoch: u32,
    /// The epoch of this leadership.
    pub epoch: LeaderEpoch,
    /// The log's durable end when this leadership began.
    pub epoch_start: Offset,
    /// The high watermark that was known by then; zero if none.
    pub high_watermark: Offset,
    /// `min.insync.replicas`.
    pub min_in_sync: u32,
    /// `replica.lag.time.max.ms`.
    pub max_lag_ms: i64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The leader's own log counts up to this end: durable, or with `write.caching`
    /// accepted.
    LocalEnd(Offset),
    /// A follower fetched in this epoch: everything below `end` is durable there.
    Fetched {
        /// The follower.
        replica: BrokerId,
        /// The leader epoch that it believes in.
        epoch: LeaderEpoch,
        /// Its durable end.
        end: Offset,
        /// Whether it may join the set: neither fenced nor shutting down, and of the broker
        /// epoch that the metadata knows (KIP-903).
        eligible: bool,
        /// The time.
        now: Timestamp,
    },
    /// Time has passed: who lags is proposed to leave.
    Tick(Timestamp),
    /// The quorum committed this set.
    Committed(InSyncChange),
    /// The quorum refused the proposed set.
    Rejected {
        /// Version on which the proposal was made.
        partition_epoch: u32,
        /// Whether the refusal is final.
        rejection: Rejection,
    },
    /// `min.insync.replicas` changed.
    MinInSync(u32),
}

/// What to make of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The proposal was not carried out and never will be: back to the committed set.
    NotAttempted,
    /// It may have been carried out: count both sets until the metadata tells.
    Unknown,
}

/// An in-sync set and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSyncChange {
    /// The set.
    pub in_sync: BTreeSet<BrokerId>,
    /// Its version. A proposal carries the version that it replaces.
    pub partition_epoch: u32,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Everything below is committed: acknowledge it, show it to consumers.
    HighWatermark(Offset),
    /// Ask the quorum for this set.
    Propose(InSyncChange),
    /// Answer this follower with an error instead of data.
    Refuse {
        /// The follower.
        replica: BrokerId,
        /// Why.
        code: ErrorCode,
    },
}

/// Whether a produce with `acks=all` is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Append it.
    Accept,
    /// Refuse it with `NOT_ENOUGH_REPLICAS`.
    NotEnoughReplicas,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    /// Its durable end, known since its first fetch of this epoch.
    end: Option<Offset>,
    /// The latest time at which it had all that the leader had.
    caught_up: Timestamp,
    /// The leader's end at its last fetch, and when that was.
    last_fetch: Option<(Offset, Timestamp)>,
}

/// The state of a leadership.
#[derive(Clone, Debug)]
pub struct Leader {
    settings: LeaderSettings,
    local_end: Offset,
    followers: BTreeMap<BrokerId, Follower>,
    in_sync: BTreeSet<BrokerId>,
    partition_epoch: u32,
    proposed: Option<BTreeSet<BrokerId>>,
    high_watermark: Offset,
}

impl Leader {
    /// A leadership that begins now.
    ///
    /// # Panics
    /// If the leader is not among the replicas and the in-sync set, or the set has other
    /// members than replicas.
    #[must_use]
    pub fn new(settings: LeaderSettings, now: Timestamp) -> Self {
        assert!(
            settings.in_sync.contains(&settings.broker),
            "the leader is in sync with itself"
        );
        assert!(
            settings.in_sync.is_subset(&settings.replicas),
            "only replicas are in sync"
        );
        let follower = Follower {
            end: None,
            caught_up: now,
            last_fetch: None,
        };
        let others = settings
            .replicas
            .iter()
            .filter(|replica| **replica != settings.broker);
        Self {
            followers: others.map(|replica| (*replica, follower)).collect(),
            local_end: settings.epoch_start,
            in_sync: settings.in_sync.clone(),
            partition_epoch: settings.partition_epoch,
            proposed: None,
            high_watermark: settings.high_watermark,
            settings,
        }
    }

    /// A leadership of a partition with one replica, whose whole log is committed.
    #[must_use]
    pub fn alone(broker: BrokerId, epoch: LeaderEpoch, end: Offset, min_in_sync: u32) -> Self {
        let replicas = BTreeSet::from([broker]);
        let settings = LeaderSettings {
            broker,
            in_sync: replicas.clone(),
            replicas,
            partition_epoch: 0,
            epoch,
            epoch_start: end,
            high_watermark: end,
            min_in_sync,
            max_lag_ms: i64::MAX,
        };
        Self::new(settings, Timestamp::NONE)
    }

    /// Takes in what happened and adds to `effects` what follows from it.
    pub fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::LocalEnd(end) => self.local_end = self.local_end.max(end),
            Input::Fetched {
                replica,
                epoch,
                end,
                eligible,
                now,
            } => {
                if let Err(code) = self.fetched(replica, epoch, end, now) {
                    effects.push(Effect::Refuse { replica, code });
                    return;
                }
                if eligible {
                    self.propose_joining(replica, effects);
                }
            }
            Input::Tick(now) => self.propose_leaving(now, effects),
            Input::Committed(change) => self.commit(change),
            Input::Rejected {
                partition_epoch,
                rejection,
            } => {
                if partition_epoch == self.partition_epoch && rejection == Rejection::NotAttempted {
                    self.proposed = None;
                }
            }
            Input::MinInSync(min) => self.settings.min_in_sync = min,
        }
        self.advance(effects);
    }

    /// Everything below is committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether consumers may be told the high watermark: not before it has reached the start
    /// of this leader's epoch, as it may be behind what an earlier leader has shown.
    #[must_use]
    pub fn is_high_watermark_known(&self) -> bool {
        self.high_watermark >= self.settings.epoch_start
    }

    /// Whether a produce with `acks=all` is taken now.
    #[must_use]
    pub fn admit(&self) -> Admission {
        if self.enough_in_sync() {
            Admission::Accept
        } else {
            Admission::NotEnoughReplicas
        }
    }

    /// The committed in-sync set.
    #[must_use]
    pub fn in_sync(&self) -> &BTreeSet<BrokerId> {
        &self.in_sync
    }

    /// The epoch of this leadership.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.settings.epoch
    }

    fn fetched(
        &mut self,
        replica: BrokerId,
        epoch: LeaderEpoch,
        end: Offset,
        now: Timestamp,
    ) -> Result<(), ErrorCode> {
        let leader_end = self.local_end;
        match epoch.cmp(&self.settings.epoch) {
            std::cmp::Ordering::Less => return Err(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Greater => return Err(ErrorCode::UnknownLeaderEpoch),
            std::cmp::Ordering::Equal => {}
        }
        let follower = self
            .followers
            .get_mut(&replica)
            .ok_or(ErrorCode::NotLeaderOrFollower)?;
        if end >= leader_end {
            follower.caught_up = follower.caught_up.max(now);
        } else if let Some((then, at)) = follower.last_fetch.filter(|(then, _)| end >= *then) {
            debug_assert!(then <= leader_end, "the leader's end only grows");
            follower.caught_up = follower.caught_up.max(at);
        }
        follower.end = Some(end);
        follower.last_fetch = Some((leader_end, now));
        Ok(())
    }

    fn propose_joining(&mut self, replica: BrokerId, effects: &mut Vec<Effect>) {
        let end = self.end_of(replica);
        let caught_up = end >= self.high_watermark && end >= self.settings.epoch_start;
        if caught_up && self.proposed.is_none() && !self.in_sync.contains(&replica) {
            let mut set = self.in_sync.clone();
            set.insert(replica);
            self.propose(set, effects);
        }
    }

    fn propose_leaving(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.proposed.is_some() {
            return;
        }
        let lags = |replica: &BrokerId| {
            let follower = self.followers.get(replica);
            follower.is_some_and(|follower| {
                let behind = follower.end.is_none_or(|end| end < self.local_end);
                behind && now.0.saturating_sub(follower.caught_up.0) > self.settings.max_lag_ms
            })
        };
        let rest: BTreeSet<_> = self
            .in_sync
            .iter()
            .copied()
            .filter(|replica| !lags(replica))
            .collect();
        if rest.len() < self.in_sync.len() {
            self.propose(rest, effects);
        }
    }

    fn propose(&mut self, in_sync: BTreeSet<BrokerId>, effects: &mut Vec<Effect>) {
        self.proposed = Some(in_sync.clone());
        let partition_epoch = self.partition_epoch;
        effects.push(Effect::Propose(InSyncChange {
            in_sync,
            partition_epoch,
        }));
    }

    /// Takes over a committed set, unless a newer one is known or it is not of this
    /// leadership.
    fn commit(&mut self, change: InSyncChange) {
        let newer = change.partition_epoch > self.partition_epoch;
        if newer && change.in_sync.contains(&self.settings.broker) {
            self.in_sync = change.in_sync;
            self.partition_epoch = change.partition_epoch;
            self.proposed = None;
        }
    }

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        if !self.enough_in_sync() {
            return;
        }
        let proposed = self.proposed.iter().flatten();
        let lowest = self
            .in_sync
            .iter()
            .chain(proposed)
            .map(|replica| self.end_of(*replica))
            .min();
        let lowest = lowest.expect("the leader is in the set");
        if lowest > self.high_watermark {
            self.high_watermark = lowest;
            effects.push(Effect::HighWatermark(lowest));
        }
    }

    fn enough_in_sync(&self) -> bool {
        let min = (self.settings.min_in_sync as usize).min(self.settings.replicas.len());
        self.in_sync.len() >= min
    }

    fn end_of(&self, replica: BrokerId) -> Offset {
        if replica == self.settings.broker {
            return self.local_end;
        }
        self.followers
            .get(&replica)
            .and_then(|follower| follower.end)
            .unwrap_or(Offset::ZERO)
    }
}
