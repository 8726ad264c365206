//! The task of one partition: takes batches from the inbox, sends them over a produce
//! stream, reads acknowledgements, and opens the stream anew when it breaks.

use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use millrace_model::ErrorCode;
use millrace_wire::Ack;
use tokio::sync::Notify;

use super::inbox::Inbox;
use super::partitioner::Sticky;
use super::queue::{Next, Queue, QueueOptions};
use crate::client::SILENCE;
use crate::link::Link;
use crate::runtime::{Either, Runtime, race};
use crate::streams::{AckReceiver, FrameSender, open_produce};
use crate::{Client, ClientError};

/// What senders and the task of a partition share.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    /// The task has something to look at.
    work: Notify,
}

impl Mailbox {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            inbox: Mutex::new(inbox),
            work: Notify::new(),
        }
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.work.notify_one();
    }
}

/// See the module.
pub(super) struct Pump {
    pub(super) client: Client,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) sticky: Arc<Sticky>,
    pub(super) options: QueueOptions,
    queue: Queue,
    /// What of the frame sent last the transport has not taken yet.
    outgoing: Bytes,
    /// When the broker was heard of last, on the present stream.
    heard: Instant,
}

/// Why a stream is no longer driven.
enum Ended {
    /// Nothing is left to do, ever.
    Done,
    /// It broke, or cannot be used.
    Broken(ClientError),
}

/// What happened on an open stream.
enum Event {
    Written(Result<(), ClientError>),
    Acknowledged(Result<Option<Ack>, ClientError>),
    /// Look at the inbox and the clock.
    Look,
    /// Nothing was heard of the broker for [`SILENCE`], although something is on its way.
    Silent,
}

impl Pump {
    pub(super) fn new(
        client: Client,
        mailbox: Arc<Mailbox>,
        sticky: Arc<Sticky>,
        options: QueueOptions,
    ) -> Self {
        let queue = Queue::new(options);
        let heard = client.shared().runtime.now();
        Self {
            heard,
            client,
            mailbox,
            sticky,
            options,
            queue,
            outgoing: Bytes::new(),
        }
    }

    pub(super) async fn run(mut self) {
        while self.wait_for_batches().await {
            let log = self.options.log;
            let link = self.client.link(log);
            let opening = open_produce(&link, log, self.options.acks);
            match race(opening, self.client.led_elsewhere(log, &link)).await {
                Either::Left(Ok((mut sender, mut acks, _))) => {
                    self.heard = self.runtime().now();
                    match self.drive(&link, &mut sender, &mut acks).await {
                        Ended::Done => return,
                        Ended::Broken(error) => self.broken(&error),
                    }
                }
                Either::Left(Err(error)) => self.not_opened(&error).await,
                Either::Right(()) => {}
            }
        }
    }

    /// Until there is something to send. False when there will never be.
    async fn wait_for_batches(&mut self) -> bool {
        loop {
            let now = self.runtime().now();
            self.collect(now);
            self.queue.expire(now);
            if !self.queue.is_idle() {
                return true;
            }
            if self.is_done() {
                return false;
            }
            self.mailbox.work.notified().await;
        }
    }

    fn broken(&mut self, error: &ClientError) {
        tracing::debug!(log = %self.options.log, %error, "the produce stream broke");
        self.outgoing.clear();
        self.queue.stream_broken(self.runtime().now(), error);
    }

    /// A retry helps unless the broker is another one, or the topic is gone.
    async fn not_opened(&mut self, error: &ClientError) {
        if !error.is_retriable() || error.is_gone() {
            let now = self.runtime().now();
            self.collect(now);
            self.queue.fail(error);
            return;
        }
        tracing::debug!(log = %self.options.log, %error, "no produce stream");
        // A link that does not connect waits on its own; a stream that is refused does not.
        let moved = self.client.find_leader(self.options.log).await;
        if moved != Ok(true) && !matches!(error, ClientError::Connect { .. }) {
            self.runtime().sleep(super::queue::RETRY_BACKOFF).await;
        }
    }

