//! Three brokers: what goes on when one of them dies, is cut off, stops, or comes back.

use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::cluster::{
    AlterPartition, Answer, BrokerState, Cluster, ClusterRequest, Command, InSyncMember,
    LeaderRecovery, PartitionOutcome,
};
use millrace_replication::quorum::RoleName;

use super::world::{World, create};

const COUNT: u32 = 3;

fn brokers() -> impl Iterator<Item = BrokerId> {
    (1..=COUNT).map(BrokerId)
}

pub(super) fn started(seed: u64) -> World {
    let mut world = World::new(seed, COUNT);
    brokers().for_each(|id| world.start(id));
    until_all_serve(&world);
    world
}

pub(super) fn until_all_serve(world: &World) {
    world.until(
        "every broker serves, and knows it of every other",
        |world| {
            world.nodes.values().all(|node| {
                let cluster = node.image().cluster;
                world.nodes.keys().all(|id| cluster.is_active(*id)) && node.image().life.is_some()
            })
        },
    );
}

/// Who leads the quorum, according to itself.
pub(super) fn leader(world: &World) -> BrokerId {
    let statuses = world.nodes.iter().map(|(id, node)| {
        let client = node.client.clone();
        (
            *id,
            world.ask(async move { client.status().await }).unwrap(),
        )
    });
    let leads = |(_, status): &(BrokerId, crate::controller::ControllerStatus)| {
        status.quorum.role == RoleName::Leader
    };
    let mut leaders: Vec<_> = statuses.filter(leads).collect();
    leaders.sort_by_key(|(_, status)| status.quorum.term);
    leaders.last().expect("somebody leads").0
}

pub(super) fn other_than(world: &World, id: BrokerId) -> BrokerId {
    *world.nodes.keys().find(|it| **it != id).unwrap()
}

pub(super) fn request(
    world: &World,
    at: BrokerId,
    request: ClusterRequest,
) -> Result<Answer, ErrorCode> {
    let client = world.nodes[&at].client.clone();
    let answer = world.ask(async move { client.request(request).await });
    answer.map_err(|refusal| refusal.code)
}

pub(super) fn image(world: &World, at: BrokerId) -> Cluster {
    world.nodes[&at].image().cluster
}

/// Every broker comes to the same state, and its images were told of every change on the way.
pub(super) fn until_all_agree(world: &World) {
    world.until("all states are the same", |world| {
        let mut states = world.nodes.keys().map(|id| image(world, *id));
        let first = states.next().unwrap();
        states.all(|state| {
            topics(&state) == topics(&first) && brokers_of(&state) == brokers_of(&first)
        })
    });
    for node in world.nodes.values() {
        let images = node.images.borrow();
        for pair in images.windows(2) {
            for change in pair[0].cluster.changes_to(&pair[1].cluster) {
                assert!(
                    pair[1].changes.iter().any(|told| same(told, &change)),
                    "{change:?} is not among {:?}",
                    pair[1].changes
                );
            }
        }
    }
}

/// Whether a shard that is told the one looks at what the other is about.
fn same(
    told: &millrace_replication::cluster::Changed,
    needed: &millrace_replication::cluster::Changed,
) -> bool {
    use millrace_replication::cluster::Changed::Partition;
    match (told, needed) {
        (Partition { log: told, .. }, Partition { log: needed, .. }) => told == needed,
        _ => told == needed,
    }
}

fn topics(cluster: &Cluster) -> Vec<millrace_replication::cluster::ClusterTopic> {
    cluster.topics().cloned().collect()
}

fn brokers_of(cluster: &Cluster) -> Vec<millrace_replication::cluster::Broker> {
    cluster.brokers().cloned().collect()
}

pub(super) fn leaders(cluster: &Cluster) -> Vec<Option<BrokerId>> {
    let partitions = cluster.topics().flat_map(|topic| &topic.partitions);
    partitions.map(|it| it.leader).collect()
}

