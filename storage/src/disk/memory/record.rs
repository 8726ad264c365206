//! A record of everything that changed a disk, to see the disk after any prefix of it.

use std::path::PathBuf;

use super::MemoryPage;
use super::names::{NodeId, Tree};

/// One change, as it was carried out.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Create(PathBuf),
    CreateDir(PathBuf),
    Rename(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveDir(PathBuf),
    Write(NodeId, u64, MemoryPage),
    Length(NodeId, u64),
}

/// A tree and what happened to it since.
#[derive(Clone, Debug)]
pub(super) struct Record {
    base: Tree,
    events: Vec<Event>,
}

impl Record {
    pub(super) fn new(base: Tree) -> Self {
        Self {
            base,
            events: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The tree after the first `events` changes, all of them durable.
    pub(super) fn replay(&self, events: usize) -> Tree {
        let mut tree = self.base.clone();
        for event in &self.events[..events] {
            apply(&mut tree, event);
        }
        tree.make_all_durable();
        tree
    }
}

fn apply(tree: &mut Tree, event: &Event) {
    let done = match event {
        Event::Create(path) => tree.create(path).map(drop),
        Event::CreateDir(path) => tree.create_dir(path).map(drop),
        Event::Rename(from, to) => tree.rename(from, to),
        Event::RemoveFile(path) => tree.remove_file(path),
        Event::RemoveDir(path) => tree.remove_dir(path),
        Event::Write(id, pos, page) => {
            let image = tree.image_mut(*id);
            let stamp = image.begin_write(*pos as usize, page, || false);
            image.end_write(stamp, true);
            Ok(())
        }
        Event::Length(id, len) => {
            tree.image_mut(*id).set_len(*len as usize);
            Ok(())
        }
    };
    done.expect("what succeeded once succeeds again on the same tree");
}
