//! Writes answers in order, as many at a time as are known.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use futures_lite::future::or;
use millrace_net::Rope;

use super::{Answer, Connection, MAX_IN_FLIGHT};
use crate::metrics::Counter;

/// Bytes that a client must take in the time that a watch allows: one that reads a byte now and
/// then would else hold the pages of a large response for ever.
const PROGRESS: usize = 64 << 10;

/// Writes until the lane is closed and empty, or the connection is broken.
pub(super) async fn run(connection: &Rc<Connection>) {
    let mut answers = Vec::new();
    let mut rope = Rope::default();
    while connection.answers.settled().await {
        connection.answers.take_settled(&mut answers, MAX_IN_FLIGHT);
        let fetches = answers.iter().filter(|answer| answer.is_fetch).count();
        rope.extend(answers.drain(..).flat_map(|Answer { chunks, .. }| chunks));
        let metrics = connection.shard.metrics();
        metrics.add(Counter::KafkaBytesOut, rope.len() as u64);
        if let Err(error) = write(connection, &mut rope).await {
            let peer = connection.socket.peer();
            tracing::debug!(%peer, %error, "a Kafka connection is closed");
            return;
        }
        if fetches > 0 {
            connection.fetches.set(connection.fetches.get() - fetches);
            connection.freed.notify();
        }
    }
}

async fn write(connection: &Connection, rope: &mut Rope) -> io::Result<()> {
    if connection.socket.try_write_all(rope)? {
        return Ok(());
    }
    let watch = connection.shard.stalls().watch();
    while !rope.is_empty() {
        watch.begin(Instant::now());
        let writing = connection.socket.write(rope, PROGRESS);
        let stalled = async {
            watch.stalled().await;
            Err(io::ErrorKind::TimedOut.into())
        };
        or(writing, stalled).await?;
    }
    Ok(())
}
