//! Who votes: brokers come and are decommissioned, one that was alone becomes three, and who was away
//! finds the others.

use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::cluster::{Answer, BrokerState, Command, VoterChange};
use millrace_replication::quorum::QuorumReport;
use millrace_storage::disk::memory::Operation;

use super::cluster::{
    image, leader, leaders, other_than, request, started, until_all_agree, until_all_serve,
};
use super::world::{World, create};
use crate::controller::ControllerError;

const ONE: BrokerId = BrokerId(1);

fn view(world: &World, at: BrokerId) -> Option<QuorumReport> {
    let client = world.nodes[&at].client.clone();
    world.ask(async move { client.quorum_report().await }).ok()
}

fn members(view: &QuorumReport, votes: bool) -> Vec<u32> {
    let members = view.members.iter().filter(|it| it.votes == votes);
    members.map(|it| it.id.0).collect()
}

/// Time passes until these vote, according to the leader, as this broker finds out.
fn until_they_vote(world: &World, at: BrokerId, voters: &[u32]) {
    let begun = world.now();
    loop {
        let found = view(world, at);
        if found.as_ref().is_some_and(|it| members(it, true) == voters) {
            return;
        }
        assert!(
            world.now() < begun + 60_000,
            "{voters:?} never vote: {found:?}"
        );
        world.pass(100);
    }
}

fn change(world: &World, at: BrokerId, change: VoterChange) -> Result<Answer, ErrorCode> {
    let client = world.nodes[&at].client.clone();
    let answer = world.ask(async move { client.change_voters(change).await });
    answer.map_err(|refusal| refusal.code)
}

fn propose(world: &World, at: BrokerId, command: Command) {
    let client = world.nodes[&at].client.clone();
    world
        .ask(async move { client.propose(command).await })
        .unwrap();
}

fn decommission(world: &World, at: BrokerId, id: u32) {
    let broker = BrokerId(id);
    let cordoned = true;
    propose(world, at, Command::Cordon { broker, cordoned });
}

/// A broker with an empty disk that knows of these.
fn join(world: &mut World, id: u32, known: &[u32]) {
    let id = BrokerId(id);
    world.add(id);
    world.configure(id, known);
    world.start(id);
}

#[test]
fn a_broker_alone_grows_into_a_cluster() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1);
        world.start(ONE);
        request(&world, ONE, create("orders", 1, 3, 1)).unwrap();
        world.stop(ONE);
        world.configure(ONE, &[1]);
        world.start(ONE);
        until_all_serve(&world);
        assert!(image(&world, ONE).topic_named("orders").is_some());
        join(&mut world, 2, &[1]);
        until_all_serve(&world);
        world.pass(3_000);
        until_they_vote(&world, ONE, &[1]);
        assert_eq!(
            members(&view(&world, ONE).unwrap(), false),
            [2],
            "two are no better than one"
        );
        join(&mut world, 3, &[1]);
        until_all_serve(&world);
        until_they_vote(&world, ONE, &[1, 2, 3]);
        request(&world, BrokerId(3), create("more", 2, 3, 3)).unwrap();
        // It may die now, and comes back with the list that names only itself.
        world.kill(ONE);
        request(&world, BrokerId(2), create("meanwhile", 3, 1, 1)).unwrap();
        world.start(ONE);
        until_all_serve(&world);
        until_all_agree(&world);
        let cluster = image(&world, ONE);
        for name in ["orders", "more", "meanwhile"] {
            assert!(cluster.topic_named(name).is_some(), "{name}");
        }
    }
}

#[test]
fn a_broker_that_was_alone_does_not_found_another_quorum() {
    let mut world = World::new(1, 1);
    world.start(ONE);
    world.kill(ONE);
    world.configure(ONE, &[1, 2, 3]);
    let refused = world.open(ONE).unwrap().err().unwrap();
    assert!(refused.to_string().contains("1@HOST:PORT"), "{refused}");
    assert!(matches!(refused, ControllerError::Founders { .. }));
}

#[test]
fn a_broker_of_several_does_not_start_alone() {
    let mut world = World::new(1, 1);
    world.configure(ONE, &[1]);
    world.start(ONE);
    join(&mut world, 2, &[1]);
    until_all_serve(&world);
    world.kill(ONE);
    let mut identity = world.identity(ONE);
    identity.voters.clear();
    identity.has_peers = false;
    let refused = world.open_as(identity).unwrap().err().unwrap();
    assert!(
        matches!(&refused, ControllerError::Others { others } if *others == [2]),
        "{refused}"
    );
}

#[test]
fn one_address_is_enough_to_join_whoever_leads() {
    for known in 1..=4 {
        let mut world = started(u64::from(known));
        world.configure(BrokerId(4), &[1, 2, 3]);
        world.add(BrokerId(4));
        world.start(BrokerId(4));
        until_all_serve(&world);
        // A learner, a follower or the leader: whoever it is says who leads.
        join(&mut world, 9, &[known]);
        until_all_serve(&world);
        until_all_agree(&world);
    }
}

#[test]
fn decommissioned_voters_are_replaced_the_leader_too() {
    for seed in 0..6 {
        let mut world = started(seed);
        join(&mut world, 4, &[1]);
        join(&mut world, 5, &[2]);
        until_all_serve(&world);
        let first = leader(&world);
        let second = other_than(&world, first);
        for id in [first, second] {
            decommission(&world, BrokerId(4), id.0);
        }
        let stay: Vec<u32> = (1..=5)
            .filter(|id| ![first.0, second.0].contains(id))
            .collect();
        until_they_vote(&world, BrokerId(4), &stay);
        for id in [first, second] {
            world.stop(id);
        }
        world.pass(2_000);
        for broker in [first, second] {
            propose(&world, BrokerId(4), Command::Unregister { broker });
        }
        world.pass(2_000);
        let found = view(&world, BrokerId(4)).unwrap();
        let learners = members(&found, false);
        assert!(
            learners.is_empty(),
            "who is struck off does not learn: {learners:?}"
        );
        // One more may die.
        let dead = leader(&world);
        world.kill(dead);
        let at = other_than(&world, dead);
        assert_eq!(
            request(&world, at, create("orders", 1, 2, 2)),
            Ok(Answer::Done)
        );
        world.start(dead);
        until_all_serve(&world);
        until_all_agree(&world);
    }
}

