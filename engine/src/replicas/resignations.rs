//! Leaderships that this shard gives up because their logs have failed, on their way to the
//! controller.
//!
//! Each is asked for until the metadata has decided: another replica in sync leads, or there is none,
//! and then the partition stays as it is, with writes refused, until the broker starts again or a
//! person elects another leader. A disk that fails takes many logs with it: one command is under way at
//! a time, for all that have failed when it is sent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use glommio::TaskQueueHandle;
use glommio::timer::sleep;
use millrace_model::{BrokerEpoch, ErrorCode, LeaderEpoch, LogId};
use millrace_net::pulse::{Work, named};
use millrace_replication::cluster::{Answer, Resignation};

use super::proposals::Proposals;
use crate::partition::Partition;

/// Before the controller is asked again that did not decide: it was between two leaders, or out of reach.
const AGAIN: Duration = Duration::from_millis(500);

/// Partitions in one command: some 30 KiB of the metadata's log.
const PARTITIONS_A_COMMAND: usize = 1000;

/// See the module's documentation.
pub(super) struct Resignations {
    proposals: Rc<Proposals>,
    wanted: RefCell<BTreeMap<LogId, (Weak<Partition>, LeaderEpoch)>>,
    runs: Cell<bool>,
}

impl Resignations {
    pub(super) fn new(proposals: Rc<Proposals>) -> Self {
        Self {
            proposals,
            wanted: RefCell::default(),
            runs: Cell::new(false),
        }
    }

    /// Gives up leading a partition in this epoch. `life` is the broker's.
    pub(super) fn add(
        self: &Rc<Self>,
        queue: TaskQueueHandle,
        (partition, log): (&Weak<Partition>, LogId),
        epoch: LeaderEpoch,
        life: BrokerEpoch,
    ) {
        let wanted = (Weak::clone(partition), epoch);
        self.wanted.borrow_mut().insert(log, wanted);
        if self.runs.replace(true) {
            return;
        }
        let resignations = Rc::clone(self);
        let running = async move { resignations.run(life).await };
        glommio::spawn_local_into(named(Work::Foreground, running), queue)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    async fn run(&self, life: BrokerEpoch) {
        loop {
            let batch = self.due();
            if batch.is_empty() {
                break;
            }
            match self.proposals.resign(life, batch.clone()).await {
                Ok(Answer::Partitions(outcomes)) => {
                    for (resignation, outcome) in batch.iter().zip(outcomes) {
                        self.decided(*resignation, outcome.code);
                    }
                }
                // Another life of this broker has begun: it is being replaced.
                Err(refusal) if refusal.code == ErrorCode::StaleBrokerEpoch => break,
                Ok(_) => sleep(AGAIN).await,
                Err(refusal) => {
                    tracing::warn!(%refusal, "leaderships of failed logs are not given up yet");
                    sleep(AGAIN).await;
                }
            }
        }
        self.runs.set(false);
    }

    /// What is still to be given up.
    fn due(&self) -> Vec<Resignation> {
        let mut wanted = self.wanted.borrow_mut();
        wanted.retain(|_, (partition, epoch)| {
            // It is closed, or the metadata has gone on.
            let partition = partition.upgrade();
            partition.is_some_and(|partition| partition.leader_epoch() == *epoch)
        });
        let resignation = |(log, (_, leader_epoch)): (&LogId, &(_, LeaderEpoch))| Resignation {
            log: *log,
            leader_epoch: *leader_epoch,
        };
        wanted
            .iter()
            .map(resignation)
            .take(PARTITIONS_A_COMMAND)
            .collect()
    }

    fn decided(&self, resignation: Resignation, code: ErrorCode) {
        let log = resignation.log;
        let mut wanted = self.wanted.borrow_mut();
        let is_meant = |(_, epoch): &(_, LeaderEpoch)| *epoch == resignation.leader_epoch;
        if wanted.get(&log).is_some_and(is_meant) {
            wanted.remove(&log);
        }
        match code {
            ErrorCode::EligibleLeadersNotAvailable => tracing::error!(
                %log,
                "no other replica is in sync, so nobody can lead instead: writes are refused until \
                 this broker is started again on a disk that works"
            ),
            code => tracing::warn!(%log, ?code, "gave up leading"),
        }
    }
}
