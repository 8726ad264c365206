//! How far groups have come, gathered when somebody looks at the metrics.
//!
//! First every shard tells what its loaded coordinators know, then the owners of the partitions
//! tell how far these have come. Nothing is kept between two looks, and nothing happens on the
//! way of a batch or of a commit.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use millrace_groups::{Client, FetchOffsets, GroupState, GroupType, Request, Response};
use millrace_model::{LogId, Offset, PartitionId, ShardId};
use millrace_net::Stint;
use millrace_replication::Refusal;

use super::GroupCoordinator;
use crate::metrics::{GroupProgress, GroupsInState, GroupsReport};
use crate::shard::{Shard, partition_count};

/// Committed offsets that one shard shows. Ten thousand lines are about a megabyte of text; with
/// more, somebody who watches groups asks for them by the protocol.
const MAX_OFFSETS_A_SHARD: usize = 10_000;

/// What the coordinators of one shard know.
#[derive(Default)]
struct GroupsHere {
    /// Groups and members by protocol and state.
    states: BTreeMap<(&'static str, &'static str), (u64, u64)>,
    progress: Vec<GroupProgress>,
    omitted: u64,
}

/// All groups of the broker.
pub(crate) async fn report(shard: &Rc<Shard>) -> Result<GroupsReport, Refusal> {
    let mut all = GroupsHere::default();
    for other in shard.all_shards() {
        let here = async |shard: Rc<Shard>| groups_here(&shard).await;
        all.add(shard.on(other, here).await?);
    }
    find_ends(shard, &mut all.progress).await?;
    let states = all.states.into_iter();
    let states = states.map(|((group_type, state), (groups, members))| GroupsInState {
        group_type,
        state,
        groups,
        members,
    });
    Ok(GroupsReport {
        states: states.collect(),
        progress: all.progress,
        omitted: all.omitted,
    })
}

impl GroupsHere {
    fn add(&mut self, other: Self) {
        for (state, (groups, members)) in other.states {
            self.count(state, groups, members);
        }
        self.progress.extend(other.progress);
        self.omitted += other.omitted;
    }

    fn count(&mut self, state: (&'static str, &'static str), groups: u64, members: u64) {
        let counts = self.states.entry(state).or_default();
        *counts = (counts.0 + groups, counts.1 + members);
    }
}

/// What this shard's coordinators know.
async fn groups_here(shard: &Rc<Shard>) -> GroupsHere {
    let mut here = GroupsHere::default();
    let mut stint = Stint::default();
    for coordinator in shard.coordinators().all_loaded() {
        let listed = coordinator.ask(Client::default(), Request::List).await;
        let Response::Listed(listed) = listed else {
            continue;
        };
        for group in listed {
            let state = (group.group_type, group.state);
            look_at(&coordinator, group.group, state, &mut here).await;
            stint.go_on().await;
        }
    }
    here
}

async fn look_at(
    coordinator: &Rc<GroupCoordinator>,
    group: String,
    (group_type, state): (GroupType, GroupState),
    here: &mut GroupsHere,
) {
    let describe = Request::Describe {
        group: group.clone(),
        only: None,
    };
    let members = match coordinator.ask(Client::default(), describe).await {
        Response::Described(described) => described.members.len() as u64,
        _ => 0,
    };
    here.count((group_type.name(), state.name()), 1, members);
    let fetch = Request::FetchOffsets(FetchOffsets {
        group: group.clone(),
        member: None,
        member_epoch: -1,
        partitions: None,
        require_stable: false,
    });
    let Response::Offsets(offsets) = coordinator.ask(Client::default(), fetch).await else {
        return;
    };
    for offset in offsets {
        let committed = offset.committed;
        let Some(committed) = committed.and_then(|committed| committed.offset.offset()) else {
            continue;
        };
        if here.progress.len() >= MAX_OFFSETS_A_SHARD {
            here.omitted += 1;
            continue;
        }
        here.progress.push(GroupProgress {
            group: group.clone(),
            topic: offset.topic,
            partition: offset.partition,
            committed: committed.0,
            end: None,
        });
    }
}

/// Asks the owners how far the partitions have come.
async fn find_ends(shard: &Rc<Shard>, progress: &mut [GroupProgress]) -> Result<(), Refusal> {
    let mut asked: HashMap<ShardId, Vec<LogId>> = HashMap::new();
    let mut logs = Vec::with_capacity(progress.len());
    for row in &*progress {
        let log = log_of(shard, row);
        if let Some(log) = log {
            asked.entry(shard.owner(log)).or_default().push(log);
        }
        logs.push(log);
    }
    let mut ends: HashMap<LogId, Offset> = HashMap::new();
    for (owner, mut logs) in asked {
        logs.sort_unstable();
        logs.dedup();
        let here = async |shard: Rc<Shard>| ends_here(&shard, logs);
        ends.extend(shard.on(owner, here).await?);
    }
    for (row, log) in progress.iter_mut().zip(logs) {
        row.end = log.and_then(|log| ends.get(&log)).map(|end| end.0);
    }
    Ok(())
}

fn log_of(shard: &Shard, row: &GroupProgress) -> Option<LogId> {
    let cluster = shard.topics().cluster();
    let topic = cluster.topic_named(&row.topic)?;
    let partition = PartitionId(row.partition);
    (row.partition < partition_count(topic)).then_some(LogId {
        topic: topic.id,
        partition,
    })
}

/// The high watermarks of those of these partitions whose logs are open. The others are opened in
/// the background, one after the other, so that the next look finds them.
fn ends_here(shard: &Rc<Shard>, logs: Vec<LogId>) -> Vec<(LogId, Offset)> {
    let mut ends = Vec::with_capacity(logs.len());
    let mut closed = Vec::new();
    for log in logs {
        match shard.open_partition(log) {
            Some(partition) => ends.push((log, partition.high_watermark())),
            None => closed.push(log),
        }
    }
    if !closed.is_empty() && !shard.coordinators().opens_logs.replace(true) {
        let opener = Rc::clone(shard);
        shard.spawn_background(async move {
            for log in closed {
                // Who needs it is told why it cannot be opened.
                let _ = opener.partition(log).await;
            }
            opener.coordinators().opens_logs.set(false);
        });
    }
    ends
}
