//! How a shard reaches other brokers: against endpoints that stand for them, on one executor.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared with the tests of the network, which use more of it"
)]
#[path = "../../net/tests/support/certificates.rs"]
mod certificates;

use std::cell::RefCell;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use certificates::Authority;
use futures_lite::future::{or, zip};
use glommio::{LocalExecutorBuilder, Placement};
use millrace_engine::config::Voter;
use millrace_engine::controller::PeerTransport as _;
use millrace_engine::controller::QUIC_LISTENER;
use millrace_engine::peers::{ControllerPeers, PeerError, Peers};
use millrace_model::{BrokerId, ClusterId, ErrorCode, IncarnationId, ShardCount, ShardId};
use millrace_net::tls::PeerFault;
use millrace_net::{
    ConnectionLimits, EndpointOptions, Forwarding, PREEMPTION_TIMER, PeerIdentity, ShardEndpoint,
    SocketGroup, SocketOptions, TransportLimits, bind_group, proven_peer,
};
use millrace_replication::cluster::{Cluster, Command, Endpoint, FeatureRange, Registration};
use millrace_replication::quorum::Index;
use millrace_wire::{
    MessageReader, PeerName, QuorumOpen, QuorumReader, Request, Response, StreamKind, WireError,
    encode, reset_code,
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const ONE: BrokerId = BrokerId(1);
const TWO: BrokerId = BrokerId(2);
const FIRST: ShardId = ShardId(0);

/// A request that the other side refuses.
const REFUSED: &[u8] = b"refuse this";

fn name(broker: BrokerId) -> PeerName {
    PeerName {
        broker,
        cluster: CLUSTER,
    }
}

fn identity(authority: &Authority, broker: BrokerId) -> PeerIdentity {
    let files = authority.broker(name(broker));
    PeerIdentity::from_files(files.paths(), name(broker)).unwrap()
}

fn run<T, F>(test: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPTION_TIMER)
        .io_memory(1 << 20)
        .spawn(test);
    executor.unwrap().join().unwrap()
}

/// A connection that a broker has accepted: on which shard, and of whom.
type Accepted = (ShardId, Option<PeerName>);

/// The shards of a broker that writes down what it is told.
struct Called {
    addr: SocketAddr,
    endpoints: Vec<ShardEndpoint>,
    /// They hold the endpoints, and end when they are dropped.
    _accepting: Vec<glommio::Task<()>>,
    accepted: Rc<RefCell<Vec<Accepted>>>,
    messages: flume::Receiver<(BrokerId, Bytes)>,
}

impl Called {
    fn start(identity: &PeerIdentity, shards: u8, port: u16) -> Self {
        let shards = ShardCount::new(shards).unwrap();
        let bind = (Ipv4Addr::LOCALHOST, port).into();
        let group = bind_group(bind, shards, &SocketOptions::default()).unwrap();
        let SocketGroup { addr, sockets, .. } = group;
        let (say, messages) = flume::unbounded();
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let (mut endpoints, mut accepting) = (Vec::new(), Vec::new());
        for (socket, forwarding) in sockets.into_iter().zip(Forwarding::between(shards)) {
            let shard = forwarding.shard();
            let endpoint = ShardEndpoint::start(EndpointOptions {
                socket,
                forwarding,
                identity: identity.server().clone(),
                transport: TransportLimits::broker(),
                limits: ConnectionLimits::default(),
                queue: glommio::executor().current_task_queue(),
                spin: Duration::ZERO,
            });
            let endpoint = endpoint.unwrap();
            endpoints.push(endpoint.clone());
            let (accepted, say) = (Rc::clone(&accepted), say.clone());
            accepting.push(glommio::spawn_local(async move {
                while let Some(connection) = endpoint.accept().await {
                    accepted
                        .borrow_mut()
                        .push((shard, proven_peer(&connection)));
                    glommio::spawn_local(serve(connection, say.clone())).detach();
                }
            }));
        }
        Self {
            _accepting: accepting,
            addr,
            endpoints,
            accepted,
            messages,
        }
    }

    async fn stop(&self) {
        for endpoint in &self.endpoints {
            endpoint
                .shut_down("the test stops it", Duration::from_secs(1))
                .await;
        }
    }

