//! Fetch sessions (KIP-227): what a consumer wants is remembered, so that it only says, and is only
//! told, what has changed.
//!
//! A session belongs to the shard whose connection began it. A consumer that comes back over another
//! shard's connection finds none and begins anew, which the protocol provides for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_kafka::{FetchPartition, FetchRequest};
use millrace_model::{ErrorCode, TopicId};

use super::read::Found;

/// Sessions of a shard: Kafka's `max.incremental.fetch.session.cache.slots` for a whole broker. A
/// consumer beyond is served without one.
const MAX_SESSIONS: usize = 1_000;

/// Partitions in all sessions of a shard, at some 150 bytes each.
const MAX_PARTITIONS: usize = 200_000;

/// A session that was not used for so long makes room for another: Kafka's
/// `min.incremental.fetch.session.eviction.ms`.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// The epochs of a request: one that begins a session, and one without.
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// No session.
const NO_SESSION: i32 = 0;

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    Name(Rc<str>),
    Id(TopicId),
}

/// A partition of a request.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) topic: TopicKey,
    pub(super) wanted: FetchPartition,
    /// What the client was told of it in this session: high watermark and log start.
    told: Option<(i64, i64)>,
}

impl Item {
    /// Whether the client must be told, in a session.
    fn is_news(&self, found: &Found) -> bool {
        let tells = Some((found.high_watermark, found.log_start));
        !found.records.is_empty() || found.is_urgent() || self.told != tells
    }
}

/// What a session remembers.
struct Session {
    /// Epoch of the next request.
    epoch: i32,
    /// Whether its topics are named by id.
    by_id: bool,
    /// In the order in which they are served: whose records were just sent come last.
    items: BTreeMap<u64, Item>,
    places: HashMap<(TopicKey, i32), u64>,
    next_place: u64,
    used: Instant,
}

impl Session {
    fn update(&mut self, item: Item) {
        let key = (item.topic.clone(), item.wanted.partition);
        match self.places.get(&key) {
            Some(place) => {
                let known = self.items.get_mut(place).expect("a place has an item");
                known.wanted = item.wanted;
            }
            None => self.append(key, item),
        }
    }

    fn append(&mut self, key: (TopicKey, i32), item: Item) {
        self.places.insert(key, self.next_place);
        self.items.insert(self.next_place, item);
        self.next_place += 1;
    }

    fn forget(&mut self, key: &(TopicKey, i32)) {
        if let Some(place) = self.places.remove(key) {
            self.items.remove(&place);
        }
    }
}

/// All sessions of a shard.
#[derive(Default)]
pub(crate) struct Sessions {
    sessions: RefCell<HashMap<i32, Session>>,
    partitions: Cell<usize>,
}

/// What a request asks for, with its session.
pub(super) struct Asked {
    /// Partitions, in the order in which they are served.
    pub(super) items: Vec<Item>,
    /// What the response names; 0 for none.
    pub(super) session: i32,
    /// Whether what has not changed is left out.
    is_incremental: bool,
}

impl Sessions {
    /// What `request` asks for, with what its session remembers.
    pub(super) fn open(&self, request: &FetchRequest, by_id: bool) -> Result<Asked, ErrorCode> {
        let (session, epoch) = (request.session_id, request.session_epoch);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            self.close(session);
            let items: Vec<Item> = items(request, by_id).collect();
            let session = match epoch {
                INITIAL_EPOCH if !items.is_empty() => self.begin(&items, by_id),
                _ => NO_SESSION,
            };
            return Ok(Asked {
                items,
                session,
                is_incremental: false,
            });
        }
        let mut sessions = self.sessions.borrow_mut();
        let Some(known) = sessions.get_mut(&session) else {
            return Err(ErrorCode::FetchSessionIdNotFound);
        };
        if epoch != known.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if known.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = known.items.len();
        for forgotten in &request.forgotten_topics_data {
            let topic = key(&forgotten.topic, forgotten.topic_id, by_id);
            for partition in &forgotten.partitions {
                known.forget(&(topic.clone(), *partition));
            }
        }
        let room = MAX_PARTITIONS.saturating_sub(self.partitions.get());
        if known.items.len() + items(request, by_id).count() > before + room {
            // The client begins anew, and is then served without a session.
            drop(sessions);
            self.close(session);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        items(request, by_id).for_each(|item| known.update(item));
        known.epoch = next_epoch(epoch);
        known.used = Instant::now();
        let after = known.items.len();
        self.partitions.set(self.partitions.get() + after - before);
        Ok(Asked {
            items: known.items.values().cloned().collect(),
            session,
            is_incremental: true,
        })
    }

    /// Leaves out of `found` what is no news to the client, and remembers the rest as told.
    pub(super) fn told(&self, asked: &Asked, found: &mut Vec<Found>) {
        if asked.is_incremental {
            found.retain(|found| asked.items[found.at].is_news(found));
        }
        let mut sessions = self.sessions.borrow_mut();
        let Some(session) = sessions.get_mut(&asked.session) else {
            return;
        };
        for found in found {
            let item = &asked.items[found.at];
            let key = (item.topic.clone(), item.wanted.partition);
            let Some(place) = session.places.get(&key).copied() else {
                continue;
            };
            let known = session.items.get_mut(&place).expect("a place has an item");
            known.told = match found.code {
                ErrorCode::None => Some((found.high_watermark, found.log_start)),
                _ => None,
            };
            if !found.records.is_empty() {
                let item = session.items.remove(&place).expect("it was just there");
                session.append(key, item);
            }
        }
    }

