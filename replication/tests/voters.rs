//! Who of the brokers votes: what the leader does by itself, and what it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use millrace_model::{BrokerId, ClusterId, ErrorCode, IncarnationId, Timestamp};
use millrace_replication::cluster::{
    Cluster, Command, FEATURE_LEVELS, Registration, UNREGISTERED_MS, VoterChange, VoterSettings,
    VoterStep, Voters,
};
use millrace_replication::quorum::{
    Index, Membership, MembershipChange, PeerStatus, QuorumStatus, RoleName, Term,
};

const CLUSTER: ClusterId = ClusterId([1; 16]);

/// A leader, what it has applied and what it hears. Changes are carried out at once.
struct Leader {
    voters: Voters,
    cluster: Cluster,
    status: QuorumStatus,
    now: Timestamp,
}

impl Leader {
    /// Broker 1 leads these voters and learners, all of which serve and have caught up.
    fn new(voters: &[u32], learners: &[u32]) -> Self {
        let mut leader = Self {
            voters: Voters::new(VoterSettings::default()),
            cluster: Cluster::default(),
            status: QuorumStatus {
                role: RoleName::Leader,
                term: Term(1),
                leader: Some(BrokerId(1)),
                membership: Membership {
                    voters: voters.iter().copied().map(BrokerId).collect(),
                    learners: learners.iter().copied().map(BrokerId).collect(),
                },
                membership_is_settled: true,
                commit: Index(1_000),
                applied: Index(1_000),
                last: Index(1_000),
                peers: Vec::new(),
            },
            now: Timestamp(0),
        };
        let cluster = CLUSTER;
        leader.apply(&Command::Found { cluster, level: 1 });
        for id in voters.iter().chain(learners) {
            leader.register(*id, None);
            leader.hear(*id);
        }
        leader
    }

    fn apply(&mut self, command: &Command) {
        let index = Index(self.cluster.applied().0 + 1);
        self.cluster.apply(index, command).unwrap();
    }

    /// A broker registers and serves.
    fn register(&mut self, id: u32, rack: Option<&str>) {
        let broker = BrokerId(id);
        self.apply(&Command::Register(Registration {
            cluster: CLUSTER,
            id: broker,
            incarnation: IncarnationId([9; 16]),
            clean_from: None,
            rack: rack.map(str::to_owned),
            endpoints: Vec::new(),
            shards: 1,
            features: FEATURE_LEVELS,
        }));
        let epoch = self.cluster.broker(broker).unwrap().epoch;
        self.apply(&Command::Unfence { broker, epoch });
    }

    fn cordon(&mut self, id: u32, cordoned: bool) {
        let broker = BrokerId(id);
        self.apply(&Command::Cordon { broker, cordoned });
    }

    fn fence(&mut self, id: u32) {
        let broker = BrokerId(id);
        let epoch = self.cluster.broker(broker).unwrap().epoch;
        self.apply(&Command::Fence { broker, epoch });
    }

    fn unregister(&mut self, id: u32) {
        self.fence(id);
        let broker = BrokerId(id);
        self.apply(&Command::Unregister { broker });
    }

    /// A member has all that the leader has, and says so now.
    fn hear(&mut self, id: u32) {
        self.status.peers.retain(|peer| peer.id != BrokerId(id));
        self.status.peers.push(PeerStatus {
            id: BrokerId(id),
            matched: self.status.last,
            heard: self.now,
        });
    }

    /// Time passes in which all but these are heard.
    fn pass(&mut self, ms: u64, silent: &[u32]) {
        self.now.0 += i64::try_from(ms).unwrap();
        let members: Vec<BrokerId> = self.status.membership.members().collect();
        for id in members.into_iter().filter(|id| !silent.contains(&id.0)) {
            self.hear(id.0);
        }
    }

    fn next(&self) -> Option<VoterStep> {
        self.voters.next_step(self.now, &self.cluster, &self.status)
    }

    fn ask(&mut self, change: VoterChange) -> Result<VoterStep, ErrorCode> {
        let step = self
            .voters
            .judge(self.now, &self.cluster, &self.status, change);
        step.map_err(|refusal| refusal.code)
    }

    fn carry_out(&mut self, change: MembershipChange) {
        let Membership { voters, learners } = &mut self.status.membership;
        match change {
            MembershipChange::AddLearner(id) => drop(learners.insert(id)),
            MembershipChange::Promote(id) => assert!(learners.remove(&id) && voters.insert(id)),
            MembershipChange::Demote(id) => assert!(voters.remove(&id) && learners.insert(id)),
            MembershipChange::Remove(id) => assert!(voters.remove(&id) || learners.remove(&id)),
        }
        let added: Vec<BrokerId> = self.status.membership.members().collect();
        for id in added {
            if !self.status.peers.iter().any(|peer| peer.id == id) {
                self.hear(id.0);
            }
        }
    }

