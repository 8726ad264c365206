//! What classic consumers tell each other through the coordinator, as a client writes and reads it.

use std::collections::BTreeSet;

use bytes::Bytes;

/// A topic's name and a partition.
pub(crate) type Partition = (String, u32);

/// `ConsumerProtocolSubscription`, version 1.
pub(crate) fn subscription(topics: &[&str], owned: &BTreeSet<Partition>) -> Bytes {
    let mut blob = vec![0, 1];
    blob.extend(count(topics.len()));
    topics.iter().for_each(|topic| blob.extend(text(topic)));
    blob.extend((-1i32).to_be_bytes());
    blob.extend(by_topic(owned));
    blob.into()
}

/// `ConsumerProtocolAssignment`, version 1.
pub(crate) fn assignment(partitions: &BTreeSet<Partition>) -> Bytes {
    let mut blob = vec![0, 1];
    blob.extend(by_topic(partitions));
    blob.extend((-1i32).to_be_bytes());
    blob.into()
}

/// What a subscription says that its member owns.
pub(crate) fn owned_of(subscription: &[u8]) -> BTreeSet<Partition> {
    let mut rest = &subscription[2..];
    for _ in 0..number(&mut rest) {
        name(&mut rest);
    }
    assert_eq!(number(&mut rest), -1, "no user data");
    read_partitions(&mut rest)
}

/// The partitions of an assignment. One of no bytes assigns nothing.
pub(crate) fn assigned(assignment: &[u8]) -> BTreeSet<Partition> {
    match assignment {
        [] => BTreeSet::new(),
        blob => read_partitions(&mut &blob[2..]),
    }
}

fn by_topic(partitions: &BTreeSet<Partition>) -> Vec<u8> {
    let topics: BTreeSet<&String> = partitions.iter().map(|(topic, _)| topic).collect();
    let mut blob = count(topics.len()).to_vec();
    for topic in topics {
        let of_topic: Vec<&Partition> = partitions.iter().filter(|(t, _)| t == topic).collect();
        blob.extend(text(topic));
        blob.extend(count(of_topic.len()));
        of_topic
            .iter()
            .for_each(|(_, partition)| blob.extend(partition.to_be_bytes()));
    }
    blob
}

fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap().to_be_bytes()
}

fn text(text: &str) -> Vec<u8> {
    let mut blob = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    blob.extend(text.as_bytes());
    blob
}

fn read_partitions(rest: &mut &[u8]) -> BTreeSet<Partition> {
    let mut partitions = BTreeSet::new();
    for _ in 0..number(rest) {
        let topic = name(rest);
        for _ in 0..number(rest) {
            let partition = u32::try_from(number(rest)).unwrap();
            assert!(partitions.insert((topic.clone(), partition)));
        }
    }
    partitions
}

fn number(rest: &mut &[u8]) -> i32 {
    let (number, after) = rest.split_first_chunk().unwrap();
    *rest = after;
    i32::from_be_bytes(*number)
}

fn name(rest: &mut &[u8]) -> String {
    let (len, after) = rest.split_first_chunk().unwrap();
    let (name, after) = after.split_at(u16::from_be_bytes(*len).into());
    *rest = after;
    String::from_utf8(name.to_vec()).unwrap()
}