#[test]
fn they_elect_and_every_broker_can_be_asked() {
    for seed in 0..10 {
        let world = started(seed);
        for (id, at) in (1..).zip(brokers()) {
            let name = format!("topic-{at}");
            assert_eq!(
                request(&world, at, create(&name, id, 6, 3)),
                Ok(Answer::Done)
            );
            let found = image(&world, at);
            assert!(
                found.topic_named(&name).is_some(),
                "answered when it is seen"
            );
            let again = request(&world, at, create(&name, 90 + id, 6, 3));
            assert_eq!(again, Err(ErrorCode::TopicAlreadyExists));
        }
        until_all_agree(&world);
        let leaders = leaders(&image(&world, BrokerId(1)));
        for broker in brokers() {
            let led = leaders.iter().filter(|it| **it == Some(broker)).count();
            assert_eq!(led, 6, "leaders are spread: {leaders:?}");
        }
    }
}

#[test]
fn what_a_stale_image_would_refuse_is_judged_by_the_leader() {
    let world = started(1);
    let leads = leader(&world);
    let other = other_than(&world, leads);
    // The answers are those of the leader's state, however late the asked broker's image is.
    for id in 1..=20 {
        let name = "orders".to_owned();
        assert_eq!(
            request(&world, leads, create(&name, id, 1, 3)),
            Ok(Answer::Done)
        );
        let deleted = request(&world, other, ClusterRequest::DeleteTopic { name });
        assert_eq!(deleted, Ok(Answer::Done));
    }
}

#[test]
fn a_dead_leader_is_replaced_and_fenced() {
    for seed in 0..20 {
        let mut world = started(seed);
        let dead = leader(&world);
        assert_eq!(
            request(&world, dead, create("orders", 1, 9, 3)),
            Ok(Answer::Done)
        );
        until_all_agree(&world);
        world.kill(dead);
        let begun = world.now();
        let at = other_than(&world, dead);
        assert_eq!(
            request(&world, at, create("more", 2, 3, 2)),
            Ok(Answer::Done)
        );
        world.until("nothing is led by the dead", |world| {
            !leaders(&image(world, at)).contains(&Some(dead))
        });
        let took = world.now() - begun;
        assert!(took < 4_000, "{took} ms of virtual time, seed {seed}");
        assert_eq!(
            image(&world, at).broker(dead).unwrap().state,
            BrokerState::Fenced
        );
        assert!(leaders(&image(&world, at)).iter().all(Option::is_some));
        world.start(dead);
        until_all_serve(&world);
        until_all_agree(&world);
        assert!(image(&world, dead).topic_named("more").is_some());
    }
}

/// How long it takes until others lead what a broker led that was killed; `leads` the quorum, or does not.
fn missed_for(seed: u64, leads: bool, tells: bool) -> i64 {
    let mut world = started(seed);
    if tells {
        world.tell_of_ports();
    }
    let first = leader(&world);
    let dead = if leads {
        first
    } else {
        other_than(&world, first)
    };
    let at = other_than(&world, dead);
    assert_eq!(
        request(&world, at, create("orders", 1, 9, 3)),
        Ok(Answer::Done)
    );
    until_all_agree(&world);
    assert!(leaders(&image(&world, at)).contains(&Some(dead)));
    world.kill(dead);
    let begun = world.now();
    world.until("nothing is led by the dead", |world| {
        !leaders(&image(world, at)).contains(&Some(dead))
    });
    world.now() - begun
}

#[test]
fn a_broker_whose_port_is_free_is_not_waited_for() {
    for leads in [false, true] {
        let mut silent: Vec<i64> = (0..20).map(|seed| missed_for(seed, leads, false)).collect();
        let mut told: Vec<i64> = (0..20).map(|seed| missed_for(seed, leads, true)).collect();
        silent.sort_unstable();
        told.sort_unstable();
        assert!(
            told[10] * 3 < silent[10] && told[10] < 300,
            "virtual milliseconds, leads {leads}: told {told:?}, silent {silent:?}"
        );
    }
}

