//! Datagrams that reached the wrong shard's socket.
//!
//! Correct, counted, and slow: each is copied and crosses a bounded channel. With kernel
//! steering only stragglers come this way, for example those that arrived between the binding
//! of the sockets and the attaching of the program.

use super::cid::shard_of;
use crate::pulse::{Work, named};
use crate::runtime::{DatagramCounters, add};
use bytes::Bytes;
use glommio::TaskQueueHandle;
use millrace_model::{ShardCount, ShardId};
use quinn::udp::{EcnCodepoint, RecvMeta};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Waker;

/// The longest datagram that is forwarded. Peers are told to send no longer ones, and every
/// receive buffer holds one.
pub(crate) const MAX_DATAGRAM_LEN: usize = millrace_wire::MAX_DATAGRAM_LEN as usize;

/// Datagrams that wait for one shard, in its channel and again in its inbox. At the longest this is
/// 6 MiB a shard; what comes on top is dropped, and QUIC sends it again.
const FORWARD_QUEUE: usize = 512;

/// A datagram on its way to its shard.
#[derive(Debug)]
struct Forwarded {
    from: SocketAddr,
    to: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    datagram: Bytes,
}

/// One shard's ends of the channels between all shards of a broker. Made by the main thread,
/// given to each shard's endpoint.
#[derive(Debug)]
pub struct Forwarding {
    shard: ShardId,
    incoming: flume::Receiver<Forwarded>,
    outgoing: Vec<flume::Sender<Forwarded>>,
}

impl Forwarding {
    /// The channels between `shards` shards, in shard order.
    #[must_use]
    pub fn between(shards: ShardCount) -> Vec<Self> {
        let channels = (0..shards.get()).map(|_| flume::bounded(FORWARD_QUEUE));
        let (outgoing, incoming): (Vec<_>, Vec<_>) = channels.unzip();
        let ends = |(incoming, shard)| Self {
            shard: ShardId(shard),
            incoming,
            outgoing: outgoing.clone(),
        };
        incoming.into_iter().zip(0..).map(ends).collect()
    }

    /// The shard that these ends are for.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards are connected.
    #[must_use]
    pub fn shards(&self) -> ShardCount {
        u8::try_from(self.outgoing.len())
            .ok()
            .and_then(ShardCount::new)
            .expect("made for 1 to 255 shards")
    }

    /// Starts to receive, on `queue` of the current executor, and gives what a socket needs to
    /// take part.
    pub(crate) fn start(self, queue: TaskQueueHandle, counters: Rc<DatagramCounters>) -> Route {
        let shards = self.shards();
        let peers = ForwardPeers {
            shard: self.shard,
            shards,
            outgoing: self.outgoing,
        };
        let inbox = Rc::new(ForwardInbox::new(counters));
        let receive = named(Work::Quic, receive(self.incoming, Rc::clone(&inbox)));
        let receiver = glommio::spawn_local_into(receive, queue)
            .expect("the task queue of an endpoint lives as long as its executor");
        Route {
            peers,
            inbox,
            _receiver: receiver,
        }
    }
}

/// A socket's connection to the other shards. Ends with it.
pub(crate) struct Route {
    pub(crate) peers: ForwardPeers,
    pub(crate) inbox: Rc<ForwardInbox>,
    _receiver: glommio::Task<()>,
}

/// Where datagrams of other shards go.
pub(crate) struct ForwardPeers {
    shard: ShardId,
    shards: ShardCount,
    outgoing: Vec<flume::Sender<Forwarded>>,
}

impl ForwardPeers {
    /// Takes out of `buffer` what is not for this shard, and hands it to its owner. What is
    /// left is moved together; returns its length.
    ///
    /// One message may carry datagrams of several connections of one client, and these belong
    /// to any shards.
    pub(crate) fn keep_own(
        &self,
        buffer: &mut [u8],
        meta: &RecvMeta,
        counters: &DatagramCounters,
    ) -> usize {
        let stride = meta.stride.max(1);
        let mut kept = 0;
        for start in (0..meta.len).step_by(stride) {
            let end = meta.len.min(start + stride);
            match shard_of(&buffer[start..end], self.shards) {
                Some(shard) if shard == self.shard => {
                    if kept != start {
                        buffer.copy_within(start..end, kept);
                    }
                    kept += end - start;
                }
                Some(shard) => self.forward(shard, &buffer[start..end], meta, counters),
                None => add(&counters.garbage, 1),
            }
        }
        if meta.len == 0 {
            add(&counters.garbage, 1);
        }
        kept
    }

    fn forward(&self, to: ShardId, data: &[u8], meta: &RecvMeta, counters: &DatagramCounters) {
        if data.len() > MAX_DATAGRAM_LEN {
            return add(&counters.garbage, 1);
        }
        let forwarded = Forwarded {
            from: meta.addr,
            to: meta.dst_ip,
            ecn: meta.ecn,
            datagram: Bytes::copy_from_slice(data),
        };
        match self.outgoing[usize::from(to.0)].try_send(forwarded) {
            Ok(()) => add(&counters.forwarded_out, 1),
            Err(_) => add(&counters.dropped_full, 1),
        }
    }
}

/// Datagrams of other shards that wait for this shard's endpoint. Between the channel and the
/// socket, so that a receive looks at a plain queue and not at a channel.
pub(crate) struct ForwardInbox {
    waiting: RefCell<VecDeque<Forwarded>>,
    driver: RefCell<Option<Waker>>,
    counters: Rc<DatagramCounters>,
}

impl ForwardInbox {
    fn new(counters: Rc<DatagramCounters>) -> Self {
        Self {
            waiting: RefCell::default(),
            driver: RefCell::default(),
            counters,
        }
    }

