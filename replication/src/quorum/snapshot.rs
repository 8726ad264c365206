//! Snapshots: our own, so that old entries can go, and a leader's, in parts.

use bytes::Bytes;
use millrace_model::{BrokerId, Timestamp};

use super::limits::MESSAGE_PAYLOAD;
use super::peer::Mode;
use super::role::Leader;
use super::step::Violation;
use super::{
    Appended, Body, Effect, Index, LogTail, MAX_SNAPSHOT_LEN, Quorum, Role, Snapshot, SnapshotMeta,
    SnapshotWrite,
};

/// A snapshot that is arriving.
#[derive(Debug)]
pub(super) struct Incoming {
    meta: SnapshotMeta,
    total: u64,
    data: Vec<u8>,
}

impl Quorum {
    /// The state machine as it is behind an applied entry. One that comes too late, or while
    /// another is being written, is let go.
    pub(super) fn snapshot_taken(&mut self, index: Index, data: Bytes) {
        assert!(index <= self.applied, "a snapshot of what is not applied");
        assert!(
            data.len() as u64 <= MAX_SNAPSHOT_LEN,
            "the limits of the metadata keep its snapshot short"
        );
        let busy = self.compacting.is_some() || self.restoring.is_some();
        if busy || index <= self.log.snapshot().meta.index {
            return;
        }
        let Some(term) = self.log.term_at(index) else {
            return;
        };
        let meta = SnapshotMeta {
            index,
            term,
            membership: self.log.membership_as_of(index),
        };
        self.writes.snapshot = Some(SnapshotWrite {
            snapshot: Snapshot { meta, data },
            tail: LogTail::Keep,
        });
    }

    pub(super) fn send_snapshot_part(&mut self, to: BrokerId, effects: &mut Vec<Effect>) {
        let Role::Leader(Leader { peers, .. }) = &mut self.role else {
            return;
        };
        let peer = peers
            .get_mut(&to)
            .expect("the caller took it from the peers");
        let Mode::Snapshot {
            index,
            received,
            asked,
        } = &mut peer.mode
        else {
            return;
        };
        let snapshot = self.log.snapshot();
        if *index != snapshot.meta.index {
            (*index, *received) = (snapshot.meta.index, 0);
        }
        *asked = true;
        let total = snapshot.data.len();
        let start = usize::try_from(*received).map_or(total, |start| start.min(total));
        let data = snapshot
            .data
            .slice(start..total.min(start + MESSAGE_PAYLOAD));
        let body = Body::SnapshotPart {
            meta: snapshot.meta.clone(),
            total: total as u64,
            offset: start as u64,
            data,
        };
        effects.push(Effect::Send(self.message(to, body)));
    }

    /// A part of the present leader's snapshot; its shape is checked.
    pub(super) fn on_snapshot_part(
        &mut self,
        now: Timestamp,
        from: BrokerId,
        meta: SnapshotMeta,
        total: u64,
        offset: u64,
        data: &Bytes,
    ) {
        self.hear_leader(now, from);
        let index = meta.index;
        if self.log.term_at(index) == Some(meta.term) {
            // The entries are here: what is in the snapshot is committed.
            self.commit = self.commit.max(index);
        }
        if index <= self.commit {
            self.promise(from, Body::AppendAnswer(Appended::Matched(index)));
            return;
        }
        let known = self.incoming.take();
        let known = known.filter(|known| known.meta == meta && known.total == total);
        let mut incoming = known.unwrap_or(Incoming {
            meta,
            total,
            data: Vec::new(),
        });
        if offset == incoming.data.len() as u64 {
            incoming.data.extend_from_slice(data);
        }
        let received = incoming.data.len() as u64;
        if received < total {
            self.incoming = Some(incoming);
            self.promise(from, Body::SnapshotAnswer { index, received });
            return;
        }
        self.install(Snapshot {
            meta: incoming.meta,
            data: incoming.data.into(),
        });
        self.promise(from, Body::AppendAnswer(Appended::Matched(index)));
    }

    fn install(&mut self, snapshot: Snapshot) {
        self.commit = snapshot.meta.index;
        self.log.reset(&snapshot);
        self.writes.snapshot = Some(SnapshotWrite {
            snapshot,
            tail: LogTail::Discard,
        });
    }

    pub(super) fn on_snapshot_answer(
        &mut self,
        now: Timestamp,
        from: BrokerId,
        answered: Index,
        has: u64,
    ) -> Result<(), Violation> {
        let Role::Leader(Leader { peers, .. }) = &mut self.role else {
            return Ok(());
        };
        let Some(peer) = peers.get_mut(&from) else {
            return Ok(());
        };
        peer.heard = now;
        if let Mode::Snapshot {
            index,
            received,
            asked,
        } = &mut peer.mode
            && *index == answered
        {
            if has > self.log.snapshot().data.len() as u64 {
                return Err(Violation::BeyondSnapshot(has));
            }
            (*received, *asked) = (has, false);
        }
        Ok(())
    }
}
