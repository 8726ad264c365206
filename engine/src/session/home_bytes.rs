//! Hands a slice of a shard's page to quinn by reference.
//!
//! Pages are shared inside a shard by an ordinary reference count, so they must not leave
//! their thread; quinn's types ask for `Send`, because quinn can also run on many threads.
//! Here it runs on the shard's own executor.

use bytes::Bytes;

thread_local! {
    /// Its address is this thread's mark.
    static MARK: u8 = const { 0 };
}

fn thread_mark() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// A page that is used and dropped on the thread where it was made.
struct HomePage<P> {
    page: Option<P>,
    home: usize,
}

// SAFETY: the page is reached only through `as_ref`, which `Bytes::from_owner` calls once,
// in `share`, and through `drop`, which stops the process before it touches the page when the
// thread is not the page's own. What does travel, should quinn ever move the `Bytes`, is a
// plain pointer to immutable memory that lives as long as the owner.
//
// Quinn does not move it: the chunk lies in the send buffer of a connection's state, which
// is dropped by a handle of that connection, by its driver, or by the endpoint, all of which
// are tasks and values of this shard's executor.
unsafe impl<P> Send for HomePage<P> {}

impl<P: AsRef<[u8]>> AsRef<[u8]> for HomePage<P> {
    fn as_ref(&self) -> &[u8] {
        self.page.as_ref().expect("present until dropped").as_ref()
    }
}

impl<P> Drop for HomePage<P> {
    fn drop(&mut self) {
        if thread_mark() != self.home {
            // Unwinding would drop the page on the wrong thread.
            std::mem::forget(self.page.take());
            panic!("a page of one shard was dropped on another thread");
        }
    }
}

/// `page` as reference-counted bytes. They must be dropped on this thread; elsewhere the
/// drop panics and leaks the page.
pub(crate) fn share<P: AsRef<[u8]> + 'static>(page: P) -> Bytes {
    Bytes::from_owner(HomePage {
        page: Some(page),
        home: thread_mark(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    struct Page(Rc<Vec<u8>>);

    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn bytes_share_the_page_and_give_it_back() {
        let page = Rc::new(vec![1, 2, 3]);
        let bytes = share(Page(Rc::clone(&page)));
        assert_eq!(bytes.as_ptr(), page.as_ptr());
        assert_eq!(&bytes.slice(1..)[..], [2, 3]);
        drop(bytes);
        assert_eq!(Rc::strong_count(&page), 1);
    }

    #[test]
    fn a_drop_on_another_thread_panics_and_leaks() {
        let page = Rc::new(vec![1, 2, 3]);
        let bytes = share(Page(Rc::clone(&page)));
        let dropped = std::thread::spawn(move || drop(bytes)).join();
        assert!(dropped.is_err());
        assert_eq!(Rc::strong_count(&page), 2);
    }
}
