//! One member's step from what it reads to its target (KIP-848, "Member State Machine").
//!
//! First it gives up what it must (its epoch stays), then it says so, then it has the target's epoch and
//! whatever of the target is free. What others hold it is given by a later step.

use millrace_model::TopicId;

use super::{Current, Partitions};
use crate::record::MemberState;

/// Where a member shall come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal<'a> {
    /// The epoch of the target assignment.
    pub(super) epoch: i32,
    /// What the member shall read.
    pub(super) target: &'a Partitions,
}

/// The member after its next step; equal to `current` where it has to wait. `owned` is what it says that it
/// reads, if it says so. `held` says how many members may read a partition, this one included.
pub(super) fn reconcile(
    current: &Current,
    goal: Goal<'_>,
    owned: Option<&Partitions>,
    held: impl Fn(TopicId, u32) -> u32,
) -> Current {
    match current.state {
        MemberState::Stable if current.epoch == goal.epoch => current.clone(),
        MemberState::UnrevokedPartitions if still_reads(owned, &current.pending_revocation) => {
            current.clone()
        }
        // What was pending is given up: that is the next epoch's beginning.
        MemberState::UnrevokedPartitions => step(current, current.epoch + 1, goal, owned, held),
        MemberState::Stable | MemberState::UnreleasedPartitions => {
            step(current, current.epoch, goal, owned, held)
        }
    }
}

fn step(
    current: &Current,
    epoch: i32,
    goal: Goal<'_>,
    owned: Option<&Partitions>,
    held: impl Fn(TopicId, u32) -> u32,
) -> Current {
    let mut assigned = current.assigned.intersection(goal.target);
    let revoked = current.assigned.difference(goal.target);
    if !revoked.is_empty() && still_reads(owned, &revoked) {
        return Current {
            state: MemberState::UnrevokedPartitions,
            assigned,
            pending_revocation: revoked,
            ..at_epoch(current, epoch)
        };
    }
    let mine = |topic, partition| {
        current.assigned.contains(topic, partition)
            || current.pending_revocation.contains(topic, partition)
    };
    let mut state = MemberState::Stable;
    for (topic, partition) in goal.target.difference(&assigned).iter() {
        let others = held(topic, partition).saturating_sub(u32::from(mine(topic, partition)));
        match others {
            0 => {
                assigned.insert(topic, partition);
            }
            _ => state = MemberState::UnreleasedPartitions,
        }
    }
    Current {
        state,
        assigned,
        pending_revocation: Partitions::new(),
        ..at_epoch(current, goal.epoch)
    }
}

/// A member that says nothing of what it reads is believed to read it all.
fn still_reads(owned: Option<&Partitions>, revoked: &Partitions) -> bool {
    owned.is_none_or(|owned| owned.intersects(revoked))
}

fn at_epoch(current: &Current, epoch: i32) -> Current {
    let previous_epoch = match epoch == current.epoch {
        true => current.previous_epoch,
        false => current.epoch,
    };
    Current {
        epoch,
        previous_epoch,
        ..Current::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId([1; 16]);

    fn set(partitions: &[u32]) -> Partitions {
        partitions.iter().map(|p| (TOPIC, *p)).collect()
    }

    fn run(
        current: &Current,
        epoch: i32,
        target: &[u32],
        owned: Option<&[u32]>,
        taken: &[u32],
    ) -> Current {
        let target = set(target);
        let goal = Goal {
            epoch,
            target: &target,
        };
        let held = |topic, partition| {
            u32::from(taken.contains(&partition))
                + u32::from(current.assigned.contains(topic, partition))
                + u32::from(current.pending_revocation.contains(topic, partition))
        };
        reconcile(current, goal, owned.map(set).as_ref(), held)
    }

    #[test]
    fn gives_up_first_then_is_given() {
        let joined = run(&Current::default(), 1, &[0, 1, 2], Some(&[]), &[]);
        assert_eq!((joined.epoch, joined.assigned.len()), (1, 3));
        let asked = run(&joined, 2, &[0, 3], Some(&[0, 1, 2]), &[]);
        assert_eq!(asked.state, MemberState::UnrevokedPartitions);
        assert_eq!((asked.epoch, &asked.assigned), (1, &set(&[0])));
        assert_eq!(asked.pending_revocation, set(&[1, 2]));
        assert_eq!(
            run(&asked, 2, &[0, 3], None, &[]),
            asked,
            "silence is no answer"
        );
        assert_eq!(run(&asked, 2, &[0, 3], Some(&[0, 2]), &[]), asked);
        let done = run(&asked, 2, &[0, 3], Some(&[0]), &[]);
        assert_eq!((done.epoch, done.previous_epoch), (2, 1));
        assert_eq!(
            (done.state, &done.assigned),
            (MemberState::Stable, &set(&[0, 3]))
        );
    }

    #[test]
    fn takes_what_is_free_and_waits_for_the_rest() {
        let waits = run(&Current::default(), 1, &[0, 1], Some(&[]), &[1]);
        assert_eq!(waits.state, MemberState::UnreleasedPartitions);
        assert_eq!((waits.epoch, &waits.assigned), (1, &set(&[0])));
        assert_eq!(run(&waits, 1, &[0, 1], None, &[1]), waits);
        let whole = run(&waits, 1, &[0, 1], None, &[]);
        assert_eq!(
            (whole.state, whole.assigned.len()),
            (MemberState::Stable, 2)
        );
    }

    #[test]
    fn a_target_that_changed_meanwhile_asks_for_more() {
        let joined = run(&Current::default(), 1, &[0, 1, 2], Some(&[]), &[]);
        let asked = run(&joined, 2, &[0, 1], Some(&[0, 1, 2]), &[]);
        let again = run(&asked, 4, &[1, 2], Some(&[0, 1]), &[]);
        assert_eq!(again.state, MemberState::UnrevokedPartitions);
        assert_eq!((again.epoch, &again.pending_revocation), (2, &set(&[0])));
        // What it gave up it may have again at once, for nobody else was given it.
        let done = run(&again, 4, &[1, 2], Some(&[1]), &[]);
        assert_eq!((done.epoch, &done.assigned), (4, &set(&[1, 2])));
    }
}
