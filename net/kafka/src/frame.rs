//! Whole frames: a header and the message after it.
//!
//! A frame on a connection is its length in four bytes and then that many bytes. What is decoded
//! here is a frame without that length, what is encoded has it.

use bytes::Bytes;

use crate::api::{ApiKey, Request, Response};
use crate::field::Field;
use crate::reader::{DecodeError, Fault, Reader};
use crate::writer::{EncodeError, FRAME_LEN_LEN, Writer};

/// What precedes every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API of the request.
    pub api: ApiKey,
    /// The version that the request is in and that the response shall be in.
    pub version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<String>,
}

/// Why a frame is no request. It keeps what could be read of the header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The frame ends before the key, the version and the correlation id are whole.
    #[error("no request header: {0}")]
    Header(DecodeError),
    /// The API is unknown.
    #[error("an API of key {key} (version {version}) is not offered")]
    UnknownApi {
        /// Key of the API.
        key: i16,
        /// Version of the request.
        version: i16,
        /// What a response would repeat.
        correlation_id: i32,
    },
    /// The API is known, the version is not. A request of ApiVersions is answered all the same:
    /// in version 0, with the error and the versions that there are.
    #[error("version {version} of {name} is not offered", name = api.name())]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// Version of the request.
        version: i16,
        /// What a response repeats.
        correlation_id: i32,
    },
    /// The rest of the header or the message is malformed.
    #[error("a malformed {name} request of version {version}: {fault}", name = api.name())]
    Malformed {
        /// The API.
        api: ApiKey,
        /// Version of the request.
        version: i16,
        /// What a response would repeat.
        correlation_id: i32,
        /// What is wrong, and where in the frame.
        fault: DecodeError,
    },
}

/// The request in a frame, which is given without its length.
///
/// Records and other byte fields are slices of `frame`, not copies.
///
/// # Errors
/// See [`RequestError`].
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let mut r = Reader::new(frame, 0, false);
    let fixed = |r: &mut Reader| Ok((i16::read(r)?, i16::read(r)?, i32::read(r)?));
    let (key, version, correlation_id) = fixed(&mut r).map_err(RequestError::Header)?;
    let Some(api) = ApiKey::from_key(key) else {
        return Err(RequestError::UnknownApi {
            key,
            version,
            correlation_id,
        });
    };
    if !api.has_version(version) {
        return Err(RequestError::UnsupportedVersion {
            api,
            version,
            correlation_id,
        });
    }
    let rest = |mut r: Reader| {
        // The client id keeps its legacy form in the flexible header.
        let client_id = Field::read(&mut r)?;
        r.version = version;
        r.flexible = api.is_flexible(version);
        if r.flexible {
            r.skip_tagged_fields()?;
        }
        Ok((client_id, Request::read(api, r)?))
    };
    let (client_id, request) = rest(r).map_err(|fault| RequestError::Malformed {
        api,
        version,
        correlation_id,
        fault,
    })?;
    let header = RequestHeader {
        api,
        version,
        correlation_id,
        client_id,
    };
    Ok((header, request))
}

/// The frame of a request, with its length, in pieces for a vectored write: long byte fields are
/// referred to, not copied.
///
/// # Errors
/// See [`EncodeError`].
///
/// # Panics
/// If the request is not of the API that the header names.
pub fn encode_request(
    header: &RequestHeader,
    request: &Request,
) -> Result<Vec<Bytes>, EncodeError> {
    let w = Writer::rope(header.version, false);
    write_request(w, header, request)?.finish_frame()
}

/// The frame of a request as [`encode_request`] makes it, in one piece.
///
/// # Errors
/// See [`EncodeError`].
///
/// # Panics
/// If the request is not of the API that the header names.
pub fn encode_request_contiguous(
    header: &RequestHeader,
    request: &Request,
) -> Result<Bytes, EncodeError> {
    let w = Writer::contiguous(header.version, false);
    one_piece(write_request(w, header, request)?.finish_frame()?)
}

fn write_request(
    mut w: Writer,
    header: &RequestHeader,
    request: &Request,
) -> Result<Writer, EncodeError> {
    let RequestHeader { api, version, .. } = *header;
    assert_eq!(request.api(), api, "a request of the API in its header");
    if !api.has_version(version) {
        return Err(EncodeError::Version(version));
    }
    w.put(&[0; FRAME_LEN_LEN]);
    api.key().write(&mut w)?;
    version.write(&mut w)?;
    header.correlation_id.write(&mut w)?;
    header.client_id.write(&mut w)?;
    w.flexible = api.is_flexible(version);
    if w.flexible {
        w.put_uvarint(0);
    }
    request.write(&mut w)?;
    Ok(w)
}

/// The frame of a response, with its length, in pieces for a vectored write: records and other
/// long byte fields are referred to, not copied.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Vec<Bytes>, EncodeError> {
    let w = Writer::rope(version, false);
    write_response(w, correlation_id, response)?.finish_frame()
}

/// The frame of a response as [`encode_response`] makes it, in one piece.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode_response_contiguous(
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Bytes, EncodeError> {
    let w = Writer::contiguous(version, false);
    one_piece(write_response(w, correlation_id, response)?.finish_frame()?)
}

fn write_response(
    mut w: Writer,
    correlation_id: i32,
    response: &Response,
) -> Result<Writer, EncodeError> {
    let (api, version) = (response.api(), w.version);
    if !api.has_version(version) {
        return Err(EncodeError::Version(version));
    }
    w.put(&[0; FRAME_LEN_LEN]);
    correlation_id.write(&mut w)?;
    if api.response_header_is_flexible(version) {
        w.put_uvarint(0);
    }
    w.flexible = api.is_flexible(version);
    response.write(&mut w)?;
    Ok(w)
}

fn one_piece(mut pieces: Vec<Bytes>) -> Result<Bytes, EncodeError> {
    debug_assert_eq!(pieces.len(), 1, "all was copied into one piece");
    Ok(pieces.pop().unwrap_or_default())
}

/// The correlation id of a frame that is a response, which says what request it answers and with
/// that the API and the version of [`decode_response`]. The frame is given without its length.
///
/// # Errors
/// [`DecodeError`] when the frame ends before.
pub fn correlation_id(frame: &Bytes) -> Result<i32, DecodeError> {
    i32::read(&mut Reader::new(frame.clone(), 0, false))
}

/// The correlation id and the response in a frame, which is given without its length. `api` and
/// `version` are those of the request that it answers.
///
/// Records and other byte fields are slices of `frame`, not copies.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_response(
    api: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<(i32, Response), DecodeError> {
    let mut r = Reader::new(frame, version, api.is_flexible(version));
    if !api.has_version(version) {
        return Err(r.fault(Fault::Version(version)));
    }
    let correlation_id = i32::read(&mut r)?;
    if api.response_header_is_flexible(version) {
        r.skip_tagged_fields()?;
    }
    Ok((correlation_id, Response::read(api, r)?))
}
