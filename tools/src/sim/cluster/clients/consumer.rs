//! A consumer of one partition, which reads all of it from its start.

use std::cell::Cell;
use std::rc::Rc;

use millrace_model::LogId;

use super::Link;
use crate::sim::cluster::broker::Fetched;
use crate::sim::cluster::mirror::read_frames;
use crate::sim::trace::{Violation, ensure};

/// See the module's documentation.
pub(in crate::sim::cluster) struct Consumer {
    pub(in crate::sim::cluster) link: Link,
    pub(in crate::sim::cluster) log: LogId,
    /// The next offset that it wants.
    pub(in crate::sim::cluster) position: Rc<Cell<u64>>,
}

impl Consumer {
    pub(in crate::sim::cluster) async fn run(self) {
        let mut leader = None;
        loop {
            if leader.is_none() {
                leader = self.link.leader(self.log).await;
            }
            let Some(to) = leader else {
                self.link.sleep(10, 100).await;
                continue;
            };
            let (log, from) = (self.log, self.position.get());
            let fetched = self
                .link
                .ask(to, move |broker| broker.fetch(log, from))
                .await;
            match fetched {
                Some(Ok(fetched)) => {
                    let checked = self.look_at(&fetched);
                    self.link.world.note(checked);
                    if fetched.frames.is_empty() {
                        self.link.sleep(10, 150).await;
                        // Another may lead by now, and this one not know it.
                        leader = leader.filter(|_| !self.link.world.one_in(8));
                    }
                }
                Some(Err(_)) | None => {
                    leader = None;
                    self.link.sleep(10, 100).await;
                }
            }
        }
    }

    fn look_at(&self, fetched: &Fetched) -> Result<(), Violation> {
        let batches = read_frames(&fetched.frames, self.log)?;
        let mut at = self.position.get();
        for batch in &batches {
            ensure!(
                batch.base <= at && at < batch.next,
                "consumer {} wants {at} and is handed {batch:?}",
                self.link.address
            );
            at = batch.next;
        }
        let mut checker = self.link.world.checker.borrow_mut();
        let records = checker.of(self.log);
        records.told_end(fetched.epoch, fetched.end)?;
        records.starts(fetched.start)?;
        records.consumed(self.link.address, &batches)?;
        self.position.set(at.max(fetched.start));
        Ok(())
    }
}
