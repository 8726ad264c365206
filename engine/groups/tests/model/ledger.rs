//! What was committed, as clients know it: an acknowledged commit is never lost, and a refused one
//! never seen.

use std::collections::BTreeMap;

use millrace_groups::{DescribedOffset, Response, SaidOffset, Ticket};
use millrace_model::{ErrorCode, Offset};

use super::blobs::Partition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Sent; there was no answer, or there never will be.
    Unknown,
    Acknowledged,
    Refused,
}

struct Commit {
    ticket: Ticket,
    offset: u64,
    fate: Fate,
}

/// Commits by group and partition, in the order in which the coordinator was given them.
#[derive(Default)]
pub(crate) struct Ledger {
    commits: BTreeMap<(String, Partition), Vec<Commit>>,
    /// No offset is committed twice, so that each can be told from all others.
    next_offset: u64,
    pub(crate) acknowledged: usize,
}

impl Ledger {
    pub(crate) const fn next_offset(&mut self) -> u64 {
        self.next_offset += 1;
        self.next_offset
    }

    pub(crate) fn sent(&mut self, group: &str, partition: &Partition, ticket: Ticket, offset: u64) {
        let key = (group.to_owned(), partition.clone());
        self.commits.entry(key).or_default().push(Commit {
            ticket,
            offset,
            fate: Fate::Unknown,
        });
    }

    pub(crate) fn answered(&mut self, ticket: Ticket, response: &Response) {
        let all = self.commits.values_mut().flatten();
        let Some(commit) = all.into_iter().find(|commit| commit.ticket == ticket) else {
            return;
        };
        commit.fate = match response {
            Response::Committed(codes) if codes == &[ErrorCode::None] => Fate::Acknowledged,
            // A failed write says nothing of what is in the log.
            Response::Failed(failure) if failure.code.is_retriable() => Fate::Unknown,
            _ => Fate::Refused,
        };
        self.acknowledged += usize::from(commit.fate == Fate::Acknowledged);
    }

    /// Checks what the coordinator says is committed, and forgets what came before that.
    pub(crate) fn check(&mut self, group: &str, found: &[DescribedOffset]) {
        for ((_, partition), commits) in self.commits.iter_mut().filter(|((g, _), _)| g == group) {
            let said = found
                .iter()
                .find(|said| said.topic == partition.0 && said.partition == partition.1)
                .and_then(|said| said.committed.as_ref());
            let acknowledged = commits
                .iter()
                .rposition(|commit| commit.fate == Fate::Acknowledged);
            let Some(said) = said else {
                assert_eq!(acknowledged, None, "{group} {partition:?} is lost");
                continue;
            };
            let at = commits
                .iter()
                .position(|commit| SaidOffset::from(Offset(commit.offset)) == said.offset);
            let at = at.expect("what is committed was sent");
            assert_ne!(commits[at].fate, Fate::Refused, "{group} {partition:?}");
            assert!(
                acknowledged.is_none_or(|acknowledged| at >= acknowledged),
                "{group} {partition:?} went back to {}",
                said.offset
            );
            commits.drain(..at);
        }
    }
}