    /// A new session, or none when there is no room.
    fn begin(&self, items: &[Item], by_id: bool) -> i32 {
        if !self.has_room(items.len()) {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id,
            items: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
            used: Instant::now(),
        };
        items.iter().cloned().for_each(|item| session.update(item));
        self.partitions
            .set(self.partitions.get() + session.items.len());
        let mut sessions = self.sessions.borrow_mut();
        loop {
            // Random, so that another shard's or an earlier life's session is not taken for one.
            let id = fastrand::i32(1..);
            if let std::collections::hash_map::Entry::Vacant(slot) = sessions.entry(id) {
                slot.insert(session);
                return id;
            }
        }
    }

    fn has_room(&self, partitions: usize) -> bool {
        let fits = |sessions: &Self| {
            sessions.sessions.borrow().len() < MAX_SESSIONS
                && sessions.partitions.get() + partitions <= MAX_PARTITIONS
        };
        if fits(self) {
            return true;
        }
        let oldest = {
            let sessions = self.sessions.borrow();
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            oldest
                .filter(|(_, session)| session.used.elapsed() >= EVICTABLE_AFTER)
                .map(|(id, _)| *id)
        };
        oldest.is_some_and(|id| {
            self.close(id);
            fits(self)
        })
    }

    fn close(&self, session: i32) {
        if let Some(closed) = self.sessions.borrow_mut().remove(&session) {
            self.partitions
                .set(self.partitions.get() - closed.items.len());
        }
    }
}

/// Epochs go round, and never come by those that have a meaning of their own.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

fn key(name: &str, id: TopicId, by_id: bool) -> TopicKey {
    match by_id {
        true => TopicKey::Id(id),
        false => TopicKey::Name(name.into()),
    }
}

/// The partitions that a request names.
fn items(request: &FetchRequest, by_id: bool) -> impl Iterator<Item = Item> {
    request.topics.iter().flat_map(move |topic| {
        let key = key(&topic.topic, topic.topic_id, by_id);
        topic.partitions.iter().map(move |wanted| Item {
            topic: key.clone(),
            wanted: wanted.clone(),
            told: None,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use millrace_kafka::{FetchTopic, ForgottenTopic, RecordSet};
    use millrace_model::Offset;

    fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let partition = |&(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            ..Default::default()
        };
        FetchRequest {
            session_id,
            session_epoch,
            topics: vec![FetchTopic {
                topic: "t".to_owned(),
                partitions: partitions.iter().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn found(at: usize, high_watermark: i64, records: &'static str) -> Found {
        Found {
            code: ErrorCode::None,
            high_watermark,
            log_start: 0,
            records: RecordSet::from(bytes::Bytes::from(records)),
            seen: Offset::ZERO,
            ..Found::refused(at, ErrorCode::None)
        }
    }

    fn order(asked: &Asked) -> Vec<(i32, i64)> {
        let wanted = asked.items.iter().map(|item| &item.wanted);
        wanted.map(|w| (w.partition, w.fetch_offset)).collect()
    }

    #[test]
    fn a_session_remembers_updates_forgets_and_puts_last_whose_records_were_sent() {
        let sessions = Sessions::default();
        let first = sessions
            .open(&request(0, 0, &[(0, 5), (1, 5), (2, 5)]), false)
            .unwrap();
        assert_ne!(first.session, 0);
        let mut all = vec![found(0, 9, "x"), found(1, 9, ""), found(2, 9, "")];
        sessions.told(&first, &mut all);
        assert_eq!(all.len(), 3, "a full response tells everything");
        let second = sessions
            .open(&request(first.session, 1, &[(0, 6)]), false)
            .unwrap();
        assert_eq!(order(&second), [(1, 5), (2, 5), (0, 6)]);
        let mut news = vec![found(0, 9, ""), found(1, 10, ""), found(2, 9, "y")];
        sessions.told(&second, &mut news);
        let told: Vec<usize> = news.iter().map(|found| found.at).collect();
        assert_eq!(told, [1, 2], "a high watermark that stands is no news");
        let mut third = request(first.session, 2, &[]);
        third.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".to_owned(),
            partitions: vec![1, 7],
            ..Default::default()
        }];
        let third = sessions.open(&third, false).unwrap();
        assert_eq!(order(&third), [(2, 5), (0, 6)]);
        assert_eq!(sessions.partitions.get(), 2);
    }

    #[test]
    fn epochs_are_held_to_their_order_and_sessions_end() {
        let sessions = Sessions::default();
        let open = |id, epoch| sessions.open(&request(id, epoch, &[(0, 0)]), false);
        let id = open(0, 0).unwrap().session;
        assert_eq!(open(id, 2).err(), Some(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(
            open(id + 1, 1).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        let by_id = sessions.open(&request(id, 1, &[]), true);
        assert_eq!(by_id.err(), Some(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(open(id, 1).unwrap().session, id);
        assert_eq!(open(id, -1).unwrap().session, 0, "served without a session");
        assert_eq!(open(id, 2).err(), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(sessions.partitions.get(), 0);
    }

    #[test]
    fn beyond_the_limit_consumers_are_served_without_a_session() {
        let sessions = Sessions::default();
        for _ in 0..MAX_SESSIONS {
            assert_ne!(
                sessions
                    .open(&request(0, 0, &[(0, 0)]), false)
                    .unwrap()
                    .session,
                0
            );
        }
        let beyond = sessions.open(&request(0, 0, &[(0, 0)]), false).unwrap();
        assert_eq!((beyond.session, beyond.items.len()), (0, 1));
    }

    #[test]
    fn epochs_go_round_past_those_with_a_meaning() {
        assert_eq!(next_epoch(1), 2);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