#[test]
fn a_lost_voter_is_replaced_after_a_long_time_and_comes_back_as_a_learner() {
    let mut world = started(3);
    join(&mut world, 4, &[1]);
    until_all_serve(&world);
    let lost = other_than(&world, leader(&world));
    world.kill(lost);
    world.pass(60_000);
    until_they_vote(&world, BrokerId(4), &[1, 2, 3]);
    world.pass(250_000);
    let stay: Vec<u32> = (1..=4).filter(|id| *id != lost.0).collect();
    until_they_vote(&world, BrokerId(4), &stay);
    world.start(lost);
    until_all_serve(&world);
    until_all_agree(&world);
    let found = view(&world, lost).unwrap();
    assert_eq!(members(&found, false), [lost.0]);
}

#[test]
fn who_was_removed_while_it_was_away_finds_the_others_with_an_old_list() {
    let mut world = started(4);
    for (id, known) in [(4, 1), (5, 2), (6, 3)] {
        join(&mut world, id, &[known]);
    }
    until_all_serve(&world);
    let away = other_than(&world, leader(&world));
    world.kill(away);
    world.pass(1_500);
    propose(&world, BrokerId(4), Command::Unregister { broker: away });
    decommission(&world, BrokerId(4), leader(&world).0);
    world.pass(90_000);
    let found = view(&world, BrokerId(4)).unwrap();
    assert!(!found.members.iter().any(|it| it.id == away), "{found:?}");
    // By its own log it votes, and its list is of the first voters.
    world.start(away);
    until_all_serve(&world);
    until_all_agree(&world);
    assert!(
        view(&world, away)
            .unwrap()
            .members
            .iter()
            .any(|it| it.id == away)
    );
}

#[test]
fn a_voter_whose_disk_is_lost_is_removed_and_comes_back_as_another() {
    let mut world = started(5);
    let lost = other_than(&world, leader(&world));
    world.kill(lost);
    world.pass(1_500);
    let at = leader(&world);
    assert_eq!(
        change(&world, at, VoterChange::Remove(lost)),
        Ok(Answer::Done)
    );
    world.wipe(lost);
    world.start(lost);
    until_all_serve(&world);
    until_all_agree(&world);
    // It was told not to vote; now it may again.
    assert_eq!(change(&world, at, VoterChange::Add(lost)), Ok(Answer::Done));
    until_they_vote(&world, lost, &[1, 2, 3]);
}

#[test]
fn people_change_the_voters_from_any_broker() {
    let mut world = started(7);
    join(&mut world, 4, &[1]);
    until_all_serve(&world);
    for at in (1..=4).map(BrokerId) {
        assert_eq!(
            change(&world, at, VoterChange::Add(BrokerId(4))).is_ok(),
            at == ONE
        );
    }
    until_they_vote(&world, BrokerId(4), &[1, 2, 3, 4]);
    let refused = change(&world, BrokerId(4), VoterChange::Add(BrokerId(9)));
    assert_eq!(refused, Err(ErrorCode::BrokerIdNotRegistered));
    // The leader gives up its lead first.
    let leads = leader(&world);
    assert_eq!(
        change(&world, BrokerId(2), VoterChange::Remove(leads)),
        Ok(Answer::Done)
    );
    assert_ne!(leader(&world), leads);
    let stay: Vec<u32> = (1..=4).filter(|id| *id != leads.0).collect();
    until_they_vote(&world, leads, &stay);
    until_all_serve(&world);
}

#[test]
fn a_change_that_would_cost_the_majority_is_refused() {
    let mut world = started(8);
    let leads = leader(&world);
    let dead = other_than(&world, leads);
    world.kill(dead);
    world.pass(1_500);
    let alive = other_than(&world, leads);
    let refused = change(&world, leads, VoterChange::Remove(alive));
    assert_eq!(refused, Err(ErrorCode::PolicyViolation));
    assert_eq!(
        change(&world, alive, VoterChange::Remove(dead)),
        Ok(Answer::Done)
    );
    let mut stay = vec![leads.0, alive.0];
    stay.sort_unstable();
    until_they_vote(&world, alive, &stay);
}

#[test]
fn a_broker_whose_journal_fails_is_fenced_and_its_partitions_go_on() {
    for seed in 0..6 {
        let world = started(seed);
        let fails = match seed % 2 {
            0 => leader(&world),
            _ => other_than(&world, leader(&world)),
        };
        let at = other_than(&world, fails);
        request(&world, at, create("orders", 1, 6, 3)).unwrap();
        until_all_agree(&world);
        world.disks[&fails].fail(Operation::Write, 0);
        let _ = request(&world, at, create("more", 2, 1, 2));
        world.until("it is fenced, and leads nothing", |world| {
            let cluster = image(world, at);
            cluster.broker(fails).unwrap().state == BrokerState::Fenced
                && leaders(&cluster)
                    .iter()
                    .all(|it| it.is_some_and(|it| it != fails))
        });
        assert_eq!(
            request(&world, at, create("after", 3, 1, 2)),
            Ok(Answer::Done)
        );
    }
}
