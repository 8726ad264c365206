//! Properties of both assignors, over seeded random groups.

use super::*;
use fastrand::Rng;

const BOTH: [AssignorName; 2] = [AssignorName::Uniform, AssignorName::Range];

fn topic(at: usize) -> TopicId {
    TopicId([u8::try_from(at).unwrap(); 16])
}

fn spec(topics: &[u32], members: &[(&str, &[usize])]) -> Spec {
    let member = |(id, subscribed): &(&str, &[usize])| {
        let member = MemberSpec {
            topics: Rc::new(subscribed.iter().map(|at| topic(*at)).collect()),
            ..MemberSpec::default()
        };
        ((*id).to_owned(), member)
    };
    Spec {
        topics: topics
            .iter()
            .enumerate()
            .map(|(at, count)| (topic(at), *count))
            .collect(),
        members: members.iter().map(member).collect(),
    }
}

/// Assigns, keeps the assignment as the current one, and checks that it is complete and stays.
fn settle(assignor: AssignorName, spec: &mut Spec) -> Assignment {
    let assignment = assign(assignor, spec);
    check_complete(spec, &assignment);
    for (id, member) in &mut spec.members {
        member.current = assignment[id].clone();
    }
    assert_eq!(
        assign(assignor, spec),
        assignment,
        "unchanged input, unchanged output"
    );
    assignment
}

fn check_complete(spec: &Spec, assignment: &Assignment) {
    assert!(assignment.keys().eq(spec.members.keys()));
    let mut seen = Partitions::new();
    for (id, target) in assignment {
        for (topic, partition) in target.iter() {
            assert!(spec.members[id].topics.contains(&topic), "{id} subscribes");
            assert!(partition < spec.topics[&topic], "it exists");
            assert!(seen.insert(topic, partition), "given twice");
        }
    }
    let subscribed: BTreeSet<_> = spec
        .members
        .values()
        .flat_map(|m| m.topics.iter())
        .collect();
    let wanted: u32 = subscribed.into_iter().map(|topic| spec.topics[topic]).sum();
    assert_eq!(seen.len(), wanted as usize, "all are given");
}

fn spread(assignment: &Assignment) -> usize {
    let loads = || assignment.values().map(Partitions::len);
    loads().max().unwrap_or(0) - loads().min().unwrap_or(0)
}

fn random(rng: &mut Rng, equal: bool) -> Spec {
    let topics: Vec<u32> = (0..rng.usize(1..6)).map(|_| rng.u32(0..12)).collect();
    let subscription = |rng: &mut Rng| -> Rc<BTreeSet<TopicId>> {
        Rc::new(
            (0..topics.len())
                .filter(|_| rng.u8(0..3) > 0)
                .map(topic)
                .collect(),
        )
    };
    let shared = subscription(rng);
    let mut spec = spec(&topics, &[]);
    for at in 0..rng.usize(1..9) {
        let member = MemberSpec {
            instance: rng.bool().then(|| format!("i{}", rng.u32(..))),
            topics: match equal {
                true => Rc::clone(&shared),
                false => subscription(rng),
            },
            ..MemberSpec::default()
        };
        spec.members.insert(format!("m{at}"), member);
    }
    spec
}

#[test]
fn each_partition_is_given_once_and_nothing_moves_without_a_cause() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let equal = rng.bool();
        for assignor in BOTH {
            let mut spec = random(&mut rng, equal);
            let first = settle(assignor, &mut spec);
            // Topics grow, a member comes or goes, another changes its mind.
            for count in spec.topics.values_mut() {
                *count += rng.u32(0..4);
            }
            spec.members.remove("m0");
            let topics = Rc::new(
                spec.topics
                    .keys()
                    .copied()
                    .filter(|_| equal || rng.bool())
                    .collect(),
            );
            for member in spec.members.values_mut().filter(|_| equal) {
                member.topics = Rc::clone(&topics);
            }
            let joins = MemberSpec {
                topics,
                ..MemberSpec::default()
            };
            spec.members.insert("new".to_owned(), joins);
            let second = settle(assignor, &mut spec);
            if equal && assignor == AssignorName::Uniform {
                assert!(spread(&first) <= 1 && spread(&second) <= 1, "seed {seed}");
            }
        }
    }
}

