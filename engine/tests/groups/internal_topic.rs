//! `__consumer_offsets` is the broker's: seen by clients, and touched by none.

use millrace_kafka::{MetadataRequest, Response};

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
    use millrace_client::{ConnectOptions, ErrorCode, ProducerOptions, Trust};
    use millrace_net::tls::ServerIdentity;

    let rig = Rig::start();
    let identity = ServerIdentity::in_data_dir(&rig.data_dir()).unwrap();
    let trust = Trust::Fingerprint(identity.fingerprint().0);
    let options = ConnectOptions::new(rig.quic_address(), trust);
    let client = millrace_client::Client::connect(options).await.unwrap();
    let name = "__consumer_offsets";
    let refused = |result: Result<(), millrace_client::Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::InvalidTopicException), "{error}");
    };
    refused(client.create_topic(name, Some(1), &[]).await.map(drop));
    tokio::task::block_in_place(|| {
        let mut kafka = rig.kafka();
        kafka.make_topic("t");
        kafka.commit("g", "t", &[(0, 1)]);
    });
    refused(client.delete_topic(name).await);
    refused(client.producer(ProducerOptions::new(name)).await.map(drop));
    let deleted = client.delete_records(name, 0, None).await;
    refused(deleted.map(drop));
}
