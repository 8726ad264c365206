//! A member of a classic group.

use bytes::Bytes;

use super::hold::Hold;
use crate::consumer::ConsumerProtocolSubscription;
use crate::{Client, JoinGroup, Ticket};

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) instance: Option<String>,
    pub(super) client: Client,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// In the order of its preference.
    pub(super) protocols: Vec<(String, Bytes)>,
    /// What a leader last assigned to it: of an earlier generation until the group is stable.
    pub(super) assignment: Bytes,
    /// It waits for the generation to be complete.
    pub(super) joining: Option<Ticket>,
    /// It waits for its assignment.
    pub(super) syncing: Option<Ticket>,
    /// What its heartbeats wait for.
    pub(super) hold: Hold,
}

impl Member {
    pub(super) fn new(client: Client, request: &JoinGroup) -> Self {
        Self {
            instance: request.instance.clone(),
            client,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            hold: Hold::default(),
        }
    }

    /// Whatever it waits for.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + use<> {
        let tickets = [self.joining, self.syncing, self.hold.ticket];
        tickets.into_iter().flatten()
    }

    /// It waits for nothing any more.
    pub(super) const fn forget_tickets(&mut self) {
        (self.joining, self.syncing, self.hold.ticket) = (None, None, None);
    }

    /// Whether its connection tells when it is gone, so that its session need not run.
    pub(super) const fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    /// What it says for the protocol; nothing where it does not know it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    /// Whether it says that it wants the same. Consumers also say what they own, which changes from join
    /// to join; that is not what they want.
    pub(super) fn wants_the_same(&self, protocol: Option<&str>, metadata: &Bytes) -> bool {
        let before = self.metadata(protocol);
        let topics = |blob: &Bytes| {
            let mut topics = ConsumerProtocolSubscription::decode(blob).ok()?.topics;
            topics.sort_unstable();
            Some(topics)
        };
        before == *metadata
            || topics(&before).is_some_and(|before| Some(before) == topics(metadata))
    }
}
