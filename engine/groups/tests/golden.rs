//! The bytes of records: Kafka's tools read them, and so does every later version. They were checked by hand
//! against Kafka's schemas of coordinator records.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use millrace_groups::record::{
    ClassicGroupValue, ClassicMemberValue, ClassicWithinConsumer, ConsumerGroupValue,
    ConsumerMemberValue, CurrentMemberValue, MemberState, OffsetValue, RegexValue,
    TargetMemberValue, TargetMetadataValue,
};
use millrace_groups::{
    Client, CommittedOffset, GroupRecord, OwnedPartitions, RecordError, SaidOffset,
};
use millrace_model::{LeaderEpoch, Timestamp, TopicId};

fn group() -> String {
    "g".to_owned()
}

fn member() -> String {
    "m1".to_owned()
}

fn client() -> Client {
    Client {
        id: "c".to_owned(),
        host: "/h".to_owned(),
    }
}

fn offset(leader_epoch: Option<u32>, expire_timestamp: Option<i64>) -> GroupRecord {
    GroupRecord::Offset {
        group: group(),
        topic: "t".to_owned(),
        partition: 7,
        value: Some(OffsetValue {
            committed: CommittedOffset {
                offset: SaidOffset(42),
                leader_epoch: leader_epoch.map(LeaderEpoch),
                metadata: "note".to_owned(),
            },
            commit_timestamp: Timestamp(1_000),
            expire_timestamp: expire_timestamp.map(Timestamp),
        }),
    }
}

fn owned(id: u8, partitions: &[u32]) -> OwnedPartitions {
    OwnedPartitions {
        topic: TopicId([id; 16]),
        partitions: partitions.to_vec(),
    }
}

fn consumer_member(classic: Option<ClassicWithinConsumer>) -> GroupRecord {
    GroupRecord::ConsumerMember {
        group: group(),
        member: member(),
        value: Some(ConsumerMemberValue {
            instance: Some("i".to_owned()),
            rack: None,
            client: client(),
            subscribed_topics: vec!["t".to_owned(), "u".to_owned()],
            subscribed_regex: Some("a.*".to_owned()),
            rebalance_timeout_ms: 5_000,
            assignor: None,
            classic,
        }),
    }
}

