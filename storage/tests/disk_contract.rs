//! The contract of [`Disk`], one body for every implementation.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;
use millrace_storage::disk::{BLOCK_LEN, DirEntry, Disk, Durability, File, OpenMode};

const BLOCK: u64 = BLOCK_LEN as u64;

#[test]
fn memory_keeps_the_contract() {
    for seed in 0..20 {
        let body = async move { contract(&MemoryDisk::new(seed), Path::new("/data")).await };
        LocalTasks::new(seed).block_on(body).unwrap();
    }
}

#[cfg(feature = "glommio")]
mod on_glommio {
    use millrace_storage::disk::glommio::{DirectIo, GlommioDisk, prepare};

    use super::*;

    /// A directory on the file system of the build, which is a disk more often than the
    /// system's place for temporary files.
    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
    }

    fn run(body: impl AsyncFnOnce(&Path)) {
        let dir = directory();
        glommio::LocalExecutor::default().run(body(dir.path()));
    }

    #[test]
    fn direct_keeps_the_contract() {
        run(async |dir| match prepare(dir).await.unwrap() {
            DirectIo::Supported => contract(&GlommioDisk::direct(), &dir.join("data")).await,
            DirectIo::Refused(reason) => eprintln!("not tried: no O_DIRECT here: {reason}"),
        });
    }

    #[test]
    fn buffered_keeps_the_contract() {
        run(async |dir| contract(&GlommioDisk::buffered(), &dir.join("data")).await);
    }
}

/// Everything that callers count on, on the directory `root`, which may be missing.
async fn contract<D: Disk>(disk: &D, root: &Path) {
    buffers(disk);
    directories(disk, root).await;
    for durability in [Durability::EachWrite, Durability::OnSync] {
        opening(disk, root, durability).await;
        reading_and_writing(disk, root, durability).await;
        sharing(disk, root, durability).await;
        lengths(disk, root, durability).await;
        names(disk, root, durability).await;
    }
    missing(disk, root).await;
    disk.remove_dir_all(root).await.unwrap();
    disk.remove_dir_all(root).await.unwrap();
    assert!(disk.list(root).await.unwrap_err().is_not_found());
}

/// A page of `blocks` blocks, filled with `fill`, `fill + 1`, ...
fn page<D: Disk>(disk: &D, fill: u8, blocks: usize) -> D::Page {
    let mut buf = disk.buffer((blocks + 1) * BLOCK_LEN);
    for (block, fill) in buf.as_mut().chunks_mut(BLOCK_LEN).zip(fill..) {
        block.fill(fill);
    }
    disk.freeze(buf, blocks * BLOCK_LEN)
}

/// Blocks filled with one byte each.
fn blocks<const N: usize>(fills: [u8; N]) -> Vec<u8> {
    fills.map(|fill| [fill; BLOCK_LEN]).concat()
}

fn buffers<D: Disk>(disk: &D) {
    for blocks in [1, 2, 16, 256] {
        let mut buf = disk.buffer(blocks * BLOCK_LEN);
        assert_eq!(buf.as_ref().len(), blocks * BLOCK_LEN);
        assert_eq!(
            buf.as_ref().as_ptr() as usize % BLOCK_LEN,
            0,
            "aligned for direct I/O"
        );
        buf.as_mut().fill(7);
        let page = disk.freeze(buf, BLOCK_LEN);
        let shared = page.clone();
        drop(page);
        assert_eq!(shared.as_ref(), [7; BLOCK_LEN]);
    }
}