#[test]
fn uniform_moves_only_what_a_member_leaves_behind() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let mut spec = random(&mut rng, true);
        spec.members
            .insert("stays".to_owned(), spec.members["m0"].clone());
        let before = settle(AssignorName::Uniform, &mut spec);
        spec.members.remove("m0");
        let after = settle(AssignorName::Uniform, &mut spec);
        for (id, target) in &after {
            assert!(
                before[id].is_subset(target),
                "seed {seed}: {id} keeps all it had"
            );
        }
        assert!(spread(&after) <= 1);
    }
}

#[test]
fn uniform_takes_from_others_only_what_a_new_member_is_given() {
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let mut spec = random(&mut rng, true);
        let before = settle(AssignorName::Uniform, &mut spec);
        spec.members.insert(
            "new".to_owned(),
            MemberSpec {
                topics: Rc::clone(&spec.members["m0"].topics),
                ..MemberSpec::default()
            },
        );
        let after = settle(AssignorName::Uniform, &mut spec);
        for (id, target) in before {
            assert!(
                after[&id].is_subset(&target),
                "seed {seed}: {id} is given nothing new"
            );
        }
    }
}

#[test]
fn uniform_evens_out_different_subscriptions() {
    let mut some = spec(&[6, 3], &[("a", &[0]), ("b", &[0, 1]), ("c", &[1])]);
    let assignment = settle(AssignorName::Uniform, &mut some);
    assert_eq!(
        assignment.values().map(Partitions::len).collect::<Vec<_>>(),
        [3, 3, 3]
    );
    // Whoever has everything gives half of it to one who comes.
    let mut some = spec(&[6, 2], &[("a", &[0, 1])]);
    settle(AssignorName::Uniform, &mut some);
    some.members.extend(spec(&[], &[("b", &[0])]).members);
    let assignment = settle(AssignorName::Uniform, &mut some);
    assert_eq!(
        assignment.values().map(Partitions::len).collect::<Vec<_>>(),
        [4, 4]
    );
}

#[test]
fn uniform_spreads_each_topic() {
    let mut some = spec(&[3, 3], &[("a", &[0, 1]), ("b", &[0, 1]), ("c", &[0, 1])]);
    for target in settle(AssignorName::Uniform, &mut some).values() {
        assert!(
            target
                .by_topic()
                .all(|(_, partitions)| partitions.len() == 1)
        );
    }
}

#[test]
fn range_cuts_topics_alike_and_puts_static_members_first() {
    let mut some = spec(&[5, 5], &[("a", &[0, 1]), ("b", &[0, 1]), ("c", &[0, 1])]);
    some.members.get_mut("c").unwrap().instance = Some("one".to_owned());
    let assignment = settle(AssignorName::Range, &mut some);
    let of = |id: &str| -> Vec<Vec<u32>> {
        let topics = assignment[id].by_topic();
        topics
            .map(|(_, partitions)| partitions.iter().copied().collect())
            .collect()
    };
    assert_eq!(of("c"), [[0, 1], [0, 1]]);
    assert_eq!(of("a"), [[2, 3], [2, 3]]);
    assert_eq!(of("b"), [[4], [4]]);
    // The same instance under another id, and more of them than partitions.
    let restarted = some.members.remove("c").unwrap();
    some.members.insert("z".to_owned(), restarted);
    let again = assign(AssignorName::Range, &some);
    assert_eq!(
        (&again["z"], &again["a"]),
        (&assignment["c"], &assignment["a"])
    );
    let mut few = spec(&[1], &[("a", &[0]), ("b", &[0])]);
    assert!(settle(AssignorName::Range, &mut few)["b"].is_empty());
}

#[test]
fn nobody_to_assign_to() {
    for assignor in BOTH {
        assert!(assign(assignor, &spec(&[3], &[])).is_empty());
        assert!(assign(assignor, &spec(&[3], &[("a", &[])]))["a"].is_empty());
    }
}
