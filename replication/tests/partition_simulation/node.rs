//! A simulated broker: its log, its replica, and who waits on it.

use millrace_model::{BrokerEpoch, BrokerId, Timestamp};
use millrace_replication::partition::{Acks, Replica, ReplicaSettings, SessionId};

use super::log::{Record, SimLog};

/// A producer's batch whose fate is open.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) base: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) acks: Acks,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) log: SimLog,
    /// Counts starts of the process. What belongs to an earlier one is dropped.
    pub(crate) boot: u64,
    pub(crate) up: bool,
    /// Whether it was shut down in order.
    pub(crate) clean: bool,
    pub(crate) paused_until: i64,
    /// Its clock differs from the world's by this.
    pub(crate) skew_ms: i64,
    /// Its uptime, once registered.
    pub(crate) life: Option<u64>,
    pub(crate) heard: u64,
    pub(crate) replica: Option<Replica>,
    pub(crate) waiting: Vec<Waiting>,
    /// End of the write that is under way, and its number.
    pub(crate) writing: Option<(u64, u64)>,
    pub(crate) disk_ms: i64,
    pub(crate) disk_full_until: i64,
    /// When it is to be woken.
    pub(crate) tick_at: Option<i64>,
    /// As a follower: its last session.
    pub(crate) session: Option<SessionId>,
    /// As a leader: the last session seen of each broker.
    pub(crate) sessions: Vec<Option<SessionId>>,
    /// The epoch in which it was last seen leading in this start.
    pub(crate) led: Option<u32>,
}

impl Node {
    pub(crate) fn new(id: u32, brokers: u32, skew_ms: i64) -> Self {
        Self {
            id,
            log: SimLog::default(),
            boot: 1,
            up: true,
            clean: false,
            paused_until: 0,
            skew_ms,
            life: None,
            heard: 0,
            replica: None,
            waiting: Vec::new(),
            writing: None,
            disk_ms: 2,
            disk_full_until: 0,
            tick_at: None,
            session: None,
            sessions: vec![None; brokers as usize],
            led: None,
        }
    }

    /// Its clock.
    pub(crate) fn clock(&self, now: i64) -> Timestamp {
        Timestamp(now + self.skew_ms)
    }

    /// The process is gone; of what it knew, the durable part of the log is left.
    pub(crate) fn stop(&mut self, clean: bool, torn: usize) {
        if clean {
            self.log.written(u64::MAX);
        } else {
            self.log.crash(torn);
        }
        self.up = false;
        self.clean = clean;
        self.boot += 1;
        self.life = None;
        self.heard = 0;
        self.replica = None;
        self.waiting.clear();
        self.writing = None;
        self.tick_at = None;
        self.session = None;
        self.sessions.fill(None);
        self.led = None;
    }

    /// It is registered.
    pub(crate) fn begin(&mut self, life: u64, heard: u64, settings: ReplicaSettings) {
        self.life = Some(life);
        self.heard = heard;
        let identity = (BrokerId(self.id), BrokerEpoch(life));
        self.replica = Some(Replica::new(identity, self.log.view(), settings));
    }
}
