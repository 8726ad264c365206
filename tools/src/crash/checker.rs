//! Compares what was read from a partition with the ledger. It knows nothing of brokers,
//! clients or files, and trusts nothing but the ledger.
//!
//! Held for each partition, whatever was killed when:
//! - offsets are dense from the log start to the end;
//! - every record was sent by a lane of this partition, and has the value that was sent;
//! - no record stands there twice;
//! - the records of a lane stand in the order in which they were sent;
//! - every record that was acknowledged before the read began is there, at the offset that
//!   the acknowledgement named.

use std::collections::HashMap;
use std::fmt;

use millrace_model::Offset;

use super::ledger::{Ack, Ledger, RecordId, fingerprint};

/// A record as it was read back, reduced to what the check needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Where it stood.
    pub offset: Offset,
    /// Which one it says it is; `None` when its value is too short to say.
    pub id: Option<RecordId>,
    /// [`fingerprint`] of its value.
    pub fingerprint: u64,
}

impl ReadRecord {
    /// The record that stood at `offset` with this value.
    #[must_use]
    pub fn new(offset: Offset, value: &[u8]) -> Self {
        Self {
            offset,
            id: RecordId::of_value(value),
            fingerprint: fingerprint(value),
        }
    }
}

/// One promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An offset is missing, or comes again.
    NotDense {
        /// What should have come.
        expected: Offset,
        /// What came.
        found: Offset,
    },
    /// The record was never sent to this partition.
    Foreign {
        /// Where it stands.
        offset: Offset,
    },
    /// The value is not what was sent.
    Altered {
        /// Which record.
        id: RecordId,
        /// Where it stands.
        offset: Offset,
    },
    /// The record stands there twice.
    Twice {
        /// Which record.
        id: RecordId,
        /// Where it stands first.
        first: Offset,
        /// And again.
        second: Offset,
    },
    /// The record stands after one that its lane sent later.
    OutOfOrder {
        /// Which record.
        id: RecordId,
        /// Where it stands.
        offset: Offset,
        /// The number of the record of its lane before it.
        after: u64,
    },
    /// The record was acknowledged and is not there.
    Lost {
        /// Which record.
        id: RecordId,
        /// Its acknowledgement.
        ack: Ack,
    },
    /// The record stands at another offset than its acknowledgement said.
    Moved {
        /// Which record.
        id: RecordId,
        /// The offset of its acknowledgement.
        acked_at: Offset,
        /// Where it stands.
        found: Offset,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |id: &RecordId| format!("record {} of lane {}", id.number, id.lane);
        match self {
            Self::NotDense { expected, found } => {
                write!(f, "offset {found} follows where {expected} was due")
            }
            Self::Foreign { offset } => write!(f, "nobody sent the record at offset {offset}"),
            Self::Altered { id, offset } => {
                write!(
                    f,
                    "{} at offset {offset} has another value than was sent",
                    named(id)
                )
            }
            Self::Twice { id, first, second } => {
                write!(
                    f,
                    "{} stands at offset {first} and again at {second}",
                    named(id)
                )
            }
            Self::OutOfOrder { id, offset, after } => {
                write!(
                    f,
                    "{} at offset {offset} stands after record {after}",
                    named(id)
                )
            }
            Self::Lost {
                id,
                ack: Ack::At(offset),
            } => {
                write!(
                    f,
                    "{} was acknowledged at offset {offset} and is lost",
                    named(id)
                )
            }
            Self::Lost { id, .. } => write!(f, "{} was acknowledged and is lost", named(id)),
            Self::Moved {
                id,
                acked_at,
                found,
            } => write!(
                f,
                "{} was acknowledged at offset {acked_at} and stands at {found}",
                named(id)
            ),
        }
    }
}

/// Everything that is wrong with one partition. `before` is the ledger as it was before the
/// read began, `after` as it was when the read had ended; `read` is the whole partition from
/// `start`, in the order it was read.
#[must_use]
pub fn check(
    partition: usize,
    before: &Ledger,
    after: &Ledger,
    start: Offset,
    read: &[ReadRecord],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let found = check_what_stands(partition, after, start, read, &mut violations);
    check_what_was_acknowledged(partition, before, after, &found, &mut violations);
    violations
}

