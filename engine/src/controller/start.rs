//! Opens the controller.
//!
//! A broker that is alone elects itself, begins its life and serves: two durable writes, three the
//! first time. One of several reads what it has, and joins when it runs.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Timestamp};
use millrace_replication::cluster::{Cluster, Command, FEATURE_LEVELS, Registration};
use millrace_replication::quorum::{
    Entry, Index, LogTail, Membership, Payload, Quorum, Recovered, Snapshot, SnapshotMeta,
    SnapshotWrite, Term, Write, WriteId,
};
use millrace_replication::{Metadata, Refusal};
use millrace_storage::disk::Disk;

use super::adopt::{forget_former, read_former};
use super::client::ControllerClient;
use super::core::Core;
use super::journal::{LogJournal, QUORUM_DIR, QuorumJournal, RecoveredJournal};
use super::outside::Time;
use super::{Controller, ControllerError, ControllerIdentity, JournalError};

/// Rounds in which a broker that is alone begins its life. One is enough, unless another process
/// with its number was here.
const ROUNDS: usize = 3;

impl<D: Disk, T: Time> Controller<LogJournal<D>, T> {
    /// Opens what is in `metadata`, the directory of that name in the data directory: the journal
    /// of the quorum, or, before there is one, what a broker has that was alone. `epoch` is that of
    /// this life on the data directory.
    ///
    /// # Errors
    /// As [`Controller::open`].
    pub async fn open_on_disk(
        disk: D,
        metadata: &Path,
        epoch: LeaderEpoch,
        clock: fn() -> Timestamp,
        identity: ControllerIdentity,
        time: T,
    ) -> Result<Self, ControllerError> {
        let directory = metadata.join(QUORUM_DIR);
        let (journal, recovered) = LogJournal::open(disk.clone(), directory, epoch, clock).await?;
        let former = match recovered == RecoveredJournal::default() {
            true => read_former(disk.clone(), metadata, epoch, clock()).await?,
            false => None,
        };
        let controller = Self::open(journal, recovered, identity, former, time).await?;
        forget_former(&disk, metadata)
            .await
            .map_err(JournalError::from)?;
        Ok(controller)
    }
}

impl<J: QuorumJournal, T: Time> Controller<J, T> {
    /// Opens the controller. Alone, it founds the cluster if need be, leads it, takes over what is
    /// to be adopted, registers and unfences this broker: when it returns, the image is ready to
    /// serve. `adopt` counts only for a journal that holds nothing yet.
    ///
    /// # Errors
    /// The journal fails or is damaged, or belongs to another quorum or cluster.
    pub async fn open(
        mut journal: J,
        recovered: RecoveredJournal,
        identity: ControllerIdentity,
        adopt: Option<Metadata>,
        time: T,
    ) -> Result<Self, ControllerError> {
        let now = time.now();
        let is_new = recovered == RecoveredJournal::default();
        let recovered = match is_new {
            true => found(&mut journal, &identity, adopt).await?,
            false => recovered,
        };
        let cluster = match recovered.snapshot.meta.index {
            Index::ZERO => Cluster::default(),
            _ => Cluster::from_snapshot(&recovered.snapshot.data)?,
        };
        let former = former_epoch(&identity, &cluster, &recovered.entries);
        let others = other_brokers(&identity, &cluster, &recovered.entries);
        let quorum = Quorum::new(
            identity.broker,
            identity.quorum,
            recovered,
            seed(&identity),
            now,
        )?;
        let voters = quorum.status().membership.voters;
        let votes_alone = voters.iter().eq([&identity.broker]);
        check_voters(&identity, &voters, &others)?;
        let mut core = Core::new(identity, quorum, cluster, now);
        if votes_alone && others.is_empty() {
            begin_alone(&mut core, &mut journal, former, &time).await?;
        }
        check_cluster(&core)?;
        let (client, inbox) = ControllerClient::new();
        Ok(Self {
            core,
            journal,
            time,
            client,
            inbox,
        })
    }
}

