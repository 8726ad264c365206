//! The topics as coordinators see them: one image for all coordinators of a shard, made again
//! when topics change, and only while a coordinator is loaded.
//!
//! An image names every topic, so making one for each of many changes would cost the square of
//! their number. After one was made, changes gather for [`PAUSE`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::timer::sleep;
use millrace_groups::{TopicImage, TopicsImage};
use millrace_model::is_internal_topic;

use crate::shard::Shard;

/// Time between two images while topics change all the time. Groups learn of a new partition
/// that much later, at most.
const PAUSE: Duration = Duration::from_millis(100);

/// The image in force.
#[derive(Default)]
pub(super) struct Images {
    image: RefCell<Option<Arc<TopicsImage>>>,
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

    /// The topics have changed: every coordinator that is loaded will be told.
    pub(super) fn topics_changed(&self, shard: &Rc<Shard>) {
        self.image.borrow_mut().take();
        if shard.coordinators().all_loaded().is_empty() {
            return;
        }
        self.is_news.set(true);
        if !self.is_told.replace(true) {
            shard.spawn(tell(Rc::clone(shard)));
        }
    }
}

/// Tells every coordinator of the topics, until they do not change any more.
async fn tell(shard: Rc<Shard>) {
    let images = &shard.coordinators().images;
    while images.is_news.replace(false) {
        let image = images.image(&shard);
        for coordinator in shard.coordinators().all_loaded() {
            coordinator.topics_changed(Arc::clone(&image));
        }
        sleep(PAUSE).await;
    }
    images.is_told.set(false);
}

fn make(shard: &Shard) -> TopicsImage {
    let metadata = shard.topics().metadata();
    let mut image = TopicsImage::default();
    for topic in metadata.topics().filter(|topic| !is_internal_topic(&topic.name)) {
        let (id, partitions) = (topic.id, topic.partitions);
        image
            .by_name
            .insert(topic.name.clone(), TopicImage { id, partitions });
        image.by_id.insert(id, topic.name.clone());
    }
    image
}
