//! Who has just gone, as this shard tells clients.
//!
//! A client whose broker dies asks another at once where its partitions are, and then, told nothing new,
//! perhaps not again for a second. So the answer waits a little while a broker is *doubted*: something says
//! that its process has ended, and the cluster is about to know. And a broker that was fenced is *listed* for
//! a while: clients that find it in the list no more throw away what they have to send to it, instead of
//! taking it to the next leader (librdkafka does), and mostly it comes back.
//!
//! Nothing depends on either but how soon clients go on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_model::BrokerId;
use millrace_replication::cluster::{BrokerState, Changed, Cluster};

use super::notice::Notice;

/// How long every answer waits: a client learns of the end of a broker in the same instant as this broker does, and
/// its question may be read first.
const GRACE: Duration = Duration::from_millis(2);

/// How long an answer waits for the cluster to know: an election of the quorum and a commit.
const DOUBT: Duration = Duration::from_millis(500);

/// How long a fenced broker is listed: until its clients have gone elsewhere.
const FAREWELL: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    doubted_until: RefCell<BTreeMap<BrokerId, Instant>>,
    fenced_since: RefCell<BTreeMap<BrokerId, Instant>>,
    changed: Notice,
}

impl Presence {
    /// Something says that a broker's process has ended; or that it has not.
    pub(crate) fn doubt(&self, broker: BrokerId, is_doubted: bool) {
        let mut doubted = self.doubted_until.borrow_mut();
        match is_doubted {
            true => drop(doubted.insert(broker, Instant::now() + DOUBT)),
            false => drop(doubted.remove(&broker)),
        }
        drop(doubted);
        self.changed.notify();
    }

    /// The cluster has changed from one image to the next.
    pub(crate) fn learn(&self, before: &Cluster, after: &Cluster, changes: &[Changed]) {
        let mut any = false;
        for change in changes {
            let (Changed::Broker(broker) | Changed::BrokerGone(broker)) = change else {
                continue;
            };
            any = true;
            self.doubted_until.borrow_mut().remove(broker);
            let mut fenced = self.fenced_since.borrow_mut();
            if serves(after, *broker) || after.broker(*broker).is_none() {
                fenced.remove(broker);
            } else if serves(before, *broker) {
                fenced.insert(*broker, Instant::now());
            }
        }
        if any {
            self.changed.notify();
        }
    }

    /// Returns when nobody is doubted, in half a second at most.
    pub(crate) async fn settled(&self) {
        sleep(GRACE).await;
        loop {
            let now = Instant::now();
            let Some(until) = self.last_doubt(now) else {
                return;
            };
            or(self.changed.notified(), sleep(until - now)).await;
        }
    }

    /// When the last doubt is over, if there is one.
    fn last_doubt(&self, now: Instant) -> Option<Instant> {
        let mut doubted = self.doubted_until.borrow_mut();
        doubted.retain(|_, until| *until > now);
        doubted.values().max().copied()
    }

    /// Whether a broker was fenced so short a time ago that it is still listed.
    pub(crate) fn has_just_gone(&self, broker: BrokerId) -> bool {
        let since = self.fenced_since.borrow().get(&broker).copied();
        since.is_some_and(|since| since.elapsed() < FAREWELL)
    }
}

fn serves(cluster: &Cluster, broker: BrokerId) -> bool {
    let known = cluster.broker(broker);
    known.is_some_and(|known| known.state != BrokerState::Fenced)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::cell::Cell;

    use super::*;
    use futures_lite::future::zip;
    use glommio::LocalExecutor;
    use millrace_model::{ClusterId, IncarnationId};
    use millrace_replication::cluster::{Command, FEATURE_LEVELS, Registration};
    use millrace_replication::quorum::Index;

    const ONE: BrokerId = BrokerId(1);

    #[test]
    fn an_answer_waits_while_a_broker_is_doubted() {
        LocalExecutor::default().run(async {
            let (presence, is_told) = (Presence::default(), Cell::new(false));
            presence.settled().await;
            presence.doubt(ONE, true);
            let waits = async {
                presence.settled().await;
                assert!(
                    is_told.get(),
                    "it waited until the broker was there after all"
                );
            };
            let tells = async {
                sleep(GRACE * 5).await;
                is_told.set(true);
                presence.doubt(ONE, false);
            };
            zip(waits, tells).await;
            presence.doubt(ONE, true);
            presence.settled().await;
            assert!(
                presence.doubted_until.borrow().is_empty(),
                "nobody is doubted for ever"
            );
        });
    }

    /// A cluster in which one command follows another, as a shard is told of it.
    struct Told {
        cluster: Cluster,
        presence: Presence,
    }

    impl Told {
        fn apply(&mut self, command: &Command) {
            let before = self.cluster.clone();
            let index = Index(before.applied().0 + 1);
            let applied = self.cluster.apply(index, command).unwrap();
            self.presence
                .learn(&before, &self.cluster, &applied.changes);
        }
    }

    #[test]
    fn who_was_fenced_is_listed_for_a_while_and_who_is_struck_off_is_not() {
        let (cluster, presence) = (Cluster::default(), Presence::default());
        let mut told = Told { cluster, presence };
        let cluster = ClusterId([1; 16]);
        told.apply(&Command::Found { cluster, level: 1 });
        told.apply(&Command::Register(Registration {
            cluster,
            id: ONE,
            incarnation: IncarnationId([9; 16]),
            clean_from: None,
            rack: None,
            endpoints: Vec::new(),
            shards: 1,
            features: FEATURE_LEVELS,
        }));
        assert!(!told.presence.has_just_gone(ONE), "it was never there");
        let epoch = told.cluster.broker(ONE).unwrap().epoch;
        let (unfence, fence) = (
            Command::Unfence { broker: ONE, epoch },
            Command::Fence { broker: ONE, epoch },
        );
        told.apply(&unfence);
        told.apply(&fence);
        assert!(told.presence.has_just_gone(ONE));
        told.apply(&unfence);
        assert!(!told.presence.has_just_gone(ONE), "it is back");
        told.apply(&fence);
        told.apply(&Command::Unregister { broker: ONE });
        assert!(!told.presence.has_just_gone(ONE), "nobody expects it back");
    }
}
