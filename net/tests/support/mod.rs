//! A broker's endpoints that echo, and a client, each on executors of their own.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by tests that use parts"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod certificates;

use glommio::{LocalExecutorBuilder, Placement};
use millrace_model::{ShardCount, ShardId};
use millrace_net::{
    ConnectionLimits, EndpointOptions, Forwarding, PREEMPTION_TIMER, ServerIdentity, ShardEndpoint,
    SocketGroup, SocketOptions, TransportLimits, bind_group,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use rustls::pki_types::pem::PemObject;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Memory that an executor registers with its ring: little, for tests run side by side.
const IO_MEMORY: usize = 1 << 20;

pub fn shards(count: u8) -> ShardCount {
    ShardCount::new(count).unwrap()
}

pub fn executor(name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPTION_TIMER)
        .name(name)
        .io_memory(IO_MEMORY)
}

/// How a test's broker differs from the default one.
#[derive(Clone, Copy)]
pub struct BrokerOptions {
    pub shards: u8,
    pub socket: SocketOptions,
    pub transport: TransportLimits,
    pub limits: ConnectionLimits,
    pub spin: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            socket: SocketOptions::default(),
            transport: TransportLimits::broker(),
            limits: ConnectionLimits::default(),
            spin: Duration::ZERO,
        }
    }
}

/// What a shard's counters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub received: u64,
    pub forwarded_out: u64,
    pub forwarded_in: u64,
    pub dropped_full: u64,
    pub garbage: u64,
    pub wakeups: u64,
    pub spins: u64,
    pub receive_errors: u64,
    pub accepted: u64,
    pub turned_away: u64,
    pub postponed: u64,
    pub retried: u64,
    pub timed_out: u64,
    pub failed: u64,
    pub connections: usize,
    /// CPU time of the shard's thread.
    pub cpu: Duration,
}

/// Shards that echo each stream.
pub struct Broker {
    addr: SocketAddr,
    trust: PathBuf,
    own_data_dir: Option<tempfile::TempDir>,
    asks: Vec<flume::Sender<flume::Sender<Counts>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Broker {
    pub fn start(shards: u8) -> Self {
        Self::with(BrokerOptions {
            shards,
            ..BrokerOptions::default()
        })
    }

    pub fn with(options: BrokerOptions) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let mut broker = Self::at((Ipv4Addr::LOCALHOST, 0).into(), data_dir.path(), options);
        broker.own_data_dir = Some(data_dir);
        broker
    }

