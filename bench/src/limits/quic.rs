//! The transport without a protocol: a shard's endpoint on a glommio executor, as the embedded
//! broker has it (settings, spin, not pinned), and the client's on the runtime of the load.
//!
//! The broker lets nobody open a stream of one direction; a stream of two of which only one is
//! used carries the same bytes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::ExecutorJoinHandle;
use millrace_client::{ConnectOptions, Trust, bare_connection};
use millrace_engine::config::Layers;
use millrace_model::ShardCount;
use millrace_net::{
    ConnectionLimits, EndpointOptions, Forwarding, ServerIdentity, ShardEndpoint, SocketOptions,
    TransportLimits, bind_group,
};
use quinn::{Connection, RecvStream, SendStream};

use super::mesh::{executor, foreground, in_queue};
use super::{Item, Probe};
use crate::BenchError;
use crate::measure::Latencies;

/// Bytes of a round trip, each way.
const MESSAGE: usize = 1024;

/// Bytes handed to a stream at a time: those of a large batch.
const CHUNK: usize = 256 << 10;

/// Bytes taken off a stream at a time by a shard.
const SHARD_READ: usize = 256 << 10;

/// Chunks taken off a stream at a time by a client.
const CLIENT_READ: usize = 64;

/// How much of the time passes before it counts: windows have grown by then.
const WARM_UP: f64 = 0.2;

/// How long a shard waits for its clients to know that it ends.
const FAREWELL: Duration = Duration::from_millis(100);

/// What the shard does with a stream, by its first byte.
#[repr(u8)]
enum Service {
    /// Takes everything and ends when the client does.
    Swallow = b's',
    /// Sends for as many nanoseconds as the next eight bytes say.
    Pour = b'p',
    /// Sends back what comes.
    Echo = b'e',
}

/// One item. Must run on the runtime of the load.
pub(super) async fn measure(probe: Probe, time: Duration) -> Result<Item, BenchError> {
    let shard = Shard::start()?;
    let client = tokio::spawn({
        let options = shard.reached_by();
        async move {
            let connection = bare_connection(options).await?;
            let item = match probe {
                Probe::StreamUp => stream_up(&connection, time).await,
                Probe::StreamDown => stream_down(&connection, time).await,
                Probe::RoundTrip => round_trips(&connection, time).await,
                other => panic!("{} is not of the transport", other.name()),
            };
            connection.close(0_u32.into(), b"measured");
            item.map_err(|error| BenchError::Limits(format!("{}: {error}", probe.name())))
        }
    });
    let item = client.await.map_err(|error| refused(&error))?;
    super::blocking(move || shard.end()).await?;
    item
}

fn refused(error: &dyn std::fmt::Display) -> BenchError {
    BenchError::Limits(format!("a bare QUIC connection: {error}"))
}

/// Why a stream ended too soon.
type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn stream_up(connection: &Connection, time: Duration) -> Result<Item, Broken> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[Service::Swallow as u8]).await?;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let warm = Instant::now() + time.mul_f64(WARM_UP);
    while Instant::now() < warm {
        send.write_all_chunks(&mut [chunk.clone()]).await?;
    }
    let (began, mut chunks) = (Instant::now(), 0);
    while began.elapsed() < time {
        send.write_all_chunks(&mut [chunk.clone()]).await?;
        chunks += 1;
    }
    send.finish()?;
    receive.read_to_end(0).await?;
    // As many bytes were in flight when the time began as were left when it ended.
    let bytes = chunks * CHUNK as u64;
    Ok(Item::rate(Probe::StreamUp, chunks, bytes, began.elapsed()))
}

async fn stream_down(connection: &Connection, time: Duration) -> Result<Item, Broken> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let warm_up = time.mul_f64(WARM_UP);
    let nanos = u64::try_from((time + warm_up).as_nanos())?;
    send.write_all(&[Service::Pour as u8]).await?;
    send.write_all(&nanos.to_le_bytes()).await?;
    let (mut began, warm) = (None, Instant::now() + warm_up);
    let (mut bytes, mut count, mut last) = (0, 0, warm);
    loop {
        let mut chunks = [const { Bytes::new() }; CLIENT_READ];
        let Some(read) = receive.read_chunks(&mut chunks).await? else {
            break;
        };
        last = Instant::now();
        if began.is_some() {
            bytes += chunks[..read].iter().map(Bytes::len).sum::<usize>();
            count += read as u64;
        } else if last >= warm {
            began = Some(last);
        }
    }
    let took = last - began.ok_or("the stream ended too soon")?;
    Ok(Item::rate(Probe::StreamDown, count, bytes as u64, took))
}

