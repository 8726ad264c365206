//! The one task that empties a shard's inbox. It never awaits the mesh, nor a client, nor a
//! device: see [`crate::mesh`] for why.

use std::rc::Rc;

use crate::mesh::Message;
use crate::session::{answer, own_consume, own_produce};
use crate::shard::Shard;

/// Takes messages until every sender is gone.
pub(super) async fn serve(shard: Rc<Shard>, inbox: flume::Receiver<Message>) {
    while let Ok(message) = inbox.recv_async().await {
        let shard = Rc::clone(&shard);
        match message {
            Message::Control(request, reply) => {
                let task = Rc::clone(&shard);
                shard.spawn(async move { reply.send(answer(&task, None, request).await) });
            }
            Message::Produce(produce) => {
                let task = own_produce(Rc::clone(&shard), produce);
                shard.spawn(task);
            }
            Message::Consume(consume) => {
                let task = own_consume(Rc::clone(&shard), consume);
                shard.spawn(task);
            }
            Message::Work(work) => work(&shard),
            Message::Image(published, reply) => {
                shard.apply(&published);
                reply.send(());
            }
            Message::Ping(reply) => reply.send(()),
            Message::Snapshot(reply) => reply.send(shard.snapshot()),
            Message::PrepareToStop(reply) => {
                let task = Rc::clone(&shard);
                shard.spawn(async move {
                    if task.peers().is_some() {
                        task.controller().prepare_to_stop().await;
                    }
                    reply.send(task.life().ok());
                });
            }
            Message::Drain(reply) => {
                let task = Rc::clone(&shard);
                shard.spawn(async move {
                    task.drain().await;
                    reply.send(());
                });
            }
            Message::Stop => shard.stopping.raise(()),
        }
    }
}
