//! What to do with a peer's message: whether it can be, what its term means, who handles it.

use std::collections::BTreeSet;

use millrace_model::{BrokerId, Timestamp};

use super::limits::{MAX_INDEX, MAX_MEMBERS, MAX_TERM, MAX_TERM_STEP, NOBODY};
use super::{
    Appended, Body, Effect, Entry, Index, MAX_SNAPSHOT_LEN, Membership, Message, Payload, Quorum,
    Role, Term,
};

/// What no sound peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It is for another node.
    #[error("a message of the metadata quorum for broker {0} arrived here")]
    Receiver(BrokerId),
    /// It claims to be from this node, or from none.
    #[error("a message of the metadata quorum claims to be from broker {0}")]
    Sender(BrokerId),
    /// No cluster has come that far since the last message.
    #[error("term {0} is too far ahead")]
    Term(Term),
    /// It speaks of a term after its own.
    #[error("an entry of term {0} in a message of an earlier term")]
    Future(Term),
    /// Entries with gaps, or of falling terms.
    #[error("entry {0} does not continue the one before it")]
    Order(Index),
    /// No log is that long.
    #[error("{0} is no place in a log")]
    Index(Index),
    /// No voters, a voter that learns, or too many.
    #[error("the members in it cannot be")]
    Membership,
    /// A part that is not within the whole, or a whole that is too long.
    #[error("the part of a snapshot at {offset} is not within {total} bytes")]
    Part {
        /// Where it begins.
        offset: u64,
        /// The whole.
        total: u64,
    },
    /// Two leaders in one term.
    #[error("it leads in a term in which broker {0} leads")]
    SecondLeader(BrokerId),
    /// A leader that lacks what is committed.
    #[error("it contradicts entry {0}, which is committed")]
    ConflictsWithCommitted(Index),
    /// It has what the leader does not have.
    #[error("it holds entry {0}, which the leader does not have")]
    BeyondLog(Index),
    /// It has more of a snapshot than there is.
    #[error("it holds {0} bytes of a shorter snapshot")]
    BeyondSnapshot(u64),
}

impl Quorum {
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        self.check(&message)?;
        let from = message.from;
        if let Body::PreVote {
            last_index,
            last_term,
        } = message.body
        {
            self.on_pre_vote(now, &message, (last_term, last_index), effects);
            return Ok(());
        }
        if let Body::PreVoteAnswer { granted: true } = message.body {
            self.on_pre_vote_answer(now, &message);
            return Ok(());
        }
        if message.term < self.hard.term {
            self.answer_the_past(&message);
            return Ok(());
        }
        if message.term > self.hard.term {
            if let Body::Vote {
                transfer: false, ..
            } = message.body
                && self.is_loyal(now)
            {
                return Ok(());
            }
            self.follow_term(now, message.term, None);
        }
        self.dispatch(now, from, message.body)
    }

    /// A message of the present term.
    fn dispatch(&mut self, now: Timestamp, from: BrokerId, body: Body) -> Result<(), Violation> {
        match body {
            Body::PreVote { .. } | Body::PreVoteAnswer { .. } => {}
            Body::Vote {
                last_index,
                last_term,
                ..
            } => self.on_vote(now, from, (last_term, last_index)),
            Body::VoteAnswer { granted } => self.on_vote_answer(now, from, granted),
            Body::Append {
                previous,
                previous_term,
                commit,
                entries,
            } => {
                self.check_leader(from)?;
                self.on_append(now, from, (previous, previous_term), commit, entries)?;
            }
            Body::AppendAnswer(answer) => self.on_append_answer(now, from, answer)?,
            Body::SnapshotPart {
                meta,
                total,
                offset,
                data,
            } => {
                self.check_leader(from)?;
                self.on_snapshot_part(now, from, meta, total, offset, &data);
            }
            Body::SnapshotAnswer { index, received } => {
                self.on_snapshot_answer(now, from, index, received)?;
            }
            Body::CampaignNow => self.on_campaign_now(now, from),
        }
        Ok(())
    }

    /// Tells who is behind which term it is.
    fn answer_the_past(&mut self, message: &Message) {
        let body = match message.body {
            Body::Vote { .. } => Body::VoteAnswer { granted: false },
            Body::Append { previous, .. } => Body::AppendAnswer(Appended::Mismatch {
                previous,
                hint: Index::ZERO,
                hint_term: Term::default(),
            }),
            Body::SnapshotPart { ref meta, .. } => Body::SnapshotAnswer {
                index: meta.index,
                received: 0,
            },
            _ => return,
        };
        self.promise(message.from, body);
    }

    fn check_leader(&self, from: BrokerId) -> Result<(), Violation> {
        match (&self.role, self.leader()) {
            (Role::Leader(_), _) => Err(Violation::SecondLeader(self.id)),
            (_, Some(leader)) if leader != from => Err(Violation::SecondLeader(leader)),
            _ => Ok(()),
        }
    }

    fn check(&self, message: &Message) -> Result<(), Violation> {
        if message.to != self.id {
            return Err(Violation::Receiver(message.to));
        }
        if message.from == self.id || message.from == NOBODY {
            return Err(Violation::Sender(message.from));
        }
        let most = self.hard.term.0.saturating_add(MAX_TERM_STEP).min(MAX_TERM);
        if message.term.0 > most {
            return Err(Violation::Term(message.term));
        }
        match &message.body {
            Body::PreVote {
                last_index,
                last_term,
            }
            | Body::Vote {
                last_index,
                last_term,
                ..
            } => check_place(*last_index, *last_term, message.term),
            Body::Append {
                previous,
                previous_term,
                entries,
                ..
            } => {
                check_place(*previous, *previous_term, message.term)?;
                check_entries(*previous, *previous_term, entries, message.term)
            }
            Body::SnapshotPart {
                meta,
                total,
                offset,
                data,
            } => {
                check_place(meta.index, meta.term, message.term)?;
                check_membership(&meta.membership)?;
                let (offset, total) = (*offset, *total);
                let end = offset.checked_add(data.len() as u64);
                match end {
                    Some(end) if end <= total && total <= MAX_SNAPSHOT_LEN => Ok(()),
                    _ => Err(Violation::Part { offset, total }),
                }
            }
            _ => Ok(()),
        }
    }
}

fn check_place(index: Index, term: Term, now: Term) -> Result<(), Violation> {
    if index.0 > MAX_INDEX {
        return Err(Violation::Index(index));
    }
    if term > now {
        return Err(Violation::Future(term));
    }
    Ok(())
}

fn check_entries(
    previous: Index,
    previous_term: Term,
    entries: &[Entry],
    now: Term,
) -> Result<(), Violation> {
    let (mut last, mut term) = (previous, previous_term);
    for entry in entries {
        if entry.index != last.next() || entry.term < term {
            return Err(Violation::Order(entry.index));
        }
        check_place(entry.index, entry.term, now)?;
        if let Payload::Membership(membership) = &entry.payload {
            check_membership(membership)?;
        }
        (last, term) = (entry.index, entry.term);
    }
    Ok(())
}

fn check_membership(membership: &Membership) -> Result<(), Violation> {
    let Membership { voters, learners } = membership;
    let is_sound = !voters.is_empty()
        && voters.is_disjoint(learners)
        && voters.len() + learners.len() <= MAX_MEMBERS
        && !has_nobody(voters)
        && !has_nobody(learners);
    match is_sound {
        true => Ok(()),
        false => Err(Violation::Membership),
    }
}

fn has_nobody(members: &BTreeSet<BrokerId>) -> bool {
    members.contains(&NOBODY)
}
