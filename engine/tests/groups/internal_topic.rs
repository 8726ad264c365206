//! `__consumer_offsets` is the broker's: seen by clients, and touched by none.

use millrace_client::{
    Acks, Client, ClientError, ConnectOptions, ErrorCode, LogId, PartitionId, Trust,
};
use millrace_kafka::{MetadataRequest, Response};
use millrace_net::tls::ServerIdentity;

use crate::rig::Rig;

#[test]
fn it_is_made_on_first_use_and_shown_as_internal() {
    let rig = Rig::start_with(&[("offsets.topic.num.partitions", "5")]);
    let mut kafka = rig.kafka();
    let mut internal = || {
        let request = MetadataRequest {
            topics: None,
            ..MetadataRequest::default()
        };
        let Response::Metadata(response) = kafka.ask(9, request) else {
            panic!("another answer");
        };
        let topics = response.topics.into_iter();
        let internal = topics.filter(|topic| topic.is_internal);
        let internal: Vec<_> = internal
            .map(|topic| (topic.name.unwrap(), topic.partitions.len()))
            .collect();
        internal
    };
    assert!(internal().is_empty());
    let mut other = rig.kafka();
    other.make_topic("t");
    other.commit("g", "t", &[(0, 1)]);
    assert_eq!(internal(), [("__consumer_offsets".to_owned(), 5)]);
}

/// Through the native protocol, whose requests end in the same registry as Kafka's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_neither_make_nor_change_nor_write_nor_remove_it() {
    let rig = Rig::start();
    let identity = ServerIdentity::in_data_dir(&rig.data_dir()).unwrap();
    let trust = Trust::Fingerprint(identity.fingerprint().0);
    let options = ConnectOptions::new(rig.quic_address(), trust);
    let client = Client::connect(options).await.unwrap();
    let name = "__consumer_offsets";
    refused(client.create_topic(name, Some(1), &[]).await);
    tokio::task::block_in_place(|| {
        let mut kafka = rig.kafka();
        kafka.make_topic("t");
        kafka.commit("g", "t", &[(0, 1)]);
    });
    refused(client.delete_topic(name).await);
    refused(client.alter_topic(name, Some(99), &[]).await);
    let log = LogId {
        topic: client.topic(name).await.unwrap().id,
        partition: PartitionId(0),
    };
    refused(client.produce_stream(log, Acks::All).await);
    refused(client.delete_records(log, None).await);
}

fn refused<T>(result: Result<T, ClientError>) {
    let error = result.err().unwrap();
    assert_eq!(error.code(), ErrorCode::InvalidTopicException, "{error}");
}
