//! A broker that is alone.

use bytes::BytesMut;
use millrace_model::{
    BatchBuilder, BatchSpec, BrokerId, ClusterId, ErrorCode, LeaderEpoch, Offset, ProducerId,
    Timestamp, TopicId,
};
use millrace_replication::cluster::{
    Answer, BrokerState, Changed, Cluster, ClusterRequest, LeaderRecovery,
};
use millrace_replication::{Metadata, Request};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;
use millrace_storage::disk::{Disk, memory};
use millrace_storage::{Storage, StorageLimits};

use super::world::{World, create, metadata};
use crate::controller::ControllerError;
use crate::controller::journal::sealed::SealedFile;
use crate::controller::journal::{LOG, open_log};

const ME: BrokerId = BrokerId(1);

fn leads_everything(cluster: &Cluster) -> bool {
    let mut partitions = cluster.topics().flat_map(|topic| &topic.partitions);
    partitions.all(|it| it.leader == Some(ME) && it.recovery == LeaderRecovery::Recovered)
}

fn leader_epochs(cluster: &Cluster) -> Vec<u32> {
    let partitions = cluster.topics().flat_map(|topic| &topic.partitions);
    partitions.map(|it| it.leader_epoch.0).collect()
}

#[test]
fn it_serves_when_it_is_opened() {
    let mut world = World::new(1, 1);
    let controller = world.open(ME).unwrap().unwrap();
    let published = controller.published();
    let broker = published.cluster.broker(ME).unwrap();
    assert_eq!(broker.state, BrokerState::Active);
    assert_eq!(published.life, Some(broker.epoch));
    assert_eq!(published.cluster.id(), Some(super::world::CLUSTER));
}

#[test]
fn a_change_is_published_before_it_is_answered() {
    let mut world = World::new(1, 1);
    world.start(ME);
    let client = world.nodes[&ME].client.clone();
    let images = world.nodes[&ME].images.clone();
    let answer = world.ask(async move {
        let answer = client.request(create("orders", 1, 3, 1)).await;
        assert_eq!(images.borrow().len(), 2, "the first image, and the topic's");
        answer
    });
    assert_eq!(answer, Ok(Answer::Done));
    let image = world.nodes[&ME].image();
    assert_eq!(image.changes, [Changed::TopicCreated(TopicId([1; 16]))]);
    assert!(leads_everything(&image.cluster));
    let client = world.nodes[&ME].client.clone();
    let refusal = world.ask(async move { client.request(create("orders", 2, 3, 1)).await });
    assert_eq!(refusal.unwrap_err().code, ErrorCode::TopicAlreadyExists);
    assert_eq!(world.nodes[&ME].images.borrow().len(), 2);
}

#[test]
fn many_changes_share_a_write() {
    let mut world = World::new(1, 1);
    world.start(ME);
    let before = world.disks[&ME].io_points();
    let client = world.nodes[&ME].client.clone();
    world.ask(async move {
        let creating = (1..=100).map(|id| {
            let client = client.clone();
            async move { client.request(create(&format!("t{id}"), id, 1, 1)).await }
        });
        for created in join(creating).await {
            assert_eq!(created, Ok(Answer::Done));
        }
    });
    assert_eq!(world.nodes[&ME].image().cluster.topics().len(), 100);
    let points = world.disks[&ME].io_points() - before;
    assert!(
        points < 100,
        "100 topics took {points} operations of the disk"
    );
}

