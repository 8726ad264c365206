//! A leader whose disk fails.

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;
use millrace_model::ErrorCode;
use millrace_replication::partition::Acks;

use super::world::{Broker, Fates, World, run, until};

/// Produces until it is acknowledged; the place of each attempt is a new one.
async fn produce(broker: &Broker, (fates, place): (&Rc<Fates>, &mut u64), acks: Acks) {
    loop {
        *place += 1;
        let at = *place;
        if broker.produce((fates, at), acks, "again").is_ok() {
            until("its fate is known", || fates.of(at).is_some()).await;
            if fates.of(at) == Some(ErrorCode::None) {
                return;
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn it_gives_up_leading_and_another_in_sync_goes_on() {
    run(|| async {
        let world = World::new(3, 2).await;
        let first = world.broker(1);
        until("broker 1 leads", || first.partition.is_leader()).await;
        let fates = Rc::<Fates>::default();
        let mut place = 0;
        for _ in 0..50 {
            produce(&first, (&fates, &mut place), Acks::All).await;
        }
        let acknowledged = first.end();
        world.fail_disk(1);
        place += 1;
        // It is admitted, and written nowhere.
        first.produce((&fates, place), Acks::All, "lost").unwrap();
        until("its fate is known", || fates.of(place).is_some()).await;
        assert_ne!(fates.of(place), Some(ErrorCode::None));
        until("another leads", || world.leader() == Some(2)).await;
        let second = world.broker(2);
        until("and knows it", || second.partition.is_leader()).await;
        assert_eq!(world.in_sync(), [2, 3]);
        produce(&second, (&fates, &mut place), Acks::All).await;
        assert!(
            second.end() >= acknowledged + 10,
            "nothing acknowledged is lost"
        );
        let refused = first.produce((&fates, 0), Acks::Leader, "late");
        assert_eq!(refused, Err(ErrorCode::NotLeaderOrFollower));
    });
}

#[test]
fn with_nobody_else_in_sync_it_stays_and_refuses_writes() {
    run(|| async {
        let world = World::new(2, 1).await;
        let first = world.broker(1);
        until("broker 1 leads", || first.partition.is_leader()).await;
        world.lose(2);
        until("it is alone in sync", || world.in_sync() == [1]).await;
        let fates = Rc::<Fates>::default();
        let mut place = 0;
        produce(&first, (&fates, &mut place), Acks::All).await;
        world.fail_disk(1);
        place += 1;
        first.produce((&fates, place), Acks::All, "lost").unwrap();
        until("its fate is known", || fates.of(place).is_some()).await;
        until("it takes no more", || !first.partition.is_leader()).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(world.leader(), Some(1), "there is no better one");
        let refused = first.produce((&fates, 0), Acks::Leader, "late");
        assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    });
}
