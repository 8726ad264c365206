//! A broker that is gone is noticed long before the connection's idle timeout, which is out of reach here, as are the
//! timeouts of requests: what ends must end for another reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

mod fake;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fake::{FakeBroker, TOPIC};
use millrace_client::{Client, ClientError, ConnectOptions};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const NEVER: Duration = Duration::from_secs(600);

/// What lies between client and broker.
struct Network {
    address: SocketAddr,
    way: Arc<Way>,
    tasks: JoinSet<()>,
}

/// Which datagrams arrive: those of clients from this one on, counted as they were seen first.
#[derive(Default)]
struct Way {
    open_from: AtomicUsize,
    clients: AtomicUsize,
}

impl Way {
    fn is_open_to(&self, client: usize) -> bool {
        client >= self.open_from.load(Ordering::SeqCst)
    }
}

impl Network {
    async fn before(broker: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let way = Arc::<Way>::default();
        let mut tasks = JoinSet::new();
        let address = front.local_addr().unwrap();
        tasks.spawn(there(front, broker, Arc::clone(&way)));
        Self {
            address,
            way,
            tasks,
        }
    }

    /// Nothing of the clients that were seen before, nor to them, arrives any more.
    fn forget_clients(&self) {
        let seen = self.way.clients.load(Ordering::SeqCst);
        self.way.open_from.store(seen, Ordering::SeqCst);
    }

    /// Nothing arrives, or everything does.
    fn set_silent(&self, is_silent: bool) {
        let open_from = if is_silent { usize::MAX } else { 0 };
        self.way.open_from.store(open_from, Ordering::SeqCst);
    }

    /// Nobody listens at its port any more.
    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn there(front: Arc<UdpSocket>, broker: SocketAddr, way: Arc<Way>) {
    let mut backs: HashMap<SocketAddr, (usize, Arc<UdpSocket>)> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut datagram = vec![0; 1 << 16];
    while let Ok((len, client)) = front.recv_from(&mut datagram).await {
        if let Entry::Vacant(place) = backs.entry(client) {
            let number = way.clients.fetch_add(1, Ordering::SeqCst);
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            back.connect(broker).await.unwrap();
            let (from, to) = (Arc::clone(&back), Arc::clone(&front));
            answers.spawn(back_again(from, to, (number, client), Arc::clone(&way)));
            place.insert((number, back));
        }
        let (number, back) = &backs[&client];
        if way.is_open_to(*number) {
            let _ = back.send(&datagram[..len]).await;
        }
    }
}

async fn back_again(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    (number, client): (usize, SocketAddr),
    way: Arc<Way>,
) {
    let mut datagram = vec![0; 1 << 16];
    while let Ok(len) = back.recv(&mut datagram).await {
        if way.is_open_to(number) {
            let _ = front.send_to(&datagram[..len], client).await;
        }
    }
}

async fn connect(broker: &FakeBroker, network: &Network, connect_timeout: Duration) -> Client {
    let options = ConnectOptions {
        broker: network.address,
        connect_timeout,
        request_timeout: NEVER,
        idle_timeout: NEVER,
        ..broker.options()
    };
    let client = Client::connect(options).await.unwrap();
    client.metadata(Some(&[TOPIC])).await.unwrap();
    client
}

#[tokio::test]
async fn a_request_goes_over_another_connection_where_this_one_is_lost() {
    let broker = FakeBroker::start(1);
    let network = Network::before(broker.address).await;
    let client = connect(&broker, &network, NEVER).await;
    network.forget_clients();
    client.metadata(Some(&[TOPIC])).await.unwrap();
}

#[tokio::test]
async fn a_silent_broker_is_given_up() {
    let broker = FakeBroker::start(1);
    let network = Network::before(broker.address).await;
    let client = connect(&broker, &network, Duration::from_millis(200)).await;
    network.set_silent(true);
    let error = client.metadata(Some(&[TOPIC])).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.is_retriable());
    network.set_silent(false);
    client.metadata(Some(&[TOPIC])).await.unwrap();
}

#[tokio::test]
async fn a_port_where_nobody_listens_any_more_is_noticed() {
    let broker = FakeBroker::start(1);
    let network = Network::before(broker.address).await;
    let client = connect(&broker, &network, NEVER).await;
    network.end().await;
    let error = client.metadata(Some(&[TOPIC])).await.unwrap_err();
    assert!(error.to_string().contains("nobody listens"), "{error}");
    assert!(error.is_retriable());
}
