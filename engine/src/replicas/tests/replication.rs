//! What producers are told, and how the logs of a partition come to be the same.

use std::rc::Rc;

use millrace_model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicSettings};
use millrace_replication::partition::Acks;

use super::world::{BUDGET, Fates, World, run, until};

/// All replicas have the same log and know how far it is committed.
async fn same(world: &World, brokers: &[usize], end: u64) {
    for n in brokers.iter().copied() {
        let broker = world.broker(n);
        let what = format!("broker {n} has all of {end}");
        until(&what, || {
            broker.partition.high_watermark() == Offset(end) && broker.end() == end
        })
        .await;
    }
    let first = world.broker(brokers[0]).bytes().await;
    for n in brokers {
        assert!(
            world.broker(*n).bytes().await == first,
            "broker {n} differs"
        );
    }
}

#[test]
fn what_the_leader_appends_is_everywhere_and_then_acknowledged() {
    run(|| async {
        let world = World::new(3, 2).await;
        let leader = world.broker(1);
        until("broker 1 leads", || leader.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        for place in 0..200 {
            leader.produce((&fates, place), Acks::All, "one").unwrap();
        }
        assert_eq!(fates.len(), 0, "nobody has anything yet");
        until("all is acknowledged", || fates.len() == 200).await;
        assert!((0..200).all(|place| fates.of(place) == Some(ErrorCode::None)));
        same(&world, &[1, 2, 3], 2000).await;
        assert_eq!(world.in_sync(), [1, 2, 3]);
        for n in 1..=3 {
            assert_eq!(world.broker(n).host.budget.used(), 0, "broker {n}");
        }
        let follower = world.broker(2);
        assert!(!follower.partition.is_leader());
        let refused = follower.produce((&fates, 200), Acks::Leader, "one");
        assert_eq!(refused, Err(ErrorCode::NotLeaderOrFollower));
    });
}

#[test]
fn a_follower_is_told_the_watermark_without_frames_too() {
    run(|| async {
        let world = World::new(2, 1).await;
        let leader = world.broker(1);
        until("broker 1 leads", || leader.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        for place in 0..30 {
            leader.produce((&fates, place), Acks::All, "one").unwrap();
            until("it is acknowledged", || fates.of(place).is_some()).await;
            let follower = world.broker(2);
            let end = Offset((place + 1) * 10);
            until("the follower knows", || {
                follower.partition.high_watermark() == end
            })
            .await;
        }
    });
}

#[test]
fn a_follower_removes_nothing_that_its_leader_has() {
    run(|| async {
        let world = World::new(2, 1).await;
        let (leader, follower) = (world.broker(1), world.broker(2));
        until("broker 1 leads", || leader.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        for place in 0..1_000 {
            leader.produce((&fates, place), Acks::All, "one").unwrap();
        }
        until("all is acknowledged", || fates.len() == 1_000).await;
        same(&world, &[1, 2], 10_000).await;
        let log = follower.partition.log();
        assert!(log.stats().segments > 2, "there is something to remove");
        let settings = TopicSettings {
            retention_ms: Some(1),
            ..TopicSettings::clone(&log.settings())
        };
        follower.partition.apply_settings(Rc::new(settings));
        log.maintain(Timestamp(i64::MAX / 2)).await;
        assert_eq!(log.log_start(), Offset::ZERO);
        let start = leader.partition.delete_before(Some(Offset(9_000))).await;
        assert_eq!(start, Ok(Offset(9_000)));
        until("the follower's log starts there", || {
            log.log_start() == Offset(9_000)
        })
        .await;
    });
}

#[test]
fn a_deposed_leader_is_cut_to_its_successors_log() {
    /// Batches of ten records that it appends when it is alone: its log runs astray by thousands.
    const ASTRAY: u64 = 300;
    run(|| async {
        let world = World::new(3, 2).await;
        let first = world.broker(1);
        until("broker 1 leads", || first.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        for place in 0..20 {
            first.produce((&fates, place), Acks::All, "one").unwrap();
        }
        until("all is acknowledged", || fates.len() == 20).await;

        world.lose(1);
        // It does not know yet that it is alone.
        for place in 1000..1000 + ASTRAY {
            first
                .produce((&fates, place), Acks::Leader, "lost")
                .unwrap();
            first
                .produce((&fates, place + ASTRAY), Acks::All, "lost")
                .unwrap();
        }
        let last = 1000 + ASTRAY - 1;
        until("its own are acknowledged", || fates.of(last).is_some()).await;
        assert_eq!(fates.of(last + ASTRAY), None);
        assert_eq!(first.end(), 200 + 20 * ASTRAY);
        assert_eq!(first.partition.high_watermark(), Offset(200));

        let second = world.broker(2);
        until("broker 2 leads", || second.partition.is_leader()).await;
        assert!(second.partition.leader_epoch() > LeaderEpoch(0));
        until("broker 2 knows what is committed", || {
            second.partition.visible_end() == Some(Offset(200))
        })
        .await;
        for place in 200..210 {
            second.produce((&fates, place), Acks::All, "two").unwrap();
        }
        until("the new leader's are acknowledged", || {
            (200..210).all(|place| fates.of(place) == Some(ErrorCode::None))
        })
        .await;
        assert_eq!(world.in_sync(), [2, 3]);

        world.find_again(1);
        until("what waited at broker 1 is told", || {
            fates.of(last + ASTRAY).is_some()
        })
        .await;
        let told = fates.of(last + ASTRAY);
        assert_eq!(told, Some(ErrorCode::NotLeaderOrFollower));
        same(&world, &[2, 1, 3], 300).await;
        until("broker 1 is in sync again", || world.in_sync() == [1, 2, 3]).await;
        assert_eq!(first.host.budget.used(), 0);
    });
}

#[test]
fn with_too_few_in_sync_nothing_is_promised() {
    run(|| async {
        let world = World::new(3, 2).await;
        let leader = world.broker(1);
        until("broker 1 leads", || leader.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        leader.produce((&fates, 0), Acks::All, "one").unwrap();
        until("it is acknowledged", || fates.of(0).is_some()).await;
        world.lose(3);
        // Cut off, but not fenced yet: what is appended now waits for it.
        world.lose(2);
        let waits = leader.produce((&fates, 1), Acks::All, "one");
        if waits.is_ok() {
            until("it is told", || fates.of(1).is_some()).await;
            let told = fates.of(1);
            assert_eq!(told, Some(ErrorCode::NotEnoughReplicasAfterAppend));
        }
        until("the leader knows", || {
            leader.partition.in_sync().is_some_and(|set| set.len() == 1)
        })
        .await;
        let refused = leader.produce((&fates, 2), Acks::All, "one");
        assert_eq!(refused, Err(ErrorCode::NotEnoughReplicas));
        let end = leader.end();
        leader.produce((&fates, 3), Acks::Leader, "one").unwrap();
        until("it has it", || fates.of(3) == Some(ErrorCode::None)).await;
        assert_eq!(
            leader.partition.high_watermark(),
            Offset(10),
            "not committed"
        );
        world.find_again(2);
        until("two are in sync", || world.in_sync() == [1, 2]).await;
        until("it is committed", || {
            leader.partition.high_watermark() == Offset(end + 10)
        })
        .await;
        leader.produce((&fates, 4), Acks::All, "one").unwrap();
        until("it is acknowledged", || {
            fates.of(4) == Some(ErrorCode::None)
        })
        .await;
    });
}

#[test]
fn a_follower_that_was_away_for_long_starts_anew_or_reads_from_the_device() {
    run(|| async {
        let world = World::new(3, 1).await;
        let leader = world.broker(1);
        until("broker 1 leads", || leader.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        leader.produce((&fates, 0), Acks::All, "one").unwrap();
        until("it is acknowledged", || fates.of(0).is_some()).await;
        world.lose(2);
        world.lose(3);
        for place in 1..3000 {
            leader
                .produce((&fates, place), Acks::All, "some more of a value")
                .unwrap();
            if place % 100 == 0 {
                until("it is acknowledged", || fates.of(place).is_some()).await;
            }
        }
        until("all is acknowledged", || fates.len() == 3000).await;
        world.find_again(2);
        same(&world, &[1, 2], 30_000).await;
        // In the middle of a batch, from which no replica could start anew.
        let start = leader.partition.delete_before(Some(Offset(25_005))).await;
        assert_eq!(start.unwrap(), Offset(25_000));
        let other = world.broker(2);
        until("the follower deletes as well", || {
            other.partition.log().log_start() == Offset(25_000)
        })
        .await;
        world.find_again(3);
        until("broker 3 is in sync", || world.in_sync() == [1, 2, 3]).await;
        same(&world, &[1, 3], 30_000).await;
        assert_eq!(world.broker(3).partition.log().log_start(), Offset(25_000));
        assert!(world.broker(3).host.budget.used() <= BUDGET);
    });
}
