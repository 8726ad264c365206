//! The queue against a model of a broker that loses and refuses at random, from a seed.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_model::batch::BATCH_HEADER_LEN;
use millrace_model::{
    BatchBuilder, Compression, ErrorCode, FRAME_HEADER_LEN, Frame, LogId, Offset, ProducerEpoch,
    ProducerId, Sequence, Timestamp,
};
use millrace_wire::{Ack, Acks};

use super::inbox::Gathering;
use super::queue::{Next, Queue, QueueOptions, RETRY_BACKOFF};
use super::record::{Completion, Delivery, Fate};
use crate::{ClientError, PartitionId};

const HISTORIES: u64 = 3000;
const BATCHES: u32 = 30;

fn options() -> QueueOptions {
    QueueOptions {
        log: LogId::default(),
        acks: Acks::All,
        idempotent: true,
        compression: Compression::None,
        compression_level: None,
        max_in_flight: 4,
        delivery_timeout: Duration::from_secs(60),
    }
}

/// A batch of one to three records, the first of which holds `value`.
fn gathering(value: u32, now: Instant) -> (Gathering, Fate) {
    let mut builder = BatchBuilder::new();
    for _ in 0..=value % 3 {
        builder
            .append(None, Some(&value.to_le_bytes()), [], Timestamp(1))
            .unwrap();
    }
    let completion = Completion::default();
    let fate = completion.fate();
    (
        Gathering {
            builder,
            completion,
            reservation: None,
            since: now,
        },
        fate,
    )
}

fn result(fate: Fate) -> Option<Result<Option<Offset>, ClientError>> {
    let (partition, timestamp) = (PartitionId(0), Timestamp(1));
    let delivery = Delivery {
        fate,
        index: 0,
        partition,
        timestamp,
        waker: None,
    };
    match pin!(delivery).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result.map(|stored| stored.offset)),
        Poll::Pending => None,
    }
}

/// What a broker knows, with five batches a producer to recognise.
#[derive(Default)]
struct Broker {
    stored: Vec<u32>,
    ends: HashMap<ProducerId, Sequence>,
    recent: VecDeque<(ProducerId, Sequence, u64)>,
    end: u64,
}

impl Broker {
    fn knows(&self, frame: &Bytes) -> bool {
        let value = &frame[FRAME_HEADER_LEN + BATCH_HEADER_LEN..][6..10];
        self.stored
            .contains(&u32::from_le_bytes(value.try_into().unwrap()))
    }

    fn append(&mut self, frame: &Bytes) -> Ack {
        let frame = Frame::check_stored(frame, LogId::default().checksum_seed()).unwrap();
        let stamp = frame
            .batch()
            .producer()
            .expect("the producer is idempotent");
        let (count, base) = (frame.header().record_count, stamp.base_sequence);
        let next = self.ends.entry(stamp.id).or_insert(Sequence(0));
        let known =
            |(id, sequence, _): &&(ProducerId, Sequence, u64)| *id == stamp.id && *sequence == base;
        if let Some((_, _, offset)) = self.recent.iter().find(known) {
            return Ack::appended(Offset(*offset), Timestamp(1), Offset(0));
        }
        if base < *next {
            return Ack::refused(ErrorCode::DuplicateSequenceNumber, Offset(0));
        }
        if base > *next {
            return Ack::refused(ErrorCode::OutOfOrderSequenceNumber, Offset(0));
        }
        *next = base.plus(count);
        let records = &frame.batch().bytes()[BATCH_HEADER_LEN..];
        // Length, attributes, two deltas, a null key, the value's length: a byte each.
        self.stored
            .push(u32::from_le_bytes(records[6..10].try_into().unwrap()));
        self.recent.push_back((stamp.id, base, self.end));
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        let base = self.end;
        self.end += u64::from(count);
        Ack::appended(Offset(base), Timestamp(1), Offset(0))
    }
}