#[test]
fn who_comes_back_before_it_was_missed_gets_a_new_life() {
    let mut world = started(5);
    let victim = other_than(&world, leader(&world));
    let former = world.nodes[&victim].image().life;
    world.kill(victim);
    world.start(victim);
    until_all_serve(&world);
    let life = world.nodes[&victim].image().life;
    assert!(life > former, "{life:?} after {former:?}");
}

#[test]
fn a_leader_that_is_cut_off_makes_no_change_and_learns_when_the_line_heals() {
    for seed in 0..10 {
        let world = started(seed);
        let lonely = leader(&world);
        world.cut(lonely);
        let lost = request(&world, lonely, create("lost", 1, 1, 1));
        assert_eq!(lost, Err(ErrorCode::RequestTimedOut));
        let at = other_than(&world, lonely);
        assert_eq!(
            request(&world, at, create("kept", 2, 3, 2)),
            Ok(Answer::Done)
        );
        assert!(image(&world, lonely).topic_named("kept").is_none());
        world.heal();
        until_all_serve(&world);
        until_all_agree(&world);
        assert!(image(&world, lonely).topic_named("kept").is_some());
        assert!(image(&world, at).topic_named("lost").is_none());
    }
}

#[test]
fn a_change_outlives_the_leader_that_was_asked() {
    for seed in 0..20 {
        let mut world = started(seed);
        let dies = leader(&world);
        let at = other_than(&world, dies);
        let client = world.nodes[&at].client.clone();
        let answer = world.begin(async move { client.request(create("orders", 1, 3, 3)).await });
        world.pass(i64::try_from(seed % 10).unwrap());
        world.kill(dies);
        world.until("an answer", |_| answer.borrow().is_some());
        assert_eq!(answer.take().unwrap(), Ok(Answer::Done), "seed {seed}");
        assert!(image(&world, at).topic_named("orders").is_some());
    }
}

#[test]
fn who_lags_behind_the_log_takes_a_snapshot_and_its_shards_miss_nothing() {
    let mut world = started(2);
    let late = other_than(&world, leader(&world));
    request(&world, late, create("deleted", 1, 2, 3)).unwrap();
    request(&world, late, create("grown", 2, 2, 3)).unwrap();
    until_all_agree(&world);
    world.cut(late);
    let at = *world.nodes.keys().find(|it| **it != late).unwrap();
    let name = "deleted".to_owned();
    request(&world, at, ClusterRequest::DeleteTopic { name }).unwrap();
    request(&world, at, create("deleted", 3, 1, 2)).unwrap();
    let grow = ClusterRequest::CreatePartitions {
        name: "grown".to_owned(),
        total: 5,
        assignments: None,
    };
    request(&world, at, grow).unwrap();
    for id in 10..110 {
        request(&world, at, create(&format!("t{id}"), id, 1, 2)).unwrap();
    }
    world.heal();
    until_all_serve(&world);
    until_all_agree(&world);
    let images = world.nodes[&late].images.take();
    let biggest = images.iter().map(|it| it.changes.len()).max();
    assert!(
        biggest > Some(50),
        "one image brought most of it: {biggest:?}"
    );
    world.kill(late);
    world.start(late);
    until_all_serve(&world);
    assert_eq!(image(&world, late).topics().len(), 102);
}

#[test]
fn who_wants_to_stop_leads_nothing_when_it_may() {
    for stops_leader in [true, false] {
        let mut world = started(3);
        let leads = leader(&world);
        let stops = match stops_leader {
            true => leads,
            false => other_than(&world, leads),
        };
        request(&world, stops, create("orders", 1, 9, 3)).unwrap();
        until_all_agree(&world);
        let begun = world.now();
        world.stop(stops);
        let took = world.now() - begun;
        assert!(took < 500, "{took} ms of virtual time");
        let at = other_than(&world, stops);
        // What a majority has on disk reaches the image of the third with the next message.
        world.pass(10);
        assert!(!leaders(&image(&world, at)).contains(&Some(stops)));
        // Nobody waits for the election of another leader of the quorum.
        let begun = world.now();
        request(&world, at, create("more", 2, 3, 2)).unwrap();
        let took = world.now() - begun;
        assert!(took < 300, "{took} ms of virtual time");
        world.start(stops);
        until_all_serve(&world);
        let in_sync = sync_all(&world);
        assert!(in_sync > 0, "it joins the in-sync sets again");
        world.until("leaders move back", |world| {
            let cluster = image(world, at);
            let orders = cluster.topic_named("orders").unwrap();
            let back = orders.partitions.iter();
            back.filter(|it| it.leader == Some(stops)).count() == 3
        });
    }
}

