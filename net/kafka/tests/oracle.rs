//! Every message in every version against another implementation of the protocol: the same bytes,
//! and the same values under the same names.
//!
//! The messages are sampled here, encoded here, decoded there, encoded there and decoded here. Names
//! and values are compared in the text that `Debug` gives, which both derive.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

use bytes::BytesMut;
use kafka_protocol::messages::{RequestHeader as TheirHeader, RequestKind, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};
use millrace_kafka::fuzz::{sample_request, sample_response};
use millrace_kafka::{
    ApiKey, CONSUMER_PROTOCOL_MAX_VERSION, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, ConsumerProtocolTopicPartition, FRAME_LEN_LEN, RequestHeader,
    Response, decode_request, decode_response, encode_request_contiguous,
    encode_response_contiguous,
};

/// Messages of each API in each version.
const SAMPLES: usize = 40;

/// Fields of later versions than those served, which only they know.
const LATER: [&str; 4] = [
    "enable_2_pc",
    "keep_prepared_txn",
    "ongoing_txn_producer_id",
    "ongoing_txn_producer_epoch",
];

fn theirs(api: ApiKey) -> kafka_protocol::messages::ApiKey {
    kafka_protocol::messages::ApiKey::try_from(api.key()).unwrap()
}

fn each_version(mut check: impl FnMut(ApiKey, i16, &[u8])) {
    let mut random = fastrand::Rng::with_seed(11);
    for &api in ApiKey::ALL {
        for version in api.min_version()..=api.max_version() {
            for sample in 0..SAMPLES {
                // The first has no choice: all is empty or default.
                let mut choices = vec![0; sample * 20];
                random.fill(&mut choices);
                check(api, version, &choices);
            }
        }
    }
}

#[test]
fn requests() {
    each_version(|api, version, choices| {
        let request = sample_request(api, version, choices);
        let header = RequestHeader {
            api,
            version,
            correlation_id: 0x0102_0304,
            client_id: (choices.len() % 40 == 0).then(|| "rdkafka".to_owned()),
        };
        let frame = encode_request_contiguous(&header, &request).unwrap();
        let mut left = frame.slice(FRAME_LEN_LEN..);
        let header_version = theirs(api).request_header_version(version);
        let their_header = TheirHeader::decode(&mut left, header_version).unwrap();
        assert_eq!(
            their_header.client_id.as_deref(),
            header.client_id.as_deref(),
            "{api:?} {version}"
        );
        let their = RequestKind::decode(theirs(api), &mut left, version)
            .unwrap_or_else(|error| panic!("{error} in {request:?} of version {version}"));
        assert!(left.is_empty(), "{left:?} is left of {request:?} {version}");
        assert_eq!(
            plain(&format!("{request:?}")),
            plain(&format!("{their:?}")),
            "{api:?} {version}"
        );
        let mut again = BytesMut::new();
        their_header.encode(&mut again, header_version).unwrap();
        their.encode(&mut again, version).unwrap();
        assert_eq!(
            again,
            frame[FRAME_LEN_LEN..],
            "{request:?} of version {version}"
        );
        assert_eq!(decode_request(again.freeze()).unwrap(), (header, request));
    });
}

#[test]
fn responses() {
    each_version(|api, version, choices| {
        let response = sample_response(api, version, choices);
        let frame = encode_response_contiguous(version, 0x0102_0304, &response).unwrap();
        let mut left = frame.slice(FRAME_LEN_LEN..);
        let header_version = theirs(api).response_header_version(version);
        let their_header =
            kafka_protocol::messages::ResponseHeader::decode(&mut left, header_version).unwrap();
        assert_eq!(their_header.correlation_id, 0x0102_0304);
        let their = ResponseKind::decode(theirs(api), &mut left, version)
            .unwrap_or_else(|error| panic!("{error} in {response:?} of version {version}"));
        assert!(
            left.is_empty(),
            "{left:?} is left of {response:?} {version}"
        );
        assert_eq!(
            plain(&format!("{response:?}")),
            plain(&format!("{their:?}")),
            "{api:?} {version}"
        );
        let mut again = BytesMut::new();
        their_header.encode(&mut again, header_version).unwrap();
        their.encode(&mut again, version).unwrap();
        assert_eq!(
            again,
            frame[FRAME_LEN_LEN..],
            "{response:?} of version {version}"
        );
        let decoded = decode_response(api, version, again.freeze());
        assert_eq!(decoded, Ok((0x0102_0304, response)));
    });
}

