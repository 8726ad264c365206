//! The lives of brokers: registered, serving, fenced, going away, gone (R11).

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_model::{BrokerEpoch, BrokerId, ClusterId, ErrorCode, ProducerId};

use super::elect::Wish;
use super::partition::without;
use super::{
    Answer, Applied, Broker, BrokerState, Changed, Cluster, MAX_ENDPOINTS, MAX_NAME_LEN, Partition,
    Registration, refuse,
};
use crate::metadata::{MAX_BROKERS, PRODUCER_ID_BLOCK, Refusal};
use crate::quorum::Index;

impl Cluster {
    pub(super) fn found(&mut self, cluster: ClusterId, level: u16) -> Result<Applied, Refusal> {
        match self.id {
            Some(id) if id == cluster => Ok(Applied::done(Vec::new())),
            Some(id) => refuse(
                ErrorCode::InconsistentClusterId,
                format!("the cluster is {id}"),
            ),
            None => {
                self.id = Some(cluster);
                self.feature_level = level;
                Ok(Applied::done(vec![Changed::Cluster]))
            }
        }
    }

    /// A broker announces itself. The same process may do so again and keeps its epoch; another
    /// one gets a new epoch when the earlier one is fenced.
    pub(super) fn register(
        &mut self,
        index: Index,
        registration: &Registration,
    ) -> Result<Applied, Refusal> {
        self.check_registration(registration)?;
        let id = registration.id;
        let before = self.broker(id).cloned();
        let again = before.filter(|known| known.incarnation == registration.incarnation);
        let epoch = again
            .as_ref()
            .map_or(BrokerEpoch(index.0), |known| known.epoch);
        let mut changes = vec![Changed::Broker(id)];
        if again.is_none() {
            changes.extend(self.begin_life(registration));
        }
        let known = self.broker(id);
        let broker = Broker {
            id,
            epoch,
            incarnation: registration.incarnation,
            rack: registration.rack.clone(),
            endpoints: registration.endpoints.clone(),
            shards: registration.shards.max(1),
            features: registration.features,
            state: again.map_or(BrokerState::Fenced, |known| known.state),
            cordoned: known.is_some_and(|known| known.cordoned),
        };
        Arc::make_mut(&mut self.brokers).insert(id, broker);
        let answer = Answer::Registered(epoch);
        Ok(Applied { answer, changes })
    }

    /// What an earlier life leaves: nothing in sync, and after an unclean stop nothing eligible.
    fn begin_life(&mut self, registration: &Registration) -> Vec<Changed> {
        let id = registration.id;
        let was_clean = |known: &Broker| registration.clean_from == Some(known.epoch);
        let is_clean = self.broker(id).is_some_and(was_clean);
        let mut changes = self.leave_in_sync_sets(id);
        if !is_clean {
            changes.extend(self.settle_all(Wish::Stay, |partition| {
                let is_eligible = partition.eligible.contains(&id);
                is_eligible.then(|| Partition {
                    eligible: without(&partition.eligible, &[id]),
                    ..partition.clone()
                })
            }));
        }
        changes
    }

