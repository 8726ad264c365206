//! Consumer groups: one coordinator for each partition of `__consumer_offsets` that is used, on
//! the shard that owns the partition's log.
//!
//! | file | what it does |
//! | --- | --- |
//! | `topic` | the topic `__consumer_offsets`, and which partition a group belongs to |
//! | `load` | replays a log into a machine |
//! | `group_coordinator` | feeds the machine, carries out its effects |
//! | `journal` | appends, and what became of them |
//! | `checkpoint` | keeps the log short |
//! | `alarm` | the coordinator's one timer |
//! | `topics_image` | the topics as machines see them |
//! | `report` | lag and members, for metrics |
//!
//! The way of a request: any shard that a client talks to finds the group's partition, and asks the
//! shard that owns it, which may be itself. There the coordinator is loaded if it is not yet, and asked. The
//! asker's end of the question tells the owner when nobody waits any more.
//!
//! A coordinator is loaded when its first request comes, so a start does not get slower with the
//! number of groups. But a group whose members died with the broker must come to notice. So
//! after the start the shard loads, one after the other and in the background, the coordinators
//! whose log has a directory: those that were ever used.

mod alarm;
mod answer;
mod checkpoint;
mod group_coordinator;
mod journal;
mod load;
mod report;
mod topic;
mod topics_image;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, pending};
use glommio::timer::sleep;
use millrace_groups::{Client, Failure, ListedGroup, Request, Response};
use millrace_model::{BrokerId, ErrorCode, LogId, Timestamp};
use millrace_replication::Refusal;

use crate::shard::Shard;
use crate::shard::clock;
use crate::shard::notice::{Notice, Signal};
use load::Occasion;
use topics_image::Images;

use group_coordinator::{GroupCoordinator, moved};
pub(crate) use report::report;
use topic::OffsetsTopic;

/// How long a request waits for its coordinator to be loaded. Well below what clients wait
/// for an answer, so that they are told that it takes longer.
const LOAD_WAIT: Duration = Duration::from_secs(5);

/// How long a coordinator that could not be loaded is answered with that error before the next
/// request tries again.
const LOAD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Pause before a coordinator is loaded again whose write failed. It doubles with each failure up
/// to the longest, so that a full disk does not make a shard load all the time.
const RELOAD_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_RELOAD_PAUSE: Duration = Duration::from_secs(8);

/// A coordinator whose writes did not fail for so long starts over with the shortest pause.
const RELOADS_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Pause between two coordinators that are loaded after the start.
const WAKE_PAUSE: Duration = Duration::from_millis(10);

/// The coordinators of a shard.
pub(crate) struct Coordinators {
    slots: RefCell<BTreeMap<LogId, Slot>>,
    /// The last failed write of a coordinator, and the pause that it was given.
    failures: RefCell<BTreeMap<LogId, (Instant, Duration)>>,
    /// A slot has left [`Slot::Loading`].
    changed: Notice,
    /// Every coordinator whose log has a directory has a slot.
    all_found: Signal<()>,
    images: Images,
    /// Logs are being opened so that [`report`] can tell how far they have come.
    opens_logs: Cell<bool>,
    /// The clock of sessions and of commits: it starts as the wall clock and never jumps.
    born: (Timestamp, Instant),
}

enum Slot {
    /// On disk, and nobody has asked for it yet.
    Unloaded,
    Loading,
    Loaded(Rc<GroupCoordinator>),
    Failed(Refusal, Instant),
}

impl Default for Coordinators {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
            failures: RefCell::default(),
            changed: Notice::default(),
            all_found: Signal::default(),
            images: Images::default(),
            opens_logs: Cell::new(false),
            born: (clock::timestamp(), Instant::now()),
        }
    }
}

impl Coordinators {
    /// Carries out a change of the topics, perhaps that one was deleted.
    pub(crate) fn topics_changed(&self, shard: &Rc<Shard>, deleted: Option<String>) {
        self.images.topics_changed(shard, deleted);
    }

    /// Milliseconds since the Unix epoch as groups count them. When somebody sets the wall
    /// clock, no member is taken for dead.
    fn now(&self) -> Timestamp {
        let (start, since) = self.born;
        let passed = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(start.0.saturating_add_unsigned(passed))
    }