/// What a node starts from whose journal is empty.
async fn found<J: QuorumJournal>(
    journal: &mut J,
    identity: &ControllerIdentity,
    adopt: Option<Metadata>,
) -> Result<Recovered, ControllerError> {
    let first = |entries: Vec<Entry>, snapshot: Option<SnapshotWrite>| Write {
        id: WriteId::default(),
        hard_state: None,
        snapshot,
        entries,
    };
    if identity.founds_alone() {
        let snapshot = first_snapshot(identity, adopt.unwrap_or_default())?;
        let Some(snapshot) = snapshot else {
            let recovered = Recovered::bootstrap([identity.broker]);
            journal
                .persist(&[first(recovered.entries.clone(), None)])
                .await?;
            return Ok(recovered);
        };
        let write = SnapshotWrite {
            snapshot: snapshot.clone(),
            tail: LogTail::Discard,
        };
        journal.persist(&[first(Vec::new(), Some(write))]).await?;
        return Ok(Recovered {
            snapshot,
            ..Recovered::default()
        });
    }
    let topics = adopt.map_or(0, |former| former.topics().len());
    if topics > 0 {
        return Err(ControllerError::Former { topics });
    }
    if !identity.voters.contains(&identity.broker) {
        // It learns when the quorum's leader has made it a member.
        return Ok(Recovered::default());
    }
    let recovered = Recovered::bootstrap(identity.voters.iter().copied());
    journal
        .persist(&[first(recovered.entries.clone(), None)])
        .await?;
    Ok(recovered)
}

/// The state of a cluster that goes on with what a broker brings that was alone.
fn first_snapshot(
    identity: &ControllerIdentity,
    former: Metadata,
) -> Result<Option<Snapshot>, ControllerError> {
    let next_producer_id = former.next_producer_id().0;
    if former.topics().len() == 0 && next_producer_id == 0 {
        return Ok(None);
    }
    let mut cluster = Cluster::default();
    let broker = identity.broker;
    let epoch = BrokerEpoch(2);
    let registration = Registration {
        cluster: identity.cluster,
        id: broker,
        incarnation: identity.incarnation,
        clean_from: None,
        rack: identity.rack.clone(),
        endpoints: identity.endpoints.clone(),
        shards: identity.shards,
        features: FEATURE_LEVELS,
    };
    let commands = [
        Command::Found {
            cluster: identity.cluster,
            level: FEATURE_LEVELS.most,
        },
        Command::Register(registration),
        Command::Unfence { broker, epoch },
        Command::Adopt {
            broker,
            epoch: former.broker_epoch(broker).unwrap_or_default(),
            topics: former.topics().cloned().collect(),
            next_producer_id,
        },
    ];
    let mut index = Index::ZERO;
    for command in &commands {
        index = index.next();
        cluster
            .apply(index, command)
            .map_err(ControllerError::Refused)?;
    }
    tracing::info!(
        topics = cluster.topics().len(),
        "takes over the metadata of the broker that was alone"
    );
    let meta = SnapshotMeta {
        index,
        term: Term::default(),
        membership: Membership::of_voters([broker]),
    };
    let data: Bytes = cluster.to_snapshot().into();
    Ok(Some(Snapshot { meta, data }))
}

/// The epoch of this broker's former life, as far as it can be told without the log's being applied.
/// A guess that is wrong costs a round.
fn former_epoch(
    identity: &ControllerIdentity,
    cluster: &Cluster,
    entries: &[Entry],
) -> Option<BrokerEpoch> {
    let registered = |entry: &Entry| {
        let Payload::Command(bytes) = &entry.payload else {
            return None;
        };
        match Command::from_bytes(bytes) {
            Ok(Command::Register(registration)) if registration.id == identity.broker => {
                Some(BrokerEpoch(entry.index.0))
            }
            _ => None,
        }
    };
    let snapshot = || cluster.broker(identity.broker).map(|known| known.epoch);
    entries.iter().rev().find_map(registered).or_else(snapshot)
}

/// The other brokers that are registered, or were before the end of the log.
fn other_brokers(
    identity: &ControllerIdentity,
    cluster: &Cluster,
    entries: &[Entry],
) -> BTreeSet<BrokerId> {
    let mut known: BTreeSet<BrokerId> = cluster.brokers().map(|broker| broker.id).collect();
    let at = cluster.applied();
    for entry in entries.iter().filter(|entry| entry.index > at) {
        let Payload::Command(bytes) = &entry.payload else {
            continue;
        };
        match Command::from_bytes(bytes) {
            Ok(Command::Register(registration)) => {
                known.insert(registration.id);
            }
            // Perhaps it was refused: who is still registered says so with its next heartbeat.
            Ok(Command::Unregister { broker }) => {
                known.remove(&broker);
            }
            _ => {}
        }
    }
    known.remove(&identity.broker);
    known
}