/// Awaits all of them at once.
async fn join<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|it| (Some(Box::pin(it)), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut is_done = true;
        for (future, result) in &mut all {
            if let Some(pinned) = future {
                match pinned.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => (*future, *result) = (None, Some(value)),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        match is_done {
            true => {
                std::task::Poll::Ready(all.iter_mut().filter_map(|(_, it)| it.take()).collect())
            }
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[test]
fn each_life_leads_in_later_epochs() {
    let mut world = World::new(3, 1);
    world.start(ME);
    let client = world.nodes[&ME].client.clone();
    world
        .ask(async move { client.request(create("orders", 1, 5, 1)).await })
        .unwrap();
    let mut last = leader_epochs(&world.nodes[&ME].image().cluster);
    let mut life = world.nodes[&ME].image().life;
    for restart in 0..60 {
        match restart % 2 {
            0 => world.kill(ME),
            _ => world.stop(ME),
        }
        world.start(ME);
        let image = world.nodes[&ME].image();
        let epochs = leader_epochs(&image.cluster);
        assert!(leads_everything(&image.cluster), "restart {restart}");
        assert!(epochs.iter().zip(&last).all(|(now, before)| now > before));
        assert!(image.life > life);
        (last, life) = (epochs, image.life);
    }
}

#[test]
fn a_full_disk_refuses_until_there_is_space() {
    let mut world = World::new(1, 1);
    world.start(ME);
    let disk = world.disks[&ME].clone();
    disk.set_capacity(Some(disk.allocated()));
    let client = world.nodes[&ME].client.clone();
    let asking = client.clone();
    // The log has space prepared; what fills it is refused with the next.
    let refusal = world.ask(async move {
        for id in 1..=255 {
            let name = format!("{}{id}", "x".repeat(200));
            let request = ClusterRequest::CreateTopic {
                name,
                id: TopicId([id; 16]),
                partitions: 2_000,
                replication: 1,
                overrides: Vec::new(),
                internal: false,
            };
            if let Err(refusal) = asking.request(request).await {
                return refusal;
            }
        }
        panic!("the disk is never full");
    });
    assert!(
        matches!(
            refusal.code,
            ErrorCode::KafkaStorageError | ErrorCode::RequestTimedOut
        ),
        "{refusal}"
    );
    disk.set_capacity(None);
    world.pass(1_000);
    world
        .ask(async move { client.request(create("orders", 255, 1, 1)).await })
        .unwrap();
}

#[test]
fn after_any_other_failure_nothing_is_changed_until_a_restart() {
    let mut world = World::new(1, 1);
    world.start(ME);
    world.disks[&ME].fail(memory::Operation::Write, 0);
    for _ in 0..2 {
        let client = world.nodes[&ME].client.clone();
        let refusal = world.ask(async move { client.request(create("orders", 1, 1, 1)).await });
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::KafkaStorageError);
        assert!(refusal.message.contains("restart the broker"), "{refusal}");
    }
    let client = world.nodes[&ME].client.clone();
    let status = world.ask(async move { client.status().await }).unwrap();
    assert!(status.failure.is_some());
    world.kill(ME);
    world.start(ME);
    let client = world.nodes[&ME].client.clone();
    let again = world.ask(async move { client.request(create("later", 2, 1, 1)).await });
    assert_eq!(again, Ok(Answer::Done));
}

#[test]
fn a_directory_of_another_cluster_or_quorum_is_refused() {
    let mut world = World::new(1, 1);
    world.start(ME);
    world.kill(ME);
    let mut identity = world.identity(ME);
    identity.cluster = ClusterId([8; 16]);
    let refused = world.open_as(identity).unwrap().err().unwrap();
    assert!(
        matches!(
            refused,
            ControllerError::Refused(_) | ControllerError::Cluster { .. }
        ),
        "{refused}"
    );
    let mut identity = world.identity(ME);
    identity.voters = vec![ME, BrokerId(2), BrokerId(3)];
    identity.has_peers = true;
    let refused = world.open_as(identity).unwrap().err().unwrap();
    assert!(
        matches!(refused, ControllerError::Founders { .. }),
        "{refused}"
    );
}

#[test]
fn a_crash_at_any_moment_of_a_start_harms_nothing() {
    for points in 1.. {
        let mut world = World::new(points, 1);
        write_former(&world.disks[&ME], 4);
        world.disks[&ME].crash_after(points);
        let opened = world.open(ME);
        let is_whole = matches!(opened, Some(Ok(_))) && !world.disks[&ME].is_crashed();
        drop(opened);
        world.kill(ME);
        world.start(ME);
        let image = world.nodes[&ME].image();
        assert_eq!(image.cluster.topics().len(), 4, "after {points} operations");
        assert!(leads_everything(&image.cluster));
        if is_whole {
            assert!(points > 10, "a start takes several operations: {points}");
            break;
        }
    }
}

#[test]
fn what_a_broker_brings_that_was_alone_goes_on_once() {
    let mut world = World::new(1, 1);
    write_former(&world.disks[&ME], 12);
    world.start(ME);
    let image = world.nodes[&ME].image();
    assert_eq!(image.cluster.topics().len(), 12);
    assert_eq!(image.cluster.next_producer_id(), ProducerId(1000));
    assert!(
        leader_epochs(&image.cluster)
            .iter()
            .all(|epoch| *epoch == 6)
    );
    assert!(leads_everything(&image.cluster));
    let client = world.nodes[&ME].client.clone();
    let name = "topic-3".to_owned();
    world
        .ask(async move { client.request(ClusterRequest::DeleteTopic { name }).await })
        .unwrap();
    world.kill(ME);
    world.start(ME);
    let image = world.nodes[&ME].image();
    assert_eq!(
        image.cluster.topics().len(),
        11,
        "what was deleted stays so"
    );
    assert!(leader_epochs(&image.cluster).iter().all(|epoch| *epoch > 6));
    let names: Vec<String> = listed(&world.disks[&ME]);
    assert_eq!(names, ["quorum"], "the former files are gone");
}

#[test]
fn commands_are_forgotten_behind_a_snapshot() {
    let mut world = World::new(1, 1);
    world.start(ME);
    for id in 1..=120 {
        let client = world.nodes[&ME].client.clone();
        world
            .ask(async move { client.request(create(&format!("t{id}"), id, 1, 1)).await })
            .unwrap();
    }
    world.kill(ME);
    let snapshot = metadata().join("quorum/snapshot");
    assert!(world.disks[&ME].content(&snapshot).is_ok());
    world.start(ME);
    assert_eq!(world.nodes[&ME].image().cluster.topics().len(), 120);
}

#[test]
fn who_asks_to_stop_alone_may() {
    let mut world = World::new(1, 1);
    world.start(ME);
    world.stop(ME);
}

fn listed(disk: &MemoryDisk) -> Vec<String> {
    let disk = disk.clone();
    let listing = async move { disk.list(&metadata()).await.unwrap() };
    let entries = LocalTasks::new(0).block_on(listing).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// What a broker left that was alone, in its fifth life: half of it in its snapshot.
fn write_former(disk: &MemoryDisk, topics: u8) {
    let disk = disk.clone();
    let writing = async move {
        disk.create_dir_all(&metadata()).await.unwrap();
        let storage = Storage::new(disk.clone(), metadata(), StorageLimits::default());
        let log = open_log(&storage, LeaderEpoch(5), Timestamp(1))
            .await
            .unwrap();
        let mut state = Metadata::default();
        let mut requests = vec![
            Request::BrokerStarted {
                broker: ME,
                epoch: LeaderEpoch(5),
            },
            Request::AllocateProducerIds,
        ];
        requests.extend((1..=topics).map(|id| Request::CreateTopic {
            name: format!("topic-{id}"),
            id: TopicId([id; 16]),
            partitions: u32::from(id % 3 + 1),
            overrides: vec![("retention.ms".to_owned(), "1000".to_owned())],
        }));
        let half = requests.len() / 2;
        for (at, request) in requests.into_iter().enumerate() {
            let command = state.validate(request).unwrap();
            state.apply(&command).unwrap();
            let mut frame = BytesMut::new();
            let mut builder = BatchBuilder::new();
            builder
                .append(None, Some(&command.to_bytes()), [], Timestamp(1))
                .unwrap();
            builder
                .build_frame(LOG, &BatchSpec::default(), &mut frame)
                .unwrap();
            log.append(Timestamp(1), &[frame.freeze()]).unwrap();
            log.write_pending().await;
            if at == half {
                let file = SealedFile::new(disk.clone(), metadata(), *b"MRSN");
                let next = Offset(at as u64 + 1);
                file.save(next, &state.to_snapshot()).await.unwrap();
                log.set_log_start(next).await.unwrap();
            }
        }
    };
    LocalTasks::new(0).block_on(writing).unwrap();
}
