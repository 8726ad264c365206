//! Fuzz bodies: any input may give an error, none may panic, and what is accepted survives being
//! sent again. A fuzz target calls these; a short run of each is a test.

use bytes::Bytes;

use crate::api::{ApiKey, Request, Response};
use crate::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use crate::frame::{
    RequestHeader, correlation_id, decode_request, decode_response, encode_request,
    encode_request_contiguous, encode_response, encode_response_contiguous,
};
use crate::sample::Sampler;
use crate::writer::FRAME_LEN_LEN;

/// Any bytes as a request: the frame without its length.
///
/// # Panics
/// If a request that was accepted does not survive being sent again.
pub fn request(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Ok((header, request)) = decode_request(frame) {
        resend_request(&header, &request);
    }
}

/// Any bytes as a response: the position of the API among [`ApiKey::ALL`], the version above the
/// lowest, and the frame without its length.
///
/// # Panics
/// If a response that was accepted does not survive being sent again.
pub fn response(data: &[u8]) {
    let Some((api, version, frame)) = split_choice(data) else {
        return;
    };
    let frame = Bytes::copy_from_slice(frame);
    if let Ok((id, response)) = decode_response(api, version, frame.clone()) {
        assert_eq!(correlation_id(&frame), Ok(id));
        resend_response(version, id, &response);
    }
}

/// A valid request and response of the API and the version that the first two bytes choose, with
/// the content that the others choose.
///
/// # Panics
/// If one of them does not survive being sent.
pub fn sampled(data: &[u8]) {
    let Some((api, version, choices)) = split_choice(data) else {
        return;
    };
    let header = RequestHeader {
        api,
        version,
        correlation_id: 7,
        client_id: (choices.len() % 2 == 0).then(|| "client".to_owned()),
    };
    resend_request(&header, &sample_request(api, version, choices));
    resend_response(version, 7, &sample_response(api, version, choices));
}

/// Any bytes as the blobs of the consumer protocol.
///
/// # Panics
/// If a blob that was accepted does not survive being sent again.
pub fn consumer_protocol(data: &[u8]) {
    let blob = Bytes::copy_from_slice(data);
    if let Ok((version, subscription)) = ConsumerProtocolSubscription::decode(blob.clone())
        && let Ok(again) = subscription.encode(version)
    {
        let again = ConsumerProtocolSubscription::decode(again);
        assert_eq!(again, Ok((version, subscription)));
    }
    if let Ok((version, assignment)) = ConsumerProtocolAssignment::decode(blob)
        && let Ok(again) = assignment.encode(version)
    {
        let again = ConsumerProtocolAssignment::decode(again);
        assert_eq!(again, Ok((version, assignment)));
    }
}

/// A request with the content that `choices` choose, which `version` can express.
#[must_use]
pub fn sample_request(api: ApiKey, version: i16, choices: &[u8]) -> Request {
    Request::sample(api, &mut Sampler::new(choices, version))
}

/// A response with the content that `choices` choose, which `version` can express.
#[must_use]
pub fn sample_response(api: ApiKey, version: i16, choices: &[u8]) -> Response {
    Response::sample(api, &mut Sampler::new(choices, version))
}

fn split_choice(data: &[u8]) -> Option<(ApiKey, i16, &[u8])> {
    let (&[api, version], rest) = data.split_first_chunk()?;
    let api = *ApiKey::ALL.get(usize::from(api))?;
    let version = api.min_version() + i16::from(version);
    api.has_version(version).then_some((api, version, rest))
}

fn resend_request(header: &RequestHeader, request: &Request) {
    let frame = encode_request_contiguous(header, request).expect("its version can express it");
    let pieces = encode_request(header, request).expect("its version can express it");
    assert_eq!(pieces.concat(), frame);
    let (header_again, again) =
        decode_request(without_len(frame)).expect("what was encoded can be decoded");
    assert_eq!(header_again, *header);
    assert_eq!(again, *request);
}

fn resend_response(version: i16, id: i32, response: &Response) {
    let frame =
        encode_response_contiguous(version, id, response).expect("its version can express it");
    let pieces = encode_response(version, id, response).expect("its version can express it");
    assert_eq!(pieces.concat(), frame);
    let again = decode_response(response.api(), version, without_len(frame));
    assert_eq!(again.as_ref(), Ok(&(id, response.clone())));
}

fn without_len(mut frame: Bytes) -> Bytes {
    let len: [u8; FRAME_LEN_LEN] = frame.split_to(FRAME_LEN_LEN)[..]
        .try_into()
        .expect("a frame has its length in front");
    assert_eq!(u32::from_be_bytes(len) as usize, frame.len());
    frame
}
