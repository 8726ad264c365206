//! Lends pages of this shard to clients on other shards.
//!
//! A page is counted within its shard ([`super::home_bytes`]), so another shard cannot let go of it.
//! What it gets is a loan: it reads the bytes in place, and when it has dropped the last of them,
//! the page's own handles travel back and are dropped where they came from.
//!
//! **Bound:** the way back is as long as there are loans, and those are bounded by who asks: one response
//! of each Kafka connection to each shard, a few runs of each forwarded consume stream.

use std::sync::Arc;

use bytes::Bytes;

/// Less than this is copied: the way back costs a message, and may wake a shard.
const LEND_FROM: usize = 64 << 10;

/// Lends the pages of its shard.
pub(crate) struct Lender {
    home: flume::Sender<Homeward>,
}

/// What has come back to its shard.
pub(crate) struct Returned(flume::Receiver<Homeward>);

/// Chunks on their way back. Their shard may have ended; then they are leaked where they are, for
/// nobody else may drop them.
struct Homeward(Vec<Bytes>);

impl Drop for Homeward {
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.0));
    }
}

/// Chunks that are lent together and come back together.
struct Loan {
    chunks: Vec<Bytes>,
    home: flume::Sender<Homeward>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let chunks = Homeward(std::mem::take(&mut self.chunks));
        // The shard may have ended.
        let _ = self.home.send(chunks);
    }
}

/// One chunk of a loan.
struct LentChunk {
    loan: Arc<Loan>,
    at: usize,
}

impl AsRef<[u8]> for LentChunk {
    fn as_ref(&self) -> &[u8] {
        &self.loan.chunks[self.at]
    }
}

impl Lender {
    /// Who lends, and what is to be served on the same shard.
    pub(crate) fn new() -> (Self, Returned) {
        let (home, returned) = flume::unbounded();
        (Self { home }, Returned(returned))
    }

    /// The same bytes, to be held and dropped by any shard: copied when they are few.
    pub(crate) fn lend(&self, chunks: Vec<Bytes>) -> Vec<Bytes> {
        let len: usize = chunks.iter().map(Bytes::len).sum();
        if len < LEND_FROM {
            return match len {
                0 => Vec::new(),
                _ => vec![Bytes::from(chunks.concat())],
            };
        }
        let home = self.home.clone();
        let loan = Arc::new(Loan { chunks, home });
        let lent = (0..loan.chunks.len()).map(|at| {
            let loan = Arc::clone(&loan);
            Bytes::from_owner(LentChunk { loan, at })
        });
        lent.collect()
    }
}

impl Returned {
    /// Lets go of what comes back, until nobody lends any more.
    pub(crate) async fn serve(self) {
        while let Ok(mut chunks) = self.0.recv_async().await {
            chunks.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::home_bytes::share;
    use super::*;
    use std::rc::Rc;

    struct Page(Rc<Vec<u8>>);

    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    fn page(len: usize) -> (Rc<Vec<u8>>, Bytes) {
        let page = Rc::new(vec![5; len]);
        let shared = share(Page(Rc::clone(&page)));
        (page, shared)
    }

    #[test]
    fn a_loan_is_read_elsewhere_and_dropped_at_home() {
        let (lender, returned) = Lender::new();
        let (page, shared) = page(LEND_FROM);
        let lent = lender.lend(vec![shared.slice(..100), shared]);
        assert_eq!(lent[1].as_ptr(), page.as_ptr());
        std::thread::spawn(move || {
            let [part, all] = &lent[..] else {
                panic!("as many as were lent")
            };
            let rest = all.slice(1..);
            assert_eq!((part.len(), rest[0]), (100, 5));
            drop(lent);
            assert_eq!(rest.len(), LEND_FROM - 1);
        })
        .join()
        .unwrap();
        assert_eq!(Rc::strong_count(&page), 2, "on its way home");
        returned.0.try_recv().unwrap().0.clear();
        assert_eq!(Rc::strong_count(&page), 1);
    }

    #[test]
    fn little_is_copied_and_nothing_comes_back() {
        let (lender, returned) = Lender::new();
        let (page, shared) = page(LEND_FROM - 1);
        let lent = lender.lend(vec![shared.slice(..10), shared.slice(10..)]);
        drop(shared);
        assert_eq!((lent.len(), lent[0].len()), (1, LEND_FROM - 1));
        assert_eq!(Rc::strong_count(&page), 1);
        assert!(returned.0.is_empty());
        assert!(lender.lend(Vec::new()).is_empty());
    }

    #[test]
    fn what_comes_back_to_nobody_is_leaked() {
        let (lender, returned) = Lender::new();
        let ((early, first), (late, second)) = (page(LEND_FROM), page(LEND_FROM));
        let (first, second) = (lender.lend(vec![first]), lender.lend(vec![second]));
        std::thread::spawn(move || drop(first)).join().unwrap();
        drop((returned, lender));
        std::thread::spawn(move || drop(second)).join().unwrap();
        assert_eq!(Rc::strong_count(&early), 2, "nobody took it any more");
        assert_eq!(Rc::strong_count(&late), 2, "it came after the end");
    }
}
