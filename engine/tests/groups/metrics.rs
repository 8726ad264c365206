//! Lag and members are to be seen, wherever the coordinator and the partition live.

use std::thread;
use std::time::{Duration, Instant};

use crate::rig::Rig;

#[test]
fn lag_is_the_way_from_what_is_committed_to_the_end() {
    let mut rig = Rig::start_with(&[("num.partitions", "2")]);
    let mut kafka = rig.kafka();
    kafka.make_topic("t");
    kafka.produce("t", 0, 10);
    kafka.produce("t", 1, 3);
    kafka.commit("a \"group\"", "t", &[(0, 4), (1, 3)]);
    let joined = kafka.join("member", "");
    kafka.sync("member", &joined).unwrap();
    for _ in 0..2 {
        let expected = [
            r#"millrace_group_committed_offset{group="a \"group\"",topic="t",partition="0"} 4"#,
            r#"millrace_group_lag{group="a \"group\"",topic="t",partition="0"} 6"#,
            r#"millrace_group_lag{group="a \"group\"",topic="t",partition="1"} 0"#,
            r#"millrace_groups{type="classic",state="Empty"} 1"#,
            r#"millrace_group_members{type="classic",state="Stable"} 1"#,
            "millrace_group_offsets_omitted 0",
        ];
        // After a restart coordinators and logs come to life by themselves.
        let since = Instant::now();
        loop {
            let text = rig.metrics();
            let missing = expected
                .iter()
                .find(|line| !text.lines().any(|l| l == **line));
            let Some(missing) = missing else { break };
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "{missing} in\n{text}"
            );
            thread::sleep(Duration::from_millis(50));
        }
        rig.kill();
        rig.start_again();
    }
}
