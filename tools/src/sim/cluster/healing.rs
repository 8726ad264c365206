//! What must be when faults have come to an end: everything is led, in sync, the same, answered and read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::broker::read_all;
use super::history::Clients;
use super::partition::Partition;
use super::settings::HEARTBEAT_MS;
use super::world::{OFFSETS, PARTITIONS, World, orders};
use crate::sim::trace::{Violation, ensure};

/// Within this a log is read.
const READ_MS: i64 = 1_000;

/// What is not yet as it must be, if anything is.
pub(super) fn missing(world: &Rc<World>, clients: &Clients) -> Option<String> {
    if !world.quiet.get() {
        return Some("producers go on".to_owned());
    }
    for log in logs() {
        if let Some(what) = missing_of(world, log) {
            return Some(format!("{log}: {what}"));
        }
    }
    if let Some(at) = clients.producers.iter().position(|done| !done.get()) {
        return Some(format!("producer {at} has batches without an answer"));
    }
    for (log, position) in &clients.consumers {
        let end = world.checker.borrow_mut().of(*log).committed_end();
        if position.get() < end {
            let at = position.get();
            return Some(format!("a consumer of {log} is at {at} of {end}"));
        }
    }
    missing_of_group(world, clients)
}

fn logs() -> impl Iterator<Item = millrace_model::LogId> {
    (0..PARTITIONS).map(orders).chain([OFFSETS])
}

fn missing_of(world: &Rc<World>, log: millrace_model::LogId) -> Option<String> {
    let facts = {
        let checker = world.checker.borrow();
        let newest = checker.metadata.newest().find(|(of, _)| *of == log);
        newest.map(|(_, facts)| facts.clone())?
    };
    if facts.leader.is_none() || facts.in_sync.len() != facts.replicas.len() || facts.is_moving {
        return Some(format!(
            "{facts:?}{}",
            describe(world, log, &facts.replicas)
        ));
    }
    let partitions: Vec<Option<Rc<Partition>>> = facts
        .replicas
        .iter()
        .map(|id| {
            world
                .running(millrace_model::BrokerId(*id))?
                .open_partition(log)
        })
        .collect();
    let end = world.checker.borrow_mut().of(log).committed_end();
    let is_same = |partition: &Option<Rc<Partition>>| {
        partition
            .as_ref()
            .is_some_and(|it| it.high_watermark() == end && it.mirror().end() == end)
    };
    let leads = |partition: &Option<Rc<Partition>>| {
        partition.as_ref().is_some_and(|it| it.leads_in().is_some())
    };
    let is_well =
        partitions.iter().all(is_same) && partitions.iter().filter(|it| leads(it)).count() == 1;
    (!is_well).then(|| {
        let replicas = describe(world, log, &facts.replicas);
        format!("{end} is committed, {facts:?}{replicas}")
    })
}

fn describe(world: &Rc<World>, log: millrace_model::LogId, replicas: &[u32]) -> String {
    let mut text = String::new();
    for id in replicas {
        let broker = world.running(millrace_model::BrokerId(*id));
        let partition = broker.and_then(|broker| broker.open_partition(log));
        let replica = partition.map_or("not open".to_owned(), |partition| partition.describe());
        text.push_str(&format!("; {id}: {replica}"));
    }
    text
}

fn missing_of_group(world: &Rc<World>, clients: &Clients) -> Option<String> {
    let mut owned = BTreeSet::new();
    let members = clients.members.borrow();
    for member in members.iter().filter(|member| !member.lost.get()) {
        let silent = world.clock.now() - member.heard.get() > 3 * i64::from(HEARTBEAT_MS);
        if silent {
            return Some("a member of the group is not heard".to_owned());
        }
        for partition in member.owned.borrow().iter() {
            if !owned.insert(*partition) {
                return Some(format!("partition {partition} is read twice in the group"));
            }
        }
    }
    let all = owned.len() == PARTITIONS as usize;
    (!all).then(|| format!("only {owned:?} are read in the group"))
}

/// Reads every log from its start to its end, and holds it against what was promised.
pub(super) fn audit(world: &Rc<World>) -> Result<(), Violation> {
    let audited: Rc<RefCell<Vec<Result<(), Violation>>>> = Rc::default();
    let mut count = 0;
    for node in &world.nodes {
        let Some(broker) = node.broker() else {
            continue;
        };
        for partition in broker.open_partitions() {
            count += 1;
            let (world, into) = (Rc::clone(world), Rc::clone(&audited));
            let id = node.id.0;
            broker.spawn(async move {
                let read = read_all(&partition.log, partition.id).await;
                let checked = read.and_then(|found| {
                    ensure!(
                        found == partition.mirror(),
                        "broker {id} took up other records of {} than it holds",
                        partition.id
                    );
                    let mut checker = world.checker.borrow_mut();
                    checker.of(partition.id).audit(id, &found)
                });
                into.borrow_mut().push(checked);
            });
        }
    }
    let end = world.clock.now() + READ_MS;
    let all = Rc::clone(&audited);
    let done = world.pass_until(end, || all.borrow().len() == count)?;
    ensure!(done, "the logs cannot be read to their ends");
    audited.take().into_iter().collect()
}
