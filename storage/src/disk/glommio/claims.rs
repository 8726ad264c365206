//! Keeps a path from being removed or renamed while it is being opened.
//!
//! glommio's `DmaFile` asks for the file system by path after it has opened the file, and
//! panics if the path is gone by then. The shard's own tasks are the only ones that remove
//! files of the data directory, so a claim on the path within the shard is enough.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The paths that are being opened, renamed or removed. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Claims {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Default)]
struct Shared {
    paths: Vec<PathBuf>,
    waiting: Vec<Waker>,
}

/// A path that is claimed until this is dropped.
pub(super) struct Claim {
    shared: Rc<RefCell<Shared>>,
    path: PathBuf,
}

impl Claims {
    /// Claims `path` and what is below it, once nobody else has it.
    pub(super) async fn claim(&self, path: &Path) -> Claim {
        std::future::poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            let taken = |other: &PathBuf| other.starts_with(path) || path.starts_with(other);
            if shared.paths.iter().any(taken) {
                shared.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            shared.paths.push(path.to_owned());
            Poll::Ready(())
        })
        .await;
        Claim {
            shared: Rc::clone(&self.shared),
            path: path.to_owned(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        let at = shared.paths.iter().position(|path| *path == self.path);
        shared
            .paths
            .swap_remove(at.expect("a claim is noted until it is dropped"));
        shared.waiting.drain(..).for_each(Waker::wake);
    }
}