    /// Names the task to wake when a datagram arrives.
    pub(crate) fn wake_with(&self, driver: &Waker) {
        let mut held = self.driver.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(driver)) {
            *held = Some(driver.clone());
        }
    }

    /// Moves what waits into `buffers`; returns how many it filled.
    pub(crate) fn take(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(buffers.len()).min(metas.len());
        for ((next, buffer), meta) in waiting.drain(..count).zip(buffers).zip(metas) {
            let len = next.datagram.len();
            buffer[..len].copy_from_slice(&next.datagram);
            meta.addr = next.from;
            meta.dst_ip = next.to;
            meta.ecn = next.ecn;
            meta.len = len;
            meta.stride = len;
        }
        count
    }

    fn put(&self, forwarded: Forwarded) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= FORWARD_QUEUE {
            return add(&self.counters.dropped_full, 1);
        }
        waiting.push_back(forwarded);
        add(&self.counters.forwarded_in, 1);
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
}

async fn receive(incoming: flume::Receiver<Forwarded>, inbox: Rc<ForwardInbox>) {
    while let Ok(forwarded) = incoming.recv_async().await {
        inbox.put(forwarded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIDE: usize = 100;

    /// A datagram with a short header for the connection id byte `cid`.
    fn datagram(cid: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![cid; len];
        bytes[0] = 0x40;
        bytes
    }

    fn peers() -> (ForwardPeers, Vec<flume::Receiver<Forwarded>>) {
        let shards = ShardCount::new(2).expect("two");
        let (incoming, mut outgoing): (Vec<_>, Vec<_>) = Forwarding::between(shards)
            .into_iter()
            .map(|ends| (ends.incoming, ends.outgoing))
            .unzip();
        let outgoing = outgoing.remove(0);
        (
            ForwardPeers {
                shard: ShardId(0),
                shards,
                outgoing,
            },
            incoming,
        )
    }

    fn meta(len: usize, stride: usize) -> RecvMeta {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        RecvMeta {
            addr,
            len,
            stride,
            ecn: Some(EcnCodepoint::Ce),
            dst_ip: None,
        }
    }

    #[test]
    fn strangers_leave_a_train_of_datagrams() {
        let (peers, incoming) = peers();
        let counters = DatagramCounters::default();
        let cids = [1, 2, 3, 4, 5];
        let mut train: Vec<_> = cids.iter().flat_map(|&cid| datagram(cid, STRIDE)).collect();
        train.extend(datagram(6, 30));
        let len = train.len();
        let kept = peers.keep_own(&mut train, &meta(len, STRIDE), &counters);
        let own: Vec<_> = [(2, STRIDE), (4, STRIDE), (6, 30)]
            .iter()
            .flat_map(|&(cid, len)| datagram(cid, len))
            .collect();
        assert_eq!(train[..kept], own);
        let forwarded: Vec<_> = incoming[1].try_iter().collect();
        assert_eq!(forwarded.len(), 3);
        for (forwarded, cid) in forwarded.iter().zip([1, 3, 5]) {
            assert_eq!(forwarded.datagram, datagram(cid, STRIDE));
            assert_eq!(forwarded.ecn, Some(EcnCodepoint::Ce));
            assert_eq!(forwarded.from, meta(0, 0).addr);
        }
        assert_eq!(counters.forwarded_out.get(), 3);
    }

    #[test]
    fn what_is_no_datagram_of_quic_is_dropped() {
        let (peers, incoming) = peers();
        let counters = DatagramCounters::default();
        assert_eq!(peers.keep_own(&mut [], &meta(0, 0), &counters), 0);
        assert_eq!(
            peers.keep_own(&mut datagram(2, 20), &meta(20, 20), &counters),
            0
        );
        let long = MAX_DATAGRAM_LEN + 1;
        assert_eq!(
            peers.keep_own(&mut datagram(1, long), &meta(long, long), &counters),
            0
        );
        assert_eq!(counters.garbage.get(), 3);
        assert!(incoming[1].is_empty());
    }

    #[test]
    fn a_full_queue_drops() {
        let (peers, _incoming) = peers();
        let counters = DatagramCounters::default();
        for _ in 0..FORWARD_QUEUE + 5 {
            peers.keep_own(&mut datagram(1, STRIDE), &meta(STRIDE, STRIDE), &counters);
        }
        assert_eq!(counters.forwarded_out.get(), FORWARD_QUEUE as u64);
        assert_eq!(counters.dropped_full.get(), 5);
    }

    #[test]
    fn an_inbox_fills_buffers_in_order() {
        let inbox = ForwardInbox::new(Rc::default());
        for cid in [1, 2, 3] {
            let meta = meta(STRIDE, STRIDE);
            let datagram = Bytes::from(datagram(cid, STRIDE));
            inbox.put(Forwarded {
                from: meta.addr,
                to: None,
                ecn: meta.ecn,
                datagram,
            });
        }
        let mut bytes = [[0; 200]; 2];
        let mut buffers: Vec<_> = bytes
            .iter_mut()
            .map(|bytes| IoSliceMut::new(bytes))
            .collect();
        let mut metas = [RecvMeta::default(); 2];
        assert_eq!(inbox.take(&mut buffers, &mut metas), 2);
        assert_eq!(
            (metas[0].len, metas[0].stride, metas[0].ecn),
            (100, 100, Some(EcnCodepoint::Ce))
        );
        assert_eq!((buffers[0][1], buffers[1][1]), (1, 2));
        assert_eq!(inbox.take(&mut buffers, &mut metas), 1);
        assert_eq!(inbox.take(&mut buffers, &mut metas), 0);
    }
}
