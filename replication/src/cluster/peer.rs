//! What the controllers of two brokers say to each other beside the quorum's messages: changes
//! that the one asks of the other, which leads; heartbeats; how the quorum stands; and, to who knows
//! nobody else, who there is.
//!
//! Byte map: `MRCA` (a request) or `MRCB` (an answer), version (u16, little-endian), two zero
//! bytes, then the archived body. Error codes travel as Kafka's numbers, so that a code that a
//! later version adds is an unknown one to an earlier, not damage. `tests/golden_files.rs` pins it.

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, ProducerId};
use rkyv::rancor;

use super::{Answer, ClusterRequest, Command, Heartbeat, Partition, PartitionOutcome, VoterChange};
use crate::metadata::{MAX_BROKERS, PrefixError, Refusal, decode, encode};
use crate::quorum::{Index, QuorumReport};

const REQUEST_MAGIC: [u8; 4] = *b"MRCA";
const ANSWER_MAGIC: [u8; 4] = *b"MRCB";
const VERSION: u16 = 1;

/// Brokers that an introduction names: as many as there may be.
pub const MAX_ACQUAINTANCES: usize = MAX_BROKERS;

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Ask {
    /// One that the leader judges on its own state.
    Request(ClusterRequest),
    /// Exactly this.
    Command(Command),
    /// Another voter of the quorum, or one less.
    Voters(VoterChange),
}

/// A broker and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Acquaintance {
    /// The broker.
    pub broker: BrokerId,
    /// Host name or address of its QUIC listener.
    pub host: String,
    /// That listener's port.
    pub port: u16,
    /// Its cores.
    pub shards: u8,
}

/// Who there is, as far as a broker knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Who leads the quorum.
    pub leader: Option<BrokerId>,
    /// The brokers of the cluster, at most [`MAX_ACQUAINTANCES`].
    pub brokers: Vec<Acquaintance>,
}

/// What one controller asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    /// A change.
    Ask {
        /// What.
        ask: Ask,
        /// It was asked before, and nobody knows whether it was done.
        again: bool,
    },
    /// The sender is alive.
    Heartbeat(Heartbeat),
    /// How the quorum stands.
    Status,
    /// Who there is: asked by who does not hear the quorum's leader.
    Introduce,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// What became of the change.
    Outcome {
        /// Where it stands in the log: who has applied up to here sees it.
        at: Index,
        /// The answer, or why it is refused.
        outcome: Result<Answer, Refusal>,
    },
    /// The heartbeat was taken.
    Heartbeat {
        /// [`ErrorCode::None`], or why it does not count.
        code: ErrorCode,
        /// Whether the sender must not serve.
        fenced: bool,
        /// Whether it wanted to stop and may.
        may_stop: bool,
    },
    /// How the quorum stands. Only its leader knows; others refuse with
    /// [`ErrorCode::NotController`].
    Status(QuorumReport),
    /// Who there is.
    Introduction(Introduction),
}

/// Why bytes are no request or answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerCodecError {
    /// They do not start as one.
    #[error("these bytes are no request or answer of a controller")]
    Magic,
    /// A later version of Millrace sent them.
    #[error("a controller's message of version {0}, but this broker knows up to {VERSION}")]
    Version(u16),
    /// The archive does not hold.
    #[error("a damaged message of a controller: {0}")]
    Damaged(String),
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum RequestBody {
    Ask {
        ask: Ask,
        again: bool,
    },
    Heartbeat {
        broker: BrokerId,
        epoch: BrokerEpoch,
        applied: u64,
        wants_to_stop: bool,
    },
    Status,
    Introduce,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum AnswerBody {
    Done {
        at: u64,
    },
    Registered {
        at: u64,
        epoch: BrokerEpoch,
    },
    ProducerIds {
        at: u64,
        first: ProducerId,
        count: u32,
    },
    Partitions {
        at: u64,
        outcomes: Vec<(i16, Option<Partition>)>,
    },
    Refused {
        at: u64,
        code: i16,
        message: String,
    },
    Heartbeat {
        code: i16,
        fenced: bool,
        may_stop: bool,
    },
    /// In a box, so that those before it keep their layout.
    Status(Box<QuorumReport>),
    Introduction {
        leader: Option<BrokerId>,
        brokers: Vec<Acquaintance>,
    },
}

impl PeerRequest {
    /// The request as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = match self.clone() {
            Self::Ask { ask, again } => RequestBody::Ask { ask, again },
            Self::Heartbeat(Heartbeat {
                broker,
                epoch,
                applied,
                wants_to_stop,
            }) => RequestBody::Heartbeat {
                broker,
                epoch,
                applied: applied.0,
                wants_to_stop,
            },
            Self::Status => RequestBody::Status,
            Self::Introduce => RequestBody::Introduce,
        };
        let body = rkyv::to_bytes::<rancor::Error>(&body).expect("memory is the only limit");
        encode(REQUEST_MAGIC, VERSION, &body)
    }

    /// The request that these bytes are.
    ///
    /// # Errors
    /// They are none, or damaged, or of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerCodecError> {
        let body = decode(REQUEST_MAGIC, VERSION, bytes)?;
        let body = rkyv::from_bytes::<RequestBody, rancor::Error>(&body)?;
        Ok(match body {
            RequestBody::Ask { ask, again } => Self::Ask { ask, again },
            RequestBody::Heartbeat {
                broker,
                epoch,
                applied,
                wants_to_stop,
            } => Self::Heartbeat(Heartbeat {
                broker,
                epoch,
                applied: Index(applied),
                wants_to_stop,
            }),
            RequestBody::Status => Self::Status,
            RequestBody::Introduce => Self::Introduce,
        })
    }
}