#[test]
fn null_records_are_read_as_none_at_all() {
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    let mut partition = PartitionData::default();
    partition.records = None;
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    let their = kafka_protocol::messages::FetchResponse::default().with_responses(vec![topic]);
    for version in 4..=17 {
        let mut frame = BytesMut::from(&[0; 4][..]);
        if version >= 12 {
            frame.extend_from_slice(&[0]);
        }
        their.encode(&mut frame, version).unwrap();
        let (_, Response::Fetch(ours)) =
            decode_response(ApiKey::Fetch, version, frame.freeze()).unwrap()
        else {
            panic!("a Fetch response");
        };
        assert!(ours.responses[0].partitions[0].records.is_empty());
    }
}

#[test]
fn the_blobs_of_the_consumer_protocol() {
    use kafka_protocol::messages as their;
    let partitions = vec![ConsumerProtocolTopicPartition {
        topic: "orders".into(),
        partitions: vec![0, 7],
    }];
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["orders".into(), "payments".into()],
        owned_partitions: partitions.clone(),
        generation_id: 5,
        rack_id: Some("a".into()),
        ..ConsumerProtocolSubscription::default()
    };
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: partitions,
        user_data: Some("u".into()),
    };
    for version in 0..=CONSUMER_PROTOCOL_MAX_VERSION {
        let blob = subscription.encode(version).unwrap();
        let their = their::ConsumerProtocolSubscription::decode(&mut blob.slice(2..), version);
        let their = their.unwrap();
        let (said, ours) = ConsumerProtocolSubscription::decode(blob.clone()).unwrap();
        assert_eq!(said, version);
        assert_eq!(plain(&format!("{ours:?}")), plain(&format!("{their:?}")));
        let mut again = BytesMut::from(&version.to_be_bytes()[..]);
        their.encode(&mut again, version).unwrap();
        assert_eq!(again, blob);

        let blob = assignment.encode(version).unwrap();
        let their = their::ConsumerProtocolAssignment::decode(&mut blob.slice(2..), version);
        let their = their.unwrap();
        let (_, ours) = ConsumerProtocolAssignment::decode(blob.clone()).unwrap();
        assert_eq!(plain(&format!("{ours:?}")), plain(&format!("{their:?}")));
        let mut again = BytesMut::from(&version.to_be_bytes()[..]);
        their.encode(&mut again, version).unwrap();
        assert_eq!(again, blob);
    }
}

/// The text of `Debug` without what differs between the two by design: names of structures, the
/// dashes of a UUID, tagged fields that nobody knows, records (whose bytes are compared), and what
/// belongs to later versions: topic ids that are zero, and [`LATER`].
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut left = text;
    while let Some(first) = left.chars().next() {
        let token = token_len(left, first);
        let (word, rest) = left.split_at(token);
        left = rest;
        if rest.starts_with(" {") {
            continue;
        }
        if word.len() == 36 && word.matches('-').count() == 4 {
            plain += &word.replace('-', "");
        } else if word == "TopicId" {
            plain += &rest[1..33];
            left = &rest[34..];
        } else if word == "unknown_tagged_fields" {
            left = rest.strip_prefix(": {}").unwrap();
        } else if word == "topic_id" && is_nil(rest) {
            left = rest.trim_start_matches(|c| c != ',' && c != '}');
            left = left.strip_prefix(", ").unwrap_or(left);
        } else if word == "records" || LATER.contains(&word) {
            let value = rest.strip_prefix(": ").unwrap();
            left = &value[value_len(value)..];
        } else {
            if word == "}" {
                plain.truncate(plain.trim_end_matches([',', ' ']).len());
            }
            plain += word;
        }
    }
    plain
}

fn is_nil(text: &str) -> bool {
    text.starts_with(": 00000000-0000-0000-0000-000000000000")
        || text.starts_with(": TopicId(00000000000000000000000000000000)")
}

fn token_len(text: &str, first: char) -> usize {
    if first == '"' {
        return literal_len(text);
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.find(|c| !is_word(c))
        .filter(|&len| len > 0)
        .unwrap_or(first.len_utf8())
}

fn literal_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    panic!("a literal without end");
}

/// The length of a value that may be in parentheses, up to the comma or the brace after it.
fn value_len(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => {
                at += literal_len(&text[at..]);
                continue;
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' | ' ' | '}' if depth == 0 => break,
            _ => {}
        }
        at += c.len_utf8();
    }
    at
}

#[test]
fn the_text_is_made_plain() {
    let ours = r#"Fetch(A { id: TopicId(000102030405060708090a0b0c0d0e0f), b: [B { c: "x, \" y {" }], records: RecordSet(3 bytes) })"#;
    let their = r#"Fetch(A { id: 00010203-0405-0607-0809-0a0b0c0d0e0f, b: [C { c: "x, \" y {", unknown_tagged_fields: {} }], records: Some(b"abc"), unknown_tagged_fields: {} })"#;
    assert_eq!(plain(ours), plain(their));
}