    fn check_registration(&self, registration: &Registration) -> Result<(), Refusal> {
        let Registration { id, cluster, .. } = registration;
        if self.id != Some(*cluster) {
            return refuse(
                ErrorCode::InconsistentClusterId,
                format!("broker {id} belongs to cluster {cluster}, this is another"),
            );
        }
        let features = registration.features;
        if !features.contains(self.feature_level) {
            return refuse(
                ErrorCode::UnsupportedVersion,
                format!(
                    "the cluster works at feature level {}, broker {id} at {} to {}",
                    self.feature_level, features.least, features.most
                ),
            );
        }
        let names = registration.endpoints.iter();
        let names = names.flat_map(|endpoint| [&endpoint.listener, &endpoint.host]);
        let mut names = names.chain(&registration.rack);
        let is_too_long = names.any(|name| name.is_empty() || name.len() > MAX_NAME_LEN);
        if is_too_long || registration.endpoints.len() > MAX_ENDPOINTS || id.0 > i32::MAX as u32 {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("broker {id} registers with a number, rack or endpoints that cannot be"),
            );
        }
        match self.broker(*id) {
            Some(known)
                if known.incarnation != registration.incarnation
                    && known.state != BrokerState::Fenced =>
            {
                refuse(
                    ErrorCode::DuplicateBrokerRegistration,
                    format!("another process is broker {id}; it is fenced when it is silent"),
                )
            }
            None if self.brokers.len() >= MAX_BROKERS => refuse(
                ErrorCode::InvalidRequest,
                format!("there are {MAX_BROKERS} brokers, the limit"),
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn unfence(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Applied, Refusal> {
        self.check_life(broker, epoch)?;
        if self.is_in(broker, BrokerState::ShuttingDown) {
            return Ok(Applied::done(Vec::new()));
        }
        let mut changes = self.enter_state(broker, BrokerState::Active);
        if !changes.is_empty() {
            // Who waits for a leader may find one now.
            changes.extend(self.settle_all(Wish::Stay, |partition| {
                partition.leader.is_none().then(|| partition.clone())
            }));
        }
        Ok(Applied::done(changes))
    }

    pub(super) fn fence(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Applied, Refusal> {
        self.check_life(broker, epoch)?;
        let mut changes = self.enter_state(broker, BrokerState::Fenced);
        changes.extend(self.leave_in_sync_sets(broker));
        Ok(Applied::done(changes))
    }

    pub(super) fn begin_shutdown(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Applied, Refusal> {
        self.check_life(broker, epoch)?;
        if self.is_in(broker, BrokerState::Fenced) {
            return Ok(Applied::done(Vec::new()));
        }
        let mut changes = self.enter_state(broker, BrokerState::ShuttingDown);
        let active: BTreeSet<BrokerId> = self
            .brokers()
            .filter(|known| known.state == BrokerState::Active)
            .map(|known| known.id)
            .collect();
        // It leaves where somebody else can lead; elsewhere it goes on until it is gone.
        changes.extend(self.settle_all(Wish::Stay, |partition| {
            let others = without(&partition.in_sync, &[broker]);
            let is_in = others.len() < partition.in_sync.len();
            let can_leave = others.iter().any(|other| active.contains(other));
            (is_in && can_leave).then(|| Partition {
                in_sync: others,
                ..partition.clone()
            })
        }));
        Ok(Applied::done(changes))
    }

    /// Whether a broker that is going away leads nothing any more that others could lead.
    #[must_use]
    pub fn may_stop(&self, broker: BrokerId) -> bool {
        let leads = |partition: &Partition| {
            let other = |member: &BrokerId| *member != broker && self.is_active(*member);
            partition.leader == Some(broker) && partition.in_sync.iter().any(other)
        };
        let mut topics = self.topics.values();
        !topics.any(|topic| topic.partitions.iter().any(|partition| leads(partition)))
    }

    pub(super) fn cordon(&mut self, broker: BrokerId, cordoned: bool) -> Result<Applied, Refusal> {
        let Some(known) = Arc::make_mut(&mut self.brokers).get_mut(&broker) else {
            return refuse(
                ErrorCode::BrokerIdNotRegistered,
                format!("broker {broker} is not registered"),
            );
        };
        let changed = known.cordoned != cordoned;
        known.cordoned = cordoned;
        Ok(Applied::done(match changed {
            true => vec![Changed::Broker(broker)],
            false => Vec::new(),
        }))
    }

    pub(super) fn unregister(&mut self, broker: BrokerId) -> Result<Applied, Refusal> {
        let Some(known) = self.broker(broker) else {
            return refuse(
                ErrorCode::BrokerIdNotRegistered,
                format!("broker {broker} is not registered"),
            );
        };
        if known.state != BrokerState::Fenced {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("broker {broker} is running: stop it first"),
            );
        }
        let held = self.replicas_of(broker);
        if held > 0 {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("broker {broker} is a replica of {held} partitions: reassign them first"),
            );
        }
        Arc::make_mut(&mut self.brokers).remove(&broker);
        Ok(Applied::done(vec![Changed::BrokerGone(broker)]))
    }

    /// Of how many partitions a broker is a replica.
    #[must_use]
    pub fn replicas_of(&self, broker: BrokerId) -> usize {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        let held = partitions.filter(|partition| partition.replicas.contains(&broker));
        held.count()
    }

    pub(super) fn allocate_producer_ids(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Applied, Refusal> {
        self.check_life(broker, epoch)?;
        let count = PRODUCER_ID_BLOCK;
        let Some(next) = self.next_producer_id.checked_add(i64::from(count)) else {
            let message = "every producer id was given out";
            return refuse(ErrorCode::UnknownServerError, message);
        };
        let first = ProducerId(self.next_producer_id);
        self.next_producer_id = next;
        let answer = Answer::ProducerIds { first, count };
        let changes = Vec::new();
        Ok(Applied { answer, changes })
    }

    pub(super) fn set_feature_level(&mut self, level: u16) -> Result<Applied, Refusal> {
        self.check_feature_level(level)?;
        let changed = level > self.feature_level;
        self.feature_level = level;
        Ok(Applied::done(match changed {
            true => vec![Changed::Cluster],
            false => Vec::new(),
        }))
    }

    /// Whether the cluster could work at this feature level.
    ///
    /// # Errors
    /// `FEATURE_UPDATE_FAILED`: a broker cannot, or the level is below the present one.
    pub fn check_feature_level(&self, level: u16) -> Result<(), Refusal> {
        let cannot = self
            .brokers()
            .find(|broker| !broker.features.contains(level));
        if let Some(broker) = cannot {
            return refuse(
                ErrorCode::FeatureUpdateFailed,
                format!(
                    "broker {} works at feature levels {} to {}",
                    broker.id, broker.features.least, broker.features.most
                ),
            );
        }
        match level < self.feature_level {
            true => refuse(
                ErrorCode::FeatureUpdateFailed,
                format!("feature levels only grow, and it is {}", self.feature_level),
            ),
            false => Ok(()),
        }
    }

    fn is_in(&self, broker: BrokerId, state: BrokerState) -> bool {
        self.broker(broker)
            .is_some_and(|known| known.state == state)
    }

    fn enter_state(&mut self, broker: BrokerId, state: BrokerState) -> Vec<Changed> {
        let known = Arc::make_mut(&mut self.brokers).get_mut(&broker);
        let known = known.expect("its life was checked");
        if known.state == state {
            return Vec::new();
        }
        known.state = state;
        vec![Changed::Broker(broker)]
    }

    /// Takes a broker that does not serve out of every in-sync set, and out of every lead.
    fn leave_in_sync_sets(&mut self, broker: BrokerId) -> Vec<Changed> {
        self.settle_all(Wish::Stay, |partition| {
            let is_in = partition.in_sync.contains(&broker);
            is_in.then(|| Partition {
                in_sync: without(&partition.in_sync, &[broker]),
                ..partition.clone()
            })
        })
    }
}