impl PeerAnswer {
    /// The answer as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = match self.clone() {
            Self::Outcome { at, outcome } => body_of(at.0, outcome),
            Self::Heartbeat {
                code,
                fenced,
                may_stop,
            } => AnswerBody::Heartbeat {
                code: code as i16,
                fenced,
                may_stop,
            },
            Self::Status(report) => AnswerBody::Status(Box::new(report)),
            Self::Introduction(Introduction { leader, brokers }) => {
                AnswerBody::Introduction { leader, brokers }
            }
        };
        let body = rkyv::to_bytes::<rancor::Error>(&body).expect("memory is the only limit");
        encode(ANSWER_MAGIC, VERSION, &body)
    }

    /// The answer that these bytes are.
    ///
    /// # Errors
    /// They are none, or damaged, or of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerCodecError> {
        let body = decode(ANSWER_MAGIC, VERSION, bytes)?;
        let body = rkyv::from_bytes::<AnswerBody, rancor::Error>(&body)?;
        let (at, outcome) = match body {
            AnswerBody::Done { at } => (at, Ok(Answer::Done)),
            AnswerBody::Registered { at, epoch } => (at, Ok(Answer::Registered(epoch))),
            AnswerBody::ProducerIds { at, first, count } => {
                (at, Ok(Answer::ProducerIds { first, count }))
            }
            AnswerBody::Partitions { at, outcomes } => {
                let outcome = |(code, partition)| PartitionOutcome {
                    code: ErrorCode::from_i16(code),
                    partition,
                };
                let outcomes = outcomes.into_iter().map(outcome).collect();
                (at, Ok(Answer::Partitions(outcomes)))
            }
            AnswerBody::Refused { at, code, message } => {
                (at, Err(Refusal::new(ErrorCode::from_i16(code), message)))
            }
            AnswerBody::Heartbeat {
                code,
                fenced,
                may_stop,
            } => {
                return Ok(Self::Heartbeat {
                    code: ErrorCode::from_i16(code),
                    fenced,
                    may_stop,
                });
            }
            AnswerBody::Status(report) => return Ok(Self::Status(*report)),
            AnswerBody::Introduction {
                leader,
                mut brokers,
            } => {
                brokers.truncate(MAX_ACQUAINTANCES);
                return Ok(Self::Introduction(Introduction { leader, brokers }));
            }
        };
        let at = Index(at);
        Ok(Self::Outcome { at, outcome })
    }
}

fn body_of(at: u64, outcome: Result<Answer, Refusal>) -> AnswerBody {
    match outcome {
        Ok(Answer::Done) => AnswerBody::Done { at },
        Ok(Answer::Registered(epoch)) => AnswerBody::Registered { at, epoch },
        Ok(Answer::ProducerIds { first, count }) => AnswerBody::ProducerIds { at, first, count },
        Ok(Answer::Partitions(outcomes)) => {
            let outcome = |it: PartitionOutcome| (it.code as i16, it.partition);
            let outcomes = outcomes.into_iter().map(outcome).collect();
            AnswerBody::Partitions { at, outcomes }
        }
        Err(Refusal { code, message }) => AnswerBody::Refused {
            at,
            code: code as i16,
            message,
        },
    }
}