    fn all_loaded(&self) -> Vec<Rc<GroupCoordinator>> {
        let slots = self.slots.borrow();
        let loaded = slots.values().filter_map(|slot| match slot {
            Slot::Loaded(coordinator) => Some(Rc::clone(coordinator)),
            _ => None,
        });
        loaded.collect()
    }

    /// The coordinator, loaded if need be.
    async fn loaded(&self, shard: &Rc<Shard>, log: LogId) -> Result<Rc<GroupCoordinator>, Refusal> {
        if let Some(Slot::Loaded(coordinator)) = self.slots.borrow().get(&log) {
            return Ok(Rc::clone(coordinator));
        }
        let too_long = async {
            sleep(LOAD_WAIT).await;
            let message = "the groups of this coordinator are being read; try again";
            Err(Refusal::new(ErrorCode::CoordinatorLoadInProgress, message))
        };
        or(self.once_loaded(shard, log), too_long).await
    }

    async fn once_loaded(
        &self,
        shard: &Rc<Shard>,
        log: LogId,
    ) -> Result<Rc<GroupCoordinator>, Refusal> {
        loop {
            shard.topics().led(log)?;
            let changed = self.changed.notified();
            match self.slots.borrow_mut().entry(log).or_insert(Slot::Unloaded) {
                Slot::Loaded(coordinator) => return Ok(Rc::clone(coordinator)),
                Slot::Failed(refusal, since) if since.elapsed() < LOAD_AGAIN_AFTER => {
                    return Err(refusal.clone());
                }
                Slot::Loading => {}
                slot @ (Slot::Unloaded | Slot::Failed(..)) => {
                    *slot = Slot::Loading;
                    self.begin_load(shard, log, Occasion::First);
                }
            }
            changed.await;
        }
    }

    /// Loads in a task of its own: who asked may go away, others may wait.
    fn begin_load(&self, shard: &Rc<Shard>, log: LogId, occasion: Occasion) {
        let task = Rc::clone(shard);
        shard.spawn_catch_up_detached(async move {
            if let Occasion::AfterFailure(pause) = occasion {
                sleep(pause).await;
            }
            let slot = match load::load(&task, log, occasion).await {
                Ok(coordinator) if coordinator.has_ended() => return,
                Ok(coordinator) => Slot::Loaded(coordinator),
                Err(refusal) if refusal.code == ErrorCode::NotLeaderOrFollower => {
                    let coordinators = task.coordinators();
                    coordinators.slots.borrow_mut().remove(&log);
                    return coordinators.changed.notify();
                }
                Err(refusal) => {
                    tracing::error!(%log, %refusal, "groups cannot be loaded");
                    Slot::Failed(refusal, Instant::now())
                }
            };
            let coordinators = task.coordinators();
            coordinators.slots.borrow_mut().insert(log, slot);
            coordinators.changed.notify();
            // The leadership may have changed while it was loaded.
            coordinators.leadership_changed(&task, log);
        });
    }

    /// This broker leads a coordinator's log from now on, in another epoch, or not any more.
    pub(crate) fn leadership_changed(&self, shard: &Rc<Shard>, log: LogId) {
        let led = shard.topics().led(log).ok();
        let mut slots = self.slots.borrow_mut();
        match slots.get(&log) {
            // It looks itself when it is done.
            Some(Slot::Loading) => return,
            Some(Slot::Loaded(coordinator)) if Some(coordinator.epoch()) == led => return,
            Some(Slot::Loaded(coordinator)) => coordinator.retire(),
            Some(Slot::Unloaded | Slot::Failed(..)) | None => {}
        }
        match led {
            Some(_) => {
                slots.insert(log, Slot::Loading);
                drop(slots);
                self.begin_load(shard, log, Occasion::First);
            }
            None => {
                slots.remove(&log);
                drop(slots);
                self.changed.notify();
            }
        }
    }

    /// A coordinator has thrown its machine away.
    fn reload(&self, shard: &Rc<Shard>, ended: &Rc<GroupCoordinator>) {
        let log = ended.log();
        self.slots.borrow_mut().insert(log, Slot::Loading);
        let occasion = Occasion::AfterFailure(self.pause_after_failure(log));
        self.begin_load(shard, log, occasion);
    }

