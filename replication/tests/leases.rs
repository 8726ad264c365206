//! Leases of brokers: who is proposed to be fenced, unfenced and relieved, and when.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, ErrorCode, IncarnationId, Timestamp, TopicId,
};
use millrace_replication::cluster::{
    BrokerState, Cluster, Command, FEATURE_LEVELS, Heartbeat, LeaseEffect, LeaseInput,
    LeaseSettings, Leases, NewTopic, Registration,
};
use millrace_replication::quorum::Index;

const SETTINGS: LeaseSettings = LeaseSettings {
    session_timeout_ms: 1_000,
};

/// A leader's leases and the state that it has applied; proposals are carried out at once.
struct Pair {
    leases: Leases,
    cluster: Cluster,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            leases: Leases::new(SETTINGS),
            cluster: Cluster::default(),
        };
        let cluster = ClusterId([1; 16]);
        pair.apply(&Command::Found { cluster, level: 1 });
        for id in [1, 2].map(BrokerId) {
            pair.apply(&Command::Register(Registration {
                cluster,
                id,
                incarnation: IncarnationId([9; 16]),
                clean_from: None,
                rack: None,
                endpoints: Vec::new(),
                shards: 1,
                features: FEATURE_LEVELS,
            }));
        }
        pair
    }

    fn apply(&mut self, command: &Command) {
        let index = Index(self.cluster.applied().0 + 1);
        self.cluster.apply(index, command).unwrap();
    }

    fn handle(&mut self, now: i64, input: LeaseInput) -> Vec<LeaseEffect> {
        let mut effects = Vec::new();
        self.leases
            .handle(Timestamp(now), &self.cluster, input, &mut effects);
        effects
    }

    fn beat(&mut self, now: i64, broker: u32, wants_to_stop: bool) -> Vec<LeaseEffect> {
        let heartbeat = Heartbeat {
            broker: BrokerId(broker),
            epoch: self.cluster.broker(BrokerId(broker)).unwrap().epoch,
            applied: self.cluster.applied(),
            wants_to_stop,
        };
        self.handle(now, LeaseInput::Heartbeat(heartbeat))
    }

    fn state(&self, broker: u32) -> BrokerState {
        self.cluster.broker(BrokerId(broker)).unwrap().state
    }

    /// Applies what is proposed.
    fn carry_out(&mut self, effects: &[LeaseEffect]) -> usize {
        let mut proposed = 0;
        for effect in effects {
            if let LeaseEffect::Propose(command) = effect {
                proposed += 1;
                self.apply(command);
            }
        }
        proposed
    }
}

#[test]
fn a_broker_serves_when_it_has_caught_up_and_until_it_is_silent() {
    let mut pair = Pair::new();
    pair.handle(0, LeaseInput::Lead);
    let early = Heartbeat {
        broker: BrokerId(1),
        epoch: BrokerEpoch(2),
        applied: Index(1),
        wants_to_stop: false,
    };
    let effects = pair.handle(1, LeaseInput::Heartbeat(early));
    assert_eq!(
        pair.carry_out(&effects),
        0,
        "it has not seen its own registration"
    );

    let effects = pair.beat(2, 1, false);
    assert_eq!(pair.carry_out(&effects), 1);
    assert_eq!(pair.state(1), BrokerState::Active);

    let effects = pair.beat(500, 1, false);
    assert_eq!(pair.carry_out(&effects), 0);
    let effects = pair.handle(1_499, LeaseInput::Tick);
    assert_eq!(pair.carry_out(&effects), 0, "its session is not over");
    let effects = pair.handle(1_500, LeaseInput::Tick);
    assert_eq!(pair.carry_out(&effects), 1);
    assert_eq!(pair.state(1), BrokerState::Fenced);
}

#[test]
fn what_is_proposed_for_a_fenced_broker_is_not_proposed_at_every_look() {
    let mut pair = Pair::new();
    pair.handle(0, LeaseInput::Lead);
    let asked = |effects: &[LeaseEffect]| {
        let proposed = |effect: &&LeaseEffect| matches!(effect, LeaseEffect::Propose(_));
        effects.iter().filter(proposed).count()
    };
    // The proposal is on its way, and looks go on meanwhile.
    assert_eq!(asked(&pair.beat(10, 1, false)), 1);
    for now in 11..400 {
        assert_eq!(asked(&pair.handle(now, LeaseInput::Tick)), 0);
        assert_eq!(asked(&pair.beat(now, 1, false)), 0);
    }
    // It got lost: half a session later it is made again.
    assert_eq!(asked(&pair.beat(600, 1, false)), 1);
    // Who falls silent before it serves is not fenced once more.
    assert_eq!(asked(&pair.handle(5_000, LeaseInput::Tick)), 0);
}

