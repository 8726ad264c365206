//! Bytes that are no request, and clients that mean harm: a typed answer or a closed connection, and
//! nobody else notices.

use std::io::Write as _;

use bytes::Bytes;
use millrace_kafka::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, Response, decode_response,
};
use millrace_model::ErrorCode;

use crate::client::{Kafka, batch};
use crate::rig::Rig;

fn start() -> (Rig, Kafka) {
    let rig = Rig::start();
    let kafka = connect(&rig);
    (rig, kafka)
}

fn connect(rig: &Rig) -> Kafka {
    Kafka::connect(rig.broker().kafka().unwrap())
}

/// A frame of an API's key and version, with this body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let len = 8 + body.len();
    bytes.extend_from_slice(&i32::try_from(len).unwrap().to_be_bytes());
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&5_i32.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// No client id, in the form of both headers.
const NO_CLIENT: [u8; 2] = [0xFF, 0xFF];

#[test]
fn the_connection_of_a_frame_that_is_no_request_is_closed_and_others_go_on() {
    let (rig, mut other) = start();
    other.topic("t");
    let huge_array = [&NO_CLIENT[..], &[0x7F, 0xFF, 0xFF, 0xFF]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a negative length", (-1_i32).to_be_bytes().to_vec()),
        ("the smallest length", i32::MIN.to_be_bytes().to_vec()),
        (
            "a length over the limit",
            (101_i32 << 20).to_be_bytes().to_vec(),
        ),
        ("the largest length", i32::MAX.to_be_bytes().to_vec()),
        ("an empty frame", 0_i32.to_be_bytes().to_vec()),
        (
            "half a header",
            [&4_i32.to_be_bytes()[..], &[0, 3, 0, 1]].concat(),
        ),
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ),
        ("an unknown API", frame(999, 0, &NO_CLIENT)),
        ("a negative API", frame(-1, 0, &NO_CLIENT)),
        ("a version that is not served", frame(3, 99, &NO_CLIENT)),
        ("an old Produce", frame(0, 2, &NO_CLIENT)),
        ("a truncated body", frame(3, 1, &NO_CLIENT)),
        ("a huge count", frame(3, 1, &huge_array)),
    ];
    for (what, bytes) in cases {
        let mut kafka = connect(&rig);
        kafka.stream().write_all(&bytes).unwrap();
        assert!(kafka.is_closed(), "{what}");
        other.produce("t", 0, batch(&[what]));
    }
}

#[test]
fn garbage_of_any_kind_is_survived() {
    let (rig, mut other) = start();
    other.topic("t");
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..200 {
        let mut bytes: Vec<u8> = (0..random.usize(1..400)).map(|_| random.u8(..)).collect();
        if random.bool() {
            // A likely header.
            let key = random.i16(0..80);
            bytes = frame(key, random.i16(0..15), &bytes);
        }
        let mut kafka = connect(&rig);
        // The broker may close while this writes.
        let _ = kafka.stream().write_all(&bytes);
    }
    assert_eq!(other.produce("t", 0, batch(&["x"])), 0);
}

#[test]
fn frames_cut_anywhere_are_put_together_and_a_client_that_leaves_inside_of_one_is_forgotten() {
    let (rig, mut kafka) = start();
    let (_, bytes) = kafka.frame(12, &MetadataRequest::default().into());
    for step in [1, 3, 7] {
        for piece in bytes.chunks(step) {
            kafka.stream().write_all(piece).unwrap();
            std::thread::yield_now();
        }
        let response = kafka.receive_frame().unwrap();
        assert!(decode_response(ApiKey::Metadata, 12, response).is_ok());
    }
    for cut in 1..bytes.len() {
        let mut leaving = connect(&rig);
        leaving.stream().write_all(&bytes[..cut]).unwrap();
    }
    kafka.ask(12, MetadataRequest::default());
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_the_oldest_form() {
    let (_rig, mut kafka) = start();
    kafka
        .stream()
        .write_all(&frame(18, 77, b"whatever"))
        .unwrap();
    let response = kafka.receive_frame().unwrap();
    let (id, response) = decode_response(ApiKey::ApiVersions, 0, response).unwrap();
    let Response::ApiVersions(response) = response else {
        panic!("an answer to the request");
    };
    assert_eq!(id, 5);
    let code = ErrorCode::from_i16(response.error_code);
    assert_eq!(code, ErrorCode::UnsupportedVersion);
    let own = response.api_keys.iter().find(|one| one.api_key == 18);
    assert!(own.is_some_and(|own| own.max_version >= 3));
}

fn versions(kafka: &mut Kafka, version: i16, name: &str) -> ApiVersionsResponse {
    let request = ApiVersionsRequest {
        client_software_name: name.to_owned(),
        client_software_version: "1.0".to_owned(),
    };
    match kafka.ask(version, request) {
        Response::ApiVersions(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_are_offered_in_every_version_and_only_to_software_with_a_name() {
    let (_rig, mut kafka) = start();
    for version in 0..=4 {
        let response = versions(&mut kafka, version, "rig");
        assert_eq!(response.error_code, 0);
        let produce = response.api_keys.iter().find(|one| one.api_key == 0);
        // Old librdkafka compresses only where version 0 is offered.
        assert_eq!(produce.map(|one| one.min_version), Some(0));
    }
    let code = versions(&mut kafka, 3, "no spaces").error_code;
    assert_eq!(ErrorCode::from_i16(code), ErrorCode::InvalidRequest);
}

#[test]
fn bytes_behind_a_message_are_passed_over() {
    let (_rig, mut kafka) = start();
    kafka
        .stream()
        .write_all(&frame(18, 0, &[0xFF, 0xFF, 1, 2, 3]))
        .unwrap();
    let response = kafka.receive_frame().unwrap();
    assert!(decode_response(ApiKey::ApiVersions, 0, response).is_ok());
}

#[test]
fn requests_before_api_versions_are_served() {
    let (_rig, mut kafka) = start();
    kafka.topic("t");
    assert_eq!(kafka.produce("t", 0, batch(&["x"])), 0);
}

#[test]
fn promises_of_long_frames_hold_little_memory() {
    let rig = Rig::start_with(|config| {
        config.shard_memory_bytes = millrace_engine::config::ByteSize(32 << 20);
    });
    let mut other = connect(&rig);
    other.topic("t");
    let mut promising: Vec<Kafka> = (0..100).map(|_| connect(&rig)).collect();
    for kafka in &mut promising {
        let promise = (90_i32 << 20).to_be_bytes();
        kafka.stream().write_all(&promise).unwrap();
        kafka.stream().write_all(&[0; 1000]).unwrap();
    }
    // 100 promises of 90 MiB against 32 MiB a shard.
    for number in 0..20 {
        assert_eq!(other.produce("t", 0, batch(&["x"])), number);
    }
}

#[test]
fn a_frame_longer_than_the_memory_budget_is_read_in_its_turn() {
    let rig = Rig::start_with(|config| {
        config.shard_memory_bytes = millrace_engine::config::ByteSize(4 << 20);
        config.message_max_bytes = millrace_engine::config::ByteSize(40 << 20);
    });
    let mut kafka = connect(&rig);
    kafka.topic("t");
    let long = "x".repeat(9 << 20);
    let others: Vec<_> = (0..3)
        .map(|_| {
            let addr = rig.broker().kafka().unwrap();
            let batch: Bytes = batch(&[&long]);
            std::thread::spawn(move || Kafka::connect(addr).produce("t", 0, batch))
        })
        .collect();
    let mut offsets: Vec<i64> = others.into_iter().map(|one| one.join().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2]);
}
