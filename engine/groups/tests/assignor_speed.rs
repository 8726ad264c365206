//! How long assignors take for 10,000 partitions and 1,000 members:
//! `cargo test --release -p millrace-groups --test assignor_speed -- --ignored --nocapture`.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use millrace_groups::AssignorName;
use millrace_groups::consumer::assignor::{MemberSpec, Spec, assign};
use millrace_model::TopicId;

const TOPICS: u8 = 100;
const PARTITIONS: u32 = 100;
const MEMBERS: u32 = 1_000;

fn topic(at: u8) -> TopicId {
    TopicId([at; 16])
}

fn spec(equal: bool) -> Spec {
    let all = Rc::new((0..TOPICS).map(topic).collect::<BTreeSet<_>>());
    let member = |at: u32| {
        let member = MemberSpec {
            topics: match equal {
                true => Rc::clone(&all),
                false => Rc::new(
                    (0..TOPICS)
                        .filter(|t| !(u32::from(*t) + at).is_multiple_of(3))
                        .map(topic)
                        .collect(),
                ),
            },
            ..MemberSpec::default()
        };
        (format!("member-{at}"), member)
    };
    Spec {
        topics: (0..TOPICS).map(|at| (topic(at), PARTITIONS)).collect(),
        members: (0..MEMBERS).map(member).collect(),
    }
}

#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    for assignor in [AssignorName::Uniform, AssignorName::Range] {
        for equal in [true, false] {
            let mut spec = spec(equal);
            let mut times = Vec::new();
            for _ in 0..2 {
                let begin = Instant::now();
                let assignment = assign(assignor, &spec);
                times.push(begin.elapsed());
                for (id, member) in &mut spec.members {
                    member.current = assignment[id].clone();
                }
                spec.members.remove("member-7");
            }
            let [first, leave] = times[..] else {
                panic!("two runs");
            };
            println!(
                "{assignor:?}, equal subscriptions: {equal}: {first:?}, after a leave {leave:?}"
            );
        }
    }
}
