//! A small controller of one partition, written for this test from the rules alone: it registers and
//! fences brokers, changes the in-sync set by compare-and-set, keeps the eligible leader replicas of
//! KIP-966, and elects. It never fails; what others hear of it may be late or lost.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch};
use millrace_replication::partition::{AlterAnswer, Assignment, InSyncState, Proposal, Standing};

/// A broker that has not been heard of for longer is fenced.
pub(crate) const SESSION_MS: i64 = 400;

#[derive(Clone, Debug, Default)]
struct Broker {
    /// Which start of its process registered.
    boot: u64,
    life: u64,
    registered_at: u64,
    fenced: bool,
    last_seen: i64,
}

/// What a broker is told of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) version: u64,
    pub(crate) assignment: Assignment,
    pub(crate) standings: BTreeMap<BrokerId, Standing>,
}

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) version: u64,
    brokers: Vec<Broker>,
    last_life: u64,
    pub(crate) in_sync: BTreeSet<u32>,
    pub(crate) eligible: BTreeSet<u32>,
    last_leader: Option<u32>,
    pub(crate) leader: Option<u32>,
    pub(crate) leader_epoch: u32,
    pub(crate) partition_epoch: u32,
    pub(crate) min_in_sync: usize,
}

impl Controller {
    /// A partition on all brokers, all of them in sync, of which none is there yet.
    pub(crate) fn new(brokers: u32, min_in_sync: u32) -> Self {
        let broker = Broker {
            fenced: true,
            ..Broker::default()
        };
        Self {
            version: 1,
            brokers: vec![broker; brokers as usize],
            last_life: 0,
            in_sync: (0..brokers).collect(),
            eligible: BTreeSet::new(),
            last_leader: None,
            leader: None,
            leader_epoch: 0,
            partition_epoch: 0,
            min_in_sync: min_in_sync.min(brokers) as usize,
        }
    }

    pub(crate) fn image(&self) -> Image {
        let brokers = |set: &BTreeSet<u32>| set.iter().copied().map(BrokerId).collect();
        let everyone: BTreeSet<u32> = (0..).take(self.brokers.len()).collect();
        let standing = |broker: &Broker| Standing {
            life: BrokerEpoch(broker.life),
            eligible: !broker.fenced,
        };
        Image {
            version: self.version,
            assignment: Assignment {
                leader: self.leader.map(BrokerId),
                leader_epoch: LeaderEpoch(self.leader_epoch),
                partition_epoch: PartitionEpoch(self.partition_epoch),
                replicas: brokers(&everyone),
                in_sync: brokers(&self.in_sync),
            },
            standings: (0..)
                .map(BrokerId)
                .zip(self.brokers.iter().map(standing))
                .collect(),
        }
    }

    /// Registers a start of a broker and returns its uptime's number. A registration of an
    /// earlier start that comes late is ignored.
    pub(crate) fn register(&mut self, id: u32, boot: u64, clean: bool, now: i64) -> Option<u64> {
        let known = self.brokers[id as usize].boot;
        if boot > known {
            // The first start ever has nothing that could have been lost.
            let first = self.brokers[id as usize].boot == 0;
            self.fence(id);
            if !clean && !first {
                self.leave(id);
                self.eligible.remove(&id);
            }
            self.last_life += 1;
            self.version += 1;
            self.brokers[id as usize] = Broker {
                boot,
                life: self.last_life,
                registered_at: self.version,
                fenced: true,
                last_seen: now,
            };
        }
        (boot >= known).then(|| self.brokers[id as usize].life)
    }

    /// A broker says that it lives and how much it has heard.
    pub(crate) fn heartbeat(&mut self, id: u32, life: u64, heard: u64, now: i64) {
        let broker = &mut self.brokers[id as usize];
        if broker.life != life {
            return;
        }
        broker.last_seen = now;
        if broker.fenced && heard >= broker.registered_at {
            broker.fenced = false;
            self.version += 1;
            if self.leader.is_none() {
                self.elect();
            }
        }
    }