async fn directories<D: Disk>(disk: &D, root: &Path) {
    let deep = root.join("one/two");
    disk.create_dir_all(&deep).await.unwrap();
    disk.create_dir_all(&deep).await.unwrap();
    let mode = OpenMode::CreateNew(Durability::EachWrite);
    drop(disk.open(&root.join("one/file"), mode).await.unwrap());
    let entry = |name: &str, is_dir| DirEntry {
        name: name.to_owned(),
        is_dir,
    };
    assert_eq!(disk.list(root).await.unwrap(), [entry("one", true)]);
    let found = disk.list(&root.join("one")).await.unwrap();
    assert_eq!(found, [entry("file", false), entry("two", true)]);
    disk.sync_dir(&root.join("one")).await.unwrap();
    disk.remove_dir_all(&root.join("one")).await.unwrap();
    assert_eq!(disk.list(root).await.unwrap(), []);
}

async fn opening<D: Disk>(disk: &D, root: &Path, durability: Durability) {
    let path = root.join("opening");
    for mode in [OpenMode::Write(durability), OpenMode::Read] {
        let absent = disk.open(&path, mode).await.err().unwrap();
        assert!(absent.is_not_found(), "{absent}");
    }
    let file = disk
        .open(&path, OpenMode::CreateNew(durability))
        .await
        .unwrap();
    let again = disk
        .open(&path, OpenMode::CreateNew(durability))
        .await
        .err()
        .unwrap();
    assert_eq!(again.source.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(
        (again.operation, again.path.as_path()),
        ("open", path.as_path())
    );
    file.write_at(&page(disk, 1, 1), 0).await.unwrap();
    drop(file);
    let file = disk.open(&path, OpenMode::Write(durability)).await.unwrap();
    assert_eq!(file.len().await.unwrap(), BLOCK, "opening does not cut");
    let reader = disk.open(&path, OpenMode::Read).await.unwrap();
    assert!(reader.write_at(&page(disk, 1, 1), 0).await.is_err());
    assert!(reader.truncate(0).await.is_err());
    disk.remove_file(&path).await.unwrap();
}

async fn reading_and_writing<D: Disk>(disk: &D, root: &Path, durability: Durability) {
    let path = root.join("reading");
    let file = disk
        .open(&path, OpenMode::CreateNew(durability))
        .await
        .unwrap();
    assert_eq!(file.read_at(0, BLOCK_LEN).await.unwrap().as_ref(), [0u8; 0]);
    file.write_at(&page(disk, 10, 3), 0).await.unwrap();
    file.write_at(&page(disk, 20, 1), BLOCK).await.unwrap();
    file.write_at(&page(disk, 30, 1), 4 * BLOCK).await.unwrap();
    file.sync().await.unwrap();
    let expected = blocks([10, 20, 12, 0, 30]);
    let reader = disk.open(&path, OpenMode::Read).await.unwrap();
    for file in [&file, &reader] {
        assert!(file.read_at(0, 5 * BLOCK_LEN).await.unwrap().as_ref() == expected);
        let middle = file.read_at(BLOCK, 2 * BLOCK_LEN).await.unwrap();
        assert!(middle.as_ref() == &expected[BLOCK_LEN..3 * BLOCK_LEN]);
        let end = file.read_at(4 * BLOCK, 4 * BLOCK_LEN).await.unwrap();
        assert!(
            end.as_ref() == [30; BLOCK_LEN],
            "short at the end of the file"
        );
        assert_eq!(
            file.read_at(8 * BLOCK, BLOCK_LEN).await.unwrap().as_ref(),
            [0u8; 0]
        );
    }
    disk.remove_file(&path).await.unwrap();
    let open = reader.read_at(0, BLOCK_LEN).await.unwrap();
    assert!(
        open.as_ref() == [10; BLOCK_LEN],
        "an open file outlives its name"
    );
}

/// A page that is written stays readable for others, and one that was read can be written.
async fn sharing<D: Disk>(disk: &D, root: &Path, durability: Durability) {
    let path = root.join("sharing");
    let file = disk
        .open(&path, OpenMode::CreateNew(durability))
        .await
        .unwrap();
    let written = page(disk, 5, 2);
    file.write_at(&written, 0).await.unwrap();
    let read = file.read_at(BLOCK, BLOCK_LEN).await.unwrap();
    file.write_at(&read, 2 * BLOCK).await.unwrap();
    let kept = read.clone();
    drop(read);
    file.write_at(&page(disk, 9, 2), 0).await.unwrap();
    assert!(written.as_ref() == blocks([5, 6]));
    assert!(kept.as_ref() == blocks([6]));
    let all = file.read_at(0, 3 * BLOCK_LEN).await.unwrap();
    assert!(all.as_ref() == blocks([9, 10, 6]));
    disk.remove_file(&path).await.unwrap();
}

async fn lengths<D: Disk>(disk: &D, root: &Path, durability: Durability) {
    let path = root.join("lengths");
    let file = disk
        .open(&path, OpenMode::CreateNew(durability))
        .await
        .unwrap();
    file.allocate(64 * BLOCK).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 0, "space is not length");
    file.write_at(&page(disk, 1, 4), 0).await.unwrap();
    file.allocate(2 * BLOCK).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 4 * BLOCK);
    file.truncate(BLOCK + 100).await.unwrap();
    assert_eq!(file.len().await.unwrap(), BLOCK + 100);
    let cut = file.read_at(0, 4 * BLOCK_LEN).await.unwrap();
    assert!(cut.as_ref() == [&[1; BLOCK_LEN][..], &[2; 100]].concat());
    assert_eq!(
        file.read_at(BLOCK, BLOCK_LEN).await.unwrap().as_ref(),
        [2; 100]
    );
    file.truncate(3 * BLOCK).await.unwrap();
    file.sync().await.unwrap();
    let grown = file.read_at(0, 4 * BLOCK_LEN).await.unwrap();
    assert!(grown.as_ref()[..BLOCK_LEN + 100] == *cut.as_ref());
    assert!(
        grown.as_ref()[BLOCK_LEN + 100..] == [0; 2 * BLOCK_LEN - 100],
        "grows with zeros"
    );
    disk.remove_file(&path).await.unwrap();
}

