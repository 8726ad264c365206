//! One stream to a leader's shard: what replicas of this shard say goes out, what the leader says comes in.

use std::rc::Rc;

use bytes::BytesMut;
use futures_lite::future::or;
use millrace_model::{ErrorCode, LogId};
use millrace_net::Stint;
use millrace_replication::partition::{FollowerInput, Input, LeaderMessage, SessionId};
use millrace_storage::ReplicaRun;
use millrace_wire::{
    ChunkQueue, LeaderRecord, LeaderSaid, MessageReader, RecordReader, ReplicaMark, ReplicaOpen,
    ReplicaOpened, Response, StreamKind, encode,
};

use super::host::Host;
use super::pull::{Link, Puller};
use super::stream::{Incoming, Outgoing, StreamEnded, chunk_soon, put_record};
use super::translate::{leader_message, watermark};
use crate::partition::Partition;
use crate::shard::budget::Permit;

/// Messages in one write: some 100 KiB.
const MESSAGES_A_WRITE: usize = 1024;

/// Follows a shard of a leader for ever. Without anything to say there is no stream.
pub(super) async fn follow<L: Link>(host: &Rc<Host>, link: &L, puller: &Puller) {
    loop {
        let something = puller.outbox.changed().notified();
        if puller.outbox.is_empty() {
            something.await;
            continue;
        }
        let (leader, shard) = (puller.leader, puller.shard);
        match link.open(leader, shard).await {
            Ok((outgoing, incoming)) => {
                let followed = follow_on(host, puller, outgoing, incoming).await;
                if let Err(why) = followed {
                    tracing::info!(%leader, %shard, why, "a leader's stream has ended");
                }
            }
            Err(why) => tracing::debug!(%leader, %shard, why, "a leader is not reached"),
        }
        // Their machines subscribe again, after a pause that grows.
        puller.lost();
    }
}

/// Why a stream ended, for a person.
type Why = &'static str;

const ENDED: Why = "it was closed or its connection is lost";

async fn follow_on(
    host: &Rc<Host>,
    puller: &Puller,
    mut outgoing: impl Outgoing,
    mut incoming: impl Incoming,
) -> Result<(), Why> {
    let open = ReplicaOpen {
        cluster: host.cluster,
        broker: host.broker,
        life: host.life.get(),
        shard: host.shard,
        partitions: Vec::new(),
    };
    let open = encode(StreamKind::Replicate, &open).map_err(|_| "it cannot be opened")?;
    let writing = async {
        outgoing.write(&mut [open]).await.map_err(|_| ENDED)?;
        write(puller, &mut outgoing).await.map_err(|_| ENDED)
    };
    let reading = async {
        let rest = opened(puller, &mut incoming).await?;
        let mut reader = Reader {
            host,
            puller,
            incoming: &mut incoming,
            records: RecordReader::new(rest),
        };
        reader.read().await
    };
    let ended = or(writing, reading).await;
    outgoing.finish();
    ended
}

/// Writes what there is to say until nobody follows any more.
async fn write(puller: &Puller, outgoing: &mut impl Outgoing) -> Result<(), StreamEnded> {
    let mut records = BytesMut::new();
    loop {
        let something = puller.outbox.changed().notified();
        for _ in 0..MESSAGES_A_WRITE {
            let Some(record) = puller.next_record() else {
                break;
            };
            put_record(&record, &mut records);
        }
        if !records.is_empty() {
            outgoing.write(&mut [records.split().freeze()]).await?;
        } else if puller.followed.borrow().is_empty() {
            return Ok(());
        } else {
            something.await;
        }
    }
}

/// Reads the answer to the opening, and returns what followed it.
async fn opened(puller: &Puller, incoming: &mut impl Incoming) -> Result<ChunkQueue, Why> {
    const STRANGE: Why = "its answer is not understood";
    let mut reader = MessageReader::default();
    let preface = loop {
        match reader.preface() {
            Ok(Some(preface)) => break preface,
            Ok(None) => reader.push(chunk_soon(incoming).await.map_err(|_| ENDED)?),
            Err(_) => return Err(STRANGE),
        }
    };
    let leader = puller.leader;
    loop {
        let answered = match preface.kind {
            StreamKind::Replicate => reader.message::<ReplicaOpened>().map(|opened| {
                let opened = opened?;
                Some(match opened.broker == leader {
                    true => Ok(()),
                    false => Err("another broker answers"),
                })
            }),
            _ => reader.message::<Response>().map(|response| {
                let response = response?;
                tracing::warn!(%leader, ?response, "a leader refuses the stream");
                Some(Err("it is refused"))
            }),
        };
        match answered {
            Ok(Some(Ok(()))) => return Ok(reader.into_rest()),
            Ok(Some(Err(why))) => return Err(why),
            Ok(None) => reader.push(chunk_soon(incoming).await.map_err(|_| ENDED)?),
            Err(_) => return Err(STRANGE),
        }
    }
}

struct Reader<'a, I> {
    host: &'a Host,
    puller: &'a Puller,
    incoming: &'a mut I,
    records: RecordReader,
}

impl<I: Incoming> Reader<'_, I> {
    async fn read(&mut self) -> Result<(), Why> {
        let mut stint = Stint::default();
        loop {
            match self.records.next_record::<LeaderRecord>() {
                Ok(Some(record)) => {
                    stint.awaiting(self.hear(record)).await?;
                    stint.go_on().await;
                }
                Ok(None) => {
                    let chunk = stint.awaiting(self.incoming.chunk()).await;
                    self.records.push(chunk.map_err(|_| ENDED)?);
                }
                Err(_) => return Err("the leader is not understood"),
            }
        }
    }

    async fn hear(&mut self, record: LeaderRecord) -> Result<(), Why> {
        let LeaderRecord { log, session, said } = record;
        if let LeaderSaid::Frames { len, mark } = said {
            return self.frames((log, session), len as usize, mark).await;
        }
        let message = leader_message(said);
        if let (Some(message), Some((partition, session))) =
            (message, self.puller.in_session(log, session))
        {
            let heard = FollowerInput::Message { session, message };
            partition.hear(Input::Follower(heard));
        }
        Ok(())
    }

    /// Collects frames, once there is memory for all of them, and hands them on.
    async fn frames(
        &mut self,
        (log, session): (LogId, u64),
        len: usize,
        mark: ReplicaMark,
    ) -> Result<(), Why> {
        let memory = self.host.budget.acquire(len).await;
        let memory = memory.map_err(|_| "its frames are longer than the shard's memory")?;
        let chunks = loop {
            if let Some(chunks) = self.records.take_run(len) {
                break chunks;
            }
            let chunk = chunk_soon(self.incoming).await;
            self.records.push(chunk.map_err(|_| ENDED)?);
        };
        // They may be of a session that has ended meanwhile.
        let Some((partition, session)) = self.puller.in_session(log, session) else {
            return Ok(());
        };
        match ReplicaRun::check(log, chunks) {
            Ok(run) => partition.store(session, (run, memory), watermark(mark)),
            Err(error) => {
                tracing::warn!(%log, leader = %self.puller.leader, %error, "a leader's frames are refused");
                refuse(&partition, session, memory);
            }
        }
        Ok(())
    }
}

/// Ends a session in which the leader sent what cannot be. The machine tries again, after a pause.
fn refuse(partition: &Partition, session: SessionId, memory: Permit) {
    drop(memory);
    let message = LeaderMessage::Refused(ErrorCode::CorruptMessage);
    let refused = FollowerInput::Message { session, message };
    partition.hear(Input::Follower(refused));
}