fn check_what_stands(
    partition: usize,
    after: &Ledger,
    start: Offset,
    read: &[ReadRecord],
    violations: &mut Vec<Violation>,
) -> HashMap<RecordId, Offset> {
    let mut found = HashMap::with_capacity(read.len());
    let mut last_of_lane: HashMap<u32, u64> = HashMap::new();
    let mut expected = start;
    for record in read {
        let offset = record.offset;
        if offset != expected {
            violations.push(Violation::NotDense {
                expected,
                found: offset,
            });
        }
        expected = offset.plus(1);
        let sent = record.id.and_then(|id| Some((id, after.record(id)?)));
        let Some((id, sent)) =
            sent.filter(|(id, _)| after.lanes[id.lane as usize].partition == partition)
        else {
            violations.push(Violation::Foreign { offset });
            continue;
        };
        if sent.fingerprint != record.fingerprint {
            violations.push(Violation::Altered { id, offset });
        }
        if let Some(first) = found.insert(id, offset) {
            violations.push(Violation::Twice {
                id,
                first,
                second: offset,
            });
        } else if let Some(last) = last_of_lane.insert(id.lane, id.number)
            && last > id.number
        {
            violations.push(Violation::OutOfOrder {
                id,
                offset,
                after: last,
            });
        }
    }
    found
}