#[test]
fn a_broker_that_is_added_learns_and_serves() {
    let mut world = started(6);
    request(&world, BrokerId(1), create("orders", 1, 3, 3)).unwrap();
    let added = BrokerId(4);
    world.add(added);
    world.start(added);
    until_all_serve(&world);
    let answer = request(&world, added, create("wide", 2, 4, 4));
    assert_eq!(answer, Ok(Answer::Done));
    until_all_agree(&world);
    // It has no vote, and goes on learning after its own death and that of the leader.
    let dead = leader(&world);
    world.kill(dead);
    world.kill(added);
    world.start(added);
    let at = other_than(&world, dead);
    request(&world, at, create("more", 3, 1, 2)).unwrap();
    world.start(dead);
    until_all_serve(&world);
    until_all_agree(&world);
    let client = world.nodes[&added].client.clone();
    let status = world.ask(async move { client.status().await }).unwrap();
    assert!(status.quorum.membership.learners.contains(&added));
}

#[test]
fn a_learner_that_comes_back_with_an_empty_disk_learns_again() {
    let mut world = started(6);
    let added = BrokerId(4);
    world.add(added);
    world.start(added);
    until_all_serve(&world);
    // Its leader stays, and remembers what the learner had.
    let led_by = leader(&world);
    world.kill(added);
    world.add(added);
    world.start(added);
    until_all_serve(&world);
    until_all_agree(&world);
    assert_eq!(leader(&world), led_by);
}

/// Each leader takes every replica into its in-sync set, as it does when they have caught up.
fn sync_all(world: &World) -> usize {
    let mut changed = 0;
    for (id, node) in &world.nodes {
        let published = node.image();
        let cluster = published.cluster;
        let member = |broker: &BrokerId| InSyncMember {
            broker: *broker,
            epoch: cluster.broker(*broker).unwrap().epoch,
        };
        let led = cluster.topics().flat_map(|topic| topic.logs());
        let partitions: Vec<AlterPartition> = led
            .filter(|(_, it)| it.leader == Some(*id) && it.in_sync.len() < it.replicas.len())
            .map(|(log, it)| AlterPartition {
                log,
                leader_epoch: it.leader_epoch,
                partition_epoch: it.partition_epoch,
                in_sync: it.replicas.iter().map(member).collect(),
                recovery: LeaderRecovery::Recovered,
            })
            .collect();
        if partitions.is_empty() {
            continue;
        }
        let command = Command::AlterPartitions {
            broker: *id,
            epoch: published.life.unwrap(),
            partitions,
        };
        let client = node.client.clone();
        let answer = world.ask(async move { client.propose(command).await });
        let Ok(Answer::Partitions(outcomes)) = answer else {
            panic!("{answer:?}");
        };
        let is_done = |it: &&PartitionOutcome| it.code == ErrorCode::None;
        changed += outcomes.iter().filter(is_done).count();
    }
    changed
}

