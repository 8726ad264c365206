//! A producer of one partition: a request for each batch, many of them in flight.

use bytes::Bytes;
use millrace_kafka::{
    ApiKey, PartitionProduceData, ProduceRequest, Request, Response, TopicProduceData,
};
use millrace_model::ErrorCode;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::KafkaError;
use super::connection::{Connection, Frames, decode, encode};
use crate::options::AcksOption;

/// How long the broker may take to replicate a batch.
const REPLICATION_MS: i32 = 30_000;

/// The sending half.
pub(crate) struct ProduceSender {
    /// There until this is dropped.
    stream: Option<OwnedWriteHalf>,
    address: String,
    topic: String,
    partition: i32,
    acks: AcksOption,
    version: i16,
    next_correlation: i32,
    /// Tells the other half what is on its way; none after the last batch.
    sent: Option<flume::Sender<i32>>,
}

/// The receiving half.
pub(crate) struct ProduceAcks {
    stream: OwnedReadHalf,
    address: String,
    version: i16,
    answers: Frames,
    sent: flume::Receiver<i32>,
}

/// Both halves of a producer over this connection.
pub(super) fn halves(
    connection: Connection,
    topic: &str,
    partition: i32,
    acks: AcksOption,
) -> Result<(ProduceSender, ProduceAcks), KafkaError> {
    let version = connection.version(ApiKey::Produce)?;
    let (read, write) = connection.stream.into_split();
    // Its length is bounded by the batches that the load has in flight.
    let (sent, on_their_way) = flume::unbounded();
    let sender = ProduceSender {
        stream: Some(write),
        address: connection.address.clone(),
        topic: topic.to_owned(),
        partition,
        acks,
        version,
        next_correlation: 0,
        sent: Some(sent),
    };
    let acks = ProduceAcks {
        stream: read,
        address: connection.address,
        version,
        answers: Frames::default(),
        sent: on_their_way,
    };
    Ok((sender, acks))
}

impl ProduceSender {
    /// Sends a batch.
    pub(crate) async fn send(&mut self, batch: Bytes) -> Result<(), KafkaError> {
        let data = PartitionProduceData {
            index: self.partition,
            records: Some(batch),
        };
        let request = ProduceRequest {
            acks: match self.acks {
                AcksOption::None => 0,
                AcksOption::Leader => 1,
                AcksOption::All => -1,
            },
            timeout_ms: REPLICATION_MS,
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: vec![data],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        let mut rope = encode(&Request::Produce(request), self.version, correlation)?;
        let answered = !matches!(self.acks, AcksOption::None);
        if let Some(sent) = self.sent.as_ref().filter(|_| answered) {
            // The other half has failed when it is gone; it says why.
            let _ = sent.send(correlation);
        }
        let stream = self
            .stream
            .as_mut()
            .expect("it is there until this is dropped");
        let written = stream.write_all_buf(&mut rope).await;
        written.map_err(|error| KafkaError::Connection {
            address: self.address.clone(),
            error,
        })
    }

    /// Says that no more will come. The connection stays open for the answers.
    pub(crate) fn finish(&mut self) {
        self.sent = None;
    }
}

/// The connection stays whole until the other half is done with it too: a broker may take the
/// end of the requests for the end of the connection, and owes no answers then.
impl Drop for ProduceSender {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.forget();
        }
    }
}

impl ProduceAcks {
    /// What became of the next batch, or `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<ErrorCode>, KafkaError> {
        let Ok(correlation) = self.sent.recv_async().await else {
            return Ok(None);
        };
        let frame = self.answers.next(&mut self.stream, &self.address).await?;
        let answer = decode(ApiKey::Produce, self.version, correlation, frame)?;
        let Response::Produce(mut answer) = answer else {
            unreachable!("an answer is of the API that it was decoded as")
        };
        let topic = answer.responses.pop();
        let partition = topic.and_then(|mut topic| topic.partition_responses.pop());
        let partition = partition.ok_or(KafkaError::Protocol("an answer without the batch"))?;
        Ok(Some(ErrorCode::from_i16(partition.error_code)))
    }
}