    /// Does what is to be done until nothing is, or the lead is given up. Returns the steps.
    fn settle(&mut self) -> Vec<VoterStep> {
        let mut steps = Vec::new();
        while let Some(step) = self.next() {
            assert!(steps.len() < 20, "it never ends: {steps:?}");
            steps.push(step);
            match step {
                VoterStep::Change(change) => self.carry_out(change),
                VoterStep::HandOver(heir) => self.status.leader = Some(heir),
            }
        }
        steps
    }

    fn voters(&self) -> Vec<u32> {
        self.status
            .membership
            .voters
            .iter()
            .map(|id| id.0)
            .collect()
    }
}

fn promote(id: u32) -> VoterStep {
    VoterStep::Change(MembershipChange::Promote(BrokerId(id)))
}

fn demote(id: u32) -> VoterStep {
    VoterStep::Change(MembershipChange::Demote(BrokerId(id)))
}

#[test]
fn one_voter_becomes_three_but_never_two() {
    let mut leader = Leader::new(&[1], &[2]);
    assert_eq!(leader.settle(), []);
    leader.register(3, None);
    let learns = VoterStep::Change(MembershipChange::AddLearner(BrokerId(3)));
    assert_eq!(leader.settle(), [learns, promote(2), promote(3)]);
    leader.register(4, None);
    leader.settle();
    assert_eq!(leader.voters(), [1, 2, 3], "there are enough");
}

#[test]
fn only_who_serves_is_heard_and_has_caught_up_is_chosen() {
    for spoil in [
        |leader: &mut Leader| leader.fence(3),
        |leader: &mut Leader| leader.cordon(3, true),
        |leader: &mut Leader| leader.pass(2_000, &[3]),
        |leader: &mut Leader| {
            leader
                .status
                .peers
                .iter_mut()
                .for_each(|it| it.matched.0 -= 500)
        },
    ] {
        let mut leader = Leader::new(&[1], &[2, 3]);
        spoil(&mut leader);
        assert_eq!(leader.settle(), []);
    }
}

#[test]
fn a_rack_of_its_own_comes_before_a_low_number() {
    let mut leader = Leader::new(&[1], &[]);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        leader.register(id, Some(rack));
    }
    leader.settle();
    assert_eq!(leader.voters(), [1, 3, 4]);
}

#[test]
fn who_is_decommissioned_is_replaced_and_then_votes_no_more() {
    let mut leader = Leader::new(&[1, 2, 3], &[4, 5]);
    leader.cordon(2, true);
    assert_eq!(leader.settle(), [promote(4), demote(2)]);
    leader.cordon(2, false);
    assert_eq!(
        leader.settle(),
        [],
        "it may be needed again, but is not now"
    );
    leader.cordon(3, true);
    assert_eq!(leader.settle(), [promote(2), demote(3)]);
}

#[test]
fn a_leader_that_is_decommissioned_goes_last_and_hands_over_first() {
    let mut leader = Leader::new(&[1, 2, 3], &[4, 5]);
    leader.cordon(1, true);
    leader.cordon(3, true);
    let steps = leader.settle();
    assert_eq!(steps[..3], [promote(4), promote(5), demote(3)]);
    assert!(matches!(steps[3], VoterStep::HandOver(heir) if heir != BrokerId(1)));
    assert_eq!(steps[4], demote(1));
    assert_eq!(leader.voters(), [2, 4, 5]);
}

#[test]
fn the_last_voter_does_not_go() {
    let mut leader = Leader::new(&[1], &[]);
    leader.cordon(1, true);
    assert_eq!(leader.settle(), []);
    leader.register(2, None);
    leader.settle();
    assert_eq!(leader.voters(), [2], "now it can");
}

#[test]
fn without_anybody_to_replace_it_a_decommissioned_voter_goes_all_the_same() {
    let mut leader = Leader::new(&[1, 2, 3], &[]);
    leader.cordon(2, true);
    assert_eq!(leader.settle(), [demote(2)]);
}

#[test]
fn a_silent_voter_is_replaced_after_a_long_time_only() {
    let settings = VoterSettings::default();
    let mut leader = Leader::new(&[1, 2, 3], &[4]);
    leader.fence(2);
    leader.pass(settings.replace_after_ms - 1, &[2]);
    assert_eq!(leader.settle(), []);
    leader.pass(1, &[2]);
    assert_eq!(leader.settle(), [promote(4), demote(2)]);
    let mut leader = Leader::new(&[1, 2, 3], &[]);
    leader.fence(2);
    leader.pass(settings.replace_after_ms, &[2]);
    assert_eq!(leader.settle(), [], "nobody stands by");
    let mut leader = Leader::new(&[1, 2, 3], &[4]);
    let never = VoterSettings {
        replace_after_ms: 0,
        ..settings
    };
    leader.voters = Voters::new(never);
    leader.pass(u64::from(u32::MAX), &[2]);
    assert_eq!(leader.settle(), []);
}

