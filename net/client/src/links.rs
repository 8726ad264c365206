//! The connections of a client: one to each shard of each broker that was needed, and the choice
//! among brokers for what any of them can answer.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use millrace_model::{ErrorCode, LogId};
use millrace_wire::{Request, Response};

use crate::directory::Place;
use crate::link::{Link, Shared};
use crate::runtime::{Either, race};
use crate::{ClientError, control};

/// A broker that has not answered after so long is not waited for alone: another one is asked as
/// well. Many times the round trip in any network that a cluster lives in, and short beside the
/// time that clients may be without a leader.
const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// See the module's documentation. They close when this is dropped.
#[derive(Debug)]
pub(crate) struct Links {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// For requests that any shard of any broker serves: the last one that answered.
    any: Arc<Link>,
    /// One to no shard in particular of each broker that was asked instead.
    others: Vec<Arc<Link>>,
    by_place: HashMap<Place, Arc<Link>>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.all().iter().for_each(|link| link.close());
    }
}

impl Links {
    /// Connects to the broker that the options name.
    pub(crate) async fn connect(shared: Arc<Shared>) -> Result<Self, ClientError> {
        let addr = shared.options.broker;
        let any = Arc::new(Link::new(Arc::clone(&shared), addr));
        any.connection().await?;
        let state = State {
            any,
            others: Vec::new(),
            by_place: HashMap::new(),
        };
        Ok(Self {
            shared,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Every link that was made.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        let state = self.state();
        let links = state.by_place.values().chain(&state.others);
        links.chain([&state.any]).cloned().collect()
    }

    /// The link to whom a partition's requests go: the leader's owning shard, or where the
    /// present broker would have it, while no leader is known. That one will say who leads.
    pub(crate) fn of(&self, log: LogId) -> Arc<Link> {
        let mut state = self.state();
        let place = {
            let directory = self.shared.directory();
            let home = || directory.place_at(state.any.broker()?, log);
            directory.place(log).or_else(home)
        };
        match place {
            Some(place) => self.link_to(&mut state, place),
            None => Arc::clone(&state.any),
        }
    }

    /// The link to a shard of a broker.
    pub(crate) fn at(&self, place: Place) -> Arc<Link> {
        self.link_to(&mut self.state(), place)
    }

    fn link_to(&self, state: &mut State, place: Place) -> Arc<Link> {
        let State { any, by_place, .. } = state;
        let link = by_place.entry(place).or_insert_with(|| {
            // A link to no shard in particular serves the shard where it landed as well.
            let landed = any.broker() == Some(place.broker) && any.shard() == Some(place.shard);
            match landed && any.addr() == place.addr {
                true => Arc::clone(any),
                false => Arc::new(Link::to(Arc::clone(&self.shared), place)),
            }
        });
        Arc::clone(link)
    }

    /// Sends a request that any broker can answer. One that may be repeated goes to a second
    /// broker when the first is silent, and to each in turn when connections break.
    pub(crate) async fn request(&self, request: &Request) -> Result<Response, ClientError> {
        let candidates = self.candidates();
        let answered = match control::repeatable(request) {
            true => hedged(&self.shared, &candidates, request).await,
            false => in_turn(&candidates, request).await,
        };
        let (link, response) = answered?;
        let mut state = self.state();
        if !Arc::ptr_eq(&state.any, link) {
            let before = std::mem::replace(&mut state.any, Arc::clone(link));
            state.others.retain(|other| !Arc::ptr_eq(other, link));
            state.others.push(before);
        }
        Ok(response)
    }

    /// The link that answered last.
    pub(crate) fn answered(&self) -> Arc<Link> {
        Arc::clone(&self.state().any)
    }

    /// The link that answered last, then one to each other broker that serves.
    pub(crate) fn candidates(&self) -> Vec<Arc<Link>> {
        let serving = self.shared.directory().serving();
        let mut state = self.state();
        let mut candidates = vec![Arc::clone(&state.any)];
        for (broker, addr) in serving {
            if state.any.broker() == Some(broker) {
                continue;
            }
            let known = state.others.iter().find(|link| link.addr() == addr);
            let link = known.cloned().unwrap_or_else(|| {
                let link = Arc::new(Link::new(Arc::clone(&self.shared), addr));
                state.others.push(Arc::clone(&link));
                link
            });
            candidates.push(link);
        }
        candidates
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answered<'a> = Result<(&'a Arc<Link>, Response), ClientError>;

/// Whether another broker may do better: this one is not reached, or is not in its cluster.
fn may_be_better_elsewhere(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. }
        | ClientError::Disconnected { .. }
        | ClientError::TimedOut { .. } => true,
        ClientError::Broker { code, .. } => *code == ErrorCode::NotLeaderOrFollower,
        _ => false,
    }
}

/// Asks one after the other, and goes on only if the request has not left.
async fn in_turn<'a>(candidates: &'a [Arc<Link>], request: &Request) -> Answered<'a> {
    let mut last = ClientError::Closed;
    for link in candidates {
        match link.connection().await {
            Ok(_) => return Ok((link, control::request(link, request).await?)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks the first, and the others as well when it is silent or its connection breaks.
fn hedged<'a>(
    shared: &'a Shared,
    candidates: &'a [Arc<Link>],
    request: &'a Request,
) -> Pin<Box<dyn Future<Output = Answered<'a>> + Send + 'a>> {
    Box::pin(async move {
        let Some((link, others)) = candidates.split_first() else {
            return Err(ClientError::Closed);
        };
        let mut first = pin!(async {
            let response = control::request(link, request).await?;
            Ok((link, response))
        });
        if others.is_empty() {
            return first.await;
        }
        let silent = shared.runtime.sleep(HEDGE_AFTER);
        match race(first.as_mut(), silent).await {
            Either::Left(Err(error)) if may_be_better_elsewhere(&error) => {
                hedged(shared, others, request).await
            }
            Either::Left(answered) => answered,
            Either::Right(()) => either(first, hedged(shared, others, request)).await,
        }
    })
}

/// What the first of two gives that is more than a broken connection.
async fn either<'a>(
    first: impl Future<Output = Answered<'a>>,
    second: impl Future<Output = Answered<'a>>,
) -> Answered<'a> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let mut has_ended = [false; 2];
    poll_fn(|cx| {
        for at in 0..2 {
            if has_ended[at] {
                continue;
            }
            let polled = match at {
                0 => first.as_mut().poll(cx),
                _ => second.as_mut().poll(cx),
            };
            match polled {
                Poll::Ready(Err(error)) if may_be_better_elsewhere(&error) => {
                    has_ended[at] = true;
                    if has_ended == [true; 2] {
                        return Poll::Ready(Err(error));
                    }
                }
                Poll::Ready(answered) => return Poll::Ready(answered),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}