#[test]
fn a_new_leader_grants_half_a_session_and_one_that_resigned_proposes_nothing() {
    let mut pair = Pair::new();
    pair.handle(0, LeaseInput::Lead);
    let effects = pair.beat(0, 1, false);
    pair.carry_out(&effects);
    pair.handle(900, LeaseInput::Resign);
    assert_eq!(pair.handle(5_000, LeaseInput::Tick), []);
    pair.handle(6_000, LeaseInput::Lead);
    assert_eq!(pair.handle(6_499, LeaseInput::Tick), []);
    assert_eq!(pair.handle(6_500, LeaseInput::Tick).len(), 1);
    assert_eq!(
        pair.handle(6_501, LeaseInput::Tick),
        [],
        "it may still be on its way"
    );
    assert_eq!(
        pair.handle(7_000, LeaseInput::Tick).len(),
        1,
        "it may be lost"
    );
}

#[test]
fn who_is_gone_is_fenced_at_once_and_who_beats_on_is_believed_after_that() {
    let mut pair = Pair::new();
    pair.handle(0, LeaseInput::Lead);
    let effects = pair.beat(0, 1, false);
    pair.carry_out(&effects);
    let gone = LeaseInput::Gone(BrokerId(1));
    let effects = pair.handle(100, gone);
    assert_eq!(pair.carry_out(&effects), 1);
    assert_eq!(pair.state(1), BrokerState::Fenced);
    assert_eq!(pair.handle(101, gone), [], "it is fenced already");
    // What it said before it ended comes late.
    let effects = pair.beat(102, 1, false);
    assert_eq!(pair.carry_out(&effects), 0);

    // It says so again and again: the network was wrong.
    let effects = pair.beat(700, 1, false);
    assert_eq!(pair.carry_out(&effects), 1);
    assert_eq!(pair.state(1), BrokerState::Active);
    assert_eq!(pair.handle(750, gone), [], "it is not believed twice");
    let effects = pair.handle(1_700, LeaseInput::Tick);
    assert_eq!(pair.carry_out(&effects), 1, "silence counts as ever");
}

#[test]
fn nobody_is_gone_for_a_node_that_does_not_lead() {
    let mut pair = Pair::new();
    pair.handle(0, LeaseInput::Lead);
    let effects = pair.beat(0, 1, false);
    pair.carry_out(&effects);
    pair.handle(1, LeaseInput::Resign);
    assert_eq!(pair.handle(2, LeaseInput::Gone(BrokerId(1))), []);
    pair.handle(3, LeaseInput::Lead);
    assert_eq!(pair.handle(4, LeaseInput::Gone(BrokerId(7))), []);
    assert_eq!(pair.handle(5, LeaseInput::Gone(BrokerId(1))).len(), 1);
}

#[test]
fn a_heartbeat_of_another_life_does_not_count() {
    let mut pair = Pair::new();
    let stale = Heartbeat {
        broker: BrokerId(1),
        epoch: BrokerEpoch(77),
        applied: Index(100),
        wants_to_stop: false,
    };
    let answer = |code| LeaseEffect::Answer {
        broker: BrokerId(1),
        code,
        fenced: true,
        may_stop: false,
    };
    let effects = pair.handle(0, LeaseInput::Heartbeat(stale));
    assert_eq!(effects, [answer(ErrorCode::NotController)]);
    pair.handle(0, LeaseInput::Lead);
    let effects = pair.handle(0, LeaseInput::Heartbeat(stale));
    assert_eq!(effects, [answer(ErrorCode::StaleBrokerEpoch)]);
}

#[test]
fn who_wants_to_stop_may_when_its_leaders_have_moved() {
    let mut pair = Pair::new();
    pair.handle(0, LeaseInput::Lead);
    for broker in [1, 2] {
        let effects = pair.beat(0, broker, false);
        pair.carry_out(&effects);
    }
    pair.apply(&Command::CreateTopic(NewTopic {
        name: "orders".to_owned(),
        id: TopicId([1; 16]),
        overrides: Vec::new(),
        assignments: vec![[1, 2].map(BrokerId).to_vec()],
    }));
    let effects = pair.beat(10, 1, true);
    assert!(effects.contains(&LeaseEffect::Answer {
        broker: BrokerId(1),
        code: ErrorCode::None,
        fenced: false,
        may_stop: false,
    }));
    assert_eq!(pair.carry_out(&effects), 1);
    assert_eq!(pair.state(1), BrokerState::ShuttingDown);
    let leader = pair.cluster.topic_named("orders").unwrap().partitions[0].leader;
    assert_eq!(leader, Some(BrokerId(2)));
    assert_eq!(
        pair.beat(20, 1, true),
        [LeaseEffect::Answer {
            broker: BrokerId(1),
            code: ErrorCode::None,
            fenced: false,
            may_stop: true,
        }]
    );
}
