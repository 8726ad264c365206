//! A follower's stream at its leader: what it says goes to the partitions, and what they say goes back.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::or;
use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LogId};
use millrace_net::Stint;
use millrace_replication::Refusal;
use millrace_replication::partition::{LeaderMessage, SessionId};
use millrace_wire::{
    ChunkQueue, FollowerRecord, FollowerSaid, RecordReader, ReplicaOpen, ReplicaOpened, Response,
    StreamKind, encode,
};

use super::host::Host;
use super::sending::FollowerStream;
use super::stream::{Incoming, Outgoing, StreamEnded};
use super::translate::{first_record, follower_message};
use crate::partition::Partition;
use crate::shard::{Shard, wire_error};

/// Partitions that are being opened because a follower of one stream asks for them. It is read no further
/// while there are more.
const MAX_OPENING: usize = 1024;

/// Finds the partitions of a shard.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub(crate) trait FindPartition: Clone + 'static {
    /// The partition if it is open.
    fn open(&self, log: LogId) -> Option<Rc<Partition>>;

    /// The partition, opened if need be.
    ///
    /// # Errors
    /// It is not of this shard, or cannot be opened.
    async fn find(&self, log: LogId) -> Result<Rc<Partition>, Refusal>;
}

impl FindPartition for Rc<Shard> {
    fn open(&self, log: LogId) -> Option<Rc<Partition>> {
        self.open_partition(log)
    }

    async fn find(&self, log: LogId) -> Result<Rc<Partition>, Refusal> {
        match self.owns(log) {
            true => self.partition(log).await,
            false => {
                let message = format!("{log} is of another shard");
                Err(Refusal::new(ErrorCode::NotLeaderOrFollower, message))
            }
        }
    }
}

/// Serves the stream of a follower's shard until it ends. `from` is the broker that the connection has
/// proven to be; `rest` is what followed `open`.
pub(crate) async fn serve_replica_stream(
    (host, partitions): (Rc<Host>, impl FindPartition),
    from: BrokerId,
    open: ReplicaOpen,
    (mut incoming, mut outgoing): (impl Incoming, impl Outgoing),
    rest: ChunkQueue,
) {
    let opening = match check(&host, from, &open) {
        Ok(()) => opened(&host),
        Err(refusal) => {
            tracing::warn!(%from, %refusal, "a replica stream is refused");
            let refused = encode(StreamKind::Control, &Response::Error(wire_error(refusal)));
            if let Ok(bytes) = refused {
                // A peer that does not listen gets no answer.
                let _ = outgoing.write(&mut [bytes]).await;
                outgoing.finish();
            }
            return;
        }
    };
    let stream = FollowerStream::new(from);
    let reader = Rc::new(Reader {
        from,
        life: open.life,
        stream: Rc::clone(&stream),
        partitions,
        opening: RefCell::default(),
        tasks: Cell::new(0),
        host: Rc::clone(&host),
    });
    let reading = async {
        for first in &open.partitions {
            reader.hear(first_record(first)).await;
        }
        reader.read(&mut incoming, rest).await
    };
    let writing = async {
        outgoing.write(&mut [opening]).await?;
        stream.write(&mut outgoing).await
    };
    let slow = async {
        stream.read_slowly(&host).await;
        Ok(())
    };
    // Whichever ends first ends the others.
    let _ended: Result<(), StreamEnded> = or(or(reading, writing), slow).await;
    stream.end();
}

fn check(host: &Host, from: BrokerId, open: &ReplicaOpen) -> Result<(), Refusal> {
    let code = ErrorCode::ClusterAuthorizationFailed;
    if open.cluster != host.cluster {
        let message = format!("this broker is of cluster {}", host.cluster);
        return Err(Refusal::new(code, message));
    }
    match open.broker == from {
        true => Ok(()),
        false => {
            let message = format!("broker {from} speaks for broker {}", open.broker);
            Err(Refusal::new(code, message))
        }
    }
}

fn opened(host: &Host) -> Bytes {
    let opened = ReplicaOpened {
        broker: host.broker,
        life: host.life.get(),
        shard: host.shard,
    };
    encode(StreamKind::Replicate, &opened).expect("a few numbers are below the limit")
}

struct Reader<P> {
    from: BrokerId,
    life: BrokerEpoch,
    stream: Rc<FollowerStream>,
    partitions: P,
    /// What was said last of partitions that are being opened.
    opening: RefCell<HashMap<LogId, FollowerRecord>>,
    tasks: Cell<usize>,
    host: Rc<Host>,
}

impl<P: FindPartition> Reader<P> {
    async fn read(
        self: &Rc<Self>,
        incoming: &mut impl Incoming,
        rest: ChunkQueue,
    ) -> Result<(), StreamEnded> {
        let mut records = RecordReader::new(rest);
        let mut stint = Stint::default();
        loop {
            match records.next_record::<FollowerRecord>() {
                Ok(Some(record)) => {
                    self.hear(record).await;
                    stint.go_on().await;
                }
                Ok(None) => records.push(stint.awaiting(incoming.chunk()).await?),
                Err(error) => {
                    tracing::warn!(from = %self.from, %error, "a follower is not understood");
                    return Err(StreamEnded);
                }
            }
        }
    }

    async fn hear(self: &Rc<Self>, record: FollowerRecord) {
        let log = record.log;
        if let Some(partition) = self.partitions.open(log) {
            return self.pass_on(&partition, &record);
        }
        let before = self.opening.borrow_mut().insert(log, record);
        if before.is_some() || !matches!(record.said, FollowerSaid::Subscribe(_)) {
            if before.is_none() {
                self.opening.borrow_mut().remove(&log);
            }
            return;
        }
        let reader = Rc::clone(self);
        if self.tasks.get() >= MAX_OPENING {
            return reader.open(log).await;
        }
        self.tasks.set(self.tasks.get() + 1);
        let opening = async move {
            reader.open(log).await;
            reader.tasks.set(reader.tasks.get() - 1);
        };
        glommio::spawn_local_into(opening, self.host.foreground)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    /// Opens a partition and passes on what was said last of it.
    async fn open(&self, log: LogId) {
        let found = self.partitions.find(log).await;
        let Some(record) = self.opening.borrow_mut().remove(&log) else {
            return;
        };
        match found {
            Ok(partition) => self.pass_on(&partition, &record),
            Err(refusal) => {
                let session = SessionId {
                    life: self.life,
                    number: record.session,
                };
                let refused = LeaderMessage::Refused(refusal.code);
                self.stream.tell(log, session, refused);
            }
        }
    }

    fn pass_on(&self, partition: &Rc<Partition>, record: &FollowerRecord) {
        if self.stream.has_ended() {
            return;
        }
        self.stream.concerns(partition);
        let message = follower_message(self.life, record);
        partition.hear_follower((self.from, &self.stream), message);
    }
}
