//! Frames that are not what they should be: a typed error or a message, no panic, and no more
//! memory than a frame of that length may take.
//!
//! A file of its own, for the allocator that counts is the whole process's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{BufMut, Bytes};
use millrace_kafka::fuzz::{self, sample_request, sample_response};
use millrace_kafka::{
    ApiKey, FRAME_LEN_LEN, FREE_MEMORY, Fault, MAX_MEMORY_PER_BYTE, Request, RequestError,
    RequestHeader, decode_request, decode_response, encode_request_contiguous,
    encode_response_contiguous,
};

thread_local! {
    /// Bytes that this thread has asked for, in all.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count beside it is a
// thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` gives. No matter what it is given, it may allocate what a frame of `len` bytes may.
fn bounded<T>(len: usize, work: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.with(Cell::get);
    let result = work();
    let allocated = ALLOCATED.with(Cell::get) - before;
    assert!(
        allocated <= FREE_MEMORY + MAX_MEMORY_PER_BYTE * len,
        "{allocated} bytes for a frame of {len}"
    );
    result
}

fn header(api: ApiKey, version: i16) -> RequestHeader {
    RequestHeader {
        api,
        version,
        correlation_id: 7,
        client_id: Some("me".into()),
    }
}

/// One filled request and one filled response of each API in each version, without their lengths.
fn frames() -> Vec<(ApiKey, i16, Bytes, Bytes)> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut frames = Vec::new();
    for &api in ApiKey::ALL {
        for version in api.min_version()..=api.max_version() {
            let choices: Vec<u8> = (0..200).map(|_| random.u8(..)).collect();
            let request = sample_request(api, version, &choices);
            let request = encode_request_contiguous(&header(api, version), &request).unwrap();
            let response = sample_response(api, version, &choices);
            let response = encode_response_contiguous(version, 7, &response).unwrap();
            frames.push((
                api,
                version,
                request.slice(FRAME_LEN_LEN..),
                response.slice(FRAME_LEN_LEN..),
            ));
        }
    }
    frames
}

#[test]
fn every_truncation_is_an_error() {
    for (api, version, request, response) in frames() {
        for len in 0..request.len() {
            let error = bounded(len, || decode_request(request.slice(..len))).unwrap_err();
            assert_eq!(matches!(error, RequestError::Header(_)), len < 8);
        }
        for len in 0..response.len() {
            let cut = response.slice(..len);
            assert!(bounded(len, || decode_response(api, version, cut)).is_err());
        }
    }
}

#[test]
fn what_follows_a_request_is_passed_over_and_what_follows_a_response_is_an_error() {
    for (api, version, request, response) in frames() {
        let trailing = |frame: &Bytes| Bytes::from([frame, &[0][..]].concat());
        assert_eq!(decode_request(trailing(&request)), decode_request(request));
        let error = decode_response(api, version, trailing(&response)).unwrap_err();
        assert_eq!(error.fault, Fault::Trailing(1));
    }
}

#[test]
fn librdkafka_asks_for_all_topics_with_three_bytes_too_many() {
    let frame = [
        &[0, 3, 0, 13, 0, 0, 0, 3, 0, 7][..],
        b"rdkafka",
        &[0],
        &[0, 0, 0, 0, 1, 0, 0],
    ]
    .concat();
    let (_, request) = decode_request(frame.into()).unwrap();
    let Request::Metadata(request) = request else {
        panic!("{request:?}");
    };
    assert_eq!(request.topics, None);
}

/// What may stand for a count or a length in either form.
const LENGTHS: [&[u8]; 9] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x80, 0, 0, 0],
    &[0, 0x0f, 0x42, 0x40],
    &[0x7f, 0xff],
    &[0xff, 0xfe],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xc0, 0x84, 0x3d],
];

#[test]
fn a_length_anywhere_reserves_no_more_than_the_frame_bears_out() {
    for (api, version, request, response) in frames() {
        for len in LENGTHS {
            for at in 8..request.len() {
                let frame = overwritten(&request, at, len);
                let _ = bounded(frame.len(), || decode_request(frame.clone()));
            }
            for at in 4..response.len() {
                let frame = overwritten(&response, at, len);
                let _ = bounded(frame.len(), || decode_response(api, version, frame.clone()));
            }
        }
    }
}

/// `bytes` in place of what stands there, and enough after them that a count seems plausible.
fn overwritten(frame: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    [&frame[..at], bytes, &frame[at..], &[0; 64]]
        .concat()
        .into()
}

/// A Metadata request: key 3, a correlation id, no client id.
fn metadata(version: i16, topics: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.put_i16(3);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    if version >= 9 {
        frame.put_u8(0);
    }
    frame.put_slice(topics);
    frame.into()
}

fn fault_of(frame: &Bytes) -> Fault {
    match bounded(frame.len(), || decode_request(frame.clone())).unwrap_err() {
        RequestError::Malformed { fault, .. } => fault.fault,
        other => panic!("{other}"),
    }
}

