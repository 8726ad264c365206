//! Accepts connections on a shard, within limits, and closes those that are idle.

use std::cell::Cell;
use std::net::TcpListener;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_net::pulse::{Work, named};
use millrace_net::{TcpAcceptor, TcpConnection};

use super::connection::Connection;
use crate::metrics::{Counter, Gauge};
use crate::shard::Shard;
use crate::shard::notice::Notice;

/// Pause after `accept` failed, for example because the process has no descriptor left: the
/// waiting client stays in the backlog, so trying again at once would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Looks at the connections in the time after which an idle one is closed: it then lives at most
/// an eighth longer.
const LOOKS: u32 = 8;

/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Serves the Kafka protocol until the shard drains.
pub(crate) fn serve(shard: &Rc<Shard>, listener: TcpListener) {
    let acceptor = TcpAcceptor::new(listener, Rc::clone(shard.spinner()));
    let connections = Rc::new(Connections::default());
    let shards = u64::from(shard.shards().get());
    connections
        .limit
        .set(crate::checks::kafka_connections(shard.config(), shards));
    shard.spawn(accept(Rc::clone(shard), acceptor, Rc::clone(&connections)));
    shard.spawn(close_idle(Rc::clone(shard), connections));
}

/// The connections of a shard.
#[derive(Default)]
struct Connections {
    all: std::cell::RefCell<Vec<Weak<Connection>>>,
    open: Cell<usize>,
    /// More are closed at once.
    limit: Cell<usize>,
    first_opened: Notice,
}

impl Connections {
    fn add(&self, connection: &Rc<Connection>) {
        let mut all = self.all.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|connection| connection.strong_count() > 0);
        }
        all.push(Rc::downgrade(connection));
        self.open.set(self.open.get() + 1);
        if self.open.get() == 1 {
            self.first_opened.notify();
        }
    }

    async fn some_open(&self) {
        loop {
            let opened = self.first_opened.notified();
            if self.open.get() > 0 {
                return;
            }
            opened.await;
        }
    }
}

async fn accept(shard: Rc<Shard>, acceptor: TcpAcceptor, connections: Rc<Connections>) {
    // Kafka's clients take what they are told for the whole truth, so nobody is told anything before.
    or(shard.joined().wait(), shard.draining().wait()).await;
    loop {
        let accepted = async { Some(acceptor.accept().await) };
        let draining = async {
            shard.draining().wait().await;
            None
        };
        match or(draining, accepted).await {
            Some(Ok(socket)) => admit(&shard, socket, &connections),
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting a Kafka connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
            None => return,
        }
    }
}

fn admit(shard: &Rc<Shard>, socket: TcpConnection, connections: &Rc<Connections>) {
    let metrics = shard.metrics();
    if connections.open.get() >= connections.limit.get() {
        metrics.count(Counter::KafkaConnectionsRefused);
        tracing::debug!(peer = %socket.peer(), "a Kafka connection over the limit is closed");
        return;
    }
    metrics.count(Counter::KafkaConnectionsOpened);
    metrics.raise(Gauge::KafkaConnections, 1);
    let connection = Connection::new(shard, socket);
    connections.add(&connection);
    let (counted, metrics) = (Rc::clone(connections), metrics.clone());
    let serving = async move {
        connection.serve().await;
        counted.open.set(counted.open.get() - 1);
        metrics.lower(Gauge::KafkaConnections, 1);
    };
    shard.spawn_session(named(Work::KafkaConnection, serving));
}

/// Closes connections on which nothing happens, for ever. Has no timer while there are none.
async fn close_idle(shard: Rc<Shard>, connections: Rc<Connections>) {
    let limit = shard.config().connections_max_idle.0;
    let pause = (limit / LOOKS).max(SHORTEST_PAUSE);
    loop {
        connections.some_open().await;
        sleep(pause).await;
        let now = Instant::now();
        let all: Vec<_> = {
            let all = connections.all.borrow();
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for connection in all {
            if connection.is_idle(now, limit) {
                connection.end();
            }
        }
    }
}
