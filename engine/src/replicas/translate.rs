//! Between what the machines say and what the wire carries.

use millrace_model::{BrokerEpoch, ErrorCode, LeaderEpoch, LogId};
use millrace_replication::partition::{
    FollowerMessage, LeaderMessage, Position, SessionId, Watermark,
};
use millrace_wire::{
    FollowerRecord, FollowerSaid, LeaderSaid, ReplicaMark, ReplicaPosition, Subscription,
};

/// A follower's message as a record. The epoch of one who subscribes no longer is of no account.
pub(super) fn follower_record(log: LogId, message: FollowerMessage) -> FollowerRecord {
    let (session, epoch, said) = match message {
        FollowerMessage::Subscribe {
            session,
            epoch,
            position,
        } => (
            session,
            epoch,
            FollowerSaid::Subscribe(wire_position(position)),
        ),
        FollowerMessage::Progress {
            session,
            epoch,
            end,
        } => (session, epoch, FollowerSaid::Progress(end)),
        FollowerMessage::Unsubscribe { session } => {
            (session, LeaderEpoch::default(), FollowerSaid::Unsubscribe)
        }
    };
    FollowerRecord {
        log,
        session: session.number,
        epoch,
        said,
    }
}

/// A record as the message of a follower in this uptime of its broker.
pub(super) fn follower_message(life: BrokerEpoch, record: &FollowerRecord) -> FollowerMessage {
    let session = SessionId {
        life,
        number: record.session,
    };
    let epoch = record.epoch;
    match record.said {
        FollowerSaid::Subscribe(position) => FollowerMessage::Subscribe {
            session,
            epoch,
            position: Position {
                end: position.end,
                last_epoch: position.last_epoch,
                log_start: position.log_start,
            },
        },
        FollowerSaid::Progress(end) => FollowerMessage::Progress {
            session,
            epoch,
            end,
        },
        FollowerSaid::Unsubscribe => FollowerMessage::Unsubscribe { session },
    }
}

/// One of the first subscriptions of a stream as a record.
pub(super) fn first_record(first: &Subscription) -> FollowerRecord {
    FollowerRecord {
        log: first.log,
        session: first.session,
        epoch: first.epoch,
        said: FollowerSaid::Subscribe(first.position),
    }
}

/// What a leader says without frames. Frames are announced where they are sent.
pub(super) fn leader_said(message: &LeaderMessage) -> Option<LeaderSaid> {
    Some(match message {
        LeaderMessage::Frames(_) => return None,
        LeaderMessage::Watermark(mark) => LeaderSaid::Watermark(wire_mark(*mark)),
        LeaderMessage::Diverging { epoch, end } => LeaderSaid::Diverging {
            epoch: *epoch,
            end: *end,
        },
        LeaderMessage::OutOfRange { log_start } => LeaderSaid::OutOfRange(*log_start),
        LeaderMessage::Refused(code) => LeaderSaid::refused(*code),
    })
}

/// A leader's message without frames, and `None` for one with.
pub(super) fn leader_message(said: LeaderSaid) -> Option<LeaderMessage> {
    Some(match said {
        LeaderSaid::Frames { .. } => return None,
        LeaderSaid::Watermark(mark) => LeaderMessage::Watermark(watermark(mark)),
        LeaderSaid::Diverging { epoch, end } => LeaderMessage::Diverging { epoch, end },
        LeaderSaid::OutOfRange(log_start) => LeaderMessage::OutOfRange { log_start },
        LeaderSaid::Refused(code) => LeaderMessage::Refused(ErrorCode::from_i16(code)),
    })
}

pub(super) fn wire_mark(mark: Watermark) -> ReplicaMark {
    ReplicaMark {
        high_watermark: mark.high_watermark,
        log_start: mark.log_start,
        end: mark.end,
    }
}

pub(super) fn watermark(mark: ReplicaMark) -> Watermark {
    Watermark {
        high_watermark: mark.high_watermark,
        log_start: mark.log_start,
        end: mark.end,
    }
}

fn wire_position(position: Position) -> ReplicaPosition {
    ReplicaPosition {
        end: position.end,
        log_start: position.log_start,
        last_epoch: position.last_epoch,
    }
}
