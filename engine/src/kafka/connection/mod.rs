//! A connection: reads requests, has many of them answered at the same time, and writes the
//! responses in the order of the requests.
//!
//! Two halves run side by side in one task. The *reader* cuts frames, decodes them and begins each
//! request; what is not answered at once goes on in a task of its own. The *writer* takes answers
//! from the lane between the two, as many in one write as are known.
//!
//! **Bounds.** At most [`MAX_IN_FLIGHT`] requests are begun and not answered. At most one Fetch is
//! begun whose response is not written, for a response holds pages of the log; the reader waits
//! beyond, as Kafka does behind any request. A client that does not read its responses is cut off
//! once a write has made no progress for as long as a watch allows.
//!
//! A connection ends by its client, by bytes that are no request, by silence, or by the shutdown
//! of the broker. Of its client and of a broker in good order it takes leave: it answers what it has
//! begun, and closes.

mod arrivals;
mod frames;
mod writer;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::{or, poll_once};
use glommio::timer::sleep;
use millrace_kafka::{ApiKey, Request, Response};
use millrace_net::TcpConnection;
use millrace_net::pulse::{Work, named};

use super::context::RequestContext;
use super::dispatch::{self, Decoded, Reply};
use super::groups;
use crate::lane::{Lane, Place};
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::shard::notice::{Notice, Signal};
use arrivals::Arrivals;
pub(crate) use arrivals::Behind;
pub(crate) use frames::Memory;
use frames::{Frame, Frames, ReadEnd};

/// Requests of one connection that are begun and not answered. Clients have five or so on their
/// way; the rest is for those that send without waiting.
const MAX_IN_FLIGHT: usize = 64;

/// How long a connection may answer what it had begun after the broker began to shut down. Produce
/// requests take a write; who waits for others (a member of a group) comes again.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long it may when the client has said that it sends no more. Most of those are gone altogether,
/// and their group should not wait for them: enough for a write, too short to be a member.
const LEAVE_TIME: Duration = Duration::from_millis(200);

/// What the requests of a connection share.
pub(super) struct Connection {
    shard: Rc<Shard>,
    socket: TcpConnection,
    answers: Lane<Answer>,
    in_flight: Cell<usize>,
    /// Fetch requests whose response is not written.
    fetches: Cell<usize>,
    arrivals: Rc<Arrivals>,
    /// Whether the answers to its client's heartbeats may wait.
    is_patient: Cell<bool>,
    /// One of these two has become less.
    freed: Notice,
    /// Nobody waits for answers any more.
    ended: Signal<()>,
    /// Bytes moved when [`Connection::is_idle`] last looked, and since when there are no more.
    quiet: Cell<(u64, Option<Instant>)>,
}

/// What is done when no more is read.
enum Last {
    /// Nothing: the connection is closed.
    Close,
    /// What was begun is answered, as far as that takes no longer than this.
    Drain(Duration),
}

/// A response as bytes.
struct Answer {
    chunks: Vec<Bytes>,
    is_fetch: bool,
}

impl Connection {
    pub(super) fn new(shard: &Rc<Shard>, socket: TcpConnection) -> Rc<Self> {
        Rc::new(Self {
            shard: Rc::clone(shard),
            socket,
            answers: Lane::new(MAX_IN_FLIGHT),
            in_flight: Cell::new(0),
            fetches: Cell::new(0),
            arrivals: Rc::default(),
            is_patient: Cell::new(false),
            freed: Notice::default(),
            ended: Signal::default(),
            quiet: Cell::new((0, None)),
        })
    }

    /// Serves the connection until it ends.
    pub(super) async fn serve(self: Rc<Self>) {
        let ended = async {
            self.ended.wait().await;
        };
        or(ended, or(self.read(), writer::run(&self))).await;
        self.end();
        self.socket.shut_down();
    }

    /// Ends the connection at once.
    pub(super) fn end(&self) {
        self.ended.raise(());
    }

    /// Whether nothing was moved and nothing was in the making for `limit`. Looks at what has
    /// happened since it looked last, so it is for one caller who comes again and again.
    pub(super) fn is_idle(&self, now: Instant, limit: Duration) -> bool {
        let (seen, since) = self.quiet.get();
        let moved = self.socket.traffic();
        let is_quiet = moved == seen && self.in_flight.get() == 0;
        let since = since.filter(|_| is_quiet).unwrap_or(now);
        self.quiet.set((moved, Some(since)));
        now.duration_since(since) >= limit
    }

