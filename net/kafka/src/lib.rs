//! The messages of the Kafka protocol as bytes: requests and responses of every API that Millrace
//! serves, in every version that it serves, both ways: a broker decodes requests and encodes
//! responses, a client the other way round.
//!
//! This crate is pure: it opens nothing, awaits nothing and reads no clock. It knows the form of
//! the messages and nothing of what they mean; record batches are bytes to it.
//!
//! # How to read it
//! The messages are tables in `messages/`, in the words and the order of Kafka's schemas:
//!
//! ```text
//! FetchTopic {
//!     topic: String [4..=12, else omitted],
//!     topic_id: TopicId [13.., else omitted],
//!     partitions: Vec<FetchPartition>,
//! }
//! ```
//!
//! A field is its name, its type, in brackets the versions that have it (none: all that are
//! served), and its default. `table.rs` says what else may stand in the brackets, and turns a table
//! into structures that are read and written; the brackets of a public field are its documentation
//! here. `field.rs` has the forms of the types, `reader.rs` and `writer.rs` the primitive forms
//! beneath, `api.rs` the table of the APIs and their versions, `frame.rs` the headers.
//!
//! # What holds
//! - **What a frame claims is checked before it is believed.** A count or a length never passes the
//!   bytes that remain nor its cap, and a message takes no more memory than [`FREE_MEMORY`] and
//!   [`MAX_MEMORY_PER_BYTE`] times the length of its frame. A frame's own length is for who reads
//!   it off a socket to bound.
//! - **Records are not copied.** What is decoded refers to the frame, what is encoded refers to the
//!   [`RecordSet`] that it was given.
//! - **A value is never lost silently.** What a version has no place for is an [`EncodeError`],
//!   unless the schema says that the field may be left out.
//! - **Records in a response are never null**, for there are clients that take that for a broken
//!   frame.

mod api;
mod consumer_protocol;
mod field;
mod frame;
pub mod fuzz;
mod messages;
mod reader;
mod record_set;
mod sample;
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
pub use reader::{
    DecodeError, FREE_MEMORY, Fault, MAX_ARRAY_LEN, MAX_MEMORY_PER_BYTE, MAX_STRING_LEN,
    MAX_TAGGED_FIELDS,
};
pub use record_set::RecordSet;
pub use writer::{EncodeError, FRAME_LEN_LEN, MAX_COPIED_LEN};
