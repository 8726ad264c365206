//! Messages of the Kafka protocol: every API in every version, filled.

use fastrand::Rng;
use millrace_kafka::fuzz::{self, sample_request, sample_response};
use millrace_kafka::{
    ApiKey, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartition, FRAME_LEN_LEN, RequestHeader, encode_request_contiguous,
    encode_response_contiguous,
};

use super::super::Target;

/// Messages of each API in each version, each with more in it than the one before.
const SAMPLES: usize = 4;

/// The targets of `millrace-kafka`.
pub(super) fn targets() -> Vec<Target> {
    vec![
        Target::new("kafka::request", fuzz::request, requests()),
        Target::new("kafka::response", fuzz::response, responses()),
        Target::new("kafka::sampled", fuzz::sampled, choices()),
        Target::new(
            "kafka::consumer_protocol",
            fuzz::consumer_protocol,
            consumer_protocol(),
        ),
    ]
}

/// Each API and version with the bytes that choose the content of its messages, in front of them
/// the two that choose it.
fn samples() -> Vec<(ApiKey, i16, Vec<u8>)> {
    let mut rng = Rng::with_seed(1);
    let mut samples = Vec::new();
    for (position, &api) in (0..).zip(ApiKey::ALL) {
        for (step, version) in (0..).zip(api.min_version()..=api.max_version()) {
            for sample in 0..SAMPLES {
                let mut choices = vec![0; 2 + sample * 60];
                rng.fill(&mut choices);
                choices[..2].copy_from_slice(&[position, step]);
                samples.push((api, version, choices));
            }
        }
    }
    samples
}

fn choices() -> Vec<Vec<u8>> {
    samples()
        .into_iter()
        .map(|(_, _, choices)| choices)
        .collect()
}

fn requests() -> Vec<Vec<u8>> {
    let frame = |(api, version, choices): (_, _, Vec<u8>)| {
        let header = RequestHeader {
            api,
            version,
            correlation_id: 7,
            client_id: Some("client".into()),
        };
        let request = sample_request(api, version, &choices[2..]);
        encode_request_contiguous(&header, &request).expect("its version can express it")
            [FRAME_LEN_LEN..]
            .to_vec()
    };
    samples().into_iter().map(frame).collect()
}

fn responses() -> Vec<Vec<u8>> {
    let frame = |(api, version, choices): (_, _, Vec<u8>)| {
        let response = sample_response(api, version, &choices[2..]);
        let frame =
            encode_response_contiguous(version, 7, &response).expect("its version can express it");
        [&choices[..2], &frame[FRAME_LEN_LEN..]].concat()
    };
    samples().into_iter().map(frame).collect()
}

fn consumer_protocol() -> Vec<Vec<u8>> {
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
    (0..=3)
        .flat_map(|version| [subscription.encode(version), assignment.encode(version)])
        .map(|blob| blob.expect("a small blob").to_vec())
        .collect()
}
