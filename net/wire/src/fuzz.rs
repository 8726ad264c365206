//! Fuzz bodies: any input may give an error, none may panic, and what is accepted holds
//! what the readers promise. A fuzz target calls these; a short run of each is a test.

use bytes::Bytes;

use crate::{
    ACK_LEN, AckReader, ChunkQueue, ConsumeOpen, ConsumeOpened, FollowerRecord, FrameReader,
    LeaderRecord, Message, MessageReader, PREFACE_LEN, Preface, ProduceOpen, ProduceOpened,
    QuorumOpen, QuorumReader, Record, RecordReader, ReplicaOpen, ReplicaOpened, Request, Response,
    StreamKind, decode, encode, put_quorum_message,
};

/// A bound on frames that lets the fuzzer reach both sides of it.
const MAX_FRAME_LEN: usize = 4096;

/// Any bytes as a whole message of each type.
///
/// # Panics
/// If a message that was accepted does not survive being sent again.
pub fn messages(data: &[u8]) {
    message::<Request>(data);
    message::<Response>(data);
    message::<ProduceOpen>(data);
    message::<ProduceOpened>(data);
    message::<ConsumeOpen>(data);
    message::<ConsumeOpened>(data);
    message::<ReplicaOpen>(data);
    message::<ReplicaOpened>(data);
    message::<QuorumOpen>(data);
}

fn message<M: Message + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(message) = M::from_archive(data) {
        let bytes = encode(StreamKind::Control, &message).expect("it came in fewer bytes");
        let (_, again) = decode::<M>(&bytes).expect("what was encoded can be decoded");
        assert_eq!(again, message);
    }
}

/// Any bytes as a stream that opens with a message, in pieces of any size.
///
/// # Panics
/// If a reader fed in pieces differs from one fed at once.
pub fn opening(data: &[u8]) {
    let whole = read_opening(data, data.len().max(1));
    let piece = data.first().map_or(1, |&byte| usize::from(byte % 32) + 1);
    assert_eq!(read_opening(data, piece), whole);
    if let Some(preface) = data.first_chunk::<PREFACE_LEN>()
        && let Ok(preface) = Preface::from_bytes(preface)
    {
        assert_eq!(Preface::from_bytes(&preface.to_bytes()), Ok(preface));
    }
}

fn read_opening(data: &[u8], piece: usize) -> Option<Request> {
    let mut reader = MessageReader::default();
    for chunk in data.chunks(piece) {
        reader.push(Bytes::copy_from_slice(chunk));
        match reader.message() {
            Ok(None) => {}
            Ok(Some(request)) => return Some(request),
            Err(error) => {
                let _ = error.code();
                return None;
            }
        }
    }
    let _ = reader.cut_short();
    None
}

/// Any bytes as the frames of a stream, in pieces of any size.
///
/// # Panics
/// If a frame's chunks are not exactly the frame, or do not add up to what was fed.
pub fn frames(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let mut reader = FrameReader::new(u32::from(first >> 6), MAX_FRAME_LEN, ChunkQueue::default());
    let mut taken = 0;
    for chunk in data.chunks(usize::from(first % 64) + 1) {
        reader.push(Bytes::copy_from_slice(chunk));
        while let Ok(Some(header)) = reader.next_header() {
            let missing = reader.missing_bytes();
            let Some(frame) = reader.take_frame() else {
                assert!(missing > 0, "a whole frame is given");
                break;
            };
            let frame = frame.concat();
            assert_eq!(frame.len(), header.len());
            assert_eq!(frame, data[taken..taken + frame.len()]);
            taken += frame.len();
        }
    }
    assert_eq!(taken + reader.pending_bytes(), data.len());
}

/// Any bytes as acknowledgements, in pieces of any size.
///
/// # Panics
/// If an acknowledgement does not survive being sent again.
pub fn acks(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let (mut reader, mut count) = (AckReader::default(), 0);
    for chunk in data.chunks(usize::from(first % 64) + 1) {
        reader.push(Bytes::copy_from_slice(chunk));
        while let Some(ack) = reader.next_ack() {
            let again = crate::Ack::from_bytes(&ack.to_bytes());
            assert_eq!(again, ack);
            count += 1;
        }
    }
    assert_eq!(count * ACK_LEN + reader.pending_bytes(), data.len());
}

/// Any bytes as the records of a replica stream, with runs of frames where they say so, in
/// pieces of any size.
///
/// # Panics
/// If a record does not survive being sent again, or what was taken does not add up.
pub fn records(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let piece = usize::from(first % 64) + 1;
    record_stream::<FollowerRecord>(data, piece, |_| 0);
    record_stream::<LeaderRecord>(data, piece, |record| record.said.run_len());
}

fn record_stream<R>(data: &[u8], piece: usize, run_len: impl Fn(&R) -> usize)
where
    R: Record + PartialEq + std::fmt::Debug,
{
    let (mut reader, mut taken, mut run) = (RecordReader::default(), 0, None);
    for chunk in data.chunks(piece) {
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            if let Some(len) = run {
                let Some(frames) = reader.take_run(len) else {
                    break;
                };
                assert_eq!(frames.concat(), data[taken..taken + len]);
                taken += len;
            }
            run = None;
            match reader.next_record::<R>() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    taken += R::LEN;
                    run = Some(run_len(&record));
                    let mut again = bytes::BytesMut::new();
                    record.put(&mut again);
                    assert_eq!(R::from_bytes(&again), Ok(record));
                }
                Err(error) => {
                    let _ = error.code();
                    return;
                }
            }
        }
    }
    assert_eq!(taken + reader.pending_bytes(), data.len());
}

/// Any bytes as the messages of a quorum stream, in pieces of any size; and any text as the name
/// in a broker's certificate.
///
/// # Panics
/// If a message does not survive being sent again, what was taken does not add up, or a name has
/// two spellings.
pub fn quorum(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(name) = text.parse::<crate::PeerName>()
    {
        assert_eq!(name.to_string(), text);
    }
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let (mut reader, mut again) = (QuorumReader::default(), bytes::BytesMut::new());
    for chunk in data.chunks(usize::from(first % 64) + 1) {
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            match reader.next_message() {
                Ok(Some(message)) => put_quorum_message(&mut again, &message),
                Ok(None) => break,
                Err(error) => {
                    let _ = error.code();
                    return;
                }
            }
        }
    }
    assert_eq!(again, data[..again.len()]);
    // A length without all of its message is taken off already.
    assert!(again.len() + reader.pending_bytes() <= data.len());
}