impl From<PrefixError> for PeerCodecError {
    fn from(error: PrefixError) -> Self {
        match error {
            PrefixError::Magic => Self::Magic,
            PrefixError::Version(version) => Self::Version(version),
        }
    }
}

impl From<rancor::Error> for PeerCodecError {
    fn from(error: rancor::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use millrace_model::TopicId;

    use super::*;
    use crate::quorum::MemberReport;

    fn requests() -> Vec<PeerRequest> {
        let create = ClusterRequest::CreateTopic {
            name: "orders".to_owned(),
            id: TopicId([7; 16]),
            partitions: 3,
            replication: 2,
            overrides: vec![("retention.ms".to_owned(), "1".to_owned())],
            internal: false,
        };
        let unfence = Command::Unfence {
            broker: BrokerId(3),
            epoch: BrokerEpoch(9),
        };
        vec![
            PeerRequest::Ask {
                ask: Ask::Request(create),
                again: true,
            },
            PeerRequest::Ask {
                ask: Ask::Command(unfence),
                again: false,
            },
            PeerRequest::Heartbeat(Heartbeat {
                broker: BrokerId(3),
                epoch: BrokerEpoch(9),
                applied: Index(77),
                wants_to_stop: true,
            }),
            PeerRequest::Status,
            PeerRequest::Ask {
                ask: Ask::Voters(VoterChange::Remove(BrokerId(2))),
                again: false,
            },
            PeerRequest::Introduce,
        ]
    }

    fn answers() -> Vec<PeerAnswer> {
        let outcomes = vec![
            PartitionOutcome {
                code: ErrorCode::None,
                partition: Some(Partition::default()),
            },
            PartitionOutcome {
                code: ErrorCode::FencedLeaderEpoch,
                partition: None,
            },
        ];
        let outcomes = [
            Ok(Answer::Done),
            Ok(Answer::Registered(BrokerEpoch(4))),
            Ok(Answer::ProducerIds {
                first: ProducerId(1000),
                count: 1000,
            }),
            Ok(Answer::Partitions(outcomes)),
            Err(Refusal::new(ErrorCode::TopicAlreadyExists, "it exists")),
        ];
        let told = outcomes.into_iter().map(|outcome| PeerAnswer::Outcome {
            at: Index(5),
            outcome,
        });
        let beat = PeerAnswer::Heartbeat {
            code: ErrorCode::StaleBrokerEpoch,
            fenced: true,
            may_stop: false,
        };
        let member = |id, votes| MemberReport {
            id: BrokerId(id),
            votes,
            matched: 7,
            is_caught_up: votes,
            silent_ms: 12,
        };
        let report = PeerAnswer::Status(QuorumReport {
            leader: BrokerId(1),
            term: 3,
            commit: 9,
            members: vec![member(1, true), member(2, false)],
        });
        let introduction = PeerAnswer::Introduction(Introduction {
            leader: Some(BrokerId(2)),
            brokers: vec![Acquaintance {
                broker: BrokerId(2),
                host: "b2".to_owned(),
                port: 9644,
                shards: 4,
            }],
        });
        told.chain([beat, report, introduction]).collect()
    }

    #[test]
    fn what_is_said_arrives() {
        for request in requests() {
            let bytes = request.to_bytes();
            assert_eq!(PeerRequest::from_bytes(&bytes), Ok(request));
            assert_eq!(PeerAnswer::from_bytes(&bytes), Err(PeerCodecError::Magic));
        }
        for answer in answers() {
            assert_eq!(PeerAnswer::from_bytes(&answer.to_bytes()), Ok(answer));
        }
    }

    #[test]
    fn bytes_of_a_stranger_never_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        let requests = requests().into_iter().map(|it| it.to_bytes());
        let answers = answers().into_iter().map(|it| it.to_bytes());
        for bytes in requests.chain(answers) {
            for _ in 0..2_000 {
                let mut hostile = bytes.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(8..hostile.len());
                    hostile[at] = random.u8(..);
                }
                hostile.truncate(random.usize(0..=hostile.len()));
                let _ = PeerRequest::from_bytes(&hostile);
                let _ = PeerAnswer::from_bytes(&hostile);
            }
        }
        let mut later = requests_of_a_later_version();
        later[4] = 2;
        assert_eq!(
            PeerRequest::from_bytes(&later),
            Err(PeerCodecError::Version(2))
        );
    }

    fn requests_of_a_later_version() -> Vec<u8> {
        requests()[0].to_bytes()
    }
}