    /// The first connections that it has accepted, once there are so many.
    async fn accepted(&self, count: usize) -> Vec<Accepted> {
        while self.accepted.borrow().len() < count {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        self.accepted.borrow().clone()
    }

    async fn message(&self) -> (BrokerId, Bytes) {
        self.messages.recv_async().await.unwrap()
    }
}

async fn serve(connection: Connection, say: flume::Sender<(BrokerId, Bytes)>) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        let say = say.clone();
        glommio::spawn_local(async move {
            let _ = serve_stream(send, recv, say).await;
        })
        .detach();
    }
}

async fn serve_stream(
    mut send: SendStream,
    mut recv: RecvStream,
    say: flume::Sender<(BrokerId, Bytes)>,
) -> Option<()> {
    let mut reader = MessageReader::default();
    while reader.preface().unwrap().is_none() {
        reader.push(recv.read_chunk(1 << 16, true).await.ok()??.bytes);
    }
    match reader.preface().unwrap().unwrap().kind {
        StreamKind::Control => {
            let Request::Peer(request) = message(&mut reader, &mut recv).await? else {
                panic!("another request");
            };
            let response = match request == REFUSED {
                true => Response::Error(WireError {
                    code: ErrorCode::NotController as i16,
                    message: "broker 3 leads".into(),
                }),
                false => Response::Peer(request.into_iter().rev().collect()),
            };
            send.write_chunk(encode(StreamKind::Control, &response).unwrap())
                .await
                .ok()?;
            send.finish().ok()
        }
        StreamKind::Quorum => {
            let open: QuorumOpen = message(&mut reader, &mut recv).await?;
            assert_eq!(open.cluster, CLUSTER);
            let mut reader = QuorumReader::new(reader.into_rest());
            loop {
                while let Some(message) = reader.next_message().unwrap() {
                    if message == REFUSED {
                        let code = reset_code(ErrorCode::ClusterAuthorizationFailed);
                        return recv.stop(VarInt::from_u32(code)).ok();
                    }
                    say.send((open.broker, message)).unwrap();
                }
                reader.push(recv.read_chunk(1 << 16, true).await.ok()??.bytes);
            }
        }
        kind => panic!("a {kind:?} stream"),
    }
}

async fn message<M: millrace_wire::Message>(
    reader: &mut MessageReader,
    recv: &mut RecvStream,
) -> Option<M> {
    loop {
        if let Some(message) = reader.message().unwrap() {
            return Some(message);
        }
        reader.push(recv.read_chunk(1 << 16, true).await.ok()??.bytes);
    }
}

fn voter(broker: BrokerId, addr: SocketAddr) -> Voter {
    Voter {
        broker,
        host: addr.ip().to_string(),
        port: addr.port(),
    }
}

fn peers(authority: &Authority, voters: &[Voter]) -> Peers {
    let queue = glommio::executor().current_task_queue();
    Peers::new(identity(authority, ONE), voters, queue, Duration::ZERO)
}

/// An image in which a broker listens there with so many shards.
fn image(broker: BrokerId, addr: SocketAddr, shards: u8) -> Cluster {
    let mut image = Cluster::default();
    let found = Command::Found {
        cluster: CLUSTER,
        level: 1,
    };
    let register = Command::Register(Registration {
        cluster: CLUSTER,
        id: broker,
        incarnation: IncarnationId([2; 16]),
        clean_from: None,
        rack: None,
        endpoints: vec![Endpoint {
            listener: QUIC_LISTENER.into(),
            host: addr.ip().to_string(),
            port: addr.port(),
        }],
        shards,
        features: FeatureRange { least: 1, most: 1 },
    });
    image.apply(Index(1), &found).unwrap();
    image.apply(Index(2), &register).unwrap();
    image
}

