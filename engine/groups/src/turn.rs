//! What one group sees while it handles one input, and what it leaves.

use millrace_model::{ErrorCode, Timestamp};

use crate::consumer::Moment;
use crate::{Failure, GroupRecord, GroupSettings, Response, Ticket, TopicsImage};

/// The surroundings of a group for one step. The coordinator appends `records` as one write, and
/// lets `answers` go when that and all earlier writes of the group are durable.
pub(crate) struct Turn<'a> {
    pub(crate) now: Timestamp,
    pub(crate) settings: &'a GroupSettings,
    pub(crate) topics: &'a TopicsImage,
    pub(crate) ids: &'a mut MemberIds,
    pub(crate) records: Vec<GroupRecord>,
    pub(crate) answers: Vec<(Ticket, Response)>,
}

impl<'a> Turn<'a> {
    /// For the broker-driven protocol.
    pub(crate) const fn moment(&self) -> Moment<'a> {
        Moment {
            now: self.now,
            topics: self.topics,
            settings: self.settings,
        }
    }

    /// Answers with what came of a request, and keeps its records.
    pub(crate) fn settle(
        &mut self,
        ticket: Ticket,
        outcome: Result<(Response, Vec<GroupRecord>), Failure>,
    ) {
        match outcome {
            Ok((response, records)) => {
                self.records.extend(records);
                self.answer(ticket, response);
            }
            Err(failure) => self.answer(ticket, Response::Failed(failure)),
        }
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, response: Response) {
        self.answers.push((ticket, response));
    }

    pub(crate) fn fail(&mut self, ticket: Ticket, code: ErrorCode) {
        self.answer(ticket, Response::failed(code));
    }
}

impl Response {
    /// A failure without more words than Kafka's name for it.
    pub(crate) fn failed(code: ErrorCode) -> Self {
        Self::Failed(code.into())
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

/// Makes ids of members: the same seed gives the same ids, so that a run can be repeated. (SplitMix64,
/// Steele, Lea and Flood 2014.) Ids need to differ from each other, not to be secret.
#[derive(Debug)]
pub(crate) struct MemberIds(u64);

impl MemberIds {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A new id: the client's or the static member's name, then a UUID.
    pub(crate) fn named(&mut self, name: &str) -> String {
        format!("{name}-{}", self.uuid())
    }

    /// A random UUID (version 4).
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | (0b10 << 62));
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff,
        )
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
