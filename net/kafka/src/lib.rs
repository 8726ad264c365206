//! The messages of the Kafka protocol as bytes: requests and responses of every API that Millrace
//! serves, in every version that it serves, both ways.
//!
//! This crate is pure: it opens nothing, awaits nothing and reads no clock.

mod api;
mod consumer_protocol;
mod field;
mod frame;
mod messages;
mod reader;
mod record_set;
mod table;
mod writer;

pub use api::{ApiKey, ApiVersionRange, Request, Response, SERVED};
pub use consumer_protocol::{
    CONSUMER_PROTOCOL_MAX_VERSION, CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, ConsumerProtocolTopicPartition,
};
pub use frame::{
    RequestError, RequestHeader, correlation_id, decode_request, decode_response, encode_request,
    encode_request_contiguous, encode_response, encode_response_contiguous,
};
pub use messages::*;
pub use reader::{DecodeError, Fault, MAX_ARRAY_LEN, MAX_STRING_LEN, MAX_TAGGED_FIELDS};
pub use record_set::RecordSet;
pub use writer::{EncodeError, FRAME_LEN_LEN, MAX_COPIED_LEN};
