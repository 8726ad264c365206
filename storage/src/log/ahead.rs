//! Read-ahead: a sequential reader finds what comes next in memory, or on its way.

use super::Log;
use super::load::{Place, STRETCH_LEN};
use crate::cache::{Ahead, Loading, Turn};
use crate::disk::Disk;
use crate::storage::Spawner;
use millrace_model::Offset;
use std::rc::Rc;

/// The least that is read ahead of a sequential reader: two reads, so that the device has the
/// next to do while what the last brought is checked.
const LEAST_AHEAD: usize = 2 * STRETCH_LEN;

/// The most that is read ahead of one reader: twice what one response of a Fetch takes when it
/// is large.
const MOST_AHEAD: usize = 8 << 20;

impl<D: Disk> Log<D> {
    /// Loads in the background what stands behind `next`, if the read of `len` bytes that ended
    /// there was one of a sequence. A reader gets twice as much ahead as it reads at a time.
    pub(super) fn read_ahead(&self, from: Offset, next: Offset, len: usize) {
        let is_sequential = self.shared.state.borrow_mut().note_read(from, next);
        let Some(spawner) = self.shared.storage.spawner.borrow().clone() else {
            return;
        };
        if is_sequential && self.shared.tail.borrow().find(next).is_none() {
            let window = len.saturating_mul(2).clamp(LEAST_AHEAD, MOST_AHEAD);
            self.fill_window(&spawner, next, window);
        }
    }

    fn fill_window(&self, spawner: &Spawner, mut next: Offset, window: usize) {
        let cache = &self.shared.storage.cache;
        let mut ahead = 0;
        while ahead < window && next < self.written_end() {
            let Some(mut place) = self.place(next) else {
                return self.index_ahead(spawner, next);
            };
            if !cache.is_at_hand(place.key, place.span.end) {
                // A whole stretch even where the window ends before: the device is then asked
                // seldom for much, not often for little.
                place = self.extended(place, STRETCH_LEN);
                let Some(leave) = cache.reserve_ahead(place.len()) else {
                    return;
                };
                let Turn::Load(loading) = cache.turn(place.key, place.end()) else {
                    return;
                };
                let log = self.clone();
                let load = async move { log.load_ahead(place, leave, loading).await };
                spawner(Box::pin(load));
            }
            ahead += place.len();
            let Some(behind) = self.behind(&place) else {
                return;
            };
            next = behind;
        }
    }

    async fn load_ahead(&self, place: Place, leave: Ahead, loading: Loading<D>) {
        // What fails here is met again, and reported, by the reader itself.
        if let Ok(stretch) = self.load(&place).await {
            stretch.ahead.set(Some(leave));
            loading.done(Rc::new(stretch));
        }
    }

    /// Loads the index of the segment with `next`, one at a time.
    fn index_ahead(&self, spawner: &Spawner, next: Offset) {
        if self.shared.index_comes.replace(true) {
            return;
        }
        let log = self.clone();
        spawner(Box::pin(async move {
            // As above.
            let _ = log.ensure_index(next).await;
            log.shared.index_comes.set(false);
        }));
    }
}