async fn round_trips(connection: &Connection, time: Duration) -> Result<Item, Broken> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[Service::Echo as u8]).await?;
    let (message, mut back) = (Bytes::from(vec![7; MESSAGE]), vec![0; MESSAGE]);
    let mut latencies = Latencies::default();
    let warm = Instant::now() + time.mul_f64(WARM_UP);
    let end = warm + time;
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(Item::latency(Probe::RoundTrip, &latencies));
        }
        send.write_chunk(message.clone()).await?;
        receive.read_exact(&mut back).await?;
        if began >= warm {
            latencies.record(began.elapsed());
        }
    }
}

/// The other side: an executor with an endpoint.
struct Shard {
    directory: tempfile::TempDir,
    address: std::net::SocketAddr,
    stop: flume::Sender<()>,
    executor: ExecutorJoinHandle<()>,
}

impl Shard {
    fn start() -> Result<Self, BenchError> {
        let directory = tempfile::Builder::new()
            .prefix("millrace-limits.")
            .tempdir()?;
        let identity =
            ServerIdentity::in_data_dir(directory.path()).map_err(|error| refused(&error))?;
        let one = ShardCount::MIN;
        let any = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let group = bind_group(any, one, &SocketOptions::default());
        let group = group.map_err(|error| refused(&error))?;
        let socket = group.sockets.into_iter().next();
        let socket = socket.expect("a group has a socket for each shard");
        let config = Layers::default().build().map_err(|error| refused(&error))?;
        let spin = config.config.shard_spin.0;
        let (stop, stopped) = flume::bounded(1);
        let executor = executor("limits").spawn(move || async move {
            let queue = foreground();
            let serving = async move {
                let endpoint = ShardEndpoint::start(EndpointOptions {
                    socket,
                    forwarding: Forwarding::between(one).remove(0),
                    identity,
                    transport: TransportLimits::broker(),
                    limits: ConnectionLimits::default(),
                    queue,
                    spin,
                });
                match endpoint {
                    Ok(endpoint) => serve(endpoint, stopped).await,
                    Err(error) => eprintln!("millrace-bench: a shard's endpoint: {error}"),
                }
            };
            in_queue(queue, serving).await;
        });
        Ok(Self {
            directory,
            address: group.addr,
            stop,
            executor: executor.map_err(|error| refused(&error))?,
        })
    }

    fn reached_by(&self) -> ConnectOptions {
        let certificate = self.directory.path().join("tls/cert.pem");
        ConnectOptions::new(self.address, Trust::File(certificate))
    }

    fn end(self) -> Result<(), BenchError> {
        let _ = self.stop.send(()); // or it has ended already
        self.executor.join().map_err(|error| refused(&error))
    }
}

async fn serve(endpoint: ShardEndpoint, stopped: flume::Receiver<()>) {
    let accepting = endpoint.clone();
    let accepting = glommio::spawn_local(async move {
        while let Some(connection) = accepting.accept().await {
            glommio::spawn_local(async move {
                while let Ok((send, receive)) = connection.accept_bi().await {
                    // What breaks is seen, and told, at the client's end.
                    glommio::spawn_local(async move { drop(stream(send, receive).await) }).detach();
                }
            })
            .detach();
        }
    });
    let _ = stopped.recv_async().await;
    endpoint.shut_down("measured", FAREWELL).await;
    accepting.cancel().await;
}

async fn stream(mut send: SendStream, mut receive: RecvStream) -> Result<(), Broken> {
    let mut service = [0];
    receive.read_exact(&mut service).await?;
    match service[0] {
        of if of == Service::Swallow as u8 => {
            while receive.read_chunk(SHARD_READ, true).await?.is_some() {}
        }
        of if of == Service::Pour as u8 => {
            let mut nanos = [0; 8];
            receive.read_exact(&mut nanos).await?;
            let end = Instant::now() + Duration::from_nanos(u64::from_le_bytes(nanos));
            let chunk = Bytes::from(vec![7; CHUNK]);
            while Instant::now() < end {
                send.write_all_chunks(&mut [chunk.clone()]).await?;
            }
        }
        _ => {
            while let Some(chunk) = receive.read_chunk(SHARD_READ, true).await? {
                send.write_chunk(chunk.bytes).await?;
            }
        }
    }
    send.finish()?;
    Ok(())
}
