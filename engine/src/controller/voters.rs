//! Who keeps the metadata: what the leader does by itself ([`millrace_replication::cluster::Voters`] judges),
//! and what it is told.

use millrace_model::Timestamp;
use millrace_replication::cluster::{VoterChange, VoterStep};
use millrace_replication::quorum::{Input, MembershipChange};

use super::asks::Pending;
use super::core::Core;

/// Between two looks at who votes. A replacement takes a few steps, and none is urgent.
pub(super) const VOTERS_INTERVAL_MS: u64 = 500;

impl Core {
    /// As the leader, does what is to be done next, if anything.
    pub(super) fn look_at_voters(&mut self, now: Timestamp) {
        let status = self.quorum.status();
        match self.voters.next_step(now, &self.cluster, &status) {
            None => {}
            Some(VoterStep::Change(change)) => {
                tracing::info!(?change, "changes the members of the metadata quorum");
                self.change_membership(change);
            }
            Some(VoterStep::HandOver(to)) => {
                tracing::info!(%to, "gives up the lead of the metadata quorum, for it is to vote no more");
                self.queue(Input::TransferLeadership { to });
            }
        }
    }

    /// Proposes a change of the members that nobody waits for. What is refused is looked at again.
    pub(super) fn change_membership(&mut self, change: MembershipChange) {
        let id = self.unwatched();
        self.queue(Input::ChangeMembership { id, change });
    }

    /// As the leader, judges what a person asks for.
    pub(super) fn judge_voters(&mut self, now: Timestamp, pending: Pending, change: VoterChange) {
        let status = self.quorum.status();
        match self.voters.judge(now, &self.cluster, &status, change) {
            Err(refusal) => self.answer(now, pending, self.applied, Err(refusal)),
            Ok(VoterStep::Change(change)) => {
                tracing::info!(
                    ?change,
                    "changes the members of the metadata quorum, as asked"
                );
                self.propose_change(pending, change);
            }
            Ok(VoterStep::HandOver(to)) => {
                tracing::info!(%to, "gives up the lead of the metadata quorum, as asked");
                self.queue(Input::TransferLeadership { to });
                // Whoever leads then is asked again.
                self.try_again(now, pending);
            }
        }
    }
}
