//! Consumer groups: a commit that was acknowledged stays until a later one, and no two members read the same
//! partition.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use crate::sim::trace::ensure;

/// A commit of an offset, and when it happened.
#[derive(Clone, Copy, Debug)]
struct Commit {
    sent: i64,
    /// By the coordinator of which epoch, and when.
    acknowledged: Option<(u32, i64)>,
}

/// What a member reads as far as it knows, who told it and when, and until when it is sure.
#[derive(Clone, Debug, Default)]
struct Claim {
    partitions: BTreeSet<u32>,
    coordinator: u32,
    heard: i64,
    until: i64,
}

/// See the module's documentation.
///
/// A coordinator that was replaced and does not know it yet may go on telling what it knew. So what one says
/// is held against what was acknowledged in its own epoch and earlier ones.
#[derive(Default)]
pub(in crate::sim::cluster) struct GroupChecker {
    /// By group and partition: every commit, by its number.
    commits: BTreeMap<(u32, u32), BTreeMap<u64, Commit>>,
    claims: BTreeMap<u32, BTreeMap<u32, Claim>>,
    /// When each coordinator began to serve, by its epoch.
    began: BTreeMap<u32, i64>,
    acknowledged: u64,
}

impl GroupChecker {
    /// Commits that were acknowledged.
    pub(in crate::sim::cluster) fn commits(&self) -> u64 {
        self.acknowledged
    }

    /// A coordinator has been loaded.
    pub(in crate::sim::cluster) fn coordinates(&mut self, epoch: u32, now: i64) {
        self.began.entry(epoch).or_insert(now);
    }

    /// A member sends a commit with this number.
    pub(in crate::sim::cluster) fn sent(&mut self, place: (u32, u32), number: u64, now: i64) {
        let commit = Commit {
            sent: now,
            acknowledged: None,
        };
        let commits = self.commits.entry(place).or_default();
        commits.insert(number, commit);
    }

    /// It was told that the commit is kept.
    pub(in crate::sim::cluster) fn acknowledged(
        &mut self,
        place: (u32, u32),
        number: u64,
        by: (u32, i64),
    ) {
        self.acknowledged += 1;
        if let Some(commit) = self.commits.entry(place).or_default().get_mut(&number) {
            commit.acknowledged = Some(by);
        }
    }

    /// Somebody who asked at `asked` was told this commit, or that there is none, by the coordinator of
    /// this epoch.
    pub(in crate::sim::cluster) fn fetched(
        &self,
        (group, partition): (u32, u32),
        found: Option<u64>,
        (epoch, asked): (u32, i64),
    ) -> Checked {
        let none = BTreeMap::new();
        let commits = self.commits.get(&(group, partition)).unwrap_or(&none);
        let commit = found.and_then(|number| commits.get(&number));
        ensure!(
            commit.is_some() == found.is_some(),
            "group {group} finds the commit {found:?} of {partition}, which nobody sent"
        );
        // One that was acknowledged before it asked, and sent when the one that was found was done with.
        let later = commits.iter().find(|(_, later)| {
            let is_done = |(by, at): (u32, i64)| by <= epoch && at < asked;
            let is_later = match commit {
                Some(found) => found.acknowledged.is_some_and(|(_, at)| at < later.sent),
                None => true,
            };
            is_later && later.acknowledged.is_some_and(is_done)
        });
        ensure!(
            later.is_none(),
            "group {group} finds {found:?} for {partition}, and {later:?} was acknowledged since"
        );
        Ok(())
    }

    /// A member was told by the coordinator of an epoch that it reads these partitions.
    pub(in crate::sim::cluster) fn claims(
        &mut self,
        (group, member): (u32, u32),
        partitions: &BTreeSet<u32>,
        (coordinator, heard, until): (u32, i64, i64),
        now: i64,
    ) -> Checked {
        let claim = Claim {
            partitions: partitions.clone(),
            coordinator,
            heard,
            until,
        };
        let began = &self.began;
        // What a replaced coordinator said after the next began does not bind that one.
        let binds = |earlier: &Claim, later: &Claim| {
            let began = began.get(&later.coordinator).copied().unwrap_or(i64::MAX);
            earlier.coordinator == later.coordinator || earlier.heard < began
        };
        let claims = self.claims.entry(group).or_default();
        for (other, theirs) in claims.iter().filter(|(other, _)| **other != member) {
            let both = theirs.partitions.intersection(partitions).next();
            let is_sure = theirs.until > now && until > now;
            let (earlier, later) = match theirs.coordinator <= coordinator {
                true => (theirs, &claim),
                false => (&claim, theirs),
            };
            ensure!(
                !is_sure || both.is_none() || !binds(earlier, later),
                "members {other} and {member} of group {group} both read {both:?}: {theirs:?} and {claim:?}"
            );
        }
        claims.insert(member, claim);
        Ok(())
    }
}