    /// Fences who has been silent.
    pub(crate) fn tick(&mut self, now: i64) {
        for id in 0..u32::try_from(self.brokers.len()).unwrap() {
            let broker = &self.brokers[id as usize];
            if !broker.fenced && now - broker.last_seen > SESSION_MS {
                self.fence(id);
            }
        }
    }

    /// Makes another member lead, if there is one.
    pub(crate) fn move_leader(&mut self) -> bool {
        let others = self.in_sync.iter().copied();
        let next = others
            .filter(|id| Some(*id) != self.leader && !self.brokers[*id as usize].fenced)
            .max_by_key(|id| (id + self.leader_epoch) % 7);
        if next.is_some() {
            self.set_leader(next);
        }
        next.is_some()
    }

    pub(crate) fn alter(&mut self, from: u32, life: u64, proposal: &Proposal) -> AlterAnswer {
        match self.check(from, life, proposal) {
            Err(code) => AlterAnswer::from_error(code),
            Ok(()) => {
                let set: BTreeSet<u32> = proposal.in_sync.keys().map(|id| id.0).collect();
                let left = self.in_sync.difference(&set).copied().collect();
                self.set_in_sync(set, left);
                let image = self.image();
                AlterAnswer::Committed(InSyncState {
                    in_sync: image.assignment.in_sync,
                    partition_epoch: image.assignment.partition_epoch,
                })
            }
        }
    }

    fn check(&self, from: u32, life: u64, proposal: &Proposal) -> Result<(), ErrorCode> {
        if self.brokers[from as usize].life != life {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if self.leader != Some(from) || self.leader_epoch != proposal.leader_epoch.0 {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if self.partition_epoch != proposal.partition_epoch.0 {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        if !proposal.in_sync.contains_key(&BrokerId(from)) {
            return Err(ErrorCode::InvalidRequest);
        }
        for (id, life) in &proposal.in_sync {
            let broker = &self.brokers[id.0 as usize];
            if broker.fenced || broker.life != life.0 {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        Ok(())
    }

    fn fence(&mut self, id: u32) {
        let broker = &mut self.brokers[id as usize];
        if broker.fenced {
            return;
        }
        broker.fenced = true;
        self.version += 1;
        self.leave(id);
    }

    /// Takes a broker out of the in-sync set, and from the lead.
    fn leave(&mut self, id: u32) {
        if self.in_sync.contains(&id) {
            let mut rest = self.in_sync.clone();
            rest.remove(&id);
            if rest.is_empty() {
                self.last_leader = Some(id);
            }
            self.set_in_sync(rest, BTreeSet::from([id]));
        }
        if self.leader == Some(id) {
            self.elect();
        }
    }

    fn set_in_sync(&mut self, set: BTreeSet<u32>, left: BTreeSet<u32>) {
        if set.len() >= self.min_in_sync {
            self.eligible.clear();
        } else {
            self.eligible.extend(left);
        }
        self.eligible.retain(|id| !set.contains(id));
        self.in_sync = set;
        self.partition_epoch += 1;
        self.version += 1;
    }

    fn elect(&mut self) {
        let alive = |id: &u32| !self.brokers[*id as usize].fenced;
        let member = self.in_sync.iter().copied().find(alive);
        let eligible = self.eligible.iter().copied().find(alive);
        let eligible = eligible.filter(|_| self.in_sync.is_empty());
        let last = self.last_leader.filter(alive);
        let last = last.filter(|_| self.in_sync.is_empty() && self.eligible.is_empty());
        let leader = member.or(eligible).or(last);
        if leader != self.leader {
            self.set_leader(leader);
        }
    }

    fn set_leader(&mut self, leader: Option<u32>) {
        self.leader = leader;
        self.leader_epoch += 1;
        self.partition_epoch += 1;
        self.version += 1;
        if let Some(id) = leader
            && !self.in_sync.contains(&id)
        {
            let set = BTreeSet::from([id]);
            self.set_in_sync(set, BTreeSet::new());
        }
    }
}