#[test]
fn who_asks_at_the_same_time_shares_one_connection() {
    run(|| async {
        let authority = Authority::new("ours");
        let called = Called::start(&identity(&authority, TWO), 1, 0);
        let peers = peers(&authority, &[voter(TWO, called.addr)]);
        let (first, second) = zip(peers.connection(TWO, FIRST), peers.connection(TWO, FIRST)).await;
        assert_eq!(first.unwrap().stable_id(), second.unwrap().stable_id());
        let third = peers.connection(TWO, FIRST).await.unwrap();
        assert_eq!(peers.proven_broker(&third), Some(TWO));
        assert_eq!(called.accepted(1).await, [(FIRST, Some(name(ONE)))]);
    });
}

#[test]
fn who_gives_up_leaves_the_attempt_to_the_next() {
    run(|| async {
        let authority = Authority::new("ours");
        let called = Called::start(&identity(&authority, TWO), 1, 0);
        let peers = peers(&authority, &[voter(TWO, called.addr)]);
        let given_up = async {
            or(
                async { drop(peers.connection(TWO, FIRST).await) },
                futures_lite::future::yield_now(),
            )
            .await;
        };
        let (connection, ()) = zip(
            async {
                futures_lite::future::yield_now().await;
                peers.connection(TWO, FIRST).await
            },
            given_up,
        )
        .await;
        assert_eq!(peers.proven_broker(&connection.unwrap()), Some(TWO));
    });
}

#[test]
fn a_connection_lands_on_the_shard_that_was_asked_for() {
    run(|| async {
        let authority = Authority::new("ours");
        let called = Called::start(&identity(&authority, TWO), 3, 0);
        let peers = peers(&authority, &[voter(TWO, called.addr)]);
        let held = peers.connection(TWO, FIRST).await.unwrap();
        let unknown = peers.connection(TWO, ShardId(2)).await;
        assert!(matches!(unknown, Err(PeerError::NoSuchShard { .. })));
        peers.learn(&image(TWO, called.addr, 3));
        for shard in [ShardId(2), ShardId(1)] {
            peers.connection(TWO, shard).await.unwrap();
        }
        let accepted = called.accepted(3).await;
        let mut shards: Vec<u8> = accepted.iter().map(|(shard, _)| shard.0).collect();
        shards.sort_unstable();
        assert_eq!(shards, [0, 1, 2]);
        // It has left the cluster: what there was is closed.
        peers.learn(&Cluster::default());
        assert_eq!(held.closed().await, ConnectionError::LocallyClosed);
    });
}

#[test]
fn messages_arrive_in_order_and_requests_are_answered() {
    run(|| async {
        let authority = Authority::new("ours");
        let called = Called::start(&identity(&authority, TWO), 2, 0);
        let controllers =
            ControllerPeers::new(peers(&authority, &[voter(TWO, called.addr)]), |_, _| {});
        for message in ["one", "two", "three"] {
            controllers.send(TWO, Bytes::from_static(message.as_bytes()));
        }
        let long = Bytes::from(vec![7; 1 << 20]);
        controllers.send(TWO, long.clone());
        for expected in ["one", "two", "three"] {
            assert_eq!(
                called.message().await,
                (ONE, Bytes::from_static(expected.as_bytes()))
            );
        }
        assert_eq!(called.message().await.1, long);
        let answer = controllers
            .call(TWO, Bytes::from_static(b"abc"))
            .await
            .unwrap();
        assert_eq!(answer, "cba");
        let refusal = controllers
            .call(TWO, Bytes::from_static(REFUSED))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NotController);
        assert_eq!(refusal.message, "broker 3 leads");
        assert_eq!(called.accepted(1).await, [(FIRST, Some(name(ONE)))]);
    });
}

#[test]
fn a_stream_that_was_refused_is_opened_again() {
    run(|| async {
        let authority = Authority::new("ours");
        let called = Called::start(&identity(&authority, TWO), 1, 0);
        let controllers =
            ControllerPeers::new(peers(&authority, &[voter(TWO, called.addr)]), |_, _| {});
        controllers.send(TWO, Bytes::from_static(REFUSED));
        let again = async {
            loop {
                controllers.send(TWO, Bytes::from_static(b"again"));
                glommio::timer::sleep(Duration::from_millis(50)).await;
            }
        };
        let message = or(async { called.message().await }, again).await;
        assert_eq!(message.1, "again");
    });
}