    fn pause_after_failure(&self, log: LogId) -> Duration {
        let mut failures = self.failures.borrow_mut();
        let recent = failures
            .get(&log)
            .filter(|(since, _)| since.elapsed() < RELOADS_FORGOTTEN_AFTER);
        let pause = recent.map_or(RELOAD_PAUSE, |(_, last)| {
            (*last * 2).min(LONGEST_RELOAD_PAUSE)
        });
        failures.insert(log, (Instant::now(), pause));
        pause
    }
}

/// Brings to life what needs it after a start: the coordinators of this shard whose log has a
/// directory.
pub(crate) async fn wake(shard: Rc<Shard>) {
    let coordinators = shard.coordinators();
    let logs = match OffsetsTopic::of(&shard) {
        None => Vec::new(),
        Some(topic) => logs_on_disk(&shard, topic).await,
    };
    for log in &logs {
        let mut slots = coordinators.slots.borrow_mut();
        slots.entry(*log).or_insert(Slot::Unloaded);
    }
    coordinators.all_found.raise(());
    for log in logs {
        // One that cannot be loaded says so itself; the next request tries again.
        let _ = coordinators.loaded(&shard, log).await;
        sleep(WAKE_PAUSE).await;
    }
}

async fn logs_on_disk(shard: &Rc<Shard>, topic: OffsetsTopic) -> Vec<LogId> {
    let is_ours =
        |log: &LogId| log.topic == topic.id && shard.owns(*log) && shard.topics().led(*log).is_ok();
    match shard.log_directories().await {
        Ok(logs) => logs.into_iter().filter(is_ours).collect(),
        Err(error) => {
            tracing::warn!(%error, "groups were not looked for; they are loaded when asked for");
            Vec::new()
        }
    }
}

/// Consumer groups, as seen from one shard.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a> {
    shard: &'a Rc<Shard>,
}

impl<'a> Groups<'a> {
    pub(crate) fn of(shard: &'a Rc<Shard>) -> Self {
        Self { shard }
    }

    /// Asks the coordinator of the request's group, or every coordinator for a list. Dropping the
    /// future withdraws the request.
    pub(crate) async fn ask(self, client: Client, request: Request) -> Response {
        self.ask_with(client, request, None).await
    }

    /// As [`Groups::ask`], for an answer that may wait for news: once `enough` resolves, it waits no more.
    pub(crate) async fn ask_until(
        self,
        client: Client,
        request: Request,
        enough: impl Future<Output = ()>,
    ) -> Response {
        let (hurry, hurried) = flume::bounded(1);
        let hurrying = async move {
            enough.await;
            // The coordinator may have answered, or be gone.
            let _ = hurry.try_send(Hurry);
            pending().await
        };
        or(self.ask_with(client, request, Some(hurried)), hurrying).await
    }

    async fn ask_with(
        self,
        client: Client,
        request: Request,
        hurried: Option<flume::Receiver<Hurry>>,
    ) -> Response {
        let answer = match group_of(&request) {
            None => return self.list().await,
            Some(group) => self.log_of(group).await,
        };
        let log = match answer {
            Ok(log) => log,
            Err(refusal) => return failed(refusal),
        };
        let owner = self.shard.owner(log);
        if owner == self.shard.id() {
            return answer_here(self.shard, log, client, request, hurried).await;
        }
        // Nothing is sent here: it ends when nobody waits any more.
        let (alive, asker) = flume::bounded::<Infallible>(0);
        let question = async move |owner: Rc<Shard>| {
            let answer = answer_here(&owner, log, client, request, hurried);
            let gone = async {
                let _ = asker.recv_async().await;
                moved()
            };
            or(answer, gone).await
        };
        let answer = self.shard.on(owner, question).await;
        drop(alive);
        answer.unwrap_or_else(failed)
    }

    /// The broker whose shard is the group's coordinator.
    ///
    /// # Errors
    /// There is none at present.
    pub(crate) async fn coordinator_of(self, group: &str) -> Result<BrokerId, Refusal> {
        let log = self.log_of(group).await?;
        let missing = || {
            let message = "nobody leads the log of the group's coordinator at present";
            Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
        };
        let leader = self.shard.topics().partition(log)?.leader;
        leader.ok_or_else(missing)
    }