#[test]
fn lengths_that_cannot_be_are_typed_errors() {
    let cases: [(i16, &[u8], Fault); 9] = [
        (1, &[0xff, 0xff, 0xff, 0xfe], Fault::NegativeLength(-2)),
        (0, &[0xff, 0xff, 0xff, 0xff], Fault::Null),
        (1, &[0, 0, 0, 1, 0xff, 0xfe], Fault::NegativeLength(-2)),
        (1, &[0, 0, 0, 1, 0xff, 0xff], Fault::Null),
        (1, &[0, 0, 0, 1, 0, 2, 0xc3, 0x28], Fault::NotUtf8),
        (1, &[0, 0x0f, 0x42, 0x41], Fault::ArrayTooLong(1_000_001)),
        (
            1,
            &[0, 0x0f, 0x42, 0x40, 0, 0],
            Fault::Truncated {
                needed: 2_000_000,
                left: 2,
            },
        ),
        (9, &[0x80, 0x80, 0x80, 0x80, 0x10], Fault::VarInt),
        (
            9,
            &[2, 0x82, 0x80, 0x02, 0, 0, 0, 0],
            Fault::StringTooLong(32_769),
        ),
    ];
    for (version, topics, expected) in cases {
        assert_eq!(fault_of(&metadata(version, topics)), expected);
    }
}

#[test]
fn tagged_fields_are_bounded_and_unknown_ones_are_passed_over() {
    // No topics, three booleans, then the tagged fields.
    let tagged = |tagged: &[u8]| metadata(9, &[&[1, 1, 0, 0], tagged].concat());
    let plain = decode_request(tagged(&[0])).unwrap();
    // Two of them, one empty and one of three bytes, of tags that nobody knows.
    let unknown = decode_request(tagged(&[2, 5, 0, 0x80, 1, 3, 1, 2, 3])).unwrap();
    assert_eq!(plain, unknown);
    assert_eq!(
        fault_of(&tagged(&[0x91, 0x4e])),
        Fault::TooManyTaggedFields(10_001)
    );
    assert_eq!(
        fault_of(&tagged(&[0x90, 0x4e, 0])),
        Fault::Truncated {
            needed: 20_000,
            left: 1
        }
    );
    assert_eq!(
        fault_of(&tagged(&[1, 5, 9, 0])),
        Fault::Truncated { needed: 9, left: 1 }
    );
    // The most there may be.
    let most = [vec![0x90, 0x4e], [5, 0].repeat(10_000)].concat();
    assert_eq!(decode_request(tagged(&most)).unwrap(), plain);
}

#[test]
fn a_known_tagged_field_has_the_length_that_it_says() {
    let mut frame = Vec::new();
    frame.put_slice(&[0, 1, 0, 12, 0, 0, 0, 7, 0xff, 0xff, 0]);
    frame.put_slice(&[0; 4 * 4 + 1 + 4 + 4]);
    // No topics, none forgotten, no rack; the cluster id is "abc" and says that it has 5 bytes.
    frame.put_slice(&[1, 1, 1, 1, 0, 5, 4, b'a', b'b', b'c', 0]);
    assert_eq!(
        fault_of(&frame.clone().into()),
        Fault::TaggedFieldLength { said: 5, found: 4 }
    );
    let at = frame.len() - 6;
    frame[at] = 4;
    frame.pop();
    decode_request(frame.into()).unwrap();
}

#[test]
fn a_frame_full_of_short_strings_is_refused_before_it_takes_the_memory() {
    // A million names of no byte: 2 bytes each there, 24 and more each here.
    let mut topics = 1_000_000_i32.to_be_bytes().to_vec();
    topics.resize(4 + 2_000_000, 0);
    assert_eq!(fault_of(&metadata(0, &topics)), Fault::Memory);
    // As many as a busy client asks for are no matter.
    let mut topics = 10_000_i32.to_be_bytes().to_vec();
    topics.resize(4 + 20_000, 0);
    decode_request(metadata(0, &topics)).unwrap();
}

#[test]
fn the_header_is_kept_as_far_as_it_could_be_read() {
    let frame = |key: i16, version: i16| {
        let mut frame = metadata(version, &[]).to_vec();
        frame[..2].copy_from_slice(&key.to_be_bytes());
        Bytes::from(frame)
    };
    assert_eq!(
        decode_request(frame(18, 5)),
        Err(RequestError::UnsupportedVersion {
            api: ApiKey::ApiVersions,
            version: 5,
            correlation_id: 7
        })
    );
    assert_eq!(
        decode_request(frame(0, 2)),
        Err(RequestError::UnsupportedVersion {
            api: ApiKey::Produce,
            version: 2,
            correlation_id: 7
        })
    );
    assert_eq!(
        decode_request(frame(17, 0)),
        Err(RequestError::UnknownApi {
            key: 17,
            version: 0,
            correlation_id: 7
        })
    );
    let error = decode_request(frame(3, 1)).unwrap_err();
    assert!(matches!(
        error,
        RequestError::Malformed {
            api: ApiKey::Metadata,
            version: 1,
            correlation_id: 7,
            ..
        }
    ));
}

#[test]
fn a_short_run_of_each_fuzz_body() {
    let mut random = fastrand::Rng::with_seed(3);
    let frames = frames();
    for _ in 0..10_000 {
        let (api, version, request, response) = &frames[random.usize(..frames.len())];
        let at = ApiKey::ALL.iter().position(|other| other == api).unwrap();
        let choice = [
            u8::try_from(at).unwrap(),
            u8::try_from(version - api.min_version()).unwrap(),
        ];
        let mut request = request.to_vec();
        let mut response = [&choice, &response[..]].concat();
        for data in [&mut request, &mut response] {
            for _ in 0..random.usize(..4) {
                let at = random.usize(..data.len());
                data[at] = random.u8(..);
            }
        }
        fuzz::request(&request);
        fuzz::response(&response);
        fuzz::sampled(&response);
        fuzz::consumer_protocol(&response[2..]);
    }
}