    async fn drive(
        &mut self,
        link: &Arc<Link>,
        sender: &mut FrameSender,
        acks: &mut AckReceiver,
    ) -> Ended {
        loop {
            let look_at = match self.advance().await {
                Ok(look_at) => look_at,
                Err(error) => return Ended::Broken(error),
            };
            if self.is_done() && self.queue.is_idle() && self.outgoing.is_empty() {
                sender.finish();
                return Ended::Done;
            }
            let handled = match self.event(sender, acks, look_at).await {
                Event::Look => Ok(()),
                Event::Written(Ok(())) if self.outgoing.is_empty() => {
                    self.queue.written();
                    Ok(())
                }
                Event::Written(written) => written,
                Event::Acknowledged(Ok(Some(ack))) => self.acknowledged(&ack, acks),
                Event::Acknowledged(Ok(None)) => Err(acks.ended()),
                Event::Silent => self.look_for_leader(link).await,
                Event::Acknowledged(Err(error)) => Err(error),
            };
            if let Err(error) = handled {
                return Ended::Broken(error);
            }
        }
    }

    /// Moves batches as far as they go. Gives the time at which to look again.
    async fn advance(&mut self) -> Result<Option<Instant>, ClientError> {
        loop {
            let now = self.runtime().now();
            let lingers_until = self.collect(now);
            self.queue.expire(now);
            let deadline = self.queue.deadline(now);
            let times = [lingers_until, deadline].into_iter().flatten();
            if !self.outgoing.is_empty() {
                return Ok(times.min());
            }
            match self.queue.next(now) {
                Next::Send(frame) => {
                    self.outgoing = frame;
                    if let Some(builder) = self.queue.take_spare() {
                        self.mailbox.inbox().recycle(builder);
                    }
                    return Ok(times.min());
                }
                Next::Wait(until) => return Ok(times.chain(until).min()),
                Next::Identify => {
                    let (id, epoch) = self.client.init_producer_id().await?;
                    self.queue.identify(id, epoch);
                }
            }
        }
    }

    /// Takes what is closed, or is to be closed now, out of the inbox. Gives the time at
    /// which the next batch is closed.
    fn collect(&mut self, now: Instant) -> Option<Instant> {
        let mut inbox = self.mailbox.inbox();
        loop {
            let (idle, room) = (self.queue.is_idle(), self.queue.has_room());
            let Some(batch) = inbox.take(now, idle, room) else {
                return inbox.due_at(room);
            };
            self.sticky.batch_closed(self.options.log.partition.0);
            self.queue.accept(batch);
        }
    }

    fn acknowledged(&mut self, ack: &Ack, acks: &mut AckReceiver) -> Result<(), ClientError> {
        let now = self.runtime().now();
        self.heard = now;
        self.queue.acknowledged(now, ack)?;
        let mut last = *ack;
        while let Some(ack) = acks.next_ready() {
            self.queue.acknowledged(now, &ack)?;
            last = ack;
        }
        match ErrorCode::from_i16(last.code) {
            // What follows would be refused as well: another broker leads.
            code @ ErrorCode::NotLeaderOrFollower => Err(ClientError::Broker {
                code,
                message: "the broker does not lead the partition any more".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Nothing is acknowledged for long. It may be the device, or the broker has died and another
    /// one leads.
    async fn look_for_leader(&mut self, link: &Arc<Link>) -> Result<(), ClientError> {
        let log = self.options.log;
        // Nobody who knows is as good as no news.
        let _ = self.client.find_leader(log).await;
        self.heard = self.runtime().now();
        match Arc::ptr_eq(&self.client.link(log), link) {
            true => Ok(()),
            false => Err(link.remote().disconnected("another broker leads by now")),
        }
    }

    async fn event(
        &mut self,
        sender: &mut FrameSender,
        acks: &mut AckReceiver,
        look_at: Option<Instant>,
    ) -> Event {
        let timer = look_at.map(|at| self.runtime().sleep_until(at));
        let suspicious = self.queue.is_awaiting() && self.client.has_others();
        let silent = suspicious.then(|| self.runtime().sleep_until(self.heard + SILENCE));
        let outgoing = Some(&mut self.outgoing).filter(|bytes| !bytes.is_empty());
        let written = or_never(outgoing.map(|bytes| sender.send_some(bytes)));
        let stream = race(acks.next(), written);
        let look = race(self.mailbox.work.notified(), or_never(timer));
        match race(stream, race(look, or_never(silent))).await {
            Either::Left(Either::Left(ack)) => Event::Acknowledged(ack),
            Either::Left(Either::Right(written)) => Event::Written(written),
            Either::Right(Either::Left(_)) => Event::Look,
            Either::Right(Either::Right(())) => Event::Silent,
        }
    }

    fn is_done(&self) -> bool {
        self.mailbox.inbox().is_done()
    }

    fn runtime(&self) -> &Runtime {
        &self.client.shared().runtime
    }
}

/// The future's output, or nothing ever when there is no future.
async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
