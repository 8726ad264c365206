//! Questions about the quorum, which its leader alone can answer: it knows how far the others are.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_model::{ErrorCode, Timestamp};
use millrace_replication::Refusal;
use millrace_replication::cluster::{PeerAnswer, PeerRequest};
use millrace_replication::quorum::QuorumReport;

use super::core::Core;

/// How long the leader may take to answer. It does so from memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// Questions that wait for the leader at a time; each is a request of a client's session.
const MAX_INQUIRIES: usize = 256;

pub(super) type ReportReply = flume::Sender<Result<QuorumReport, Refusal>>;

/// Who waits for the answer to a call.
pub(super) type Inquiries = BTreeMap<u64, ReportReply>;

impl Core {
    /// Answers how the quorum stands: from this node if it leads, else from its leader.
    pub(super) fn inquire(&mut self, now: Timestamp, reply: ReportReply) {
        if let Some(report) = self.report(now) {
            let _ = reply.try_send(Ok(report));
            return;
        }
        match self.leader_to_ask() {
            Some(leader) if self.inquiries.len() < MAX_INQUIRIES => {
                let id = self.call(leader, &PeerRequest::Status, PATIENCE);
                self.inquiries.insert(id, reply);
            }
            Some(_) => {
                let message = "too many ask how the metadata quorum stands; try again";
                let refusal = Refusal::new(ErrorCode::RequestTimedOut, message);
                let _ = reply.try_send(Err(refusal));
            }
            None => {
                let message = "the metadata quorum has no leader that is known here; try again";
                let refusal = Refusal::new(ErrorCode::LeaderNotAvailable, message);
                let _ = reply.try_send(Err(refusal));
            }
        }
    }

    /// How the quorum stands, if this node leads.
    pub(super) fn report(&self, now: Timestamp) -> Option<QuorumReport> {
        self.quorum.status().report(self.identity.broker, now)
    }

    /// What one is told who takes this node for the leader.
    pub(super) fn leads_not(&self) -> Refusal {
        let message = format!("broker {} does not lead the quorum", self.identity.broker);
        Refusal::new(ErrorCode::NotController, message)
    }
}

/// The report in what another controller has answered.
pub(super) fn reported(result: Result<PeerAnswer, Refusal>) -> Result<QuorumReport, Refusal> {
    match result? {
        PeerAnswer::Status(report) => Ok(report),
        PeerAnswer::Outcome {
            outcome: Err(refusal),
            ..
        } => Err(refusal),
        PeerAnswer::Outcome { outcome: Ok(_), .. }
        | PeerAnswer::Heartbeat { .. }
        | PeerAnswer::Introduction(_) => {
            let message = "the leader of the metadata quorum answers something else";
            Err(Refusal::new(ErrorCode::UnknownServerError, message))
        }
    }
}