fn check_what_was_acknowledged(
    partition: usize,
    before: &Ledger,
    after: &Ledger,
    found: &HashMap<RecordId, Offset>,
    violations: &mut Vec<Violation>,
) {
    let ack_in = |ledger: &Ledger, id| ledger.record(id).map_or(Ack::Awaited, |sent| sent.ack);
    for (lane, records) in (0..)
        .zip(&after.lanes)
        .filter(|(_, lane)| lane.partition == partition)
    {
        for number in 0..records.sent.len() as u64 {
            let id = RecordId { lane, number };
            match (found.get(&id), ack_in(before, id), ack_in(after, id)) {
                (None, Ack::Awaited, _) => {}
                (None, ack, _) => violations.push(Violation::Lost { id, ack }),
                (Some(&found), _, Ack::At(acked_at)) if found != acked_at => {
                    violations.push(Violation::Moved {
                        id,
                        acked_at,
                        found,
                    });
                }
                (Some(_), _, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(lane: u32, number: u64) -> RecordId {
        RecordId { lane, number }
    }

    /// Two lanes into partition 0 and one into partition 1, all acknowledged but the last
    /// record of lane 0; and what partition 0 holds.
    fn history() -> (Ledger, Vec<ReadRecord>) {
        let mut ledger = Ledger::default();
        let mut read = Vec::new();
        for partition in [0, 0, 1] {
            ledger.open_lane(partition);
        }
        for number in 0..6 {
            for lane in 0..3 {
                let id = id(lane, number);
                let value = id.value(b"noise");
                ledger.sent(id, &value);
                let offset = if lane == 2 {
                    Offset(number)
                } else {
                    Offset(read.len() as u64)
                };
                if lane < 2 {
                    read.push(ReadRecord::new(offset, &value));
                }
                if (lane, number) != (0, 5) {
                    ledger.acked(id, Some(offset));
                }
            }
        }
        (ledger, read)
    }

    fn violations(ledger: &Ledger, read: &[ReadRecord]) -> Vec<Violation> {
        check(0, ledger, ledger, Offset(0), read)
    }

    /// Gives the records dense offsets again after one was taken or added.
    fn renumber(read: &mut [ReadRecord]) {
        for (offset, record) in (0..).zip(read) {
            record.offset = Offset(offset);
        }
    }

    #[test]
    fn a_whole_partition_passes_with_or_without_what_was_never_acknowledged() {
        let (ledger, mut read) = history();
        assert_eq!(violations(&ledger, &read), []);
        assert_eq!(ledger.acknowledged(), 17);
        let last_two = read.split_off(read.len() - 2);
        assert_eq!(last_two[0].id, Some(id(0, 5)));
        let ack = Ack::At(Offset(11));
        assert_eq!(
            violations(&ledger, &read),
            [Violation::Lost { id: id(1, 5), ack }]
        );
    }

    #[test]
    fn a_loss_in_the_middle_is_seen_even_when_the_rest_moves_up() {
        let (ledger, mut read) = history();
        let lost = read.remove(4);
        renumber(&mut read);
        let seen = violations(&ledger, &read);
        assert!(seen.contains(&Violation::Lost {
            id: lost.id.unwrap(),
            ack: Ack::At(Offset(4))
        }));
        assert!(seen.iter().any(|v| matches!(v, Violation::Moved { .. })));
    }

    #[test]
    fn a_loss_that_leaves_a_hole_is_seen_twice_over() {
        let (ledger, mut read) = history();
        read.remove(4);
        let seen = violations(&ledger, &read);
        assert!(seen.contains(&Violation::NotDense {
            expected: Offset(4),
            found: Offset(5)
        }));
        assert!(seen.contains(&Violation::Lost {
            id: id(0, 2),
            ack: Ack::At(Offset(4))
        }));
    }

    #[test]
    fn a_duplicate_is_seen_also_of_a_record_that_was_never_acknowledged() {
        let (ledger, mut read) = history();
        let unacknowledged = read[10];
        assert_eq!(unacknowledged.id, Some(id(0, 5)));
        read.push(ReadRecord {
            offset: Offset(12),
            ..unacknowledged
        });
        let (first, second) = (Offset(10), Offset(12));
        assert_eq!(
            violations(&ledger, &read),
            [Violation::Twice {
                id: id(0, 5),
                first,
                second
            }]
        );
    }

    #[test]
    fn a_swap_within_a_lane_is_seen_as_order_not_only_as_movement() {
        let (mut ledger, mut read) = history();
        read.swap(2, 6);
        renumber(&mut read);
        assert!(
            violations(&ledger, &read)
                .iter()
                .any(|v| matches!(v, Violation::Moved { .. }))
        );
        // The same without acknowledgements: order holds for what is there.
        for sent in ledger.lanes.iter_mut().flat_map(|lane| &mut lane.sent) {
            sent.ack = Ack::Awaited;
        }
        let seen = violations(&ledger, &read);
        let (id, offset) = (id(0, 2), Offset(4));
        assert!(
            seen.contains(&Violation::OutOfOrder {
                id,
                offset,
                after: 3
            }),
            "{seen:?}"
        );
    }

    #[test]
    fn an_altered_value_and_a_foreign_record_are_seen() {
        let (ledger, mut read) = history();
        read[3].fingerprint ^= 1;
        let other_partition = id(2, 0).value(b"noise");
        read.push(ReadRecord::new(Offset(12), &other_partition));
        read.push(ReadRecord::new(Offset(13), b"short"));
        read.push(ReadRecord::new(Offset(14), &id(9, 9).value(b"")));
        assert_eq!(
            violations(&ledger, &read),
            [
                Violation::Altered {
                    id: id(1, 1),
                    offset: Offset(3)
                },
                Violation::Foreign { offset: Offset(12) },
                Violation::Foreign { offset: Offset(13) },
                Violation::Foreign { offset: Offset(14) },
            ]
        );
    }

    #[test]
    fn what_is_acknowledged_while_the_read_runs_may_be_missing_but_not_elsewhere() {
        let (after, mut read) = history();
        let mut before = after.clone();
        before.lanes[1].sent[5].ack = Ack::Awaited;
        let last = read.pop().unwrap();
        assert_eq!(check(0, &before, &after, Offset(0), &read), []);
        read.push(ReadRecord {
            offset: Offset(12),
            ..last
        });
        let seen = check(0, &before, &after, Offset(0), &read);
        let (acked_at, found) = (Offset(11), Offset(12));
        assert!(seen.contains(&Violation::Moved {
            id: id(1, 5),
            acked_at,
            found
        }));
    }

    #[test]
    fn a_record_acknowledged_without_its_place_may_stand_anywhere_but_must_stand() {
        let (mut ledger, mut read) = history();
        ledger.acked(id(1, 5), None);
        assert_eq!(violations(&ledger, &read), []);
        read.pop();
        let ack = Ack::Somewhere;
        assert_eq!(
            violations(&ledger, &read),
            [Violation::Lost { id: id(1, 5), ack }]
        );
    }

    #[test]
    fn an_empty_partition_that_should_hold_records_is_all_loss() {
        let (ledger, _) = history();
        assert_eq!(violations(&ledger, &[]).len(), 11);
    }
}
