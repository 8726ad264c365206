//! What the leader knows of another member.

use millrace_model::Timestamp;

use super::Index;
use super::limits::MAX_IN_FLIGHT;

/// How the leader sends to this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It looks for the place where the logs agree: one message, then an answer.
    Probe {
        /// Whether the message is under way.
        asked: bool,
    },
    /// The logs agree up to `matched`; entries are sent ahead of the answers.
    Stream,
    /// It needs entries that the leader no longer has.
    Snapshot {
        /// Which one it is sent.
        index: Index,
        /// Bytes that it has.
        received: u64,
        /// Whether a part is under way.
        asked: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Up to here its durable log is the leader's.
    pub(super) matched: Index,
    /// The next entry to send.
    pub(super) next: Index,
    pub(super) mode: Mode,
    /// The commit index that it was told last.
    pub(super) told: Index,
    /// When it was last heard of in this term.
    pub(super) heard: Timestamp,
}

impl Peer {
    pub(super) fn new(next: Index, now: Timestamp) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            mode: Mode::Probe { asked: false },
            told: Index::ZERO,
            heard: now,
        }
    }

    /// It has confirmed everything up to here.
    pub(super) fn confirm(&mut self, index: Index) {
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        let stale = matches!(self.mode, Mode::Snapshot { index: wanted, .. } if index < wanted);
        if !stale && !matches!(self.mode, Mode::Stream) {
            self.next = self.matched.next();
            self.mode = Mode::Stream;
        }
    }

    /// It does not have the entry at `previous`; the logs may agree at `hint`.
    pub(super) fn refuse(&mut self, previous: Index, hint: Index) {
        let stale = match self.mode {
            Mode::Probe { .. } => previous != self.next.before(),
            Mode::Stream => previous <= self.matched,
            Mode::Snapshot { .. } => true,
        };
        if stale {
            return;
        }
        self.next = hint.next().min(previous).max(self.matched.next());
        self.mode = Mode::Probe { asked: false };
    }

    /// It has lost what it had confirmed; the logs may agree at `hint`. For a learner only, which comes
    /// back with an empty disk: what a voter has confirmed counts, and it may not forget it.
    pub(super) fn begin_anew(&mut self, hint: Index) {
        *self = Self::new(hint.next(), self.heard);
    }

    pub(super) fn window_is_open(&self) -> bool {
        self.next.0 - self.matched.0 <= MAX_IN_FLIGHT
    }

    /// The answer to what was asked may be lost: ask again.
    pub(super) fn ask_again(&mut self) {
        match &mut self.mode {
            Mode::Probe { asked } | Mode::Snapshot { asked, .. } => *asked = false,
            Mode::Stream => {}
        }
    }
}
