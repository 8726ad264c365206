//! A producer of one partition. An idempotent one sends again what was not answered, some batches at a time; a plain
//! one sends each batch once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use millrace_model::{
    BatchBuilder, BatchSpec, BrokerId, LogId, ProducerEpoch, ProducerId, ProducerStamp, Sequence,
};
use millrace_replication::partition::Acks;

use super::Link;
use crate::sim::cluster::mirror::print_of;
use crate::sim::cluster::partition::Fate;
use crate::sim::cluster::slot::{Take, slot};
use crate::sim::cluster::world::trace;

/// Batches in flight that idempotence allows.
const MAX_IN_FLIGHT: u64 = 5;

/// See the module's documentation.
pub(in crate::sim::cluster) struct Producer {
    pub(in crate::sim::cluster) link: Link,
    pub(in crate::sim::cluster) log: LogId,
    pub(in crate::sim::cluster) idempotent: bool,
    /// All that it sent has been answered, and it sends no more.
    pub(in crate::sim::cluster) done: Rc<Cell<bool>>,
}

#[derive(Clone)]
struct Batch {
    bytes: Bytes,
    records: u64,
    number: u128,
}

impl Producer {
    pub(in crate::sim::cluster) async fn run(self) {
        match self.idempotent {
            true => self.run_idempotent().await,
            false => self.run_plain().await,
        }
        self.done.set(true);
    }

    async fn run_idempotent(&self) {
        let id = loop {
            if let Some(id) = self.producer_id().await {
                break id;
            }
            self.link.sleep(20, 200).await;
        };
        let window = 1 + self.link.world.below(MAX_IN_FLIGHT) as usize;
        let mut sequence = 0;
        let mut unanswered: VecDeque<Batch> = VecDeque::new();
        let mut leader = None;
        loop {
            self.link.sleep(5, 120).await;
            while unanswered.len() < window && !self.link.world.quiet.get() {
                let stamp = ProducerStamp {
                    id,
                    epoch: ProducerEpoch(0),
                    base_sequence: Sequence(sequence),
                };
                let batch = self.batch(Some(stamp));
                sequence += i32::try_from(batch.records).unwrap_or(1);
                unanswered.push_back(batch);
                if self.link.world.one_in(2) {
                    break;
                }
            }
            if unanswered.is_empty() {
                return;
            }
            if leader.is_none() {
                leader = self.link.leader(self.log).await;
            }
            let Some(to) = leader else { continue };
            if !self.send_all(to, &mut unanswered).await {
                leader = None;
            }
        }
    }

    /// Sends these in order, and forgets those that are acknowledged. Whether all are.
    async fn send_all(&self, to: BrokerId, batches: &mut VecDeque<Batch>) -> bool {
        let mut fates = Vec::new();
        for batch in batches.iter() {
            fates.push((batch.number, self.send(to, batch.clone(), Acks::All)));
        }
        let mut all = true;
        for (number, fate) in fates {
            match fate.await.flatten() {
                Some(Ok(base)) => {
                    if let Some(at) = batches.iter().position(|batch| batch.number == number) {
                        self.acknowledged(&batches[at], base);
                        batches.remove(at);
                    }
                }
                Some(Err(code)) => {
                    let world = &self.link.world;
                    trace!(world, "{} refused: {code:?}", self.link.address);
                    all = false;
                }
                None => all = false,
            }
        }
        all
    }

    /// Sends a batch at once; the fate comes later.
    fn send(&self, to: BrokerId, batch: Batch, acks: Acks) -> Take<Option<Fate>> {
        let (give, take) = slot();
        let (link, log) = (self.link.clone(), self.log);
        let bytes = batch.bytes;
        // Asked here, so that batches leave in order.
        let world = Rc::clone(&link.world);
        let asked = world.begin_ask(link.address, to, move |broker| {
            broker.produce(log, &bytes, acks)
        });
        self.link.world.tasks.spawn(async move {
            give.give(link.in_time(asked).await.flatten());
        });
        take
    }

    fn acknowledged(&self, batch: &Batch, base: u64) {
        let world = &self.link.world;
        trace!(
            world,
            "{} acknowledged at {base}: {}", self.link.address, self.log
        );
        let print = print_of(&batch.bytes);
        let mut checker = world.checker.borrow_mut();
        let told = checker
            .of(self.log)
            .producer_told(print, base, batch.records);
        drop(checker);
        world.note(told);
    }

    async fn run_plain(&self) {
        let acks = match self.link.world.one_in(2) {
            true => Acks::All,
            false => Acks::Leader,
        };
        while !self.link.world.quiet.get() {
            self.link.sleep(20, 300).await;
            let Some(to) = self.link.leader(self.log).await else {
                continue;
            };
            let batch = self.batch(None);
            let fate = self.send(to, batch.clone(), acks).await.flatten();
            if let (Some(Ok(base)), Acks::All) = (fate, acks) {
                self.acknowledged(&batch, base);
            }
        }
    }

    async fn producer_id(&self) -> Option<ProducerId> {
        let world = &self.link.world;
        let index = usize::try_from(world.below(world.nodes.len() as u64)).unwrap_or(0);
        let to = world.nodes[index].id;
        let id = self
            .link
            .ask(to, |broker| broker.producer_id())
            .await?
            .ok()?;
        let given = {
            let mut checker = world.checker.borrow_mut();
            checker.metadata.producer_id(self.link.address, id.0)
        };
        world.note(given);
        Some(id)
    }

    fn batch(&self, producer: Option<ProducerStamp>) -> Batch {
        let world = &self.link.world;
        let number = world.number();
        let records = 1 + world.below(4);
        let padding = vec![b'.'; world.below(300) as usize];
        let mut builder = BatchBuilder::new();
        let now = super::super::clock::wall();
        for index in 0..records {
            let mut value = format!("{number} {index} ").into_bytes();
            value.extend_from_slice(&padding);
            let appended = builder.append(None, Some(&value), [], now);
            appended.expect("a few short records fit into a batch");
        }
        let spec = BatchSpec {
            producer,
            ..BatchSpec::default()
        };
        let bytes = builder.build(&spec).expect("it has records");
        Batch {
            bytes: bytes.into(),
            records,
            number,
        }
    }
}
