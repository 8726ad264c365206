//! `millctl cluster voters`, `add-voter` and `remove-voter`: who keeps the metadata.

use millrace_client::Client;
use millrace_model::BrokerId;
use millrace_wire::{MemberStanding, QuorumStanding};
use serde::Serialize;

use super::super::connect::failure;
use super::super::exit::Failure;
use super::super::output::{Output, table};

#[derive(Serialize)]
struct Voters {
    leader: u32,
    term: u64,
    committed: u64,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    id: u32,
    votes: bool,
    leads: bool,
    alive: bool,
    matched: u64,
    lag: u64,
    silent_ms: u64,
}

pub(super) async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let standing = client.describe_voters().await;
    let standing = standing.map_err(|error| failure(&error))?;
    output.result(&shown(&standing), text)
}

fn shown(standing: &QuorumStanding) -> Voters {
    let member = |it: &MemberStanding| Member {
        id: it.broker.0,
        votes: it.votes,
        leads: it.broker == standing.leader,
        alive: it.alive,
        matched: it.matched,
        lag: standing.last.saturating_sub(it.matched),
        silent_ms: it.silent_ms,
    };
    Voters {
        leader: standing.leader.0,
        term: standing.term,
        committed: standing.committed,
        members: standing.members.iter().map(member).collect(),
    }
}

fn text(voters: &Voters) -> String {
    let heading = ["BROKER", "ROLE", "ALIVE", "HAS", "BEHIND"];
    let heading = heading.map(String::from).to_vec();
    let rows = voters.members.iter().map(|member| {
        let role = match (member.leads, member.votes) {
            (true, _) => "leader",
            (_, true) => "voter",
            (_, false) => "learner",
        };
        let alive = match member.alive {
            true => "yes".to_owned(),
            false => format!("silent for {} s", member.silent_ms / 1_000),
        };
        vec![
            member.id.to_string(),
            role.to_owned(),
            alive,
            member.matched.to_string(),
            member.lag.to_string(),
        ]
    });
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct Changed {
    broker: u32,
    votes: bool,
}

pub(super) async fn add(client: &Client, broker: BrokerId, output: &Output) -> Result<(), Failure> {
    let done = client.add_voter(broker).await;
    done.map_err(|error| failure(&error))?;
    said(broker, true, output)
}

pub(super) async fn remove(
    client: &Client,
    broker: BrokerId,
    output: &Output,
) -> Result<(), Failure> {
    let done = client.remove_voter(broker).await;
    done.map_err(|error| failure(&error))?;
    said(broker, false, output)
}

fn said(broker: BrokerId, votes: bool, output: &Output) -> Result<(), Failure> {
    let changed = Changed {
        broker: broker.0,
        votes,
    };
    output.result(&changed, |c| match c.votes {
        true => format!("broker {} votes on the metadata", c.broker),
        false => format!("broker {} votes no more; it goes on learning", c.broker),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_is_shown_with_its_part_and_how_it_is() {
        let member = |id, votes, matched, alive| MemberStanding {
            broker: BrokerId(id),
            votes,
            matched,
            silent_ms: if alive { 40 } else { 9_000 },
            alive,
        };
        let standing = QuorumStanding {
            leader: BrokerId(2),
            term: 3,
            committed: 17,
            last: 18,
            members: vec![
                member(1, true, 18, true),
                member(2, true, 18, true),
                member(3, false, 10, false),
            ],
        };
        let shown = text(&shown(&standing));
        let lines: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["1", "voter", "yes", "18", "0"]);
        assert_eq!(lines[2], ["2", "leader", "yes", "18", "0"]);
        let silent = ["3", "learner", "silent", "for", "9", "s", "10", "8"];
        assert_eq!(lines[3], silent);
    }
}
