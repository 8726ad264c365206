//! A log that takes nothing more: what cannot be kept is not acknowledged, and what was is still
//! there.

use millrace_kafka::{Response, SyncGroupRequest, SyncGroupRequestAssignment};
use millrace_model::{ErrorCode, MAX_BATCH_LEN};

use crate::rig::Rig;

/// Lets no file of the broker grow beyond this.
fn limit_files(pid: u32, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: the limit is read from a valid structure, and none is asked for.
    let set = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_FSIZE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_write_that_fails_is_no_commit_and_takes_nothing_back() {
    let mut rig = Rig::start_with(&[("offsets.topic.num.partitions", "1")]);
    let mut kafka = rig.kafka();
    kafka.make_topic("t");
    kafka.commit("g", "t", &[(0, 1)]);
    limit_files(rig.pid(), 64 << 10);
    let words = "x".repeat(4_000);
    let mut last = 1;
    let failed = (2..200).find_map(|offset| {
        let code = kafka.try_commit("g", "t", &[(0, offset)], &words).unwrap()[0];
        match code {
            ErrorCode::None => last = offset,
            code => return Some(code),
        }
        None
    });
    assert_eq!(failed, Some(ErrorCode::CoordinatorNotAvailable));
    // The coordinator is made again from its log, which still can be read.
    assert_eq!(kafka.committed("g", "t", &[0]), [last]);
    assert!(rig.metric("millrace_group_write_failures_total") > 0);
    rig.kill();
    rig.start_again();
    let mut kafka = rig.kafka();
    assert_eq!(kafka.committed("g", "t", &[0]), [last]);
    kafka.commit("g", "t", &[(0, 1_000)]);
    assert_eq!(kafka.committed("g", "t", &[0]), [1_000]);
}

#[test]
fn a_group_that_is_larger_than_a_batch_is_refused_and_the_others_go_on() {
    let rig = Rig::start_with(&[
        ("offsets.topic.num.partitions", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
    ]);
    let mut kafka = rig.kafka();
    kafka.make_topic("t");
    kafka.commit("other", "t", &[(0, 1)]);
    let joined = kafka.join("g", "");
    let assignment = SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: vec![7; MAX_BATCH_LEN].into(),
    };
    let request = SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![assignment],
        ..SyncGroupRequest::default()
    };
    let Response::SyncGroup(refused) = kafka.ask(5, request) else {
        panic!("another answer");
    };
    let code = ErrorCode::from_i16(refused.error_code);
    assert_eq!(code, ErrorCode::UnknownServerError);
    assert_eq!(rig.metric("millrace_group_write_failures_total"), 0);
    assert_eq!(kafka.committed("other", "t", &[0]), [1]);
    let joined = kafka.join("g", &joined.member_id);
    assert_eq!(kafka.sync("g", &joined).unwrap(), joined.member_id);
}