    /// The log of the group's coordinator. The topic is made if need be.
    async fn log_of(self, group: &str) -> Result<LogId, Refusal> {
        let topic = OffsetsTopic::of_or_new(self.shard).await?;
        Ok(topic.log_of(group))
    }

    /// The groups of all coordinators.
    async fn list(self) -> Response {
        let mut groups = Vec::new();
        for shard in self.shard.all_shards() {
            let list = async |shard: Rc<Shard>| list_here(&shard).await;
            let listed = self.shard.on(shard, list).await;
            match listed.and_then(|listed| listed) {
                Ok(listed) => groups.extend(listed),
                Err(refusal) => return failed(refusal),
            }
        }
        Response::Listed(groups)
    }
}

/// The answer is wanted now.
struct Hurry;

/// Answers on the shard that owns the log.
async fn answer_here(
    shard: &Rc<Shard>,
    log: LogId,
    client: Client,
    request: Request,
    hurried: Option<flume::Receiver<Hurry>>,
) -> Response {
    let coordinator = match shard.coordinators().loaded(shard, log).await {
        Ok(coordinator) => coordinator,
        Err(refusal) => return failed(refusal),
    };
    let waits_for_others = matches!(request, Request::Join(_) | Request::Sync(_));
    let mut answer = coordinator.ask(client, request);
    if let Some(hurried) = hurried {
        let told = async { Some((&mut answer).await) };
        let hurry = async {
            match hurried.recv_async().await {
                Ok(Hurry) => None,
                // Who asked is gone, and this ends as well.
                Err(_) => pending().await,
            }
        };
        if let Some(response) = or(told, hurry).await {
            return response;
        }
        answer.hurry();
    }
    if !waits_for_others {
        return answer.await;
    }
    let draining = async {
        shard.draining().wait().await;
        failed(Refusal::new(
            ErrorCode::NotCoordinator,
            "the broker is shutting down",
        ))
    };
    or(answer, draining).await
}

/// The groups of this shard's coordinators.
async fn list_here(shard: &Rc<Shard>) -> Result<Vec<ListedGroup>, Refusal> {
    let mut groups = Vec::new();
    for coordinator in all_here(shard).await? {
        match coordinator.ask(Client::default(), Request::List).await {
            Response::Listed(listed) => groups.extend(listed),
            Response::Failed(failure) => return Err(refusal_of(failure)),
            _ => {}
        }
    }
    Ok(groups)
}

/// Every coordinator of this shard that was ever used, loaded.
async fn all_here(shard: &Rc<Shard>) -> Result<Vec<Rc<GroupCoordinator>>, Refusal> {
    let coordinators = shard.coordinators();
    coordinators.all_found.wait().await;
    let logs: Vec<LogId> = coordinators.slots.borrow().keys().copied().collect();
    let mut loaded = Vec::with_capacity(logs.len());
    for log in logs {
        loaded.push(coordinators.loaded(shard, log).await?);
    }
    Ok(loaded)
}

/// The group that a request is about; none for a list.
fn group_of(request: &Request) -> Option<&str> {
    match request {
        Request::Join(join) => Some(&join.group),
        Request::Sync(sync) => Some(&sync.group),
        Request::Heartbeat(heartbeat) => Some(&heartbeat.group),
        Request::Leave(leave) => Some(&leave.group),
        Request::ConsumerHeartbeat(heartbeat) => Some(&heartbeat.group),
        Request::Commit(commit) => Some(&commit.group),
        Request::FetchOffsets(fetch) => Some(&fetch.group),
        Request::DeleteOffsets { group, .. }
        | Request::Delete { group }
        | Request::Describe { group, .. } => Some(group),
        Request::List => None,
    }
}

fn refusal_of(failure: Failure) -> Refusal {
    Refusal::new(failure.code, failure.message.unwrap_or_default())
}

/// A refusal as clients of groups understand it: what is wrong with storage or with a shard is, to them, a
/// coordinator that is not there.
fn failed(refusal: Refusal) -> Response {
    let code = match refusal.code {
        code @ (ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator) => code,
        ErrorCode::NotLeaderOrFollower => ErrorCode::NotCoordinator,
        _ => ErrorCode::CoordinatorNotAvailable,
    };
    Response::Failed(Failure {
        code,
        message: Some(refusal.message),
    })
}
