//! The topics as coordinators see them: one image for all coordinators of a shard, made again
//! when topics change, and only while a coordinator is loaded.
//!
//! An image names every topic, so making one for each of many changes would cost the square of
//! their number. After one was made, changes gather for [`PAUSE`]. Only that a topic was deleted is
//! never missed, also when it is back by then: what a group has committed is of the topic that is gone.
//!
//! **Invariant:** who was told of a topic can commit to it at once: a commit does not wait for the pause, and
//! is not taken for one of the topic that had the name before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::timer::sleep;
use millrace_groups::{AlterOffsets, CommitOffset, TopicImage, TopicsImage};
use millrace_model::is_internal_topic;

use crate::shard::{Shard, partition_count};

/// Time between two images while topics change all the time. Groups learn of a new partition
/// that much later, at most.
const PAUSE: Duration = Duration::from_millis(100);

/// The image in force.
#[derive(Default)]
pub(super) struct Images {
    image: RefCell<Option<Arc<TopicsImage>>>,
    /// What coordinators were told last.
    told: RefCell<Option<Arc<TopicsImage>>>,
    /// Names of topics that were deleted since coordinators were told.
    deleted: RefCell<BTreeSet<String>>,
    /// Coordinators have not been told of the last change.
    is_news: Cell<bool>,
    /// A task tells them.
    is_told: Cell<bool>,
}

impl Images {
    /// The image of the topics as they are.
    pub(super) fn image(&self, shard: &Shard) -> Arc<TopicsImage> {
        let mut image = self.image.borrow_mut();
        Arc::clone(image.get_or_insert_with(|| Arc::new(make(shard))))
    }

    /// The topics have changed, perhaps because one was deleted: every coordinator that is loaded
    /// will be told.
    pub(super) fn topics_changed(&self, shard: &Rc<Shard>, deleted: Option<String>) {
        self.image.borrow_mut().take();
        if shard.coordinators().all_loaded().is_empty() {
            return;
        }
        self.deleted.borrow_mut().extend(deleted);
        self.is_news.set(true);
        if !self.is_told.replace(true) {
            shard.spawn(tell(Rc::clone(shard)));
        }
    }

    /// Tells coordinators of a change that has not waited long enough, if one is asked to commit to what they
    /// have not heard of.
    pub(super) fn hasten_for(&self, shard: &Shard, commit: &CommitOffset) {
        let is_known = |offset: &AlterOffsets| {
            let told = self.told.borrow();
            let topic = told
                .as_ref()
                .and_then(|told| told.by_name.get(&offset.topic));
            topic.is_some_and(|topic| offset.partition < topic.partitions)
                && !self.deleted.borrow().contains(&offset.topic)
        };
        if self.is_news.get() && !commit.offsets.iter().all(is_known) {
            self.tell_now(shard);
        }
    }

    fn tell_now(&self, shard: &Shard) {
        self.is_news.set(false);
        let image = self.image(shard);
        self.told.replace(Some(Arc::clone(&image)));
        let deleted = self.deleted.take();
        let before = without(&image, &deleted);
        for coordinator in shard.coordinators().all_loaded() {
            if let Some(before) = &before {
                coordinator.topics_changed(Arc::clone(before));
            }
            coordinator.topics_changed(Arc::clone(&image));
        }
    }
}

/// Tells every coordinator of the topics, until they do not change any more.
async fn tell(shard: Rc<Shard>) {
    let images = &shard.coordinators().images;
    while images.is_news.get() {
        images.tell_now(&shard);
        sleep(PAUSE).await;
    }
    images.is_told.set(false);
}

/// The image without topics of these names, if there are any.
fn without(image: &TopicsImage, names: &BTreeSet<String>) -> Option<Arc<TopicsImage>> {
    let is_back = |name: &&String| image.by_name.contains_key(*name);
    let back: Vec<&String> = names.iter().filter(is_back).collect();
    if back.is_empty() {
        return None;
    }
    let mut image = image.clone();
    for name in back {
        if let Some(topic) = image.by_name.remove(name) {
            image.by_id.remove(&topic.id);
        }
    }
    Some(Arc::new(image))
}

fn make(shard: &Shard) -> TopicsImage {
    let cluster = shard.topics().cluster();
    let mut image = TopicsImage::default();
    for topic in cluster
        .topics()
        .filter(|topic| !is_internal_topic(&topic.name))
    {
        let (id, partitions) = (topic.id, partition_count(topic));
        image
            .by_name
            .insert(topic.name.to_string(), TopicImage { id, partitions });
        image.by_id.insert(id, topic.name.to_string());
    }
    image
}
