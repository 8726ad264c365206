//! A member of a consumer group (the broker-driven protocol): it is told which partitions to read, and commits how
//! far it has come.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use millrace_groups::{
    AlterOffsets, CommitOffset, CommittedOffset, ConsumerHeartbeat, FetchOffsets, OwnedPartitions,
    Request, Response, SaidOffset,
};
use millrace_model::{BrokerId, ErrorCode};

use super::Link;
use crate::sim::cluster::settings::{HEARTBEAT_MS, SESSION_MS};
use crate::sim::cluster::world::{OFFSETS, ORDERS, ORDERS_NAME, trace};

/// Who was not heard of for so long does not claim what it was given: the clocks of brokers run differently,
/// and what was sent later may have been heard earlier.
const LEASE_MS: i64 = SESSION_MS as i64 * 7 / 10;

/// How long a member may take to give up what it is told to. It counts from the first telling, whose answer may be lost,
/// and by a clock that may be fast; a member that is in touch must not be taken for dead by it while it still claims.
const REBALANCE_MS: i32 = 10_000;

const _: () = assert!(REBALANCE_MS as i64 * 7 / 10 > SESSION_MS as i64 + LEASE_MS);

/// What others see of a member.
#[derive(Default)]
pub(in crate::sim::cluster) struct Seen {
    pub(in crate::sim::cluster) owned: RefCell<BTreeSet<u32>>,
    pub(in crate::sim::cluster) heard: Cell<i64>,
    /// It goes without a word.
    pub(in crate::sim::cluster) lost: Cell<bool>,
}

/// See the module's documentation.
pub(in crate::sim::cluster) struct Member {
    link: Link,
    group: u32,
    seen: Rc<Seen>,
    id: String,
    epoch: i32,
    coordinator: Option<BrokerId>,
}

impl Member {
    pub(in crate::sim::cluster) fn new(link: Link, group: u32, seen: Rc<Seen>) -> Self {
        let id = format!("member-{}", link.world.number());
        Self {
            link,
            group,
            seen,
            id,
            epoch: 0,
            coordinator: None,
        }
    }

    pub(in crate::sim::cluster) async fn run(mut self) {
        while !self.seen.lost.get() {
            let pause = match self.beat().await {
                true => i64::from(HEARTBEAT_MS),
                false => 60,
            };
            self.link.sleep(pause / 2, pause).await;
            if self.epoch > 0 && self.link.world.one_in(2) {
                self.commit().await;
            }
            if self.link.world.one_in(3) {
                self.fetch().await;
            }
        }
    }

    /// A heartbeat, with all that the member is and has. Whether it was answered.
    async fn beat(&mut self) -> bool {
        let asked = self.link.world.clock.now();
        let owned = self.seen.owned.borrow().iter().copied().collect();
        let owned = vec![OwnedPartitions {
            topic: ORDERS,
            partitions: owned,
        }];
        let is_empty = owned[0].partitions.is_empty();
        let request = Request::ConsumerHeartbeat(ConsumerHeartbeat {
            group: self.group_name(),
            member: self.id.clone(),
            member_epoch: self.epoch,
            instance: None,
            rack: None,
            rebalance_timeout_ms: REBALANCE_MS,
            subscribed_topics: Some(vec![ORDERS_NAME.to_owned()]),
            subscribed_regex: None,
            assignor: None,
            owned: Some(if is_empty { Vec::new() } else { owned }),
        });
        match self.ask(request).await {
            Some((
                coordinator,
                Response::ConsumerHeartbeat {
                    member_epoch,
                    assignment,
                    ..
                },
            )) => {
                self.epoch = member_epoch;
                self.seen.heard.set(asked);
                if let Some(assignment) = assignment {
                    let mine = assignment.into_iter().filter(|it| it.topic == ORDERS);
                    let mine: BTreeSet<u32> = mine.flat_map(|it| it.partitions).collect();
                    if *self.seen.owned.borrow() != mine {
                        trace!(self.link.world, "{} owns {mine:?}", self.link.address);
                        *self.seen.owned.borrow_mut() = mine;
                    }
                }
                self.claim(coordinator, asked);
                true
            }
            Some((_, Response::Failed(failure))) => {
                self.coordinator = None;
                let is_fenced = matches!(
                    failure.code,
                    ErrorCode::FencedMemberEpoch
                        | ErrorCode::UnknownMemberId
                        | ErrorCode::GroupIdNotFound
                        | ErrorCode::IllegalGeneration
                        | ErrorCode::StaleMemberEpoch
                );
                if is_fenced {
                    trace!(
                        self.link.world,
                        "{} is fenced: {:?}", self.link.address, failure.code
                    );
                    self.epoch = 0;
                    self.seen.owned.borrow_mut().clear();
                    self.claim(0, asked);
                }
                false
            }
            _ => {
                self.coordinator = None;
                false
            }
        }
    }

