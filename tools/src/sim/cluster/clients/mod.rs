//! Clients of the simulated cluster: they find leaders, send again what was not answered, and hand what they
//! see to the checkers.

mod consumer;
mod member;
mod producer;

pub(super) use consumer::Consumer;
pub(super) use member::{Member, Seen};
pub(super) use producer::Producer;

use std::future::Future;
use std::rc::Rc;

use futures_lite::future::or;
use millrace_model::{BrokerId, LogId};

use super::broker::Broker;
use super::network::Address;
use super::slot::Take;
use super::world::World;

/// How long a client waits for an answer.
const PATIENCE_MS: i64 = 600;

/// A client's way to the brokers.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) world: Rc<World>,
    pub(super) address: Address,
}

impl Link {
    /// Asks a broker, but not for ever.
    pub(super) async fn ask<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        to: BrokerId,
        handle: impl FnOnce(Rc<Broker>) -> F + 'static,
    ) -> Option<T> {
        self.in_time(self.world.begin_ask(self.address, to, handle))
            .await
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn in_time<T>(&self, asked: Take<T>) -> Option<T> {
        let late = async {
            self.world.clock.sleep(PATIENCE_MS).await;
            None
        };
        or(asked, late).await
    }

    /// Who leads a log, as some broker has it.
    pub(super) async fn leader(&self, log: LogId) -> Option<BrokerId> {
        let nodes = self.world.nodes.len() as u64;
        let index = usize::try_from(self.world.below(nodes)).unwrap_or(0);
        let some = self.world.nodes[index].id;
        let leaders = self.ask(some, async |broker| broker.leaders()).await?;
        leaders.get(&log)?.1
    }

    pub(super) async fn sleep(&self, from: i64, to: i64) {
        self.world.clock.sleep(self.world.between(from, to)).await;
    }
}