async fn names<D: Disk>(disk: &D, root: &Path, durability: Durability) {
    let [from, to] = ["from", "other/to"].map(|name| root.join(name));
    disk.create_dir_all(&root.join("other")).await.unwrap();
    for (path, fill) in [(&from, 1), (&to, 2)] {
        let file = disk
            .open(path, OpenMode::CreateNew(durability))
            .await
            .unwrap();
        file.write_at(&page(disk, fill, 1), 0).await.unwrap();
    }
    let open = disk.open(&from, OpenMode::Write(durability)).await.unwrap();
    disk.rename(&from, &to).await.unwrap();
    disk.sync_dir(root).await.unwrap();
    disk.sync_dir(&root.join("other")).await.unwrap();
    assert!(
        disk.open(&from, OpenMode::Read)
            .await
            .err()
            .unwrap()
            .is_not_found()
    );
    open.write_at(&page(disk, 3, 1), BLOCK).await.unwrap();
    assert_eq!(
        open.len().await.unwrap(),
        2 * BLOCK,
        "an open file follows its new name"
    );
    let file = disk.open(&to, OpenMode::Read).await.unwrap();
    let content = file.read_at(0, 2 * BLOCK_LEN).await.unwrap();
    assert!(content.as_ref() == blocks([1, 3]));
    disk.remove_dir_all(&root.join("other")).await.unwrap();
}

async fn missing<D: Disk>(disk: &D, root: &Path) {
    let path = root.join("missing");
    assert!(disk.remove_file(&path).await.unwrap_err().is_not_found());
    assert!(
        disk.rename(&path, &root.join("target"))
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(disk.sync_dir(&path).await.unwrap_err().is_not_found());
    let deep = disk
        .open(&path.join("x"), OpenMode::CreateNew(Durability::OnSync))
        .await;
    let error = deep.err().unwrap();
    assert!(error.is_not_found() && !error.is_full());
    assert!(error.to_string().contains("missing"), "{error}");
}
