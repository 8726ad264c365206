//! Wakes partitions at the times that their machines ask for. One task, which has a timer only while
//! a time is set; none of a partition that has gone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_lite::future::or;
use glommio::TaskQueueHandle;
use glommio::timer::sleep;
use millrace_model::Timestamp;
use millrace_net::pulse::{Work, named};

use crate::partition::Partition;
use crate::shard::notice::Notice;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Alarm {
    set: RefCell<Option<Rc<Times>>>,
}

#[derive(Default)]
struct Times {
    due: RefCell<BTreeMap<Timestamp, Vec<Weak<Partition>>>>,
    nearer: Notice,
}

impl Alarm {
    /// Wakes the partition at `at`. `now` is the clock that it counts by.
    pub(super) fn set(
        &self,
        at: Timestamp,
        partition: &Weak<Partition>,
        (now, queue): (impl Fn() -> Timestamp + 'static, TaskQueueHandle),
    ) {
        let mut set = self.set.borrow_mut();
        let times = set.get_or_insert_with(|| {
            let times = Rc::<Times>::default();
            let ringing = ring(Rc::clone(&times), now);
            glommio::spawn_local_into(named(Work::Foreground, ringing), queue)
                .expect("the shard's task queues live as long as its executor")
                .detach();
            times
        });
        let mut due = times.due.borrow_mut();
        let is_nearer = due.first_key_value().is_none_or(|(first, _)| at < *first);
        due.entry(at).or_default().push(Weak::clone(partition));
        if is_nearer {
            times.nearer.notify();
        }
    }
}

/// Wakes whom it is time to wake, for ever.
async fn ring(times: Rc<Times>, now: impl Fn() -> Timestamp) {
    loop {
        let nearer = times.nearer.notified();
        let first = {
            let due = times.due.borrow();
            due.first_key_value().map(|(at, _)| *at)
        };
        let Some(first) = first else {
            nearer.await;
            continue;
        };
        let wait = u64::try_from(first.0.saturating_sub(now().0)).unwrap_or(0);
        if wait > 0 {
            or(sleep(Duration::from_millis(wait)), nearer).await;
            continue;
        }
        let due = times.due.borrow_mut().pop_first();
        for partition in due.into_iter().flat_map(|(_, partitions)| partitions) {
            if let Some(partition) = partition.upgrade() {
                partition.tick(first);
            }
        }
    }
}
