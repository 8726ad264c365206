//! Crashes and faults, seen from outside.

use super::executor::LocalTasks;
use super::*;
use crate::disk::{Durability, File};

fn run<T: 'static>(seed: u64, future: impl Future<Output = T> + 'static) -> T {
    LocalTasks::new(seed).block_on(future).unwrap()
}

fn page(disk: &MemoryDisk, fill: u8) -> MemoryPage {
    let mut buf = disk.buffer(BLOCK_LEN);
    buf.as_mut().fill(fill);
    disk.freeze(buf, BLOCK_LEN)
}

const DURABLE: OpenMode = OpenMode::CreateNew(Durability::EachWrite);

/// Writes ten blocks to a file of its own, counting what was confirmed.
async fn workload(disk: MemoryDisk, confirmed: Rc<RefCell<u8>>) {
    let path = Path::new("/log/file");
    disk.create_dir_all(Path::new("/log")).await.unwrap();
    let file = disk.open(path, DURABLE).await.unwrap();
    disk.sync_dir(Path::new("/log")).await.unwrap();
    for block in 0..10 {
        let pos = u64::from(block) * BLOCK_LEN as u64;
        file.write_at(&page(&disk, block + 1), pos).await.unwrap();
        *confirmed.borrow_mut() = block + 1;
    }
}

#[test]
fn what_was_confirmed_survives_a_crash_at_every_point() {
    let points = {
        let disk = MemoryDisk::new(1);
        run(1, workload(disk.clone(), Rc::default()));
        disk.io_points()
    };
    assert!(points > 20);
    for point in 0..points {
        let disk = MemoryDisk::new(1);
        disk.crash_after(point);
        let confirmed = Rc::new(RefCell::new(0));
        let ended = LocalTasks::new(1).block_on(workload(disk.clone(), Rc::clone(&confirmed)));
        assert!(ended.is_err() && disk.is_crashed());
        let after = disk.crash(&mut fastrand::Rng::with_seed(point));
        let found = after.content(Path::new("/log/file")).unwrap_or_default();
        for block in 0..usize::from(*confirmed.borrow()) {
            let expected = [block as u8 + 1; BLOCK_LEN];
            assert!(found[block * BLOCK_LEN..][..BLOCK_LEN] == expected);
        }
    }
}

#[test]
fn a_lying_disk_loses_what_it_confirmed() {
    let lost = (0..20).any(|seed| {
        let disk = MemoryDisk::new(seed);
        disk.lie(true);
        let confirmed = Rc::new(RefCell::new(0));
        run(seed, workload(disk.clone(), Rc::clone(&confirmed)));
        assert_eq!(*confirmed.borrow(), 10);
        let after = disk.crash(&mut fastrand::Rng::with_seed(seed));
        let found = after.content(Path::new("/log/file")).unwrap();
        let whole: Vec<u8> = (1..=10).flat_map(|fill| [fill; BLOCK_LEN]).collect();
        found != whole
    });
    assert!(lost);
}

#[test]
fn planned_faults_strike_once_and_in_time() {
    let disk = MemoryDisk::new(3);
    run(3, async move {
        let file = disk.open(Path::new("/file"), DURABLE).await.unwrap();
        disk.fail(Operation::Write, 1);
        file.write_at(&page(&disk, 1), 0).await.unwrap();
        let failed = file.write_at(&page(&disk, 2), 0).await.unwrap_err();
        assert_eq!(
            (failed.operation, failed.source.raw_os_error()),
            ("write", Some(5))
        );
        let found = file.read_at(0, BLOCK_LEN).await.unwrap();
        assert!(found.as_ref().iter().all(|byte| [1, 2].contains(byte)));
        file.write_at(&page(&disk, 3), 0).await.unwrap();
        disk.fail(Operation::Read, 0);
        assert!(file.read_at(0, BLOCK_LEN).await.is_err());
        disk.fail(Operation::SyncDir, 0);
        assert!(disk.sync_dir(Path::new("/")).await.is_err());
        assert!(file.read_at(0, BLOCK_LEN).await.unwrap().as_ref() == [3; BLOCK_LEN]);
    });
}

