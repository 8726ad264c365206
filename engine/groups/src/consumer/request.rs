//! Whether a heartbeat is one at all, whatever the group: Kafka's rules, and this broker's limits.

use millrace_model::ErrorCode;

use super::limits::{MAX_ID_LEN, MAX_SUBSCRIBED_TOPICS, MAX_TOPIC_NAME_LEN};
use super::{JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, failure};
use crate::{AssignorName, ConsumerHeartbeat, Failure, GroupSettings};

/// # Errors
/// [`ErrorCode::InvalidRequest`], or [`ErrorCode::UnsupportedAssignor`] with those that there are.
pub(super) fn check(request: &ConsumerHeartbeat, settings: &GroupSettings) -> Result<(), Failure> {
    check_ids(request)?;
    match request.member_epoch {
        JOIN_EPOCH => check_join(request)?,
        LEAVE_STATIC_EPOCH if request.instance.is_none() => {
            return Err(invalid(
                "only a member with an instance id leaves for a while",
            ));
        }
        LEAVE_STATIC_EPOCH | LEAVE_EPOCH | 1.. if request.member.is_empty() => {
            return Err(invalid("the member id is empty"));
        }
        LEAVE_STATIC_EPOCH | LEAVE_EPOCH | 1.. => {}
        epoch => return Err(invalid(format!("{epoch} is not an epoch of a member"))),
    }
    check_names(request)?;
    check_assignor(request, settings)
}

/// Whether it says all that a member can say: then it wants to hear all too.
pub(super) const fn is_full(request: &ConsumerHeartbeat) -> bool {
    let subscribes = request.subscribed_topics.is_some() || request.subscribed_regex.is_some();
    request.member_epoch == JOIN_EPOCH
        || (request.rebalance_timeout_ms != -1 && subscribes && request.owned.is_some())
}

fn check_ids(request: &ConsumerHeartbeat) -> Result<(), Failure> {
    if request.group.is_empty() {
        return Err(invalid("the group id is empty"));
    }
    let optional = [("instance id", &request.instance), ("rack", &request.rack)];
    for (what, id) in optional {
        if id.as_ref().is_some_and(String::is_empty) {
            return Err(invalid(format!("the {what} is empty")));
        }
    }
    let ids = [
        Some(&request.member),
        request.instance.as_ref(),
        request.rack.as_ref(),
    ];
    match ids.into_iter().flatten().all(|id| id.len() <= MAX_ID_LEN) {
        true => Ok(()),
        false => Err(invalid(format!(
            "ids of members, instances and racks have {MAX_ID_LEN} bytes at most"
        ))),
    }
}

fn check_join(request: &ConsumerHeartbeat) -> Result<(), Failure> {
    if request.rebalance_timeout_ms == -1 {
        return Err(invalid("a member that joins states its rebalance timeout"));
    }
    if !request.owned.as_ref().is_some_and(Vec::is_empty) {
        return Err(invalid(
            "a member that joins states that it owns no partitions",
        ));
    }
    if request.subscribed_topics.is_none() && request.subscribed_regex.is_none() {
        return Err(invalid("a member that joins states what it subscribes to"));
    }
    Ok(())
}

fn check_names(request: &ConsumerHeartbeat) -> Result<(), Failure> {
    let names = request.subscribed_topics.as_deref().unwrap_or_default();
    let legal = |name: &String| (1..=MAX_TOPIC_NAME_LEN).contains(&name.len());
    match names.len() <= MAX_SUBSCRIBED_TOPICS && names.iter().all(legal) {
        true => Ok(()),
        false => Err(invalid(format!(
            "a member names {MAX_SUBSCRIBED_TOPICS} topics at most, each of 1 to {MAX_TOPIC_NAME_LEN} bytes"
        ))),
    }
}

fn check_assignor(request: &ConsumerHeartbeat, settings: &GroupSettings) -> Result<(), Failure> {
    let Some(asked) = &request.assignor else {
        return Ok(());
    };
    let known = settings
        .consumer_assignors
        .iter()
        .copied()
        .map(AssignorName::name);
    if known.clone().any(|name| name == asked) {
        return Ok(());
    }
    let known: Vec<&str> = known.collect();
    Err(failure(
        ErrorCode::UnsupportedAssignor,
        format!("assignor `{asked}` is not one of: {}", known.join(", ")),
    ))
}

fn invalid(message: impl Into<String>) -> Failure {
    failure(ErrorCode::InvalidRequest, message)
}