    fn claim(&self, coordinator: u32, heard: i64) {
        let world = &self.link.world;
        let claim = (coordinator, heard, heard + LEASE_MS);
        let owned = self.seen.owned.borrow();
        let mut checker = world.checker.borrow_mut();
        let now = world.clock.now();
        let checked = checker
            .groups
            .claims((self.group, self.link.address), &owned, claim, now);
        drop(checker);
        world.note(checked);
    }

    async fn commit(&mut self) {
        let owned = self.seen.owned.borrow().clone();
        let index = self.link.world.below(owned.len() as u64);
        let Some(&partition) = owned.iter().nth(usize::try_from(index).unwrap_or(0)) else {
            return;
        };
        let world = Rc::clone(&self.link.world);
        // What the commit says is its number.
        let number = u64::try_from(world.number() & u128::from(u64::MAX)).unwrap_or(0);
        let place = (self.group, partition);
        let request = Request::Commit(CommitOffset {
            group: self.group_name(),
            generation_or_epoch: self.epoch,
            member: self.id.clone(),
            instance: None,
            retention_ms: None,
            offsets: vec![AlterOffsets {
                topic: ORDERS_NAME.to_owned(),
                partition,
                committed: CommittedOffset {
                    offset: SaidOffset(7),
                    leader_epoch: None,
                    metadata: number.to_string(),
                },
            }],
        });
        let sent = world.clock.now();
        world.checker.borrow_mut().groups.sent(place, number, sent);
        if let Some((coordinator, Response::Committed(fates))) = self.ask(request).await
            && fates == [ErrorCode::None]
        {
            trace!(
                world,
                "{} committed {number} of {partition}", self.link.address
            );
            let now = world.clock.now();
            let mut checker = world.checker.borrow_mut();
            checker
                .groups
                .acknowledged(place, number, (coordinator, now));
        }
    }

    async fn fetch(&mut self) {
        let world = Rc::clone(&self.link.world);
        let partition = u32::try_from(world.below(3)).unwrap_or(0);
        let request = Request::FetchOffsets(FetchOffsets {
            group: self.group_name(),
            member: None,
            member_epoch: -1,
            partitions: Some(vec![(ORDERS_NAME.to_owned(), vec![partition])]),
            require_stable: true,
        });
        let asked = world.clock.now();
        let Some((coordinator, Response::Offsets(offsets))) = self.ask(request).await else {
            return;
        };
        let committed = offsets.into_iter().next().and_then(|it| it.committed);
        let found = committed.and_then(|it| it.metadata.parse().ok());
        let checker = world.checker.borrow();
        let place = (self.group, partition);
        let checked = checker.groups.fetched(place, found, (coordinator, asked));
        drop(checker);
        world.note(checked);
    }

    /// Asks the group's coordinator. The number is the epoch in which it coordinates.
    async fn ask(&mut self, request: Request) -> Option<(u32, Response)> {
        if self.coordinator.is_none() {
            self.coordinator = self.link.leader(OFFSETS).await;
        }
        let (to, client) = (self.coordinator?, self.link.address);
        let answer = self.link.ask(to, move |broker| async move {
            broker.groups.ask(&broker, client, request).await
        });
        let answer = answer.await;
        if matches!(answer, None | Some((_, Response::Failed(_)))) {
            self.coordinator = None;
        }
        answer
    }

    fn group_name(&self) -> String {
        format!("group-{}", self.group)
    }
}
