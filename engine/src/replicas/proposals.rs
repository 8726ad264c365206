//! In-sync sets that leaders of this shard propose, on their way to the controller and back.
//!
//! One command is under way at a time, for all partitions that had something to propose when it was sent:
//! a broker that fails or comes back concerns many at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::{Rc, Weak};

use glommio::TaskQueueHandle;
use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LogId};
use millrace_net::pulse::{Work, named};
use millrace_replication::Refusal;
use millrace_replication::cluster::{
    AlterPartition, Answer, Command, InSyncMember, LeaderRecovery, PartitionOutcome, Resignation,
};
use millrace_replication::partition::{
    AlterAnswer, InSyncState, Input, LeaderInput, Proposal, ProposalId,
};

use crate::partition::Partition;

/// Partitions in one command: some 100 KiB of the metadata's log.
const PARTITIONS_A_COMMAND: usize = 1000;

/// Asks the controller to carry out a command.
pub(crate) type Propose =
    Box<dyn Fn(Command) -> Pin<Box<dyn Future<Output = Result<Answer, Refusal>>>>>;

/// See the module's documentation.
pub(super) struct Proposals {
    broker: BrokerId,
    propose: Propose,
    queue: RefCell<VecDeque<Queued>>,
    runs: Cell<bool>,
}

struct Queued {
    partition: Weak<Partition>,
    log: LogId,
    /// This broker's uptime.
    life: BrokerEpoch,
    proposal: Proposal,
}

impl Proposals {
    pub(super) fn new(broker: BrokerId, propose: Propose) -> Self {
        Self {
            broker,
            propose,
            queue: RefCell::default(),
            runs: Cell::new(false),
        }
    }

    /// Asks the controller to let others lead.
    pub(super) async fn resign(
        &self,
        epoch: BrokerEpoch,
        partitions: Vec<Resignation>,
    ) -> Result<Answer, Refusal> {
        let broker = self.broker;
        let command = Command::ResignLeaders {
            broker,
            epoch,
            partitions,
        };
        (self.propose)(command).await
    }

    /// Proposes, and hands the answer to the partition.
    pub(super) fn add(
        self: &Rc<Self>,
        queue: TaskQueueHandle,
        (partition, log): (&Weak<Partition>, LogId),
        proposal: Proposal,
    ) {
        let life = proposal.in_sync.get(&self.broker).copied();
        self.queue.borrow_mut().push_back(Queued {
            partition: Weak::clone(partition),
            log,
            life: life.unwrap_or_default(),
            proposal,
        });
        if self.runs.replace(true) {
            return;
        }
        let proposals = Rc::clone(self);
        let running = async move { proposals.run().await };
        glommio::spawn_local_into(named(Work::Foreground, running), queue)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    async fn run(&self) {
        loop {
            let batch: Vec<_> = {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(PARTITIONS_A_COMMAND);
                queue.drain(..count).collect()
            };
            let Some(first) = batch.first() else { break };
            let command = Command::AlterPartitions {
                broker: self.broker,
                epoch: first.life,
                partitions: batch.iter().map(alter).collect(),
            };
            let answer = (self.propose)(command).await;
            let mut outcomes = match answer {
                Ok(Answer::Partitions(outcomes)) => outcomes.into_iter().map(Ok).collect(),
                Ok(_) => VecDeque::new(),
                Err(refusal) => {
                    tracing::debug!(%refusal, "in-sync sets were not changed");
                    batch.iter().map(|_| Err(refusal.code)).collect()
                }
            };
            for queued in batch {
                let outcome = outcomes.pop_front();
                let outcome = outcome.unwrap_or(Err(ErrorCode::UnknownServerError));
                tell(&queued, outcome);
            }
        }
        self.runs.set(false);
    }
}

fn alter(queued: &Queued) -> AlterPartition {
    let proposal = &queued.proposal;
    let members = proposal.in_sync.iter();
    AlterPartition {
        log: queued.log,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        in_sync: members
            .map(|(&broker, &epoch)| InSyncMember { broker, epoch })
            .collect(),
        // Its log is what the partition is.
        recovery: LeaderRecovery::Recovered,
    }
}

fn tell(queued: &Queued, outcome: Result<PartitionOutcome, ErrorCode>) {
    let Some(partition) = queued.partition.upgrade() else {
        return;
    };
    partition.hear(answered(queued.proposal.id, outcome));
}

fn answered(id: ProposalId, outcome: Result<PartitionOutcome, ErrorCode>) -> Input {
    let answer = match outcome {
        Err(code) => AlterAnswer::from_error(code),
        Ok(outcome) => match (outcome.code, outcome.partition) {
            (ErrorCode::None, Some(partition)) => AlterAnswer::Committed(InSyncState {
                in_sync: partition.in_sync.into_iter().collect(),
                partition_epoch: partition.partition_epoch,
            }),
            (ErrorCode::None, None) => AlterAnswer::Unknown,
            (code, _) => AlterAnswer::from_error(code),
        },
    };
    Input::Leader(LeaderInput::Answered { id, answer })
}