#[test]
fn a_full_disk_heals() {
    let disk = MemoryDisk::new(4);
    run(4, async move {
        let block = BLOCK_LEN as u64;
        disk.set_capacity(Some(3 * block));
        let file = disk.open(Path::new("/file"), DURABLE).await.unwrap();
        file.allocate(2 * block).await.unwrap();
        assert!(file.allocate(4 * block).await.unwrap_err().is_full());
        for index in 0..3 {
            file.write_at(&page(&disk, 1), index * block).await.unwrap();
        }
        assert!(
            file.write_at(&page(&disk, 1), 3 * block)
                .await
                .unwrap_err()
                .is_full()
        );
        assert_eq!(
            file.len().await.unwrap(),
            3 * block,
            "a failed write adds nothing"
        );
        file.write_at(&page(&disk, 2), 2 * block).await.unwrap();
        disk.set_capacity(Some(4 * block));
        file.write_at(&page(&disk, 1), 3 * block).await.unwrap();
        disk.remove_file(Path::new("/file")).await.unwrap();
        assert_eq!(disk.allocated(), 0);
    });
}

#[test]
fn rot_is_in_the_named_bit_only() {
    let disk = MemoryDisk::new(5);
    let rotten = disk.clone();
    run(5, async move {
        let file = disk.open(Path::new("/file"), DURABLE).await.unwrap();
        file.write_at(&page(&disk, 0), 0).await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
    });
    rotten.flip(Path::new("/file"), 100, 3).unwrap();
    let after = rotten.crash(&mut fastrand::Rng::with_seed(5));
    for disk in [rotten, after] {
        let found = disk.content(Path::new("/file")).unwrap();
        let ones: Vec<_> = (0..BLOCK_LEN).filter(|at| found[*at] != 0).collect();
        assert_eq!((ones, found[100]), (vec![100], 8));
    }
}

#[test]
fn every_recorded_prefix_can_be_seen() {
    let disk = MemoryDisk::new(6);
    disk.record();
    run(6, workload(disk.clone(), Rc::default()));
    assert_eq!(disk.recorded(), 12, "a directory, a file and ten writes");
    for changes in 0..=disk.recorded() {
        let prefix = disk.prefix(changes, 0);
        let found = prefix.content(Path::new("/log/file"));
        let expected = changes.checked_sub(2).map(|blocks| blocks * BLOCK_LEN);
        assert_eq!(found.ok().map(|bytes| bytes.len()), expected);
    }
}

#[test]
#[should_panic(expected = "two writes in flight to one place")]
fn overlapping_writes_are_refused() {
    let tasks = LocalTasks::new(7);
    let disk = MemoryDisk::new(7);
    let spawner = tasks.clone();
    let _ = tasks.block_on(async move {
        let file = Rc::new(disk.open(Path::new("/file"), DURABLE).await.unwrap());
        for fill in 0..20 {
            let (file, page) = (Rc::clone(&file), page(&disk, fill));
            spawner.spawn(async move { file.write_at(&page, 0).await });
        }
        std::future::pending::<()>().await;
    });
}

#[test]
fn what_a_killed_process_wrote_is_readable_and_no_more_durable_than_before() {
    let lost = (0..20).any(|seed| {
        let disk = MemoryDisk::new(seed);
        let writer = disk.clone();
        run(seed, async move {
            let mode = OpenMode::CreateNew(Durability::OnSync);
            let file = writer.open(Path::new("/file"), mode).await.unwrap();
            writer.sync_dir(Path::new("/")).await.unwrap();
            file.write_at(&page(&writer, 1), 0).await.unwrap();
        });
        let mut rng = fastrand::Rng::with_seed(seed);
        let next = disk.kill(&mut rng);
        assert_eq!(next.content(Path::new("/file")).unwrap(), [1; BLOCK_LEN]);
        let after = next.crash(&mut rng);
        after.content(Path::new("/file")).unwrap() != [1; BLOCK_LEN]
    });
    assert!(lost);
}