#[test]
fn a_voter_that_is_struck_off_leaves_the_quorum() {
    let mut leader = Leader::new(&[1, 2, 3], &[4]);
    leader.unregister(2);
    leader.pass(UNREGISTERED_MS - 1, &[2]);
    assert_eq!(leader.settle(), [], "it may not have been started yet");
    leader.pass(1, &[2]);
    let gone = VoterStep::Change(MembershipChange::Remove(BrokerId(2)));
    assert_eq!(leader.settle(), [promote(4), gone]);
    leader.unregister(4);
    leader.pass(UNREGISTERED_MS, &[4]);
    let gone = VoterStep::Change(MembershipChange::Remove(BrokerId(4)));
    assert_eq!(leader.settle(), [gone]);
}

#[test]
fn a_learner_that_is_struck_off_leaves_the_quorum() {
    let mut leader = Leader::new(&[1], &[2]);
    leader.unregister(2);
    let gone = VoterStep::Change(MembershipChange::Remove(BrokerId(2)));
    assert_eq!(leader.settle(), [gone]);
}

#[test]
fn nothing_is_done_while_a_change_is_under_way_or_by_who_does_not_lead() {
    let mut leader = Leader::new(&[1], &[2, 3]);
    leader.status.membership_is_settled = false;
    assert_eq!(leader.next(), None);
    leader.status.membership_is_settled = true;
    leader.status.role = RoleName::Follower;
    assert_eq!(leader.next(), None);
    leader.status.role = RoleName::Leader;
    leader.voters = Voters::new(VoterSettings {
        target: 0,
        ..VoterSettings::default()
    });
    assert_eq!(leader.next(), None, "people see to the voters");
}

#[test]
fn people_add_and_remove_voters() {
    let mut leader = Leader::new(&[1, 2, 3], &[4, 5]);
    assert_eq!(leader.ask(VoterChange::Add(BrokerId(4))), Ok(promote(4)));
    leader.carry_out(MembershipChange::Promote(BrokerId(4)));
    assert_eq!(leader.settle(), [], "more than wanted are left alone");
    assert_eq!(leader.ask(VoterChange::Remove(BrokerId(2))), Ok(demote(2)));
    leader.carry_out(MembershipChange::Demote(BrokerId(2)));
    assert_eq!(leader.ask(VoterChange::Remove(BrokerId(3))), Ok(demote(3)));
    leader.carry_out(MembershipChange::Demote(BrokerId(3)));
    assert_eq!(
        leader.settle(),
        [promote(5)],
        "not those who were told not to"
    );
    let heir = leader.ask(VoterChange::Remove(BrokerId(1))).unwrap();
    assert!(matches!(heir, VoterStep::HandOver(id) if id != BrokerId(1)));
}

#[test]
fn what_people_may_not_do_is_refused_by_name() {
    let mut leader = Leader::new(&[1, 2, 3], &[4, 5]);
    leader.cordon(5, true);
    let add = |leader: &mut Leader, id| leader.ask(VoterChange::Add(BrokerId(id)));
    assert_eq!(add(&mut leader, 9), Err(ErrorCode::BrokerIdNotRegistered));
    assert_eq!(add(&mut leader, 2), Err(ErrorCode::InvalidRequest));
    assert_eq!(add(&mut leader, 5), Err(ErrorCode::InvalidRequest));
    leader.pass(5_000, &[4]);
    assert_eq!(add(&mut leader, 4), Err(ErrorCode::InvalidRequest));
    let remove = |leader: &mut Leader, id| leader.ask(VoterChange::Remove(BrokerId(id)));
    assert_eq!(remove(&mut leader, 4), Err(ErrorCode::InvalidRequest));
    let mut alone = Leader::new(&[1], &[2]);
    assert_eq!(remove(&mut alone, 1), Err(ErrorCode::InvalidRequest));
}

#[test]
fn every_history_of_decommissions_ends_with_voters_that_stay() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut leader = Leader::new(&[1, 2, 3], &[4, 5, 6]);
        let mut gone = BTreeSet::new();
        for _ in 0..random.usize(1..30) {
            let id = random.u32(1..=6);
            match random.bool() && gone.len() < 5 {
                true => {
                    leader.cordon(id, true);
                    gone.insert(id);
                }
                false => {
                    leader.cordon(id, false);
                    gone.remove(&id);
                }
            }
            if random.bool() {
                leader.settle();
            }
        }
        leader.settle();
        let voters = leader.voters();
        let staying = 6 - gone.len();
        assert!(
            !voters.iter().any(|id| gone.contains(id)),
            "seed {seed}: {voters:?}"
        );
        assert!(
            voters.len() >= staying.min(3) - usize::from(staying == 2),
            "seed {seed}: {voters:?}"
        );
    }
}
