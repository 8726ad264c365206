//! Consumers: each one stream from each of its partitions, until it is told where to end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::{Decompressor, Offset};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::BenchError;
use crate::measure::Tally;
use crate::options::{Load, StartFrom};
use crate::payload::stamp_of;
use crate::stage::Stage;
use crate::target::{BenchTopics, Place, Target, Who};
use crate::transport::{BatchReceiver, Received};

/// How far consumers read.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    /// That is not known yet.
    Open,
    /// To these offsets, one for each place.
    At(Arc<Vec<Offset>>),
    /// No further.
    Now,
}

/// What is looked at in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// How many records it has. Their bytes are known, for all have one size; or each is looked
    /// at.
    Count,
    /// When its first record was due, and with it all of them.
    Stamp,
    /// When each record was due.
    Stamps,
}

impl Look {
    /// What shows when records were due.
    pub(crate) fn at_stamps(load: &Load) -> Self {
        match load.linger {
            Some(_) => Self::Stamps,
            None => Self::Stamp,
        }
    }
}

/// A consumer's stream of one partition.
pub(crate) struct Reader {
    place: Place,
    batches: BatchReceiver,
    from: StartFrom,
}

/// Who reads what: each consumer has one partition, or they are dealt out.
pub(crate) fn assigned(topics: &BenchTopics, load: &Load) -> Vec<(Place, Who)> {
    let consumers = load.consumers();
    let of = |index| {
        let places = topics.places_of(index, consumers).into_iter();
        places.map(move |place| (place, Who::Consumer(index)))
    };
    (0..consumers).flat_map(of).collect()
}

/// Opens one stream.
///
/// # Errors
/// The broker cannot be reached or refuses.
pub(crate) async fn open(
    target: &Target,
    topics: &BenchTopics,
    who: (Place, Who),
    load: &Load,
    from: StartFrom,
) -> Result<Reader, BenchError> {
    Ok(Reader {
        place: who.0,
        batches: target.consumer(topics, who, load, from).await?,
        from,
    })
}

/// Opens all consumers' streams.
///
/// # Errors
/// The broker cannot be reached or refuses.
pub(crate) async fn open_all(
    target: &Target,
    topics: &BenchTopics,
    load: &Load,
    from: StartFrom,
) -> Result<Vec<Reader>, BenchError> {
    let mut readers = Vec::new();
    for who in assigned(topics, load) {
        readers.push(open(target, topics, who, load, from).await?);
    }
    Ok(readers)
}

/// Starts what was opened.
pub(crate) fn start(
    readers: Vec<Reader>,
    look: Look,
    stage: &Stage,
    finish: &watch::Receiver<Finish>,
) -> JoinSet<Tally> {
    let mut running = JoinSet::new();
    for reader in readers {
        running.spawn(reader.run(look, stage.clone(), finish.clone()));
    }
    running
}

impl Reader {
    pub(crate) async fn run(
        mut self,
        look: Look,
        stage: Stage,
        mut finish: watch::Receiver<Finish>,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut counter = Counter {
            look,
            stage: &stage,
            scratch: Decompressor::new(),
        };
        // Where the tail begins is known with the first batch; nothing ends before that.
        let ended = stage.end();
        tokio::pin!(ended);
        let mut position = (self.from == StartFrom::Beginning).then_some(Offset::ZERO);
        loop {
            let end = match &*finish.borrow_and_update() {
                Finish::Open => None,
                Finish::Now => return tally,
                Finish::At(ends) => Some(ends[self.place.0]),
            };
            if end.is_some_and(|end| position.unwrap_or_default() >= end) {
                return tally;
            }
            let batch = tokio::select! {
                batch = self.batches.next() => batch,
                told = finish.changed() => match told {
                    Ok(()) => continue,
                    Err(_) => return tally, // the run was given up
                },
                () = &mut ended, if end.is_some() => {
                    missing(&mut tally, position, end);
                    return tally;
                }
            };
            match batch {
                Ok(Some(batch)) => {
                    position = Some(batch.next_offset());
                    if let Err(error) = counter.count(batch, &mut tally) {
                        tally.error(error);
                    }
                }
                Ok(None) => {
                    tally.error("the broker ended a stream that was to be read further");
                    missing(&mut tally, position, end);
                    return tally;
                }
                Err(error) => {
                    let since = stage.clock.now().as_secs_f64() - stage.window.from.as_secs_f64();
                    tally.lost.broken_at = Some(since);
                    tally.error(error);
                    missing(&mut tally, position, end);
                    return tally;
                }
            }
        }
    }
}

/// Counts what is there and was not read.
fn missing(tally: &mut Tally, position: Option<Offset>, end: Option<Offset>) {
    if let Some(end) = end {
        let position = position.unwrap_or_default();
        tally.lost.undelivered += end.0.saturating_sub(position.0);
    }
}

struct Counter<'a> {
    look: Look,
    stage: &'a Stage,
    scratch: Decompressor,
}

impl Counter<'_> {
    fn count(&mut self, batch: Received, tally: &mut Tally) -> Result<(), String> {
        let now = self.stage.clock.now();
        let records = batch.records();
        let size = self.stage.load.record_size;
        let track = &mut tally.delivered;
        let mut counted = 0;
        let mut count = |due: Duration, records, bytes, latency| {
            if self.stage.window.counts(due) {
                let since = due - self.stage.window.from;
                track.count(since, records, bytes, latency);
                track.until = track.until.max(now.saturating_sub(self.stage.window.from));
                counted += records;
            }
        };
        match self.look {
            Look::Count if size.is_fixed() => count(now, records, records * size.mean(), None),
            Look::Count => {
                let mut bytes = 0;
                batch.values(&mut self.scratch, |value| {
                    bytes += value.len() as u64;
                    ControlFlow::Continue(())
                })?;
                count(now, records, bytes, None);
            }
            Look::Stamp => {
                let (mut due, mut bytes) = (None, 0);
                batch.values(&mut self.scratch, |value| {
                    due = due.or(stamp_of(value));
                    bytes += value.len() as u64;
                    match size.is_fixed() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })?;
                if size.is_fixed() {
                    bytes = records * size.mean();
                }
                let due = due.ok_or("a record without a stamp")?;
                count(due, records, bytes, Some(now.saturating_sub(due)));
            }
            Look::Stamps => batch.values(&mut self.scratch, |value| {
                if let Some(due) = stamp_of(value) {
                    count(due, 1, value.len() as u64, Some(now.saturating_sub(due)));
                }
                ControlFlow::Continue(())
            })?,
        }
        self.stage.live.delivered(counted);
        Ok(())
    }
}