/// One history: random faults first, then none until everything is decided.
struct History {
    random: fastrand::Rng,
    now: Instant,
    queue: Queue,
    broker: Broker,
    /// Frames that the broker has not looked at.
    on_the_way: VecDeque<Bytes>,
    /// Acknowledgements that the client has not seen.
    on_the_way_back: VecDeque<Ack>,
    producers: i64,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Instant::now(),
            queue: Queue::new(options()),
            broker: Broker::default(),
            on_the_way: VecDeque::new(),
            on_the_way_back: VecDeque::new(),
            producers: 0,
        }
    }

    fn send(&mut self) {
        match self.queue.next(self.now) {
            Next::Send(frame) => self.on_the_way.push_back(frame),
            Next::Identify => {
                self.producers += 1;
                self.queue
                    .identify(ProducerId(self.producers), ProducerEpoch(0));
            }
            Next::Wait(until) => self.now = until.unwrap_or(self.now),
        }
    }

    fn handle_frame(&mut self, faults: bool) {
        let Some(frame) = self.on_the_way.pop_front() else {
            return;
        };
        let ack = match self.random.u32(0..10) {
            0 if faults => Ack::refused(ErrorCode::KafkaStorageError, Offset(0)),
            // A broker that stored a batch does not find fault with it later.
            1 if faults && !self.broker.knows(&frame) => {
                Ack::refused(ErrorCode::InvalidRecord, Offset(0))
            }
            _ => self.broker.append(&frame),
        };
        self.on_the_way_back.push_back(ack);
    }

    fn handle_ack(&mut self) {
        if let Some(ack) = self.on_the_way_back.pop_front() {
            self.queue.acknowledged(self.now, &ack).unwrap();
        }
    }

    fn break_stream(&mut self) {
        self.on_the_way.clear();
        self.on_the_way_back.clear();
        let broker = "127.0.0.1:1".parse().unwrap();
        let error = ClientError::Disconnected {
            broker,
            reason: String::new(),
        };
        self.queue.stream_broken(self.now, &error);
    }

    fn step(&mut self, faults: bool) {
        match self.random.u32(0..40) {
            0 if faults => self.break_stream(),
            1 if faults => self.now += Duration::from_secs(20),
            0..15 => self.send(),
            15..28 => self.handle_frame(faults),
            _ => self.handle_ack(),
        }
        self.queue.expire(self.now);
    }
}

/// Nothing acknowledged is missing, nothing refused is there, nothing is there twice, and
/// all is in order.
#[test]
fn random_faults_neither_lose_nor_double_nor_reorder() {
    for seed in 0..HISTORIES {
        let mut history = History::new(seed);
        let mut fates = Vec::new();
        for value in 0..BATCHES {
            let (gathering, fate) = gathering(value, history.now);
            history.queue.accept(gathering);
            fates.push(fate);
            (0..history.random.u32(0..20)).for_each(|_| history.step(true));
        }
        for _ in 0..100_000 {
            if history.queue.is_idle() {
                break;
            }
            history.step(false);
            history.now += Duration::from_millis(1);
        }
        check(seed, &history, fates);
    }
}

fn check(seed: u64, history: &History, fates: Vec<Fate>) {
    assert!(history.queue.is_idle(), "seed {seed}: something never ends");
    let stored = &history.broker.stored;
    assert!(stored.is_sorted_by(|a, b| a < b), "seed {seed}: {stored:?}");
    for (value, fate) in (0..).zip(fates) {
        match result(fate).unwrap_or_else(|| panic!("seed {seed}: {value} is undecided")) {
            Ok(_) => assert!(stored.contains(&value), "seed {seed}: {value} is lost"),
            // It may be stored: the broker did not say.
            Err(ClientError::TimedOut { .. }) => {}
            // Refused for good, or for the moment until its time ran out.
            Err(error) => {
                assert!(error.code() == ErrorCode::InvalidRecord || error.is_retriable());
                assert!(!stored.contains(&value), "seed {seed}: {value} was refused");
            }
        }
    }
}

#[test]
fn a_refused_batch_waits_before_it_goes_again() {
    let mut history = History::new(0);
    let (gathering, fate) = gathering(0, history.now);
    history.queue.accept(gathering);
    let start = history.now;
    history.send();
    history.send();
    let refusal = Ack::refused(ErrorCode::ThrottlingQuotaExceeded, Offset(0));
    history.queue.acknowledged(start, &refusal).unwrap();
    assert_eq!(
        history.queue.next(start),
        Next::Wait(Some(start + RETRY_BACKOFF))
    );
    assert!(matches!(
        history.queue.next(start + RETRY_BACKOFF),
        Next::Send(_)
    ));
    assert_eq!(result(fate), None);
}

#[test]
fn an_acknowledgement_too_many_is_an_error() {
    let mut history = History::new(0);
    let ack = Ack::appended(Offset(0), Timestamp(1), Offset(0));
    assert!(matches!(
        history.queue.acknowledged(history.now, &ack),
        Err(ClientError::Protocol(_))
    ));
    assert_eq!(history.queue.next(history.now), Next::Wait(None));
}