    pub fn at(addr: SocketAddr, data_dir: &Path, options: BrokerOptions) -> Self {
        let identity = ServerIdentity::in_data_dir(data_dir).unwrap();
        let group = bind_group(addr, shards(options.shards), &options.socket).unwrap();
        let SocketGroup { addr, sockets, .. } = group;
        let mut broker = Self {
            addr,
            trust: data_dir.join("tls/cert.pem"),
            own_data_dir: None,
            asks: Vec::new(),
            threads: Vec::new(),
        };
        let forwardings = Forwarding::between(shards(options.shards));
        for (socket, forwarding) in sockets.into_iter().zip(forwardings) {
            let (ask, asked) = flume::unbounded();
            let identity = identity.clone();
            let thread = executor("shard").spawn(move || async move {
                let endpoint = ShardEndpoint::start(EndpointOptions {
                    socket,
                    forwarding,
                    identity,
                    transport: options.transport,
                    limits: options.limits,
                    queue: glommio::executor().current_task_queue(),
                    spin: options.spin,
                });
                serve(endpoint.unwrap(), asked).await;
            });
            broker.asks.push(ask);
            broker.threads.push(thread_of(thread.unwrap()));
        }
        broker
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The file of the certificate that clients trust.
    pub fn trust(&self) -> PathBuf {
        self.trust.clone()
    }

    pub fn counts(&self, shard: usize) -> Counts {
        let (answer, answered) = flume::bounded(1);
        self.asks[shard].send(answer).unwrap();
        answered.recv().unwrap()
    }

    fn end(&mut self) {
        self.asks.clear();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

fn thread_of(executor: glommio::ExecutorJoinHandle<()>) -> JoinHandle<()> {
    std::thread::spawn(move || executor.join().unwrap())
}

/// Echoes and answers counts until nobody can ask any more.
async fn serve(endpoint: ShardEndpoint, asked: flume::Receiver<flume::Sender<Counts>>) {
    let accepting = endpoint.clone();
    let _accepting = glommio::spawn_local(async move {
        while let Some(connection) = accepting.accept().await {
            glommio::spawn_local(echo(connection)).detach();
        }
    });
    while let Ok(answer) = asked.recv_async().await {
        answer.send(counts(&endpoint)).ok();
    }
    endpoint
        .shut_down("the test is over", Duration::from_secs(1))
        .await;
}

pub async fn echo(connection: Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        glommio::spawn_local(async move {
            while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
                if send.write_chunk(chunk.bytes).await.is_err() {
                    return;
                }
            }
            send.finish().ok();
        })
        .detach();
    }
}

fn counts(endpoint: &ShardEndpoint) -> Counts {
    let (datagrams, attempts) = (endpoint.datagrams(), endpoint.counters());
    Counts {
        received: datagrams.received.get(),
        forwarded_out: datagrams.forwarded_out.get(),
        forwarded_in: datagrams.forwarded_in.get(),
        dropped_full: datagrams.dropped_full.get(),
        garbage: datagrams.garbage.get(),
        wakeups: datagrams.wakeups.get(),
        spins: datagrams.spins.get(),
        receive_errors: datagrams.receive_errors.get(),
        accepted: attempts.accepted.get(),
        turned_away: attempts.turned_away.get(),
        postponed: attempts.postponed.get(),
        retried: attempts.retried.get(),
        timed_out: attempts.timed_out.get(),
        failed: attempts.failed.get(),
        connections: endpoint.connections(),
        cpu: thread_cpu(),
    }
}

pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one `timespec` into a live local.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

/// Runs a client on an executor of its own.
pub struct ClientExecutor;

impl ClientExecutor {
    pub fn run<T, F>(client: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        executor("client").spawn(client).unwrap().join().unwrap()
    }
}

/// A client's endpoint on loopback that trusts the certificate in a file.
pub fn client(trust: &Path) -> Endpoint {
    millrace_net::client_endpoint((Ipv4Addr::LOCALHOST, 0).into(), client_config(trust)).unwrap()
}

pub fn client_config(trust: &Path) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_file(trust).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    config.transport_config(Arc::new(TransportLimits::client().to_quinn()));
    config
}

/// The same, opening connections at `shard`.
pub fn client_config_for(trust: &Path, shard: u8, count: u8) -> ClientConfig {
    let mut config = client_config(trust);
    config.initial_dst_cid_provider(Arc::new(move || {
        millrace_net::initial_cid_for(ShardId(shard), shards(count))
    }));
    config
}

/// Sends `message` on a new stream; returns what came back.
pub async fn echo_once(connection: &Connection, message: &[u8]) -> Vec<u8> {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(message).await.unwrap();
    send.finish().unwrap();
    receive.read_to_end(message.len()).await.unwrap()
}

/// Length and an order-sensitive checksum of a sequence of bytes (FNV-1a over 8 bytes).
#[derive(Debug, PartialEq, Eq)]
pub struct Checksum {
    hash: u64,
    word: u64,
    pub len: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            word: 0,
            len: 0,
        }
    }
}

impl Checksum {
    pub fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.word = self.word << 8 | u64::from(byte);
            self.len += 1;
            if self.len.is_multiple_of(8) {
                self.hash = (self.hash ^ self.word).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

/// `total` bytes that do not repeat, in chunks.
pub fn chunks(total: usize, chunk: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 1_u64;
    (0..total).step_by(chunk).map(move |start| {
        let mut bytes = vec![0; chunk.min(total - start)];
        for word in bytes.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        bytes
    })
}

/// Asks until there is an answer.
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Resident memory of this process in bytes.
pub fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    // SAFETY: a question without arguments in memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap()
}
