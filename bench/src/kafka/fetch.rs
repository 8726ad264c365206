//! A consumer of one partition: one request after the other, the next one as soon as the answer
//! to the last is there, so that the broker works while the batches are looked at.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use millrace_kafka::{ApiKey, FetchPartition, FetchRequest, FetchTopic, Request, Response};
use millrace_model::Offset;
use millrace_model::batch::BatchHeader;
use tokio::io::AsyncWriteExt;

use super::connection::{Connection, Frames, Rope, decode, encode};
use super::{KafkaError, accepted};

/// How long the broker waits for records, as Kafka's consumers ask by default.
const MAX_WAIT_MS: i32 = 500;

/// The broker answers as soon as there is anything.
const MIN_BYTES: i32 = 1;

/// A batch as it was fetched, with its header read. Its CRC has not been looked at.
pub(crate) struct FetchedBatch {
    /// Its header.
    pub(crate) header: BatchHeader,
    /// The whole batch.
    pub(crate) bytes: Bytes,
}

impl FetchedBatch {
    /// The offset after its last record.
    pub(crate) fn next_offset(&self) -> Offset {
        let count = u64::from(self.header.last_offset_delta) + 1;
        self.header.base_offset.plus(count)
    }
}

/// The batches of a partition from an offset on.
pub(crate) struct FetchStream {
    connection: Connection,
    topic: String,
    partition: i32,
    max_bytes: i32,
    version: i16,
    answers: Frames,
    /// Where the next request reads from.
    position: Offset,
    /// The request that is on its way, and what of it is still to be sent.
    asked: Option<i32>,
    unsent: Rope,
    next_correlation: i32,
    ready: VecDeque<FetchedBatch>,
}

impl FetchStream {
    pub(super) fn new(
        connection: Connection,
        (topic, partition): (&str, i32),
        position: Offset,
        max_bytes: u64,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            version: connection.version(ApiKey::Fetch)?,
            connection,
            topic: topic.to_owned(),
            partition,
            max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
            answers: Frames::default(),
            position,
            asked: None,
            unsent: Rope::default(),
            next_correlation: 0,
            ready: VecDeque::new(),
        })
    }

    /// The next batch, however long it takes until there is one. Nothing is lost when this is
    /// given up half way.
    pub(crate) async fn next(&mut self) -> Result<FetchedBatch, KafkaError> {
        loop {
            let correlation = match self.asked {
                Some(correlation) => correlation,
                None => self.ask()?,
            };
            if self.unsent.has_remaining() {
                let stream = &mut self.connection.stream;
                let written = stream.write_all_buf(&mut self.unsent).await;
                written.map_err(|error| KafkaError::Connection {
                    address: self.connection.address.clone(),
                    error,
                })?;
            }
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let Connection {
                stream, address, ..
            } = &mut self.connection;
            let frame = self.answers.next(stream, address).await?;
            self.asked = None;
            let answer = decode(ApiKey::Fetch, self.version, correlation, frame)?;
            self.take(answer)?;
        }
    }

    /// Makes the next request.
    fn ask(&mut self) -> Result<i32, KafkaError> {
        let partition = FetchPartition {
            partition: self.partition,
            fetch_offset: i64::try_from(self.position.0).unwrap_or(i64::MAX),
            partition_max_bytes: self.max_bytes,
            ..FetchPartition::default()
        };
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: MIN_BYTES,
            max_bytes: self.max_bytes,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: vec![partition],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        self.unsent = encode(&Request::Fetch(request), self.version, correlation)?;
        self.asked = Some(correlation);
        Ok(correlation)
    }

    /// Takes the batches of an answer.
    fn take(&mut self, answer: Response) -> Result<(), KafkaError> {
        let Response::Fetch(mut answer) = answer else {
            unreachable!("an answer is of the API that it was decoded as")
        };
        accepted(ApiKey::Fetch, answer.error_code, None)?;
        let topic = answer.responses.pop();
        let partition = topic.and_then(|mut topic| topic.partitions.pop());
        let partition = partition.ok_or(KafkaError::Protocol("an answer without the partition"))?;
        accepted(ApiKey::Fetch, partition.error_code, None)?;
        let records = partition.records.into_bytes();
        let some = !records.is_empty();
        for batch in batches(records)? {
            let next = batch.next_offset();
            // The batch that holds the offset asked for may begin before it.
            if next > self.position {
                self.position = next;
                self.ready.push_back(batch);
            }
        }
        if some && self.ready.is_empty() {
            return Err(KafkaError::Protocol("a batch longer than what is fetched"));
        }
        Ok(())
    }
}

/// The whole batches of a record set. The last one may be cut, and is left out then.
fn batches(mut records: Bytes) -> Result<Vec<FetchedBatch>, KafkaError> {
    let mut found = Vec::new();
    while records.len() >= millrace_model::batch::BATCH_HEADER_LEN {
        let header = BatchHeader::parse(&records)?;
        if header.len > records.len() {
            break;
        }
        let bytes = records.split_to(header.len);
        found.push(FetchedBatch { header, bytes });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::{BatchBuilder, BatchSpec, Timestamp};

    fn batch(records: u32) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            let none = std::iter::empty::<millrace_model::Header<'_>>();
            builder
                .append(None, Some(b"value"), none, Timestamp(7))
                .unwrap();
        }
        builder.build(&BatchSpec::default()).unwrap()
    }

    #[test]
    fn whole_batches_are_taken_and_a_cut_one_is_left() {
        let mut records = batch(3);
        records.extend_from_slice(&batch(1));
        let whole = records.len();
        records.extend_from_slice(&batch(2));
        for end in [whole, whole + 5, records.len() - 1] {
            let records = Bytes::copy_from_slice(&records[..end]);
            let found = batches(records).unwrap();
            let counts: Vec<u32> = found.iter().map(|of| of.header.record_count).collect();
            assert_eq!(counts, [3, 1]);
            assert_eq!(found[0].next_offset(), Offset(3));
        }
    }
}
