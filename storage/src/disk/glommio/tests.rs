//! What the contract test cannot see: flags, descriptors, and the system's own errors.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;

fn run(body: impl AsyncFnOnce(&Path)) {
    // The build's own directory is on a disk more often than that for temporary files.
    let place = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(place.parent().unwrap()).unwrap();
    glommio::LocalExecutor::default().run(body(dir.path()));
}

async fn best(dir: &Path) -> GlommioDisk {
    match prepare(dir).await.unwrap() {
        DirectIo::Supported => GlommioDisk::direct(),
        DirectIo::Refused(_) => GlommioDisk::buffered(),
    }
}

fn page(disk: &GlommioDisk, blocks: usize) -> GlommioPage {
    let mut buf = disk.buffer(blocks * BLOCK_LEN);
    buf.as_mut().fill(1);
    disk.freeze(buf, blocks * BLOCK_LEN)
}

/// The files of `dir` that this process has open.
fn open_files(dir: &Path) -> BTreeSet<PathBuf> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(dir)).collect()
}

fn flags(file: &GlommioFile) -> i32 {
    let fd = match &file.handle {
        Handle::Direct(file) => file.as_raw_fd(),
        Handle::Buffered(file) => file.as_raw_fd(),
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap()
}

#[test]
fn a_page_that_was_cut_keeps_its_buffer() {
    run(async |_| {
        let disk = GlommioDisk::direct();
        let cut = disk.freeze(disk.buffer(4 * BLOCK_LEN), BLOCK_LEN);
        assert_eq!(cut.as_ref().len(), BLOCK_LEN);
        assert_eq!(disk.memory_of(&cut), 4 * BLOCK_LEN);
        assert_eq!(disk.memory_of(&page(&disk, 2)), 2 * BLOCK_LEN);
    });
}

#[test]
fn durable_files_are_direct_and_synchronous() {
    run(async |dir| {
        let DirectIo::Supported = prepare(dir).await.unwrap() else {
            return;
        };
        let disk = GlommioDisk::direct();
        let path = dir.join("file");
        let file = disk
            .open(&path, OpenMode::CreateNew(Durability::EachWrite))
            .await
            .unwrap();
        assert_eq!(flags(&file) & libc::O_DSYNC, libc::O_DSYNC);
        assert_eq!(flags(&file) & libc::O_DIRECT, libc::O_DIRECT);
        let file = disk
            .open(&path, OpenMode::Write(Durability::OnSync))
            .await
            .unwrap();
        assert_eq!(flags(&file) & libc::O_DSYNC, 0);
        assert_eq!(flags(&file) & libc::O_DIRECT, libc::O_DIRECT);
    });
}

#[test]
fn a_probe_leaves_nothing_and_says_what_is_wrong() {
    run(async |dir| {
        prepare(dir).await.unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        let error = prepare(&dir.join("missing")).await.unwrap_err();
        assert!(error.is_not_found());
        assert!(error.to_string().starts_with("probe "), "{error}");
    });
}

#[test]
fn dropped_files_are_closed() {
    run(async |dir| {
        let disk = best(dir).await;
        let mut files = Vec::new();
        for name in 0..64 {
            let path = dir.join(name.to_string());
            let mode = OpenMode::CreateNew(Durability::OnSync);
            files.push(disk.open(&path, mode).await.unwrap());
        }
        assert_eq!(open_files(dir).len(), 64);
        drop(files);
        // Any I/O lets the reactor do its round.
        while !open_files(dir).is_empty() {
            disk.sync_dir(dir).await.unwrap();
            glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn opening_and_removing_one_path_at_once_does_no_harm() {
    run(async |dir| {
        let disk = best(dir).await;
        let path = Rc::new(dir.join("contested"));
        let seen = Rc::new(RefCell::new((0, 0)));
        let tasks: Vec<_> = (0..200)
            .map(|turn| {
                let (disk, path, seen) = (disk.clone(), Rc::clone(&path), Rc::clone(&seen));
                glommio::spawn_local(async move {
                    if turn % 2 == 0 {
                        let mode = OpenMode::CreateNew(Durability::OnSync);
                        seen.borrow_mut().0 += i32::from(disk.open(&path, mode).await.is_ok());
                    } else {
                        seen.borrow_mut().1 += i32::from(disk.remove_file(&path).await.is_ok());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        let (made, removed) = *seen.borrow();
        assert!(made > 0 && made - removed == i32::from(path.exists()));
    });
}

#[test]
fn a_full_device_is_told_from_other_errors() {
    run(async |dir| {
        let disk = GlommioDisk::buffered();
        let mode = OpenMode::Write(Durability::OnSync);
        let file = disk.open(Path::new("/dev/full"), mode).await.unwrap();
        let error = file.write_at(&page(&disk, 2), 0).await.unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOSPC));
        let error = disk.open(dir, mode).await.err().unwrap();
        assert!(!error.is_full() && !error.is_not_found(), "{error}");
    });
}

#[test]
fn pages_outlive_the_registered_memory() {
    run(async |dir| {
        let disk = best(dir).await;
        let mode = OpenMode::CreateNew(Durability::OnSync);
        let file = disk.open(&dir.join("file"), mode).await.unwrap();
        file.write_at(&page(&disk, 256), 0).await.unwrap();
        // Far more than the ring registers: the rest comes from the heap.
        let mut kept = Vec::new();
        for _ in 0..64 {
            kept.push(file.read_at(0, 256 * BLOCK_LEN).await.unwrap());
        }
        assert!(
            kept.iter()
                .all(|page| page.as_ref().iter().all(|byte| *byte == 1))
        );
    });
}