    /// Reads and begins requests. Returns when the connection is to be closed.
    async fn read(self: &Rc<Self>) {
        let mut frames = Frames::new(&self.shard, &self.socket);
        let reading = async {
            loop {
                self.room().await;
                match frames.next().await {
                    Ok(Some(frame)) => {
                        if self.begin(frame).await.is_break() {
                            return Last::Close;
                        }
                    }
                    Ok(None) => {
                        self.arrivals.end();
                        return Last::Drain(LEAVE_TIME);
                    }
                    Err(end) => {
                        self.explain(&end);
                        return Last::Close;
                    }
                }
            }
        };
        let draining = async {
            self.shard.draining().wait().await;
            self.arrivals.note();
            Last::Drain(DRAIN_TIME)
        };
        if let Last::Drain(time) = or(reading, draining).await {
            // The writer ends after the last answer.
            self.answers.close();
            sleep(time).await;
        }
    }

    /// Waits until another request may be begun.
    async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.in_flight.get() < MAX_IN_FLIGHT {
                break;
            }
            freed.await;
        }
        self.answers.room().await;
    }

    /// Waits until the response of the last Fetch is written.
    async fn room_for_fetch(&self) {
        loop {
            let freed = self.freed.notified();
            if self.fetches.get() == 0 {
                return;
            }
            freed.await;
        }
    }

    fn explain(&self, end: &ReadEnd) {
        let peer = self.socket.peer();
        tracing::debug!(%peer, error = %end, "a Kafka connection is closed");
        if !matches!(end, ReadEnd::Broken(_)) {
            self.shard.metrics().count(Counter::KafkaConnectionsRefused);
        }
    }

    /// Begins a request. Breaks when the connection is to be closed.
    async fn begin(self: &Rc<Self>, frame: Frame) -> ControlFlow<()> {
        let Frame {
            bytes,
            memory,
            begun,
            whole,
        } = frame;
        let (header, request) = match dispatch::decode(bytes) {
            Decoded::Request(header, request) => (header, request),
            Decoded::Answer(correlation_id, response, version) => {
                self.arrivals.note();
                return self.answer_at_once(version, correlation_id, &response);
            }
            Decoded::Refused(error) => {
                let peer = self.socket.peer();
                tracing::debug!(%peer, %error, "a Kafka connection is closed");
                self.shard.metrics().count(Counter::KafkaConnectionsRefused);
                return ControlFlow::Break(());
            }
        };
        self.arrivals.note();
        if let Request::ApiVersions(hello) = &request {
            self.is_patient.set(groups::is_patient(hello));
        }
        let is_fetch = header.api == ApiKey::Fetch;
        if is_fetch {
            self.room_for_fetch().await;
            self.fetches.set(self.fetches.get() + 1);
        }
        let answered = matches!(&request, Request::Produce(produce) if produce.acks == 0);
        let place = (!answered).then(|| self.answers.reserve());
        let context = RequestContext {
            client_id: header.client_id,
            peer: self.socket.peer(),
            local: self.socket.local(),
            version: header.version,
            begun,
            whole,
            behind: self.is_patient.get().then(|| self.arrivals.behind()),
        };
        self.in_flight.set(self.in_flight.get() + 1);
        let (connection, shard) = (Rc::clone(self), Rc::clone(&self.shard));
        let (version, correlation_id, api) = (header.version, header.correlation_id, header.api);
        let mut serving = Box::pin(async move {
            let reply = dispatch::serve(shard, context, request, memory).await;
            connection.settle(api, version, correlation_id, place, &reply);
        });
        // What is done before the first wait is done in the order of the requests.
        if poll_once(serving.as_mut()).await.is_none() {
            let connection = Rc::clone(self);
            let serving = async move {
                let ended = async {
                    connection.ended.wait().await;
                };
                or(ended, serving).await;
            };
            self.shard.spawn(named(Work::KafkaRequest, serving));
        }
        ControlFlow::Continue(())
    }

    /// A request has come to its end.
    fn settle(
        &self,
        api: ApiKey,
        version: i16,
        correlation_id: i32,
        place: Option<Place>,
        reply: &Reply,
    ) {
        self.shard.metrics().kafka_request(api.name());
        self.in_flight.set(self.in_flight.get() - 1);
        self.freed.notify();
        let chunks = match reply {
            Reply::Response(response) => dispatch::encode(version, correlation_id, response),
            Reply::Silence => return,
            Reply::Close => None,
        };
        match (chunks, place) {
            (Some(chunks), Some(place)) => {
                let is_fetch = api == ApiKey::Fetch;
                self.answers.settle(place, Answer { chunks, is_fetch });
            }
            _ => self.end(),
        }
    }

    fn answer_at_once(
        &self,
        version: i16,
        correlation_id: i32,
        response: &Response,
    ) -> ControlFlow<()> {
        match dispatch::encode(version, correlation_id, response) {
            Some(chunks) => {
                let place = self.answers.reserve();
                let is_fetch = false;
                self.answers.settle(place, Answer { chunks, is_fetch });
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }
}
