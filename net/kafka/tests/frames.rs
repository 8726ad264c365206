//! Frames as they are on a connection: their bytes, their headers, what is copied and what is not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

use bytes::Bytes;
use millrace_kafka::{
    ApiKey, ApiVersion, ApiVersionsResponse, EncodeError, FRAME_LEN_LEN, FetchResponse,
    FetchableTopicResponse, FindCoordinatorResponse, HeartbeatRequest, ListOffsetsRequest,
    MetadataRequest, PartitionData, PartitionProduceData, ProduceRequest, RecordSet, Request,
    RequestHeader, Response, SERVED, TopicProduceData, decode_request, decode_response,
    encode_request, encode_request_contiguous, encode_response, encode_response_contiguous,
};

fn header(api: ApiKey, version: i16) -> RequestHeader {
    RequestHeader {
        api,
        version,
        correlation_id: 0x0102_0304,
        client_id: Some("me".into()),
    }
}

fn fetch_response(records: RecordSet) -> Response {
    let partition = PartitionData {
        partition_index: 1,
        high_watermark: 5,
        records,
        ..PartitionData::default()
    };
    let topic = FetchableTopicResponse {
        topic: "t".into(),
        partitions: vec![partition],
        ..FetchableTopicResponse::default()
    };
    Response::Fetch(FetchResponse {
        responses: vec![topic],
        ..FetchResponse::default()
    })
}

/// Bytes written down from the protocol's description, one message of each form of header.
#[test]
fn frames_have_the_bytes_that_they_always_had() {
    let metadata = Request::Metadata(MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    });
    let legacy = encode_request_contiguous(&header(ApiKey::Metadata, 4), &metadata).unwrap();
    assert_eq!(
        legacy,
        &b"\0\0\0\x11\0\x03\0\x04\x01\x02\x03\x04\0\x02me\xff\xff\xff\xff\x01"[..]
    );
    // The client id keeps its two-byte length in the flexible header; the message does not.
    let flexible = encode_request_contiguous(&header(ApiKey::Metadata, 12), &metadata).unwrap();
    assert_eq!(
        flexible,
        &b"\0\0\0\x11\0\x03\0\x0c\x01\x02\x03\x04\0\x02me\0\0\x01\0\0"[..]
    );
    let versions = Response::ApiVersions(ApiVersionsResponse {
        error_code: 35,
        api_keys: vec![ApiVersion {
            api_key: 18,
            min_version: 0,
            max_version: 4,
        }],
        ..ApiVersionsResponse::default()
    });
    let legacy = encode_response_contiguous(0, 7, &versions).unwrap();
    assert_eq!(
        legacy,
        &b"\0\0\0\x10\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04"[..]
    );
    // No tagged fields in the header of this one response, whatever its version.
    let flexible = encode_response_contiguous(3, 7, &versions).unwrap();
    assert_eq!(
        flexible,
        &b"\0\0\0\x13\0\0\0\x07\0\x23\x02\0\x12\0\0\0\x04\0\0\0\0\0\0"[..]
    );
    let records = RecordSet::from(Bytes::from_static(b"abc"));
    let fetch = encode_response_contiguous(12, 7, &fetch_response(records)).unwrap();
    let expected = [
        &b"\0\0\0\x3d\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x02\x02t\x02"[..],
        b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff\x04abc\0\0\0",
    ]
    .concat();
    assert_eq!(fetch, expected);
}