/// Each record with the bytes of its key and its value.
fn records() -> Vec<(GroupRecord, &'static str, &'static str)> {
    let classic = ClassicGroupValue {
        protocol_type: "consumer".to_owned(),
        generation: 3,
        protocol: Some("range".to_owned()),
        leader: Some(member()),
        state_timestamp: Timestamp(9),
        members: vec![ClassicMemberValue {
            member: member(),
            instance: None,
            client: client(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        }],
    };
    let empty = ClassicGroupValue {
        protocol: None,
        leader: None,
        members: Vec::new(),
        ..classic.clone()
    };
    let within = ClassicWithinConsumer {
        session_timeout_ms: 45_000,
        protocols: vec![("range".to_owned(), Bytes::from_static(&[1, 2]))],
    };
    vec![
        (
            offset(Some(5), None),
            "0001 0001 67 0001 74 00000007",
            "0003 000000000000002a 00000005 0004 6e6f7465 00000000000003e8",
        ),
        (
            offset(None, None),
            "0001 0001 67 0001 74 00000007",
            "0003 000000000000002a ffffffff 0004 6e6f7465 00000000000003e8",
        ),
        (
            offset(None, Some(2_000)),
            "0001 0001 67 0001 74 00000007",
            "0001 000000000000002a 0004 6e6f7465 00000000000003e8 00000000000007d0",
        ),
        (
            GroupRecord::ClassicGroup {
                group: group(),
                value: Some(classic),
            },
            "0002 0001 67",
            "0003 0008 636f6e73756d6572 00000003 0005 72616e6765 0002 6d31 0000000000000009 00000001
             0002 6d31 ffff 0001 63 0002 2f68 000493e0 0000afc8 00000002 0102 00000001 03",
        ),
        (
            GroupRecord::ClassicGroup {
                group: group(),
                value: Some(empty),
            },
            "0002 0001 67",
            "0003 0008 636f6e73756d6572 00000003 ffff ffff 0000000000000009 00000000",
        ),
        (
            GroupRecord::ConsumerGroup {
                group: group(),
                value: Some(ConsumerGroupValue {
                    epoch: 10,
                    metadata_hash: 0,
                }),
            },
            "0003 0001 67",
            "0000 0000000a 00",
        ),
        (
            GroupRecord::ConsumerGroup {
                group: group(),
                value: Some(ConsumerGroupValue {
                    epoch: 10,
                    metadata_hash: 258,
                }),
            },
            "0003 0001 67",
            "0000 0000000a 01 00 08 0000000000000102",
        ),
        (
            consumer_member(None),
            "0005 0001 67 0002 6d31",
            "0000 02 69 00 02 63 03 2f68 03 02 74 02 75 04 612e2a 00001388 00 00",
        ),
        (
            consumer_member(Some(within)),
            "0005 0001 67 0002 6d31",
            "0000 02 69 00 02 63 03 2f68 03 02 74 02 75 04 612e2a 00001388 00
             01 00 11 01 0000afc8 02 06 72616e6765 03 0102 00 00",
        ),
        (
            GroupRecord::TargetMetadata {
                group: group(),
                value: Some(TargetMetadataValue { epoch: 11 }),
            },
            "0006 0001 67",
            "0000 0000000b 00",
        ),
        (
            GroupRecord::TargetMember {
                group: group(),
                member: member(),
                value: Some(TargetMemberValue {
                    partitions: vec![owned(0xaa, &[0, 2])],
                }),
            },
            "0007 0001 67 0002 6d31",
            "0000 02 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 03 00000000 00000002 00 00",
        ),
        (
            GroupRecord::CurrentMember {
                group: group(),
                member: member(),
                value: Some(CurrentMemberValue {
                    epoch: 11,
                    previous_epoch: 10,
                    state: MemberState::UnrevokedPartitions,
                    assigned: vec![owned(0xaa, &[1])],
                    pending_revocation: vec![owned(0xbb, &[])],
                }),
            },
            "0008 0001 67 0002 6d31",
            "0000 0000000b 0000000a 02
             02 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 02 00000001 00
             02 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 01 00 00",
        ),
        (
            GroupRecord::Regex {
                group: group(),
                regex: "a.*".to_owned(),
                value: Some(RegexValue {
                    topics: vec!["t".to_owned()],
                    version: 4,
                    timestamp: Timestamp(5),
                }),
            },
            "0010 0001 67 0003 612e2a",
            "0000 02 02 74 0000000000000004 0000000000000005 00",
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn records_are_as_they_were() {
    for (record, key, value) in records() {
        let encoded = record.encode();
        assert_eq!(hex(&encoded.key), hex(&unhex(key)), "{record:?}");
        let found = encoded.value.unwrap();
        assert_eq!(hex(&found), hex(&unhex(value)), "{record:?}");
        let read = GroupRecord::decode(&encoded.key, Some(&found)).unwrap();
        assert_eq!(read, record);
        let removed = GroupRecord::decode(&encoded.key, None).unwrap();
        assert_eq!(removed.encode().value, None);
        assert_eq!(removed.encode().key, encoded.key);
    }
}

#[test]
fn values_of_other_versions_are_read() {
    let read = |value: &str| {
        let record =
            GroupRecord::decode(&unhex("0001 0001 67 0001 74 00000007"), Some(&unhex(value)));
        match record {
            Ok(GroupRecord::Offset { value, .. }) => Ok(value.unwrap()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    let oldest = read("0000 000000000000002a 0004 6e6f7465 00000000000003e8").unwrap();
    assert_eq!(oldest.committed.offset, SaidOffset(42));
    let mark = read("0000 fffffffffffffffe 0000 00000000000003e8").unwrap();
    assert_eq!(mark.committed.offset, SaidOffset(-2));
    assert_eq!(mark.committed.offset.offset(), None);
    // Compact, with a tagged field that is not known.
    let newest = "0004 000000000000002a 00000005 05 6e6f7465 00000000000003e8 01 07 02 ffff";
    assert_eq!(
        read(newest).unwrap().committed.leader_epoch,
        Some(LeaderEpoch(5))
    );
    let error = RecordError::UnknownVersion {
        kind: 1,
        version: 5,
    };
    assert_eq!(read("0005 00"), Err(error));
    let compact = "0004 09 636f6e73756d6572 00000003 06 72616e6765 03 6d31 0000000000000009 02
                   03 6d31 00 02 63 03 2f68 000493e0 0000afc8 03 0102 02 03 00 00";
    let (classic, _, _) = records().swap_remove(3);
    let read = GroupRecord::decode(&unhex("0002 0001 67"), Some(&unhex(compact)));
    assert_eq!(read, Ok(classic));
    let unknown = GroupRecord::decode(&unhex("000b 0001 67"), None);
    assert_eq!(unknown, Err(RecordError::UnknownKind(11)));
}

#[test]
fn hostile_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for (record, _, _) in records() {
        let encoded = record.encode();
        let value = encoded.value.unwrap();
        for len in 0..value.len() {
            let cut = GroupRecord::decode(&encoded.key, Some(&value[..len]));
            assert!(cut.is_err(), "{record:?} cut to {len} bytes");
        }
        for len in 0..encoded.key.len() {
            assert!(GroupRecord::decode(&encoded.key[..len], None).is_err());
        }
        for _ in 0..2_000 {
            let mut bytes = value.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Ok(read) = GroupRecord::decode(&encoded.key, Some(&bytes)) {
                let again = read.encode();
                let reread = GroupRecord::decode(&again.key, again.value.as_deref());
                assert_eq!(reread.as_ref(), Ok(&read));
            }
        }
    }
}