#[test]
fn a_peer_that_lies_about_who_it_is_changes_nothing() {
    let world = started(4);
    let leads = leader(&world);
    let liar = other_than(&world, leads);
    let client = world.nodes[&leads].client.clone();
    let victim = brokers().find(|id| *id != leads && *id != liar).unwrap();
    let epoch = image(&world, leads).broker(victim).unwrap().epoch;
    for command in [
        Command::Fence {
            broker: victim,
            epoch,
        },
        Command::BeginShutdown {
            broker: victim,
            epoch,
        },
    ] {
        let request = millrace_replication::cluster::PeerRequest::Ask {
            ask: millrace_replication::cluster::Ask::Command(command),
            again: false,
        };
        let client = client.clone();
        let bytes = request.to_bytes().into();
        let answer = world
            .ask(async move { client.serve(liar, bytes).await })
            .unwrap();
        let answer = millrace_replication::cluster::PeerAnswer::from_bytes(&answer).unwrap();
        let millrace_replication::cluster::PeerAnswer::Outcome { outcome, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(
            outcome.unwrap_err().code,
            ErrorCode::ClusterAuthorizationFailed
        );
    }
    let garbage = vec![1, 2, 3].into();
    let asking = client.clone();
    assert!(
        world
            .ask(async move { asking.serve(liar, garbage).await })
            .is_err()
    );
    client.deliver(liar, vec![0; 100].into());
    world.pass(100);
    assert!(image(&world, leads).is_active(victim));
}

#[test]
fn a_leader_whose_disk_is_full_hands_over() {
    let world = started(8);
    let full = leader(&world);
    let at = other_than(&world, full);
    let disk = world.disks[&full].clone();
    disk.set_capacity(Some(disk.allocated()));
    let mut made = 0;
    for id in 1..=250 {
        // Long enough that what is prepared on the disk is soon used up.
        let assignments = vec![vec![at]; 3_000];
        let request = ClusterRequest::CreateAssignedTopic {
            name: format!("topic-{id}"),
            id: millrace_model::TopicId([id; 16]),
            assignments,
            overrides: Vec::new(),
        };
        let client = world.nodes[&at].client.clone();
        made += usize::from(
            world
                .ask(async move { client.request(request).await })
                .is_ok(),
        );
        if leader(&world) != full {
            break;
        }
        world.pass(50);
    }
    assert_ne!(leader(&world), full, "after {made} topics");
    assert_eq!(
        request(&world, at, create("small", 251, 1, 2)),
        Ok(Answer::Done)
    );
    disk.set_capacity(None);
    until_all_serve(&world);
    until_all_agree(&world);
}

/// `MILLRACE_SEEDS=FROM..TO` runs other histories.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("MILLRACE_SEEDS") else {
        return 0..12;
    };
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Kills, cuts and heals at random under a load of changes; what was answered stays.
#[test]
fn nothing_that_was_answered_is_lost() {
    let mut answered_in_all = 0;
    for seed in seeds() {
        let mut world = started(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut answered: Vec<String> = Vec::new();
        for round in 0..12_u8 {
            let victim = BrokerId(random.u32(1..=COUNT));
            let client = {
                let ids: Vec<BrokerId> = world.nodes.keys().copied().collect();
                let at = ids[random.usize(..ids.len())];
                world.nodes[&at].client.clone()
            };
            let name = format!("topic-{round}");
            let asked = name.clone();
            let answer =
                world.begin(async move { client.request(create(&asked, round + 1, 2, 2)).await });
            world.pass(random.i64(0..30));
            match random.u8(0..3) {
                0 => world.kill(victim),
                1 => world.cut(victim),
                _ => {}
            }
            world.pass(random.i64(0..3_000));
            if let Some(Ok(_)) = answer.take() {
                answered.push(name);
            }
            world.heal();
            if !world.nodes.contains_key(&victim) {
                world.start(victim);
            }
            until_all_serve(&world);
        }
        until_all_agree(&world);
        for name in &answered {
            assert!(
                image(&world, BrokerId(1)).topic_named(name).is_some(),
                "seed {seed}: {name}"
            );
        }
        answered_in_all += answered.len();
    }
    assert!(answered_in_all > 60, "changes are made: {answered_in_all}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = || {
        let mut world = started(9);
        let dies = leader(&world);
        world.kill(dies);
        let at = other_than(&world, dies);
        request(&world, at, create("orders", 1, 3, 2)).unwrap();
        (dies, world.now(), image(&world, at).to_snapshot())
    };
    assert_eq!(run(), run());
}
