//! The directories: names as they are now, names as a crash would leave them, and the
//! changes in between.
//!
//! # Crash model
//! A crash keeps a prefix of the changes of each directory, as a journaled file system
//! does; the prefixes of two directories are independent, except that a rename from one to
//! the other happens in both or in neither. So a file that was made may be gone, one that
//! was removed may be back, and a renamed one may have its old name. Syncing a file does
//! not make its name durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::image::Image;
use crate::disk::DirEntry;

/// Identity of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(NodeId),
    Dir(NodeId),
}

/// All directories and files.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    dirs: BTreeMap<NodeId, Names>,
    files: BTreeMap<NodeId, Image>,
    changes: Vec<Change>,
    next_id: u64,
}

#[derive(Clone, Debug, Default)]
struct Names {
    now: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
}

/// Edits that happen together or not at all.
type Change = Vec<Edit>;

#[derive(Clone, Debug)]
struct Edit {
    dir: NodeId,
    name: String,
    entry: Option<Entry>,
}

const ROOT: NodeId = NodeId(0);

impl Default for Tree {
    fn default() -> Self {
        Self {
            dirs: BTreeMap::from([(ROOT, Names::default())]),
            files: BTreeMap::new(),
            changes: Vec::new(),
            next_id: 1,
        }
    }
}

impl Tree {
    /// The file at `path`.
    pub(super) fn file(&self, path: &Path) -> io::Result<NodeId> {
        match self.find(path)? {
            Entry::File(id) => Ok(id),
            Entry::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn image(&self, id: NodeId) -> &Image {
        &self.files[&id]
    }

    pub(super) fn image_mut(&mut self, id: NodeId) -> &mut Image {
        self.files
            .get_mut(&id)
            .expect("files are forgotten only by a crash")
    }

    /// Makes an empty file.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<NodeId> {
        let (dir, name) = self.place(path)?;
        if self.dirs[&dir].now.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.fresh_id();
        self.files.insert(id, Image::default());
        self.change(vec![Edit {
            dir,
            name,
            entry: Some(Entry::File(id)),
        }]);
        Ok(id)
    }

    /// Makes a directory. Its parent exists. Says whether it is new.
    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<bool> {
        let (dir, name) = match self.find(path) {
            Ok(Entry::Dir(_)) => return Ok(false),
            Ok(Entry::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.place(path)?,
        };
        let id = self.fresh_id();
        self.dirs.insert(id, Names::default());
        self.change(vec![Edit {
            dir,
            name,
            entry: Some(Entry::Dir(id)),
        }]);
        Ok(true)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let names = &self.dirs[&self.dir(path)?].now;
        let entry = |(name, entry): (&String, &Entry)| DirEntry {
            name: name.clone(),
            is_dir: matches!(entry, Entry::Dir(_)),
        };
        Ok(names.iter().map(entry).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.file(from)?;
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        if let Some(Entry::Dir(_)) = self.dirs[&to_dir].now.get(&to_name) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(vec![
            Edit {
                dir: from_dir,
                name: from_name,
                entry: None,
            },
            Edit {
                dir: to_dir,
                name: to_name,
                entry: Some(Entry::File(id)),
            },
        ]);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let (dir, name) = self.place(path)?;
        self.change(vec![Edit {
            dir,
            name,
            entry: None,
        }]);
        Ok(())
    }

    /// Removes an empty directory.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.dirs[&self.dir(path)?].now.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = self.place(path)?;
        self.change(vec![Edit {
            dir,
            name,
            entry: None,
        }]);
        Ok(())
    }

    /// Makes the names in a directory durable, with what must not come apart from them.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut synced = BTreeSet::from([self.dir(path)?]);
        let mut later = Vec::new();
        let mut durable = Vec::new();
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            if change.iter().any(|edit| synced.contains(&edit.dir)) {
                synced.extend(change.iter().map(|edit| edit.dir));
                durable.push(change);
            } else {
                later.push(change);
            }
        }
        later.reverse();
        self.changes = later;
        durable
            .iter()
            .rev()
            .for_each(|change| self.make_durable(change));
        Ok(())
    }