/// Elects this node, which is the only one, and begins this broker's life.
async fn begin_alone<J: QuorumJournal, T: Time>(
    core: &mut Core,
    journal: &mut J,
    mut former: Option<BrokerEpoch>,
    time: &T,
) -> Result<(), ControllerError> {
    let broker = core.identity.broker;
    let mut rounds = 0;
    core.tick(time.now());
    loop {
        let can_begin = core.leading.is_some() && !core.has_proposals();
        if can_begin && !core.serves() && rounds < ROUNDS {
            rounds += 1;
            core.begin_life(time.now(), former);
        }
        let writes = std::mem::take(&mut core.wanted.writes);
        let Some(last) = writes.last().map(|write| write.id) else {
            break;
        };
        journal.persist(&writes).await?;
        core.persisted(time.now(), last);
        if let Some(known) = core.cluster().broker(broker) {
            former = Some(known.epoch);
        }
    }
    if let Some(failure) = core.failure() {
        return Err(ControllerError::Command(failure.to_owned()));
    }
    if !core.serves() {
        let refusal = Refusal::new(ErrorCode::InvalidRequest, "it refuses to be registered");
        return Err(ControllerError::Refused(refusal));
    }
    // The shards start from the state as it is.
    core.publish();
    Ok(())
}

impl Core {
    /// Whether this run of the broker may serve.
    fn serves(&self) -> bool {
        self.life().is_some() && self.cluster().is_active(self.identity.broker)
    }

    /// Ends a former life, registers, and unfences, in one write: nobody else could come between, so the
    /// epoch that the registration gives is known before it has a place.
    fn begin_life(&mut self, now: Timestamp, former: Option<BrokerEpoch>) {
        let broker = self.identity.broker;
        if let Some(epoch) = self.life() {
            self.propose_unseen(&Command::Unfence { broker, epoch });
            return self.feed_queued(now);
        }
        match former {
            Some(epoch) => self.propose_unseen(&Command::Fence { broker, epoch }),
            None => self.propose_unseen(&Command::Found {
                cluster: self.identity.cluster,
                level: FEATURE_LEVELS.most,
            }),
        }
        // What it acknowledged is on its own disk, and nobody else has it: however the former
        // life ended, there is nothing better to wait for.
        let registration = self.registration(former);
        let epoch = BrokerEpoch(self.quorum.status().last.0 + 2);
        self.propose_unseen(&Command::Register(registration));
        self.propose_unseen(&Command::Unfence { broker, epoch });
        self.feed_queued(now);
    }
}

/// Checks the configuration against who votes according to the data directory, if that knows. Of a quorum of
/// several the voters in the configuration are only who may be asked for the others.
fn check_voters(
    identity: &ControllerIdentity,
    stored: &BTreeSet<BrokerId>,
    others: &BTreeSet<BrokerId>,
) -> Result<(), ControllerError> {
    let me = identity.broker;
    let votes_alone = stored.iter().all(|voter| *voter == me);
    if !identity.has_peers {
        let others: BTreeSet<u32> = others.iter().chain(stored).map(|id| id.0).collect();
        let others: Vec<u32> = others.into_iter().filter(|id| *id != me.0).collect();
        return match others.is_empty() {
            true => Ok(()),
            false => Err(ControllerError::Others { others }),
        };
    }
    if !stored.is_empty() && votes_alone && others.is_empty() && !identity.founds_alone() {
        return Err(ControllerError::Founders {
            broker: me,
            configured: identity.voters.iter().map(|id| id.0).collect(),
        });
    }
    let configured: BTreeSet<BrokerId> = identity.voters.iter().copied().collect();
    if !stored.is_empty() && *stored != configured {
        tracing::info!(voters = ?stored, "the metadata quorum has other voters by now than it is configured to begin with");
    }
    Ok(())
}

fn check_cluster(core: &Core) -> Result<(), ControllerError> {
    match core.cluster().id() {
        Some(found) if found != core.identity.cluster => Err(ControllerError::Cluster {
            found,
            configured: core.identity.cluster,
        }),
        _ => Ok(()),
    }
}

/// Spreads the election timeouts of the nodes.
fn seed(identity: &ControllerIdentity) -> u64 {
    let (low, high) = identity.incarnation.0.split_at(8);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    number(low) ^ number(high) ^ u64::from(identity.broker.0)
}
