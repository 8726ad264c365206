//! Fetch sessions over the wire.

use millrace_kafka::{FetchRequest, FetchResponse, ForgottenTopic};
use millrace_model::ErrorCode;

use crate::client::{FETCH, Kafka, batch, fetch_request, fetched, from, records};
use crate::rig::Rig;

fn start() -> (Rig, Kafka) {
    let rig = Rig::start_with(|config| config.num_partitions = 3.try_into().unwrap());
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    kafka.topic("t");
    (rig, kafka)
}

fn fetch(kafka: &mut Kafka, session: (i32, i32), partitions: &[(i32, i64)]) -> FetchResponse {
    let mut request = FetchRequest {
        session_id: session.0,
        session_epoch: session.1,
        max_wait_ms: 100,
        ..fetch_request("t", partitions.iter().copied())
    };
    request.topics.retain(|topic| !topic.partitions.is_empty());
    fetched(kafka.ask(FETCH, request))
}

fn told(response: &FetchResponse) -> Vec<i32> {
    let topics = response.responses.iter();
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions.map(|data| data.partition_index).collect()
}

#[test]
fn a_session_says_and_is_told_only_what_has_changed() {
    let (_rig, mut kafka) = start();
    let first = fetch(&mut kafka, (0, 0), &[(0, 0), (1, 0), (2, 0)]);
    assert_eq!((first.error_code, told(&first)), (0, vec![0, 1, 2]));
    let id = first.session_id;
    assert_ne!(id, 0);
    let quiet = fetch(&mut kafka, (id, 1), &[]);
    assert_eq!((quiet.error_code, quiet.session_id), (0, id));
    assert!(told(&quiet).is_empty(), "{quiet:?}");
    kafka.produce("t", 1, batch(&["x"]));
    let news = fetch(&mut kafka, (id, 2), &[]);
    assert_eq!(told(&news), [1]);
    assert_eq!(records(&news.responses[0].partitions[0]), from(0, &["x"]));
    let quiet = fetch(&mut kafka, (id, 3), &[(1, 1)]);
    assert!(told(&quiet).is_empty());
    kafka.produce("t", 2, batch(&["y"]));
    let forgetting = FetchRequest {
        session_id: id,
        session_epoch: 4,
        max_wait_ms: 100,
        topics: Vec::new(),
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "t".to_owned(),
            partitions: vec![2],
            ..Default::default()
        }],
        ..fetch_request("t", [])
    };
    assert!(told(&fetched(kafka.ask(FETCH, forgetting))).is_empty());
}

#[test]
fn sessions_and_epochs_that_are_not_known_are_errors() {
    let (_rig, mut kafka) = start();
    let code = |response: &FetchResponse| ErrorCode::from_i16(response.error_code);
    let unknown = fetch(&mut kafka, (12, 1), &[]);
    assert_eq!(code(&unknown), ErrorCode::FetchSessionIdNotFound);
    let id = fetch(&mut kafka, (0, 0), &[(0, 0)]).session_id;
    let skipped = fetch(&mut kafka, (id, 2), &[]);
    assert_eq!(code(&skipped), ErrorCode::InvalidFetchSessionEpoch);
    let without = fetch(&mut kafka, (id, -1), &[(0, 0)]);
    assert_eq!((code(&without), without.session_id), (ErrorCode::None, 0));
    let closed = fetch(&mut kafka, (id, 1), &[]);
    assert_eq!(code(&closed), ErrorCode::FetchSessionIdNotFound);
}