/// A broker on an executor of its own, which ends with it.
struct Life {
    addr: SocketAddr,
    messages: flume::Receiver<(BrokerId, Bytes)>,
    end: flume::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Life {
    fn begin(identity: &PeerIdentity, port: u16) -> Self {
        let identity = identity.clone();
        let (begun, begins) = flume::bounded(1);
        let (end, ends) = flume::bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            run(move || async move {
                let called = Called::start(&identity, 1, port);
                begun.send((called.addr, called.messages.clone())).unwrap();
                ends.recv_async().await.unwrap();
                called.stop().await;
            });
        });
        let (addr, messages) = begins.recv().unwrap();
        Self {
            addr,
            messages,
            end,
            thread,
        }
    }

    fn end(self) {
        self.end.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_broker_that_comes_back_is_reached_again() {
    let authority = Authority::new("ours");
    let two = identity(&authority, TWO);
    let life = Life::begin(&two, 0);
    let addr = life.addr;
    run(move || async move {
        let peers = peers(&authority, &[voter(TWO, addr)]);
        let controllers = ControllerPeers::new(peers.clone(), |_, _| {});
        controllers.send(TWO, Bytes::from_static(b"before"));
        assert_eq!(life.messages.recv_async().await.unwrap().1, "before");
        let connection = peers.connection(TWO, FIRST).await.unwrap();
        life.end();
        connection.closed().await;
        let refusal = controllers
            .call(TWO, Bytes::from_static(b"x"))
            .await
            .unwrap_err();
        assert_eq!(
            refusal.code,
            ErrorCode::BrokerNotAvailable,
            "{}",
            refusal.message
        );
        let life = Life::begin(&two, addr.port());
        let again = async {
            loop {
                controllers.send(TWO, Bytes::from_static(b"after"));
                glommio::timer::sleep(Duration::from_millis(50)).await;
            }
        };
        let message = or(async { life.messages.recv_async().await.unwrap() }, again).await;
        assert_eq!(message.1, "after");
        assert!(
            controllers
                .call(TWO, Bytes::from_static(b"x"))
                .await
                .is_ok()
        );
        life.end();
    });
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let authority = Authority::new("ours");
    let two = identity(&authority, TWO);
    let (say_addr, addr) = flume::bounded(1);
    let (freeze, frozen) = flume::bounded::<()>(1);
    let (thaw, thawed) = flume::bounded::<()>(1);
    let silent = std::thread::spawn(move || {
        run(move || async move {
            let called = Called::start(&two, 1, 0);
            say_addr.send(called.addr).unwrap();
            frozen.recv_async().await.unwrap();
            // Nothing runs on this executor meanwhile, as if the process were stopped.
            thawed.recv().unwrap();
        });
    });
    run(move || async move {
        let peers = peers(&authority, &[voter(TWO, addr.recv().unwrap())]);
        let connection = peers.connection(TWO, FIRST).await.unwrap();
        freeze.send(()).unwrap();
        assert_eq!(connection.closed().await, ConnectionError::TimedOut);
        let error = peers.connection(TWO, FIRST).await.unwrap_err();
        let is_silence = matches!(
            error,
            PeerError::Late { .. } | PeerError::Unreachable { .. }
        );
        assert!(is_silence, "{error}");
        thaw.send(()).unwrap();
    });
    silent.join().unwrap();
}

#[test]
fn who_is_not_who_was_asked_for_is_refused() {
    run(|| async {
        let authority = Authority::new("ours");
        let three = BrokerId(3);
        let called = Called::start(&identity(&authority, TWO), 1, 0);
        let peers = peers(&authority, &[voter(three, called.addr)]);
        let error = peers.connection(three, FIRST).await.unwrap_err();
        let fault = match error {
            PeerError::Certificate { fault, .. } => fault,
            other => panic!("{other}"),
        };
        assert_eq!(fault, PeerFault::AnotherBroker);
        let error = peers.connection(BrokerId(9), FIRST).await.unwrap_err();
        assert!(matches!(error, PeerError::Unknown(BrokerId(9))), "{error}");
        assert!(
            error.to_string().contains("controller.quorum.voters"),
            "{error}"
        );
    });
}