#[test]
fn records_are_neither_copied_when_sent_nor_when_read() {
    let pages = [vec![1; 4_096], vec![2; 10_000]].map(Bytes::from);
    let response = fetch_response(pages.iter().cloned().collect());
    let pieces = encode_response(12, 7, &response).unwrap();
    for page in &pages {
        assert!(pieces.iter().any(|piece| piece.as_ptr() == page.as_ptr()));
    }
    // What precedes the records, the two pages, what follows.
    assert_eq!(pieces.len(), 4);
    let frame: Bytes = pieces.concat().into();
    assert_eq!(frame, encode_response_contiguous(12, 7, &response).unwrap());
    let range = frame.as_ptr_range();
    let (_, decoded) = decode_response(ApiKey::Fetch, 12, frame.slice(FRAME_LEN_LEN..)).unwrap();
    assert_eq!(decoded, response);
    let Response::Fetch(fetch) = decoded else {
        panic!("a Fetch response");
    };
    let [chunk] = fetch.responses[0].partitions[0].records.chunks() else {
        panic!("one chunk");
    };
    assert!(range.contains(&chunk.as_ptr()));

    let partition = PartitionProduceData {
        index: 0,
        records: Some(pages[1].clone()),
    };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request = Request::Produce(ProduceRequest {
        topic_data: vec![topic],
        ..ProduceRequest::default()
    });
    let header = header(ApiKey::Produce, 9);
    let pieces = encode_request(&header, &request).unwrap();
    assert!(
        pieces
            .iter()
            .any(|piece| piece.as_ptr() == pages[1].as_ptr())
    );
    let frame: Bytes = pieces.concat().into();
    let range = frame.as_ptr_range();
    let (_, decoded) = decode_request(frame.slice(FRAME_LEN_LEN..)).unwrap();
    let Request::Produce(produce) = decoded else {
        panic!("a Produce request");
    };
    let records = produce.topic_data[0].partition_data[0].records.clone();
    assert!(range.contains(&records.unwrap().as_ptr()));
}

#[test]
fn no_records_are_sent_as_empty_and_never_as_null() {
    for version in 4..=18 {
        let response = fetch_response(RecordSet::default());
        let frame = encode_response_contiguous(version, 7, &response).unwrap();
        // Compact: one byte that says length 0; then the tagged fields of the partition, of the
        // topic and of the message.
        let end: &[u8] = if version >= 12 {
            &[1, 0, 0, 0]
        } else {
            &[0, 0, 0, 0]
        };
        assert!(frame.ends_with(end), "{version}: {frame:?}");
    }
}

#[test]
fn what_a_version_cannot_say_is_left_out_or_refused() {
    // The current leader epoch and the throttle time may be left out; a static member may not.
    let request = Request::Heartbeat(HeartbeatRequest {
        group_instance_id: Some("one".into()),
        ..HeartbeatRequest::default()
    });
    assert_eq!(
        encode_request(&header(ApiKey::Heartbeat, 2), &request),
        Err(EncodeError::Absent {
            field: "group_instance_id",
            version: 2
        })
    );
    assert!(encode_request(&header(ApiKey::Heartbeat, 3), &request).is_ok());
    let response = Response::FindCoordinator(FindCoordinatorResponse {
        throttle_time_ms: 5,
        ..FindCoordinatorResponse::default()
    });
    let frame = encode_response_contiguous(0, 7, &response).unwrap();
    let (_, decoded) =
        decode_response(ApiKey::FindCoordinator, 0, frame.slice(FRAME_LEN_LEN..)).unwrap();
    assert_eq!(decoded, FindCoordinatorResponse::default().into());
    let request = Request::Metadata(MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    });
    assert_eq!(
        encode_request(&header(ApiKey::Metadata, 0), &request),
        Err(EncodeError::Null {
            field: "topics",
            version: 0
        })
    );
    let request = Request::ListOffsets(ListOffsetsRequest::default());
    assert_eq!(
        encode_request(&header(ApiKey::ListOffsets, 11), &request),
        Err(EncodeError::Version(11))
    );
    let long = Request::Heartbeat(HeartbeatRequest {
        group_id: "g".repeat(32_768),
        ..HeartbeatRequest::default()
    });
    for version in [0, 4] {
        assert_eq!(
            encode_request(&header(ApiKey::Heartbeat, version), &long),
            Err(EncodeError::StringTooLong(32_768))
        );
    }
}

#[test]
fn the_apis_are_offered_as_clients_need_them() {
    assert!(SERVED.is_sorted_by_key(|range| range.api.key()));
    for range in SERVED {
        assert_eq!(ApiKey::from_key(range.api.key()), Some(range.api));
        assert_eq!(range.max, range.api.max_version());
        assert!(range.api.has_version(range.max) && !range.api.has_version(range.max + 1));
        assert!(!range.api.has_version(range.api.min_version() - 1));
    }
    let produce = ApiKey::Produce.served();
    assert_eq!((produce.min, produce.api.min_version()), (0, 3));
    assert_eq!(ApiKey::from_key(17), None);
    assert_eq!(
        ApiKey::ConsumerGroupHeartbeat.name(),
        "ConsumerGroupHeartbeat"
    );
}