    /// Makes everything durable, names and content.
    pub(super) fn make_all_durable(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            self.make_durable(&change);
        }
        for image in self.files.values_mut() {
            image.sync(image.sync_point());
        }
    }

    /// Bytes that all named files take on the device.
    pub(super) fn allocated(&self) -> u64 {
        let files = self.dirs.values().flat_map(|names| names.now.values());
        files
            .map(|entry| match entry {
                Entry::File(id) => self.files[id].allocated(),
                Entry::Dir(_) => 0,
            })
            .sum()
    }

    /// The tree as a crash at this moment leaves it.
    pub(super) fn crash(&self, rng: &mut fastrand::Rng) -> Self {
        let mut after = self.clone();
        let mut cut = BTreeSet::new();
        for change in std::mem::take(&mut after.changes) {
            let orphan = change.iter().any(|edit| cut.contains(&edit.dir));
            if orphan || rng.bool() {
                cut.extend(change.iter().map(|edit| edit.dir));
            } else {
                after.make_durable(&change);
            }
        }
        after.keep_durable(rng);
        after
    }

    /// The tree as the end of the process at this moment leaves it.
    pub(super) fn kill(&self, rng: &mut fastrand::Rng) -> Self {
        let mut after = self.clone();
        for image in after.files.values_mut() {
            image.interrupt(rng);
        }
        after
    }

    /// Forgets all but what is reachable by durable names.
    fn keep_durable(&mut self, rng: &mut fastrand::Rng) {
        let mut dirs = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let mut names = self.dirs[&id].clone();
            names.now.clone_from(&names.durable);
            for entry in names.now.values() {
                match *entry {
                    Entry::Dir(child) => open.push(child),
                    Entry::File(file) => {
                        files
                            .entry(file)
                            .or_insert_with(|| self.files[&file].crash(rng));
                    }
                }
            }
            dirs.insert(id, names);
        }
        self.dirs = dirs;
        self.files = files;
    }

    fn change(&mut self, change: Change) {
        for Edit { dir, name, entry } in &change {
            let names = &mut self.dirs.get_mut(dir).expect("the directory was found").now;
            set(names, name, *entry);
        }
        self.changes.push(change);
    }

    fn make_durable(&mut self, change: &Change) {
        for Edit { dir, name, entry } in change {
            let names = &mut self
                .dirs
                .get_mut(dir)
                .expect("the directory was found")
                .durable;
            set(names, name, *entry);
        }
    }

    fn fresh_id(&mut self) -> NodeId {
        self.next_id += 1;
        NodeId(self.next_id - 1)
    }

    fn dir(&self, path: &Path) -> io::Result<NodeId> {
        match self.find(path)? {
            Entry::Dir(id) => Ok(id),
            Entry::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Entry> {
        let mut at = Entry::Dir(ROOT);
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let Entry::Dir(id) = at else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let names = &self.dirs[&id].now;
            let found = name.to_str().and_then(|name| names.get(name));
            at = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory that holds, or would hold, the name of `path`, and that name.
    fn place(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dir(path.parent().unwrap_or(Path::new("")))?;
        Ok((dir, name.to_owned()))
    }
}

fn set(names: &mut BTreeMap<String, Entry>, name: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(name.to_owned(), entry),
        None => names.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a directory over many crashes.
    fn crashes(tree: &Tree, dir: &str) -> BTreeSet<Vec<String>> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..100)
            .map(|_| {
                let after = tree.crash(&mut rng);
                let entries = after.list(Path::new(dir)).unwrap_or_default();
                entries.into_iter().map(|entry| entry.name).collect()
            })
            .collect()
    }

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.create_dir(Path::new("/a")).unwrap();
        tree.create_dir(Path::new("/b")).unwrap();
        tree.sync_dir(Path::new("/")).unwrap();
        tree
    }

    fn set_of(cases: &[&[&str]]) -> BTreeSet<Vec<String>> {
        cases
            .iter()
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect())
            .collect()
    }

    #[test]
    fn names_are_kept_in_order_until_synced() {
        let mut tree = tree();
        tree.create(Path::new("/a/1")).unwrap();
        tree.create(Path::new("/a/2")).unwrap();
        assert_eq!(crashes(&tree, "/a"), set_of(&[&[], &["1"], &["1", "2"]]));
        tree.sync_dir(Path::new("/a")).unwrap();
        assert_eq!(crashes(&tree, "/a"), set_of(&[&["1", "2"]]));
        tree.remove_file(Path::new("/a/1")).unwrap();
        assert_eq!(crashes(&tree, "/a"), set_of(&[&["1", "2"], &["2"]]));
    }

    #[test]
    fn a_rename_to_another_directory_happens_in_both() {
        let mut tree = tree();
        tree.create(Path::new("/a/1")).unwrap();
        tree.sync_dir(Path::new("/a")).unwrap();
        tree.rename(Path::new("/a/1"), Path::new("/b/2")).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let after = tree.crash(&mut rng);
            let (a, b) = (
                after.list(Path::new("/a")).unwrap(),
                after.list(Path::new("/b")).unwrap(),
            );
            assert_eq!(a.len() + b.len(), 1);
        }
        tree.sync_dir(Path::new("/b")).unwrap();
        assert_eq!(crashes(&tree, "/a"), set_of(&[&[]]));
        assert_eq!(crashes(&tree, "/b"), set_of(&[&["2"]]));
    }

    #[test]
    fn a_directory_that_is_not_durable_takes_its_files_with_it() {
        let mut tree = tree();
        tree.create_dir(Path::new("/a/c")).unwrap();
        tree.create(Path::new("/a/c/1")).unwrap();
        tree.sync_dir(Path::new("/a/c")).unwrap();
        assert_eq!(crashes(&tree, "/a/c"), set_of(&[&[], &["1"]]));
        assert_eq!(crashes(&tree, "/a"), set_of(&[&[], &["c"]]));
    }
}
